"""Several fits in one trial: names with the number of a fit are put into that one, and into no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optuna
import pytest
import torch
from torch import nn

import tunehook as th
from lightning_projects import assert_same, loader, seed, trainer, weights
from tunehook.integrations.lightning import TuneCallback
from tunehook.trial.errors import InjectionError

pytestmark = pytest.mark.filterwarnings("ignore")

Train = Callable[..., list[torch.Tensor]]


def net(pl: Any) -> type:
    """A module that takes its width and its learning rate."""

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, hidden: int = 5, lr: float = 0.1) -> None:
            super().__init__()
            self.lr = lr
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(0.2), nn.Linear(hidden, 1))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    return Net


def phases(pl: Any, *callbacks: Any, first: int = 1, second: int = 1, rate: float = 0.01) -> list[torch.Tensor]:
    """Train a model, then train it on with another learning rate."""
    seed()
    model = net(pl)()
    trainer(pl, *callbacks, max_epochs=first).fit(model, loader())
    model.lr = rate
    trainer(pl, *callbacks, max_epochs=second).fit(model, loader())
    return weights(model)


def going_on(pl: Any, *callbacks: Any, first: int = 1) -> list[torch.Tensor]:
    """Train a model, then train it on for another epoch with the same Trainer."""
    seed()
    model, made = net(pl)(), trainer(pl, *callbacks, max_epochs=first)
    made.fit(model, loader())
    made.fit_loop.max_epochs += 1
    made.fit(model, loader())
    return weights(model)


def folds(pl: Any, *callbacks: Any, widths: tuple[int, ...] = (5, 5, 5)) -> list[torch.Tensor]:
    """Train a model of each width, made in one place."""
    seed()
    found: list[torch.Tensor] = []
    for width in widths:
        model = net(pl)(width)
        trainer(pl, *callbacks, max_epochs=1).fit(model, loader())
        found += weights(model)
    return found


def upfront(pl: Any, *callbacks: Any, widths: tuple[int, int] = (5, 5)) -> list[torch.Tensor]:
    """Make two models, then train one after the other."""
    seed()
    models = [net(pl)(widths[0]), net(pl)(widths[1])]
    for model in models:
        trainer(pl, *callbacks, max_epochs=1).fit(model, loader())
    return [one for model in models for one in weights(model)]


def tuned(train: Train, pl: Any, space: Mapping[str, Any]) -> list[torch.Tensor]:
    """What a trial with fixed values trains."""
    found: list[list[torch.Tensor]] = []
    study = th.Study("fits", space, metric="loss", mode="min", search="random",
                     storage=optuna.storages.InMemoryStorage())  # fmt: skip
    study.optimize(lambda: found.append(train(pl, TuneCallback())), trials=1, progress=False)
    assert study.trials[0].params == dict(space)
    return found[-1]


@pytest.mark.parametrize(
    ("train", "space", "typed"),
    [
        (phases, {"fit.1.optimizer.lr": 0.05}, {"rate": 0.05}),
        (phases, {"fit.1.max_epochs": 2}, {"second": 2}),
        (going_on, {"max_epochs": 2}, {"first": 2}),
        (phases, {"fit.0.max_epochs": 2}, {"first": 2}),
        (phases, {"max_epochs": 3, "fit.1.trainer.max_epochs": 2}, {"first": 3, "second": 2}),
        (folds, {"fit.1.hidden": 7}, {"widths": (5, 7, 5)}),
        (folds, {"hidden": 6, "fit.2.hidden": 7}, {"widths": (6, 6, 7)}),
        (folds, {"fit.0.hidden": 7}, {"widths": (7, 5, 5)}),
    ],
)
def test_a_fit_by_its_number(one: Any, train: Train, space: dict[str, Any], typed: dict[str, Any]) -> None:
    """The weights of all fits equal those with the values typed in where the numbered fit has them."""
    assert_same(tuned(train, one, space), train(one, **typed))


@pytest.mark.parametrize(
    ("train", "space", "message"),
    [
        (upfront, {"fit.1.hidden": 7}, r"(?s)'fit.1.hidden' cannot be put in.*th.value\('fit.1.hidden', ...\)"),
        (phases, {"fit.1.hiden": 7}, r"(?s)There is nothing called 'fit.1.hiden' .*th.value\('fit.1.hiden', 7\)"),
        (phases, {"fit.2.hidden": 7}, r"'fit.2.hidden' was not used: the training function called fit 2 times"),
    ],
)
def test_a_name_of_a_fit_that_cannot_have_it(one: Any, train: Train, space: dict[str, Any], message: str) -> None:
    """What the second fit trains was made before the first one; or there is no such name, or no such fit."""
    with pytest.raises(InjectionError, match=message):
        tuned(train, one, space)
