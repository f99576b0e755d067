"""The slots of a Lightning fit: what is listed, how it is recorded, and the settings of the trainer."""

from __future__ import annotations

import copy
import inspect
import pickle
import timeit
from typing import Any

import pytest
import torch

from lightning_projects import assert_same, classes, loader, refused, seed, trained, trainer, tuner, weights
from tunehook.integrations.lightning_record import KEY
from tunehook.integrations.lightning_slots import LightningSlots, install_recorders

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...


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


def test_recording_leaves_classes_and_objects_as_they_are(pl: Any) -> None:
    """Signatures, copies, pickles and TorchScript work as without recorders; installing twice changes nothing."""
    cls = classes(pl)["Net"]
    kept = vars(pl.LightningModule)["__init__"]
    install_recorders()
    assert vars(pl.LightningModule)["__init__"] is kept
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


def test_recording_is_quick(one: Any) -> None:
    """A construction is recorded in less than 0.3 ms."""
    bare = one.LightningDataModule
    took = min(timeit.repeat(bare, number=20, repeat=10)) / 20
    assert took < 0.3e-3


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
