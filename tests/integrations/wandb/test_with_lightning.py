"""Trials as W&B runs, from the study through the real Trainer to the run file: one trial, one run, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from run_file import RunFile, read_runs
from tunehook.integrations.lightning import TuneCallback
from tunehook.integrations.wandb import WandbRecorder

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Lightning warns of small data, few workers, one logger for all ...
    pytest.mark.slow,
]


# Where the project has a run of its own: in its WandbLogger, as wandb.run, or as one that it also finishes.
Shared = Literal["logger", "open", "finished"] | None


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield
    wandb.teardown()


def make_net(pl: Any, error: BaseException | None) -> Any:
    """A small net that may raise in its third epoch."""

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, lr: float = 0.01, hidden: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 1))

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            if error is not None and self.current_epoch == 2:
                raise error
            loss: Tensor = self.net(batch[0]).pow(2).mean()
            return loss

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", self.net(batch[0]).pow(2).mean())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])

    return Net


def tune(
    pl: Any,
    *,
    shared: Shared,
    trials: int = 1,
    error: BaseException | None = None,
    stopper: Any = None,
    seed: int = 0,
) -> th.Study:
    """Tune with the recorder; with ``shared`` the project has a WandbLogger or an open run of its own."""
    import wandb

    def train() -> None:
        if shared in ("open", "finished"):
            wandb.init(project="mine")
        loader = DataLoader(TensorDataset(torch.ones(16, 4)), batch_size=8)
        logger = pl.loggers.WandbLogger(project="mine", save_dir=".") if shared == "logger" else False
        trainer = pl.Trainer(
            max_epochs=4, accelerator="cpu", callbacks=[TuneCallback()], logger=logger, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        )  # fmt: skip
        trainer.fit(make_net(pl, error)(), loader, loader)
        if shared == "finished":
            wandb.finish()

    recorder = WandbRecorder(project="digits", tags=["test"], lean=True, study_run=False)
    study = th.Study(
        "runs", {"lr": th.Float(0.001, 0.1), "hidden": 6}, metric="val_loss", mode="min", search="random",
        stopper=stopper, seed=seed, max_failures=1, recorders=[recorder],
    )  # fmt: skip
    study.optimize(train, trials=trials, progress=False)
    return study


def check_run(run: RunFile, study: th.Study, number: int, *, shared: Shared) -> None:
    """What every run has, however it ended."""
    trial = study.trials[number]
    assert (run.group, run.job_type, set(run.tags)) == ("runs", "trial", {"test"})
    assert run.project == ("mine" if shared else "digits")
    assert run.config["lr"] == trial.params["lr"]
    assert run.config["hidden"] == 6
    assert run.config["tunehook"]["slots"]["trainer.max_epochs"] == 4
    assert run.config["tunehook"]["trial"] == number
    assert run.summary["outcome"] == trial.outcome.state
    assert run.summary["reason"] == trial.outcome.reason
    assert run.summary.get("best/val_loss") == trial.value
    steps = run.steps
    assert steps == sorted(set(steps))
    assert run.axes["trial/val_loss" if shared else "val_loss"] == "trial/step"


@pytest.mark.parametrize("shared", [None, "logger", "open"])
def test_a_complete_trial(pl: Any, tmp_path: Path, shared: Shared) -> None:
    """Four rows, the best value, exit code 0."""
    study = tune(pl, shared=shared)
    (run,) = read_runs(tmp_path)
    check_run(run, study, 0, shared=shared)
    values = run.column("trial/val_loss" if shared else "val_loss")
    assert len(values) == 4
    assert min(values) == study.best.value
    assert run.exit_code == 0
    assert run.summary["outcome"] == "complete"
    assert Path(study.records(0)[1]).samefile(run.path.parent)


@pytest.mark.parametrize("shared", [None, "logger", "open"])
def test_a_pruned_trial(pl: Any, tmp_path: Path, shared: Shared) -> None:
    """Recorded as pruned with its reason, not as complete; two rows, exit code 0."""
    study = tune(pl, shared=shared, stopper=optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=2))
    (run,) = read_runs(tmp_path)
    check_run(run, study, 0, shared=shared)
    assert run.steps == [1, 2]
    assert run.summary["outcome"] == "pruned"
    assert run.exit_code == 0


@pytest.mark.parametrize("shared", [None, "logger", "open"])
def test_a_failed_trial(pl: Any, tmp_path: Path, shared: Shared) -> None:
    """The user's error with its traceback, the rows up to then, exit code 1."""
    with pytest.raises(th.StudyError):
        tune(pl, shared=shared, error=ZeroDivisionError("mine"))
    study = reopened()
    (run,) = read_runs(tmp_path)
    check_run(run, study, 0, shared=shared)
    assert run.steps == [1, 2]
    assert run.summary["reason"] == "ZeroDivisionError: mine"
    assert "training_step" in run.summary["traceback"]
    assert run.exit_code == 1


