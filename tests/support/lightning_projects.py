"""Small Lightning projects as users write them, fitted with values injected or typed in."""

from __future__ import annotations

import functools
import itertools
import random
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import tunehook as th
from accelerator import ACCELERATOR
from tunehook.integrations.lightning import TuneCallback
from tunehook.trial.errors import InjectionError

NAMESPACES = ["lightning.pytorch", "pytorch_lightning"]


def seed(value: int = 3) -> None:
    """Seed all generators, as ``seed_everything`` does."""
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value)


def dataset() -> TensorDataset:
    """Forty numbered samples that do not touch the global random state."""
    made = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(40, 4, generator=made), torch.randn(40, 1, generator=made))


_numbers = itertools.count()


def a_study(values: dict[str, Any]) -> th.Study:
    """A study in memory whose trials all have these values."""
    space = {name: th.Fixed(value) if isinstance(value, list | tuple) else value for name, value in values.items()}
    return th.Study(
        f"fixed-{next(_numbers)}", space, metric="val", mode="min", search="random", snapshots=False,
        storage=optuna.storages.InMemoryStorage(),
    )  # fmt: skip


def late(values: dict[str, Any]) -> TuneCallback:
    """A callback that asks for its trial in fit, where the objects exist already."""
    return TuneCallback(a_study(values))


def trainer(pl: Any, *callbacks: Any, **settings: Any) -> Any:
    """A quiet trainer for two epochs."""
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        **{"max_epochs": 2, "accelerator": ACCELERATOR, "logger": False, **quiet, **settings}, callbacks=list(callbacks)
    )


@functools.cache
def classes(pl: Any) -> dict[str, Any]:
    """Modules and datamodules as users write them."""

    class Base(pl.LightningModule):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    class Net(Base):
        def __init__(self, hidden: int = 5, lr: float = 0.1, dropout: float = 0.2) -> None:
            super().__init__()
            self.lr = lr
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(dropout), nn.Linear(hidden, 1))

    class Saved(Base):
        def __init__(self, hidden: int = 5, lr: float = 0.1, dropout: float = 0.2) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(dropout), nn.Linear(hidden, 1))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    class Late(Base):
        def __init__(self, hidden: int = 5, lr: float = 0.1, dropout: float = 0.2) -> None:
            super().__init__()
            self.hidden, self.lr, self.dropout = hidden, lr, dropout

        def configure_model(self) -> None:
            if not hasattr(self, "net"):
                self.net = nn.Sequential(nn.Linear(4, self.hidden), nn.Dropout(self.dropout), nn.Linear(self.hidden, 1))

    class Hooks(Net):
        def __init__(self, hidden: int = 5, lr: float = 0.1, size: int = 8) -> None:
            super().__init__(hidden, lr)
            self.size = size

        def train_dataloader(self) -> Any:
            return DataLoader(dataset(), batch_size=self.size, shuffle=True)

    class TypedIn(Net):
        size = 8

        def train_dataloader(self) -> Any:
            return DataLoader(dataset(), batch_size=self.size, shuffle=True)

        def val_dataloader(self) -> Any:
            return [DataLoader(dataset(), batch_size=5), DataLoader(dataset(), 4)]

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.sizes = {**getattr(self, "sizes", {}), dataloader_idx: len(batch[0])}

    class Data(pl.LightningDataModule):  # type: ignore[misc]
        def __init__(self, batch_size: int = 8, held_out: int = 10) -> None:
            super().__init__()
            self.batch_size, self.held_out = batch_size, held_out

        def setup(self, stage: str) -> None:
            self.train, self.val = random_split(dataset(), [40 - self.held_out, self.held_out])

        def train_dataloader(self) -> Any:
            return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

        def val_dataloader(self) -> Any:
            return DataLoader(self.val, batch_size=self.batch_size)

    class Split(Data):
        def setup(self, stage: str) -> None:
            own = torch.Generator().manual_seed(1)
            self.train, self.val = random_split(dataset(), [40 - self.held_out, self.held_out], generator=own)

    return {cls.__name__: cls for cls in (Base, Net, Saved, Late, Hooks, TypedIn, Data, Split)}


