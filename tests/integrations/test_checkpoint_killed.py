"""Trials whose process is killed and that go on from their checkpoint: the same bits, one run, each step once."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunehook.record.journal import read_journal
from waiting import PATIENCE
from wandb_server import WandbServer, serving
from warm import warm_python

pytest.importorskip("wandb")

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "checkpoint_training.py"
WHOLE: dict[str, Any] = {"lightning": {"workers": 2, "trials": 2}, "keras": {}}
SYNC = """
from pathlib import Path
from tunehook.integrations.wandb.sync import sync
sync(Path("studies"), lambda synced: print(synced.state))
"""


@pytest.fixture
def server() -> Iterator[WandbServer]:
    """A stand-in for W&B."""
    with serving() as made:
        yield made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a search that nobody interrupts."""

    @functools.cache
    def made(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        search(folder, kind=kind, **WHOLE[kind])
        return folder

    return made


def run(arguments: list[str], folder: Path, server: WandbServer | None = None, **options: Any) -> tuple[int, str, str]:
    """Run a Python program; its exit code, and what it said."""
    folder.mkdir(exist_ok=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**clean, **(server.environment if server else {}), "CHECKPOINT_TRAINING": json.dumps(options)}
    program = warm_python().start(arguments, cwd=folder, env=environment)
    told, errors = program.communicate(timeout=PATIENCE)
    return program.poll() or 0, told, errors


def search(folder: Path, server: WandbServer | None = None, **options: Any) -> dict[str, Any]:
    """The whole search; the script is started again where it is killed."""
    for _ in range(2):
        code, told, errors = run([str(SCRIPT)], folder, server, **options)
        if code == 0:
            return {**json.loads(told.splitlines()[-1]), "bits": bits_of(folder)}
        assert code == -9, errors
    raise AssertionError(errors)


def bits_of(folder: Path) -> list[list[str]]:
    """What the trials came to, on each rank."""
    return [sorted(path.read_text().splitlines()) for path in sorted(folder.glob("bits-*.jsonl"))]


def journals(folder: Path) -> list[list[dict[str, Any]]]:
    """The events of each trial."""
    return [[*read_journal(path)] for path in sorted((folder / "studies").glob("trial-*/journal.jsonl"))]


def reports(events: list[dict[str, Any]]) -> list[Any]:
    """What was reported."""
    return [(event["step"], event["metrics"]) for event in events if event["event"] == "report"]


def went_on(folder: Path) -> list[int]:
    """After which measurements trials went on."""
    return [event["step"] for events in journals(folder) for event in events if event["event"] == "continue"]


@pytest.mark.parametrize(("kind", "mode"), [("lightning", "online"), ("keras", "offline")])
def test_a_killed_trial_goes_on(
    kind: str, mode: str, tmp_path: Path, server: WandbServer, whole: Callable[[str], Path]
) -> None:
    """In its own process or started by hand again; two measurements behind the checkpoint are made once more.

    The model that the killed attempt kept is there, and measures in a process of its own what the trial did.
    """
    killed = search(tmp_path, server, kind=kind, dies_in=4, mode=mode, **WHOLE[kind])
    trials = WHOLE[kind].get("trials", 1)
    assert killed["counts"] == {"interrupted": trials, "complete": trials}
    assert killed["bits"] == bits_of(whole(kind))
    assert went_on(tmp_path) == [2] * trials
    assert not (tmp_path / "studies" / "checkpoints").exists()
    expected = {events[0]["params"]["lr"]: reports(events) for events in journals(whole(kind))}
    last = {events[0]["params"]["lr"]: reports(events) for events in journals(tmp_path)}
    assert last == expected
    values = {float(lr): series for lr, (series, _) in killed["found"].items()}
    tuned = {lr: {str(step): row["loss"] for step, row in rows if "loss" in row} for lr, rows in expected.items()}
    assert values == tuned

    code, told, errors = run([str(SCRIPT)], tmp_path, kind=kind, looks=True, **WHOLE[kind])
    assert code == 0, errors
    assert len({*json.loads(told.splitlines()[-1])}) == 1

    if mode == "offline":
        code, told, errors = run(["-c", SYNC], tmp_path, server)
        assert (code, told.split()) == (0, ["uploaded"]), errors
    assert len(server.runs) == trials
    for sent in server.runs.values():
        rows = expected[sent.setting("lr")]
        assert sent.steps == [step for step, _ in rows]
        assert sent.column("loss") == [metrics["loss"] for _, metrics in rows if "loss" in metrics]
        assert (sent.exit_code, sent.setting("tunehook")["attempt"]) == (0, 1)


def test_all_ranks_go_on(tmp_path: Path) -> None:
    """Two ranks, whose random numbers differ: each goes on with its own, so that what was lost is made again."""
    killed = search(tmp_path, devices=2, workers=1, dies_in=4)
    assert killed["counts"] == {"interrupted": 1, "complete": 1}
    assert went_on(tmp_path) == [2]
    assert [path.name for path in (tmp_path / "studies" / "models").rglob("*.*")] == ["step-0001.ckpt"]
    assert len({bits for (line,) in killed["bits"] for _, bits in [json.loads(line)]}) == 2
    first, second = map(reports, journals(tmp_path))
    assert first[-1][0] == 4
    assert second[: len(first)] == first
    assert second[-1][0] == 6


def test_killed_while_it_saves(tmp_path: Path, whole: Callable[[str], Path]) -> None:
    """The checkpoint before is whole, and the half of a new one goes away."""
    killed = search(tmp_path, saves=[1, 2, 3], dies_saving=3)
    assert went_on(tmp_path) == [2]
    assert not (tmp_path / "studies" / "checkpoints").exists()
    expected = [events for events in journals(whole("lightning")) if events[0]["params"]["lr"] == 0.02]
    assert reports(journals(tmp_path)[1]) == reports(expected[0])
    assert set(killed["bits"][0]) < set(bits_of(whole("lightning"))[0])
