"""A study of sixty short trials that W&B records, as a script whose processes are killed."""

from __future__ import annotations

import functools
import logging
import os
import time
from pathlib import Path

import optuna

import tunehook as th
from tunehook.inject.slot import Slot
from tunehook.integrations.wandb import WandbRecorder
from tunehook.session.in_progress import active


def train() -> None:
    """Five reports within a fifth of a second, whose values follow from the hyperparameters."""
    session, place = active(), dict.fromkeys("abc", -1)
    assert session is not None
    get, put = place.__getitem__, place.__setitem__
    session.begin([Slot(name, get=functools.partial(get, name), set=functools.partial(put, name)) for name in place])
    session.ready()
    for step in range(1, 6):
        session.report(step, {"v": (place["a"] - 2.1) ** 2 + (place["b"] - 1.2) ** 2 + place["c"] / step})
        time.sleep(float(os.environ.get("CHAOS_PAUSE", "0")))


def study(folder: str, *, lean: bool = True, storage: str | None = None) -> th.Study:
    """A grid of sixty combinations."""
    space = {"a": th.Choice([0, 1, 2, 3]), "b": th.Choice([0, 1, 2]), "c": th.Choice([0, 1, 2, 3, 4])}
    recorder = WandbRecorder("chaos", mode="offline", lean=lean)
    return th.Study(
        "chaos", space, metric="v", mode="min", search="grid", seed=3, folder=Path(folder), storage=storage,
        recorders=[recorder],
    )  # fmt: skip


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.basicConfig(level=logging.WARNING)
    os.environ["CHAOS_PAUSE"] = "0.04"
    study("study").optimize(train, workers=2, retries=60, progress=False)
