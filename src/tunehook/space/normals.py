"""Numbers around a mean: Normal and LogNormal."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from tunehook.space.distribution import (
    EXACT,
    LEAST,
    Distribution,
    SpaceError,
    exact,
    is_a,
    is_finite,
    number_of,
    put,
    show,
    spoken,
)

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_STANDARD = NormalDist()
_TAIL = _STANDARD.cdf(-5.0)  # two draws in 3.5 million lie further out


@spoken
@dataclass(frozen=True, repr=False)
class Normal(Distribution):
    """A number from a normal distribution, cut off at five standard deviations.

    The probability is sampled uniformly and put through the inverse of the cumulative distribution function (inverse
    transform sampling: Devroye, Non-Uniform Random Variate Generation, 1986, II.2), so that every search can use it.
    Values are rounded to about nine digits of ``sigma``: what was recorded can then be asked again exactly, although
    a probability near 1 tells values no finer apart than that.

    Args:
        mu: Mean.
        sigma: Standard deviation, above 0, and at least a millionth of ``mu``.
        step: Round to a multiple of this, above 0; the values are ints if it is one. Defaults to None.

    Raises:
        SpaceError: A number breaks a rule above, is NaN or beyond 1e300, ``sigma`` is below 1e-300, or there are more
            than 2**53 multiples of ``step``.
    """

    mu: float
    sigma: float
    _: KW_ONLY
    step: float | None = None

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for name in ("mu", "sigma"):
            put(self, name, number_of(kind, name, getattr(self, name)))
        if self.sigma <= 0:
            raise SpaceError(f"{kind} needs sigma > 0, got sigma={self.sigma!r}: use a plain value for a constant.")
        if self.sigma < LEAST:
            raise SpaceError(f"{kind} needs a sigma of at least 1e-300, got sigma={self.sigma!r}.")
        if self._smallest() > self.sigma:
            raise SpaceError(
                f"{kind} needs a sigma of at least a millionth of mu, got {self!r}: use Float for so narrow a range."
            )
        if self.step is not None:
            step = number_of(kind, "step", self.step)
            put(self, "step", int(self.step) if isinstance(self.step, Integral) else step)
            if self.step <= 0:
                raise SpaceError(f"{kind} needs step > 0, got step={self.step!r}: leave it out for any number.")
        largest = self._largest()
        if self.step is not None and largest / EXACT > self.step:
            raise SpaceError(f"{kind} has more than 2**53 values, got step={self.step!r} for values up to {largest!r}.")

    def __repr__(self) -> str:
        return show(self, [self.mu, self.sigma], step=self.step)

    @property
    def count(self) -> None:
        return None

    def value(self, index: int) -> float:
        raise self._no_grid()

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(_TAIL, 1 - _TAIL)

    def decode(self, raw: Any) -> int | float:
        probability = min(max(float(raw), _TAIL), 1 - _TAIL)
        rounded = self._round(self._from_normal(self.mu + self.sigma * _STANDARD.inv_cdf(probability)))
        return rounded if self.step is None else _multiple(rounded, self.step)

    def encode(self, value: Any) -> float:
        if not is_a(value, Real) or not is_finite(value):
            raise self._outside(value, "it is not a finite number")
        z = (self._to_normal(value) - self.mu) / self.sigma
        raw = min(max(_STANDARD.cdf(z), _TAIL), 1 - _TAIL)
        nearest = self.decode(raw)
        if nearest != value:
            raise self._outside(value, f"the nearest value that can be sampled is {nearest!r}")
        return raw

    def _largest(self) -> float:
        return abs(self.mu) + 5 * self.sigma

    def _smallest(self) -> float:
        # Below, doubles are too coarse around mu to tell the rounded values apart.
        return abs(self.mu) / 1e6

    def _from_normal(self, x: float) -> float:
        return x

    def _to_normal(self, value: float) -> float:
        return float(value)

    def _round(self, exact: float) -> float:
        return round(exact, 8 - math.floor(math.log10(self.sigma)))


@spoken
@dataclass(frozen=True, repr=False)
class LogNormal(Normal):
    """A positive number whose natural logarithm has a normal distribution, cut off at five standard deviations.

    Sampled as `Normal` is; values are rounded to seven significant digits.

    Args:
        mu: Mean of the logarithm.
        sigma: Standard deviation of the logarithm, above 0, and at least a millionth of ``mu``.
        step: Round to a multiple of this, above 0, also to 0; the values are ints if it is one. Defaults to None.

    Raises:
        SpaceError: A number breaks a rule above, is NaN or infinite, or the largest value is too large for a double.
    """

    def _largest(self) -> float:
        if not -700 < self.mu - 5 * self.sigma < self.mu + 5 * self.sigma < 700:
            raise SpaceError(
                f"LogNormal needs mu - 5 sigma and mu + 5 sigma between -700 and 700, got {self!r}: "
                "mu and sigma are those of the natural logarithm."
            )
        return math.exp(self.mu + 5 * self.sigma)

    def _from_normal(self, x: float) -> float:
        return math.exp(x)

    def _to_normal(self, value: float) -> float:
        return math.log(value) if value > 0 else -math.inf

    def _round(self, exact: float) -> float:
        return float(f"{exact:.7g}")


def _multiple(number: float, step: int | float) -> int | float:
    return type(step)(round(number / step) * exact(step))
