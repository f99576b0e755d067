"""TuneCallback on the real Trainer: the life of a trial, its metrics, its stops and its ends."""

from __future__ import annotations

import contextlib
import copy
import gc
import json
import math
import os
import pickle
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from accelerator import ACCELERATOR
from tunehook.inject import arguments, signature_of
from tunehook.integrations.lightning import TuneCallback
from tunehook.session.in_progress import active
from tunehook.study.study import Study
from tunehook.trial.errors import InjectionError, StudyError, TrialError
from tunehook.trial.values import Outcome, Trial

NAMESPACES = ["lightning.pytorch", "pytorch_lightning"]

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...


@pytest.fixture(params=NAMESPACES)
def pl(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Lightning namespace, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(request.param)


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One namespace, for what does not depend on it."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("lightning.pytorch")


@pytest.fixture(autouse=True)
def sigint_kept() -> Iterator[None]:
    """Lightning sets SIGINT to be ignored when it handles a Ctrl-C."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def make_net(pl: Any, **hooks: Any) -> Any:
    """A small regression net as users write them; ``hooks`` replace its methods."""

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, hidden: int = 4, lr: float = 0.01, dropout: float = 0.2) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1))

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss: Tensor = self.net(batch[0]).pow(2).mean()
            return loss

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", self.net(batch[0]).pow(2).mean())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])

    for name, hook in hooks.items():
        setattr(Net, name, hook)
    return Net


def loader(size: int = 8, shuffle: bool = False) -> DataLoader[Any]:
    """Forty fixed samples."""
    data = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(data), batch_size=size, shuffle=shuffle)


def trainer(pl: Any, *callbacks: Any, **settings: Any) -> Any:
    """A quiet trainer for four epochs."""
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        **{"max_epochs": 4, "accelerator": ACCELERATOR, "logger": False, **quiet, **settings}, callbacks=list(callbacks)
    )


def fit(pl: Any, callback: Any, net: Any = None, *more: Any, val: bool = True, **settings: Any) -> Any:
    """Train once; returns the trained module."""
    torch.manual_seed(3)
    module = (net or make_net(pl))()
    trainer(pl, callback, *more, **settings).fit(module, loader(shuffle=True), loader() if val else None)
    return module


def make_study(space: dict[str, Any] | None = None, **options: Any) -> Study:
    """A study of one kind for all tests."""
    usual = {"metric": "val_loss", "mode": "min", "search": "random", "seed": 0}
    return Study("s", {"optimizer.lr": 0.02} if space is None else space, **{**usual, **options})


def events(number: int = 0, kind: str | None = None) -> list[dict[str, Any]]:
    """The journal of a trial."""
    lines = Path(f"tunehook-studies/s/trial-{number:04d}/journal.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if kind in (None, event["event"])]


class Tape:
    """A recorder that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def open(self, trial: Trial, config: Any, *, loggers: Any = ()) -> None:
        self.told.append(("open", trial.number, dict(config), len(loggers)))

    def report(self, step: int, metrics: Any) -> None:
        self.told.append(("report", step, dict(metrics)))

    def close(self, outcome: Outcome) -> None:
        self.told.append(("close", outcome.state))

    def where(self) -> str | None:
        return "on tape"


# ------------------------------------------------------------------ the life of a trial


def test_a_trial_is_injected_reported_and_told(pl: Any) -> None:
    """One fit is one complete trial, with its journal from begin to end."""
    tape, made = Tape(), []
    study = make_study({"lr": 0.02, "hidden": 6, "batch_size": 4}, recorders=[tape])
    study.optimize(lambda: made.append(fit(pl, TuneCallback())), trials=1, progress=False)
    (module,) = made
    assert dict(module.hparams) == {"hidden": 6, "lr": 0.02, "dropout": 0.2}
    assert module.hparams_initial["lr"] == 0.02
    assert module.net[0].out_features == 6
    (trial,) = study.trials
    assert trial.outcome == Outcome("complete", "trained to its end", trial.value, 4)
    kinds = [event["event"] for event in events()]
    assert kinds[:3] == ["begin", "config", "snapshot"]
    assert [kind for kind in kinds if kind != "snapshot"] == ["begin", "config", *["report"] * 4, "end"]
    (config,) = events(kind="config")
    assert config["effective"]["model.hidden"] == 6
    assert config["effective"]["data.batch_size"] == 4
    assert config["effective"]["model.dropout"] == 0.2
    assert config["effective"]["trainer.max_epochs"] == 4
    assert config["records"] == ["on tape"]
    kinds = [row[0] for row in tape.told]
    assert kinds == ["open", *["report"] * 4, "close"]
    assert study.best.value == min(event["metrics"]["val_loss"] for event in events(kind="report"))


def test_without_a_trial_the_script_trains_by_itself(pl: Any) -> None:
    """TuneCallback() outside a study changes nothing: the weights equal those without it."""
    plain = fit(pl, pl.Callback())
    tuned = fit(pl, TuneCallback())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), tuned.parameters(), strict=True))
    assert not Path("tunehook-studies").exists()


