"""The project that the benchmarks train: a perceptron on scikit-learn's digits, in Lightning."""

from __future__ import annotations

import logging
import warnings
from typing import Any

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)

import lightning as L  # noqa: E402 - after the filters
import torch  # noqa: E402 - after the filters
from sklearn.datasets import load_digits  # noqa: E402 - after the filters
from torch import Tensor, nn  # noqa: E402 - after the filters
from torch.nn import functional as F  # noqa: E402 - after the filters
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402 - after the filters

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
