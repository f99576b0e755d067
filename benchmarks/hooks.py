"""What the callback's hooks cost a batch: one epoch of tiny batches without it, with an empty callback, and with it."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning as L
import optuna
import torch
from digits import Net
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback


def epoch(batches: int, *callbacks: L.Callback) -> float:
    """Seconds of one epoch, from the first batch to the last."""
    clock = Clock()
    data = TensorDataset(torch.zeros(batches, 64), torch.zeros(batches, dtype=torch.long))
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[*callbacks, clock], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(Net(), DataLoader(data, batch_size=1), DataLoader(TensorDataset(*data[:1]), batch_size=1))
    return clock.end - clock.begin


class Empty(L.Callback):
    """Does nothing."""


class Clock(L.Callback):
    """Notes when the batches begin and end."""

    begin = end = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """The first two batches warm up, and hold the check of the arguments."""
        if batch_idx == 2:
            self.begin = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """The last one counts."""
        self.end = time.perf_counter()


def hook_alone() -> float:
    """Seconds of one call of the hook that runs after each batch, measured on its own."""
    callback: Any = TuneCallback()
    callback._fit = SimpleNamespace(is_checked=True, take_batch=lambda: None)  # noqa: SLF001 - as in a fit
    trainer: Any = SimpleNamespace(is_last_batch=False)
    calls = 100_000
    start = time.perf_counter()
    for index in range(calls):
        callback.on_train_batch_end(trainer, None, None, None, index)
    return (time.perf_counter() - start) / calls


def main(rounds: int, batches: int) -> None:
    """Take turns, and print microseconds a batch."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.chdir(tempfile.mkdtemp())
    space = {"optimizer.lr": th.Float(1e-3, 1e-2)}
    study = th.Study("hooks", space, metric="val_acc", mode="max", search="random", seed=0)
    variants: dict[str, Callable[[], float]] = {
        "bare": lambda: epoch(batches),
        "with an empty callback": lambda: epoch(batches, Empty()),
        "with TuneCallback": lambda: epoch(batches, TuneCallback(study)),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            times[name].append(variant() / (batches - 2) * 1e6)
    bare = statistics.median(times["bare"])
    for name, row in times.items():
        print(f"{name:28}{statistics.median(row):9.1f} us a batch ({statistics.median(row) - bare:+.1f} us)")
    print(f"{'its hook alone':28}{hook_alone() * 1e6:9.2f} us a call")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/hooks.py --rounds 9")
    parser.add_argument("--rounds", type=int, default=9, help="how often each variant runs (default: 9)")
    parser.add_argument("--batches", type=int, default=1500, help="batches in the epoch (default: 1500)")
    given = parser.parse_args()
    main(given.rounds, given.batches)
