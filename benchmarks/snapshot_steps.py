"""Whole trainings with default snapshots beside bare ones, on the accelerator that there is."""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning as L
import optuna
import torch
from optuna.storages import InMemoryStorage
from snapshots import MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = {"mlp": (256, 784), "resnet18": (128, 3, 64, 64), "transformer": (16, 128)}  # rows, and the shape of one


class Rows(Dataset[Tensor]):
    """One batch that lies on the device, again and again: nothing is loaded, so that only steps are timed."""

    def __init__(self, name: str, steps: int, size: int | None) -> None:
        made = torch.Generator().manual_seed(0)
        shape = (size or BATCH[name][0], *BATCH[name][1:])
        batch = torch.randint(34_000, shape, generator=made) if name == "transformer" else torch.randn(
            shape, generator=made)  # fmt: skip
        self.batch, self.steps = batch.to(DEVICE), steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Tensor:
        return self.batch


class Net(L.LightningModule):
    """One of the models, with Adam."""

    def __init__(self, name: str, lr: float = 1e-4) -> None:
        super().__init__()
        self.save_hyperparameters("lr")
        self.net: nn.Module = MODELS[name]()

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Any loss that uses all outputs."""
        loss: Tensor = self.net(batch).float().pow(2).mean()
        return loss

    def on_train_epoch_end(self) -> None:
        """A metric that costs nothing."""
        self.log("score", float(self.current_epoch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, as usual."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


class Clock(L.Callback):
    """Notes when the training begins, before the first snapshot, and ends, after the last; the device is idle then."""

    begin: float = 0.0
    seconds: float = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """It is the first callback."""
        self.begin = now()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Lightning calls it when all callbacks have ended the training."""
        self.seconds = now() - self.begin


def now() -> float:
    """Seconds, when all that was begun on the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def train(name: str, given: argparse.Namespace, *callbacks: L.Callback, epochs: int) -> float:
    """Milliseconds a step."""
    clock = Clock()
    torch.manual_seed(0)
    trainer = L.Trainer(
        max_epochs=epochs, accelerator=DEVICE, devices=1, precision=given.precision, logger=False,
        callbacks=[clock, *callbacks], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Net(name), DataLoader(Rows(name, given.steps, given.batch), batch_size=None))
    steps: int = epochs * given.steps
    return clock.seconds / steps * 1e3


def measure(name: str, given: argparse.Namespace) -> None:
    """Take turns, and print the medians of the ratios within a round."""
    options: dict[str, Any] = {"metric": "score", "mode": "max", "search": "random", "seed": 0}
    study = th.Study(name, {"optimizer.lr": th.Float(1e-4, 1.1e-4)}, storage=InMemoryStorage(), **options)
    variants: dict[str, Callable[[], list[L.Callback]]] = {
        "bare": list, "bare again": list, "snapshots": lambda: [TuneCallback(study)],
    }  # fmt: skip
    for callbacks in variants.values():  # warm up
        train(name, given, *callbacks(), epochs=1)
    rows: dict[str, list[float]] = {kind: [] for kind in variants}
    for number in range(given.rounds):
        for kind, callbacks in variants.items():
            rows[kind].append(train(name, given, *callbacks(), epochs=given.epochs))
            print(f"{name}, round {number + 1}, {kind}: {rows[kind][-1]:.3f} ms a step", file=sys.stderr)
    taken = sum('"event": "snapshot"' in line for line in study.paths.journal(given.rounds).open())
    print(f"{name}, {given.epochs} epochs of {given.steps} steps, {DEVICE}, {given.precision}; {taken} snapshots")
    for kind, row in rows.items():
        ratios = sorted(took / other for took, other in zip(row, rows["bare"], strict=True))
        ratio = statistics.median(ratios)
        verdict = f"   {'met' if ratio <= 1.01 else 'MISSED'}: 1.01" if kind == "snapshots" else ""
        print(
            f"  {kind:12}{statistics.median(row):9.3f} ms a step   x bare {ratio:.4f}"
            f" ({ratios[0]:.3f} to {ratios[-1]:.3f}){verdict}", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benchmarks/snapshot_steps.py --model transformer --rounds 5"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each variant trains (default: 5)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of a training (default: 10)")
    parser.add_argument("--steps", type=int, default=100, help="steps of an epoch (default: 100)")
    parser.add_argument(
        "--model", choices=MODELS, action="append", help="this one; may be repeated (default: all on a GPU, else mlp)"
    )
    parser.add_argument("--precision", default="32-true", help="as Lightning's Trainer takes it (default: 32-true)")
    parser.add_argument("--batch", type=int, help="rows of a batch (default: 256, 128 and 16)")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.chdir(tempfile.mkdtemp())
    for chosen in given.model or (MODELS if DEVICE == "cuda" else ["mlp"]):
        measure(chosen, given)