def test_optimize_equals_the_script_with_the_values_typed_in(pl: Any) -> None:
    """Sampled shapes, rates and batch sizes through study.optimize give the weights of the plain script."""
    trained: list[Any] = []
    study = make_study({"lr": th.Float(1e-3, 1e-1, log=True), "hidden": th.Int(2, 9), "batch_size": th.Choice([4, 10])})
    study.optimize(lambda: trained.append(fit(pl, TuneCallback())), trials=4, progress=False)
    assert len(study.trials) == 4
    for module, trial in zip(trained, study.trials, strict=True):
        torch.manual_seed(3)
        values = dict(trial.params)
        size = values.pop("batch_size")
        plain = make_net(pl)(**values)
        trainer(pl).fit(plain, loader(size, shuffle=True), loader())
        assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), module.parameters(), strict=True))


def test_one_fit_is_one_trial(one: Any) -> None:
    """A callback with a study asks for a trial in each fit."""
    study = make_study({"optimizer.lr": th.Float(0.001, 0.1)})
    callback = TuneCallback(study)
    for _ in range(3):
        fit(one, callback)
    assert [trial.outcome.state for trial in study.trials] == ["complete"] * 3
    assert len({trial.params["optimizer.lr"] for trial in study.trials}) == 3


def test_several_fits_in_one_trial_go_on_with_their_steps(one: Any) -> None:
    """A training function with two fits of the same model is one trial; trained weights are left alone."""
    sums: list[float] = []

    def train() -> None:
        torch.manual_seed(3)
        module = make_net(one)()
        for _ in range(2):
            trainer(one, TuneCallback(), max_epochs=2).fit(module, loader(), loader())
            sums.append(float(sum(p.abs().sum() for p in module.parameters())))

    study = make_study({"hidden": 6, "lr": 0.02})
    study.optimize(train, trials=1, progress=False)
    assert [event["step"] for event in events(kind="report")] == [1, 2, 3, 4]
    torch.manual_seed(3)
    plain = make_net(one)(hidden=6, lr=0.02)
    for total in sums:
        trainer(one, max_epochs=2).fit(plain, loader(), loader())
        assert float(sum(p.abs().sum() for p in plain.parameters())) == total


def test_a_fit_after_a_stop_ends_at_once(one: Any) -> None:
    """Once a trial is stopped, a later fit of the same trial does not begin, and no callback hears of it."""
    steps: list[int] = []

    class Listener(one.Callback):  # type: ignore[misc]
        def setup(self, *_: Any, **__: Any) -> None:
            heard.append("setup")

        def on_exception(self, *_: Any) -> None:
            heard.append("exception")

    heard: list[str] = []

    def train() -> None:
        for _ in range(2):
            host = trainer(one, TuneCallback(), Listener())
            host.fit(make_net(one)(), loader(), loader())
            steps.append(host.global_step)

    study = make_study(stopper=optuna.pruners.ThresholdPruner(upper=0.0))
    study.optimize(train, trials=1, progress=False)
    assert steps == [5]
    assert heard == ["setup"]
    assert study.trials[0].outcome.state == "pruned"


