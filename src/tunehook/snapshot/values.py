"""Snapshots of a model's parameters: the statistics of each tensor at a step, as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

BINS = 64
_DIGITS = 9  # significant digits in a record: as many as a float32 has


class PatternError(ValueError):
    """A pattern for the names of parameters fits none."""


@dataclass(frozen=True)
class TensorStats:
    """Statistics of one tensor, or of several as if they were one.

    NaN and infinities are counted in ``nan`` and ``inf``; all else is about the finite elements. Where there is none,
    the numbers are NaN and ``norm`` is 0; where a sample holds none, ``mean``, ``std``, ``norm`` and ``zeros`` are NaN.

    Attributes:
        size: Number of elements, NaN and infinities included.
        counts: How many of the finite elements that were looked at lie in each of 64 bins of equal width between
            ``min`` and ``max``, which belong to the first and the last bin. All of them are in one bin in the middle
            where ``min`` and ``max`` are equal.
        min: The smallest element.
        max: The largest element.
        mean: The mean.
        std: The standard deviation, with the number of elements as the divisor.
        norm: The L2 norm.
        zeros: The share of the elements that are zero, from 0 to 1.
        nan: How many elements are NaN, always exact.
        inf: How many elements are infinite, always exact.
        update: The L2 norm of what was added since another snapshot (see `Snapshot.since`), ``None`` where that is not
            known.
    """

    size: int
    counts: tuple[int, ...]
    min: float
    max: float
    mean: float
    std: float
    norm: float
    zeros: float
    nan: int = 0
    inf: int = 0
    update: float | None = None

    @property
    def finite(self) -> int:
        """How many elements are finite."""
        return self.size - self.nan - self.inf

    @property
    def is_sampled(self) -> bool:
        """Whether the histogram, the mean, the deviation, the norm and the zeros are estimates from a sample."""
        return sum(self.counts) < self.finite

    @property
    def edges(self) -> tuple[float, ...]:
        """The 65 edges of the bins; around a value that all elements have, a hair's breadth or a half apart."""
        return bin_edges(self.min, self.max)

    @property
    def ratio(self) -> float | None:
        """The norm of the update over the norm of what it led to, ``None`` where no update is known."""
        if self.update is None:
            return None
        if self.norm == 0:
            return 0.0 if self.update == 0 else math.inf
        return self.update / self.norm

    def as_json(self) -> dict[str, Any]:
        """The same in what JSON knows, numbers to nine digits; what is missing or none is left out."""
        values: dict[str, Any] = {"size": self.size, "counts": list(self.counts)}
        for name in ("min", "max", "mean", "std", "norm", "zeros"):
            values[name] = _short(getattr(self, name))
        if self.nan or self.inf:
            values.update(nan=self.nan, inf=self.inf)
        if self.update is not None:
            values["update"] = _short(self.update)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TensorStats:
        """What `as_json` gave.

        Raises:
            KeyError: A value is missing.
            TypeError, ValueError: A value is of another kind.
        """
        wholes = [values["size"], *values["counts"], values.get("nan", 0), values.get("inf", 0)]
        if len(wholes) != BINS + 3 or any(type(one) is not int or not 0 <= one < 2**63 for one in wholes):
            raise ValueError(f"sizes and counts are whole numbers, {BINS} of the latter, got {wholes!r:.200}")
        numbers = {name: float(values[name]) for name in ("min", "max", "mean", "std", "norm", "zeros")}
        update = values.get("update")
        return cls(size=values["size"], counts=tuple(values["counts"]), nan=values.get("nan", 0),
                   inf=values.get("inf", 0), update=None if update is None else float(update), **numbers)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """The statistics of a model's parameters and gradients at one step.

    Attributes:
        step: The step, as the training counts.
        parameters: Statistics by name, in the order of the model; tensors that are tied are here once.
        gradients: The same of the gradients, of those parameters that have one.
        model: All parameters as one tensor.
        model_gradient: All gradients as one tensor, ``None`` where there is none.
        since: The step that the updates count from: that of the snapshot before.
        tied: Other names of tensors that have two, with the name under which they are found in ``parameters``.
        exact: Whether everything was computed from all elements.
    """

    step: int
    parameters: Mapping[str, TensorStats]
    model: TensorStats
    gradients: Mapping[str, TensorStats] = field(default_factory=dict)
    model_gradient: TensorStats | None = None
    since: int | None = None
    tied: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False

    @property
    def ratios(self) -> dict[str, float]:
        """The ratio of update to weight by layer, of which ``fc.weight`` and ``fc.bias`` are one: ``fc``.

        A layer is what stands before the last ``.`` or ``/`` of a name. Layers without a known update are left out.
        """
        layers: dict[str, list[TensorStats]] = {}
        for name, stats in self.parameters.items():
            if stats.update is not None:
                layers.setdefault(layer_of(name), []).append(stats)
        return {layer: ratio_of(members) for layer, members in layers.items()}

    def as_json(self) -> dict[str, Any]:
        """The same in what JSON knows, as `TensorStats.as_json`."""
        values: dict[str, Any] = {
            "step": self.step,
            "parameters": {name: stats.as_json() for name, stats in self.parameters.items()},
            "model": self.model.as_json(),
        }
        if self.gradients:
            values["gradients"] = {name: stats.as_json() for name, stats in self.gradients.items()}
        if self.model_gradient is not None:
            values["model_gradient"] = self.model_gradient.as_json()
        optional = {"since": self.since, "tied": dict(self.tied) or None, "exact": self.exact or None}
        return values | {name: value for name, value in optional.items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Snapshot:
        """What `as_json` gave.

        Raises:
            KeyError: A value is missing.
        """
        gradient = values.get("model_gradient")
        return cls(
            step=values["step"],
            parameters={name: TensorStats.from_json(stats) for name, stats in values["parameters"].items()},
            model=TensorStats.from_json(values["model"]),
            gradients={name: TensorStats.from_json(stats) for name, stats in values.get("gradients", {}).items()},
            model_gradient=None if gradient is None else TensorStats.from_json(gradient),
            since=values.get("since"), tied=dict(values.get("tied", {})), exact=values.get("exact", False),
        )  # fmt: skip


def bin_edges(low: float, high: float) -> tuple[float, ...]:
    """The 65 edges of 64 bins of equal width from ``low`` to ``high``.

    Where the two are equal, the value lies in the middle of bins that are a 64th apart, or 2**-20 of it where that is
    more. Halves are added, since the width alone can be more than the largest number.
    """
    if not low < high:
        half = max(0.5, abs(low) * (BINS * 2.0**-20))
        return tuple(low + half * (2 * i / BINS - 1) for i in range(BINS + 1))
    return (*(low * ((BINS - i) / BINS) + high * (i / BINS) for i in range(BINS)), high)


def layer_of(name: str) -> str:
    """What stands before the last ``.`` or ``/`` of a parameter's name; the name itself where there is none."""
    cut = max(name.rfind("."), name.rfind("/"))
    return name[:cut] if cut > 0 else name


def ratio_of(members: Iterable[TensorStats]) -> float:
    """The ratio of update to weight of several tensors with updates, as if they were one."""
    tensors = list(members)
    update = math.hypot(*(stats.update or 0.0 for stats in tensors))
    norm = math.hypot(*(stats.norm for stats in tensors))
    return update / norm if norm else 0.0 if update == 0 else math.inf


def variation_bound(seen: int, *, risk: float = 1e-6) -> float:
    """What the total variation of a sampled histogram from the exact one does not exceed, but with a small risk.

    For ``seen`` elements drawn independently into 64 bins: the mean of the total variation is at most
    ``sqrt(63 / seen) / 2`` (each share has variance p (1 - p) / seen; Jensen and Cauchy-Schwarz), one draw changes it
    by at most ``1 / seen``, and so it exceeds its mean by ``sqrt(ln(1 / risk) / (2 seen))`` with probability ``risk``
    at most (McDiarmid 1989). 16384 elements give 0.031 + 0.021. Drawing without replacement is no worse (Hoeffding
    1963). Elements in blocks of 16 are not independent where neighbours in memory are alike: in the worst case, blocks
    of one value each, each block is one draw, and the bound is that of ``seen / 16``.

    Args:
        seen: Number of elements in the sample, at least 1.
        risk: Probability, between 0 and 1. Defaults to one in a million.

    Raises:
        ValueError: No element, or a risk that is no probability.
    """
    if seen < 1 or not 0 < risk < 1:
        raise ValueError(f"variation_bound needs seen >= 1 and 0 < risk < 1, not seen={seen!r}, risk={risk!r}.")
    return min(1.0, 0.5 * math.sqrt((BINS - 1) / seen) + math.sqrt(math.log(1 / risk) / (2 * seen)))


def _short(value: float) -> float | str:
    """A number to nine digits; beyond JSON its name."""
    if math.isfinite(value):
        return float(f"{value:.{_DIGITS}g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
