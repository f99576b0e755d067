"""Objects that train well and that our own checks stumble over: a check that cannot be made is no failure of theirs."""

from __future__ import annotations

import re
import threading
from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import tunehook as th
from lightning_projects import assert_same, classes, loader, refused, trained, trainer
from tunehook.integrations.lightning import TuneCallback
from tunehook.trial.errors import InjectionError

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...


def refuse(*_args: Any, **_options: Any) -> Any:
    """Raise, as some objects do where they are only looked at."""
    raise LookupError("not yet")


def odd(**methods: Any) -> Any:
    """An object some of whose special methods raise."""
    return type("Odd", (), methods)()


class Closed:
    """An object whose attributes cannot be asked for."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


class Config(UserDict):  # type: ignore[type-arg]
    """A configuration with a mandatory value that is not given, as OmegaConf has it."""

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return refuse() if value == "???" else value


class KeptLoss(nn.Module):
    """A loss that keeps what it computed last, with its history."""

    def forward(self, one: Any, other: Any) -> Any:
        self.last = nn.functional.mse_loss(one, other)
        return self.last


class Locked(nn.Module):
    """A module that cannot be copied once it has been used."""

    def forward(self, one: Any, other: Any) -> Any:
        self.lock = threading.Lock()
        return nn.functional.mse_loss(one, other)


OBJECTS: dict[str, Callable[[], Any]] = {
    "eq": lambda: odd(__eq__=refuse, __hash__=object.__hash__),
    "repr": lambda: odd(__repr__=refuse),
    "bool": lambda: odd(__bool__=refuse, __len__=refuse),
    "hash": lambda: odd(__hash__=refuse),
    "copy": lambda: odd(__deepcopy__=refuse, __copy__=refuse, __reduce_ex__=refuse),
    "attributes": Closed,
    "array": lambda: np.zeros((2, 2)),
    "lock": threading.Lock,
    "generator": lambda: (number for number in range(3)),
    "configuration": lambda: Config(rate=0.5, path="???"),
    "history": lambda: torch.ones(2, requires_grad=True) * 2,
    "big": lambda: 10**5000,
}


def holding(pl: Any) -> Any:
    """A module that keeps an object, given or its own."""

    class Holding(classes(pl)["Net"]):  # type: ignore[misc]
        def __init__(self, given: Any, hidden: int = 5, make: Any = None) -> None:
            super().__init__(hidden)
            self.given = {"inside": [given]} if make is None else make()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.net.parameters(), lr=self.lr)

    return Holding


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_odd_objects_stay_out_of_the_way(one: Any, make: Callable[[], Any]) -> None:
    """A model that holds one gets another width, or keeps its own, as if typed in."""
    cls = holding(one)
    for typed in ({}, {"make": make}):
        plain = trained(one, lambda typed=typed: (cls(make(), hidden=7, **typed), loader()))
        assert_same(trained(one, lambda typed=typed: (cls(make(), **typed), loader()), {"hidden": 7}), plain)
    trained(one, lambda: (cls(make()), loader()), {"optimizer.lr": 0.01})
    assert "There is nothing called 'typo' to inject." in refused(one, lambda: (cls(make()), loader()), {"typo": 1})


def test_lazy_parameters(one: Any) -> None:
    """Parameters that get their shape after values were injected are those of the script with the value typed in."""

    class Lazy(classes(one)["Net"]):  # type: ignore[misc]
        def __init__(self, hidden: int = 5, first: Any = None) -> None:
            super().__init__(hidden)
            self.net = nn.Sequential(first or nn.LazyLinear(4), nn.LazyLinear(hidden), nn.Linear(hidden, 1))

        def setup(self, stage: str) -> None:
            self.net(torch.zeros(2, 4))

    for made in (dict, lambda: {"first": nn.LazyLinear(4)}):
        plain = trained(one, lambda made=made: (Lazy(hidden=7, **made()), loader()))
        assert_same(trained(one, lambda made=made: (Lazy(**made()), loader()), {"hidden": 7}), plain)


def test_entries_beside_a_missing_one(one: Any) -> None:
    """A value of a configuration is injected, though another one of it is missing."""

    class Net(classes(one)["Net"]):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(dropout=config["rate"])

    plain = trained(one, lambda: (Net(Config(rate=0.3, path="???")), loader()))
    make = OBJECTS["configuration"]
    assert_same(trained(one, lambda: (Net(make()), loader()), {"config.rate": 0.3}), plain)


def with_loss(pl: Any) -> Any:
    """A module that is given its loss, and an argument that it does not use."""

    class Lossy(classes(pl)["Net"]):  # type: ignore[misc]
        def __init__(self, loss: Any, momentum: float = 0.0, hidden: int = 5) -> None:
            super().__init__(hidden)
            self.save_hyperparameters(ignore=["loss"])
            self.loss = loss

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(self.net(batch[0]), batch[1])

    return Lossy


def test_a_loss_that_keeps_its_last_value(one: Any) -> None:
    """An argument that nobody uses is found beside it, in a later trial too."""
    loss = KeptLoss()
    for _ in range(2):
        message = refused(one, lambda: (with_loss(one)(loss), loader()), {"momentum": 0.5})
        assert message == (
            "Nothing uses model.momentum: no line of the constructor of Lossy reads it, and it was not read from "
            "hparams in the first batch.\n  Use the argument in Lossy, tune optimizer.momentum instead, or take it out "
            "of the space."
        )


def test_what_cannot_be_copied_stays_out_of_the_way(one: Any) -> None:
    """A loss that nobody can copy once it was used ends no training, and hides no argument that nobody reads."""
    lossy = with_loss(one)

    def train() -> None:
        trainer(one, TuneCallback()).fit(lossy(Locked()), loader(), loader())

    study = th.Study("locked", {"hidden": 7}, metric="val", mode="min", search="random")
    study.optimize(train, trials=1, progress=False)
    assert study.best.outcome.state == "complete"
    study = th.Study("unused", {"momentum": 0.5}, metric="val", mode="min", search="random")
    with pytest.raises(InjectionError, match=r"^Nothing uses model\.momentum: "):
        study.optimize(train, trials=1, progress=False)


def test_what_cannot_be_copied_before_fit(one: Any) -> None:
    """Nothing is copied: a value beside it is as if typed in."""
    lossy = with_loss(one)

    def make(**typed: Any) -> Any:
        loss = Locked()
        loss.lock = threading.Lock()
        return lossy(loss, **typed), loader()

    assert_same(trained(one, make, {"hidden": 7}), trained(one, lambda: make(hidden=7)))


def test_a_list_of_slots_has_one_line_each(one: Any) -> None:
    """A module among the arguments is shown in one line."""
    body = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    message = refused(one, lambda: (with_loss(one)(body), loader()), {"typo": 1})
    row = "    model.loss = Sequential( (0): Linear(in_features=8, out_features=4, bias=True) (1): Linear..."
    assert re.search(f"^{re.escape(row)}$", message, re.MULTILINE)