def test_a_learning_rate_search_first_is_part_of_the_trial(pl: Any) -> None:
    """Tuner.lr_find runs a fit of its own; the trial is asked for once and stays open for the real fit."""
    tuning = pytest.importorskip(f"{pl.__name__}.tuner")
    study = make_study({"optimizer.momentum": 0.6})
    host = trainer(pl, TuneCallback(study))
    module = make_net(pl, configure_optimizers=lambda self: torch.optim.SGD(self.parameters(), self.hparams["lr"]))()
    tuning.Tuner(host).lr_find(module, loader(), loader(), num_training=8)
    assert [trial.outcome.state for trial in study.trials] == ["running"]
    host.fit(module, loader(), loader())
    assert [trial.outcome.state for trial in study.trials] == ["complete"]
    assert host.optimizers[0].param_groups[0]["momentum"] == 0.6
    widths = []

    def train() -> None:
        host, module = trainer(pl, TuneCallback()), make_net(pl)()
        tuning.Tuner(host).lr_find(module, loader(), loader(), num_training=8)
        host.fit(module, loader(), loader())
        widths.append(module.net[0].out_features)

    study = make_study({"hidden": 6}, storage=optuna.storages.InMemoryStorage())
    study.optimize(train, trials=1, progress=False)
    assert (widths, study.counts()) == ([6], {"complete": 1})


def test_a_learning_rate_finder_must_not_change_an_injected_lr(one: Any) -> None:
    """The finder overwrites the sampled learning rate: an error before the first step."""
    from lightning.pytorch.callbacks import LearningRateFinder

    study = make_study({"lr": 0.02})
    finder = LearningRateFinder(num_training_steps=60)
    with pytest.raises(InjectionError, match=r"Injected values were lost .*\n  model\.lr holds .* instead of 0\.02"):
        study.optimize(lambda: fit(one, TuneCallback(), None, finder), trials=1, progress=False)
    assert study.trials[0].outcome.state == "failed"


def test_a_checkpoint_must_not_restore_the_old_learning_rate(pl: Any, tmp_path: Path) -> None:
    """fit(ckpt_path=...) brings back the optimizer's old state: an error, not a silent old value."""
    first = trainer(pl, max_epochs=1)
    first.fit(make_net(pl)(), loader(), loader())
    first.save_checkpoint(tmp_path / "old.ckpt")
    with pytest.raises(InjectionError) as caught:
        trainer(pl, TuneCallback(make_study())).fit(
            make_net(pl)(), loader(), loader(), ckpt_path=str(tmp_path / "old.ckpt")
        )
    assert "0.02" in str(caught.value)
    assert "0.01" in str(caught.value)
    assert "checkpoint" in str(caught.value)


# ------------------------------------------------------------------ metrics


def steps_and_values(number: int = 0, metric: str = "val_loss") -> list[tuple[int, float]]:
    """The reports of the tuned metric."""
    return [(row["step"], row["metrics"][metric]) for row in events(number, "report") if metric in row["metrics"]]