def weights(module: Any) -> list[torch.Tensor]:
    """Copies of the parameters."""
    return [tensor.detach().clone() for tensor in module.parameters()]


def assert_same(one: Any, two: Any) -> None:
    """Weights are equal bit for bit, and training moved the random state to the same place."""
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        assert torch.equal(first, second)


def loader(size: int = 8) -> Any:
    """A loader that shuffles with the global random state."""
    return DataLoader(dataset(), batch_size=size, shuffle=True)


def trained(
    pl: Any, make: Any, values: dict[str, Any] | None = None, /, *, before: Any = tuple, **settings: Any
) -> list[torch.Tensor]:
    """Weights after a fit of the script with its own values, or of a trial of ``study.optimize``.

    Args:
        pl: The namespace.
        make: The script, which returns what it would give to ``fit``.
        values: The trial's.
        before: Makes the callbacks that come first.
        settings: Those of the Trainer.
    """
    found: list[torch.Tensor] = []

    def train() -> float:
        seed()
        args = make()
        made = trainer(pl, *before(), *([] if values is None else [TuneCallback()]), **settings)
        made.fit(*args)
        found[:] = [*weights(args[0]), torch.get_rng_state()]
        return 0.0

    if values is None:
        train()
    else:
        a_study(values).optimize(train, trials=1, progress=False)
    return found


def scheduled(pl: Any, scheduler: Any, **optimizer: Any) -> Any:
    """A module whose optimizer and scheduler have their values typed in."""
    net = classes(pl)["Net"]

    class Scheduled(net):  # type: ignore[misc, valid-type]
        def configure_optimizers(self) -> Any:
            made = torch.optim.AdamW(self.parameters(), **optimizer)
            return {"optimizer": made, "lr_scheduler": {"scheduler": scheduler(self, made), "interval": "step"}}

    return Scheduled


def one_cycle(module: Any, optimizer: Any, max_lr: float = 0.1) -> Any:
    """A scheduler that needs the number of steps."""
    steps = int(module.trainer.estimated_stepping_batches)
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=max_lr, total_steps=steps)


def warm_up(module: Any, optimizer: Any) -> Any:
    """A warm-up over five steps."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))


def refused(pl: Any, script: Any, values: dict[str, Any], /, **settings: Any) -> str:
    """The message of the error in which a trial of ``study.optimize`` ends, before its first step or right after it.

    Args:
        pl: The namespace.
        script: Returns what ``fit`` is given, or is that, and was made outside of the training function.
        values: The trial's.
        settings: Those of the Trainer.
    """
    plain, hosts = torch.optim.SGD.__init__, []

    def train() -> float:
        args = script() if callable(script) else script
        hosts.append(trainer(pl, TuneCallback(), **settings))
        hosts[-1].fit(*args)
        return 0.0

    with pytest.raises(InjectionError) as error:
        a_study(values).optimize(train, trials=1, progress=False)
    assert all(host.global_step <= 1 for host in hosts)
    assert torch.optim.SGD.__init__ is plain
    return str(error.value)


def refused_late(pl: Any, script: Any, values: dict[str, Any], /) -> str:
    """The message of the error in which a fit ends whose trial is known in fit only."""
    made = trainer(pl, late(values))
    with pytest.raises(InjectionError) as error:
        made.fit(*script())
    assert made.global_step <= 1
    return str(error.value)


def optimized(pl: Any, make: Any) -> Any:
    """A module whose configure_optimizers is ``make``."""
    net = classes(pl)["Net"]
    return type("Optimized", (net,), {"configure_optimizers": make})


def attached(pl: Any) -> Any:
    """A trainer that fits a module, as in setup."""
    made, model = trainer(pl), classes(pl)["Net"]()
    made._data_connector.attach_data(model, train_dataloaders=loader())
    made.strategy.connect(model)
    return made
