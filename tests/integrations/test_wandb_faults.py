"""W&B failing in every way: the training neither waits nor ends otherwise, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wandb_server import Fault, WandbServer, serving

pytest.importorskip("wandb")

pytestmark = pytest.mark.slow

STEPS = 50
SCRIPT = Path(__file__).resolve().parents[1] / "wandb_training.py"

# What fails, and after how many requests. The first three of a run are its beginning.
FAULTS: dict[str, tuple[Fault | None, int, dict[str, Any]]] = {
    "nothing": (None, 0, {}),
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


def start(server: WandbServer, folder: Path, **options: Any) -> subprocess.Popen[str]:
    """Begin the training in a process of its own."""
    path = os.pathsep.join(filter(None, sys.path))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), json.dumps({"steps": STEPS, "pause": 0.02, **options})],
        cwd=folder,
        env={**clean, **server.environment, "WANDB_DIR": str(folder), "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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
    assert told["errors"].count("\n") <= 2, told["errors"]


def test_a_killed_service_is_started_again(tmp_path: Path, server: WandbServer) -> None:
    """The rows that died with the service are sent by the next one, and nobody is told."""
    told = train(server, tmp_path, events={"25": "kill"})

    (run,) = server.runs.values()
    assert run.column("trial/step") == list(range(1, STEPS + 1))
    assert (run.exit_code, told["errors"]) == (0, "")


def test_an_attempt_goes_on_in_its_run(tmp_path: Path, server: WandbServer) -> None:
    """The second attempt of a trial sends what W&B lacks of the first, and then its own rows."""
    first = start(server, tmp_path, pause=0.2)
    assert first.stdout is not None
    journal = tmp_path / "studies" / "trial-0000" / "journal.jsonl"
    while not journal.exists() or journal.read_text().count('"report"') < 5:
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.communicate()
    reported = journal.read_text().count('"report"')
    train(server, tmp_path, attempt=1)

    (run,) = server.runs.values()
    assert run.column("trial/step") == [*range(1, reported + 1), *range(1, STEPS + 1)]
    assert (run.exit_code, run.setting("tunehook")["attempt"]) == (0, 1)
