"""Values that are given: Choice and Fixed; and what a space makes of a value that is given."""

from __future__ import annotations

import copy
import functools
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from tunehook.space.distribution import MOST, Distribution, SpaceError, is_a, is_finite, put, spoken
from tunehook.system import shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_LONGEST_LABEL = 60  # characters
_DEEP, _MANY = 20, 100_000  # levels and members of a value; Python reads some 90 levels back
_FEW = 20  # options that a message repeats

KINDS = ("Float", "Int", "Choice", "Normal", "LogNormal", "Fixed")


@spoken
@dataclass(frozen=True, repr=False)
class Choice(Distribution):
    """One of several options, without an order.

    Args:
        options: Plain values: None, bool, int, float, str, and lists, tuples and dicts of them. ``1``, ``1.0`` and
            ``True`` are three options. A dict gives each option the hyperparameters that exist with it only.

    Attributes:
        branches: By the place of each option, the distributions that exist with it; empty where none has any.

    Raises:
        SpaceError: There is no option, one is not a plain value, or one is there twice; or the hyperparameters of an
            option are no space.

    Example:
        >>> Choice(["adam", "sgd"])
        Choice(['adam', 'sgd'])
        >>> Choice({"adam": {}, "sgd": {"nesterov": Choice([True, False])}})
        Choice({'adam': {}, 'sgd': {'nesterov': Choice([True, False])}})
    """

    options: Sequence[Any] | Mapping[Any, Mapping[str, Any]]
    branches: tuple[Mapping[str, Distribution], ...] = field(init=False, default=())

    is_numeric: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if isinstance(self.options, Mapping):
            branches = [_branch(option, given) for option, given in self.options.items()]
            put(self, "branches", tuple(branches) if any(branches) else ())
            put(self, "options", list(self.options))
        if not isinstance(self.options, Sequence) or isinstance(self.options, str | bytes):
            raise SpaceError(f"Choice takes a list of options, got {shown(self.options)}: write Choice([...]).")
        if not self.options:
            raise SpaceError("Choice needs at least one option, got an empty list.")
        for option in self.options:
            _check_plain("An option of Choice", option)
        seen: set[Any] = set()
        for option in self.options:
            if (key := _key(option)) in seen:
                raise SpaceError(f"Choice has the option {shown(option)} twice: remove one of them.")
            seen.add(key)
        put(self, "options", tuple(copy.deepcopy(option) for option in self.options))

    def __repr__(self) -> str:
        if not self.branches:
            return f"Choice({list(self.options)!r})"
        pairs = zip(self.options, self.branches, strict=True)
        return "Choice({" + ", ".join(f"{option!r}: {branch!r}" for option, branch in pairs) + "})"

    @property
    def count(self) -> int:
        return len(self.options)

    def value(self, index: int) -> Any:
        option = self.options[index]
        return copy.deepcopy(option) if isinstance(option, list | tuple | dict) else option

    @functools.cached_property
    def labels(self) -> list[Any]:
        """The raw values: the options themselves where Optuna keeps them apart, else short texts."""
        scalars = [option for option in self.options if not isinstance(option, list | tuple | dict)]
        # Optuna looks a choice up by equality, so it would take True for 1 and 1.0 for 1.
        if len(set(scalars)) == len(self.options):
            return list(self.options)
        return [_label(index, option) for index, option in enumerate(self.options)]

    @functools.cached_property
    def _places(self) -> dict[Any, int]:
        """Where the labels stand: each trial that is read is looked up."""
        return {label: place for place, label in enumerate(self.labels)}

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.labels)

    def index(self, raw: Any) -> int:
        """The place of the option that a raw value means.

        Raises:
            SpaceError: It means none.
        """
        if not isinstance(raw, Hashable) or raw not in self._places:
            raise self._outside(raw, "it is none of the labels that were sampled")
        return self._places[raw]

    def decode(self, raw: Any) -> Any:
        return self.value(self.index(raw))

    def encode(self, value: Any) -> Any:
        for loose in (False, True):  # a tuple that went through JSON comes back as a list
            keys = [_key(option, loose=loose) for option in self.options]
            if keys.count(_key(value, loose=loose)) == 1:
                return self.labels[keys.index(_key(value, loose=loose))]
        raise self._outside(value, "it is none of the options")

    def _fields(self) -> dict[str, Any]:
        branches = [{name: d.describe() for name, d in branch.items()} for branch in self.branches]
        return {"options": [repr(option) for option in self.options], **({"branches": branches} if branches else {})}


