"""Moments and histograms of arrays in memory.

Nothing overflows or underflows: elements are scaled by the absolute maximum wherever their squares could do either.

Few calls, not few elements: for a small model a snapshot costs what its calls cost. Small tensors are laid end to end,
and large ones worked on in chunks that stay in the cache, with the fastest call of NumPy and torch for each step, none
of which takes threads.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunehook.snapshot.look import Array, Look, edges_of, faults
from tunehook.snapshot.values import BINS, TensorStats

_ALONE = 2**12  # elements from which a sample is worked on by itself
_BATCH = 2**15  # elements of small samples that are worked on together
_CHUNK = 2**17  # elements that are worked on at a time, so that temporary arrays stay in the cache
_SPAN = 2**20  # elements whose places are counted in one call
_ROW = 2**13  # elements for whose dot product BLAS takes no threads
_ONES = np.ones(_CHUNK, np.float32)
_FAR = 8.0  # elements are far from 0 where the largest one is so many times their range
_SMALL, _LARGE = 2.0**-40, 2.0**40


class _Room(threading.local):
    """Temporary arrays, kept, since new memory costs as much as what is computed in it."""

    def __init__(self) -> None:
        self.scaled, self.is_zero = np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.bool_)
        self.places = np.empty(_SPAN, np.uint8)


_room = _Room()


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

    Samples are laid end to end and worked on together, since a call costs as much as a thousand elements.

    Args:
        looks: What was read.
        exact: Whether to compute in float64 throughout.
    """
    found: dict[int, TensorStats] = {}
    batches: dict[np.dtype[np.generic], list[int]] = {}
    room: dict[np.dtype[np.generic], int] = {}

    def close(kind: np.dtype[np.generic]) -> None:
        some = batches.pop(kind)
        found.update(zip(some, _of_batch([looks[index] for index in some], exact), strict=True))

    for index, look in enumerate(looks):
        kind, size = look.sample.dtype, look.sample.size
        if size == 0:
            found[index] = _of_nothing(look)
            continue
        if size >= _ALONE and not exact and kind == np.float32 and look.low is not None and is_safe(*look.range):
            found[index] = finish(look, of_floats(look.sample, *look.range))
            continue
        if kind in batches and room[kind] < size:
            close(kind)
        if kind not in batches:
            batches[kind], room[kind] = [], _BATCH
        batches[kind].append(index)
        room[kind] -= size
    for kind in list(batches):
        close(kind)
    return [found[index] for index in range(len(looks))]


