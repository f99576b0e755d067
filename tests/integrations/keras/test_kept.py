"""What a script makes once for all trials of Keras: its callbacks, and layers that draw random numbers."""

from __future__ import annotations

import time
from typing import Any

import keras
import pytest

import tunehook as th
from keras_projects import QUIET, X, Y, begin, study
from tunehook.integrations.keras import TuneCallback
from tunehook.trial.errors import TrialError

pytestmark = QUIET


class Stop(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Ends a fit whose loss is no better than the best that it has seen, and never resets itself."""

    def __init__(self) -> None:
        super().__init__()
        self.best = 1e9

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = logs["loss"] >= self.best
        self.best = min(self.best, logs["loss"])


class Limit(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Ends a fit that takes too long."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = time.monotonic() - self.began > 3600


class Notes(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Writes down the losses of all trials."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.losses.append(logs["loss"])


def tune(callbacks: list[Any], *others: Any) -> list[float]:
    """Two trials of two epochs, with these callbacks and layers in both; the losses of their last epochs."""
    losses: list[float] = []

    def train() -> None:
        losses.append(fit([*callbacks, TuneCallback()], *others))

    values = {"learning_rate": th.Choice([0.01])}
    study(values, search="random").optimize(train, trials=2, progress=False)
    return losses


def fit(callbacks: list[Any], *others: Any) -> float:
    """Train a model of these layers, and give the loss of its last epoch."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), *others, keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return float(model.fit(X, Y, epochs=2, verbose=0, callbacks=callbacks).history["loss"][-1])


@pytest.mark.parametrize(
    "make",
    [lambda: keras.callbacks.ModelCheckpoint("best.keras", monitor="loss", save_best_only=True), Stop],
    ids=["ModelCheckpoint", "own"],
)
def test_a_callback_that_carries_what_it_has_seen_to_the_next_trial(make: Any) -> None:
    """The best of another trial would decide what is kept, or when it stops: an error before the first step."""
    begin()
    kept = make()
    name = type(kept).__name__
    message = (
        rf"^{name} has been in the fit of another trial, and goes on from there: best=\S+\.\n"
        rf"  Make it in the training function: train is called for each trial, and so is {name}\(...\)\.$"
    )
    with pytest.raises(TrialError, match=message):
        tune([kept])


def test_callbacks_that_may_be_kept() -> None:
    """Those that begin anew with each fit, as Keras's own stoppers do, and those that only write down."""
    begin()
    stopper = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=0.001, restore_best_weights=True)
    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10.0)
    notes = Notes()
    first, second = tune([stopper, plateau, Limit(), notes, keras.callbacks.ModelCheckpoint("each.keras")])
    assert first == second
    assert notes.losses[:2] == notes.losses[2:]


def test_a_kept_layer_draws_the_same_numbers_in_each_trial() -> None:
    """So each trial is the script with its values typed in, also where the augmentation is made once."""
    begin()
    noise = [keras.layers.GaussianNoise(0.5, seed=3) for _ in range(2)]
    plain = fit([], keras.Sequential([noise[0]]))
    assert tune([], keras.Sequential([noise[1]])) == [plain, plain]
