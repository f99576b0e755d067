"""The border to Lightning and torch: each function with the real library, so that a new release tells what it broke."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from lightning_projects import NAMESPACES, dataset, trainer
from tunehook.integrations.lightning import host

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning and torch warn of in a training is not asked here

SGD, Steps = torch.optim.SGD, torch.optim.lr_scheduler.StepLR


@pytest.fixture(params=NAMESPACES)
def pl(request: pytest.FixtureRequest) -> Any:
    """Both namespaces."""
    return importlib.import_module(request.param)


def module_of(pl: Any) -> Any:
    """A module with a saved argument and no optimizer."""

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, width: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Linear(width, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.net(batch[0]).pow(2).mean()

        def configure_optimizers(self) -> Any:
            return SGD(self.parameters(), lr=0.1)

    return Net


def test_loops(pl: Any) -> None:
    """Where loaders come from, which ones run, and whether a batch makes a step."""
    seen: list[bool] = []

    class See(pl.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            seen.append(host.accumulates(trainer))

    made = trainer(pl, See(), max_epochs=1, accumulate_grad_batches=2)
    source = host.data_source(made.fit_loop)
    assert source.name == "train_dataloader"
    assert {"instance", "is_defined", "is_module", "dataloader"} <= set(dir(source))
    assert host.combined_loader(made.fit_loop) is None
    loader = DataLoader(dataset(), batch_size=10)
    made.fit(module_of(pl)(), loader)
    assert host.combined_loader(made.fit_loop).flattened == [loader]
    assert seen == [True, False, True, False]
    assert [type(host.real_optimizer(one)) for one in made.optimizers] == [SGD]
    assert not any(map(host.is_mock, made.optimizers))


def test_a_module_without_an_optimizer(pl: Any) -> None:
    """Lightning makes one for it, which is none."""
    net = type("Net", (module_of(pl),), {"configure_optimizers": lambda self: None})
    made = trainer(pl, max_epochs=1)
    made.fit(net(), DataLoader(dataset(), batch_size=10))
    assert all(map(host.is_mock, made.optimizers))


def test_real_optimizer(pl: Any) -> None:
    """The one that ``self.optimizers()`` gives stands for it."""
    real = SGD([nn.Parameter(torch.zeros(1))])
    optimizer = importlib.import_module(f"{pl.__name__}.core.optimizer").LightningOptimizer(real)
    assert host.real_optimizer(optimizer) is host.real_optimizer(real) is real


def test_saved_hyperparameters(pl: Any) -> None:
    """Those that a module saves, and those that a command line gives it to save."""
    net = module_of(pl)
    assert dict(host.saved_hparams(net(3))) == {"width": 3}
    assert host.saved_hparams(pl.LightningModule()) is None
    mixin = sys.modules[f"{pl.__name__}.core.mixins.hparams_mixin"]
    assert host.given_hyperparameters(pl.LightningModule) is None
    if hasattr(mixin, "_given_hyperparameters_context"):  # Lightning 2.1 has none
        with mixin._given_hyperparameters_context({"width": 5}, "it"):
            given = host.given_hyperparameters(pl.LightningModule)
        assert given is not None
        assert given["width"] == 5


def test_arguments_from_which_a_loader_is_made_again(pl: Any) -> None:
    """Given by position, by name, or left to its default."""
    fabric = {"lightning.pytorch": "lightning.fabric", "pytorch_lightning": "lightning_fabric"}[pl.__name__]
    data = importlib.import_module(f"{fabric}.utilities.data")
    with data._replace_dunder_methods(DataLoader, "dataset"):
        loaders = [DataLoader(dataset(), 8), DataLoader(dataset(), batch_size=8), DataLoader(dataset())]
    for loader in loaders:
        host.set_saved(loader, "batch_size", 5)
        args, kwargs = data._get_dataloader_init_args_and_kwargs(loader, torch.utils.data.SequentialSampler(dataset()))
        assert data._reinstantiate_wrapped_cls(loader, *args, **kwargs).batch_size == 5


def test_strategies_that_fork(pl: Any) -> None:
    """Only those whose processes see what this one has."""
    started = {"accelerator": "cpu", "devices": 2}
    found = [trainer(pl, **{**started, "strategy": name}) for name in ("ddp_fork", "ddp_spawn")]
    assert [host.forks(made) for made in (*found, trainer(pl))] == [True, False, False]
    assert [host.starts_processes(made) for made in (*found, trainer(pl))] == [True, True, False]


def test_torch() -> None:
    """What torch keeps to itself of modules, optimizers and schedulers."""
    net = nn.Linear(2, 1)
    assert host.of_compiled(torch.compile(net)) is host.of_compiled(net) is net
    assert host.held_by(nn.Sequential(net))["0"] is net
    assert [host.unscales_itself(torch.optim.AdamW(net.parameters(), fused=fused)) for fused in (True, False)] == [
        True, False,
    ]  # fmt: skip
    optimizer = SGD(net.parameters(), lr=0.1)
    parts: list[Any] = [Steps(optimizer, 1), Steps(optimizer, 2)]
    assert host.inner_schedulers(torch.optim.lr_scheduler.SequentialLR(optimizer, parts, milestones=[2])) == parts
    assert host.inner_schedulers(parts[0]) == []
    assert issubclass(Steps, host.Scheduler)
