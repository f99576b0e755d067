"""Slots of Lightning objects: a fit with injected values equals the plain script with them typed in, or is an error."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import pickle
import random
import re
import timeit
import types
import warnings
from argparse import Namespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, TensorDataset, random_split

from tunehook.inject import Injection, InjectionError
from tunehook.integrations.lightning_record import KEY
from tunehook.integrations.lightning_slots import LightningSlots, install_recorders
from tunehook.integrations.lightning_window import Window, close_window, open_window

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

    class Tune(pl.Callback):  # type: ignore[misc]
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


def refused(pl: Any, args: Any, values: dict[str, Any], /, *before: Any, **settings: Any) -> str:
    """The message of the error that a fit with these values ends in, before its first step or right after it."""
    made = trainer(pl, *before, tuner(pl, values), **settings)
    with pytest.raises(InjectionError) as error:
        made.fit(*args)
    assert made.global_step <= 1
    assert "__init_subclass__" not in vars(torch.optim.Optimizer)
    return str(error.value)


def test_recording_leaves_classes_and_objects_as_they_are(pl: Any) -> None:
    """Signatures, copies, pickles and TorchScript work as without recorders; installing twice changes nothing."""
    cls = classes(pl)["Net"]
    constructor = pl.LightningModule.__new__
    install_recorders()
    assert pl.LightningModule.__new__ is constructor
    assert list(inspect.signature(cls).parameters) == ["hidden", "lr", "dropout"]
    made = cls(6)
    assert vars(copy.deepcopy(made))[KEY] is vars(made)[KEY]
    plain = pickle.loads(pickle.dumps(vars(made)[KEY]))
    assert type(plain) is dict
    assert plain["args"] == (6,)
    assert pickle.loads(pickle.dumps(vars(pl.LightningDataModule())[KEY]))["args"] == ()


class Holder:
    """An argument that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("no")


def test_an_unpicklable_argument_leaves_the_module_picklable(one: Any) -> None:
    """The record is lost in such a pickle, and nothing else."""

    class Net(one.LightningModule):  # type: ignore[misc]
        def __init__(self, holder: Any) -> None:
            super().__init__()

    record = vars(Net(Holder()))[KEY]
    assert pickle.loads(pickle.dumps(record)) == {}


def test_a_class_with_its_own_new_is_not_recorded(one: Any) -> None:
    """It may hand on other arguments, so that a message says that nothing is known."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return super().__new__(cls)

    message = refused(one, (Net(), loader()), {"hidden": 7})
    assert (
        "    model.<argument>: not possible, Net was constructed before tunehook.integrations.lightning was imported, "
        "and does not call save_hyperparameters()\n"
    ) in message


def test_a_second_fit_goes_on_with_the_trained_weights(pl: Any) -> None:
    """A fit whose values are in place already rebuilds nothing, even with a changed shape."""
    net = classes(pl)["Net"]
    plain = net(hidden=7)
    seed()
    model = net()
    trainer(pl, tuner(pl, {"hidden": 7})).fit(model, loader())
    again = weights(model)
    trainer(pl, tuner(pl, {"hidden": 7}), max_epochs=0).fit(model, loader())
    assert_same(weights(model), again)
    assert [tensor.shape for tensor in again] == [tensor.shape for tensor in weights(plain)]


def test_loaded_weights_stay(pl: Any) -> None:
    """A pretrained module with a new learning rate trains from its own weights."""
    net = classes(pl)["Net"]

    def make(**typed: Any) -> Any:
        model = net(**typed)
        model.load_state_dict({name: tensor + 0.1 for name, tensor in model.state_dict().items()})
        return model, loader()

    assert_same(trained(pl, make, {"lr": 0.03}), trained(pl, lambda: make(lr=0.03)))


def test_frozen_parameters_and_evaluation_modes_stay(one: Any) -> None:
    """What was frozen after construction is frozen after a rebuild."""
    net = classes(one)["Net"]

    def make(**typed: Any) -> Any:
        model = net(**typed)
        model.net[0].requires_grad_(False)
        model.net[1].eval()
        return model, loader()

    assert_same(trained(one, make, {"lr": 0.03}), trained(one, lambda: make(lr=0.03)))


def test_loaded_weights_and_a_changed_shape(one: Any) -> None:
    """Loaded weights cannot be put into another shape."""
    model = classes(one)["Net"]()
    model.net[0].weight.data += 1
    before = weights(model)
    assert refused(one, (model, loader()), {"hidden": 7}) == (
        "model.hidden changes the shape of net.0.bias and 2 more, but weights were loaded or trained before fit.\n"
        "  Such a hyperparameter can only be tuned from scratch: take it out of the space, or do not load."
    )
    assert_same(weights(model), before)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda model: setattr(model, "extra", 1), "extra"),
        (lambda model: setattr(model, "lr", 0.5), "lr"),
        (lambda model: model.add_module("head", nn.ReLU()), "head, head.inplace"),
        (lambda model: model.net[0].register_forward_hook(print), "net.0._forward_hooks"),
        (lambda model: setattr(model, "automatic_optimization", False), "_automatic_optimization"),
        (lambda model: setattr(model.net[1], "p", 0.9), "net.1.p"),
    ],
)
def test_a_module_that_was_changed_after_construction(one: Any, change: Any, named: str) -> None:
    """What would be lost in a rebuild is named."""
    model = classes(one)["Net"]()
    change(model)
    assert refused(one, (model, loader()), {"hidden": 7}) == (
        f"model.hidden cannot be injected: Net was changed after it was constructed ({named}), and constructing it "
        "anew would lose that.\n"
        "  Do it in Net.__init__ or in a hook such as configure_model, or take the name out of the space."
    )


def test_an_attribute_changed_by_hand_to_hide_the_value(one: Any) -> None:
    """A value equal to the typed-in one is not taken for granted where the attribute says otherwise."""
    model = classes(one)["Net"](lr=0.1)
    model.lr = 0.5
    message = refused(one, (model, loader()), {"lr": 0.1})
    assert message.startswith("model.lr cannot be injected: Net was changed after it was constructed (lr)")


def test_a_constructor_that_is_not_deterministic(one: Any) -> None:
    """A clock or a unique name in a constructor is no change."""
    base = classes(one)["Net"]
    counter = iter(range(100))

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5) -> None:
            super().__init__(hidden)
            self.name = f"run-{next(counter)}"

    plain = trained(one, lambda: (Net(7), loader()))
    assert_same(trained(one, lambda: (Net(), loader()), {"hidden": 7}), plain)


def test_a_constructor_that_refuses_the_value(one: Any) -> None:
    """The error of the user's constructor is the reason, and the module is as before."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5) -> None:
            if hidden > 6:
                raise ValueError("too wide")
            super().__init__(hidden)

    model = Net()
    before = dict(vars(model))
    assert refused(one, (model, loader()), {"hidden": 7}) == (
        "Net cannot be constructed with model.hidden = 7: ValueError: too wide\n  Leave such values out of the space."
    )
    assert vars(model)["_modules"] is before["_modules"]


