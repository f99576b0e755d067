"""Configurations of every kind as arguments: their entries have names, and one of them can be replaced in a copy."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import types
from collections.abc import Callable
from typing import Any

import attrs
import pydantic
import pytest
from omegaconf import OmegaConf

from tunehook.inject.arguments import Arguments


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A dataclass that computes a field."""

    lr: float = 0.1
    inner: Any = None
    twice: float = dataclasses.field(init=False, default=0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.lr)


@attrs.frozen
class Attrs:
    """A class of attrs."""

    lr: float = 0.1
    inner: Any = None


class Pydantic(pydantic.BaseModel):
    """A model of pydantic."""

    lr: float = 0.1
    inner: Any = None


class Plain:
    """An object that holds values."""

    def __init__(self, lr: float = 0.1, inner: Any = None) -> None:
        self.lr, self.inner = lr, inner


class Table:
    """A mapping that does not say that it is one."""

    def __init__(self, lr: float = 0.1, inner: Any = None) -> None:
        self._held = {"lr": lr, "inner": inner}

    def keys(self) -> Any:
        """Its keys."""
        return self._held.keys()

    def __iter__(self) -> Any:
        return iter(self._held)

    def __getitem__(self, key: str) -> Any:
        return self._held[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._held[key] = value


def read_only(lr: float = 0.1, inner: Any = None) -> Any:
    """A configuration of OmegaConf that cannot be changed."""
    made = OmegaConf.create({"lr": lr, "inner": inner})
    OmegaConf.set_readonly(made, True)
    return made


KINDS: list[Callable[..., Any]] = [
    Frozen, Attrs, Pydantic, Plain, Table, read_only, types.SimpleNamespace, argparse.Namespace, dict,
]  # fmt: skip


class Net:
    """What takes a configuration."""

    def __init__(self, config: Any, lr: float = 0.5) -> None:
        self.config, self.lr = config, lr


def call(config: Any) -> Arguments:
    """The call of the constructor with a configuration."""
    arguments = Arguments(Net, object)
    arguments.bound = arguments.signature.bind(config)
    return arguments


def read(config: Any, *keys: str) -> Any:
    """An entry of a configuration."""
    for key in keys:
        config = config[key] if hasattr(config, "__getitem__") else getattr(config, key)
    return config


@pytest.mark.parametrize("make", KINDS)
def test_an_entry_is_replaced_in_a_copy(make: Callable[..., Any]) -> None:
    """Of any kind, and in one that is an entry of another; the user's own is not changed."""
    given = make(lr=0.1, inner={"width": 4})
    before = copy.deepcopy(given)
    arguments = call(given)
    found = arguments.values()
    assert (found["config.lr"], found["config.inner.width"], found["lr"]) == (0.1, 4, 0.5)
    (changed,), _ = arguments.arguments({"config.lr": 0.3, "config.inner.width": 8})
    assert type(changed) is type(given)
    assert (read(changed, "lr"), read(changed, "inner", "width")) == (0.3, 8)
    for config in (given, before):
        assert (read(config, "lr"), read(config, "inner", "width")) == (0.1, 4)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((1,), {"c": 3}, ((1,), {"c": 3, "b": 9})),
        ((1, 2), {"c": 3}, ((1, 9), {"c": 3})),
        ((), {"c": 3, "b": 2, "a": 1}, ((), {"a": 1, "b": 9, "c": 3})),
        ((1, 2, 3, 4, 5), {"d": 6}, ((1, 9, 3, 4, 5), {"d": 6})),
    ],
)
def test_arguments_are_given_as_they_were(args: tuple[int, ...], kwargs: dict[str, int], expected: Any) -> None:
    """By position or by name, since who is called may tell them apart; a new one by name."""

    class Four:
        def __init__(self, a: int, b: int = 2, c: int = 3, *more: int, d: int = 0) -> None:
            """Take them."""

    arguments = Arguments(Four, object)
    arguments.bind(args, kwargs)
    assert arguments.arguments({"b": 9}) == expected


class Only:
    """What takes two arguments by position only."""

    def __init__(self, width: int = 32, depth: int = 2, /, rate: float = 0.1, **more: Any) -> None:
        self.all = (width, depth, rate, more)


@pytest.mark.parametrize(
    ("args", "kwargs", "new", "expected"),
    [
        ((), {}, {"width": 9}, (9, 2, 0.1, {})),
        ((), {}, {"depth": 9}, (32, 9, 0.1, {})),
        ((), {"rate": 0.5, "x": 1}, {"depth": 9, "rate": 0.3}, (32, 9, 0.3, {"x": 1})),
        ((4, 5, 0.5), {}, {"depth": 9, "width": 8}, (8, 9, 0.5, {})),
        ((4,), {"width": 5}, {"depth": 9, "width": 8}, (4, 9, 0.1, {"width": 8})),
    ],
)
def test_arguments_by_position_only_stay_so(args: Any, kwargs: Any, new: Any, expected: Any) -> None:
    """Those before them get their defaults; one of the same name in ``**kwargs`` takes the value where it was typed."""
    arguments = Arguments(Only, object)
    arguments.bind(args, kwargs)
    made_args, made_kwargs = arguments.arguments(new)
    assert Only(*made_args, **made_kwargs).all == expected
    assert {*kwargs} <= {*made_kwargs}


def test_arguments_by_position_only_of_a_base_class_have_no_name() -> None:
    """A constructor that hands ``**kwargs`` on cannot give them."""

    class Wide(Only):
        def __init__(self, **more: Any) -> None:
            super().__init__(**more)

    assert list(Arguments(Wide, object).parameters) == ["rate"]
    assert list(Arguments(Only, object).parameters) == ["width", "depth", "rate"]


def test_what_a_configuration_computes_follows() -> None:
    """As it would where the value was typed in."""
    (changed,), _ = call(Frozen()).arguments({"config.lr": 0.3})
    assert changed == Frozen(0.3)
    assert changed.twice == 0.6


@pytest.mark.parametrize("value", [Frozen, len, "text", b"x", [1, 2], iter([1]), Plain(0.1, object()), range(3)])
def test_what_is_no_configuration_has_no_entries(value: Any) -> None:
    """A class, a function, a list, an object that holds more than values."""
    assert [name for name in call(value).values() if "." in name and name != "config.lr"] == []


def test_an_object_that_holds_itself_ends() -> None:
    """Entries go down a few levels only."""
    one = Plain()
    one.inner = one
    assert "config.lr" not in call(one).values()
