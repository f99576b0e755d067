"""What a distribution is: where the values of one hyperparameter come from. Optuna is loaded when a method needs it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tunehook.system import DISTRIBUTION, shown, takes

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

EXACT = 2**53  # Optuna keeps every number as a double
# Between these, what samplers compute from a range or a scale is neither infinite nor rounded to 0.
LEAST, MOST = 1e-300, 1e300


class SpaceError(ValueError):
    """A search space that cannot be searched, or values that lie outside it."""


class Distribution(ABC):
    """Where the values of one hyperparameter come from.

    Optuna samples a *raw* value, such as a number or a label; `decode` makes the user's value of it.

    Attributes:
        is_numeric: Whether the values are numbers, which have an order.
    """

    is_numeric: ClassVar[bool] = True

    @property
    @abstractmethod
    def count(self) -> int | None:
        """Number of values that a grid goes through; ``None`` where a grid is not possible."""

    @abstractmethod
    def value(self, index: int) -> Any:
        """The value of a grid at ``index``, from 0 to ``count - 1``.

        Raises:
            SpaceError: There is no grid.
        """

    @abstractmethod
    def distribution(self) -> BaseDistribution | None:
        """Optuna's distribution of the raw values; ``None`` where nothing is sampled."""

    @abstractmethod
    def decode(self, raw: Any) -> Any:
        """The user's value of a raw one, mutable ones as fresh copies."""

    @abstractmethod
    def encode(self, value: Any) -> Any:
        """The raw value of the user's; the inverse of `decode`.

        Raises:
            SpaceError: The value is outside the distribution.
        """

    def describe(self) -> dict[str, Any]:
        """A JSON-able description from which `Space.from_description` makes the distribution again."""
        return {"kind": type(self).__name__, **self._fields()}

    def _fields(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    def _no_grid(self) -> SpaceError:
        return SpaceError(f"{shown(self)} has no grid: give it a step, or use Choice([...]).")

    def _outside(self, value: Any, why: str) -> SpaceError:
        return SpaceError(f"{shown(value)} is outside {shown(self)}: {why}.")


_D = TypeVar("_D", bound="type[Distribution]")


def spoken(cls: _D) -> _D:
    """Let the constructor say what the arguments of other libraries are called here."""
    cls.__init__ = takes(cls.__name__, DISTRIBUTION)(cls.__init__)  # type: ignore[method-assign]
    return cls


def number_of(kind: str, name: str, value: Any) -> float:
    """The number that an argument is.

    Raises:
        SpaceError: It is none, or none that samplers can compute with.
    """
    if not is_a(value, Real):
        raise SpaceError(f"{kind} takes a number for {name}, got {shown(value)} ({type(value).__name__}).")
    if not is_finite(value):
        raise SpaceError(f"{kind} takes a finite number for {name}, got {shown(value)}.")
    if abs(float(value)) > MOST:
        raise SpaceError(f"{kind} takes a number between -1e300 and 1e300 for {name}, got {shown(value)}.")
    return float(value)


def is_finite(value: Any) -> bool:
    """Whether a number is finite, also as a double."""
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all doubles
        return False


def is_a(value: Any, kind: type) -> bool:
    """Whether a value is a number of a kind; True and False are none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def exact(number: float) -> Decimal:
    """A number as it is written."""
    return Decimal(str(number))


def put(instance: object, name: str, value: Any) -> None:
    """Set an attribute of a frozen dataclass, as its constructor does."""
    object.__setattr__(instance, name, value)


def show(d: Distribution, positional: Sequence[Any], **options: Any) -> str:
    """The call that makes a distribution, without the options that are ``None``."""
    texts = [repr(value) for value in positional]
    texts += [f"{name}={value!r}" for name, value in options.items() if value is not None]
    return f"{type(d).__name__}({', '.join(texts)})"