def test_a_constructor_that_uses_up_its_arguments(one: Any) -> None:
    """An argument that is empty after the first call cannot make the object again."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, config: dict[str, int], lr: float = 0.1) -> None:
            super().__init__(config.pop("hidden"), lr)

    assert refused(one, (Net({"hidden": 4}), loader()), {"lr": 0.2}) == (
        "Net cannot be constructed again with its own arguments: KeyError: 'hidden'\n"
        "  Its constructor must not use up what it is given; or take its hyperparameters out of the space."
    )


def test_random_numbers_between_construction_and_fit(one: Any) -> None:
    """Where the random state cannot be traced, a value that draws other numbers is an error, and lr is none."""
    net = classes(one)["Net"]

    def make(**typed: Any) -> Any:
        model = net(**typed)
        torch.randn(3)
        return model, loader()

    assert_same(trained(one, make, {"lr": 0.03}), trained(one, lambda: make(lr=0.03)))
    seed()
    assert refused(one, make(), {"hidden": 7}) == (
        "model.hidden: the random state moved between the construction of Net and fit by code that cannot be "
        "replayed, so that the trial would not equal the same script with the value typed in.\n"
        "  Construct Net right before trainer.fit, or call seed_everything again right before it."
    )


def test_seeding_again_right_before_fit(one: Any) -> None:
    """A fresh seed makes what was drawn before irrelevant."""
    net = classes(one)["Net"]

    def make(**typed: Any) -> Any:
        model = net(**typed)
        torch.randn(3)
        one.seed_everything(5)
        return model, loader()

    assert_same(trained(one, make, {"hidden": 7}), trained(one, lambda: make(hidden=7)))


def test_a_module_that_draws_from_every_generator(one: Any) -> None:
    """Python's and NumPy's random states are restored like torch's."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5) -> None:
            super().__init__(hidden)
            self.drawn = [random.random() for _ in range(hidden)]  # noqa: S311
            self.sum = float(np.random.rand(hidden).sum())

        def on_train_start(self) -> None:
            self.net[0].bias.data += random.random() + np.random.rand()  # noqa: S311

    plain = trained(one, lambda: (Net(7), loader()))
    assert_same(trained(one, lambda: (Net(), loader()), {"hidden": 7}), plain)


def test_a_callback_that_copied_the_model(one: Any) -> None:
    """Weight averaging before our callback would average the old model."""
    averaging = one.callbacks.StochasticWeightAveraging(swa_lrs=0.01)
    assert refused(one, (classes(one)["Net"](), loader()), {"hidden": 7}, averaging) == (
        "StochasticWeightAveraging copied the model before its hyperparameters were injected.\n"
        "  Put TuneCallback first in Trainer(callbacks=[...])."
    )


