"""Hyperparameters of Optuna as columns of numbers that a model can compare, draw and change a little."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution, CategoricalDistribution

Array = NDArray[np.float64]

# An int with more values is rounded; with fewer, its neighbours on a logarithmic scale lie noticeably apart.
MANY = 1_000


class Column(ABC):
    """One hyperparameter as numbers from 0 to 1; of a category, as numbers without an order.

    Attributes:
        is_category: Whether it has no order.
        absent: The number where it does not exist: among values in an order the middle, as the mean of all.
    """

    is_category = False
    absent = 0.5

    @abstractmethod
    def encode(self, value: Any) -> float:
        """The number of a value."""

    @abstractmethod
    def decode(self, number: float) -> Any:
        """The value of a number."""

    @abstractmethod
    def draw(self, count: int, dice: Generator) -> Array:
        """Numbers of values that are drawn at random."""

    @abstractmethod
    def change(self, numbers: Array, scale: Array, dice: Generator) -> Array:
        """Numbers of other values near by.

        Args:
            numbers: Of the values as they are.
            scale: How far to go, as a standard deviation, for each.
            dice: Random numbers.
        """


class Number(Column):
    """Any number in a range, or whole ones so many that they are rounded.

    Args:
        low, high: The range.
        log: Whether the scale is logarithmic.
        step: What a value is a multiple of, counted from `low`. Defaults to None: nothing.
        kind: ``int`` or ``float``.
    """

    def __init__(self, low: float, high: float, *, log: bool, step: float | None, kind: type) -> None:
        self._low, self._high, self._step, self._kind = low, high, step, kind
        self._scale: Callable[[float], float] = math.log if log else float
        self._back: Callable[[float], float] = math.exp if log else float
        self._first, self._last = self._scale(low), self._scale(high)
        self._span = (self._last - self._first) or 1.0  # bounds may be too near for a logarithm

    def encode(self, value: Any) -> float:
        """On the scale, from 0 to 1."""
        return (self._scale(value) - self._first) / self._span

    def decode(self, number: float) -> Any:
        """Back on the scale, on a step, inside the range."""
        exact = self._back(self._first + number * self._span)
        if self._step is not None:
            exact = self._low + round((exact - self._low) / self._step) * self._step
        return self._kind(min(max(exact, self._low), self._high))

    def draw(self, count: int, dice: Generator) -> Array:
        """Uniform on the scale."""
        return dice.random(count)

    def change(self, numbers: Array, scale: Array, dice: Generator) -> Array:
        """By a normal step, inside the range."""
        return np.clip(numbers + dice.normal(size=len(numbers)) * scale, 0.0, 1.0)


class Levels(Column):
    """Values in an order, of which there are few.

    Args:
        values: In their order.
        places: Where they lie from 0 to 1.
        shares: How often each is drawn, which sum to 1.
    """

    def __init__(self, values: Sequence[Any], places: Array, shares: Array) -> None:
        self._values, self._places, self._shares = values, places, shares
        self._numbers = np.array(values, float)
        self._between = (places[1:] + places[:-1]) / 2

    def encode(self, value: Any) -> float:
        """The place of the nearest value."""
        return float(self._places[np.abs(self._numbers - value).argmin()])

    def decode(self, number: float) -> Any:
        """The value of the nearest place."""
        return self._values[int(self._nearest(np.array([number]))[0])]

    def draw(self, count: int, dice: Generator) -> Array:
        """Each value with its share."""
        return dice.choice(self._places, count, p=self._shares)

    def change(self, numbers: Array, scale: Array, dice: Generator) -> Array:
        """By a normal step, to another level where there is one."""
        step = dice.normal(size=len(numbers)) * scale
        was = self._nearest(numbers)
        now = self._nearest(np.clip(numbers + step, 0.0, 1.0))
        now = np.where(now == was, was + np.where(step > 0, 1, -1), now)  # one level at least
        return self._places[np.clip(now, 0, len(self._places) - 1)]

    def _nearest(self, numbers: Array) -> NDArray[np.intp]:
        return np.searchsorted(self._between, numbers)


class Category(Column):
    """Values without an order.

    Args:
        distribution: That of Optuna, which knows the place of each.
    """

    is_category = True
    absent = -1.0

    def __init__(self, distribution: CategoricalDistribution) -> None:
        self._values, self._place = distribution.choices, distribution.to_internal_repr

    def encode(self, value: Any) -> float:
        """Its number."""
        return float(self._place(value))

    def decode(self, number: float) -> Any:
        """The value of that number."""
        return self._values[int(number)]

    def draw(self, count: int, dice: Generator) -> Array:
        """Each value as often."""
        return dice.integers(len(self._values), size=count).astype(float)

    def change(self, numbers: Array, scale: Array, dice: Generator) -> Array:
        """To any other one."""
        return (numbers + dice.integers(1, len(self._values), size=len(numbers))) % len(self._values)


def column(distribution: BaseDistribution) -> Column:
    """The column of a hyperparameter that has two values or more."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        choices: Sequence[Any] = distribution.choices
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in choices):
            values = sorted(choices)
            return Levels(values, np.linspace(0, 1, len(values)), np.full(len(values), 1 / len(values)))
        return Category(distribution)
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise TypeError(f"Optuna's distributions are numbers and choices, got {distribution!r}.")
    low, high, step, log = distribution.low, distribution.high, distribution.step, distribution.log
    kind = int if isinstance(distribution, IntDistribution) else float
    if step is None or (high - low) / step >= MANY or high + step / 2 == high:  # or too large for their steps
        return Number(low, high, log=log, step=step, kind=kind)
    values = [kind(min(low + at * step, high)) for at in range(round((high - low) / step) + 1)]
    edges = np.array([low - step / 2, *(value + step / 2 for value in values)])
    scale = np.log if log else np.asarray
    places, edges = scale(np.array(values, float)), scale(edges)
    return Levels(values, (places - places[0]) / (places[-1] - places[0]), np.diff(edges) / (edges[-1] - edges[0]))


