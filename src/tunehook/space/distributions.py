"""Where the values of a hyperparameter come from: Float, Int, Choice, Normal, LogNormal and Fixed.

Importing this module is cheap: Optuna is loaded by the first method that needs it.
"""

from __future__ import annotations

import copy
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from decimal import Decimal
from numbers import Integral, Real
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tunehook.system import DISTRIBUTION, takes

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_STANDARD = NormalDist()
_TAIL = _STANDARD.cdf(-5.0)  # two draws in 3.5 million lie further out
_EXACT = 2**53  # Optuna keeps every number as a double
# Between these, what samplers compute from a range or a scale is neither infinite nor rounded to 0.
_LEAST, _MOST = 1e-300, 1e300
_LISTED = 1_000  # values of a hyperparameter; Optuna's Gaussian process goes through all of them for a proposal
_LONGEST_LABEL = 60  # characters


class SpaceError(ValueError):
    """A search space that cannot be searched, or values that lie outside it."""


_D = TypeVar("_D", bound="type[Distribution]")


def _spoken(cls: _D) -> _D:
    """Let the constructor say what the arguments of other libraries are called here."""
    cls.__init__ = takes(cls.__name__, DISTRIBUTION)(cls.__init__)  # type: ignore[method-assign]
    return cls


class Distribution(ABC):
    """Where the values of one hyperparameter come from.

    Optuna samples a *raw* value, such as a number or a label; `decode` makes the user's value of it.

    Attributes:
        is_numeric: Whether the values are numbers, which have an order.
    """

    is_numeric: ClassVar[bool] = True

    @property
    def is_discrete(self) -> bool:
        """Whether there are only finitely many values."""
        return self._count() is not None

    @property
    def count(self) -> int | None:
        """Number of values that a grid goes through; ``None`` where a grid is not possible."""
        return self._count()

    def value(self, index: int) -> Any:
        """The value of a grid at ``index``, from 0 to ``count - 1``."""
        if self._count() is None:
            raise SpaceError(f"{self!r} has no grid: give it a step, or use Choice([...]).")
        return self._value(index)

    def distribution(self) -> BaseDistribution | None:
        """Optuna's distribution of the raw values; ``None`` where nothing is sampled."""
        return self._distribution()

    def decode(self, raw: Any) -> Any:
        """The user's value of a raw one, mutable ones as fresh copies."""
        return self._decode(raw)

    def encode(self, value: Any) -> Any:
        """The raw value of the user's; the inverse of `decode`.

        Raises:
            SpaceError: The value is outside the distribution.
        """
        return self._encode(value)

    def describe(self) -> dict[str, Any]:
        """A JSON-able description from which `Space.from_description` makes the distribution again."""
        return {"kind": type(self).__name__, **self._fields()}

    def _fields(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @abstractmethod
    def _count(self) -> int | None: ...

    @abstractmethod
    def _value(self, index: int) -> Any: ...

    @abstractmethod
    def _distribution(self) -> BaseDistribution | None: ...

    @abstractmethod
    def _decode(self, raw: Any) -> Any: ...

    @abstractmethod
    def _encode(self, value: Any) -> Any: ...

    def _outside(self, value: Any, why: str) -> SpaceError:
        return SpaceError(f"{value!r} is outside {self!r}: {why}.")


@_spoken
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
            _set(self, name, _number("Float", name, getattr(self, name)))
        _check_range(self)
        if self.step is not None:
            _set(self, "step", _number("Float", "step", self.step))
            _check_step(self, self.step)

    def __repr__(self) -> str:
        return _show(self, [self.low, self.high], log=self.log or None, step=self.step)

    def _count(self) -> int | None:
        return None if self.step is None else int((_exact(self.high) - _exact(self.low)) / _exact(self.step)) + 1

    def _value(self, index: int) -> float:
        # In decimals, so that the third of 0.1, 0.2, ... reads 0.3 and not 0.30000000000000004.
        return float(_exact(self.low) + index * _exact(self.step or 0))

    def _distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution

        if self.step is not None and _is_rounded(self):
            return FloatDistribution(*_edges(self.low, self.high, self.step, log=self.log), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def _decode(self, raw: Any) -> float:
        if self.step is None:
            return float(raw)
        return self._value(_nearest(raw, self.low, self.step, self.count))

    def _encode(self, value: Any) -> float:
        if not _is(value, Real):
            raise self._outside(value, "it is not a number")
        if not self.low <= value <= self.high:
            raise self._outside(value, "it is beyond the bounds")
        if self.step is None:
            return float(value)
        nearest = self._decode(value)
        if not math.isclose(nearest, value, rel_tol=1e-12, abs_tol=1e-9 * self.step):
            raise self._outside(value, f"it is no multiple of the step, the nearest is {nearest!r}")
        return nearest


@_spoken
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
            _set(self, name, _whole(name, getattr(self, name)))
        _check_range(self)
        _check_step(self, self.step)

    def __repr__(self) -> str:
        return _show(self, [self.low, self.high], log=self.log or None, step=None if self.step == 1 else self.step)

    def _count(self) -> int:
        return (self.high - self.low) // self.step + 1

    def _value(self, index: int) -> int:
        return self.low + index * self.step

    def _distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        if _is_rounded(self):
            return FloatDistribution(*_edges(self.low, self.high, self.step, log=self.log), log=self.log)
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def _decode(self, raw: Any) -> int:
        return self._value(_nearest(raw, self.low, self.step, self.count))

    def _encode(self, value: Any) -> int | float:
        if not _is(value, Integral):
            raise self._outside(value, "it is not a whole number")
        if not self.low <= value <= self.high:
            raise self._outside(value, "it is beyond the bounds")
        if (value - self.low) % self.step:
            raise self._outside(value, f"it is no multiple of the step, the nearest is {self._decode(value)}")
        return float(value) if _is_rounded(self) else int(value)


@_spoken
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
            raise SpaceError(f"Choice takes a list of options, got {self.options!r}: write Choice([...]).")
        if not self.options:
            raise SpaceError("Choice needs at least one option, got an empty list.")
        for option in self.options:
            _check_plain("An option of Choice", option)
        seen: set[Any] = set()
        for option in self.options:
            if (key := _key(option)) in seen:
                raise SpaceError(f"Choice has the option {option!r} twice: remove one of them.")
            seen.add(key)
        _set(self, "options", tuple(copy.deepcopy(option) for option in self.options))

    def __repr__(self) -> str:
        return f"Choice({list(self.options)!r})"

    def _count(self) -> int:
        return len(self.options)

    def _value(self, index: int) -> Any:
        return copy.deepcopy(self.options[index])

    @property
    def _labels(self) -> list[Any]:
        """The raw values: the options themselves where Optuna keeps them apart, else short texts."""
        scalars = [option for option in self.options if not isinstance(option, list | tuple | dict)]
        # Optuna looks a choice up by equality, so it would take True for 1 and 1.0 for 1.
        if len(set(scalars)) == len(self.options):
            return list(self.options)
        return [_label(index, option) for index, option in enumerate(self.options)]

    def _distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self._labels)

    def _decode(self, raw: Any) -> Any:
        labels = self._labels
        if raw not in labels:
            raise self._outside(raw, "it is none of the labels that were sampled")
        return self.value(labels.index(raw))

    def _encode(self, value: Any) -> Any:
        for loose in (False, True):  # a tuple that went through JSON comes back as a list
            keys = [_key(option, loose=loose) for option in self.options]
            if keys.count(_key(value, loose=loose)) == 1:
                return self._labels[keys.index(_key(value, loose=loose))]
        raise self._outside(value, "it is none of the options")

    def _fields(self) -> dict[str, Any]:
        return {"options": [repr(option) for option in self.options]}


@_spoken
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
            _set(self, name, _number(kind, name, getattr(self, name)))
        if self.sigma <= 0:
            raise SpaceError(f"{kind} needs sigma > 0, got sigma={self.sigma!r}: use a plain value for a constant.")
        if self.sigma < _LEAST:
            raise SpaceError(f"{kind} needs a sigma of at least 1e-300, got sigma={self.sigma!r}.")
        if self._smallest() > self.sigma:
            raise SpaceError(
                f"{kind} needs a sigma of at least a millionth of mu, got {self!r}: use Float for so narrow a range."
            )
        if self.step is not None:
            step = _number(kind, "step", self.step)
            _set(self, "step", int(self.step) if isinstance(self.step, Integral) else step)
            if self.step <= 0:
                raise SpaceError(f"{kind} needs step > 0, got step={self.step!r}: leave it out for any number.")
        largest = self._largest()
        if self.step is not None and largest / _EXACT > self.step:
            raise SpaceError(f"{kind} has more than 2**53 values, got step={self.step!r} for values up to {largest!r}.")

    def __repr__(self) -> str:
        return _show(self, [self.mu, self.sigma], step=self.step)

    @property
    def is_discrete(self) -> bool:
        """Whether the values are rounded to a step; they have no grid even then, as they are not equally likely."""
        return self.step is not None

    def _count(self) -> None:
        return None

    def _value(self, index: int) -> float:
        raise IndexError(index)

    def _distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(_TAIL, 1 - _TAIL)

    def _decode(self, raw: Any) -> int | float:
        probability = min(max(float(raw), _TAIL), 1 - _TAIL)
        rounded = self._round(self._from_normal(self.mu + self.sigma * _STANDARD.inv_cdf(probability)))
        return rounded if self.step is None else _multiple(rounded, self.step)

    def _encode(self, value: Any) -> float:
        if not _is(value, Real) or not _is_finite(value):
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


@_spoken
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


@_spoken
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
        _set(self, "constant", copy.deepcopy(self.constant))

    def __repr__(self) -> str:
        return f"Fixed({self.constant!r})"

    def _count(self) -> int:
        return 1

    def _value(self, index: int) -> Any:
        return copy.deepcopy(self.constant)

    def _distribution(self) -> None:
        return None

    def _decode(self, raw: Any) -> Any:
        return self.value(0)

    def _encode(self, value: Any) -> None:
        if _key(value, loose=True) != _key(self.constant, loose=True):
            raise self._outside(value, "the space fixes it")

    def _fields(self) -> dict[str, Any]:
        return {"constant": repr(self.constant)}


def _check_plain(what: str, value: Any) -> None:
    if isinstance(value, list | tuple):
        for member in value:
            _check_plain(what, member)
    elif isinstance(value, dict):
        for member in (*value, *value.values()):
            _check_plain(what, member)
    elif isinstance(value, float) and not math.isfinite(value):
        raise SpaceError(f"{what} must be a finite number, got {value!r}: write it as text, or leave it out.")
    elif type(value) not in (type(None), bool, int, float, str):
        raise SpaceError(
            f"{what} is None, a bool, int, float, str, or a list, tuple or dict of them, "
            f"got {value!r} ({type(value).__name__}): give its name or its .item() instead."
        )


def _check_range(d: Float | Int) -> None:
    kind = type(d).__name__
    if not isinstance(d.log, bool):
        raise SpaceError(f"{kind} takes True or False for log, got log={d.log!r}.")
    if d.low == d.high:
        raise SpaceError(f"{kind} needs low < high, got {d.low!r} for both: use a plain value for a constant.")
    if d.low > d.high:
        raise SpaceError(f"{kind} needs low < high, got low={d.low!r} and high={d.high!r}: swap them.")
    if d.high - d.low < _LEAST:
        raise SpaceError(f"{kind} needs high - low of at least 1e-300, got low={d.low!r} and high={d.high!r}.")
    if d.log and d.low <= 0:
        raise SpaceError(
            f"{kind} with log=True needs low > 0, got low={d.low!r}: raise it, or leave out log (0 has no logarithm)."
        )
    if d.log and d.low < _LEAST:
        raise SpaceError(f"{kind} with log=True needs low of at least 1e-300, got low={d.low!r}.")


def _check_step(d: Float | Int, step: float) -> None:
    kind = type(d).__name__
    if step <= 0:
        raise SpaceError(f"{kind} needs step > 0, got step={step!r}.")
    if step > d.high - d.low and _exact(step) > _exact(d.high) - _exact(d.low):
        raise SpaceError(f"{kind} needs a step within its range, got step={step!r} for {d.low!r} to {d.high!r}.")
    if (d.high - d.low) / step > _EXACT:
        raise SpaceError(f"{kind} has more than 2**53 values, got step={step!r} for {d.low!r} to {d.high!r}.")
    rest = (_exact(d.high) - _exact(d.low)) % _exact(step)
    if rest:
        last = type(d.high)(_exact(d.high) - rest)
        raise SpaceError(
            f"{kind} needs high - low to be a multiple of step, got step={step!r} for {d.low!r} to {d.high!r}: "
            f"the last value would be {last!r}, so use that for high."
        )


def _number(kind: str, name: str, value: Any) -> float:
    if not _is(value, Real):
        raise SpaceError(f"{kind} takes a number for {name}, got {value!r} ({type(value).__name__}).")
    if not _is_finite(value):
        raise SpaceError(f"{kind} takes a finite number for {name}, got {value!r}.")
    if abs(float(value)) > _MOST:
        raise SpaceError(f"{kind} takes a number between -1e300 and 1e300 for {name}, got {value!r}.")
    return float(value)


def _whole(name: str, value: Any) -> int:
    if not _is(value, Integral):
        raise SpaceError(
            f"Int takes a whole number for {name}, got {value!r} ({type(value).__name__}): "
            "use Float for other numbers, Choice([True, False]) for a switch."
        )
    if abs(value) > _EXACT:
        raise SpaceError(f"Int takes numbers up to 2**53 for {name}, got {value!r}.")
    return int(value)


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all doubles
        return False


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _key(value: Any, *, loose: bool = False) -> Any:
    """What makes an option itself: its value with the types; loose: a list is a tuple, and 1 is 1.0."""
    if isinstance(value, list | tuple):
        return ("list" if loose else type(value).__name__, tuple(_key(member, loose=loose) for member in value))
    if isinstance(value, dict):
        members = [(_key(k), _key(member, loose=loose)) for k, member in value.items()]
        return ("dict", tuple(sorted(members, key=repr)))
    if loose and _is(value, Real):
        return ("number", float(value))
    return (type(value).__name__, value)


def _label(index: int, option: Any) -> str:
    text = repr(option)  # tells 1 from 1.0 and a list from a tuple, which JSON does not
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 10]}... #{index}"


def _exact(number: float) -> Decimal:
    return Decimal(str(number))


def _multiple(number: float, step: int | float) -> int | float:
    return type(step)(round(number / step) * _exact(step))


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


def _set(instance: object, name: str, value: Any) -> None:
    object.__setattr__(instance, name, value)  # the way to normalize a frozen dataclass


def _show(d: Distribution, positional: Sequence[Any], **options: Any) -> str:
    texts = [repr(value) for value in positional]
    texts += [f"{name}={value!r}" for name, value in options.items() if value is not None]
    return f"{type(d).__name__}({', '.join(texts)})"
