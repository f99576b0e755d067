"""What the Keras callback costs a batch: fits without it, with a callback that has no hooks, and with it.

It prints the host time of a batch in whole fits, and that of the two callbacks alone, called as Keras calls them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import optuna

import tunehook as th
from tunehook.integrations.keras import TuneCallback


class Clock(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Notes when the batches of the epoch begin and end."""

    begin = end = 0.0

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """From the third batch, for the first compiles, to the last."""
        self.end = time.perf_counter()
        if batch <= 1:
            self.begin = self.end


class Without(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Has no hooks."""


def epoch(batches: int, *callbacks: keras.callbacks.Callback) -> float:
    """Seconds of one epoch of tiny batches."""
    clock = Clock()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    x = np.zeros((batches, 4), "float32")
    model.fit(x, x[:, :1], batch_size=1, epochs=1, verbose=0, shuffle=False, callbacks=[*callbacks, clock])
    return clock.end - clock.begin


def alone(callback: keras.callbacks.Callback, calls: int = 100_000) -> float:
    """Seconds that a callback costs a batch in a list of callbacks, beyond those of the list without it."""

    def run(*callbacks: keras.callbacks.Callback) -> float:
        # The clock has a hook of each batch, so Keras calls the list at once and not from another thread.
        hooks = keras.callbacks.CallbackList([*callbacks, Clock()])
        hooks.on_train_begin()
        start = time.perf_counter()
        for index in range(calls):
            hooks.on_train_batch_begin(index)
            hooks.on_train_batch_end(index)
        seconds = (time.perf_counter() - start) / calls
        hooks.on_train_end()
        return seconds

    return statistics.median(run(callback) - run() for _ in range(7))


def main(rounds: int, batches: int) -> None:
    """Take turns, and print microseconds a batch."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.chdir(tempfile.mkdtemp())
    study = th.Study(
        "hooks", {"learning_rate": th.Float(1e-4, 1e-3)}, metric="loss", mode="min", search="random", seed=0
    )
    variants: dict[str, Callable[[], float]] = {
        "bare": lambda: epoch(batches),
        "with a callback without hooks": lambda: epoch(batches, Without()),
        "with TuneCallback": lambda: epoch(batches, TuneCallback(study)),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            times[name].append(variant() / (batches - 2) * 1e6)
    bare = statistics.median(times["bare"])
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    for name, row in times.items():
        print(f"{name:32}{statistics.median(row):9.1f} us a batch ({statistics.median(row) - bare:+.1f} us)")
    print(f"{'a callback without hooks alone':32}{alone(Without()) * 1e6:9.2f} us a batch")
    print(f"{'TuneCallback alone':32}{alone(TuneCallback()) * 1e6:9.2f} us a batch")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/keras_hooks.py --rounds 9")
    parser.add_argument("--rounds", type=int, default=9, help="how often each variant runs (default: 9)")
    parser.add_argument("--batches", type=int, default=1500, help="batches in the epoch (default: 1500)")
    given = parser.parse_args()
    main(given.rounds, given.batches)
