"""Keras trials that are interrupted and go on from their checkpoint: bit for bit those that were not."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import keras_projects as projects
import tunehook as th
from keras_projects import ONCE, QUIET, X, Y
from sealed import seal
from tunehook.integrations.keras import TuneCallback
from tunehook.record.journal import read_journal
from tunehook.session import checkpoints as checkpoint
from tunehook.session.in_progress import active
from tunehook.system.signals import Terminated

pytestmark = QUIET

EPOCHS = 6


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after each epoch: what it costs is tested with the pace."""
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)


class Interrupt(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Ctrl-C in the middle of an epoch of the first attempt, and a count of its own.

    Args:
        at: The epoch, from 0; ``None`` for never.
    """

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.at, self.epoch, self.batches = at, 0, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Interrupt."""
        self.batches += 1
        session = active()
        is_first = session is not None and session.trial.attempt == 0
        if is_first and self.epoch == self.at and batch == 1:
            raise KeyboardInterrupt


def net(outputs: int = 1) -> Any:
    """A model with batch normalization, and with dropout, which draws from the backend and from a seed of its own."""
    return keras.Sequential([
        keras.Input((4,)), keras.layers.Dense(5, name="hidden"), keras.layers.Dropout(0.3),
        keras.layers.BatchNormalization(), keras.layers.Dropout(0.1, seed=7), keras.layers.Dense(outputs),
    ])  # fmt: skip


class Script:
    """A script that trains, and what it came to.

    Args:
        at: The epoch in which the first attempt is interrupted.
        make: Makes the model.
        callbacks: Makes further callbacks.
        study: Further arguments of the study.
        fit: Further arguments of ``fit``.
    """

    def __init__(
        self,
        at: int | None,
        make: Callable[[], Any] = net,
        callbacks: Callable[[], list[Any]] = list,
        study: dict[str, Any] | None = None,
        **fit: Any,
    ) -> None:
        self.at, self.make, self.callbacks = at, make, callbacks
        self.fit = {"x": X, "y": Y, "batch_size": 4, "epochs": EPOCHS, "validation_split": 0.25, **fit}
        self.model: Any = None
        self.history: Any = None
        self.others: list[Any] = []
        self.study = projects.study({"optimizer.learning_rate": 0.02}, **{"metric": "loss", **(study or {})})

    def train(self) -> None:
        """The script."""
        projects.begin()
        self.model = self.make()
        self.model.compile(keras.optimizers.Adam(0.1), "mse")
        self.others = [Interrupt(self.at), *self.callbacks()]
        self.history = self.model.fit(**self.fit, verbose=0, callbacks=[*self.others, TuneCallback()])

    def run(self, **options: Any) -> Script:
        """The whole search; the script is started again where it is interrupted."""
        for _ in range(1 if self.at is None else 2):
            try:
                self.study.optimize(self.train, trials=1, progress=False, **{"retries": 2, **options})
            except KeyboardInterrupt:
                assert self.at is not None
        return self

    @property
    def events(self) -> list[dict[str, Any]]:
        """The journal of the trial that is complete."""
        return [*read_journal(self.study.paths.journal(self.study.best.number))]

    @property
    def went_on(self) -> list[int]:
        """After which measurements it went on."""
        return [event["step"] for event in self.events if event["event"] == "continue"]

    @property
    def result(self) -> dict[str, Any]:
        """All that there is to compare."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        values = [keras.ops.convert_to_numpy(one.value) for one in variables]
        best = self.study.best
        return {
            "variables": [value.tobytes() for value in values],
            "reports": [(event["step"], event["metrics"]) for event in self.events if event["event"] == "report"],
            "values": self.study.optuna.trials[best.number].intermediate_values,
            "best": (best.value, best.outcome.step),
            "epochs": self.history.epoch,
            "history": dict(sorted(self.history.history.items())),
            "batches": self.others[0].batches,
        }


def left() -> list[Path]:
    """The files of checkpoints that lie about."""
    return [path for path in Path().rglob("checkpoints/**/*") if path.is_file()]


def test_it_goes_on_bit_for_bit() -> None:
    """Weights, moments, data order, dropout, the learning rate, patience, the best weights, and the history.

    And the model that is kept: here that of the first epoch, by the attempt that was interrupted.
    """

    def callbacks() -> list[Any]:
        return [
            keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, min_delta=0.05),
            keras.callbacks.EarlyStopping("val_loss", min_delta=0.01, patience=9, restore_best_weights=True),
        ]

    kept = {"keep": "best", "metric": "val_loss", "mode": "max"}
    whole = Script(None, callbacks=callbacks, study=kept).run()
    script = Script(3, callbacks=callbacks, study=kept).run()
    assert (whole.went_on, script.went_on) == ([], [3])
    assert script.result == whole.result
    for one, two in zip(whole.others[1:], script.others[1:], strict=True):
        assert (one.wait, one.best, one.min_delta) == (two.wait, two.best, two.min_delta)
    assert whole.others[2].best_epoch == script.others[2].best_epoch
    assert [trial.outcome.state for trial in script.study.trials] == ["interrupted", "complete"]
    assert script.model._initial_epoch is None
    assert not left()
    assert [path.name for path in script.study.paths.models.rglob("*.*")] == ["step-0001.keras"]
    for model in (script.study.best_model(), script.study.best_model(script.train)):
        assert model.evaluate(X[9:], Y[9:], batch_size=4, verbose=0) == script.study.best.value


def interrupted(script: Script) -> tuple[Path, Path]:
    """The checkpoint's weights, and the rest, of a search whose first attempt was interrupted."""
    with pytest.raises(KeyboardInterrupt):
        script.study.optimize(script.train, trials=1, retries=2, progress=False)
    files = {path.suffix: path for path in left()}
    return files[".h5"], files[".pickle"]


@pytest.mark.parametrize("damage", ["weights", "rest", "shape", "versions"])
@pytest.mark.parametrize("_", [pytest.param(0, marks=ONCE)])
def test_it_starts_over_where_it_cannot_go_on(_: int, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """The trial then equals one that was not interrupted, and a line says why."""
    whole = Script(None).run()
    script = Script(3)
    weights, rest = interrupted(script)
    if damage == "weights":
        weights.write_bytes(weights.read_bytes()[:3000])
    elif damage == "rest":
        rest.write_bytes(rest.read_bytes()[:-10])
    elif damage == "shape":
        net(outputs=2).save_weights(weights, overwrite=True)  # the first layers fit
    else:
        rest.write_bytes(pickle.dumps({**pickle.loads(rest.read_bytes()), "made_by": "Keras 3.0"}))
    if damage != "rest":
        seal(rest.parent)
    caplog.clear()
    script.at = None
    script.run()
    assert not script.went_on
    assert script.result == whole.result
    (said,) = [record.getMessage() for record in caplog.records if "starts over" in record.getMessage()]
    why = "the files of its checkpoint" if damage == "rest" else "its checkpoint cannot be restored: "
    assert said.startswith(f"trial-0001 starts over: {why}")
    assert "\n" not in said
    assert [event["text"] for event in script.events if event["event"] == "problem"] == [said.removesuffix(".")]


class Own(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class that its first batch builds, on TensorFlow.

    Args:
        says: Whether it says with what it was built.
    """

    def __init__(self, *, says: bool) -> None:
        super().__init__(name="own")
        self.says = says
        self.layers_of_batch = [keras.layers.Dense(5), keras.layers.Dropout(0.3), keras.layers.Dense(1)]

    def call(self, inputs: Any, training: bool = False) -> Any:
        """A dropout between two layers."""
        first, drop, last = self.layers_of_batch
        return last(drop(first(inputs), training=training))

    def get_build_config(self) -> Any:
        """Its shapes."""
        return super().get_build_config() if self.says else None


def late() -> Any:
    """A stack that is not told its input."""
    return keras.Sequential([keras.layers.Dense(5), keras.layers.Dropout(0.3), keras.layers.Dense(1)])


@pytest.mark.parametrize(
    ("make", "says"), [(late, True), (lambda: Own(says=True), True), (lambda: Own(says=False), False)]
)
def test_a_model_that_its_first_batch_builds(
    make: Callable[[], Any], says: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on where Keras can build it before, and else starts over; in both it comes to the same."""
    whole, script = (Script(at, make).run() for at in (None, 3))
    assert script.result == whole.result
    assert [one.path for one in script.model.weights] == [one.path for one in whole.model.weights]
    is_built_late = keras.backend.backend() == "tensorflow"
    assert script.went_on == ([] if is_built_late and not says else [3])
    assert ("4 weights, and this one 0 before its first batch" in caplog.text) == (is_built_late and not says)


@pytest.mark.parametrize("_", [pytest.param(0, marks=ONCE)])
def test_data_of_the_training_go_on(_: int) -> None:
    """A loader with a generator of its own, and noise that a dataset draws from another one."""
    import torch

    class Noisy(torch.utils.data.Dataset[Any]):
        def __init__(self) -> None:
            self.random = np.random.default_rng(5)

        def __len__(self) -> int:
            return len(X)

        def __getitem__(self, index: int) -> Any:
            return X[index] + self.random.normal(size=4).astype("float32"), Y[index]

    def loader() -> Any:
        return torch.utils.data.DataLoader(Noisy(), 4, shuffle=True, generator=torch.Generator().manual_seed(2))

    class Fresh(Script):
        def train(self) -> None:
            self.fit.update(x=loader(), y=None, batch_size=None, validation_split=0.0, shuffle=False)
            super().train()

    whole, script = Fresh(None).run(), Fresh(3).run()
    assert script.went_on == [3]
    assert script.result == whole.result


@pytest.mark.parametrize("_", [pytest.param(0, marks=ONCE)])
def test_nothing_is_kept_unless_retries_is_set(_: int) -> None:
    """Neither by default nor with retries=0."""
    for retries in (None, 0):
        script = Script(3)
        with pytest.raises(KeyboardInterrupt):
            script.study.optimize(script.train, trials=1, progress=False, retries=retries)
        assert not left()


@pytest.mark.parametrize("reason", ["fits", "backup"])
@pytest.mark.parametrize("_", [pytest.param(0, marks=ONCE)])
def test_where_it_could_not_go_on_exactly_none_is_kept(_: int, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """A line says so."""
    numbers = itertools.count()

    def backup() -> list[Any]:
        return [keras.callbacks.BackupAndRestore(f"backup-{next(numbers)}")] if reason == "backup" else []

    class Twice(Script):
        def train(self) -> None:
            super().train()
            if reason == "fits":
                self.model.fit(X, Y, epochs=2, verbose=0, callbacks=[TuneCallback(), Look()])

    class Look(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            assert not left()

    why = {"fits": "it has more than one fit", "backup": "a BackupAndRestore of yours does it"}[reason]
    assert Twice(None, callbacks=backup, epochs=2).run().study.best
    (said,) = [record.getMessage() for record in caplog.records if "no checkpoints" in record.getMessage()]
    assert said == f"no checkpoints of trial-0000, which starts over if it is interrupted: {why}."
    assert not left()


@pytest.mark.parametrize("_", [pytest.param(0, marks=ONCE)])
def test_a_disk_that_is_full_ends_no_training(
    _: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, and the next attempt goes on from the checkpoint before."""
    whole, script = Script(None).run(), Script(4)
    save, calls = keras.Model.save_weights, itertools.count(1)

    def full(self: Any, path: Any, **options: Any) -> None:
        save(self, path, **options)
        if next(calls) > 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save_weights", full)
        interrupted(script)
    assert sum("No space" in record.getMessage() for record in caplog.records) == 1
    script.at = None
    assert script.run().went_on == [2]
    assert script.result == whole.result


@pytest.mark.parametrize("_", [pytest.param(0, marks=ONCE)])
def test_a_space_of_layers_goes_on(_: int) -> None:
    """A layer that is constructed again has its weights and its seeds in the checkpoint."""
    results = []
    for at in (None, 3):
        script = Script(at)
        script.study = projects.study({"layer.hidden.units": th.Choice([7]), "layer.dropout.rate": 0.5}, metric="loss")
        results.append(script.run().result)
    assert results[0] == results[1]


class Stop(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """A SIGTERM in the third epoch of the first attempt."""

    epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Send it."""
        session = active()
        if session is not None and session.trial.attempt == 0 and (self.epoch, batch) == (2, 0):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("_", [pytest.param(0, marks=ONCE)])
def test_sigterm_ends_the_epoch_and_saves(_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that is soon, whatever the pace says."""
    monkeypatch.setattr(checkpoint, "SHARE", 0.0)

    whole, script = Script(None).run(), Script(None, callbacks=lambda: [Stop()])
    with pytest.raises(Terminated):
        script.study.optimize(script.train, trials=1, retries=2, progress=False)
    assert len(script.study.optuna.trials[0].intermediate_values) == 3
    assert script.run().went_on == [3]
    assert script.result == whole.result


@pytest.mark.parametrize("_", [pytest.param(0, marks=ONCE)])
def test_sigterm_ends_the_epoch_where_no_checkpoints_are_kept_any_more(_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does where they are: the next epoch does not begin."""

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("It cannot be saved.")

    monkeypatch.setattr(keras.Model, "save_weights", fail)
    script = Script(None, callbacks=lambda: [Stop()])
    with pytest.raises(Terminated):
        script.study.optimize(script.train, trials=1, retries=2, progress=False)
    assert len(script.study.optuna.trials[0].intermediate_values) == 3
