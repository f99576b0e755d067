"""Constructor arguments of Lightning objects: as if typed in, whatever a script does with the objects before fit."""

from __future__ import annotations

import functools
import gc
import importlib
import random
import types
import weakref
from argparse import Namespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, random_split

import tunehook as th
from lightning_projects import (
    a_study,
    assert_same,
    classes,
    dataset,
    late,
    loader,
    refused,
    seed,
    trained,
    trainer,
    weights,
)
from tunehook.integrations.lightning import TuneCallback
from tunehook.trial.errors import InjectionError

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...


@pytest.mark.parametrize("name", ["Net", "Saved", "Late"])
@pytest.mark.parametrize("values", [{"lr": 0.03}, {"hidden": 7}, {"dropout": 0.5}, {"model.hidden": 6, "lr": 0.02}])
def test_constructor_argument_equals_typed_in(pl: Any, name: str, values: dict[str, Any]) -> None:
    """Arguments of the module train the same weights as if they were typed in."""
    cls = classes(pl)[name]
    typed = {name.removeprefix("model."): value for name, value in values.items()}
    plain = trained(pl, lambda: (cls(**typed), loader()))
    assert_same(trained(pl, lambda: (cls(), loader()), values), plain)


def test_an_argument_by_position_only_equals_typed_in(one: Any) -> None:
    """It goes in by its position, behind the defaults of those before it."""
    base = classes(one)["Net"]

    class Only(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5, dropout: float = 0.2, /, **options: Any) -> None:
            super().__init__(hidden, dropout=dropout)
            self.options = options

    plain = trained(one, lambda: (Only(5, 0.5), loader()))
    assert_same(trained(one, lambda: (Only(), loader()), {"dropout": 0.5}), plain)


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


class Mixed(nn.Module):
    """A convolution, and a layer of half precision, on four features."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, hidden, 2), nn.BatchNorm2d(hidden), nn.Linear(hidden, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        images = torch.stack([rows, rows.flip(1)], 1).view(-1, 2, 2, 2).to(self.conv.weight.dtype)
        found = self.norm(self.conv(images)).flatten(1)
        scores: torch.Tensor = self.head(found.to(self.head.weight.dtype)).float()
        return scores


@pytest.mark.parametrize("values", [{"lr": 0.03}, {"hidden": 7}])
def test_types_and_orders_in_memory_that_were_set_before_fit(one: Any, values: dict[str, Any]) -> None:
    """What `Module.to` gave the tensors of a part is given to those of a rebuild."""
    base = classes(one)["Base"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5, lr: float = 0.1) -> None:
            super().__init__()
            self.net, self.lr = Mixed(hidden), lr

    def make(**typed: Any) -> Any:
        model = Net(**typed)
        model.net.head.to(torch.bfloat16)
        model.net.norm.double()
        model.net.conv.to(torch.float64)
        model.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        models.append(model)
        return model, loader()

    models: list[Any] = []
    assert_same(trained(one, make, values), trained(one, lambda: make(**values)))
    model = models[0].net
    assert (model.head.weight.dtype, model.norm.running_mean.dtype) == (torch.bfloat16, torch.float64)
    assert model.conv.weight.stride() == (8, 1, 4, 2)


def test_weights_that_a_value_adds_have_the_type_that_was_set_before_fit(one: Any) -> None:
    """The script sets it on the model that has them."""
    base = classes(one)["Base"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, depth: int = 1) -> None:
            super().__init__()
            self.net, self.lr = nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)], nn.Linear(4, 1)), 0.1

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return nn.functional.mse_loss(self.net(batch[0].bfloat16()).float(), batch[1])

    def make(depth: int = 1) -> Any:
        model = Net(depth)
        model.net.to(torch.bfloat16)
        return model, loader()

    assert_same(trained(one, make, {"depth": 2}), trained(one, lambda: make(2)))


def test_no_second_model_is_held(one: Any) -> None:
    """The one that was made to compare with is gone before the first epoch."""
    base = classes(one)["Net"]
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    counts: list[int] = []

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5) -> None:
            super().__init__(hidden)
            alive.add(self)

        def on_train_epoch_start(self) -> None:
            gc.collect()
            counts.append(len(alive))

    trained(one, lambda: (Net(), loader()), {"hidden": 7})
    assert counts == [1, 1]


def test_weights_that_were_changed_and_a_changed_shape(one: Any) -> None:
    """The script changes those of the shape that the trial has."""

    def make(hidden: int = 5) -> Any:
        model = classes(one)["Net"](hidden)
        model.net[0].weight.data += 0.1
        return model, loader()

    assert_same(trained(one, make, {"hidden": 7}), trained(one, lambda: make(7)))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model, "extra", 1),
        lambda model: setattr(model, "lr", 0.05),
        lambda model: model.add_module("head", nn.ReLU()),
        lambda model: model.net[0].register_forward_hook(lambda _module, _given, out: out * 2),
        lambda model: model.net[0].weight.register_hook(lambda grad: grad * 2),
        lambda model: setattr(model, "automatic_optimization", False),
        lambda model: setattr(model.net[1], "p", 0.3),
        lambda model: setattr(model.net[0].weight, "data", model.net[0].weight.data.t().contiguous().t()),
    ],
)
@pytest.mark.parametrize("values", [{"hidden": 7}, {"lr": 0.03, "dropout": 0.4}])
def test_a_module_that_was_changed_after_construction(one: Any, change: Any, values: dict[str, Any]) -> None:
    """The script changes what the trial has made."""

    def make(**typed: Any) -> Any:
        model = classes(one)["Net"](**typed)
        change(model)
        return model, loader()

    assert_same(trained(one, make, values), trained(one, lambda: make(**values)))


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


def test_a_constructor_that_uses_up_its_arguments(one: Any) -> None:
    """It is called once for a model."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, config: dict[str, int], lr: float = 0.1) -> None:
            super().__init__(config.pop("hidden"), lr)

    plain = trained(one, lambda: (Net({"hidden": 4}, 0.2), loader()))
    assert_same(trained(one, lambda: (Net({"hidden": 4}), loader()), {"lr": 0.2}), plain)


