"""A LightningCLI project, with the callback in its configuration.

    python train.py fit --config config.yaml     one training, as ever
    python train.py tune                         a study

A study calls the same command line for each trial.
"""

import sys
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI, OptimizerCallable
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th


class Digits(L.LightningDataModule):
    def __init__(self, batch_size: int = 64) -> None:
        super().__init__()
        x, y = load_digits(return_X_y=True)
        x, y = torch.tensor(x / 16).float(), torch.tensor(y)
        self.train_set, self.val_set = TensorDataset(x[:1300], y[:1300]), TensorDataset(x[1300:], y[1300:])
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.val_set, 256)


class Net(L.LightningModule):
    def __init__(self, hidden: int = 64, optimizer: OptimizerCallable = torch.optim.Adam) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
        self.optimizer = optimizer

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())


def main(arguments: list[str] | None = None) -> None:
    LightningCLI(Net, Digits, args=arguments, save_config_callback=None)


def train() -> None:
    main(["fit", "--config", str(Path(__file__).with_name("config.yaml"))])


study = th.Study(
    "cli",
    {"model.hidden": th.Int(16, 256), "optimizer.lr": th.Float(1e-4, 1e-1, log=True), "max_epochs": th.Int(1, 5)},
    metric="val_acc",
    mode="max",
)

if __name__ == "__main__" and sys.argv[1:] == ["tune"]:
    study.optimize(train, trials=20)
    print(study.best.params, study.best.value)
elif __name__ == "__main__":
    main()
