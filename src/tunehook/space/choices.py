"""Values that are given: Choice and Fixed."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from tunehook.space.distribution import MOST, Distribution, SpaceError, is_a, is_finite, put, spoken
from tunehook.system import shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_LONGEST_LABEL = 60  # characters
_DEEP, _MANY = 20, 100_000  # levels and members of a value; Python reads some 90 levels back


@spoken
@dataclass(frozen=True, repr=False)
class Choice(Distribution):
    """One of several options, without an order.

    Args:
        options: Plain values: None, bool, int, float, str, and lists, tuples and dicts of them. ``1``, ``1.0`` and
            ``True`` are three options.

    Raises:
        SpaceError: There is no option, one is not a plain value, or one is there twice.

    Example:
        >>> Choice(["adam", "sgd"])
        Choice(['adam', 'sgd'])
    """

    options: Sequence[Any]

    is_numeric: ClassVar[bool] = False

    def __post_init__(self) -> None:
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
        return f"Choice({list(self.options)!r})"

    @property
    def count(self) -> int:
        return len(self.options)

    def value(self, index: int) -> Any:
        return copy.deepcopy(self.options[index])

    @functools.cached_property
    def _labels(self) -> list[Any]:
        """The raw values: the options themselves where Optuna keeps them apart, else short texts."""
        scalars = [option for option in self.options if not isinstance(option, list | tuple | dict)]
        # Optuna looks a choice up by equality, so it would take True for 1 and 1.0 for 1.
        if len(set(scalars)) == len(self.options):
            return list(self.options)
        return [_label(index, option) for index, option in enumerate(self.options)]

    @functools.cached_property
    def _places(self) -> dict[Any, int]:
        """Where the labels stand: each trial that is read is looked up."""
        return {label: place for place, label in enumerate(self._labels)}

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self._labels)

    def decode(self, raw: Any) -> Any:
        if not isinstance(raw, Hashable) or raw not in self._places:
            raise self._outside(raw, "it is none of the labels that were sampled")
        return self.value(self._places[raw])

    def encode(self, value: Any) -> Any:
        for loose in (False, True):  # a tuple that went through JSON comes back as a list
            keys = [_key(option, loose=loose) for option in self.options]
            if keys.count(_key(value, loose=loose)) == 1:
                return self._labels[keys.index(_key(value, loose=loose))]
        raise self._outside(value, "it is none of the options")

    def _fields(self) -> dict[str, Any]:
        return {"options": [repr(option) for option in self.options]}


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
    if type(value) in (list, tuple):
        return value  # type: ignore[no-any-return]
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
