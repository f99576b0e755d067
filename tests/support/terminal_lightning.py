"""A Lightning study in a terminal, whose Trainer says all that it says by itself."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback


class Net(L.LightningModule):
    """A linear model."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 1))

    def training_step(self, batch: Any, _: int) -> Any:
        """The loss."""
        loss = (self.layers(batch[0]) - batch[1]).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.01)


def train() -> None:
    """Four steps."""
    L.seed_everything(0)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", enable_progress_bar=False, callbacks=[TuneCallback()])
    trainer.fit(Net(), DataLoader(TensorDataset(torch.ones(16, 4), torch.ones(16, 1)), batch_size=4))


if __name__ == "__main__":
    study = th.Study("lightning", {"width": th.Int(1, 9)}, metric="loss", mode="min")
    study.optimize(train, trials=4)
    print(study.best.number)
