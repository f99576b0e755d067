"""Constructor arguments of Lightning objects: rebuilt as if typed in, or an error."""

from __future__ import annotations

import functools
import gc
import importlib
import random
import re
import threading
import types
import weakref
from argparse import Namespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, random_split

from lightning_projects import (
    assert_same,
    classes,
    dataset,
    loader,
    refused,
    seed,
    trained,
    trainer,
    tuner,
    weights,
    without_record,
)
from tunehook.errors import InjectionError

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...


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


def test_weights_that_would_miss_a_type_that_was_set_before_fit(one: Any) -> None:
    """Of those that a value adds nobody knows which type the script would give them."""
    base = classes(one)["Base"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, depth: int = 1) -> None:
            super().__init__()
            self.net, self.lr = nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)], nn.Linear(4, 1)), 0.1

    model = Net()
    model.net.to(torch.bfloat16)
    assert refused(one, (model, loader()), {"depth": 2}) == (
        "model.depth adds net.2.bias and 1 more, and types or orders in memory of other weights were set before fit.\n"
        "  Set them in Net.__init__ or in a hook such as configure_model, so that all have them."
    )
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


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


def test_other_threads_that_draw_random_numbers(one: Any) -> None:
    """As with Optuna's n_jobs: what cannot be told is said, with the ways out, and no weights are wrong."""
    model = classes(one)["Net"]()
    model.net[0].weight.data += 1  # as if a thread had drawn between the constructor's draws
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(refused(one, (model, loader()), {"hidden": 7})))
    thread.start()
    thread.join()
    assert "".join(said) == (
        "model.hidden changes the shape of net.0.bias and 2 more, and in a thread it cannot be told whether weights "
        "were loaded before fit: all threads share their random numbers.\n"
        "  Train one trial after the other (n_jobs=1), or in processes: study.optimize(train, workers=2)."
    )


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
        (
            lambda model: setattr(model.net[0].weight, "data", model.net[0].weight.data.t().contiguous().t()),
            "net.0.weight",
        ),
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
            self.drawn = [random.random() for _ in range(hidden)]
            self.sum = float(np.random.rand(hidden).sum())

        def on_train_start(self) -> None:
            self.net[0].bias.data += random.random() + np.random.rand()

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


def test_arguments_that_only_go_together(one: Any) -> None:
    """A constructor that refuses an old value beside the new ones reads it, so the argument is not dead."""

    class Grouped(classes(one)["Net"]):  # type: ignore[misc]
        def __init__(self, width: int = 8, groups: int = 4) -> None:
            if width % groups:
                raise ValueError(f"width {width} is no multiple of groups {groups}")
            super().__init__(hidden=width // groups)

    plain = trained(one, lambda: (Grouped(width=9, groups=3), loader()))
    assert_same(trained(one, lambda: (Grouped(), loader()), {"width": 9, "groups": 3}), plain)


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
    assert message == (
        "model.hidden changes the initial weights of Saved, whose random state is not known.\n"
        "  Import tunehook.integrations.lightning before Saved is constructed."
    )


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


def test_checkpoint_and_a_changed_shape(one: Any, tmp_path: Any) -> None:
    """Weights that fit restores do not fit another shape."""
    net = classes(one)["Net"]
    made = trainer(one, max_epochs=1)
    made.fit(net(), loader())
    made.save_checkpoint(tmp_path / "old.ckpt")
    expected = "model.hidden changes the shape of net.0.bias and 2 more, but fit restores a checkpoint.\n"
    with pytest.raises(InjectionError, match=re.escape(expected)):
        trainer(one, tuner(one, {"hidden": 7})).fit(net(), loader(), ckpt_path=tmp_path / "old.ckpt")


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


def test_an_unseeded_script(one: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a seed there is nothing to be equal to, so that moved random numbers are no error."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    torch.seed()
    model = classes(one)["Net"]()
    torch.randn(3)
    trainer(one, tuner(one, {"hidden": 7})).fit(model, loader())
    assert model.net[0].out_features == 7


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
