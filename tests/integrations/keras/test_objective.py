"""An Optuna objective that makes Keras objects with the values of its trial."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import optuna
import pytest

import tunehook as th
from keras_projects import QUIET, X, Y
from tunehook.integrations.keras import TuneCallback

pytestmark = QUIET


def script(
    callbacks: list[Any], units: int = 3, lr: float = 0.1, epochs: int = 1, depth: int | None = None
) -> list[Any]:
    """The next layers are half as wide as the first, and how many of them the script reads itself."""
    keras.utils.set_random_seed(1)
    given = keras.Input((4,))
    hidden = keras.layers.Dense(units, name="hidden")(given)
    halved = hidden
    for _ in range(depth or th.value("depth", 1)):
        halved = keras.layers.Dense(hidden.shape[-1] // 2)(halved)
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
        trial.suggest_int("depth", 2, 2)
        trial.suggest_float("lr", 0.05, 0.05)
        trial.suggest_int("epochs", 2, 2)
        weights.append(script([TuneCallback(trial, metric="loss")]))
        return 0.0

    optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).optimize(tune, n_trials=2)
    wanted = script([], units=6, lr=0.05, epochs=2, depth=2)
    for tuned in weights:
        assert [one.shape for one in tuned] == [one.shape for one in wanted]
        assert all(np.array_equal(one, other) for one, other in zip(tuned, wanted, strict=True))


class Net(keras.Model):  # type: ignore[misc]
    """A model that takes the settings of the whole project, and reads one of them."""

    def __init__(self, config: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.last = keras.layers.Dense(config["width"]), keras.layers.Dense(1)

    def call(self, rows: Any) -> Any:
        """One hidden layer."""
        return self.last(self.first(rows))


@pytest.mark.parametrize("is_known", [True, False])
def test_settings_that_a_model_only_carries_come_last(is_known: bool) -> None:
    """A name that fit has too is fit's, also where the trial is known in fit only."""
    seen = []

    def fit(callback: Any) -> None:
        model = Net({"width": 3, "epochs": 7, "batch_size": 7})
        model.compile("sgd", "mse")
        history = model.fit(X, Y, epochs=1, verbose=0, callbacks=[callback])
        seen.append((model.first.units, len(history.history["loss"]), history.params["steps"]))

    space: dict[str, Any] = {"epochs": 2, "batch_size": 6}
    if is_known:
        study = th.Study("carries", {**space, "width": 4}, metric="loss", mode="min", search="random")
        study.optimize(lambda: fit(TuneCallback()), trials=1, progress=False)
        assert seen == [(4, 2, 2)]
    else:
        fit(TuneCallback(th.Study("carries", space, metric="loss", mode="min", search="random")))
        assert seen == [(3, 2, 2)]
