"""Several metrics of a real training."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from accelerator import ACCELERATOR
from tunehook.integrations.lightning import TuneCallback
from tunehook.record import Events, Report

pytestmark = pytest.mark.filterwarnings("ignore")


class Net(L.LightningModule):
    """Its size is measured once, its loss and its drift in each validation."""

    def __init__(self, hidden: int = 4, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.first, self.last = nn.Linear(4, hidden), nn.Linear(hidden, 1)

    def forward(self, x: Any) -> Any:
        return self.last(self.first(x))

    def training_step(self, batch: Any, _: int) -> Any:
        return (self(batch[0]) - batch[0][:, :1]).pow(2).mean()

    def validation_step(self, batch: Any, _: int) -> None:
        self.log("loss", (self(batch[0]) - batch[0][:, :1]).pow(2).mean())
        self.log("drift", self.first.weight.abs().mean())

    def on_train_epoch_end(self) -> None:
        if self.current_epoch == 0:
            self.log("size", float(sum(one.numel() for one in self.parameters())))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def train() -> None:
    """Six epochs."""
    torch.manual_seed(3)
    data = TensorDataset(torch.randn(64, 4))
    trainer = L.Trainer(
        max_epochs=6, accelerator=ACCELERATOR, callbacks=[TuneCallback()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Net(), DataLoader(data, 16), DataLoader(data, 64))


def test_all_metrics_are_of_the_step_that_counts() -> None:
    """What is logged at the best step of the first metric counts, of stopped trials too; and what is logged once."""
    study = th.Study(
        "both", {"hidden": th.Int(2, 32, log=True), "lr": th.Float(1e-4, 0.3, log=True)},
        metric=["loss", "drift", "size"], mode=["min", "max", "min"], search="tpe", stopper="median", seed=0,
        snapshots=False,
    )  # fmt: skip
    study.optimize(train, trials=12, progress=False)

    assert study.counts().keys() == {"complete", "pruned"}
    for trial in study.trials:
        reports = Events.of_latest(study.paths.journal(trial.number)).all(Report)
        losses = {one.step: one.metrics["loss"] for one in reports if "loss" in one.metrics}
        best = min(losses, key=lambda step: losses[step])
        drift = next(one.metrics["drift"] for one in reports if one.step == best and "drift" in one.metrics)
        hidden = trial.params["hidden"]
        assert trial.values == (losses[best], drift, 4 * hidden + hidden + hidden + 1), trial.number
    front = study.best_trials
    assert {one.outcome.state for one in front} == {"complete"}
    assert min(one.values[0] for one in front) == min(
        one.values[0] for one in study.trials if one.outcome.state == "complete"
    )
