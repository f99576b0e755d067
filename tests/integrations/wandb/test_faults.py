"""W&B failing in every way: the training neither waits nor ends otherwise, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunehook.record.journal import Journal, read_journal
from tunehook.trial.values import Outcome, Trial
from wandb_server import ENTITY, Fault, WandbServer, serving
from warm import Program, warm_python

pytest.importorskip("wandb")

pytestmark = pytest.mark.slow

STEPS = 50
SCRIPT = Path(__file__).resolve().parents[2] / "support" / "wandb_training.py"

# What fails, and after how many requests. The first three of a run are its beginning.
FAULTS: dict[str, tuple[Fault | None, int, dict[str, Any]]] = {
    "nothing": (None, 0, {}),
    "nothing, with snapshots": (None, 0, {"snapshots": 10}),
    "refused": ("refused", 0, {}),
    "refused in the middle": ("refused", 3, {}),
    "slow": ("slow", 0, {}),
    "hanging": ("hanging", 0, {}),
    "hanging in the middle": ("hanging", 3, {}),
    "401": (401, 0, {}),
    "401 in the middle": (401, 3, {}),
    "403": (403, 0, {}),
    "429": (429, 0, {}),
    "429 in the middle": (429, 3, {}),
    "500": (500, 0, {}),
    "500 in the middle": (500, 3, {}),
    "dropped in the middle": ("dropped", 3, {}),
    "cut in the middle": ("cut", 3, {}),
    "service stopped": (None, 0, {"events": {"25": "stop"}}),
    "service killed": (None, 0, {"events": {"25": "kill"}}),
    "service killed twice": (None, 0, {"events": {"15": "kill", "35": "kill"}}),
    "service stopped at exit": (None, 0, {"events": {"exit": "stop"}}),
    "service killed at exit": (None, 0, {"events": {"exit": "kill"}}),
}


@pytest.fixture
def server() -> Iterator[WandbServer]:
    """A stand-in."""
    with serving() as made:
        yield made


def train(server: WandbServer, folder: Path, *, timeout: float = 60.0, **options: Any) -> dict[str, Any]:
    """Run the training in a process of its own, which ends by itself and tells what it came to."""
    done = start(server, folder, **options)
    try:
        told, errors = done.communicate(timeout=timeout)
    finally:
        done.kill()
    assert done.returncode == 0, errors
    return {**json.loads(told.splitlines()[-1]), "errors": errors}


def start(server: WandbServer, folder: Path, **options: Any) -> Program:
    """Begin the training in a process of its own."""
    return begin([str(SCRIPT), json.dumps({"steps": STEPS, "pause": 0.02, **options})], server, folder)


def begin(arguments: list[str], server: WandbServer, folder: Path) -> Program:
    """Begin a Python program that talks to the stand-in."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**clean, **server.environment, "WANDB_DIR": str(folder)}
    return warm_python().start(arguments, cwd=folder, env=environment)


def sync(server: WandbServer, folder: Path, *, times: int = 1) -> list[dict[str, Any]]:
    """Upload what is missing, in a process of its own, so many times; how it went each time."""
    done = run_sync(server, folder, times=times)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def run_sync(server: WandbServer, folder: Path, *, times: int = 1) -> subprocess.CompletedProcess[str]:
    """The same, whatever it says."""
    code = f"""
import dataclasses, json
from pathlib import Path
from tunehook.integrations.wandb.sync import sync
for _ in range({times}):
    sync(Path("studies"), lambda synced: print(json.dumps(dataclasses.asdict(synced))))
"""
    return run(["-c", code], server, folder)


