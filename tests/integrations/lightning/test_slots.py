"""The slots of a Lightning fit: what is listed, what objects remember, and the settings of the trainer."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest
import torch

from lightning_projects import (
    a_study,
    assert_same,
    classes,
    late,
    loader,
    refused,
    refused_late,
    seed,
    trained,
    trainer,
    weights,
)
from tunehook.inject import MADE_BY, trace_in_progress
from tunehook.inject.slot import UNKNOWN
from tunehook.integrations.lightning import TuneCallback
from tunehook.integrations.lightning.calls import hear_all
from tunehook.integrations.lightning.slots import LightningSlots

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


def kept(made: Any) -> Any:
    """What an object remembers of the call that made it."""
    return vars(made).get(MADE_BY)


def test_a_trial_leaves_classes_and_objects_as_they_are(pl: Any) -> None:
    """Signatures, copies and pickles work; a copy leads to the call, and its pickle needs nothing of ours."""
    cls = classes(pl)["Net"]
    made: list[Any] = []

    def train() -> float:
        made[:] = [cls(6), pl.LightningDataModule()]
        kept_init = vars(pl.LightningModule)["__init__"]
        hear_all()
        assert vars(pl.LightningModule)["__init__"] is kept_init
        assert list(inspect.signature(cls).parameters) == ["hidden", "lr", "dropout"]
        trace = trace_in_progress()
        assert trace is not None
        for one in made:
            for copied in (copy.copy(one), copy.deepcopy(one)):
                assert trace.of(copied) is trace.of(one) is not None
        assert trace.of(pickle.loads(pickle.dumps(made[1]))) is trace.of(made[1])
        trainer(pl, TuneCallback()).fit(made[0], loader())
        return 0.0

    a_study({"lr": 0.03}).optimize(train, trials=1, progress=False)
    assert [type(kept(one)) for one in made] == [str, str]
    assert kept(cls(6)) is None


def test_a_class_with_its_own_new(one: Any) -> None:
    """It may hand on other arguments than its constructor gets, in which the value is."""
    base = classes(one)["Net"]

    class Net(base):  # type: ignore[misc, valid-type]
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return super().__new__(cls)

    plain = trained(one, lambda: (Net(7), loader()))
    assert_same(trained(one, lambda: (Net(), loader()), {"hidden": 7}), plain)


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
    assert [slots[f"model.{name}"].get() for name in "abcdef"] == [UNKNOWN] * 6


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
    message = f"trainer.{name} is {value!r}, but it takes {rule}.\n  Use a distribution that gives one."
    assert refused_late(one, lambda: (classes(one)["Net"](), loader()), {name: value}) == message
    told = refused(one, lambda: (classes(one)["Net"](), loader()), {name: value})
    constructs = f"cannot be constructed with {name} = {value!r}: MisconfigurationException: "
    assert told == message or constructs in told  # where the Trainer is made, or where it has let it pass


def test_unknown_names_list_what_exists(one: Any) -> None:
    """The message shows every slot that can be listed, and notes for the others."""
    rows = (
        "    trainer.max_epochs = 2\n"
        "    trainer.max_steps = -1\n"
        "    trainer.accumulate_grad_batches = 1\n"
        "    trainer.gradient_clip_val = None\n"
        "    trainer.gradient_clip_algorithm = None\n"
    )
    made_later = (
        "    optimizer.<argument> of the optimizer that configure_optimizers makes\n"
        "    scheduler.<argument> of the scheduler that configure_optimizers makes\n"
    )
    begin = "There is nothing called 'hiden' to inject. Did you mean 'hidden'?\n  What can be injected here:\n"
    script = lambda: (classes(one)["Net"](), loader())  # noqa: E731
    told = re.sub(r"\.py:\d+", ".py:1", refused(one, script, {"hiden": 1}))
    assert told.startswith(
        begin + "    model.hidden = 5  (Net at test_slots.py:1)\n    model.lr = 0.1\n    model.dropout = 0.2\n"
        "    data.batch_size = 8\n" + rows
    )
    assert made_later in told
    assert told.endswith(
        "  Rename 'hiden' in the space, or read it where the script needs it: hiden = th.value('hiden', 1)."
    )
    assert refused_late(one, script, {"hiden": 1}) == (
        begin
        + "    model.hidden  (Net)\n    model.lr\n    model.dropout\n    data.batch_size = 8\n"
        + rows
        + made_later
        + "  Rename 'hiden' in the space, or make it an argument of the constructor that should use it."
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


def test_steps_for_a_trainer_without_epochs(pl: Any) -> None:
    """A number of steps lifts the limit of 1000 epochs that a Trainer without either has."""
    net = classes(pl)["Net"]
    plain = trained(pl, lambda: (net(), loader(), loader()), max_epochs=None, max_steps=12)
    values = {"trainer.max_steps": 12}
    assert_same(trained(pl, lambda: (net(), loader(), loader()), values, max_epochs=None), plain)
    made = trainer(pl, late(values), max_epochs=None)
    seed()
    model = net()
    made.fit(model, loader(), loader())
    assert_same([*weights(model), torch.get_rng_state()], plain)
    assert made.max_epochs == -1


def test_a_value_that_the_module_and_the_trainer_are_given(one: Any) -> None:
    """As of one command line: its short name would leave the Trainer with another value, so it is an error."""

    class Net(classes(one)["Net"]):  # type: ignore[misc]
        def __init__(self, max_epochs: int = 100) -> None:
            super().__init__()
            self.net[0].bias.data.fill_(max_epochs / 100)

    def script(epochs: int | None = 2) -> Any:
        return Net() if epochs is None else Net(max_epochs=epochs), loader()

    assert refused(one, script, {"max_epochs": 3}) == (
        "The hyperparameter 'max_epochs' could go to model.max_epochs and trainer.max_epochs, which the script gives "
        "one value, 2.\n  Write '*.max_epochs' in the space for both, or the full path of one."
    )
    plain = trained(one, lambda: script(3), max_epochs=3)
    assert_same(trained(one, script, {"*.max_epochs": 3}), plain)
    only = trained(one, lambda: script(3))
    assert_same(trained(one, script, {"model.max_epochs": 3}), only)
    assert_same(trained(one, lambda: script(None), {"max_epochs": 3}), only)
