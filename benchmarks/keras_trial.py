"""What tuning adds to a Keras trial: a digits fit of 5 epochs, bare, with tunehook, and with KerasTuner.

Every variant trains the same model on the backend in KERAS_BACKEND (default: torch); the sampled values are so close to
those of the bare fit that each does the same work.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import keras_tuner
import optuna
from optuna.storages import InMemoryStorage
from side_by_side import print_ratios, side_by_side
from sklearn.datasets import load_digits

import tunehook as th
from tunehook.integrations.keras import TuneCallback

_DIGITS = load_digits()
_PIXELS, _LABELS = (_DIGITS.data / 16.0).astype("float32"), _DIGITS.target
_TRAIN, _VAL = (_PIXELS[:1347], _LABELS[:1347]), (_PIXELS[1347:], _LABELS[1347:])

# Sampled as usual, but so narrow that each trial does the work of the bare one.
SPACE = {
    "learning_rate": th.Float(1e-3, 1.1e-3, log=True),
    "rate": th.Float(0.1, 0.11),
    "hidden.units": th.Int(65, 66),
    "batch_size": th.Choice([32, 33]),
}


def build(units: int = 65, rate: float = 0.1, learning_rate: float = 1e-3) -> keras.Model:
    """One hidden layer, compiled."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(units, activation="relu", name="hidden"),
            keras.layers.Dropout(rate),
            keras.layers.Dense(10, name="digit"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    return model


def fit(*callbacks: keras.callbacks.Callback, epochs: int = 5) -> None:
    """One training from scratch."""
    keras.utils.set_random_seed(0)
    model = build()
    model.fit(*_TRAIN, batch_size=32, epochs=epochs, validation_data=_VAL, verbose=0, callbacks=list(callbacks))


class Hyper(keras_tuner.HyperModel):  # type: ignore[misc] # KerasTuner has no types
    """The same as KerasTuner's documentation writes it."""

    def build(self, hp: Any) -> keras.Model:
        """The model with the values of the trial."""
        keras.utils.set_random_seed(0)
        return build(
            hp.Int("units", 65, 66),
            hp.Float("rate", 0.1, 0.11),
            hp.Float("learning_rate", 1e-3, 1.1e-3, sampling="log"),
        )

    def fit(self, hp: Any, model: keras.Model, *args: Any, **kwargs: Any) -> Any:
        """The batch size is tuned in here."""
        return model.fit(*args, batch_size=hp.Choice("batch_size", [32, 33]), **kwargs)


def with_keras_tuner(folder: str, number: int) -> None:
    """One trial of a random search; a tuner cannot be asked for one more, so each is its own."""
    tuner = keras_tuner.RandomSearch(
        Hyper(), objective="val_accuracy", max_trials=1, seed=number, directory=folder, project_name=str(number)
    )
    tuner.search(*_TRAIN, epochs=5, validation_data=_VAL, verbose=0)


def with_study(study: th.Study) -> None:
    """One more trial, known before its objects are made."""
    study.optimize(lambda: fit(TuneCallback()), trials=study.finished + 1, progress=False)


def main(rounds: int) -> None:
    """Run the variants in turn."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    options: dict[str, Any] = {"metric": "val_accuracy", "mode": "max", "search": "random", "seed": 0}
    on_disk = th.Study("disk", SPACE, **options)
    in_memory = th.Study("memory", SPACE, storage=InMemoryStorage(), **options)
    numbers = iter(range(10**6))
    times = side_by_side(
        {
            "bare": fit,
            "tunehook, SQLite and journal": lambda: with_study(on_disk),
            "tunehook, memory and journal": lambda: with_study(in_memory),
            "KerasTuner": lambda: with_keras_tuner(folder, next(numbers)),
        },
        rounds=rounds,
    )
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    print_ratios(times, "bare")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benchmarks/keras_trial.py --rounds 20"
    )
    parser.add_argument("--rounds", type=int, default=20, help="how often each variant runs (default: 20)")
    main(parser.parse_args().rounds)
