"""Moments and histograms of arrays in memory, and of several tensors as if they were one.

Nothing overflows or underflows: elements are scaled by the absolute maximum wherever their squares could do either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tunehook.snapshot import BINS, TensorStats, bin_edges
from tunehook.snapshot_look import Array, Look, faults, host, with_faults

_CHUNK = 2**15  # elements that are worked on at a time, so that all temporary arrays stay in the cache
_SMALL, _LARGE = 2.0**-40, 2.0**40


@dataclass
class Moments:
    """Moments and histogram of a set of elements, to be merged with others over the same bins.

    Attributes:
        count: Number of elements.
        mean: Their mean.
        spread: The sum of the squared distances from the mean.
        zeros: How many are zero.
        counts: How many lie in each bin.
        unit: What ``mean`` and ``spread`` are multiples of, the latter of its square: a power of two near the largest
            element where squares would not stay within float64. Sets of one range have one unit.
    """

    count: float
    mean: float
    spread: float
    zeros: float
    counts: Array
    unit: float = 1.0

    def __add__(self, other: Moments) -> Moments:
        """Chan, Golub and LeVeque 1979, equations 2.1."""
        count = self.count + other.count
        gap = other.mean - self.mean
        return Moments(
            count, self.mean + gap * (other.count / count),
            self.spread + other.spread + gap * gap * (self.count * (other.count / count)),
            self.zeros + other.zeros, self.counts + other.counts, self.unit,
        )  # fmt: skip


def stats_of(looks: Sequence[Look], *, exact: bool = False) -> list[TensorStats]:
    """Statistics of what was read of each array.

    Samples of one length are worked on together, since a call costs as much as a thousand elements.

    Args:
        looks: What was read.
        exact: Whether to compute in float64 throughout.
    """
    groups: dict[tuple[int, np.dtype[np.generic]], list[int]] = {}
    found: dict[int, TensorStats] = {}
    for index, look in enumerate(looks):
        if look.sample.size == 0:
            found[index] = _of_nothing(look)
        else:
            groups.setdefault((look.sample.size, look.sample.dtype), []).append(index)
    for (length, _), members in groups.items():
        rows = max(1, _CHUNK // length)
        for start in range(0, len(members), rows):
            some = members[start : start + rows]
            found.update(zip(some, _of_rows([looks[index] for index in some], exact), strict=True))
    return [found[index] for index in range(len(looks))]


def _of_nothing(look: Look) -> TensorStats:
    """No finite element was looked at: all zeros are implicit, or there is nothing."""
    if look.implicit:
        middle = tuple(look.implicit if i == BINS // 2 else 0 for i in range(BINS))
        return TensorStats(look.size, middle, 0.0, 0.0, 0.0, 0.0, 0.0, look.implicit / look.size, look.nan, look.inf)
    nan = math.nan
    low, high = (nan, nan) if look.low is None or look.low > (look.high or 0.0) else (look.low, float(look.high or 0.0))
    return TensorStats(look.size, (0,) * BINS, low, high, nan, nan, nan if low == low else 0.0, nan, look.nan, look.inf)


def _of_rows(looks: Sequence[Look], exact: bool) -> list[TensorStats]:
    """Statistics of samples of one length and type."""
    matrix = np.stack([look.sample for look in looks])
    if looks[0].low is None or any(look.low is None for look in looks):
        with np.errstate(invalid="ignore"):
            lows, highs = matrix.min(axis=1).tolist(), matrix.max(axis=1).tolist()
        looks = [look if look.low is not None else replace(look, low=low, high=high)
                 for look, low, high in zip(looks, lows, highs, strict=True)]  # fmt: skip
        bad = [index for index, look in enumerate(looks)
               if not (math.isfinite(look.low or 0.0) and math.isfinite(look.high or 0.0))]  # fmt: skip
        if bad:
            good = iter(_of_rows([look for index, look in enumerate(looks) if index not in bad], exact)
                        if len(bad) < len(looks) else [])  # fmt: skip
            return [_of_faulty(look, exact) if index in bad else next(good) for index, look in enumerate(looks)]
    ranges = [range_of(look) for look in looks]
    moments = moments_of(matrix, ranges, exact=exact)
    return [finish(look, low, high, part) for look, (low, high), part in zip(looks, ranges, moments, strict=True)]


def _of_faulty(look: Look, exact: bool) -> TensorStats:
    return stats_of([with_faults(look, *faults(look.sample))], exact=exact)[0]


def range_of(look: Look) -> tuple[float, float]:
    """The ends of the bins: the extremes, between which zero lies where zeros are implicit."""
    low, high = look.low or 0.0, look.high or 0.0
    return (min(low, 0.0), max(high, 0.0)) if look.implicit else (low, high)


def finish(look: Look, low: float, high: float, part: Moments) -> TensorStats:
    """The statistics of a whole array from the moments of what was looked at, and its implicit zeros."""
    stored = look.size - look.implicit - look.nan - look.inf
    if look.implicit:
        implicit = Moments(look.implicit * part.count / stored, 0.0, 0.0, look.implicit * part.count / stored,
                           np.zeros(BINS, np.int64), part.unit)  # fmt: skip
        implicit.counts[bin_of(0.0, low, high)] = round(implicit.zeros)
        part = part + implicit
    if low == high:
        part = replace(part, mean=low / part.unit, spread=0.0)
    finite = look.size - look.nan - look.inf
    std = math.sqrt(part.spread / part.count)
    norm = math.sqrt(finite) * math.hypot(part.mean, std)
    mean, std, norm = part.mean * part.unit, std * part.unit, norm * part.unit
    return TensorStats(look.size, tuple(part.counts.tolist()), low, high, mean, std, norm,
                       part.zeros / part.count, look.nan, look.inf)  # fmt: skip


def moments_of(matrix: Array, ranges: Sequence[tuple[float, float]], *, exact: bool) -> list[Moments]:
    """Moments of each row, all elements of which are finite and within the row's range.

    Args:
        matrix: Float32 or float64, rows by elements.
        ranges: The ends of the bins, for each row.
        exact: Compute in float64, and put each element into the bin whose edges it lies between; else float32 is kept
            where squares are safe in it, and an element within a rounding of an edge may be in the bin beside.
    """
    if matrix.dtype == np.float32 and not exact and all(is_safe(low, high) for low, high in ranges):
        return _fast(matrix, ranges)
    return [_careful(row, low, high) for row, (low, high) in zip(matrix, ranges, strict=True)]


def is_safe(low: float, high: float) -> bool:
    """Whether squares of elements in this range, and their sums, are far from the ends of float32."""
    top = max(-low, high)
    return _SMALL < top < _LARGE or top == 0.0


def _fast(matrix: Array, ranges: Sequence[tuple[float, float]]) -> list[Moments]:
    """In the type of the matrix: distances from a first mean, so that little cancels."""
    length = matrix.shape[1]
    first = matrix.mean(axis=1, keepdims=True)
    away = matrix - first
    rest = away.mean(axis=1).tolist()
    squares = np.einsum("ij,ij->i", away, away).tolist()
    widths = [high - low for low, high in ranges]
    scale = np.array([BINS / width if width else 0.0 for width in widths])
    offset = (first[:, 0] - np.array([low for low, _ in ranges])) * scale
    # Each row has 65 bins: the last one is for the maximum, which belongs to the one before.
    offset += np.where(scale == 0.0, BINS // 2, 0) + 0.0
    away *= scale[:, None].astype(matrix.dtype)
    away += offset[:, None].astype(matrix.dtype)
    places = away.astype(np.int32)
    counts = _count(places)
    means = first[:, 0].tolist()
    return [
        Moments(length, mean + more, max(0.0, square - length * more * more), length - np.count_nonzero(row), count)
        for row, mean, more, square, count in zip(matrix, means, rest, squares, counts, strict=True)
    ]


def _count(places: Array) -> Array:
    """How many of each row lie in each bin; a 65th one is for the maximum, which belongs to the one before."""
    rows = places.shape[0]
    if rows > 1:
        places += (np.arange(rows, dtype=places.dtype) * (BINS + 1))[:, None]
    counts = np.bincount(places.reshape(-1), minlength=rows * (BINS + 1)).reshape(rows, BINS + 1)
    counts[:, BINS - 1] += counts[:, BINS]
    return counts[:, :BINS]


def _careful(row: Array, low: float, high: float) -> Moments:
    """In float64, scaled by a power of two so that no square is lost."""
    unit = math.ldexp(1.0, min(1000, max(-1000, math.frexp(max(-low, high))[1])))
    scaled = row * (1 / unit) if row.dtype == np.float64 else row.astype(np.float64) * (1 / unit)
    first = float(scaled.mean())
    scaled -= first
    rest = float(scaled.mean())
    spread = max(0.0, float(np.dot(scaled, scaled)) - rest * rest * row.size)
    zeros = row.size - int(np.count_nonzero(row))
    return Moments(row.size, first + rest, spread, zeros, count_in_bins(row, low, high), unit)


def count_in_bins(row: Array, low: float, high: float) -> Array:
    """How many elements lie between each two edges, as `numpy.histogram` with these edges has it."""
    counts = np.zeros(BINS, np.int64)
    if low == high:
        counts[BINS // 2] = row.size
        return counts
    edges = np.array(bin_edges(low, high))
    scale = BINS / (high - low) if high - low < math.inf else 0.0
    if not 0 < scale < math.inf or high - low < 1e-12 * max(-low, high):  # edges are few roundings apart
        places = np.searchsorted(edges[1:-1], row, side="right")
    else:
        row = row.astype(np.float64, copy=False)
        places = np.minimum(((row - low) * scale).astype(np.int32), BINS - 1)
        places -= row < edges[places]
        places += (row >= edges[places + 1]) & (places < BINS - 1)
    return np.bincount(places, minlength=BINS)


def bin_of(value: float, low: float, high: float) -> int:
    """The bin in which a value lies."""
    return int(np.argmax(count_in_bins(np.array([value]), low, high)))


def merge(tensors: Sequence[TensorStats]) -> TensorStats:
    """Several tensors as if they were one.

    Moments, norms, extremes and counts are exact where those of the tensors are: Chan, Golub and LeVeque 1979,
    equations 2.1, over all tensors at once. The histograms are laid on the bins between the common extremes; within a
    bin of a tensor its elements are taken to be spread evenly, so no element is moved further than by a bin of its
    tensor. The bins together count as many elements as those of the tensors, each tensor with the share that its size
    gives it.
    Updates are known together where they are known of all tensors.
    """
    alive = [stats for stats in tensors if sum(stats.counts)]
    size, nan, inf = (sum(getattr(stats, name) for stats in tensors) for name in ("size", "nan", "inf"))
    updates = [stats.update for stats in tensors]
    update = math.hypot(*(value for value in updates if value is not None)) if tensors and None not in updates else None
    lows, highs = ([getattr(stats, end) for stats in tensors if getattr(stats, end) == getattr(stats, end)]
                   for end in ("min", "max"))  # fmt: skip
    nothing = math.nan
    low, high = (min(lows), max(highs)) if lows else (nothing, nothing)
    if not alive:
        return TensorStats(size, (0,) * BINS, low, high, nothing, nothing, 0.0, nothing, nan, inf, update)
    weights = np.array([stats.finite for stats in alive], np.float64)
    weights /= weights.sum()
    top = max(-low, high) or 1.0
    means = np.array([stats.mean for stats in alive]) / top
    mean = float(weights @ means)
    variance = float(weights @ ((np.array([stats.std for stats in alive]) / top) ** 2 + (means - mean) ** 2))
    return TensorStats(
        size, _common_bins(alive, weights, low, high), low, high, mean * top, math.sqrt(variance) * top,
        math.hypot(*(stats.norm for stats in alive)),
        float(weights @ np.array([stats.zeros for stats in alive])), nan, inf, update,
    )  # fmt: skip


def _common_bins(tensors: Sequence[TensorStats], weights: Array, low: float, high: float) -> tuple[int, ...]:
    """The histograms of tensors, laid on common bins."""
    counts = np.array([stats.counts for stats in tensors], np.float64)
    seen = counts.sum(axis=1)
    counts *= (weights / seen)[:, None]
    if low == high:
        shares = counts.sum(axis=0)
    else:
        shares = np.zeros(BINS)
        half = 2.0  # ranges of the whole of float64 do not overflow where they are halved
        lows, highs = (np.array([getattr(stats, end) for stats in tensors]) / half for end in ("min", "max"))
        spans = highs - lows
        is_point = spans == 0
        edges = np.array(bin_edges(low, high)) / half
        if is_point.any():
            np.add.at(shares, [bin_of(float(v), edges[0], edges[-1]) for v in lows[is_point]], weights[is_point])
        if not is_point.all():
            shares += _spread(counts[~is_point], lows[~is_point], spans[~is_point], edges)
    return _whole(shares, int(seen.sum()))


def _spread(counts: Array, lows: Array, spans: Array, edges: Array) -> Array:
    """Lay each row, 64 bins from ``low`` over ``span``, on the common edges, evenly within each of its bins."""
    below = np.zeros((len(counts), BINS + 2))  # the share below each edge of the row; the last one serves the maximum
    np.cumsum(counts, axis=1, out=below[:, 1:-1])
    below[:, -1] = below[:, -2]
    with np.errstate(over="ignore"):
        places = np.clip((edges - lows[:, None]) / spans[:, None], 0.0, 1.0) * BINS
    whole = places.astype(np.int64)
    at = np.take_along_axis(below, whole, axis=1)
    after = np.take_along_axis(below, whole + 1, axis=1)
    return np.diff((at + (after - at) * (places - whole)).sum(axis=0))


def _whole(shares: Array, total: int) -> tuple[int, ...]:
    """Whole numbers with a given sum, as near to the shares as can be: the largest remainders are rounded up."""
    wanted = shares * (total / shares.sum())
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    missing = total - int(counts.sum())
    order = np.argsort(counts - wanted)
    counts[order[:missing]] += 1
    return tuple(counts.tolist())


def moments_in_chunks(flat: Array, low: float, high: float) -> Moments:
    """Exact moments of all finite elements of an array on the host, a chunk at a time, in float64."""
    total: Moments | None = None
    for start in range(0, flat.size, _CHUNK):
        part = host(flat[start : start + _CHUNK])
        part = part[np.isfinite(part)]
        if part.size:
            found = _careful(part, low, high)
            total = found if total is None else total + found
    if total is None:
        raise ValueError("An array without a finite element has no moments.")
    return total