def _of_nothing(look: Look) -> TensorStats:
    """No finite element was looked at: all zeros are implicit, or there is nothing."""
    nan = math.nan
    if look.implicit:
        middle = tuple(look.implicit if i == BINS // 2 else 0 for i in range(BINS))
        zeros = look.implicit / (look.size - look.nan - look.inf)
        return TensorStats(look.size, middle, 0.0, 0.0, 0.0, 0.0, 0.0, zeros, look.nan, look.inf, look.update)
    low, high = look.range if look.low is not None else (nan, nan)
    norm = nan
    if not low <= high:
        low, high, norm = nan, nan, 0.0
    return TensorStats(look.size, (0,) * BINS, low, high, nan, nan, norm, nan, look.nan, look.inf, look.update)


def _of_batch(looks: Sequence[Look], exact: bool) -> list[TensorStats]:
    """Statistics of samples of one type."""
    flat = looks[0].sample if len(looks) == 1 else np.concatenate([look.sample for look in looks])
    layout = layout_of(tuple(look.sample.size for look in looks))
    if any(look.low is None for look in looks):
        starts = layout[1]
        with np.errstate(invalid="ignore"):
            lows, highs = np.minimum.reduceat(flat, starts).tolist(), np.maximum.reduceat(flat, starts).tolist()
        for look, low, high in zip(looks, lows, highs, strict=True):
            if look.low is None:
                look.low, look.high = low, high
        bad = [look for look in looks if not look.is_clean]
        if bad:
            for look in bad:
                look.count_faults(*faults(look.sample))
            return stats_of(looks, exact=exact)
    if all(is_safe(*look.range) for look in looks):
        wide = flat.astype(np.float64, copy=False) if exact else flat
        parts = _together(wide, layout, np.array([look.range for look in looks]))
    else:
        parts = [careful(look.sample, *look.range) for look in looks]
    return [finish(look, part) for look, part in zip(looks, parts, strict=True)]


def finish(look: Look, part: Moments) -> TensorStats:
    """The statistics of a whole array from the moments of what was looked at, and its implicit zeros."""
    low, high = look.range
    finite = look.size - look.nan - look.inf
    if look.implicit:
        share = look.implicit * part.count / (finite - look.implicit)
        implicit = Moments(share, 0.0, 0.0, share, np.zeros(BINS, np.int64), part.unit)
        implicit.counts[bin_of(0.0, low, high)] = round(share)
        part = part + implicit
    mean, std = (low / part.unit, 0.0) if low == high else (part.mean, math.sqrt(part.spread / part.count))
    norm = math.sqrt(finite) * math.hypot(mean, std)
    return TensorStats(
        look.size, tuple(part.counts.tolist()), low, high, mean * part.unit, std * part.unit, norm * part.unit,
        part.zeros / part.count, look.nan, look.inf, look.update,
    )  # fmt: skip


def is_safe(low: float, high: float) -> bool:
    """Whether squares of elements in this range, and their sums, are far from the ends of float32."""
    top = max(-low, high)
    return (_SMALL < top < _LARGE and (high - low > 1e-12 * top or high == low)) or top == 0.0


def of_floats(flat: Array, low: float, high: float, mean: float | None = None) -> Moments:
    """Moments of many float32 whose squares are safe, in chunks, with what NumPy and torch do in the least time.

    Neither takes threads for them, which would wait for each other and for whatever else runs. An element that is
    within a rounding of the edge of its bin may be counted in the bin beside.

    Args:
        flat: The elements.
        low: The smallest one.
        high: The largest one.
        mean: What sums are distances from; by default 0, or the middle of a range that is far from 0, or the mean where
            much would cancel.
    """
    is_far = max(-low, high) > _FAR * (high - low)
    first = float(np.float32(mean if mean is not None else (low + high) / 2 if is_far else 0.0))
    size, scaled, is_zero, places = flat.size, _room.scaled, _room.is_zero, _room.places
    scale = BINS / (high - low) if high > low else 0.0
    factor, offset = np.float32(scale), np.float32((first - low) * scale if scale else BINS / 2)
    total = square = 0.0
    zeros, counts, has_zeros = 0, np.zeros(BINS + 1, np.int64), low <= 0 <= high
    for begin in range(0, size, _SPAN):
        span = flat[begin : begin + _SPAN]
        for start in range(0, span.size, _CHUNK):
            part = span[start : start + _CHUNK]
            room = part.size
            away = np.subtract(part, np.float32(first), out=scaled[:room]) if first else part
            total += _dot(away, _ONES[:room])
            square += _dot(away, away)
            np.multiply(away, factor, out=scaled[:room])
            np.add(scaled[:room], offset, out=scaled[:room])
            # What is between -1 and 0 becomes 0.
            np.copyto(places[start : start + room], scaled[:room], casting="unsafe")
            if has_zeros:
                zeros += int(np.count_nonzero(np.equal(part, 0, out=is_zero[:room])))
        counts += _bincount(places[: span.size])
    rest = total / size
    if mean is None and rest * rest * size > 0.5 * square:
        return of_floats(flat, low, high, first + rest)
    counts[BINS - 1] += counts[BINS]  # the maximum
    return Moments(size, first + rest, max(0.0, square - size * rest * rest), zeros, counts[:BINS])


def _dot(one: Array, other: Array) -> float:
    """The sum of the products of two arrays, by rows that are summed in float64."""
    whole = one.size // _ROW * _ROW
    rows = np.matmul(one[:whole].reshape(-1, 1, _ROW), other[:whole].reshape(-1, _ROW, 1))
    return sum(rows.ravel().tolist(), float(np.dot(one[whole:], other[whole:])))


def _bincount(places: Array) -> Array:
    """How often each of 0 to 64 is there. Torch counts bytes, where NumPy makes eight of each first."""
    torch = sys.modules.get("torch")
    if torch is None:
        return np.bincount(places, minlength=BINS + 1)
    counts: Array = torch.bincount(torch.from_numpy(places), minlength=BINS + 1).numpy()
    return counts


@functools.lru_cache(maxsize=64)
def layout_of(lengths: tuple[int, ...]) -> tuple[Array, Array]:
    """Of sets that lie end to end: their lengths, and where each one starts."""
    sizes = np.array(lengths)
    return sizes, np.cumsum(sizes) - sizes


def of_doubles(flat: Array, low: float, high: float) -> Moments:
    """Moments of elements whose squares are safe, in float64."""
    (found,) = _together(flat.astype(np.float64, copy=False), layout_of((flat.size,)), np.array([[low, high]]))
    return found


def _together(flat: Array, layout: tuple[Array, Array], ends: Array) -> list[Moments]:
    """Moments of sets of finite elements that lie end to end.

    Sums are those of distances from a first mean, so that little cancels. In float64 each element is in the bin whose
    edges it lies between; in float32 one that is within a rounding of an edge may be in the bin beside.

    Args:
        flat: Float32 or float64.
        layout: Where the sets lie.
        ends: The ends of the bins, sets by two.
    """
    lengths, starts = layout
    kind, sets = flat.dtype, len(lengths)
    first = (np.add.reduceat(flat, starts) / lengths).astype(kind)
    away = flat - np.repeat(first, lengths)
    rest = np.add.reduceat(away, starts) / lengths
    squares = np.add.reduceat(away * away, starts)
    lows, widths = ends[:, 0], ends[:, 1] - ends[:, 0]
    is_point = widths == 0
    has_points = is_point.any()
    scale = BINS / np.where(is_point, np.inf, widths) if has_points else BINS / widths
    offsets = (first - lows) * scale
    if has_points:
        offsets[is_point] = BINS / 2
    away *= np.repeat(scale.astype(kind), lengths)
    away += np.repeat(offsets.astype(kind), lengths)
    places = away.astype(np.int32)  # at least 0, since what is between -1 and 0 becomes 0
    np.minimum(places, BINS - 1, out=places)
    members = np.repeat(np.arange(sets, dtype=np.int32), lengths)
    places += members * np.int32(BINS)
    if kind == np.float64 and not is_point.all():
        _correct(places, flat, members, ends)
    counts = np.bincount(places, minlength=sets * BINS).reshape(sets, BINS)
    is_zero = flat == 0
    zeros = np.add.reduceat(is_zero, starts, dtype=np.int64) if is_zero.any() else np.zeros(sets, np.int64)
    spreads = np.maximum(0.0, squares - lengths * rest * rest)
    rows = zip(lengths.tolist(), (first + rest).tolist(), spreads.tolist(), zeros.tolist(), counts, strict=True)
    return [Moments(*row) for row in rows]


def _correct(places: Array, flat: Array, members: Array, ends: Array) -> None:
    """Move what a rounding put beside an edge of its bin, as `numpy.histogram` does."""
    edges = edges_of(ends[:, :1], ends[:, 1:])
    edges[:, 0], edges[:, -1] = -np.inf, np.inf
    is_point = ends[:, 0] == ends[:, 1]  # all of it stays in the bin in the middle
    edges[is_point, : BINS // 2 + 1], edges[is_point, BINS // 2 + 1 :] = -np.inf, np.inf
    below = edges.reshape(-1)  # a row has one edge more than bins
    at = places + members
    places -= flat < below[at]
    places += flat >= below[at + 1]


def careful(row: Array, low: float, high: float) -> Moments:
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
    edges = edges_of(low, high)
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