@pytest.mark.parametrize("values", [{"lr": 0.03}, {"hidden": 7}])
def test_random_numbers_between_construction_and_fit(one: Any, values: dict[str, Any]) -> None:
    """What the script draws follows what the constructor has drawn."""
    net = classes(one)["Net"]

    def make(**typed: Any) -> Any:
        model = net(**typed)
        torch.randn(3)
        return model, loader()

    assert_same(trained(one, make, values), trained(one, lambda: make(**values)))


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
            self.drawn = [random.random() for _ in range(hidden)]
            self.sum = float(np.random.rand(hidden).sum())

        def on_train_start(self) -> None:
            self.net[0].bias.data += random.random() + np.random.rand()

    plain = trained(one, lambda: (Net(7), loader()))
    assert_same(trained(one, lambda: (Net(), loader()), {"hidden": 7}), plain)


def test_a_callback_that_copies_the_model(one: Any) -> None:
    """Weight averaging before our callback averages the trial's model."""
    net, averaging = classes(one)["Net"], one.callbacks.StochasticWeightAveraging
    options = {"before": lambda: [averaging(swa_lrs=0.01, swa_epoch_start=1)], "max_epochs": 3}
    plain = trained(one, lambda: (net(7), loader()), **options)
    assert_same(trained(one, lambda: (net(), loader()), {"hidden": 7}, **options), plain)


