"""Lightning trials that are interrupted and go on from their checkpoint: bit for bit those that were not."""

from __future__ import annotations

import errno
import functools
import itertools
import json
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from lightning_projects import seed, trainer
from sealed import seal
from tunehook.integrations.lightning import TuneCallback
from tunehook.record.journal import read_journal
from tunehook.session import checkpoints as checkpoint
from tunehook.session.in_progress import active

pytestmark = pytest.mark.filterwarnings("ignore")

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each epoch: what it costs is tested with the pace."""
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)


class Project:
    """A project in one namespace: a net with dropout and noise of its own, data in an order of their own.

    Args:
        pl: The namespace.
        at: The epoch in which the first attempt is interrupted, after two batches; ``None`` for never.
        settings: Of the Trainer.
    """

    def __init__(self, pl: Any, at: int | None, **settings: Any) -> None:
        self.pl, self.at, self.settings = pl, at, {"max_epochs": 5, **settings}
        self.callbacks: Callable[[], list[Any]] = list
        self.schedule: Callable[[Any], Any] = lambda one: torch.optim.lr_scheduler.StepLR(one, 2)
        self.interval = "epoch"
        self.automatic = True
        self.before: Callable[[], object] = lambda: None
        self.ckpt_path: str | None = None
        self.space: dict[str, Any] = {"hidden": th.Choice([6]), "lr": th.Choice([0.05])}
        self.studies: dict[str, th.Study] = {}
        self.loader: Callable[[Any], Any] = lambda data: DataLoader(data, 8, shuffle=True)
        self.fitted: list[Any] = []

    def net(self) -> type:
        """The class of the module."""
        project = self

        class Net(self.pl.LightningModule):  # type: ignore[name-defined,misc]
            def __init__(self, hidden: int = 5, lr: float = 0.1) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.automatic_optimization = project.automatic
                self.net = nn.Sequential(
                    nn.Linear(4, hidden), nn.Dropout(0.2), nn.BatchNorm1d(hidden), nn.Linear(hidden, 1)
                )

            def training_step(self, batch: Any, index: int) -> Any:
                session = active()
                is_first = session is not None and session.trial.attempt == 0
                if is_first and index == 2 and self.current_epoch == project.at:
                    raise KeyboardInterrupt
                noise = np.random.normal() + torch.randn(())
                loss = nn.functional.mse_loss(self.net(batch[0]) + 0.01 * noise, batch[1])
                self.log("train", loss, on_epoch=True, on_step=False)
                if not project.automatic:
                    self.optimizers().zero_grad()
                    self.manual_backward(loss)
                    self.optimizers().step()
                return loss

            def validation_step(self, batch: Any, index: int) -> None:
                self.log("val", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

            def on_train_epoch_end(self) -> None:
                self.log("late", float(self.current_epoch))

            def configure_optimizers(self) -> Any:
                made = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=0.9)
                found = project.schedule(made)
                return [made], [{"scheduler": found, "interval": project.interval, "monitor": "val", "strict": False}]

        return Net

    def train(self) -> None:
        """The script."""
        self.before()
        seed()
        data = TensorDataset(torch.randn(40, 4), torch.randn(40, 1))
        net = self.net()()
        fit = trainer(self.pl, TuneCallback(), *self.callbacks(), **self.settings)
        self.fitted.append((net, fit))
        fit.fit(net, self.loader(data), DataLoader(data, 16), ckpt_path=self.ckpt_path)

    def study(self, folder: str) -> th.Study:
        """A study of one trial, in memory: its values are other ones than the script's."""
        if folder not in self.studies:
            self.studies[folder] = th.Study(
                "s", self.space, metric="val", mode="min", search="grid", folder=folder,
                storage=optuna.storages.InMemoryStorage(),
            )  # fmt: skip
        return self.studies[folder]

    def run(self, folder: str, **options: Any) -> Run:
        """The whole search; the script is started again where it is interrupted."""
        study = self.study(folder)
        for _ in range(1 if self.at is None else 2):
            try:
                study.optimize(self.train, trials=1, progress=False, **{"retries": 2, **options})
            except (KeyboardInterrupt, SystemExit):
                assert self.at is not None
        return Run(study, self.fitted[-1])


class Run:
    """What a search came to."""

    def __init__(self, study: th.Study, fitted: tuple[Any, Any]) -> None:
        self.study, (net, self.fit), self.random = study, fitted, torch.get_rng_state()
        self.weights = [tensor.detach().clone() for tensor in net.state_dict().values()]
        optimizers = [one.state_dict() for one in self.fit.optimizers]
        schedulers = [config.scheduler.state_dict() for config in self.fit.lr_scheduler_configs]
        self.kept = json.dumps([optimizers, schedulers], default=lambda one: getattr(one, "tolist", lambda: str(one))())
        self.best = (study.best.value, study.best.outcome.step)
        number = study.best.number
        self.values = study.optuna.trials[number].intermediate_values
        self.events = [*read_journal(study.paths.journal(number))]
        self.reports = [(event["step"], event["metrics"]) for event in self.events if event["event"] == "report"]

    @property
    def went_on(self) -> list[int]:
        """After which steps it went on."""
        return [event["step"] for event in self.events if event["event"] == "continue"]


