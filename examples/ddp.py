"""Two processes train one model (DDP), and are tuned as one: all have the same values and stop at the same step.

With GPUs, `accelerator="gpu", devices=2` is all that differs.
"""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback

x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16).float(), torch.tensor(y)


class Net(L.LightningModule):
    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        accuracy = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("val_acc", accuracy, sync_dist=True)  # the mean over the processes

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def train() -> None:
    L.seed_everything(0)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        enable_progress_bar=False,
        callbacks=[TuneCallback()],
    )
    trainer.fit(
        Net(),
        DataLoader(TensorDataset(x[:1300], y[:1300]), batch_size=32, shuffle=True),
        DataLoader(TensorDataset(x[1300:], y[1300:]), 256),
    )


study = th.Study(
    "ddp",
    {"lr": th.Float(1e-4, 1e-1, log=True), "hidden": th.Int(16, 256), "data.batch_size": th.Choice([16, 32, 64])},
    metric="val_acc",
    mode="max",
)

if __name__ == "__main__":
    study.optimize(train, trials=2)
    print(study.best.params, study.best.value)
