"""Lightning trials that pause at rungs and go on: bit for bit those that were trained in one go."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from lightning_projects import seed, trainer
from run_file import read_runs
from tunehook.integrations.lightning import TuneCallback
from tunehook.integrations.wandb import WandbRecorder
from tunehook.record.journal import read_journal

pytestmark = pytest.mark.filterwarnings("ignore")

RATES = [0.05, 0.001, 0.01, 0.02]


class Script:
    """A script that trains each of some learning rates, and what it came to.

    Args:
        pl: The namespace.
        name: Of the study.
        settings: Of the Trainer.
    """

    def __init__(
        self, pl: Any, name: str, *, stopper: str | None = None, keep: Any = None, rates: Any = RATES, **settings: Any
    ) -> None:
        self.pl, self.settings = pl, {"max_epochs": 6, **settings}
        self.epochs: list[tuple[float, int]] = []  # that were trained, with their learning rate
        self.weights: dict[float, list[torch.Tensor]] = {}  # by learning rate, after the last fit of it
        recorders = [WandbRecorder("p", mode="offline", dir=f"runs-{name}", lean=True, study_run=False)]
        self.study = th.Study(
            name, {"lr": th.Choice(rates)}, metric="val", mode="min", search="grid", stopper=stopper, objective="last",
            storage=optuna.storages.InMemoryStorage(), recorders=recorders, snapshots=False,
            keep=keep,
        )  # fmt: skip

    def train(self) -> None:
        """The script."""
        script = self

        class Net(self.pl.LightningModule):  # type: ignore[name-defined,misc]
            def __init__(self, lr: float = 0.1) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.2), nn.BatchNorm1d(6), nn.Linear(6, 1))

            def training_step(self, batch: Any, index: int) -> Any:
                noise = np.random.normal() + torch.randn(())
                return nn.functional.mse_loss(self.net(batch[0]) + 0.01 * noise, batch[1])

            def validation_step(self, batch: Any, index: int) -> None:
                self.log("val", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

            def on_train_epoch_end(self) -> None:
                script.epochs.append((self.hparams["lr"], self.current_epoch))

            def configure_optimizers(self) -> Any:
                made = torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=0.9)
                return [made], [torch.optim.lr_scheduler.StepLR(made, 2)]

        seed()
        data = TensorDataset(torch.randn(40, 4), torch.randn(40, 1))
        net = Net()
        fit = trainer(self.pl, TuneCallback(), **self.settings)
        fit.fit(net, DataLoader(data, 8, shuffle=True), DataLoader(data, 16))
        self.weights[net.hparams["lr"]] = [tensor.detach().clone() for tensor in net.state_dict().values()]

    def run(self, **options: Any) -> Script:
        """The whole search."""
        self.study.optimize(self.train, progress=False, **options)
        return self

    def reports(self, rate: float) -> list[tuple[int, dict[str, float]]]:
        """The reports in the journal of the trial with a learning rate."""
        number = next(trial.number for trial in self.study.trials if trial.params["lr"] == rate)
        events = read_journal(self.study.paths.journal(number))
        return [(event["step"], event["metrics"]) for event in events if event["event"] == "report"]


def test_what_pauses_goes_on_bit_for_bit(pl: Any) -> None:
    """No epoch is trained twice, each trial is as if in one go, and its run has each step once."""
    whole, script = Script(pl, "whole").run(), Script(pl, "paused", stopper="pause", keep="best").run()
    order = sorted(RATES, key=lambda rate: whole.reports(rate)[2][1]["val"])
    assert script.study.counts() == {"paused": 3, "complete": 1}
    best = script.study.best.params["lr"]
    assert best in order[:2]
    for rate in RATES:
        reports = script.reports(rate)
        assert reports == whole.reports(rate)[: len(reports)]
        assert [epoch for one, epoch in script.epochs if one == rate] == [*range(len(reports))]
    assert all(map(torch.equal, script.weights[best], whole.weights[best]))
    model = script.study.best_model(script.train)
    assert all(map(torch.equal, model.state_dict().values(), whole.weights[best]))
    steps: dict[str, list[int]] = defaultdict(list)
    for run in read_runs(Path("runs-paused")):
        steps[run.id] += run.column("trial/step")
    assert sorted(map(len, steps.values())) == sorted(len(script.reports(rate)) for rate in RATES)
    assert all(sorted(found) == [*range(1, len(found) + 1)] for found in steps.values())
    waiting = {trial.number for trial in script.study.trials if trial.outcome.state == "paused"}
    assert {int(path.name[:4]) for path in (script.study.paths.folder / "checkpoints").iterdir()} == waiting