def run(arguments: list[str], server: WandbServer, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program that talks to the stand-in."""
    program = begin(arguments, server, folder)
    told, errors = program.communicate()
    return subprocess.CompletedProcess(arguments, program.poll() or 0, told, errors)


def unsynced(folder: Path) -> list[Path]:
    """The offline runs that `wandb sync` would upload."""
    runs = folder.glob("wandb/offline-run-*/*.wandb")
    return [path for path in runs if not path.with_suffix(".wandb.synced").exists()]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The training without W&B."""
    with serving() as server:
        return train(server, tmp_path_factory.mktemp("bare"), recorded=False)


@pytest.mark.parametrize(("fault", "after", "options"), FAULTS.values(), ids=FAULTS.keys())
def test_training_does_not_notice(
    tmp_path: Path, server: WandbServer, bare: dict[str, Any], fault: Fault | None, after: int, options: dict[str, Any]
) -> None:
    """Whatever fails, the weights are those without W&B, no step waits 50 ms, and the process ends in time."""
    if fault is not None:
        server.fail(fault, after=after)
    told = train(server, tmp_path, **options)
    server.recover()

    assert told["weights"] == bare["weights"]
    assert told["longest"] < 0.05
    assert told["imported"] == []
    assert told["errors"].count("\n") <= 2, told["errors"]

    synced = sync(server, tmp_path, times=3)
    (kept,) = server.runs.values()
    assert kept.steps == list(range(1, STEPS + 1))
    assert (kept.exit_code, kept.summary["outcome"], kept.setting("tunehook")["trial"]) == (0, "complete", 0)
    assert [told["state"] for told in synced][1:] == ["complete", "complete"]
    assert not unsynced(tmp_path) or fault is None


def test_a_killed_service_is_started_again(tmp_path: Path, server: WandbServer) -> None:
    """The rows that died with the service are sent by the next one, and nobody is told."""
    told = train(server, tmp_path, events={"25": "kill"})

    (kept,) = server.runs.values()
    assert kept.column("trial/step") == list(range(1, STEPS + 1))
    assert (kept.exit_code, told["errors"]) == (0, "")


@pytest.mark.parametrize("status", [401, 404])
def test_a_refusal_in_the_middle_is_told(tmp_path: Path, server: WandbServer, status: int) -> None:
    """The SDK is silent about rows that the server refuses; the user is told once, and how to upload them."""
    server.fail(status, after=3)
    told = train(server, tmp_path, trials=1)
    (line,) = told["errors"].splitlines()
    assert re.fullmatch(
        rf"tunehook: W&B has not all of trial-0000 \(failed to upload: {status} .+\)\. "
        r"The journal has, and `tunehook sync studies` uploads the rest\.",
        line,
    )


def test_an_attempt_goes_on_in_its_run(tmp_path: Path, server: WandbServer) -> None:
    """The second attempt of a trial sends what W&B lacks of the first, and then its own rows."""
    first = start(server, tmp_path, pause=0.2)
    journal = tmp_path / "studies" / "trial-0000" / "journal.jsonl"
    while not journal.exists() or journal.read_text().count('"report"') < 5:
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.communicate()
    reported = journal.read_text().count('"report"')
    train(server, tmp_path, attempt=1)

    (kept,) = server.runs.values()
    assert kept.column("trial/step") == [*range(1, reported + 1), *range(1, STEPS + 1)]
    assert (kept.exit_code, kept.setting("tunehook")["attempt"]) == (0, 1)


def test_an_attempt_without_a_run(tmp_path: Path, server: WandbServer) -> None:
    """Where the first attempt was killed before its run began, the second one is uploaded; a missing one holds it."""
    server.fail("refused")
    train(server, tmp_path, steps=4, attempt=1)
    server.recover()
    (told,) = sync(server, tmp_path)
    assert (told["state"], told["reason"]) == ("left", "the journals of its earlier attempts are missing")
    first = Trial("digits", 0, {"lr": 0.1}, tmp_path / "studies" / "trial-0000", "val_acc", "max", key="0000-abc")
    Journal(first.folder).begin(first)
    Journal(first.folder).end(Outcome("interrupted", "its process was killed as it began"))
    (told,) = sync(server, tmp_path)
    assert (told["state"], told["rows"]) == ("uploaded", 4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fault", [None, "refused"])
def test_a_killed_training_is_uploaded(tmp_path: Path, server: WandbServer, fault: Fault | None, seed: int) -> None:
    """Killed at a random moment, each row that is in the journal is in the run once, and the run is interrupted."""
    if fault is not None:
        server.fail(fault)
    training = start(server, tmp_path, steps=1000, snapshots=3)
    journal = tmp_path / "studies" / "trial-0000" / "journal.jsonl"
    while not journal.exists() or '"report"' not in journal.read_text():
        assert training.poll() is None
        time.sleep(0.02)
    time.sleep(random.Random(seed).uniform(0, 3))
    training.kill()
    training.communicate()
    server.recover()
    wait_for_silence(server)
    events = [event for event in read_journal(journal) if event["event"] in ("report", "snapshot")]
    looks = [event["snapshot"] for event in events if event["event"] == "snapshot"]
    synced = sync(server, tmp_path, times=2)

    (kept,) = server.runs.values()
    assert kept.column("trial/step") == [event["step"] for event in events]
    assert len(kept.column("val_acc")) == len(events) - len(looks)
    assert kept.column("snapshot/step") == [look["step"] for look in looks]
    assert [shown["values"] for shown in kept.column("parameters/weight")] == [
        look["parameters"]["weight"]["counts"] for look in looks
    ]
    assert (kept.exit_code, kept.summary["outcome"]) == (130, "interrupted")
    assert [told["state"] for told in synced] == ["uploaded", "complete"]
    assert not unsynced(tmp_path)


def wait_for_silence(server: WandbServer) -> None:
    """Wait until the service of a killed process has ended: it goes on for a moment."""
    seen = -1
    while seen != len(server.requests):
        seen = len(server.requests)
        time.sleep(0.5)


def test_the_command_line(tmp_path: Path, server: WandbServer) -> None:
    """`tunehook sync` tells a line for each run, and is harmless when it is called again."""
    pytest.importorskip("typer")
    server.fail("refused")
    train(server, tmp_path, steps=4)
    server.recover()
    command = ["-m", "tunehook", "sync", "studies"]
    first, second = (run(command, server, tmp_path) for _ in range(2))
    address = f"{server.url}/{ENTITY}/digits/runs/digits-0000-abc"
    assert (first.stdout, first.stderr) == (f"digits/trial-0000: 4 rows uploaded ({address})\n", "")
    assert (second.stdout, second.stderr) == (f"digits/trial-0000: complete ({address})\n", "")
    third = run([*command, "--json"], server, tmp_path)
    assert json.loads(third.stdout)["state"] == "complete"
    server.fail(401)
    train(server, tmp_path, steps=4, key="other")
    refused = run(command, server, tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("W&B cannot be reached: ")
    assert refused.stderr.endswith("\n  Log in with `wandb login`, check WANDB_BASE_URL, and sync again.\n")


def test_trials_in_every_state(tmp_path: Path, server: WandbServer) -> None:
    """Several trials are uploaded one by one; without a server, and while one is running, the reason is told."""
    server.fail("refused")
    train(server, tmp_path, trials=3, steps=4)
    server.recover()
    server.fail(401)
    refused = run_sync(server, tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "SyncError: W&B cannot be reached: " in refused.stderr
    server.recover()
    assert [(told["trial"], told["state"], told["rows"]) for told in sync(server, tmp_path)] == [
        (f"digits/trial-{number:04d}", "uploaded", 4) for number in range(3)
    ]
    assert [run.column("trial/step") for run in server.runs.values()] == [[1, 2, 3, 4]] * 3
    running = start(server, tmp_path, steps=1000, key="other")
    try:
        while len(server.runs) < 4:
            assert running.poll() is None
            time.sleep(0.05)
        (told,) = [told for told in sync(server, tmp_path) if told["state"] == "left"]
    finally:
        running.kill()
        running.communicate()
    assert told["reason"] == f"it is running, in process {running.pid}"


# What fails below a run of the training's own, and after how many requests.
SHARED: dict[str, tuple[Fault | None, int, dict[str, Any]]] = {
    "nothing": (None, 0, {}),
    "refused": ("refused", 3, {}),
    "hanging": ("hanging", 3, {}),
    "dropped": ("dropped", 3, {}),
    "401": (401, 3, {}),
    "service stopped": (None, 0, {"events": {"25": "stop"}}),
    "service stopped at the end": (None, 0, {"events": {"50": "stop"}}),
    "service killed": (None, 0, {"events": {"25": "kill"}}),
    "service killed at the end": (None, 0, {"events": {"50": "kill"}}),
    "a logger": (None, 0, {"shared": "logger"}),
    "service stopped below a logger": (None, 0, {"shared": "logger", "events": {"25": "stop"}}),
    "service killed below a logger": (None, 0, {"shared": "logger", "events": {"25": "kill"}}),
}


@pytest.mark.parametrize(("fault", "after", "options"), SHARED.values(), ids=SHARED.keys())
def test_a_training_with_a_run_does_not_notice(
    tmp_path: Path, server: WandbServer, bare: dict[str, Any], fault: Fault | None, after: int, options: dict[str, Any]
) -> None:
    """A run of the user's that fails changes no weights and holds no step up; journal and training are told."""
    if fault is not None:
        server.fail(fault, after=after)
    told = train(server, tmp_path, **{"shared": "open", **options})
    server.recover()

    assert told["weights"] == bare["weights"]
    assert told["longest"] < 0.05
    assert told["imported"] == []
    events = read_events(tmp_path)
    assert [event["step"] for event in events if event["event"] == "report"] == list(range(1, STEPS + 1))
    assert [event["state"] for event in events if event["event"] == "end"] == ["complete"]
    problems = [event["text"] for event in events if event["event"] == "problem"]
    assert len(problems) == (fault is not None or "events" in options)
    assert all(text.partition(":")[0] in told["errors"] for text in problems)

    states = [told["state"] for told in sync(server, tmp_path, times=3)]
    assert states[1:] == (["complete"] if problems else ["left"]) * 2
    (kept,) = server.runs.values()
    assert kept.column("trial/val_acc") == [
        event["metrics"]["val_acc"] for event in events if event["event"] == "report"
    ]
    assert (kept.exit_code, kept.summary["outcome"], kept.setting("tunehook")["trial"]) == (0, "complete", 0)
    mine = kept.column("mine")
    assert mine == list(range(1, len(mine) + 1))  # the training's own rows, as far as W&B had them
    assert problems or len(mine) == STEPS


def test_the_next_trial_has_a_run_again(tmp_path: Path, server: WandbServer) -> None:
    """A run whose service was killed is let go, so that the next training's wandb.init opens one."""
    told = train(server, tmp_path, shared="open", trials=3, events={"25": "kill"})

    runs = {run.display_name: run for run in server.runs.values()}
    assert len(runs) == 3 or "trial-0000" not in runs, told
    for number in (1, 2):
        run = runs[f"trial-{number:04d}"]
        assert (run.project, run.exit_code, run.summary["outcome"]) == ("users", 0, "complete")
        assert run.column("trial/step") == run.column("mine") == list(range(1, STEPS + 1))


def test_a_killed_training_with_a_run(tmp_path: Path, server: WandbServer) -> None:
    """The journal has everything, and the run is left to W&B, which says so."""
    training = start(server, tmp_path, steps=1000, shared="open")
    journal = tmp_path / "studies" / "trial-0000" / "journal.jsonl"
    while not journal.exists() or journal.read_text().count('"report"') < 20:
        assert training.poll() is None
        time.sleep(0.02)
    training.kill()
    training.communicate()
    reported = [event["step"] for event in read_events(tmp_path) if event["event"] == "report"]
    assert reported == list(range(1, len(reported) + 1))
    (told,) = sync(server, tmp_path)
    assert (told["state"], told["reason"][:30]) == ("left", "it is the training's own run, ")


def read_events(folder: Path, number: int = 0) -> list[dict[str, Any]]:
    """The journal of a trial."""
    path = folder / "studies" / f"trial-{number:04d}" / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]