def test_each_validation_is_a_report(pl: Any) -> None:
    """Two validations an epoch give eight reports over four epochs, with growing steps; the sanity check gives none."""
    fit(pl, TuneCallback(make_study()), val_check_interval=0.4, num_sanity_val_steps=2)
    rows = events(kind="report")
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [row["metrics"]["epoch"] for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len({row["metrics"]["val_loss"] for row in rows}) == 8


def test_validation_every_second_epoch(one: Any) -> None:
    """Epochs without a validation do not report the old value again."""
    fit(one, TuneCallback(make_study()), check_val_every_n_epoch=2)
    assert [row["metrics"]["epoch"] for row in events(kind="report")] == [1, 3]


def log_in_step(self: Any, batch: list[Tensor], batch_idx: int) -> Tensor:
    """A training step that logs its loss over the epoch."""
    loss: Tensor = self.net(batch[0]).pow(2).mean()
    self.log("train_loss", loss, on_step=False, on_epoch=True)
    return loss


def log_each_step(self: Any, batch: list[Tensor], batch_idx: int) -> Tensor:
    """A training step that logs its loss at every step."""
    loss: Tensor = self.net(batch[0]).pow(2).mean()
    self.log("train_loss", loss, on_step=True, on_epoch=False)
    return loss


def log_late(self: Any) -> None:
    """An end of the epoch that logs after ours."""
    self.log("late", torch.tensor(float(10 - self.current_epoch)))


@pytest.mark.parametrize(
    ("hooks", "metric", "val"),
    [
        ({"training_step": log_in_step}, "train_loss", True),
        ({"training_step": log_in_step}, "train_loss", False),
        ({"training_step": log_each_step}, "train_loss", False),
        ({"training_step": log_each_step}, "train_loss", True),
        ({"on_train_epoch_end": log_late}, "late", True),
        ({"on_train_epoch_end": log_late}, "late", False),
    ],
)
def test_training_metrics_are_reported_once_an_epoch(pl: Any, hooks: dict[str, Any], metric: str, val: bool) -> None:
    """A metric of the training is reported at the end of each epoch, wherever it is logged, with validation or not."""
    fit(pl, TuneCallback(make_study(metric=metric)), make_net(pl, **hooks), val=val)
    rows = steps_and_values(metric=metric)
    assert [step for step, _ in rows] == [1, 2, 3, 4]
    assert len({value for _, value in rows}) == 4
    if metric == "late":
        assert [value for _, value in rows] == [10.0, 9.0, 8.0, 7.0]


def test_metrics_beside_the_tuned_one_are_recorded(one: Any) -> None:
    """Training metrics stand in the journal too, at the step of the validation before."""
    fit(one, TuneCallback(make_study()), make_net(one, training_step=log_in_step))
    rows = [row for row in events(kind="report") if "train_loss" in row["metrics"]]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all("val_loss" not in row["metrics"] for row in rows)


@pytest.mark.parametrize("val", [True, False])
def test_a_metric_that_is_never_logged_is_an_error_after_the_first_epoch(one: Any, val: bool) -> None:
    """The message names the metric, those that exist, and the way out; nothing trains on."""
    study = make_study(metric="val_los")
    exists, hint = ("val_loss", " Did you mean 'val_loss'?") if val else ("(none)", "")
    with pytest.raises(TrialError) as caught:
        fit(one, TuneCallback(study), val=val)
    assert str(caught.value) == (
        f"The study tunes the metric 'val_los', but the training did not log it.{hint}\n"
        f"  Metrics that exist: {exists}.\n"
        "  Log 'val_los' in every epoch, or name one of these as Study(..., metric=...)."
    )
    assert study.trials[0].outcome.state == "failed"


def test_nan_makes_the_trial_infeasible(pl: Any) -> None:
    """A NaN is taken as it comes, stops the fit in good order and is no value."""

    def validate(self: Any, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", torch.tensor(1.0 if self.current_epoch == 0 else math.nan))

    study = make_study()
    host = trainer(pl, TuneCallback(study))
    host.fit(make_net(pl, validation_step=validate)(), loader(), loader())
    (trial,) = study.trials
    assert trial.outcome == Outcome("infeasible", "val_loss is nan at step 2", 1.0, 1)
    assert host.current_epoch == 2
    assert [row["metrics"]["val_loss"] for row in events(kind="report")] == [1.0, "NaN"]


# ------------------------------------------------------------------ stopping


class Watcher:
    """Notes which ends other callbacks see; mixed with a namespace's Callback in the tests."""

    seen: list[str]

    def on_train_epoch_end(self, *_: Any) -> None:
        self.seen.append("epoch")

    def on_train_end(self, *_: Any) -> None:
        self.seen.append("train")

    def on_fit_end(self, *_: Any) -> None:
        self.seen.append("fit")

    def teardown(self, *_: Any, **__: Any) -> None:
        self.seen.append("teardown")

    def on_exception(self, *_: Any) -> None:
        self.seen.append("exception")


def watcher(pl: Any) -> Any:
    """A callback that notes the ends that it sees."""
    made = type("Watching", (Watcher, pl.Callback), {})()
    made.seen = []
    return made


def test_a_stop_is_graceful(pl: Any, tmp_path: Path) -> None:
    """Stopped in the third epoch although min_epochs says more: every end hook runs and the checkpoint is written."""
    study = make_study(stopper=optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=3))
    other = watcher(pl)
    checkpoint = pl.callbacks.ModelCheckpoint(tmp_path / "kept", save_last=True)
    host = trainer(pl, TuneCallback(study), other, checkpoint, enable_checkpointing=True, min_epochs=4)
    host.fit(make_net(pl)(), loader(), loader())
    assert host.current_epoch == 3
    assert other.seen == ["epoch", "epoch", "epoch", "train", "fit", "teardown"]
    assert (tmp_path / "kept" / "last.ckpt").exists()
    (trial,) = study.trials
    assert trial.outcome.state == "pruned"
    assert trial.outcome.step is not None
    assert re.fullmatch(
        r"ThresholdPruner: val_loss [\d.e-]+ at step 3 falls behind the other trials", trial.outcome.reason
    )
    assert [event["event"] for event in events() if event["event"] != "snapshot"][-2:] == ["decision", "end"]


def test_a_stop_within_an_epoch(one: Any) -> None:
    """With several validations an epoch, training ends at the validation that decides."""
    study = make_study(stopper=optuna.pruners.ThresholdPruner(upper=0.0))
    host = trainer(one, TuneCallback(study), val_check_interval=0.4)
    host.fit(make_net(one)(), loader(), loader())
    assert host.global_step == 2
    assert steps_and_values()[-1][0] == 1


def test_a_stop_by_a_late_metric_begins_no_further_epoch(pl: Any) -> None:
    """A metric logged in the module's on_train_epoch_end stops before the next epoch, without an empty one."""
    study = make_study(metric="late", stopper=optuna.pruners.ThresholdPruner(upper=9.5, n_warmup_steps=1))
    other = watcher(pl)
    host = trainer(pl, TuneCallback(study), other)
    host.fit(make_net(pl, on_train_epoch_end=log_late)(), loader(), loader())
    assert host.global_step == 5
    assert other.seen == ["epoch", "train", "fit", "teardown"]
    assert study.trials[0].outcome.state == "pruned"


def test_a_named_stopper_waits_for_its_warm_up(one: Any) -> None:
    """With median over 24 epochs nothing is stopped before the fourth (a sixth); a hopeless trial is stopped then."""

    def validate(self: Any, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", torch.tensor(float(self.hparams["lr"])))

    study = make_study({"lr": th.Choice([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])}, search="grid", stopper="median")
    study.optimize(
        lambda: fit(one, TuneCallback(), make_net(one, validation_step=validate), max_epochs=24, limit_train_batches=1),
        progress=False,
    )
    states = [trial.outcome.state for trial in study.trials]
    assert states.count("pruned") >= 3
    for trial in study.trials:
        if trial.outcome.state == "pruned":
            assert len(steps_and_values(trial.number)) == 4


# ------------------------------------------------------------------ ends


def raising(error: BaseException, at: int = 7) -> Any:
    """A training step that raises in the second epoch."""

    def training_step(self: Any, batch: list[Tensor], batch_idx: int) -> Tensor:
        if self.trainer.global_step >= at:
            raise error
        loss: Tensor = self.net(batch[0]).pow(2).mean()
        return loss

    return training_step


def test_an_exception_is_a_failed_trial(pl: Any) -> None:
    """The user's error is raised as it is, and kept with its traceback and the value up to then."""
    study = make_study()
    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(pl, TuneCallback(study), make_net(pl, training_step=raising(ZeroDivisionError("mine"))))
    (trial,) = study.trials
    assert trial.outcome.state == "failed"
    assert trial.outcome.reason == "ZeroDivisionError: mine"
    assert "training_step" in (trial.outcome.traceback or "")
    assert trial.value is not None
    assert events()[-1]["state"] == "failed"


def test_out_of_memory_is_infeasible(one: Any) -> None:
    """The out-of-memory error teaches the sampler and does not count as the user's failure."""
    study = make_study(max_failures=1)
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    study.optimize(
        lambda: fit(one, TuneCallback(), make_net(one, training_step=raising(error))), trials=2, progress=False
    )
    assert [trial.outcome.state for trial in study.trials] == ["infeasible", "infeasible"]
    assert all(frozen.constraints == {"feasible": 1.0} for frozen in study.optuna.trials)


@pytest.mark.parametrize("inside", ["callback", "optimize"])
def test_ctrl_c_interrupts_the_trial_and_the_search(pl: Any, inside: str) -> None:
    """Ctrl-C ends the script; the trial is interrupted, not failed, and its values are asked again."""
    study = make_study({"optimizer.lr": th.Float(0.001, 0.1)})
    net = make_net(pl, training_step=raising(KeyboardInterrupt()))
    if inside == "callback":
        with contextlib.suppress(SystemExit):  # from Lightning 2.3 on
            fit(pl, TuneCallback(study), net)
    else:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            study.optimize(lambda: fit(pl, TuneCallback(), net), trials=3, progress=False)
    (trial,) = study.trials
    assert (trial.outcome.state, trial.outcome.reason) == ("interrupted", "Ctrl-C")
    again = study.ask()
    assert again.params == trial.params
    assert again.attempt == 1


def test_sigterm_interrupts_the_trial(pl: Any) -> None:
    """A real SIGTERM during training (a preemption) is told as such."""

    def training_step(self: Any, batch: list[Tensor], batch_idx: int) -> Tensor:
        if self.trainer.global_step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        loss: Tensor = self.net(batch[0]).pow(2).mean()
        return loss

    study = make_study()
    with pytest.raises(SystemExit):
        fit(pl, TuneCallback(study), make_net(pl, training_step=training_step))
    (trial,) = study.trials
    assert (trial.outcome.state, trial.outcome.reason) == ("interrupted", "SIGTERM")


def test_an_error_while_the_model_is_set_up_is_a_failed_trial(one: Any) -> None:
    """Errors before the first step are told too."""

    def configure_optimizers(self: Any) -> Any:
        raise RuntimeError("no optimizer today")

    study = make_study()
    with pytest.raises(RuntimeError, match="no optimizer today"):
        fit(one, TuneCallback(study), make_net(one, configure_optimizers=configure_optimizers))
    assert study.trials[0].outcome.reason == "RuntimeError: no optimizer today"


def test_a_fit_that_trains_nothing_is_an_error(pl: Any) -> None:
    """A Trainer that has reached its limit before would end as a silent success."""
    study = make_study()
    with pytest.raises(TrialError) as caught:
        fit(pl, TuneCallback(study), max_epochs=0)
    assert str(caught.value) == (
        "The fit ended without a training step, so there is nothing to tune: the trainer's limit "
        "(max_epochs=0, max_steps=-1) was reached before, there were no batches, or something set "
        "should_stop before the first epoch.\n"
        "  Make a new Trainer for each trial, inside the training function."
    )
    assert study.trials[0].outcome.state == "failed"


def test_a_training_without_the_callback_is_an_error(one: Any) -> None:
    """Values that nobody injected are told at once, not after thirty equal trials."""
    study = make_study()
    with pytest.raises(TrialError, match=re.escape("The training returned without a TuneCallback")):
        study.optimize(lambda: fit(one, one.Callback()), trials=5, progress=False)
    assert len(study.trials) == 1


def test_a_lone_training_that_looks_like_a_rank_is_an_error(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of a cluster that train alone would run untuned while they wait for a rank 0."""
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(TrialError, match=re.escape("This process looks like a rank above 0 (RANK, LOCAL_RANK or SLU")):
        make_study().optimize(lambda: fit(one, TuneCallback()), trials=1, progress=False)


def test_two_callbacks_in_one_trainer_are_an_error(one: Any) -> None:
    """One fit is one trial."""
    with pytest.raises(
        TrialError, match=re.escape("The Trainer has more than one TuneCallback; one fit is one trial.")
    ):
        fit(one, TuneCallback(make_study()), None, TuneCallback())


@pytest.mark.parametrize("source", ["digits", 3, {"lr": 0.1}])
def test_a_wrong_source_is_an_error(source: Any) -> None:
    """Neither a study nor an Optuna trial."""
    with pytest.raises(TypeError) as caught:
        TuneCallback(source)
    assert str(caught.value) == (
        f"TuneCallback takes nothing, a tunehook Study or an Optuna trial; got {source!r}.\n"
        "  For example TuneCallback(study), or TuneCallback() inside study.optimize(train, ...)."
    )


def test_metric_goes_with_an_optuna_trial_only(one: Any) -> None:
    """A study has its own metric."""
    with pytest.raises(ValueError, match=re.escape("metric=, inject= and snapshots= go with an Optuna trial only")):
        TuneCallback(make_study(), metric="val_loss")


# ------------------------------------------------------------------ Optuna trials


def test_an_optuna_objective_is_injected_and_pruned(pl: Any) -> None:
    """In someone's own Optuna study the values arrive, and a pruned trial is recorded as pruned."""

    @th.objective
    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("lr", 0.001, 0.1)
        trial.suggest_int("hidden", 2, 9)
        module = fit(pl, TuneCallback(trial, metric="val_loss"), None, other)
        widths.append(module.net[0].out_features)
        return float(module.trainer.callback_metrics["val_loss"])

    widths: list[int] = []
    other = watcher(pl)
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(upper=1e9, n_warmup_steps=2))
    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    assert widths == [trial.params["hidden"] for trial in study.trials]
    study.pruner = optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps=2)
    other.seen.clear()
    study.optimize(objective, n_trials=1)
    assert study.trials[2].state.name == "PRUNED"
    assert list(study.trials[2].intermediate_values) == [1, 2]
    assert other.seen == ["epoch", "epoch", "train", "fit", "teardown", "exception"]


def test_an_optuna_objective_that_is_not_decorated(one: Any) -> None:
    """Its trial is known in fit only: what is made there takes its value, and an object that exists is refused."""
    study = optuna.create_study()

    def objective(trial: optuna.Trial, name: str = "optimizer.lr") -> float:
        wanted = trial.suggest_float(name, 0.02, 0.03)
        module = fit(one, TuneCallback(trial, metric="val_loss"))
        assert module.trainer.optimizers[0].param_groups[0]["lr"] == wanted
        return 0.0

    study.optimize(objective, n_trials=1)
    message = (
        r"^model.lr = 0.02\d* cannot be put in: Net was made before this trial was known.\n"
        r"  Write @th.objective above the objective, so that the trial is known before it makes its objects.$"
    )
    with pytest.raises(InjectionError, match=message):
        objective(study.ask(), "lr")


def test_an_optuna_objective_may_use_its_values_itself(one: Any) -> None:
    """inject=False reports and prunes only; otherwise a name without a slot is an error."""
    study = optuna.create_study()
    trial = study.ask({"blocks": optuna.distributions.IntDistribution(1, 3)})
    fit(one, TuneCallback(trial, metric="val_loss", inject=False))
    assert list(study.trials[0].intermediate_values) == [1, 2, 3, 4]
    with pytest.raises(InjectionError, match="There is nothing called 'blocks' to inject"):
        fit(one, TuneCallback(study.ask({"blocks": optuna.distributions.IntDistribution(1, 3)}), metric="val_loss"))


def test_an_optuna_trial_needs_a_metric_and_one_objective(one: Any) -> None:
    """What cannot work is told when the callback is made."""
    with pytest.raises(ValueError, match=re.escape("TuneCallback(trial, metric='val_acc')")):
        TuneCallback(optuna.create_study().ask())
    with pytest.raises(ValueError, match="has 2 objectives"):
        TuneCallback(optuna.create_study(directions=["minimize", "maximize"]).ask(), metric="val_loss")


# ------------------------------------------------------------------ the object itself


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_the_callback_can_be_copied_and_pickled(one: Any, copied: Any) -> None:
    """A copy is a callback of the same namespaces and works."""
    study = make_study()
    made = copied(TuneCallback(study))
    assert isinstance(made, TuneCallback)
    assert isinstance(made, one.Callback)
    fit(one, made)
    assert [trial.outcome.state for trial in study.trials] == ["complete"]


def test_a_subclass_keeps_its_own_hooks(one: Any) -> None:
    """People may extend the callback."""

    class Loud(TuneCallback):
        heard = 0

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_start(trainer, pl_module)
            self.heard += 1

    loud = Loud(make_study())
    fit(one, loud)
    assert type(loud).__name__ == "Loud"
    assert loud.heard == 1


@pytest.mark.parametrize("trials", [0, 2])
def test_hooks_of_each_batch_are_left_out_unless_they_are_overridden(pl: Any, trials: int) -> None:
    """Without snapshots nothing of ours runs after the first batch, but hooks of a subclass do, in each fit."""

    class Mixin:
        heard: list[str]

        def on_after_backward(self, *_: Any) -> None:
            self.heard.append("backward")

    class Loud(Mixin, TuneCallback):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            super().on_train_batch_end(*args, **kwargs)
            self.heard.append("batch")

    plain = TuneCallback(make_study(snapshots=False))
    fit(pl, plain)
    assert plain.on_train_batch_end is None
    assert plain.on_before_zero_grad is None
    assert callable(plain.on_validation_end)
    loud = Loud(make_study() if trials else None)
    loud.heard = []
    for _ in range(max(1, trials)):
        fit(pl, loud)
    assert loud.heard.count("batch") == loud.heard.count("backward") == 20 * max(1, trials)
    assert loud.on_before_zero_grad is None


def test_a_folder_whose_storage_is_gone_is_started_over(one: Any) -> None:
    """Two studies in memory share a folder of journals: the second one's trials are its own."""
    storages = [optuna.storages.InMemoryStorage() for _ in range(3)]
    for storage, lr in zip(storages[:2], (0.001, 0.002), strict=True):
        study = make_study({"lr": lr}, storage=storage)
        study.optimize(lambda: fit(one, TuneCallback()), trials=1, progress=False)
        assert study.records(0) == [str(Path("tunehook-studies/s/trial-0000/journal.jsonl").absolute())]
    with pytest.raises(TrialError, match="returned without a TuneCallback"):
        make_study(storage=storages[2]).optimize(lambda: None, trials=1, progress=False)


def test_no_trial_is_active_afterwards(one: Any) -> None:
    """study.optimize leaves nothing behind, also after an error."""
    study = make_study()
    with pytest.raises(StudyError) as caught:
        study.optimize(lambda: 1 / 0, trials=1, progress=False)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert active() is None


# ------------------------------------------------------------------ what only the script can mend


def optimize_with(pl: Any, study: Study, *callbacks: Any, size: int = 8, **settings: Any) -> None:
    """Search with further callbacks in the Trainer."""

    def train() -> None:
        trainer(pl, *callbacks, TuneCallback(), max_epochs=1, **settings).fit(make_net(pl)(), loader(size), loader())

    study.optimize(train, trials=5, progress=False)


def test_a_framework_that_refuses_an_injected_value(one: Any) -> None:
    """Its own error that names the value ends the study in the first trial, whose values are asked again."""
    schedule = one.callbacks.GradientAccumulationScheduler({0: 1, 1: 2})
    study = make_study({"accumulate_grad_batches": th.Choice([2, 4])})
    with pytest.raises(InjectionError) as caught:
        optimize_with(one, study, schedule)
    value = study.trials[0].params["accumulate_grad_batches"]
    assert str(caught.value).startswith(f"trainer.accumulate_grad_batches = {value} cannot be used: ")
    assert str(caught.value).endswith(
        "Either remove `accumulate_grad_batches` from the Trainer or remove the callback.\n"
        "  The framework says so before anything is measured, and would in every trial: remove what it names from the "
        "training, or take the name out of the space."
    )
    assert "`accumulate_grad_batches`" in str(caught.value.__cause__)
    assert study.counts() == {"failed": 1}
    assert study.ask().params == {"accumulate_grad_batches": value}


def test_a_training_that_is_not_set_up_well(one: Any) -> None:
    """What the framework calls a misconfiguration ends the study at once, also where no value of ours is named."""
    study = make_study()
    message = (
        "The framework refuses the training before anything is measured: MisconfigurationException: Cannot use "
        "`LearningRateMonitor` callback with `Trainer` that has no logger.\n"
        "  It would in every trial: mend the script and start it again."
    )
    with pytest.raises(TrialError, match=f"^{re.escape(message)}$"):
        optimize_with(one, study, one.callbacks.LearningRateMonitor())
    assert study.counts() == {"failed": 1}


def test_an_error_of_the_users_stays_one(one: Any) -> None:
    """Code of the user's that raises before the first step, and names a value, may succeed with others."""

    class Picky(one.Callback):  # type: ignore[misc]
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            raise ValueError("`accumulate_grad_batches` is too large")

    study = make_study({"accumulate_grad_batches": th.Choice([2, 4])})
    with pytest.raises(StudyError, match=r"^3 trials in a row failed"):
        optimize_with(one, study, Picky())
    assert study.counts() == {"failed": 3}


def test_a_value_that_only_some_trials_have(one: Any) -> None:
    """An error of the framework that names no value of ours, such as too few batches, is that trial's alone."""
    study = make_study({"batch_size": th.Choice([20, 4])}, search="grid")

    def train() -> None:
        made = trainer(one, TuneCallback(), max_epochs=1, val_check_interval=5)
        made.fit(make_net(one)(), loader(), loader())

    study.optimize(train, progress=False)
    assert study.counts() == {"failed": 1, "complete": 1}


@pytest.mark.slow
def test_a_framework_that_refuses_in_another_process(one: Any) -> None:
    """The same error, told by the process of the trial."""
    study = make_study({"accumulate_grad_batches": 4})
    schedule = one.callbacks.GradientAccumulationScheduler({0: 1, 1: 2})

    def train() -> None:
        # What would take a tenth of a second in each process was done in the one that they are forked from.
        assert "omegaconf" in sys.modules
        assert gc.get_threshold()[0] < 10_000
        assert signature_of(object.__init__) is signature_of(object.__init__)
        assert arguments._signature_in_c.cache_info().misses == 1
        made = trainer(one, schedule, TuneCallback(), max_epochs=1)
        made.fit(make_net(one)(), loader(), loader())

    with pytest.raises(InjectionError, match=r"^trainer\.accumulate_grad_batches = 4 cannot be used: "):
        study.optimize(train, trials=5, workers=1, progress=False)
    assert study.counts() == {"failed": 1}