@spoken
@dataclass(frozen=True, repr=False)
class Fixed(Distribution):
    """A value that every trial has; a plain value in a `Space` means the same.

    Args:
        constant: A plain value, as for `Choice`.

    Raises:
        SpaceError: It is not a plain value.
    """

    constant: Any

    def __post_init__(self) -> None:
        _check_plain("A fixed value", self.constant)
        put(self, "constant", copy.deepcopy(self.constant))

    def __repr__(self) -> str:
        return f"Fixed({self.constant!r})"

    @property
    def count(self) -> int:
        return 1

    def value(self, index: int) -> Any:
        return copy.deepcopy(self.constant)

    def distribution(self) -> None:
        return None

    def decode(self, raw: Any) -> Any:
        return self.value(0)

    def encode(self, value: Any) -> None:
        if _key(value, loose=True) != _key(self.constant, loose=True):
            raise self._outside(value, "the space fixes it")

    def _fields(self) -> dict[str, Any]:
        return {"constant": repr(self.constant)}


def dimension(name: str, given: Any) -> Distribution:
    """The distribution that a space makes of what it is given for a name: a plain value is fixed.

    Raises:
        SpaceError: It is neither a distribution nor a plain value, may mean several things, or the name is none.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.*\-]+", name):
        raise SpaceError(
            "A hyperparameter's name has letters, digits, '_', '.', '-', and '*' where it is a pattern; "
            f"got {shown(name)}."
        )
    if isinstance(given, Distribution):
        return given
    if isinstance(given, list | tuple | dict | range | set | frozenset):
        raise SpaceError(_ambiguous(name, given))
    try:
        return Fixed(given)
    except SpaceError as error:
        raise SpaceError(
            f"Hyperparameter '{name}' is {shown(given)}, neither a plain value nor one of {', '.join(KINDS)}."
        ) from error


def _branch(option: Any, given: Any) -> dict[str, Distribution]:
    if not isinstance(given, Mapping):
        raise SpaceError(
            f"Choice takes for the option {shown(option)} a dict of the hyperparameters that exist with it, got "
            f"{shown(given)}: write {{}} for none."
        )
    return {name: dimension(name, one) for name, one in given.items()}


def _ambiguous(name: str, given: Any) -> str:
    """What a container may mean, which nobody can know: options, bounds, or one value."""
    whole = shown(given)
    said = f"Hyperparameter '{name}' is {whole}: "
    if isinstance(given, dict):
        return said + f"write Float(...), Int(...) or Choice([...]) for a search, or Fixed({whole}) for one value."
    options = shown(list(given)) if len(given) <= _FEW else "[...]"
    value = f", or Fixed({whole}) for one value" if isinstance(given, list | tuple) else ""
    return (
        said + f"write Choice({options}) to choose among them, Float(low, high) or Int(low, high) for a range{value}."
    )


def _check_plain(what: str, value: Any) -> None:
    """Check that a value is plain and that its ``repr``, which the storage keeps, makes it again.

    Raises:
        SpaceError: It is not, or has too many levels or members, as one that contains itself.
    """
    level, seen = [value], 0
    for _ in range(_DEEP):
        level = [member for one in level for member in _members(what, one)]
        seen += len(level)
        if not level:
            return
        if seen > _MANY:
            break
    raise SpaceError(
        f"{what} may have {_DEEP} levels and {_MANY:,} members, got more in {shown(value)}: give its name instead."
    )


def _members(what: str, value: Any) -> Sequence[Any]:
    """What a plain value contains, nothing where it is a scalar."""
    if type(value) is list or type(value) is tuple:
        return value
    if type(value) is dict:
        return (*value, *value.values())
    if type(value) not in (type(None), bool, int, float, str):
        raise SpaceError(
            f"{what} is None, a bool, int, float, str, or a list, tuple or dict of them, "
            f"got {shown(value)} ({type(value).__name__}): give its name or its .item() instead."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise SpaceError(f"{what} must be a finite number, got {value!r}: write it as text, or leave it out.")
    if isinstance(value, int) and abs(value) > MOST:
        raise SpaceError(f"{what} must be a number between -1e300 and 1e300, got {shown(value)}: write it as text.")
    return ()


def _key(value: Any, *, loose: bool = False) -> Any:
    """What makes an option itself: its value with the types; loose: a list is a tuple, and 1 is 1.0."""
    if isinstance(value, list | tuple):
        return ("list" if loose else type(value).__name__, tuple(_key(member, loose=loose) for member in value))
    if isinstance(value, dict):
        members = [(_key(k), _key(member, loose=loose)) for k, member in value.items()]
        return ("dict", tuple(sorted(members, key=repr)))
    if loose and is_a(value, Real) and is_finite(value):
        return ("number", float(value))
    return (type(value).__name__, value)


def _label(index: int, option: Any) -> str:
    text = repr(option)  # tells 1 from 1.0 and a list from a tuple, which JSON does not
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 10]}... #{index}"