def test_a_launcher_of_processes(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy that loads the weights back into this process's model cannot change shapes."""

    class Launcher:
        _start_method = "spawn"

        def launch(self, function: Any, *args: Any, trainer: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

    made = trainer(one, tuner(one, {"hidden": 7}))
    monkeypatch.setattr(made.strategy, "_launcher", Launcher())
    expected = (
        "model.hidden changes the shape of net.0.bias and 2 more, but the strategy trains in other processes and loads "
        "the weights back into the model of this one.\n"
    )
    with pytest.raises(InjectionError, match=re.escape(expected)):
        made.fit(classes(one)["Net"](), loader())


def test_configure_callbacks_that_depends_on_the_value(one: Any) -> None:
    """Callbacks of the module were made before injection; with the same ones there is no error."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, patience: int = 3, hidden: int = 5) -> None:
            super().__init__(hidden)
            self.patience = patience

        def configure_callbacks(self) -> Any:
            return one.callbacks.EarlyStopping("val", patience=self.patience, check_on_train_epoch_end=False)

    assert refused(one, (Net(), loader()), {"patience": 7}) == (
        "model.patience changes what Net.configure_callbacks() returns, which Lightning asked for before "
        "hyperparameters were injected.\n"
        "  Give these callbacks to the Trainer, or take the name out of the space."
    )
    trained(one, lambda: (Net(), loader(), loader()), {"hidden": 7})


def test_a_dead_argument(pl: Any) -> None:
    """An argument that changes nothing and that nobody reads is an error after the first batch."""
    base = classes(pl)["Saved"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5, lr: float = 0.1, dropout: float = 0.2, unused: float = 1.0) -> None:
            super().__init__(hidden, lr, dropout)
            self.save_hyperparameters()

    values = {"hidden": 7, "lr": 0.2, "dropout": 0.5, "unused": 2.0}
    assert refused(pl, (Net(), loader()), values) == (
        "Nothing uses model.unused: Net is the same with 1.0 and with 2.0, and did not read it from hparams in the "
        "first batch.\n"
        "  Use the argument in Net, or take it out of the space."
    )


def test_an_argument_that_only_a_function_keeps(one: Any) -> None:
    """A value in a closure, a partial or an object of one's own is used."""
    base = classes(one)["Net"]

    class Weighting:
        def __init__(self, power: float) -> None:
            self.table = (power**2,)

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, alpha: float = 1.0, beta: float = 1.0, power: float = 1.0) -> None:
            super().__init__()
            twice = alpha * 2
            self.scale = lambda loss: loss * twice
            self.shift = functools.partial(torch.add, alpha=beta + 1)
            self.weighting = Weighting(power)

    trained(one, lambda: (Net(), loader()), {"alpha": 2.0, "beta": 3.0, "power": 4.0})


def test_keyword_arguments_of_base_classes(one: Any) -> None:
    """Arguments that go through ``**kwargs`` to a base class are slots too."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, extra: int = 1, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.extra = extra

    plain = trained(one, lambda: (Net(hidden=7, dropout=0.5), loader()))
    assert_same(trained(one, lambda: (Net(hidden=4), loader()), {"hidden": 7, "dropout": 0.5}), plain)


def test_types_come_from_annotations_and_defaults(one: Any) -> None:
    """An annotation is the type, a number as a default is a float, no default takes anything."""

    class Net(one.LightningModule):  # type: ignore[misc]
        def __init__(self, a: int, b: float | None = None, c=1, d=None, e="x", *, f=True) -> None:  # type: ignore[no-untyped-def]
            super().__init__()

    made = trainer(one)
    model = Net(1)
    made.fit_loop._data_source.instance = model
    made.strategy.connect(model)
    slots = {slot.path: slot for slot in LightningSlots(made, model).slots}
    types = {name: slots[f"model.{name}"].type for name in "abcdef"}
    assert types == {"a": int, "b": float | None, "c": float, "d": None, "e": str, "f": bool}
    assert [slots[f"model.{name}"].get() for name in "abcdef"] == [1, None, 1, None, "x", True]


def test_the_same_argument_in_module_and_datamodule(one: Any) -> None:
    """It is set in both, as Lightning's logger demands."""
    base, data = classes(one)["Hooks"], classes(one)["Data"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, batch_size: int = 8) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.batch_size = batch_size

    class Data(data):  # type: ignore[misc, valid-type]
        def __init__(self, batch_size: int = 8) -> None:
            super().__init__(batch_size)
            self.save_hyperparameters()

    plain = trained(one, lambda: (Net(5), None, None, Data(5)))
    made: list[Any] = []

    def make() -> Any:
        made[:] = [Net(), None, None, Data()]
        return made

    assert_same(trained(one, make, {"batch_size": 5}), plain)
    assert made[0].hparams_initial == made[3].hparams_initial == {"batch_size": 5}


def without_record(model: Any) -> Any:
    """The model as if it was constructed before recorders were installed."""
    del vars(model)[KEY]
    return model


def test_hyperparameters_are_enough_for_what_leaves_weights_alone(pl: Any) -> None:
    """Without a record the call is taken from hparams, as load_from_checkpoint does."""
    cls = classes(pl)["Saved"]
    plain = trained(pl, lambda: (cls(lr=0.03, dropout=0.5), loader()))
    values = {"lr": 0.03, "dropout": 0.5}
    assert_same(trained(pl, lambda: (without_record(cls()), loader()), values), plain)


def test_hyperparameters_without_a_required_argument(one: Any) -> None:
    """What was ignored cannot be found again."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, loss: Any, hidden: int = 5) -> None:
            super().__init__(hidden)
            self.save_hyperparameters(ignore="loss")

    assert refused(one, (without_record(Net(nn.MSELoss())), loader()), {"hidden": 7}) == (
        "Net cannot be constructed again: its argument loss is not among its saved hyperparameters.\n"
        "  Import tunehook.integrations.lightning before Net is constructed, or do not ignore loss in "
        "save_hyperparameters()."
    )


def test_hyperparameters_and_a_changed_shape(one: Any) -> None:
    """Without the random state new weights would not be those of the plain script."""
    seed()
    message = refused(one, (without_record(classes(one)["Saved"]()), loader()), {"hidden": 7})
    assert message.startswith("model.hidden changes the shape of net.0.bias and 2 more, but ")


def test_hyperparameters_given_by_a_command_line(one: Any) -> None:
    """Those that Lightning's command line hands to save_hyperparameters stay, with the new values in them."""
    cls = classes(one)["Saved"]
    mixin = importlib.import_module("lightning.pytorch.core.mixins.hparams_mixin")
    if not hasattr(mixin, "_given_hyperparameters_context"):
        pytest.skip("this Lightning's command line leaves save_hyperparameters alone")

    def make() -> Any:
        with mixin._given_hyperparameters_context({"hidden": 5, "lr": 0.1, "dropout": 0.2, "_class_path": "x"}, "cli"):
            return cls(), loader()

    plain = trained(one, lambda: (cls(lr=0.03), loader()))
    assert_same(trained(one, make, {"lr": 0.03}), plain)


def test_a_datamodule_that_was_changed_after_construction(one: Any) -> None:
    """What setup makes is legitimate; what was set by hand would be lost."""
    data = classes(one)["Data"]()
    data.note = 1
    assert refused(one, (classes(one)["Net"](), None, None, data), {"batch_size": 5}) == (
        "data.batch_size cannot be injected: Data was changed after it was constructed (note), and constructing it "
        "anew would lose that.\n"
        "  Do it in Data.__init__ or in a hook such as configure_model, or take the name out of the space."
    )
    assert data.note == 1


def test_a_datamodule_made_from_datasets(one: Any) -> None:
    """Its batch size lies in its loaders only."""
    net = classes(one)["Net"]

    def make(size: int = 8) -> Any:
        return net(), None, None, one.LightningDataModule.from_datasets(dataset(), batch_size=size)

    assert_same(trained(one, make, {"batch_size": 5}), trained(one, lambda: make(5)))


def test_optimizer_key_that_does_not_exist(one: Any) -> None:
    """The optimizer's own keys are listed."""
    expected = (
        "optimizer.betas = (0.8, 0.9) was taken up by nothing. What the optimizers of this fit take:\n"
        "    optimizer.0 (SGD): lr, momentum, dampening, weight_decay, nesterov, maximize, foreach, differentiable, "
        "fused\n"
        "  Rename optimizer.betas in the space, or take it out."
    )
    assert refused(one, (classes(one)["Net"](), loader()), {"betas": (0.8, 0.9)}) == expected


def test_optimizer_that_was_made_before(one: Any) -> None:
    """An optimizer from a constructor cannot be edited."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)

        def configure_optimizers(self) -> Any:
            return self.optimizer

    assert refused(one, (Net(), loader()), {"optimizer.lr": 0.2}) == (
        "optimizer.lr = 0.2 was taken up by nothing: no optimizer was made by configure_optimizers.\n"
        "  Make it there, or take optimizer.lr out of the space."
    )


def several(pl: Any, lrs: tuple[float, float] = (0.1, 0.1), decays: tuple[float, float] = (0.9, 0.9)) -> Any:
    """A module with two optimizers and schedulers, stepped by hand."""
    net = classes(pl)["Net"]

    class Several(net):  # type: ignore[misc, valid-type]
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(super().training_step(batch, batch_idx))
            for made, scheduler in zip(self.optimizers(), self.lr_schedulers(), strict=True):
                made.step()
                scheduler.step()
                made.zero_grad()

        def configure_optimizers(self) -> Any:
            made = [torch.optim.Adam(self.net[part].parameters(), lr=lr) for part, lr in zip((0, 2), lrs, strict=True)]
            exponential = torch.optim.lr_scheduler.ExponentialLR
            return made, [exponential(each, gamma) for each, gamma in zip(made, decays, strict=True)]

    return Several


def test_several_optimizers_and_schedulers(pl: Any) -> None:
    """They are named by number, in the order in which they are made."""
    cls, typed = several(pl), several(pl, (0.1, 0.03), (0.5, 0.9))
    plain = trained(pl, lambda: (typed(), loader()))
    assert_same(trained(pl, lambda: (cls(), loader()), {"optimizer.1.lr": 0.03, "scheduler.0.gamma": 0.5}), plain)
    assert refused(pl, (cls(), loader()), {"optimizer.lr": 0.03}) == (
        "optimizer.lr could go to 2 optimizers.\n"
        "  Write optimizer.0.lr or optimizer.1.lr in the space, in the order in which they are made."
    )
    assert refused(pl, (cls(), loader()), {"gamma": 0.5}) == (
        "scheduler.gamma could go to 2 schedulers.\n"
        "  Write scheduler.0.gamma or scheduler.1.gamma in the space, in the order in which they are made."
    )


def test_manual_optimization(one: Any) -> None:
    """Clipping and accumulation are not heeded by a module that optimizes by hand."""
    assert refused(one, (several(one)(), loader()), {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}) == (
        "trainer.accumulate_grad_batches, trainer.gradient_clip_val has no effect: Several optimizes manually "
        "(automatic_optimization = False).\n"
        "  Make it an argument of the module's constructor and use it in training_step."
    )


def optimized(pl: Any, make: Any) -> Any:
    """A module whose configure_optimizers is ``make``."""
    net = classes(pl)["Net"]
    return type("Optimized", (net,), {"configure_optimizers": make})


def test_parameter_group_with_its_own_value(one: Any) -> None:
    """A value that does not reach all groups is an error."""
    cls = optimized(
        one,
        lambda self: torch.optim.SGD(
            [{"params": self.net[0].parameters()}, {"params": self.net[2].parameters(), "lr": 0.5}], lr=0.1
        ),
    )
    assert refused(one, (cls(), loader()), {"optimizer.lr": 0.2}) == (
        "optimizer.lr = 0.2 does not reach parameter group 1 of SGD, which has its own lr.\n"
        "  Make it an argument of the module's constructor, or leave lr out of the group."
    )


def test_an_optimizer_validates_its_value(one: Any) -> None:
    """A wrong value is refused by the optimizer, as when it is typed in."""
    made = trainer(one, tuner(one, {"optimizer.lr": -1.0}))
    with pytest.raises(ValueError, match=re.escape("Invalid learning rate: -1.0")):
        made.fit(optimized(one, lambda self: torch.optim.SGD(self.parameters(), lr=0.1))(), loader())


def test_scheduler_that_overwrites_the_learning_rate(one: Any) -> None:
    """OneCycleLR sets its own learning rates; the way out is its max_lr."""
    message = refused(one, (scheduled(one, one_cycle, lr=0.1)(), loader()), {"optimizer.lr": 0.2})
    assert message == (
        "optimizer.lr = 0.2 has no effect: OneCycleLR overwrites it with 0.004.\n  Tune scheduler.max_lr instead."
    )

    def cyclic(module: Any, optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.1, cycle_momentum=False)

    message = refused(one, (scheduled(one, cyclic, lr=0.1)(), loader()), {"optimizer.lr": 0.2})
    assert message == (
        "optimizer.lr = 0.2 has no effect: CyclicLR overwrites it with 0.01.\n"
        "  Tune scheduler.base_lr or scheduler.max_lr instead."
    )


def test_schedulers_within_a_scheduler(one: Any) -> None:
    """Each scheduler of a SequentialLR has its own arguments."""

    def sequence(module: Any, optimizer: Any, start: float = 0.1, gamma: float = 0.9) -> Any:
        schedulers = torch.optim.lr_scheduler
        parts = [schedulers.LinearLR(optimizer, start, total_iters=3), schedulers.ExponentialLR(optimizer, gamma)]
        return schedulers.SequentialLR(optimizer, parts, milestones=[3])

    cls = scheduled(one, sequence, lr=0.1)
    typed = scheduled(one, functools.partial(sequence, start=0.4, gamma=0.7), lr=0.1)
    plain = trained(one, lambda: (typed(), loader()))
    assert_same(trained(one, lambda: (cls(), loader()), {"start_factor": 0.4, "gamma": 0.7}), plain)


def test_windows_leave_classes_as_they_were() -> None:
    """Whatever the order in which windows close, and for classes that are defined meanwhile."""
    sgd = torch.optim.SGD.__init__
    one, two = Window("optimizer"), Window("optimizer")
    open_window(one)
    open_window(two)
    open_window(two)
    assert torch.optim.SGD.__init__ is not sgd

    class Mine(torch.optim.SGD):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, lr=lr / 2)

    two.staged["lr"] = 0.6
    made = Mine([nn.Parameter(torch.zeros(1))])
    assert made.param_groups[0]["lr"] == 0.3
    close_window(one)
    assert torch.optim.SGD.__init__ is not sgd
    close_window(two)
    close_window(two)
    assert torch.optim.SGD.__init__ is sgd
    assert Mine([nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] == 0.05
    assert "__init_subclass__" not in vars(torch.optim.Optimizer)


@pytest.mark.parametrize("name", ["lr", "optimizer.lr"])
def test_checkpoint_that_restores_an_old_learning_rate(pl: Any, tmp_path: Any, name: str) -> None:
    """A restored optimizer would train with the old value."""
    cls = classes(pl)["Net"]
    if name == "optimizer.lr":
        cls = optimized(pl, lambda self: torch.optim.SGD(self.parameters(), lr=0.1))
    made = trainer(pl, max_epochs=1)
    made.fit(cls(), loader())
    made.save_checkpoint(tmp_path / "old.ckpt")
    tuned = trainer(pl, tuner(pl, {name: 0.03}), max_epochs=2)
    expected = (
        "The checkpoint restored lr of SGD: it is 0.1 instead of the injected 0.03.\n"
        "  Load only the weights (load_from_checkpoint, load_state_dict), or take the name out of the space."
    )
    with pytest.raises(InjectionError, match=re.escape(expected)):
        tuned.fit(cls(), loader(), ckpt_path=tmp_path / "old.ckpt")


def test_checkpoint_and_a_changed_shape(one: Any, tmp_path: Any) -> None:
    """Weights that fit restores do not fit another shape."""
    net = classes(one)["Net"]
    made = trainer(one, max_epochs=1)
    made.fit(net(), loader())
    made.save_checkpoint(tmp_path / "old.ckpt")
    expected = "model.hidden changes the shape of net.0.bias and 2 more, but fit restores a checkpoint.\n"
    with pytest.raises(InjectionError, match=re.escape(expected)):
        trainer(one, tuner(one, {"hidden": 7})).fit(net(), loader(), ckpt_path=tmp_path / "old.ckpt")


def test_learning_rate_finder(pl: Any) -> None:
    """One that runs before fit and changes an injected learning rate is told."""
    cls = classes(pl)["Net"]
    model = cls()
    made = trainer(pl, tuner(pl, {"lr": 0.03}), max_epochs=5)
    finder = importlib.import_module(f"{pl.__name__}.tuner").Tuner(made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finder.lr_find(model, loader(), num_training=20, attr_name="lr", update_attr=True)
    assert model.lr != 0.03
    expected = "model.lr cannot be injected: Net was changed after it was constructed (lr)"
    with pytest.raises(InjectionError, match=re.escape(expected)):
        made.fit(model, loader())


def test_learning_rate_finder_within_fit(pl: Any) -> None:
    """One that is a callback and changes an injected learning rate is told when training starts."""
    finder = pl.callbacks.LearningRateFinder(num_training_steps=20, attr_name="lr")
    made = trainer(pl, tuner(pl, {"lr": 0.03}), finder, max_epochs=5)
    with pytest.raises(InjectionError, match=re.escape("instead of 0.03 (hyperparameter 'lr')")) as error:
        made.fit(classes(pl)["Net"](), loader())
    assert str(error.value).startswith("Injected values were lost before training:\n  model.lr holds ")


class Endless(IterableDataset[torch.Tensor]):
    """Samples without a length."""

    def __iter__(self) -> Any:
        return iter(dataset())


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: DataLoader(dataset(), batch_size=None), "a DataLoader has no batch size"),
        (
            lambda: DataLoader(dataset(), batch_sampler=BatchSampler(RandomSampler(dataset()), 4, False)),
            "a DataLoader has a batch sampler of its own",
        ),
        (lambda: [(torch.zeros(2, 4), torch.zeros(2, 1))], "list is no torch DataLoader"),
    ],
)
def test_loader_without_a_batch_size(one: Any, make: Any, why: str) -> None:
    """A loader that does not make its batches by size is an error, passed to fit or made by a hook."""
    expected = (
        f"data.batch_size = 5 cannot be injected: {why}.\n"
        "  Make the batch size an argument of the datamodule or module that makes it."
    )
    assert refused(one, (classes(one)["Net"](), make()), {"batch_size": 5}) == expected
    hook = type("Hook", (classes(one)["Net"],), {"train_dataloader": lambda self: make()})
    assert refused(one, (hook(),), {"batch_size": 5}) == expected


def test_loader_of_an_iterable_dataset(one: Any) -> None:
    """A stream of samples is batched with the new size."""
    net = classes(one)["Net"]
    plain = trained(one, lambda: (net(), DataLoader(Endless(), batch_size=5)))
    assert_same(trained(one, lambda: (net(), DataLoader(Endless(), batch_size=8)), {"batch_size": 5}), plain)


def test_loader_that_lightning_makes_again(one: Any) -> None:
    """A loader that is constructed anew, as for a distributed sampler, has the new size too."""
    cls = classes(one)["TypedIn"]
    plain = trained(one, lambda: (type("Five", (cls,), {"size": 5})(),), overfit_batches=3)
    assert_same(trained(one, lambda: (cls(),), {"batch_size": 5}, overfit_batches=3), plain)


def test_loader_that_types_in_its_size(one: Any) -> None:
    """A loader class with its own size comes back with it when it is constructed anew."""

    class Four(DataLoader[Any]):
        def __init__(self, data: Any, **kwargs: Any) -> None:
            super().__init__(data, **{"batch_size": 4, "shuffle": True, **kwargs, "batch_size": 4})  # noqa: F601

    hook = type("Hook", (classes(one)["Net"],), {"train_dataloader": lambda self: Four(dataset())})
    assert refused(one, (hook(),), {"batch_size": 5}, overfit_batches=3) == (
        "data.batch_size = 5 does not reach Four, which has batches of 4.\n"
        "  Make the batch size an argument of the datamodule or module that makes the loader."
    )


@pytest.mark.parametrize("value", [0, -3, True, 2.5])
def test_batch_size_that_is_none(one: Any, value: Any) -> None:
    """A batch size is a positive integer."""
    size = LightningSlots(attached(one), attached(one).lightning_module)._loaders[0]
    with pytest.raises(InjectionError) as error:
        size.set(value)
    assert str(error.value) == (
        f"data.batch_size is {value!r}, but a batch size is an integer from 1.\n  Use a distribution that gives one."
    )


def attached(pl: Any) -> Any:
    """A trainer that fits a module, as in setup."""
    made, model = trainer(pl), classes(pl)["Net"]()
    made._data_connector.attach_data(model, train_dataloaders=loader())
    made.strategy.connect(model)
    return made


@pytest.mark.parametrize("name", ["precision", "devices", "strategy", "num_nodes", "accelerator"])
def test_settings_that_come_too_late(pl: Any, name: str) -> None:
    """What a Trainer decides when it is made is an error that names the way out."""
    assert refused(pl, (classes(pl)["Net"](), loader()), {f"trainer.{name}": 2}) == (
        f"trainer.{name} = 2 cannot be injected: it is decided when the Trainer is made, before callbacks run.\n"
        f"  Take it out of the space and give it to Trainer({name}=...) yourself."
    )


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("max_epochs", -2, "an integer from 0, or -1 for no limit"),
        ("max_steps", -2, "an integer from 0, or -1 for no limit"),
        ("accumulate_grad_batches", 0, "an integer from 1"),
        ("gradient_clip_val", -0.5, "a number from 0, or None for no clipping"),
        ("gradient_clip_algorithm", "nrom", "'norm' or 'value'"),
    ],
)
def test_settings_with_wrong_values(one: Any, name: str, value: Any, rule: str) -> None:
    """The rule is stated with what was given."""
    assert refused(one, (classes(one)["Net"](), loader()), {name: value}) == (
        f"trainer.{name} is {value!r}, but it takes {rule}.\n  Use a distribution that gives one."
    )


def test_unknown_names_list_what_exists(one: Any) -> None:
    """The message shows every slot that can be listed, and notes for the others."""
    assert refused(one, (classes(one)["Net"](), loader()), {"hiden": 1}) == (
        "There is nothing called 'hiden' to inject. Did you mean 'hidden'?\n"
        "  What can be injected here:\n"
        "    model.hidden = 5\n"
        "    model.lr = 0.1\n"
        "    model.dropout = 0.2\n"
        "    data.batch_size = 8\n"
        "    trainer.max_epochs = 2\n"
        "    trainer.max_steps = -1\n"
        "    trainer.accumulate_grad_batches = 1\n"
        "    trainer.gradient_clip_val = None\n"
        "    trainer.gradient_clip_algorithm = None\n"
        "    optimizer.<argument> of the optimizer that configure_optimizers makes\n"
        "    scheduler.<argument> of the scheduler that configure_optimizers makes\n"
        "  Rename 'hiden' in the space, or make it an argument of the constructor that should use it."
    )


def test_a_module_argument_that_is_initialized_in_place(one: Any) -> None:
    """Weights that were loaded into a module which is an argument survive a constructor that initializes it."""
    base = classes(one)["Base"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, net: Any, lr: float = 0.1) -> None:
            super().__init__()
            self.net, self.lr = net, lr
            nn.init.uniform_(net.weight)

    def make(**typed: Any) -> Any:
        model = Net(nn.Linear(4, 1), **typed)
        model.net.weight.data += 1
        return model, loader()

    assert_same(trained(one, make, {"lr": 0.03}), trained(one, lambda: make(lr=0.03)))


def test_a_method_that_was_put_on_the_module(one: Any) -> None:
    """Lightning's command line adds configure_optimizers so; a method that a constructor chooses is chosen anew."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5) -> None:
            super().__init__(hidden)
            self.act = self.one if hidden == 5 else self.two

        def one(self) -> float:
            return 1.0

        def two(self) -> float:
            return 2.0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.act() * super().training_step(batch, batch_idx)

    def make(hidden: int = 5) -> Any:
        model = Net(hidden)
        adam = functools.partial(lambda module, lr: torch.optim.Adam(module.parameters(), lr=lr), lr=0.01)
        model.configure_optimizers = types.MethodType(functools.update_wrapper(adam, base.configure_optimizers), model)
        return model, loader()

    assert_same(trained(one, make, {"hidden": 7}), trained(one, lambda: make(7)))


def test_a_trained_module_goes_on_with_another_value(one: Any) -> None:
    """A second fit with another learning rate begins with the trained weights."""

    def twice(tune: Any) -> list[torch.Tensor]:
        seed()
        model = classes(one)["Saved"](lr=0.03)
        trainer(one).fit(model, loader())
        if tune is None:
            model.hparams.lr = 0.2
        trainer(one, *([] if tune is None else [tune])).fit(model, loader())
        return weights(model)

    assert_same(twice(tuner(one, {"lr": 0.2})), twice(None))


def test_a_datamodule_that_was_set_up_by_hand(one: Any) -> None:
    """A script may call setup before fit, to learn a size from it."""
    net, data = classes(one)["Net"], classes(one)["Data"]

    def make(hidden: int = 5, **typed: Any) -> Any:
        made = data(**typed)
        made.setup("fit")
        return net(hidden + len(made.train) * 0), None, None, made

    for values in ({"batch_size": 5}, {"hidden": 7}, {"hidden": 7, "held_out": 12}):
        assert_same(trained(one, make, values), trained(one, lambda values=values: make(**values)))


def test_two_trials_after_each_other(one: Any) -> None:
    """One trainer that fits two new modules injects into each of them."""
    net = classes(one)["Net"]

    def twice(*models: Any) -> list[torch.Tensor]:
        made = []
        for make in models:
            seed()
            made += trained(one, lambda make=make: (make(), loader()), {"hidden": 7})
        return made

    first = trained(one, lambda: (net(hidden=7), loader()))
    assert_same(twice(net, net), [*first, *first])


def test_random_state_is_left_alone_where_nothing_is_new(one: Any) -> None:
    """Values that are in place already, checks and listing draw no random numbers."""
    net = classes(one)["Net"]
    plain = trained(one, lambda: (net(), loader()))
    values = {"hidden": 5, "lr": 0.1, "dropout": 0.2, "batch_size": 8, "trainer.max_epochs": 2}
    assert_same(trained(one, lambda: (net(), loader()), values), plain)


def test_an_unseeded_script(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a seed there is nothing to be equal to, so that moved random numbers are no error."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    torch.seed()
    model = classes(one)["Net"]()
    torch.randn(3)
    trainer(one, tuner(one, {"hidden": 7})).fit(model, loader())
    assert model.net[0].out_features == 7


def test_recording_is_quick(one: Any) -> None:
    """A construction is recorded in less than 0.3 ms."""
    bare = one.LightningDataModule
    took = min(timeit.repeat(bare, number=20, repeat=10)) / 20
    assert took < 0.3e-3


@pytest.mark.parametrize("kind", [dict, Namespace])
def test_entries_of_a_configuration(one: Any, kind: Any) -> None:
    """Entries of a dict or namespace that is an argument are slots; the script's own object stays as it is."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, config: Any) -> None:
            entries = config if isinstance(config, dict) else vars(config)
            super().__init__(entries["net"]["hidden"])
            self.save_hyperparameters(config)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    config = kind(lr=0.1, net={"hidden": 5}, unused=1)
    plain = trained(one, lambda: (Net(kind(lr=0.03, net={"hidden": 7}, unused=1)), loader()))
    values = {"model.config.lr": 0.03, "config.net.hidden": 7}
    assert_same(trained(one, lambda: (Net(config), loader()), values), plain)
    assert config == kind(lr=0.1, net={"hidden": 5}, unused=1)


def test_a_hook_on_a_parameter(one: Any) -> None:
    """A hook as those of wandb.watch would be lost in a rebuild."""
    model = classes(one)["Net"]()
    model.net[0].weight.register_hook(lambda grad: grad)
    message = refused(one, (model, loader()), {"lr": 0.2})
    assert message.startswith(
        "model.lr cannot be injected: Net was changed after it was constructed (net.0.weight (a hook)), and"
    )


def test_an_argument_that_the_script_also_gave_to_the_loader(one: Any) -> None:
    """A batch size of the module does not reach a loader that was passed to fit."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, batch_size: int = 8) -> None:
            super().__init__()
            self.batch_size = batch_size

    model = Net()
    assert refused(one, (model, loader(model.batch_size)), {"batch_size": 5}) == (
        "model.batch_size = 5 does not reach the loader that was passed to fit, which has batches of 8.\n"
        "  Write 'data.batch_size' in the space, or make the loader in model's train_dataloader."
    )


def test_steps_for_a_trainer_without_epochs(pl: Any) -> None:
    """A number of steps lifts the limit of 1000 epochs that a Trainer without either has."""
    net = classes(pl)["Net"]
    plain = trained(pl, lambda: (net(), loader()), max_epochs=None, max_steps=12)
    made = trainer(pl, tuner(pl, {"trainer.max_steps": 12}), max_epochs=None)
    seed()
    model = net()
    made.fit(model, loader())
    assert_same([*weights(model), torch.get_rng_state()], plain)
    assert made.max_epochs == -1


def test_a_compiled_module(one: Any) -> None:
    """A module that went through torch.compile stays compiled."""
    net = classes(one)["Net"]

    def fitted(*callbacks: Any, **typed: Any) -> Any:
        seed()
        compiled = torch.compile(net(**typed), backend="eager")
        trainer(one, *callbacks, max_epochs=1).fit(compiled, loader())
        return weights(compiled)

    assert_same(fitted(tuner(one, {"hidden": 7, "lr": 0.03})), fitted(hidden=7, lr=0.03))


def test_numbers_drawn_in_both_constructors(one: Any) -> None:
    """The second constructor begins where the first one would end with the new value."""
    net, data = classes(one)["Net"], classes(one)["Data"]

    class Noisy(data):  # type: ignore[misc, valid-type]
        def __init__(self, batch_size: int = 8, noise: int = 3) -> None:
            super().__init__(batch_size)
            self.noise = torch.randn(noise).tolist()

        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.order = torch.randperm(30)

        def train_dataloader(self) -> Any:
            return DataLoader(torch.utils.data.Subset(self.train, self.order.tolist()), self.batch_size, shuffle=True)

    def model_first(hidden: int = 5, **typed: Any) -> Any:
        model = net(hidden)
        return model, None, None, Noisy(**typed)

    def data_first(hidden: int = 5, **typed: Any) -> Any:
        made = Noisy(**typed)
        return net(hidden), None, None, made

    for make in (model_first, data_first):
        for values in ({"hidden": 7}, {"noise": 5}, {"hidden": 7, "noise": 5}, {"batch_size": 5}):
            assert_same(trained(one, make, values), trained(one, lambda make=make, values=values: make(**values)))


def test_a_datamodule_that_nothing_is_known_of(one: Any) -> None:
    """Whether its setup drew random numbers cannot be found out without its constructor call."""
    seed()
    model, data = classes(one)["Net"](), without_record(classes(one)["Data"]())
    assert refused(one, (model, None, None, data), {"hidden": 7}) == (
        "model.hidden: the random state moved between the construction of Net and prepare_data or setup of Data by "
        "code that cannot be replayed, so that the trial would not equal the same script with the value typed in.\n"
        "  Construct Net right before trainer.fit, or call seed_everything again right before it."
    )


def test_a_datamodule_whose_setup_works_once(one: Any) -> None:
    """A setup that uses up something outside cannot be run again."""
    data = classes(one)["Data"]
    parts = [dataset()]

    class Once(data):  # type: ignore[misc, valid-type]
        def setup(self, stage: str) -> None:
            self.train, self.val = random_split(parts.pop(), [30, 10])

    seed()
    assert refused(one, (classes(one)["Net"](), None, None, Once()), {"hidden": 7}) == (
        "Once cannot be set up again: IndexError: pop from empty list\n"
        "  Its setup must not rely on what was done to it from outside; or give random_split a generator of its own, "
        "so that setup need not run again."
    )