@pytest.mark.parametrize("shared", [None, "logger", "open"])
def test_an_interrupted_trial(pl: Any, tmp_path: Path, shared: Shared) -> None:
    """Ctrl-C closes the run too: interrupted, exit code 130."""
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        tune(pl, shared=shared, error=KeyboardInterrupt())
    study = reopened()
    (run,) = read_runs(tmp_path)
    check_run(run, study, 0, shared=shared)
    assert run.summary["outcome"] == "interrupted"
    assert run.exit_code == 130


def reopened() -> th.Study:
    """The study that `tune` left."""
    return th.Study("runs", {"lr": th.Float(0.001, 0.1), "hidden": 6}, metric="val_loss", mode="min", search="random")


def test_a_trial_that_is_asked_again_goes_on_in_its_run(one: Any, tmp_path: Path) -> None:
    """The second attempt of interrupted values has the run id of the first."""
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        tune(one, shared=None, error=KeyboardInterrupt())
    tune(one, shared=None)
    first, second = read_runs(tmp_path)
    assert first.id == second.id
    assert (first.config["tunehook"]["attempt"], second.config["tunehook"]["attempt"]) == (0, 1)
    assert first.config["lr"] == second.config["lr"]


@pytest.mark.parametrize("shared", [None, "logger", "open"])
def test_three_trials_are_three_runs(pl: Any, tmp_path: Path, shared: Shared) -> None:
    """Three trials with three WandbLoggers, or with none, end in three runs with their own values."""
    study = tune(pl, shared=shared, trials=3)
    runs = read_runs(tmp_path)
    assert len({run.id for run in runs}) == 3
    for number, run in enumerate(runs):
        check_run(run, study, number, shared=shared)
        assert run.exit_code == 0
    assert len({run.config["lr"] for run in runs}) == 3


def test_a_training_that_finishes_its_run(one: Any, tmp_path: Path) -> None:
    """After wandb.finish() at the end of the training function the trial's run still gets its outcome."""
    study = tune(one, shared="finished", trials=2)
    runs = read_runs(tmp_path)
    assert [len(run.column("trial/val_loss")) for run in runs] == [4, 0, 4, 0]
    assert len({run.id for run in runs}) == 2
    for number in range(2):
        last = runs[2 * number + 1]
        assert (last.project, last.exit_code, last.config["tunehook"]["trial"]) == ("mine", 0, number)
        assert last.summary["best/val_loss"] == study.trials[number].value


def test_a_sweeps_run_with_a_logger(one: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In W&B's agent the WandbLogger makes the run of the sweep: with its values, and with the metrics of the model."""
    values = tmp_path / "config-run1.yaml"
    values.write_text("wandb_version: 1\n\nlr:\n  value: 0.03\nhidden:\n  value: 7\n")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "run1")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(values))

    @th.objective
    def train() -> Any:
        net = make_net(one, None)()
        loader = DataLoader(TensorDataset(torch.ones(16, 4)), batch_size=8)
        trainer = one.Trainer(
            max_epochs=2, accelerator="cpu", callbacks=[TuneCallback()], log_every_n_steps=1,
            logger=one.loggers.WandbLogger(save_dir="."), enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(net, loader, loader)
        trainer.logger.experiment.finish()
        return net

    net = train()
    assert (net.hparams["lr"], net.net[0].out_features) == (0.03, 7)
    (run,) = read_runs(tmp_path)
    assert (run.id, run.config["lr"], run.config["hidden"]) == ("run1", 0.03, 7)
    assert len(run.column("val_loss")) == 2