def assert_same(one: Run, two: Run) -> None:
    """The weights, all that optimizers and schedulers keep, each report, the values in Optuna, and the best one."""
    for first, second in zip(one.weights, two.weights, strict=True):
        assert torch.equal(first, second)
    assert one.kept == two.kept
    assert one.reports == two.reports
    assert one.values == two.values
    assert one.best == two.best
    assert (one.fit.global_step, one.fit.current_epoch) == (two.fit.global_step, two.fit.current_epoch)
    assert torch.equal(one.random, two.random)


def both(pl: Any, change: Callable[[Project], None] = lambda project: None, *, at: int = 3, **settings: Any) -> Run:
    """The interrupted search, which is checked to equal the one that was not."""
    runs = []
    for name, when in (("whole", None), ("interrupted", at)):
        project = Project(pl, when, **settings)
        change(project)
        runs.append(project.run(f"{name}-{next(_numbers)}"))
    assert not runs[0].went_on
    assert_same(*runs)
    assert not left()
    return runs[1]


def left() -> list[Path]:
    """The files of checkpoints that lie about."""
    return [path for path in Path().rglob("checkpoints/**/*") if path.is_file()]


def test_it_goes_on_bit_for_bit(pl: Any) -> None:
    """Data order, dropout, noise, optimizer, scheduler and metrics are those of a training that nobody interrupted."""
    run = both(pl)
    assert run.went_on == [3]
    assert [trial.outcome.state for trial in run.study.trials] == ["interrupted", "complete"]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_epochs": -1, "max_steps": 23},
        {"val_check_interval": 0.5},
        {"check_val_every_n_epoch": 2, "max_epochs": 6},
        {"accumulate_grad_batches": 3},
        {"reload_dataloaders_every_n_epochs": 1},
        {"limit_train_batches": 3},
        {"num_sanity_val_steps": 0},
        {"check_val_every_n_epoch": None, "val_check_interval": 7},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_it_goes_on_with_settings_of_the_trainer(one: Any, settings: dict[str, Any]) -> None:
    """Wherever the limits and the validations lie."""
    assert both(one, **settings).went_on


def test_it_goes_on_with_schedules_of_steps_and_of_metrics(one: Any) -> None:
    """A schedule that changes lr and momentum after each step, and one that looks at a metric."""

    def cycle(project: Project) -> None:
        project.interval = "step"
        project.schedule = lambda made: torch.optim.lr_scheduler.OneCycleLR(made, 0.1, total_steps=25)

    def plateau(project: Project) -> None:
        project.schedule = lambda made: torch.optim.lr_scheduler.ReduceLROnPlateau(made, patience=0)

    assert both(one, cycle).went_on == [3]
    # The epoch after the checkpoint validates nothing, so the schedule looks at the metric of the one before.
    assert both(one, plateau, at=4, check_val_every_n_epoch=2, max_epochs=6).went_on == [2]


def test_callbacks_and_generators_of_the_training_go_on(one: Any) -> None:
    """Patience, the best model of a run of another folder, and random numbers of a generator of the training's own."""

    class Noisy(TensorDataset):
        def __init__(self, *tensors: Any) -> None:
            super().__init__(*tensors)
            self.random = np.random.default_rng(5)

        def __getitem__(self, index: Any) -> Any:
            x, y = super().__getitem__(index)  # type: ignore[no-untyped-call]
            return x + float(self.random.normal()), y

    def change(project: Project) -> None:
        folders = itertools.count()
        project.loader = lambda data: DataLoader(
            Noisy(*data.tensors), 8, shuffle=True, generator=torch.Generator().manual_seed(1)
        )
        project.callbacks = lambda: [
            one.callbacks.EarlyStopping("val", patience=4),
            # The first epoch is the best one.
            one.callbacks.ModelCheckpoint(
                f"best-{id(project)}-{next(folders)}", monitor="late", filename="{epoch}", save_on_train_epoch_end=True
            ),
            Sane(checked),
        ]

    checked: list[int] = []
    settings = {"max_epochs": 8, "enable_checkpointing": True}
    runs = []
    for when in (None, 3):
        project = Project(one, when, **settings)
        change(project)
        runs.append(project.run(f"callbacks-{when}"))
    assert_same(*runs)
    assert runs[1].went_on == [3]
    stops, keeps = zip(*([run.fit.early_stopping_callback, run.fit.checkpoint_callback] for run in runs), strict=True)
    assert stops[0].state_dict() == stops[1].state_dict()
    assert [Path(keep.best_model_path).name for keep in keeps] == ["epoch=0.ckpt"] * 2
    assert checked == [0, 0]  # the second attempt has no sanity check, which would run into what was restored
    assert keeps[0].best_model_score == keeps[1].best_model_score


