"""Names to slots, values into slots, and back out again."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import pytest
from torch import nn

from tunehook.inject.arguments import Arguments, signature_of
from tunehook.inject.injection import Injection
from tunehook.inject.slot import UNKNOWN, Slot, resolve, same, show
from tunehook.system.words import near
from tunehook.trial.errors import InjectionError


class Place:
    """A live object with one attribute that counts how often it was set."""

    def __init__(self, value: Any) -> None:
        self.value, self.sets = value, 0

    def set(self, value: Any) -> None:
        self.value, self.sets = value, self.sets + 1

    def slot(self, path: str, **options: Any) -> Slot:
        return Slot(path, get=lambda: self.value, set=self.set, **options)


def slot(path: str, value: Any = 1, **options: Any) -> Slot:
    """A slot on a place of its own."""
    return Place(value).slot(path, **options)


SLOTS = [
    slot("model.hidden", 64),
    slot("model.dropout", 0.1),
    slot("model.lr", 1e-3, rank=0),
    slot("optimizer.lr", UNKNOWN, rank=1),
    slot("train.batch_size", 32, joint="batch"),
    slot("val.batch_size", 32, joint="batch"),
    slot("data.workers", 0),
    slot("trainer.workers", 1),
    slot("layer.dense_1.units", 10),
    slot("trainer.secret", 5, listed=False),
]

RESOLVED: list[tuple[str, list[str]]] = [
    ("model.hidden", ["model.hidden"]),
    ("hidden", ["model.hidden"]),
    ("lr", ["model.lr"]),
    ("optimizer.lr", ["optimizer.lr"]),
    ("batch_size", ["train.batch_size", "val.batch_size"]),
    ("train.batch_size", ["train.batch_size", "val.batch_size"]),
    ("val.batch_size", ["train.batch_size", "val.batch_size"]),
    ("data.workers", ["data.workers"]),
    ("dense_1.units", ["layer.dense_1.units"]),
    ("layer.dense_1.units", ["layer.dense_1.units"]),
    ("units", ["layer.dense_1.units"]),
    ("secret", ["trainer.secret"]),
]


@pytest.mark.parametrize(("name", "paths"), RESOLVED)
def test_a_name_means_slots(name: str, paths: list[str]) -> None:
    """Paths are exact, short names go to the lowest rank, joint slots come together, unlisted ones are found."""
    assert [found.path for found in resolve(name, SLOTS)] == paths


@pytest.mark.parametrize("name", ["nits", "Hidden", "", "model", "model.", ".hidden", "model.hidden.x"])
def test_a_part_of_a_name_means_nothing(name: str) -> None:
    """Only a whole path or all of it behind one of its dots is a name; letters count as they are."""
    with pytest.raises(InjectionError, match=re.escape(f"There is nothing called '{name}' to inject.")):
        resolve(name, SLOTS)


def test_an_ambiguous_name() -> None:
    """Two slots of one rank: the message names both and a way out."""
    with pytest.raises(InjectionError) as caught:
        resolve("workers", SLOTS)
    assert str(caught.value) == (
        "The hyperparameter 'workers' could go to data.workers and trainer.workers.\n"
        "  Write the full path in the space, for example 'data.workers'."
    )


def test_slots_of_one_call_in_a_loop() -> None:
    """A name that all of them have means all; a full path is one of them."""
    slots = [slot("nets.0.x", site="a"), slot("nets.1.x", site="a"), slot("nets.2.x")]
    assert resolve("x", slots[:2]) == slots[:2]
    assert resolve("nets.1.x", slots) == slots[1:2]
    with pytest.raises(InjectionError, match="could go to"):
        resolve("x", slots)


def test_three_ambiguous_slots_one_of_them_joint() -> None:
    """Joint slots are one place only where all that match are joined."""
    slots = [slot("a.x", joint="j"), slot("b.x", joint="j"), slot("c.x")]
    with pytest.raises(InjectionError, match=re.escape("could go to a.x, b.x and c.x.")):
        resolve("x", slots)
    with pytest.raises(InjectionError, match=re.escape("could go to a.x and b.x.")):
        resolve("x", [slot("a.x", joint="j"), slot("b.x", joint="k")])


def test_an_unknown_name_with_near_ones() -> None:
    """The message has the near names, every listed slot with its value, the notes, and the way out."""
    slots = [slot("model.hidden", 64), slot("optimizer.lr", UNKNOWN), slot("model.text", "x" * 100), SLOTS[-1]]
    with pytest.raises(InjectionError) as caught:
        resolve("hiden", slots, notes=["trainer.<any argument>"])
    assert str(caught.value) == (
        "There is nothing called 'hiden' to inject. Did you mean 'hidden'?\n"
        "  What can be injected here:\n"
        "    model.hidden = 64\n"
        "    optimizer.lr = <made later>\n"
        f"    model.text = '{'x' * 76}...\n"
        "    trainer.<any argument>\n"
        "  Rename 'hiden' in the space, or make it an argument of the constructor that should use it."
    )


def test_an_unknown_path_is_told_near_paths() -> None:
    """A name with a dot is compared with paths, one without with short names."""
    with pytest.raises(InjectionError, match=re.escape("Did you mean 'model.hidden' or 'model.lr'?")):
        resolve("model.hiden", SLOTS)
    with pytest.raises(InjectionError, match=re.escape("Did you mean 'dropout'?")):
        resolve("dropuot", SLOTS)


def test_an_unknown_name_where_nothing_exists() -> None:
    """No slots at all is said so."""
    with pytest.raises(InjectionError) as caught:
        resolve("lr", [])
    assert str(caught.value) == (
        "There is nothing called 'lr' to inject.\n"
        "  What can be injected here:\n"
        "    (none)\n"
        "  Rename 'lr' in the space, or make it an argument of the constructor that should use it."
    )


def test_near_names_are_three_at_most_and_unique() -> None:
    """The nearest come first, each once."""
    assert near("lr", ["lr1", "lr2", "lr1", "lr3", "lr4", "other"]) == ["lr4", "lr3", "lr2"]
    assert near("lr", []) == []


# ------------------------------------------------------------------ types

ACCEPTED: list[tuple[object, Any]] = [
    (None, object()),
    ("int", "a text annotation is not checked"),
    (int, 3),
    (float, 3),
    (float, 0.5),
    (float, np.float64(0.5)),
    (bool, True),
    (str, "relu"),
    (list, [1]),
    (list, (1,)),
    (tuple, [1]),
    (list[int], [1]),
    (tuple[float, float], [0.9, 0.99]),
    (dict, {"a": 1}),
    (int | None, None),
    (int | None, 3),
    (Optional[float], 1),  # noqa: UP045 - as people still write it
    (int | str, "x"),
    (Callable[[], int], 3),
    (int | Place, 0.5),
    (Any, 0.5),
    (Place, 0.5),
]


@pytest.mark.parametrize(("annotation", "value"), ACCEPTED)
def test_a_value_of_a_fitting_type(annotation: object, value: Any) -> None:
    """Plain annotations admit their values, others admit everything."""
    place = Place(None)
    Injection({"x": value}, [place.slot("m.x", type=annotation)]).apply()
    assert place.value is value


REFUSED: list[tuple[object, Any, str]] = [
    (int, 0.5, "is 0.5 (float), but m.x takes int.\n  Use a distribution that gives int, such as Int(...)."),
    (int, 2.0, "is 2.0 (float), but m.x takes int.\n  Use a distribution that gives int, such as Int(...)."),
    (int, True, "is True (bool), but m.x takes int.\n  Use a distribution that gives int, such as Int(...)."),
    (int, None, "is None (NoneType), but m.x takes int.\n  Use a distribution that gives int, such as Int(...)."),
    (float, "1", "is '1' (str), but m.x takes float.\n  Use a distribution that gives float."),
    (float, False, "is False (bool), but m.x takes float.\n  Use a distribution that gives float."),
    (bool, 1, "is 1 (int), but m.x takes bool.\n  Use a distribution that gives bool."),
    (str, 1, "is 1 (int), but m.x takes str.\n  Use a distribution that gives str."),
    (list[int], 1, "is 1 (int), but m.x takes list.\n  Use a distribution that gives list."),
    (dict, [1], "is [1] (list), but m.x takes dict.\n  Use a distribution that gives dict."),
    (
        int | None,
        0.5,
        "is 0.5 (float), but m.x takes int or NoneType.\n"  # noqa: ISC004
        "  Use a distribution that gives int or NoneType, such as Int(...).",
    ),
    (int | float, "1", "is '1' (str), but m.x takes int or float.\n  Use a distribution that gives int or float."),
]


@pytest.mark.parametrize(("annotation", "value", "text"), REFUSED)
def test_a_value_of_another_type(annotation: object, value: Any, text: str) -> None:
    """The message says the value, its type, the slot and what it takes; nothing was set."""
    place = Place("before")
    with pytest.raises(InjectionError) as caught:
        Injection({"x": value}, [place.slot("m.x", type=annotation)])
    assert str(caught.value) == f"The hyperparameter 'x' {text}"
    assert (place.value, place.sets) == ("before", 0)


# ------------------------------------------------------------------ apply and read back


@pytest.mark.parametrize(
    "values",
    [
        {"hidden": 3, "nothing": 1},
        {"hidden": 3, "workers": 1},
        {"hidden": 3, "model.hidden": 4},
        {"hidden": 3, "dropout": "x"},
    ],
)
def test_nothing_changes_where_any_name_is_wrong(values: dict[str, Any]) -> None:
    """Names and types of all values are checked before the first is set."""
    places = [Place(64), Place(0.1), Place(0), Place(0)]
    slots = [
        places[0].slot("model.hidden"),
        places[1].slot("model.dropout", type=float),
        places[2].slot("data.workers"),
        places[3].slot("trainer.workers"),
    ]
    with pytest.raises(InjectionError):
        Injection(values, slots)
    assert [(place.value, place.sets) for place in places] == [(64, 0), (0.1, 0), (0, 0), (0, 0)]


def test_two_names_for_one_slot() -> None:
    """A slot takes one value only, also by way of a joint slot."""
    with pytest.raises(InjectionError) as caught:
        Injection({"hidden": 1, "model.hidden": 2}, SLOTS)
    assert str(caught.value) == (
        "The hyperparameters 'hidden' and 'model.hidden' both mean model.hidden.\n  Remove one of them from the space."
    )
    with pytest.raises(InjectionError, match=re.escape("both mean train.batch_size.")):
        Injection({"train.batch_size": 1, "val.batch_size": 2}, SLOTS)


def test_setters_come_first_then_each_commit_once() -> None:
    """A setter may only take note: a shared commit does the work once, after all setters."""
    order: list[str] = []
    made: dict[str, Any] = {}

    def rebuild() -> None:
        order.append("rebuild")
        made.update(noted)

    noted: dict[str, Any] = {}

    def noting(name: str) -> Slot:
        def note(value: Any) -> None:
            order.append(name)
            noted[name] = value

        return Slot(f"model.{name}", get=lambda: made.get(name), set=note, commit=rebuild)

    Injection({"b": 2, "a": 1}, [noting("a"), noting("b"), noting("c")]).apply()
    assert order == ["b", "a", "rebuild"]
    assert made == {"a": 1, "b": 2}


def test_joint_slots_are_set_together() -> None:
    """Whichever joint slot is named, all hold the value."""
    places = [Place(1), Place(1)]
    slots = [places[0].slot("a.n", joint="j"), places[1].slot("b.n", joint="j")]
    injection = Injection({"b.n": 5}, slots)
    injection.apply()
    assert [place.value for place in places] == [5, 5]
    assert injection.paths == {"a.n": 5, "b.n": 5}


def test_a_value_that_did_not_arrive() -> None:
    """Every lost value is named, with what stands there and the moment."""
    deaf = Slot("model.a", get=lambda: 0, set=lambda _: None)
    half = Slot("model.b", get=lambda: "x" * 90, set=lambda _: None)
    with pytest.raises(InjectionError) as caught:
        Injection({"a": 1, "b": "y"}, [deaf, half]).apply()
    assert str(caught.value) == (
        "Injected values were lost right after they were set:\n"
        "  model.a holds 0 instead of 1 (hyperparameter 'a')\n"
        f"  model.b holds '{'x' * 76}... instead of 'y' (hyperparameter 'b')\n"
        "  Something else sets them: remove that, or take the name out of the space."
    )


def test_a_value_that_is_lost_later() -> None:
    """Reading back finds what something else set in the meantime."""
    place = Place(1)
    injection = Injection({"x": 2}, [place.slot("m.x")])
    injection.apply()
    injection.read_back("before the first step")
    place.value = 3
    with pytest.raises(InjectionError, match=re.escape("lost before the first step:\n  m.x holds 3 instead of 2")):
        injection.read_back("before the first step")


def test_a_slot_whose_object_is_made_later() -> None:
    """It is missing, not lost, until it exists; then it is read back and in force."""
    place = Place(UNKNOWN)
    slot_later = Slot("optimizer.lr", get=lambda: place.value, set=lambda _: None)
    other = slot("optimizer.momentum", UNKNOWN)
    injection = Injection({"lr": 0.5}, [slot_later, other])
    injection.apply()
    assert injection.missing() == ["optimizer.lr"]
    assert injection.effective() == {"optimizer.lr": 0.5}
    place.value = 0.5
    assert injection.missing() == []
    place.value = 0.1
    with pytest.raises(InjectionError, match=re.escape("optimizer.lr holds 0.1 instead of 0.5")):
        injection.read_back("while it was made")


def test_the_effective_configuration() -> None:
    """In force are the injected values, listed or not, and every other listed slot that exists."""
    injection = Injection({"secret": 9, "hidden": 8}, SLOTS)
    assert injection.effective() == {
        "model.dropout": 0.1,
        "model.lr": 1e-3,
        "train.batch_size": 32,
        "val.batch_size": 32,
        "data.workers": 0,
        "trainer.workers": 1,
        "layer.dense_1.units": 10,
        "trainer.secret": 9,
        "model.hidden": 8,
    }


def test_no_values_no_work() -> None:
    """An empty injection touches nothing and still knows what is in force."""
    injection = Injection({}, SLOTS[:1])
    injection.apply()
    assert (injection.paths, injection.missing(), injection.effective()) == ({}, [], {"model.hidden": 64})


@pytest.mark.parametrize(
    ("wanted", "present", "answer"),
    [
        (1, 1.0, True),
        (1, 2, False),
        ([1, [2, 3]], (1, (2, 3)), True),
        ([1, 2], [1], False),
        ("ab", ["a", "b"], False),
        (np.array([1, 2]), np.array([1, 2]), False),  # arrays refuse a single truth value
        (float("nan"), float("nan"), False),
        (None, None, True),
        ({"a": [1]}, {"a": [1]}, True),
    ],
)
def test_what_counts_as_the_same(wanted: Any, present: Any, answer: bool) -> None:
    """Equal values are the same, and lists and tuples of equal members."""
    assert same(wanted, present) is answer


class Odd:
    """An object that tells nothing of itself."""

    def __eq__(self, _other: object) -> bool:
        raise AttributeError("not yet")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise LookupError("not yet")


def test_objects_that_raise_are_told_and_compared() -> None:
    """A value that cannot be compared is the same as itself only, and one without a text is shown by its class."""
    odd = Odd()
    assert (same(odd, odd), same(odd, Odd()), same([1, odd], [1, odd])) == (True, False, True)
    assert (show(odd), show([1, "two\n lines"]), show("x" * 100)) == (
        "<Odd>",
        "[1, 'two\\n lines']",
        "'" + "x" * 76 + "...",
    )
    assert show(nn.Sequential(nn.Linear(2, 1), nn.ReLU())) == (
        "Sequential( (0): Linear(in_features=2, out_features=1, bias=True) (1): ReLU() )"
    )
    with pytest.raises(InjectionError, match=r"    model\.odd = <Odd>\n"):
        Injection({"typo": 1}, [Slot("model.odd", get=Odd, set=print)])


def test_an_array_is_the_same_as_itself() -> None:
    """Where values cannot be compared, identity decides."""
    array = np.array([1, 2])
    assert same(array, array)


def test_annotations_that_only_type_checkers_know() -> None:
    """They stand in nobody's way, nor do they from Python 3.14 on, where they need no quotes."""
    name = "Unknown" if sys.version_info >= (3, 14) else "'Unknown'"
    names: dict[str, Any] = {}
    exec(f"class Net:\n    def __init__(self, net: {name} = None, width: int = 3): ...", names)  # noqa: S102
    assert list(signature_of(names["Net"].__init__).parameters) == ["self", "net", "width"]
    assert list(Arguments(names["Net"], object).parameters) == ["net", "width"]
