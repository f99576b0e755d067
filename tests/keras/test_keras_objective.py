"""An Optuna objective that makes Keras objects with the values of its trial."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import optuna

import tunehook as th
from keras_projects import QUIET, X, Y
from tunehook.integrations.keras import TuneCallback

pytestmark = QUIET


def script(callbacks: list[Any], units: int = 3, lr: float = 0.1, epochs: int = 1) -> list[Any]:
    """The last layer is half as wide as the first, and the schedule as long as the training."""
    keras.utils.set_random_seed(1)
    given = keras.Input((4,))
    hidden = keras.layers.Dense(units, name="hidden")(given)
    halved = keras.layers.Dense(hidden.shape[-1] // 2)(hidden)
    model = keras.Model(given, keras.layers.Dense(1)(halved))
    model.compile(keras.optimizers.SGD(learning_rate=lr), "mse")
    model.fit(X, Y, epochs=epochs, verbose=0, callbacks=callbacks)
    return [np.array(weight) for weight in model.get_weights()]


def test_an_objective_equals_the_script_with_the_values_typed_in() -> None:
    """Bit for bit, also what the script derives from a layer."""
    weights = []

    @th.objective
    def tune(trial: optuna.Trial) -> float:
        trial.suggest_int("hidden.units", 6, 6)
        trial.suggest_float("lr", 0.05, 0.05)
        trial.suggest_int("epochs", 2, 2)
        weights.append(script([TuneCallback(trial, metric="loss")]))
        return 0.0

    optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).optimize(tune, n_trials=2)
    wanted = script([], units=6, lr=0.05, epochs=2)
    for tuned in weights:
        assert [one.shape for one in tuned] == [one.shape for one in wanted]
        assert all(np.array_equal(one, other) for one, other in zip(tuned, wanted, strict=True))
