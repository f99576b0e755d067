"""A study in a terminal: `python terminal_script.py TRIALS WORKERS [SEARCH]`; without workers in this process."""

from __future__ import annotations

import logging
import random
import sys
import time
import warnings
from typing import Any

import tunehook as th
from tunehook.inject.slot import Slot
from tunehook.session.in_progress import active

SPACE = {
    "optimizer.lr": th.Float(1e-5, 1e-1, log=True),
    "optimizer.weight_decay": th.Float(1e-6, 1e-2, log=True),
    "layer.dense_1.units": th.Int(16, 512),
    "layer.dense_2.units": th.Int(16, 512),
    "layer.dropout.rate": th.Float(0.0, 0.5),
    "fit.batch_size": th.Choice([32, 64, 128]),
}


def train() -> None:
    """A third of a second of training; trial 1 is the best."""
    session = active()
    assert session is not None
    place: dict[str, Any] = {}
    session.begin([
        Slot(name, get=lambda name=name: place.get(name), set=lambda value, name=name: place.update({name: value}))  # type: ignore[misc]
        for name in SPACE
    ])  # fmt: skip
    session.ready()
    number = session.trial.number
    print("a line of the training", number)
    for step in range(1, 4):
        time.sleep(0.1)
        session.report(step, {"val_accuracy": 0.99 if number == 1 else random.Random(number * 10 + step).random() / 2})


class Loud:
    """A recorder that writes in every way, in the process that asks, whenever a trial has ended."""

    def update(self, study: th.Study, *, is_last: bool) -> None:
        """Write."""
        count = study.finished
        logging.getLogger("old").warning("an old handler says %d, %s", count, "x" * 80)
        print("print says", end=" ")
        print(count, flush=True)
        print("\x1b[1mcolours say\x1b[0m", count, file=sys.stderr)
        warnings.warn(f"a warning says {count}", stacklevel=2)

    def open(self, trial: Any, config: Any, *, loggers: Any = ()) -> None: ...
    def report(self, step: int, metrics: Any) -> None: ...
    def close(self, outcome: Any) -> None: ...
    def where(self) -> None: ...


if __name__ == "__main__":
    logging.getLogger("old").addHandler(logging.StreamHandler())  # holds the stream that is standard error now
    logging.getLogger("old").propagate = False
    trials, workers = map(int, sys.argv[1:3])
    recorders = [Loud()] if sys.argv[3:] else []
    study = th.Study("six", SPACE, metric="val_accuracy", mode="max", seed=0, recorders=recorders)
    study.optimize(train, trials=trials, workers=workers or None)
    print("best", study.best.number)
