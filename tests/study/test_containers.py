"""Containers that share a study's folder: each has process ids of its own, and one name may be that of all."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

import launch_scripts
import tunehook as th
from tunehook.study import lost

ASK = """
import sys, time
import tunehook as th
study = th.Study("s", {"x": th.Float(0, 1)}, metric="v", mode="min", search="random", folder=sys.argv[1])
print(study.lead.lost(), study.ask().number, flush=True)
time.sleep(float(sys.argv[2]))
"""


def contained(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """Ask for a trial in a container, and live for a while."""
    tool = shutil.which("unshare")
    assert tool is not None
    given = [sys.executable, "-c", textwrap.dedent(ASK), str(folder), str(seconds)]
    return subprocess.Popen(
        [tool, "--pid", "--fork", "--mount-proc", "--kill-child", *given], stdout=subprocess.PIPE, text=True
    )


def can_contain() -> bool:
    """Whether this process may make a container."""
    tool = shutil.which("unshare")
    if tool is None:
        return False
    made = subprocess.run([tool, "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False)
    return made.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_contain(), reason="needs the right to make a PID namespace")
def test_containers_take_no_trials_of_each_other(tmp_path: Path) -> None:
    """Nor does a process outside; a trial is lost when its container gives no sign of life any more."""
    first = contained(tmp_path / "s", 600)
    assert first.stdout is not None
    assert first.stdout.readline() == "{} 0\n"
    second = contained(tmp_path / "s", 0)
    assert second.communicate()[0] == "{} 1\n"
    study = th.Study("s", {"x": th.Float(0, 1)}, metric="v", mode="min", search="random", folder=tmp_path / "s")
    assert study.lead.lost() == {}
    assert study.lead.waits_for() == [0, 1]
    first.kill()
    first.communicate()
    assert study._ledger.pulse is not None
    study._ledger.pulse._grace = 0.2
    time.sleep(0.5)
    assert [said.partition(" on ")[0] for said in study.lead.lost().values()] == ["its process"] * 2
    assert all(said.endswith("gave no sign of life") for said in study.lead.lost().values())


@pytest.mark.slow
def test_a_clock_that_is_set_while_two_workers_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an hour, back and forth, in the process that asks and in each that trains: none is lost or trained twice."""
    real, ahead = time.time, itertools.cycle([3600.0, 0.0, -3600.0])
    monkeypatch.setattr(time, "time", lambda: real() + next(ahead))
    monkeypatch.setattr(lost, "_LOOK", 0.0)
    study = launch_scripts.study(tmp_path / "s", range(6))
    study.optimize(launch_scripts.clocked, workers=2, progress=False)
    assert study.counts() == {"complete": 6}
    assert sorted(trial.params["x"] for trial in study.trials) == list(range(6))
    journals: list[Any] = [path.read_text() for path in (tmp_path / "s").glob("trial-*/journal.jsonl")]
    assert len(journals) == 6
    assert all(text.count('"report"') == 5 for text in journals)