class Columns:
    """All hyperparameters of a search, whose configurations are rows.

    Args:
        distributions: By name; each has two values or more. A choice comes before what exists with its options only.
        branches: By name, the values of other names with which it exists only. Defaults to none: all exist.
    """

    def __init__(
        self, distributions: Mapping[str, BaseDistribution], branches: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self._columns = {name: column(distribution) for name, distribution in distributions.items()}
        self.is_category = np.array([one.is_category for one in self._columns.values()], bool)
        places = {name: at for at, name in enumerate(self._columns)}
        self._branches = {
            places[name]: {
                places[other]: self._columns[other].encode(value) for other, value in needs.items() if other in places
            }
            for name, needs in (branches or {}).items()
            if name in places and needs
        }

    @property
    def are_levels(self) -> bool:
        """Whether each hyperparameter has few values, so that a random configuration may be one that was drawn."""
        return not any(isinstance(one, Number) for one in self._columns.values())

    def encode(self, params: Mapping[str, Any]) -> Array:
        """A configuration as a row, (d,)."""
        return np.array(
            [one.encode(params[name]) if name in params else one.absent for name, one in self._columns.items()]
        )

    def decode(self, row: Array) -> dict[str, Any]:
        """The configuration of a row, of what exists in it."""
        return {
            name: one.decode(float(row[at]))
            for at, (name, one) in enumerate(self._columns.items())
            if self._exists(row[None], at)[0]
        }

    def draw(self, count: int, dice: Generator) -> Array:
        """Random rows, (count, d)."""
        rows = np.stack([one.draw(count, dice) for one in self._columns.values()], 1)
        for at, one in enumerate(self._columns.values()):
            if at in self._branches:
                rows[~self._exists(rows, at), at] = one.absent
        return rows

    def change(self, rows: Array, scale: Array, share: float, dice: Generator) -> Array:
        """Rows that differ from others in some dimensions, in one at least.

        Args:
            rows: The others, (n, d).
            scale: How far numbers go, for each row, (n,).
            share: How likely each dimension is changed.
            dice: Random numbers.
        """
        is_changed = dice.random(rows.shape) < share
        is_changed[np.arange(len(rows)), dice.integers(rows.shape[1], size=len(rows))] = True
        changed = rows.copy()
        for at, one in enumerate(self._columns.values()):
            here = is_changed[:, at]
            changed[here, at] = one.change(rows[here, at], scale[here], dice)
            if at in self._branches:  # the choices that it hangs on are changed by now
                exists = self._exists(changed, at)
                is_new = exists & ~self._exists(rows, at)
                changed[is_new, at] = one.draw(int(is_new.sum()), dice)
                changed[~exists, at] = one.absent
        return changed

    def _exists(self, rows: Array, at: int) -> NDArray[np.bool_]:
        """In which rows the hyperparameter at a place exists."""
        needs = self._branches.get(at, {})
        exists = np.ones(len(rows), bool)
        for other, value in needs.items():
            exists &= rows[:, other] == value
        return exists
