"""Numbers between two bounds: Float and Int."""

from __future__ import annotations

import math
import sys
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from tunehook.space.distribution import (
    EXACT,
    LEAST,
    Distribution,
    SpaceError,
    exact,
    is_a,
    number_of,
    put,
    show,
    spoken,
)
from tunehook.system import shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_LISTED = 1_000  # values of a hyperparameter; Optuna's Gaussian process goes through all of them for a proposal


@spoken
@dataclass(frozen=True, repr=False)
class Float(Distribution):
    """A real number between two bounds, both included.

    Args:
        low: Lower bound; above 0 if ``log``.
        high: Upper bound.
        log: Sample the logarithm uniformly. Defaults to False.
        step: Keep to ``low``, ``low + step``, ... ``high``; ``high - low`` is a multiple of it. Defaults to None, any
            number. With ``log`` each of them gets the share of the logarithmic scale that is nearest to it.

    Raises:
        SpaceError: A bound or the step breaks a rule above, is NaN or beyond 1e300, or the range is below 1e-300.

    Example:
        >>> Float(1e-5, 1e-1, log=True)
        Float(1e-05, 0.1, log=True)
    """

    low: float
    high: float
    _: KW_ONLY
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            put(self, name, number_of("Float", name, getattr(self, name)))
        _check_range(self)
        if self.step is not None:
            put(self, "step", number_of("Float", "step", self.step))
            _check_step(self, self.step)

    def __repr__(self) -> str:
        return show(self, [self.low, self.high], log=self.log or None, step=self.step)

    @property
    def count(self) -> int | None:
        return None if self.step is None else int((exact(self.high) - exact(self.low)) / exact(self.step)) + 1

    def value(self, index: int) -> float:
        if self.step is None:
            raise self._no_grid()
        # In decimals, so that the third of 0.1, 0.2, ... reads 0.3 and not 0.30000000000000004.
        return float(exact(self.low) + index * exact(self.step))

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution

        if self.step is not None and _is_rounded(self):
            return FloatDistribution(*_edges(self.low, self.high, self.step, log=self.log), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def decode(self, raw: Any) -> float:
        if self.step is None:
            return float(raw)
        return self.value(_nearest(raw, self.low, self.step, self.count))

    def encode(self, value: Any) -> float:
        if not is_a(value, Real):
            raise self._outside(value, "it is not a number")
        if not self.low <= value <= self.high:
            raise self._outside(value, "it is beyond the bounds")
        if self.step is None:
            return float(value)
        nearest = self.decode(value)
        if not math.isclose(nearest, value, rel_tol=1e-12, abs_tol=1e-9 * self.step):
            raise self._outside(value, f"it is no multiple of the step, the nearest is {nearest!r}")
        return nearest


@spoken
@dataclass(frozen=True, repr=False)
class Int(Distribution):
    """A whole number between two bounds, both included.

    Args:
        low: Lower bound; above 0 if ``log``.
        high: Upper bound.
        log: Sample the logarithm uniformly. Defaults to False.
        step: Keep to ``low``, ``low + step``, ... ``high``; ``high - low`` is a multiple of it. Defaults to 1.

    Raises:
        SpaceError: A bound or the step breaks a rule above or is not a whole number; True and False are none.

    Example:
        >>> Int(16, 256, step=16)
        Int(16, 256, step=16)
    """

    low: int
    high: int
    _: KW_ONLY
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            put(self, name, _whole(name, getattr(self, name)))
        _check_range(self)
        _check_step(self, self.step)

    def __repr__(self) -> str:
        return show(self, [self.low, self.high], log=self.log or None, step=None if self.step == 1 else self.step)

    @property
    def count(self) -> int:
        return (self.high - self.low) // self.step + 1

    def value(self, index: int) -> int:
        return self.low + index * self.step

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        if _is_rounded(self):
            return FloatDistribution(*_edges(self.low, self.high, self.step, log=self.log), log=self.log)
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def decode(self, raw: Any) -> int:
        return self.value(_nearest(raw, self.low, self.step, self.count))

    def encode(self, value: Any) -> int | float:
        if not is_a(value, Integral):
            raise self._outside(value, "it is not a whole number")
        if not self.low <= value <= self.high:
            raise self._outside(value, "it is beyond the bounds")
        if (value - self.low) % self.step:
            raise self._outside(value, f"it is no multiple of the step, the nearest is {self.decode(value)}")
        return float(value) if _is_rounded(self) else int(value)


def _check_range(d: Float | Int) -> None:
    kind = type(d).__name__
    if not isinstance(d.log, bool):
        raise SpaceError(f"{kind} takes True or False for log, got log={shown(d.log)}.")
    if d.low == d.high:
        raise SpaceError(f"{kind} needs low < high, got {d.low!r} for both: use a plain value for a constant.")
    if d.low > d.high:
        raise SpaceError(f"{kind} needs low < high, got low={d.low!r} and high={d.high!r}: swap them.")
    if d.high - d.low < LEAST:
        raise SpaceError(f"{kind} needs high - low of at least 1e-300, got low={d.low!r} and high={d.high!r}.")
    if d.log and d.low <= 0:
        raise SpaceError(
            f"{kind} with log=True needs low > 0, got low={d.low!r}: raise it, or leave out log (0 has no logarithm)."
        )
    if d.log and d.low < LEAST:
        raise SpaceError(f"{kind} with log=True needs low of at least 1e-300, got low={d.low!r}.")


def _check_step(d: Float | Int, step: float) -> None:
    kind = type(d).__name__
    if step <= 0:
        raise SpaceError(f"{kind} needs step > 0, got step={step!r}.")
    if step > d.high - d.low and exact(step) > exact(d.high) - exact(d.low):
        raise SpaceError(f"{kind} needs a step within its range, got step={step!r} for {d.low!r} to {d.high!r}.")
    if (d.high - d.low) / step > EXACT:
        raise SpaceError(f"{kind} has more than 2**53 values, got step={step!r} for {d.low!r} to {d.high!r}.")
    rest = (exact(d.high) - exact(d.low)) % exact(step)
    if rest:
        last = type(d.high)(exact(d.high) - rest)
        raise SpaceError(
            f"{kind} needs high - low to be a multiple of step, got step={step!r} for {d.low!r} to {d.high!r}: "
            f"the last value would be {last!r}, so use that for high."
        )


def _whole(name: str, value: Any) -> int:
    if not is_a(value, Integral):
        raise SpaceError(
            f"Int takes a whole number for {name}, got {shown(value)} ({type(value).__name__}): "
            "use Float for other numbers, Choice([True, False]) for a switch."
        )
    if abs(value) > EXACT:
        raise SpaceError(f"Int takes numbers up to 2**53 for {name}, got {shown(value)}.")
    return int(value)


def _nearest(raw: float, low: float, step: float, count: int | None) -> int:
    return min(max(round((raw - low) / step), 0), (count or 1) - 1)


def _is_rounded(d: Float | Int) -> bool:
    """Whether any number is sampled, and rounded to a step: Optuna has no steps in logarithms, and lists all values."""
    whole = 1 if isinstance(d, Int) else None  # the step that Optuna's own distribution has
    return (d.log and d.step != whole) or (d.count or 0) > _LISTED


def _edges(low: float, high: float, step: float, *, log: bool) -> tuple[float, float]:
    # Half a step beyond the grid, so that its ends get their whole share. Below, with log, the half step is measured in
    # logarithms, since low - step / 2 may be 0.
    first = max(low * (low / (low + step / 2)), sys.float_info.min) if log else low - step / 2
    return first, high + step / 2
