"""Trials that pause and go on have one W&B run, which has each step once."""

from __future__ import annotations

from pathlib import Path

import pytest

from wandb_server import online, serving

pytest.importorskip("wandb")

import tunehook as th
from pause_study import check, study, train
from tunehook.integrations.wandb import WandbRecorder
from tunehook.integrations.wandb import sync as wandb_sync


def made(study: th.Study) -> dict[str, tuple[list[int], str]]:
    """The steps and the end of each trial, by the id of its run."""
    ledger = study._ledger
    return {
        f"pause-{ledger.key_of(frozen)}": (
            [*range(1, (frozen.last_step or 0) + 1)], ledger.outcome_of(frozen).state
        )
        for frozen in ledger.begun()
    }  # fmt: skip


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("mode", "workers"),
    [("online", None), pytest.param("offline", None, marks=SLOW), pytest.param("online", 2, marks=SLOW)],
)
def test_a_run_has_each_step_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, workers: int | None
) -> None:
    """Whether it is resumed after each pause, or uploaded from the journals."""
    monkeypatch.setattr(wandb_sync, "SETTLED", 0.0)  # this process, which has trained, lives
    with serving() as server, online(server, tmp_path / "online"):
        recorder = WandbRecorder("p", mode=mode, dir=tmp_path, lean=True, study_run=False)  # type: ignore[arg-type]
        done = study(many=5, recorders=[recorder], snapshots=False)
        done.optimize(train, progress=False, workers=workers)
        if workers is None:
            assert recorder._here.line.writer.drain(60)
        check(done, 5)
        told: list[wandb_sync.Synced] = []
        wandb_sync.sync(done.paths.folder, told.append)
        assert {each.state for each in told} == {"complete" if mode == "online" else "uploaded"}
        found = {name: (run.column("trial/step"), run.summary["outcome"]) for name, run in server.runs.items()}
        assert found == made(done)
        assert {run.exit_code for run in server.runs.values()} == {0}