def test_patience_that_ran_out_goes_on(one: Any) -> None:
    """A training that shall stop trains on to its least number of epochs, and stops there, whatever it measures."""

    def patient(project: Project) -> None:
        class Once(one.callbacks.Callback):  # type: ignore[misc]
            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                trainer.should_stop |= trainer.current_epoch == 1

        project.callbacks = lambda: [Once()]

    assert both(one, patient, min_epochs=4, max_epochs=9).fit.current_epoch == 4


def test_manual_optimization_goes_on(one: Any) -> None:
    """Between two epochs a module with loops of its own has nothing else either."""

    def manual(project: Project) -> None:
        project.automatic = False

    assert both(one, manual).went_on == [3]


class Look(Callback):
    """Notes in each epoch which files of checkpoints there are."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append(left())


class Sane(Callback):
    """Notes in which attempts the sanity check runs."""

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        session = active()
        assert session is not None
        self.seen.append(session.trial.attempt)


def first_fit(project: Project) -> None:
    """Another fit in the same trial, whose checkpoints are dropped as the second one begins."""
    data = TensorDataset(torch.randn(16, 4), torch.randn(16, 1))
    fit = trainer(project.pl, TuneCallback(), max_epochs=1)
    fit.fit(project.net()(), DataLoader(data, 8), DataLoader(data, 8))


def interrupted(project: Project, folder: str) -> Path:
    """The checkpoint of a search whose first attempt was interrupted."""
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        project.study(folder).optimize(project.train, trials=1, retries=2, progress=False)
    (file,) = [path for path in left() if path.suffix == ".ckpt"]
    return file


def go_on(project: Project, folder: str, **options: Any) -> Run:
    """The script, started again."""
    project.at = None
    return project.run(folder, **options)


@pytest.mark.parametrize("damage", ["cut", "shape", "optimizer", "versions", "journal"])
def test_it_starts_over_where_it_cannot_go_on(one: Any, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """The trial then equals one that was not interrupted, and a line says why."""
    whole = Project(one, None).run("whole")
    project = Project(one, 3)
    file = interrupted(project, "damaged")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
        why = "the files of its checkpoint 000-000000002 are not those that were written"
    elif damage == "journal":
        journal = Path("damaged/trial-0000/journal.jsonl")
        journal.write_text("".join(line for line in journal.open() if '"step": 2' not in line))
        why = "the journal of trial 0 has not all of its reports"
    else:
        kept = torch.load(file, weights_only=False)
        if damage == "shape":
            kept["state_dict"]["net.3.weight"] = torch.zeros(2, 2)
            why = "RuntimeError: Error(s) in loading state_dict for Net"
        elif damage == "optimizer":
            kept["optimizer_states"][0]["param_groups"] = []
            why = "ValueError: loaded state dict has a different number of parameter groups"
        else:
            mine = pickle.loads(kept["tunehook"])
            kept["tunehook"] = pickle.dumps({**mine, "made_by": "lightning 1.0"})
            why = "it was made by lightning 1.0"
        torch.save(kept, file)
        seal(file.parent)
    caplog.clear()
    run = go_on(project, "damaged")
    assert not run.went_on
    assert_same(whole, run)
    (said,) = [record.getMessage() for record in caplog.records if "starts over" in record.getMessage()]
    assert said.startswith("trial-0001 starts over: ")
    assert why in said
    assert "\n" not in said
    assert [event["text"] for event in run.events if event["event"] == "problem"] == [said.removesuffix(".")]


def test_nothing_is_kept_unless_retries_is_set(one: Any) -> None:
    """Neither by default nor with retries=0; a checkpoint that lies there from before is not used, and goes away."""
    project = Project(one, 3)
    for retries in (None, 0):
        folder = f"plain-{retries}"
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            project.study(folder).optimize(project.train, trials=1, progress=False, retries=retries)
        assert not left()
    interrupted(project, "later")
    run = go_on(project, "later", retries=None)
    assert not run.went_on
    assert not left()


def test_a_checkpoint_goes_away_with_the_last_attempt(one: Any) -> None:
    """An interrupted trial whose values are not asked again needs none."""
    project = Project(one, 2)
    interrupted(project, "last")
    study = project.study("last")

    def train() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.optimize(train, trials=1, retries=1, progress=False)
    assert not left()


@pytest.mark.parametrize("reason", ["path", "fits", "finder"])
def test_where_it_could_not_go_on_exactly_none_is_kept(one: Any, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """A line says so."""
    project = Project(one, None, max_epochs=2)
    if reason == "path":
        project.train()
        project.fitted[0][1].save_checkpoint("mine.ckpt")
        project.space = {"lr": th.Choice([0.1])}
        project.ckpt_path, why = "mine.ckpt", "the fit begins from a checkpoint of yours, mine.ckpt"
        project.settings["max_epochs"] = 4
    elif reason == "fits":
        project.before, why = functools.partial(first_fit, project), "it has more than one fit"
    else:
        finder = one.callbacks.LearningRateFinder
        project.callbacks = lambda: [finder(num_training_steps=3, update_attr=False)]
        why = "a LearningRateFinder trains before the fit"
    seen: list[Any] = []
    project.callbacks, callbacks = lambda: [*callbacks(), Look(seen)], project.callbacks
    run = project.run("not-exact")
    (said,) = [record.getMessage() for record in caplog.records if "no checkpoints" in record.getMessage()]
    assert said == f"no checkpoints of trial-0000, which starts over if it is interrupted: {why}."
    assert not any(seen)
    assert run.best


def test_a_disk_that_is_full_ends_no_training(
    one: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, the checkpoint before is left whole, and the next attempt goes on from that."""
    whole = Project(one, None).run("whole")
    project = Project(one, 4)
    save, calls = torch.save, itertools.count(1)

    def full(state: Any, file: Any, **options: Any) -> None:
        save(state, file, **options)
        if isinstance(file, Path) and next(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        interrupted(project, "full")
    (said,) = [record.getMessage() for record in caplog.records if "No space" in record.getMessage()]
    assert said.startswith("a checkpoint of trial-0000 could not be kept: [Errno 28] No space left on device; ")
    run = go_on(project, "full")
    assert run.went_on == [2]
    assert_same(whole, run)


def test_one_that_cannot_be_pickled_is_told(one: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The training goes on without."""

    class Odd(one.callbacks.Callback):  # type: ignore[misc]
        def state_dict(self) -> Any:
            return {"odd": lambda: None}

    project = Project(one, None)
    project.callbacks = lambda: [Odd()]
    assert project.run("odd").best
    (said,) = [record.getMessage() for record in caplog.records if "no checkpoints" in record.getMessage()]
    assert "it could not be saved" in said


@pytest.mark.parametrize("moment", ["on_train_batch_end", "on_validation_end", "on_train_epoch_end"])
def test_sigterm_ends_the_epoch_and_saves(one: Any, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it can go on exactly, whatever the pace says; nothing more is trained after it."""
    monkeypatch.setattr(checkpoint, "SHARE", 0.0)
    whole = Project(one, None).run("whole")

    def stop(self: Any, trainer: Any, *_: Any) -> None:
        session = active()
        if session is not None and session.trial.attempt == 0 and (trainer.current_epoch, self.sent) == (2, False):
            self.sent = True
            os.kill(os.getpid(), signal.SIGTERM)

    stopping = type("Stop", (one.callbacks.Callback,), {"sent": False, moment: stop})
    project = Project(one, None)
    project.callbacks = lambda: [stopping()]
    interrupted(project, "signal")
    assert len(project.studies["signal"].optuna.trials[0].intermediate_values) == 3
    run = go_on(project, "signal")
    assert run.went_on == [3]
    assert_same(whole, run)


def test_a_checkpoint_is_read_without_running_code(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch can: all but what is ours, whose digest the journal has."""
    read, load = [], torch.load

    def note(*args: Any, **options: Any) -> Any:
        read.extend([options["weights_only"]] if isinstance(args[0], Path) else [])
        return load(*args, **options)

    project = Project(one, 3)
    interrupted(project, "plain")
    monkeypatch.setattr(torch, "load", note)
    assert go_on(project, "plain").went_on
    assert read == [True]


class OnDevice(torch.Tensor):
    """A metric that lies on a device: only a copy of it on the CPU can be read where there is no such device."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise AssertionError("It is written with its device.")

    def to(self, device: Any) -> Any:  # type: ignore[override]
        """The copy."""
        assert torch.device(device).type == "cpu"
        return self.detach().as_subclass(torch.Tensor)


def test_metrics_of_a_device_are_read_without_it(one: Any) -> None:
    """They are written from the CPU, as the weights are read; what is no tensor stays as it is."""

    def log(trainer: Any) -> None:
        trainer.callback_metrics.update(loss=torch.tensor(1.5).as_subclass(OnDevice), count=3)

    def change(project: Project) -> None:
        project.callbacks = lambda: [one.callbacks.LambdaCallback(on_train_epoch_end=lambda trainer, _: log(trainer))]

    run = both(one, change)
    assert run.went_on == [3]
    kept = dict(run.fit.callback_metrics)
    assert (float(kept["loss"]), kept["count"]) == (1.5, 3)
