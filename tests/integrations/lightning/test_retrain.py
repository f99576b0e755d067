"""The model in the hand: a training once more, with what the search has found."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data and few workers


class Net(L.LightningModule):
    """Two layers, with a rate that is typed in."""

    def __init__(self, hidden: int = 4, rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Linear(hidden, 1))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Towards nothing."""
        return self.net(batch[0]).pow(2).mean()  # type: ignore[no-any-return]

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """How far it is."""
        self.log("v", self.net(batch[0]).pow(2).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain descent."""
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def train(epochs: int, **typed: float) -> Net:
    """A training of so many epochs, which returns the model."""
    L.seed_everything(0)
    rows = DataLoader(TensorDataset(torch.linspace(-1, 1, 16).reshape(8, 2)), 4)
    model = Net(**typed)  # type: ignore[arg-type]
    trainer = L.Trainer(
        max_epochs=epochs, callbacks=[TuneCallback()], logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, rows, rows)
    return model


def test_the_model_is_that_of_the_values_typed_in() -> None:
    """For more epochs than the search had; each call trains, and the study of the search stays as it is."""
    study = th.Study(
        "s", {"hidden": th.Int(2, 9), "rate": th.Float(0.01, 0.2)}, metric="v", mode="min", search="random", seed=1
    )
    study.optimize(lambda: train(1), trials=3, progress=False)
    assert study.top(2)[0] == study.best
    for number in (None, 0):
        chosen = study.best if number is None else study.trial(number)
        model, plain = study.retrain(lambda: train(3), number=number), train(3, **chosen.params)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    study.retrain(lambda: train(2))
    assert th.Study.open(f"s-retrain-{study.best.number}").counts() == {"complete": 2}
    assert study.counts() == {"complete": 3}
    with pytest.raises(th.StudyError, match="has no trial 9; it has 3 complete"):
        study.retrain(lambda: train(1), number=9)
