"""Handwritten digits with PyTorch Lightning: an ordinary project, tuned by one more callback.

    python examples/lightning_digits.py                       Bayesian search
    python examples/lightning_digits.py grid random bayes     three searches, compared

It needs no account and no network: the data ships with scikit-learn, and the W&B runs are kept offline on disk.
"""

import logging
import sys
import warnings

import lightning as L
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback
from tunehook.integrations.wandb import WandbRecorder

# --------------------------------------------------------------------------- the project, as it was


class Digits(L.LightningDataModule):
    """The 1,797 digits of scikit-learn, 8 x 8 pixels each."""

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__()
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        digits = load_digits()
        pixels = torch.tensor(digits.data / 16.0, dtype=torch.float32)
        labels = torch.tensor(digits.target)
        train, val = train_test_split(range(len(labels)), test_size=0.25, random_state=0, stratify=labels)
        self.train_set = TensorDataset(pixels[train], labels[train])
        self.val_set = TensorDataset(pixels[val], labels[val])

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val_set, batch_size=256)


class Net(L.LightningModule):
    """A perceptron with a few hidden layers."""

    def __init__(
        self, hidden: int = 64, layers: int = 1, dropout: float = 0.1, lr: float = 1e-3, weight_decay: float = 0.0
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        blocks: list[nn.Module] = []
        width = 64
        for _ in range(layers):
            blocks += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
            width = hidden
        self.net = nn.Sequential(*blocks, nn.Linear(width, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        pixels, labels = batch
        return F.cross_entropy(self.net(pixels), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        pixels, labels = batch
        logits = self.net(pixels)
        self.log("val_loss", F.cross_entropy(logits, labels))
        self.log("val_acc", (logits.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"], weight_decay=self.hparams["weight_decay"])


def train() -> None:
    """Train once with the values above; inside a study, with the values of the trial."""
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        max_epochs=6,
        accelerator="cpu",
        callbacks=[TuneCallback()],  # <- the one line that is new
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(), Digits())


# --------------------------------------------------------------------------- the tuning

SPACE = {
    "lr": th.Float(1e-4, 3e-2, log=True),
    "batch_size": th.Choice([16, 32, 64, 128]),
    "layers": th.Int(1, 3),
    "hidden": th.Int(16, 256, log=True),
    "dropout": th.Float(0.0, 0.5),
    "weight_decay": th.Float(1e-6, 1e-1, log=True),
}

# A grid goes through every combination, so it needs few values for each name.
GRID = {
    "lr": th.Choice([3e-4, 3e-3]),
    "batch_size": th.Choice([32, 128]),
    "layers": th.Int(1, 2),
    "hidden": th.Choice([32, 128]),
    "dropout": 0.2,
    "weight_decay": 1e-4,
}

TRIALS = 16


def tune(search: str) -> th.Study:
    """Search with one method; a study that exists already is gone on with."""
    study = th.Study(
        f"digits-{search}",
        GRID if search == "grid" else SPACE,
        metric="val_acc",
        mode="max",
        search=search,
        stopper=None if search == "grid" else "median",
        seed=0,
        recorders=[WandbRecorder(project="digits")],
    )
    study.optimize(train, trials=TRIALS)
    return study


def compare(studies: list[th.Study]) -> Table:
    """The best trial of each study, side by side."""
    table = Table(title="the best trial of each search", title_justify="left")
    table.add_column("")
    for study in studies:
        table.add_column(study.name.removeprefix("digits-"), justify="right")
    best = [study.best for study in studies]
    table.add_row("val_acc", *(f"{trial.value:.4f}" for trial in best))
    for name in SPACE:
        values = [trial.params[name] for trial in best]
        table.add_row(name, *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values))
    table.add_section()
    table.add_row("trials", *(str(study.finished) for study in studies))
    table.add_row("of them stopped early", *(str(study.counts().get("pruned", 0)) for study in studies))
    return table


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # one line for each Trainer is too many here
    warnings.filterwarnings("ignore", module="lightning")
    studies = [tune(search) for search in sys.argv[1:] or ["bayes"]]
    console = Console()
    console.print(compare(studies))
    winner = max(studies, key=lambda study: study.best.value or 0.0)
    console.print(f"\nBest of all: trial {winner.best.number} of {winner.name}. Its record:")
    for place in winner.records(winner.best.number):
        console.print(f"  {place}", soft_wrap=True)
