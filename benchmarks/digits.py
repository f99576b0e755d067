"""The project that the benchmarks train: a perceptron on scikit-learn's digits, in Lightning."""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)

import lightning as L  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

_DIGITS = load_digits()
_PIXELS = torch.tensor(_DIGITS.data / 16.0, dtype=torch.float32)
_LABELS = torch.tensor(_DIGITS.target)


class Net(L.LightningModule):
    """One hidden layer."""

    def __init__(self, hidden: int = 64, lr: float = 1e-3, dropout: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross entropy."""
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy."""
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])


class Digits(L.LightningDataModule):
    """1,347 digits to train with, 450 to validate."""

    def __init__(self, batch_size: int = 32) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled."""
        return DataLoader(TensorDataset(_PIXELS[:1347], _LABELS[:1347]), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """In one order."""
        return DataLoader(TensorDataset(_PIXELS[1347:], _LABELS[1347:]), batch_size=450)


def fit(*callbacks: L.Callback, epochs: int = 5, batch_size: int = 32, **values: Any) -> L.Trainer:
    """One training from scratch."""
    torch.manual_seed(0)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(**values), Digits(batch_size))
    return trainer


def side_by_side(variants: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round; the variants take turns, so that noise hits all alike."""
    for variant in variants.values():  # warm up
        variant()
    times: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for _ in range(rounds):
        order.append(order.pop(0))
        for name in order:
            start = time.perf_counter()
            variants[name]()
            times[name].append(time.perf_counter() - start)
    return times


def print_ratios(times: Mapping[str, list[float]], base: str, *, unit: float = 1e3, name: str = "ms") -> None:
    """Medians, and medians of the ratios within a round to the base."""
    print(f"{'':44}{'median ' + name:>12}{'x ' + base:>16}")
    for variant, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, times[base], strict=True))
        print(f"{variant:44}{statistics.median(seconds) * unit:12.2f}{ratio:16.3f}")
