"""Snapshots in a run of W&B, by the real SDK, offline: what it wrote is read back from the run files."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from run_file import RunFile, read_runs
from tunehook.session.session import TrialSession
from tunehook.snapshot.plan import SnapshotPlan
from tunehook.trial.values import Outcome, Trial
from wandb_trials import Judge

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder  # noqa: E402
from tunehook.integrations.wandb import own as wandb_own  # noqa: E402

pytestmark = pytest.mark.usefixtures("offline")

WEIGHTS = {"fc.weight": np.linspace(-1.0, 3.0, 64), "fc.bias": np.ones(4), "bad.weight": np.full(3, np.nan)}
GRADIENTS = {"fc.weight": np.full(64, 0.5), "fc.bias": np.array([np.inf, 1.0, 2.0, 3.0])}


def _both(weights: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return weights, GRADIENTS


def run_trial(folder: Path, recorder: WandbRecorder, *, steps: int = 2) -> RunFile:
    """A trial of so many steps with a snapshot before the first and after each; its run, as it was written."""
    trial = Trial("digits", 0, {"lr": 0.1}, folder / "trial-0000", "val_acc", "max", key="0000-abc")
    session = TrialSession(trial, Judge(), recorders=[recorder], snapshots=SnapshotPlan(every=10))
    session.ready()
    session.snapshot(0, lambda: (WEIGHTS, None))
    for step in range(1, steps + 1):
        session.report(step, {"val_acc": step / 10})
        moved = {name: array + step for name, array in WEIGHTS.items()}
        session.snapshot(step * 10, functools.partial(_both, moved))
    session.end()
    recorder.close(Outcome("complete", "closed"))
    (run,) = read_runs(folder)
    return run


def test_a_run_of_our_own(tmp_path: Path) -> None:
    """Each snapshot is a row: histograms, ratios and the whole model on an axis of their own, none in the summary."""
    run = run_trial(tmp_path, WandbRecorder("digits", lean=True))
    assert run.column("snapshot/step") == [0, 10, 20]
    assert run.column("trial/step") == [0, 1, 1, 2, 2]
    assert run.column("val_acc") == [0.1, 0.2]
    shown = run.column("parameters/fc/weight")
    counts, edges = np.histogram(WEIGHTS["fc.weight"] + 2, bins=64)
    assert (len(shown), shown[2]["_type"]) == (3, "histogram")
    assert shown[2]["values"] == counts.tolist()
    assert shown[2]["bins"] == pytest.approx(edges.tolist())
    assert len(run.column("gradients/fc/weight")) == 2
    assert sum(run.column("gradients/fc/bias")[0]["values"]) == 3  # and an infinity
    assert run.column("snapshot/gradients/inf") == [1, 1]
    assert run.column("snapshot/parameters/nan") == [3, 3, 3]
    assert run.column("parameters/bad/weight") == []  # there is nothing to show
    finite = np.concatenate([WEIGHTS["fc.weight"], WEIGHTS["fc.bias"]])
    assert run.column("snapshot/parameters/norm")[0] == pytest.approx(float(np.linalg.norm(finite)))
    ratio = np.sqrt(68) / np.linalg.norm(finite + 1)
    assert run.column("ratio/fc")[0] == pytest.approx(float(ratio))
    kept_out = [name for name in run.summary if name.startswith(("parameters", "gradients", "ratio", "snapshot"))]
    assert kept_out == []
    assert run.summary["val_acc"] == 0.2
    assert run.axes["parameters/*"] == run.axes["ratio/fc"] == "snapshot/step"


@pytest.mark.parametrize("has_pattern", [False, True])
def test_the_users_run(tmp_path: Path, *, has_pattern: bool) -> None:
    """There they are named as the metrics are, beside the user's rows, and stay out of the summary too."""
    recorder = WandbRecorder("digits", lean=True)
    wandb.init(project="theirs", dir=tmp_path)
    if has_pattern:  # as a WandbLogger does
        wandb.define_metric("trainer/global_step")
        wandb.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        wandb.log({"trainer/global_step": 7})
    wandb.log({"loss": 1.0})
    run = run_trial(tmp_path, recorder)
    assert not any("trainer/global_step" in row for row in run.rows if "trial/snapshot/step" in row)
    assert run.column("loss") == [1.0]
    assert run.column("trial/snapshot/step") == [0, 10, 20]
    assert len(run.column("trial/parameters/fc/weight")) == 3
    assert run.column("trial/val_acc") == [0.1, 0.2]
    assert [name for name in run.summary if "parameters" in name or "gradients" in name or "ratio" in name] == []


def test_many_that_wait_are_read_from_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that those of a large model do not fill the memory; each is in the run once all the same."""
    monkeypatch.setattr(wandb_own, "SNAPSHOTS", 2)
    run = run_trial(tmp_path, WandbRecorder("digits", lean=True), steps=30)
    assert run.column("snapshot/step") == list(range(0, 310, 10))
    assert run.column("val_acc") == [step / 10 for step in range(1, 31)]