def test_configure_callbacks_that_depends_on_the_value(one: Any) -> None:
    """Lightning asks the module that has the value for its callbacks."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5, patience: int = 9) -> None:
            super().__init__(hidden)
            self.patience = patience

        def configure_callbacks(self) -> Any:
            return one.callbacks.EarlyStopping("val", patience=self.patience, min_delta=100.0)

    plain = trained(one, lambda: (Net(patience=1), loader(), loader()), max_epochs=5)
    own = trained(one, lambda: (Net(), loader(), loader()), max_epochs=5)
    assert_same(trained(one, lambda: (Net(), loader(), loader()), {"patience": 1}, max_epochs=5), plain)
    assert not torch.equal(plain[0], own[0])


def test_arguments_that_only_go_together(one: Any) -> None:
    """A constructor that refuses an old value beside the new ones gets the new ones together."""

    class Grouped(classes(one)["Net"]):  # type: ignore[misc]
        def __init__(self, width: int = 8, groups: int = 4) -> None:
            if width % groups:
                raise ValueError(f"width {width} is no multiple of groups {groups}")
            super().__init__(hidden=width // groups)

    plain = trained(one, lambda: (Grouped(width=9, groups=3), loader()))
    assert_same(trained(one, lambda: (Grouped(), loader()), {"width": 9, "groups": 3}), plain)


def test_a_dead_argument(pl: Any) -> None:
    """An argument that nobody reads is an error after the first batch."""
    base = classes(pl)["Saved"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, hidden: int = 5, lr: float = 0.1, dropout: float = 0.2, unused: float = 1.0) -> None:
            super().__init__(hidden, lr, dropout)
            self.save_hyperparameters()

    values = {"hidden": 7, "lr": 0.2, "dropout": 0.5, "unused": 2.0}
    assert refused(pl, lambda: (Net(), loader()), values) == (
        "Nothing uses model.unused: no line of the constructor of Net reads it, and it was not read from hparams in "
        "the first batch.\n"
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
    """What is set by hand stays."""

    def make(batch_size: int = 8) -> Any:
        data = classes(one)["Data"](batch_size)
        data.held_out = 20
        return classes(one)["Net"](), None, None, data

    assert_same(trained(one, make, {"batch_size": 5}), trained(one, lambda: make(5)))


def test_a_datamodule_made_from_datasets(one: Any) -> None:
    """Its batch size lies in its loaders only."""
    net = classes(one)["Net"]

    def make(size: int = 8) -> Any:
        return net(), None, None, one.LightningDataModule.from_datasets(dataset(), batch_size=size)

    assert_same(trained(one, make, {"batch_size": 5}), trained(one, lambda: make(5)))


def test_checkpoint_and_a_changed_shape(one: Any, tmp_path: Any) -> None:
    """Weights that fit restores do not fit another shape: Lightning says so, as with the value typed in."""
    net = classes(one)["Net"]
    made = trainer(one, max_epochs=1)
    made.fit(net(), loader())
    made.save_checkpoint(tmp_path / "old.ckpt")

    def train() -> None:
        trainer(one, TuneCallback()).fit(net(), loader(), ckpt_path=tmp_path / "old.ckpt")

    with pytest.raises(th.StudyError, match=r"size mismatch for net.0.weight"):
        a_study({"hidden": 7}).optimize(train, trials=5, progress=False)


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
    """Lightning's command line adds configure_optimizers so; a method that a constructor chooses is chosen again."""
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


def test_a_training_before_that_is_no_trial_has_the_value_too(one: Any) -> None:
    """The model is made once, with the value, as typed in."""

    def twice(*callbacks: Any, **typed: Any) -> list[torch.Tensor]:
        seed()
        model = classes(one)["Saved"](**typed)
        trainer(one).fit(model, loader())
        trainer(one, *callbacks).fit(model, loader())
        return weights(model)

    found: list[torch.Tensor] = []

    def train() -> float:
        found[:] = twice(TuneCallback())
        return 0.0

    a_study({"lr": 0.2, "hidden": 7}).optimize(train, trials=1, progress=False)
    assert_same(found, twice(lr=0.2, hidden=7))


def test_a_datamodule_that_was_set_up_by_hand(one: Any) -> None:
    """A script may call setup before fit, to learn a size from it."""
    net, data = classes(one)["Net"], classes(one)["Data"]

    def make(hidden: int = 5, **typed: Any) -> Any:
        made = data(**typed)
        made.setup("fit")
        return net(hidden + len(made.train) * 0), None, None, made

    for values in ({"batch_size": 5}, {"hidden": 7}, {"hidden": 7, "held_out": 12}):
        assert_same(trained(one, make, values), trained(one, lambda values=values: make(**values)))


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


