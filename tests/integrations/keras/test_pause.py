"""Keras trials that pause at rungs and go on: bit for bit those that were trained in one go."""

from __future__ import annotations

from typing import Any

import keras

import keras_projects as projects
import tunehook as th
from keras_projects import QUIET, X, Y
from tunehook.integrations.keras import TuneCallback
from tunehook.record.journal import read_journal

pytestmark = QUIET

EPOCHS = 6  # rungs after 3 and 4
RATES = [0.1, 0.01, 0.03, 0.003, 0.001, 0.05]


class Script:
    """A script that trains each of some learning rates, and what it came to.

    Args:
        options: Of the study.
    """

    def __init__(self, **options: Any) -> None:
        self.epochs: list[tuple[float, int]] = []  # that were trained, with their learning rate
        self.weights: dict[float, list[bytes]] = {}  # by learning rate, after the last fit of it
        self.study = projects.study(
            {"optimizer.learning_rate": th.Choice(RATES)}, metric="val_loss", objective="last", **options
        )

    def train(self) -> None:
        """The script."""
        projects.begin()
        model = keras.Sequential([
            keras.Input((4,)), keras.layers.Dense(5), keras.layers.Dropout(0.3), keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1, seed=7), keras.layers.Dense(1),
        ])  # fmt: skip
        model.compile(keras.optimizers.Adam(0.1), "mse")
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        rate = min(RATES, key=lambda one: abs(one - rate))
        count = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: self.epochs.append((rate, epoch)))
        model.fit(
            X, Y, batch_size=4, epochs=EPOCHS, validation_split=0.25, verbose=0, callbacks=[count, TuneCallback()]
        )
        variables = [*model.variables, *model.optimizer.variables]
        self.weights[rate] = [keras.ops.convert_to_numpy(one.value).tobytes() for one in variables]

    def run(self, **options: Any) -> Script:
        """The whole search."""
        self.study.optimize(self.train, progress=False, **options)
        return self

    def reports(self, number: int) -> list[tuple[int, dict[str, float]]]:
        """The reports in the journal of a trial."""
        events = read_journal(self.study.paths.journal(number))
        return [(event["step"], event["metrics"]) for event in events if event["event"] == "report"]


def test_what_pauses_goes_on_bit_for_bit() -> None:
    """The best third goes on from each rung; no epoch is trained twice, and all is as if in one go, models too."""
    whole, script = Script().run(), Script(stopper="pause", keep="best").run()
    assert {trial.outcome.state for trial in whole.study.trials} == {"complete"}
    numbers = {trial.params["optimizer.learning_rate"]: trial.number for trial in script.study.trials}

    def best(rates: list[float], rung: int) -> list[float]:
        return sorted(rates, key=lambda rate: whole.reports(numbers[rate])[rung - 1][1]["val_loss"])

    second = best(RATES, 3)[:2]
    (last, *_) = best(second, 4)
    expected = {rate: EPOCHS if rate == last else 4 if rate in second else 3 for rate in RATES}
    assert {rate: len(script.reports(number)) for rate, number in numbers.items()} == expected
    assert script.study.counts() == {"paused": 5, "complete": 1}
    assert script.study.best.params == {"optimizer.learning_rate": last}
    assert sorted(script.epochs) == sorted((rate, epoch) for rate in RATES for epoch in range(expected[rate]))
    for number in numbers.values():
        reports = script.reports(number)
        assert reports == whole.reports(number)[: len(reports)]
    assert script.weights[last] == whole.weights[last]
    model = script.study.best_model()
    kept = [keras.ops.convert_to_numpy(one.value).tobytes() for one in [*model.weights, *model.optimizer.variables]]
    assert {*kept} < {*whole.weights[last]}  # all but the seeds, which Keras does not save
