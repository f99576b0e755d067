"""Slots of Lightning objects: a fit with injected values equals the plain script with them typed in, or is an error."""

from __future__ import annotations

import functools
import importlib
import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from tunehook.inject import Injection
from tunehook.integrations.lightning_slots import LightningSlots, install_recorders

NAMESPACES = ["lightning.pytorch", "pytorch_lightning"]

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...


@pytest.fixture(params=NAMESPACES)
def pl(request: pytest.FixtureRequest) -> Any:
    """A Lightning namespace with recorders."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip(request.param)
    install_recorders()
    return module


@pytest.fixture
def one() -> Any:
    """One namespace, for what does not depend on it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("lightning.pytorch")
    install_recorders()
    return module


def seed(value: int = 3) -> None:
    """Seed all generators, as ``seed_everything`` does."""
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value)


def dataset() -> TensorDataset:
    """Forty numbered samples that do not touch the global random state."""
    made = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(40, 4, generator=made), torch.randn(40, 1, generator=made))


def tuner(pl: Any, values: dict[str, Any]) -> Any:
    """A callback that injects values, as TuneCallback does."""

    class Tune(pl.Callback):
        def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
            self.slots = LightningSlots(trainer, pl_module, self)
            self.injection = Injection(values, self.slots.slots, notes=self.slots.notes)
            self.injection.apply()
            self.slots.open()

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            self.slots.check_made()
            self.injection.read_back("before training")
            assert self.injection.missing() == [] or "batch_size" in str(self.injection.missing())

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.slots.check_restored()
            self.slots.check_loaders()
            self.injection.read_back("before training")

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *rest: Any) -> None:
            if trainer.global_step <= 1:
                self.slots.check_used()

        def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
            self.slots.finish()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            if hasattr(self, "slots"):
                self.slots.finish()

    return Tune()


def trainer(pl: Any, *callbacks: Any, **settings: Any) -> Any:
    """A quiet trainer for two epochs."""
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(
        **{"max_epochs": 2, "accelerator": "cpu", "logger": False, **quiet, **settings}, callbacks=list(callbacks)
    )


@functools.cache
def classes(pl: Any) -> dict[str, Any]:
    """Modules and datamodules as users write them."""

    class Base(pl.LightningModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    class Net(Base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5, lr: float = 0.1, dropout: float = 0.2) -> None:
            super().__init__()
            self.lr = lr
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(dropout), nn.Linear(hidden, 1))

    class Saved(Base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5, lr: float = 0.1, dropout: float = 0.2) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(dropout), nn.Linear(hidden, 1))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    class Late(Base):  # type: ignore[misc, valid-type]
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

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            self.sizes = {**getattr(self, "sizes", {}), dataloader_idx: len(batch[0])}

    class Data(pl.LightningDataModule):
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


def trained(pl: Any, make: Any, values: dict[str, Any] | None = None, /, **settings: Any) -> list[torch.Tensor]:
    """Weights after a fit; ``make`` is the script, which returns what it would give to ``fit``."""
    seed()
    callbacks = [] if values is None else [tuner(pl, values)]
    args = make()
    made = trainer(pl, *callbacks, **settings)
    made.fit(*args)
    return [*weights(args[0]), torch.get_rng_state()]


@pytest.mark.parametrize("name", ["Net", "Saved", "Late"])
@pytest.mark.parametrize("values", [{"lr": 0.03}, {"hidden": 7}, {"dropout": 0.5}, {"model.hidden": 6, "lr": 0.02}])
def test_constructor_argument_equals_typed_in(pl: Any, name: str, values: dict[str, Any]) -> None:
    """Arguments of the module train the same weights as if they were typed in."""
    cls = classes(pl)[name]
    typed = {name.removeprefix("model."): value for name, value in values.items()}
    plain = trained(pl, lambda: (cls(**typed), loader()))
    assert_same(trained(pl, lambda: (cls(), loader()), values), plain)


@pytest.mark.parametrize("name", ["Data", "Split"])
@pytest.mark.parametrize("order", ["model first", "data first"])
@pytest.mark.parametrize("values", [{"batch_size": 5}, {"held_out": 12}, {"hidden": 7}, {"hidden": 7, "batch_size": 5}])
def test_datamodule_equals_typed_in(pl: Any, name: str, order: str, values: dict[str, Any]) -> None:
    """Arguments of the datamodule, or of the module beside one, train the same weights as if they were typed in."""
    net, data = classes(pl)["Net"], classes(pl)[name]

    def make(**typed: Any) -> Any:
        own = {key: value for key, value in typed.items() if key != "hidden"}
        rest = {key: value for key, value in typed.items() if key == "hidden"}
        if order == "model first":
            return net(**rest), None, None, data(**own)
        made = data(**own)
        return net(**rest), None, None, made

    plain = trained(pl, lambda: make(**values))
    assert_same(trained(pl, make, values), plain)


