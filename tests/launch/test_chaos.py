"""Nothing is lost: processes killed at random with W&B recording, and disks that become full."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import chaos_study
import full_disk
from agreement import check_runs, check_upload, events, journals
from tunehook.record.journal import read_journal
from tunehook.system import is_alive
from waiting import PATIENCE

pytestmark = pytest.mark.slow

MANY = 60
STEPS = range(1, 6)
STUDY = Path("study")


# ---------------------------------------------------------------------- processes that are killed


def start() -> subprocess.Popen[str]:
    """The study, as a process of its own with two trial processes."""
    return subprocess.Popen([sys.executable, chaos_study.__file__], stderr=subprocess.PIPE, text=True)


def alive() -> list[int]:
    """The trial processes that run."""
    named = [event for path in journals(STUDY)[-8:] for event in read_journal(path) if event["event"] == "process"]
    return [event["pid"] for event in named if is_alive(event["pid"], since=event["time"])]


def make_chaos(dice: random.Random) -> int:
    """Kill a trial process, and now and then the one that leads, until the study is done; how often that was so."""
    kills = 0
    process = start()
    while process.poll() is None and kills < 25:
        time.sleep(dice.uniform(0.2, 0.7))
        running = alive()
        if running and dice.random() < 0.12:
            process.kill()
            process.communicate(timeout=PATIENCE)
            process = start()
            kills += 1
        elif running:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(dice.choice(running), signal.SIGKILL)
                kills += 1
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    return kills


def test_chaos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each combination of a grid is trained to its end once, and W&B has each step once."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10_000))
    print(f"CHAOS_SEED={seed} repeats it")  # shown where the test fails
    kills = make_chaos(random.Random(seed))

    study = chaos_study.study("study")
    counts = study.counts()
    assert counts["complete"] == MANY
    assert set(counts) == {"complete", "interrupted"}
    assert counts["interrupted"] > 5, kills
    done = {str(trial.params): trial.number for trial in study.trials if trial.outcome.state == "complete"}
    assert len(done) == MANY
    for trial in study.trials:
        kinds = Counter(event["event"] for event in events(study.paths.journal(trial.number)))
        assert (kinds["begin"], kinds["end"]) == (1, 1), trial
    calm = chaos_study.study("calm")
    calm.recorders.clear()
    calm.optimize(chaos_study.train, progress=False)
    assert (study.best.params, study.best.value) == (calm.best.params, calm.best.value)
    assert {str(trial.params): trial.value for trial in calm.trials} == {
        str(trial.params): trial.value for trial in study.trials if trial.outcome.state == "complete"
    }
    cut_off = check_runs(STUDY, done.values(), STEPS)
    assert len(cut_off) < MANY
    again = [event["key"] for path in journals(STUDY) for event in events(path)[:1] if event["attempt"] > 0]
    check_upload(STUDY, cut_off | set(again[:6]), STEPS)


# ---------------------------------------------------------------------- disks that become full


@pytest.fixture
def disk(tmp_path: Path) -> list[str]:
    """A command before a command: it runs with a disk of 1 MB at ``small``, where this user may mount one."""
    Path("small").mkdir()
    mount = 'mount -t tmpfs -o size=1m none small && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("no disk can be mounted here")
    return command


@pytest.mark.parametrize("what", ["journals", "database", "both"])
def test_a_full_disk(disk: list[str], what: str) -> None:
    """The study stops with the way out; with room again it goes on, with all that was finished."""
    command = [*disk, sys.executable, full_disk.__file__, "small", what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    kind, said = ("JournalError", "No space left on device") if what == "journals" else ("StorageError", "disk is full")
    assert told["error"].startswith(f"{kind}: The ")
    assert said in told["error"]
    assert "\n  Make room" in told["error"]
    assert told["before"] == {"0": 0.0, "1": 1.0}
    assert told["before"].items() <= told["after"].items()
    assert told["done"] == [0, 1, 2, 3, 4]
    assert told["counts"] == {"complete": 5, "interrupted": 1}
    assert told["ends"] == [1] * 6  # that of the trial that found the disk full came later


def test_a_study_that_is_first_opened_on_a_full_disk(disk: list[str]) -> None:
    """However much room there is, it says so or is open; with room again it can be opened and used."""
    command = [*disk, sys.executable, full_disk.__file__, "small", "opening"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    refused = [error for error in said if error]
    assert len(refused) > 10
    assert said[-1] == ""
    for error in refused:
        assert re.search(r"cannot be used: .*(disk is full|disk I/O error)\.\n  (Make room|Check that)", error), error