def test_a_compiled_module(one: Any) -> None:
    """A module that went through torch.compile stays compiled."""
    net = classes(one)["Net"]

    def make(**typed: Any) -> Any:
        return torch.compile(net(**typed), backend="eager"), loader()

    values = {"hidden": 7, "lr": 0.03}
    assert_same(trained(one, make, values, max_epochs=1), trained(one, lambda: make(**values), max_epochs=1))


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


def test_a_datamodule_whose_setup_works_once(one: Any) -> None:
    """It is set up once."""
    data = classes(one)["Data"]

    def make(hidden: int = 5) -> Any:
        parts = [dataset()]

        class Once(data):  # type: ignore[misc, valid-type]
            def setup(self, stage: str) -> None:
                self.train, self.val = random_split(parts.pop(), [30, 10])

        return classes(one)["Net"](hidden), None, None, Once()

    assert_same(trained(one, make, {"hidden": 7}), trained(one, lambda: make(7)))


@pytest.mark.parametrize("is_outside", [False, True])
@pytest.mark.parametrize(("values", "said"), [
    ({"hidden": 7}, "model.hidden = 7 cannot be put in: Net"),
    ({"held_out": 12}, "data.held_out = 12 cannot be put in: Data"),
    ({"precision": "bf16-mixed"}, "trainer.precision = 'bf16-mixed' cannot be put in: Trainer"),
    ({"ModelSummary.max_depth": 2}, "callback.ModelSummary.max_depth = 2 cannot be put in: ModelSummary"),
])  # fmt: skip
def test_objects_that_exist_when_the_trial_is_known(
    pl: Any, values: dict[str, Any], said: str, is_outside: bool
) -> None:
    """They are refused, with the way out, and are as before."""
    net, data = classes(pl)["Net"], classes(pl)["Data"]
    model, held = net(), data()
    made = trainer(pl, TuneCallback() if is_outside else late(values), pl.callbacks.ModelSummary())
    before = weights(model)
    way_out = (
        "Make it in the training function, which is called for each trial."
        if is_outside
        else "Make it in a training function, so that the trial is known before:\n"
        "    def train(): ...  # the script, with TuneCallback() in its fit\n"
        "    study.optimize(train, trials=30)"
    )
    fit = functools.partial(made.fit, model, None, None, held)
    study = a_study(values)
    with pytest.raises(InjectionError) as error:
        study.optimize(fit, trials=1, progress=False) if is_outside else fit()
    assert str(error.value) == f"{said} was made before this trial was known.\n  {way_out}"
    assert_same(weights(model), before)
    assert (model.lr, held.held_out, made.global_step) == (0.1, 10, 0)


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer.lr": 0.03},
        {"batch_size": 5},
        {"max_epochs": 3, "accumulate_grad_batches": 2},
        {"max_steps": 7},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    ],
)
def test_what_a_fit_can_take_whose_trial_is_known_late(pl: Any, values: dict[str, Any]) -> None:
    """What is made in fit, loaders that are passed to it, and limits of the Trainer are as if typed in."""

    def net(rate: float = 0.1) -> Any:
        class Net(classes(pl)["Net"]):  # type: ignore[misc]
            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=rate)

        return Net()

    def fit(values: dict[str, Any], *callbacks: Any) -> list[torch.Tensor]:
        seed()
        settings = {name: value for name, value in values.items() if name not in ("optimizer.lr", "batch_size")}
        model = net(values.get("optimizer.lr", 0.1))
        made = trainer(pl, *callbacks, **settings)
        made.fit(model, loader(values.get("batch_size", 8)), loader())
        return [*weights(model), torch.get_rng_state()]

    assert_same(fit({}, late(values)), fit(values))


def test_a_limit_that_the_script_sets_after_the_constructor(pl: Any) -> None:
    """It would be the script's, as with the value typed in, so that the search would be in vain: an error."""

    def train() -> None:
        made = trainer(pl, TuneCallback(), max_epochs=2)
        made.fit_loop.max_epochs = 1
        made.fit(classes(pl)["Net"](), loader())

    with pytest.raises(InjectionError, match=r"(?s)were lost.*trainer.max_epochs holds 1 instead of 3 .*remove that"):
        a_study({"max_epochs": 3}).optimize(train, trials=1, progress=False)