def test_bare_loader_equals_typed_in(pl: Any) -> None:
    """A batch size put into a loader that was passed to fit is the same as one typed in."""
    net = classes(pl)["Net"]
    plain = trained(pl, lambda: (net(), loader(5)))
    assert_same(trained(pl, lambda: (net(), loader()), {"batch_size": 5}), plain)


def test_collections_of_loaders(one: Any) -> None:
    """Every loader of a collection gets the batch size."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch["a"], 0) + super().training_step(batch["b"][0], 0)

    plain = trained(one, lambda: (Net(), {"a": loader(5), "b": [loader(5)]}))
    assert_same(trained(one, lambda: (Net(), {"a": loader(), "b": [loader()]}), {"batch_size": 5}), plain)


def test_hook_loader_argument_equals_typed_in(pl: Any) -> None:
    """A batch size that is an argument of the module reaches the loader that its hook makes."""
    cls = classes(pl)["Hooks"]
    assert_same(trained(pl, lambda: (cls(),), {"size": 5}), trained(pl, lambda: (cls(size=5),)))


def test_hook_loader_typed_in_equals_typed_in(pl: Any) -> None:
    """A size typed in in a hook is changed for this fit; validation loaders have a name of their own."""
    cls = classes(pl)["TypedIn"]

    class Five(cls):  # type: ignore[misc, valid-type]
        size = 5

    made: list[Any] = []

    def make() -> Any:
        made.append(cls())
        return (made[-1],)

    plain = trained(pl, lambda: (Five(),))
    assert_same(trained(pl, make, {"batch_size": 5, "val_batch_size": 3}), plain)
    assert made[0].sizes == {0: 1, 1: 1}  # 40 samples in batches of 3
    again = trainer(pl, max_epochs=1)
    again.fit(made[0])
    assert again.train_dataloader.batch_size == 8


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


def test_warm_up_equals_typed_in(pl: Any) -> None:
    """An optimizer's learning rate and weight decay are as if typed in, below a scheduler too."""
    cls, typed = scheduled(pl, warm_up, lr=0.1), scheduled(pl, warm_up, lr=0.03, weight_decay=0.2)
    plain = trained(pl, lambda: (typed(), loader()))
    values = {"optimizer.lr": 0.03, "weight_decay": 0.2}
    assert_same(trained(pl, lambda: (cls(), loader()), values), plain)


def test_one_cycle_equals_typed_in(pl: Any) -> None:
    """A scheduler's argument is as if typed in, and estimated_stepping_batches follows the batch size and epochs."""
    cls = scheduled(pl, one_cycle, lr=0.1)
    typed = scheduled(pl, functools.partial(one_cycle, max_lr=0.3), lr=0.1)
    plain = trained(pl, lambda: (typed(), loader(5)), max_epochs=3)
    values = {"max_lr": 0.3, "batch_size": 5, "max_epochs": 3}
    assert_same(trained(pl, lambda: (cls(), loader()), values), plain)


def test_betas_as_list_become_a_tuple(one: Any) -> None:
    """A pair from a configuration file is what a pair typed in is."""
    cls, typed = scheduled(one, warm_up, lr=0.1), scheduled(one, warm_up, lr=0.1, betas=(0.8, 0.9))
    plain = trained(one, lambda: (typed(), loader()))
    assert_same(trained(one, lambda: (cls(), loader()), {"betas": [0.8, 0.9]}), plain)


@pytest.mark.parametrize(
    "values",
    [
        {"max_epochs": 3},
        {"max_steps": 7},
        {"accumulate_grad_batches": 2},
        {"gradient_clip_val": 0.01},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    ],
)
def test_trainer_setting_equals_typed_in(pl: Any, values: dict[str, Any]) -> None:
    """Settings of the trainer are as if typed in."""
    net = classes(pl)["Net"]
    plain = trained(pl, lambda: (net(), loader()), **values)
    injected = {f"trainer.{name}": value for name, value in values.items()}
    assert_same(trained(pl, lambda: (net(), loader()), injected), plain)
