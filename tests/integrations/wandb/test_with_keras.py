"""Keras trainings as W&B runs, on every backend: what the real SDK wrote is read back from the run files.

Keras takes its backend when it is imported, so each training has a process of its own: this file, run as a script with
the name of the training.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from run_file import RunFile, read_runs
from tunehook.session.in_progress import activate
from tunehook.session.session import TrialSession
from waiting import PATIENCE
from wandb_trials import make_session
from warm import python

wandb = pytest.importorskip("wandb", reason="recording to W&B needs it: pip install 'tunehook[wandb]'")

BACKENDS = ["torch", "jax", "tensorflow"]
STATES = ["complete", "pruned", "failed", "interrupted"]
EXIT_CODES = [0, 0, 1, 130]
STEPS = [[1, 2], [1], [1], [1]]
ORDERS = ["before", "after"]  # of TuneCallback, where the user's callback is in the list


def need(module: str, why: str) -> None:
    """Skip a test whose training needs a module that is not installed."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{why}, and {module} is not installed.")


def run_training(name: str, backend: str, folder: Path) -> list[RunFile]:
    """Run one of the trainings below with the backend, and read the runs that it leaves."""
    need("keras", f"this trains with Keras on {backend}")
    need(backend, f"this trains with Keras on {backend}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "WANDB_DIR": str(folder),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
    }
    ran = subprocess.run(
        [python() if backend == "torch" else sys.executable, __file__, name],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    return read_runs(folder)


def check_outcomes(runs: Sequence[RunFile], prefix: str = "") -> None:
    """Four trials that ended in four ways are four runs."""
    assert len({run.id for run in runs}) == len(STATES)
    assert [run.config["tunehook"]["trial"] for run in runs] == [0, 1, 2, 3]
    assert [run.config["lr"] for run in runs] == [0.1, 1.1, 2.1, 3.1]
    assert [run.summary["outcome"] for run in runs] == STATES
    assert [run.exit_code for run in runs] == EXIT_CODES
    for run, steps in zip(runs, STEPS, strict=True):
        assert run.column("trial/step") == steps
        for name in ("loss", "val_loss"):
            assert run.axes[f"{prefix}{name}"] == "trial/step"
            assert len(run.column(f"{prefix}{name}")) == len(steps)
        assert run.summary["best/val_loss"] == max(run.column(f"{prefix}val_loss"))
        assert (run.group, run.job_type) == ("digits", "trial")
        assert "ours" in run.tags
    assert runs[2].summary["reason"] == "ZeroDivisionError: mine"
    assert "on_epoch_end" in runs[2].summary["traceback"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_runs_of_our_own(tmp_path: Path, backend: str) -> None:
    """Whatever the backend and the end, a training without W&B is one whole run; TensorFlow is not needed."""
    runs = run_training("without W&B", backend, tmp_path)
    check_outcomes(runs)
    assert {run.project for run in runs} == {"digits"}


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_open_run(tmp_path: Path, backend: str) -> None:
    """The run that the training has opened is shared, and what its own callback logs with steps stays."""
    runs = run_training("with an open run", backend, tmp_path)
    check_outcomes(runs, "trial/")
    assert {run.project for run in runs} == {"users"}
    assert [run.column("mine") for run in runs] == [[0, 1], [0], [0], [0]]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_metrics_logger(tmp_path: Path, backend: str) -> None:
    """WandbMetricsLogger and the trial share a run, each with its rows on its axis, wherever it is in the list."""
    need("tensorflow", "W&B's callbacks for Keras import TensorFlow (the recorder does not)")
    run_training("with WandbMetricsLogger", backend, tmp_path)
    before, after = (read_runs(tmp_path / order) for order in ORDERS)
    for runs in (before, after):
        check_outcomes(runs, "trial/")
    for run in [*before, *after]:
        assert (run.project, run.axes["epoch/*"]) == ("users", "epoch/epoch")
        assert len(run.column("epoch/epoch")) >= len(run.column("trial/step"))
        both = list(zip(run.column("epoch/val_loss"), run.column("trial/val_loss"), strict=False))
        assert both == [(value, value) for _, value in both]
        assert all(
            row["epoch/epoch"] == row["trial/step"] - 1 for row in run.rows if {"epoch/epoch", "trial/step"} <= {*row}
        )


@pytest.mark.slow
def test_the_other_callbacks(tmp_path: Path) -> None:
    """A WandbModelCheckpoint and a WandbEvalCallback write to the trial's run, too; one that is reused is refused."""
    need("tensorflow", "W&B's callbacks for Keras import TensorFlow (the recorder does not)")
    first, second = run_training("with a checkpoint and a table", "tensorflow", tmp_path)
    assert first.artifacts.count(f"run_{first.id}_model") == 2
    assert (first.exit_code, first.config["tunehook"]["trial"]) == (0, 0)
    assert second.artifacts == [f"run_{second.id}_pred"] * 2
    assert (second.exit_code, second.config["tunehook"]["trial"]) == (0, 1)


def fit(session: TrialSession, users: Sequence[Any] = (), *, at: int = 0, error: BaseException | None = None) -> None:
    """Train a small model for two epochs, with our callback at a place among the user's; it may break in the second."""
    import keras
    import numpy as np

    from tunehook.integrations.keras import TuneCallback

    class Break(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if error is not None and epoch == 1:
                raise error

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
    data = (np.ones((8, 4), "float32"), np.ones((8, 1), "float32"))
    callbacks = [Break(), *users[:at], TuneCallback(), *users[at:]]
    with activate(session):
        try:
            model.fit(*data, validation_data=data, epochs=2, verbose=0, callbacks=callbacks)
        except BaseException as raised:  # noqa: BLE001 - it is told, as study.optimize does it
            session.end(raised)
        session.end()
    assert f"{model.optimizer.get_config()['learning_rate']:.4f}" == f"{session.trial.params['lr']:.4f}"


def train(name: str) -> None:
    """One of the trainings of this file, in this process."""
    from tunehook.integrations.wandb import WandbRecorder

    recorder = WandbRecorder("digits", tags=["ours"], study_run=False)
    if name == "with a checkpoint and a table":
        train_with_other_callbacks(recorder)
        return
    for order in ORDERS if "WandbMetricsLogger" in name else ["after"]:
        Path(order).mkdir()
        for number, state in enumerate(STATES):
            users = make_users(name, order)
            error = {"failed": ZeroDivisionError("mine"), "interrupted": KeyboardInterrupt()}.get(state)
            session = make_session(recorder, number, metric="val_loss", stop_at=1 if state == "pruned" else None)
            fit(session, users, at=1 if order == "before" else 0, error=error)
            assert wandb.run is None
    # A backend may bring TensorFlow along itself.
    assert ("wandb.integration.keras" in sys.modules) is ("WandbMetricsLogger" in name)
    with pytest.raises(wandb.Error, match=r"^You must call wandb\.init\(\) before wandb\.log\(\)$"):
        wandb.log({"late": 1})


def make_users(name: str, order: str) -> list[Any]:
    """The user's own W&B in a training function."""
    import keras

    if name == "without W&B":
        return []
    folder = order if "WandbMetricsLogger" in name else None
    wandb.init(project="users", config={"lr": 5.0}, dir=folder)
    if name == "with an open run":
        return [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: wandb.log({"mine": epoch}, step=epoch))]
    return [importlib.import_module("wandb.integration.keras").WandbMetricsLogger()]


def train_with_other_callbacks(recorder: Any) -> None:
    """A trial with each of W&B's other callbacks, and one with a callback whose run has ended."""
    kit = importlib.import_module("wandb.integration.keras")

    class Table(kit.WandbEvalCallback):  # type: ignore[name-defined,misc]
        def add_ground_truth(self, logs: Any = None) -> None:
            self.data_table.add_data(0, 1.0)

        def log_data_table(self, *args: Any, **options: Any) -> None:
            """Left out: W&B uses artifacts online only."""

        def add_model_predictions(self, epoch: int, logs: Any = None) -> None:
            self.pred_table.add_data(epoch, 1.0)

    wandb.init(project="users")
    fit(make_session(recorder, 0, metric="val_loss"), [kit.WandbModelCheckpoint("model-{epoch}.keras")])
    wandb.init(project="users")
    table = Table(["index", "truth"], ["epoch", "pred"])
    fit(make_session(recorder, 1, metric="val_loss"), [table])
    last = make_session(recorder, 2, metric="val_loss")
    fit(last, [table])
    assert last.outcome is not None
    assert last.outcome.reason.startswith(
        "NotYoursError: The Table of trial-0002 of study 'digits' finds no open W&B run."
    )


if __name__ == "__main__":
    train(sys.argv[1])
