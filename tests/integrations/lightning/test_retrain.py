"""The model in the hand: kept by the search, or of a training once more with what it has found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback
from tunehook.study import models
from tunehook.trial import TrialError

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


class Mine:
    """A hyperparameter that is an object of the user's own."""


class Saved(Net):
    """A module that saves such a one."""

    def __init__(self, hidden: int = 4, mine: Mine | None = None) -> None:
        super().__init__(hidden)
        self.save_hyperparameters()


def kept(name: str, **options: object) -> tuple[th.Study, Callable[[], None]]:
    """A study of one trial that keeps its model."""

    def run() -> None:
        L.seed_everything(0)
        callbacks = [TuneCallback(), *(make() for make in options.values())]  # type: ignore[operator]
        trainer = L.Trainer(
            max_epochs=2, callbacks=callbacks, enable_checkpointing=False, accelerator="cpu",
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Saved(mine=Mine()), ROWS, ROWS)

    study = th.Study(name, {"hidden": th.Int(2, 9)}, metric="v", mode="min", search="random", seed=1, keep="best")
    study.optimize(run, trials=1, progress=False)
    return study, run


ROWS = DataLoader(TensorDataset(torch.linspace(-1, 1, 16).reshape(8, 2)), 8)


def measured(model: Net) -> float:
    """What the validation would say of it."""
    with torch.no_grad():
        return float(model.net(ROWS.dataset[:][0]).pow(2).mean())


def test_what_a_checkpoint_holds_besides(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object in it is unpickled where the file is one's own; no logger hears of a model that is asked for."""
    study, run = kept("objects")
    logs = sorted(Path("lightning_logs").iterdir())
    assert measured(study.best_model(run)) == study.best.value
    assert sorted(Path("lightning_logs").iterdir()) == logs
    with pytest.raises(th.StudyError, match=r"which has the weights and not the code .*\n  Give the training"):
        study.best_model()

    def not_ours(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(models, "check_ours", not_ours)
    with pytest.raises(TrialError, match="holds objects of the training's own, and reading them could run code"):
        study.best_model(run)


def test_weights_that_a_callback_averages() -> None:
    """The averages that were measured are what is kept."""
    averaging = getattr(L.pytorch.callbacks, "EMAWeightAveraging", None)
    if averaging is None:
        pytest.skip("Lightning averages while it validates since 2.6")
    study, run = kept("averages", averaging=lambda: averaging(decay=0.5))
    assert measured(study.best_model(run)) == study.best.value
