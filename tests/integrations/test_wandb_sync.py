"""What `tunehook sync` makes of runs and journals that are not as they should be."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import tunehook as th
from tunehook.record import Journal
from tunehook.trial import Trial
from wandb_server import ServerRun, WandbServer, online, serving
from wandb_trials import Judge

pytest.importorskip("wandb")

from tunehook.integrations import wandb_sync
from tunehook.integrations.wandb import WandbRecorder


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A stand-in to which this process's SDK talks; the process has written the journals too, and lives."""
    monkeypatch.setattr(wandb_sync, "SETTLED", 0.0)
    with serving() as made, online(made, tmp_path):
        yield made


def make_trial(folder: Path, number: int = 0, params: Mapping[str, Any] | None = None) -> Trial:
    """A trial with a journal that has begun."""
    place = folder / "study" / f"trial-{number:04d}"
    trial = Trial("s", number, params or {"x": 1}, place, "v", "max", key=f"{number:04d}-12345678")
    Journal(trial.folder).begin(trial)
    return trial


def sync(folder: Path) -> list[wandb_sync.Synced]:
    """What became of the runs of the study."""
    told: list[wandb_sync.Synced] = []
    wandb_sync.sync(folder / "study", told.append)
    return told


def values_of(run: ServerRun) -> dict[str, Any]:
    """Its configuration without what the SDK says about itself."""
    return copy.deepcopy({name: value for name, value in run.config.items() if name != "_wandb"})


def test_the_configuration_stays_as_the_training_wrote_it(tmp_path: Path, server: WandbServer) -> None:
    """The journal has objects as texts: they replace nothing, neither in a run that is left nor in one that is not."""
    root = Path("/data/x")
    trial = make_trial(tmp_path, params={"x": 1, "root": root})
    recorder = WandbRecorder("p", lean=True, study_run=False)
    session = th.TrialSession(trial, Judge(), recorders=[recorder])
    found = {"x": 1, "root": root, "model.file": Path("/data/y"), "model.limit": float("inf")}
    session.begin([
        th.inject.Slot(name, get=lambda value=value: value, set=lambda _: None) for name, value in found.items()
    ])  # fmt: skip
    session.ready()
    session.report(1, {"v": 0.5})
    session.end()
    assert recorder._here.line.writer.drain(60)
    (run,) = server.runs.values()
    before = values_of(run)
    assert (before["root"]["value"], before["tunehook"]["value"]["outcome"]) == ("/data/x", "complete")

    run.summary["trial/step"] = 7
    assert [each.state for each in sync(tmp_path)] == ["left"]
    assert values_of(run) == before
    run.summary["trial/step"] = 1
    del run.summary["outcome"]
    assert [each.state for each in sync(tmp_path)] == ["uploaded"]
    assert values_of(run) == before
    assert run.summary["outcome"] == "complete"

    server.runs.clear()
    assert [each.state for each in sync(tmp_path)] == ["uploaded"]
    (again,) = server.runs.values()
    assert (again.setting("x"), again.setting("tunehook")["trial"]) == (1, 0)
