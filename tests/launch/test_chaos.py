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
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

import chaos_study
import full_disk
from tunehook.record.journal import read_journal
from tunehook.system import is_alive
from waiting import PATIENCE

pytestmark = pytest.mark.slow

MANY = 60


# ---------------------------------------------------------------------- processes that are killed


def start() -> subprocess.Popen[str]:
    """The study, as a process of its own with two trial processes."""
    return subprocess.Popen([sys.executable, chaos_study.__file__], stderr=subprocess.PIPE, text=True)


def journals() -> list[Path]:
    """Those of the study in this folder, in the order of the trials."""
    return sorted(Path("study").glob("*/journal.jsonl"))


def events(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal, each of which has to be whole."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n"), path
    return [json.loads(line) for line in data.splitlines()]


def alive() -> list[int]:
    """The trial processes that run."""
    named = [event for path in journals()[-8:] for event in read_journal(path) if event["event"] == "process"]
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


def check_runs(done: Collection[int]) -> set[str]:
    """Fragments hold what no earlier attempt made, each step once; the keys of trials that none holds to the end."""
    from run_file import read_run

    keys = {found[0]["trial"]: found[0]["key"] for path in journals() if (found := events(path))}
    rows = {
        int(path.parent.name[-4:]): [event["step"] for event in events(path) if event["event"] == "report"]
        for path in journals()
    }
    attempts: dict[str, list[int]] = {}
    for number, key in sorted(keys.items()):
        attempts.setdefault(key, []).append(number)
    whole: Counter[int] = Counter()
    there: dict[str, list[int]] = {}
    for path in Path("wandb").glob("offline-run-*/*.wandb"):
        run = read_run(path)
        if run.job_type != "trial":  # the study's own, or of a process that was killed as the run began
            continue
        number = run.config["tunehook"]["trial"]
        assert run.id == f"chaos-{keys[number]}"
        steps = run.column("trial/step")
        made = max((len(rows[other]) for other in attempts[keys[number]] if other < number), default=0)
        assert steps == rows[number][made : made + len(steps)]
        there.setdefault(run.id, []).extend(steps)
        if run.summary.get("outcome") == "complete" and run.exit_code is not None:
            assert (number in done, run.exit_code, steps) == (True, 0, [1, 2, 3, 4, 5][made:])
            whole[number] += 1
    assert set(whole.values()) == {1}
    assert [run_id for run_id, steps in there.items() if len(steps) != len(set(steps))] == []
    return {keys[number] for number in done if number not in whole}


def check_upload(chosen: Collection[str]) -> None:
    """After `tunehook sync` W&B has each step of the trials of these keys once."""
    from tunehook.integrations.wandb.sync import Synced, sync
    from wandb_server import online, serving

    for path in journals():
        found = events(path)
        if found and found[0]["key"] in chosen:
            shutil.copytree(path.parent, Path("chosen", path.parent.name))
    told: list[Synced] = []
    with serving() as server, online(server, Path("uploaded").absolute()):
        sync(Path("chosen"), told.append)
        assert {each.state for each in told} == {"uploaded"}, told
        sync(Path("chosen"), told.append)
        assert {each.state for each in told[len(chosen) :]} == {"complete"}, told
    assert len(told) == 2 * len(chosen)
    assert {name: run.column("trial/step") for name, run in server.runs.items()} == {
        f"chaos-{key}": [1, 2, 3, 4, 5] for key in chosen
    }
    assert {(run.exit_code, run.summary["outcome"]) for run in server.runs.values()} == {(0, "complete")}


def test_chaos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each combination of a grid is trained to its end once, and W&B has each step once."""
    pytest.importorskip("wandb")
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
    cut_off = check_runs(done.values())
    again = [event["key"] for path in journals() for event in events(path)[:1] if event["attempt"] > 0]
    check_upload(cut_off | set(again[:6]))


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
