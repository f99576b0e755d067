"""Trials whose process is killed and that go on from their checkpoint: the same bits, one run, each step once."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunehook.record import read_journal
from wandb_server import WandbServer, serving
from warm import warm_python

pytest.importorskip("wandb")

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[1] / "checkpoint_training.py"
SYNC = """
from pathlib import Path
from tunehook.integrations.wandb_sync import sync
sync(Path("studies"), lambda synced: print(synced.state))
"""


@pytest.fixture
def server() -> Iterator[WandbServer]:
    """A stand-in for W&B."""
    with serving() as made:
        yield made


def run(arguments: list[str], folder: Path, server: WandbServer | None = None, **options: Any) -> tuple[int, str, str]:
    """Run a Python program; its exit code, and what it said."""
    folder.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**clean, **(server.environment if server else {}), "CHECKPOINT_TRAINING": json.dumps(options)}
    program = warm_python().start(arguments, cwd=folder, env=environment)
    told, errors = program.communicate(timeout=120)
    return program.poll() or 0, told, errors


def search(folder: Path, server: WandbServer | None = None, **options: Any) -> dict[str, Any]:
    """The whole search; the script is started again where it is killed."""
    for _ in range(2):
        code, told, errors = run([str(SCRIPT)], folder, server, **options)
        if code == 0:
            bits = [sorted(path.read_text().splitlines()) for path in sorted(folder.glob("bits-*.jsonl"))]
            return {**json.loads(told.splitlines()[-1]), "bits": bits}
        assert code == -9, errors
    raise AssertionError(errors)


def journals(folder: Path) -> list[list[dict[str, Any]]]:
    """The events of each trial."""
    return [[*read_journal(path)] for path in sorted((folder / "studies").glob("trial-*/journal.jsonl"))]


def reports(events: list[dict[str, Any]]) -> list[Any]:
    """What was reported."""
    return [(event["step"], event["metrics"]) for event in events if event["event"] == "report"]


def went_on(folder: Path) -> list[int]:
    """After which measurements trials went on."""
    return [event["step"] for events in journals(folder) for event in events if event["event"] == "continue"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("lightning", {"workers": 2, "trials": 2, "mode": "online"}),
        ("keras", {"workers": None, "trials": 1, "mode": "offline"}),
    ],
)
def test_a_killed_trial_goes_on(kind: str, options: dict[str, Any], tmp_path: Path, server: WandbServer) -> None:
    """In its own process or started by hand again; two measurements behind the checkpoint are made once more."""
    whole = search(tmp_path / "whole", kind=kind, **{**options, "mode": None})
    killed = search(tmp_path / "killed", server, kind=kind, dies_in=4, **options)
    trials = options["trials"]
    assert killed["counts"] == {"interrupted": trials, "complete": trials}
    assert (killed["bits"], killed["found"]) == (whole["bits"], whole["found"])
    assert went_on(tmp_path / "killed") == [2] * trials
    assert not (tmp_path / "killed" / "studies" / "checkpoints").exists()
    expected = {events[0]["params"]["lr"]: reports(events) for events in journals(tmp_path / "whole")}
    last = {events[0]["params"]["lr"]: reports(events) for events in journals(tmp_path / "killed")}
    assert last == expected

    if options["mode"] == "offline":
        code, told, errors = run(["-c", SYNC], tmp_path / "killed", server)
        assert (code, told.split()) == (0, ["uploaded"]), errors
    assert len(server.runs) == trials
    for sent in server.runs.values():
        rows = expected[sent.setting("lr")]
        assert sent.column("trial/step") == [step for step, _ in rows]
        assert sent.column("loss") == [metrics["loss"] for _, metrics in rows if "loss" in metrics]
        assert (sent.exit_code, sent.setting("tunehook")["attempt"]) == (0, 1)


def test_all_ranks_go_on(tmp_path: Path) -> None:
    """Two ranks, whose random numbers differ: each goes on with its own."""
    whole = search(tmp_path / "whole", devices=2, workers=1)
    killed = search(tmp_path / "killed", devices=2, workers=1, dies_in=4)
    assert went_on(tmp_path / "killed") == [2]
    assert len(whole["bits"]) == 2
    assert whole["bits"][0] != whole["bits"][1]
    assert (killed["bits"], killed["found"]) == (whole["bits"], whole["found"])


def test_killed_while_it_saves(tmp_path: Path) -> None:
    """The checkpoint before is whole, and the half of a new one goes away."""
    whole = search(tmp_path / "whole")
    killed = search(tmp_path / "killed", saves=[1, 2, 3], dies_saving=3)
    assert went_on(tmp_path / "killed") == [2]
    assert killed["bits"] == whole["bits"]
    assert not (tmp_path / "killed" / "studies" / "checkpoints").exists()
    assert [*itertools.chain(*map(reports, journals(tmp_path / "killed")[1:]))] == reports(
        journals(tmp_path / "whole")[0]
    )
