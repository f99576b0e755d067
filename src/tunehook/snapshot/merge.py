"""Several tensors as if they were one, from their statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tunehook.snapshot.look import Array, edges_of
from tunehook.snapshot.values import BINS, TensorStats


def merge(tensors: Sequence[TensorStats]) -> TensorStats:
    """Several tensors as if they were one.

    Moments, norms, extremes and counts are exact where those of the tensors are: Chan, Golub and LeVeque 1979,
    equations 2.1, over all tensors at once. The histograms are laid on the bins between the common extremes; within a
    bin of a tensor its elements are taken to be spread evenly, so no element is moved further than by a bin of its
    tensor. The bins together count as many elements as those of the tensors, each tensor with the share that its size
    gives it. Updates are known together where they are known of all tensors.
    """
    size, nan, inf = (sum(getattr(stats, name) for stats in tensors) for name in ("size", "nan", "inf"))
    updates = [stats.update for stats in tensors]
    update = math.hypot(*(value for value in updates if value is not None)) if tensors and None not in updates else None
    counts = np.array([stats.counts for stats in tensors], np.float64).reshape(-1, BINS)
    rows = np.array([(stats.finite, stats.min, stats.max, stats.mean, stats.std, stats.norm, stats.zeros)
                     for stats in tensors], np.float64).reshape(-1, 7)  # fmt: skip
    nothing = math.nan  # as are the extremes of a tensor without any
    low, high = float(np.fmin.reduce(rows[:, 1], initial=nothing)), float(np.fmax.reduce(rows[:, 2], initial=nothing))
    seen = counts.sum(axis=1)
    if not (len(seen) and seen.all()):
        is_alive = seen > 0
        if not is_alive.any():
            return TensorStats(size, (0,) * BINS, low, high, nothing, nothing, 0.0, nothing, nan, inf, update)
        counts, rows, seen = counts[is_alive], rows[is_alive], seen[is_alive]
    finite, lows, highs, means, stds, norms, zeros = rows.T
    weights = finite / finite.sum()
    top = max(-low, high) or 1.0
    means = means / top
    mean = weights @ means
    variance = weights @ ((stds / top) ** 2 + (means - mean) ** 2)
    counts *= (weights / seen)[:, None]
    shares = counts.sum(axis=0) if low == high else _common_bins(counts, weights, lows, highs, edges_of(low, high))
    return TensorStats(
        size, _whole(shares, int(seen.sum())), low, high, float(mean * top), math.sqrt(variance) * top,
        math.hypot(*norms.tolist()), float(weights @ zeros), nan, inf, update,
    )  # fmt: skip


def _common_bins(counts: Array, weights: Array, lows: Array, highs: Array, edges: Array) -> Array:
    """The histograms of tensors, laid on common bins: the share of all elements that lies in each one."""
    lows, spans, edges = lows / 2, highs / 2 - lows / 2, edges / 2  # ranges of the whole of float64 do not overflow so
    is_point = spans == 0
    if not is_point.any():
        return _spread(counts, lows, spans, edges)
    places = np.searchsorted(edges[1:-1], lows[is_point], side="right")
    shares = np.bincount(places, weights[is_point], BINS)
    if not is_point.all():
        shares = shares + _spread(counts[~is_point], lows[~is_point], spans[~is_point], edges)
    return np.asarray(shares)


def _spread(counts: Array, lows: Array, spans: Array, edges: Array) -> Array:
    """Lay each row, 64 bins from ``low`` over ``span``, on the common edges, evenly within each of its bins."""
    below = np.zeros((len(counts), BINS + 2))  # the share below each edge of the row; the last one serves the maximum
    np.cumsum(counts, axis=1, out=below[:, 1:-1])
    below[:, -1] = below[:, -2]
    with np.errstate(over="ignore"):
        places = np.minimum(np.maximum((edges - lows[:, None]) / spans[:, None], 0.0), 1.0) * BINS
    whole = places.astype(np.int64)
    at = whole + (np.arange(len(counts)) * (BINS + 2))[:, None]
    flat = below.reshape(-1)
    shares = flat[at]
    shares += (flat[at + 1] - shares) * (places - whole)
    total = shares.sum(axis=0)
    return np.asarray(total[1:] - total[:-1])


def _whole(shares: Array, total: int) -> tuple[int, ...]:
    """Whole numbers with a given sum, each at most one away from its share: sums from the first on are rounded."""
    ends = np.cumsum(shares)
    ends *= total / ends[-1]
    whole = np.rint(ends).astype(np.int64)
    return (int(whole[0]), *(whole[1:] - whole[:-1]).tolist())
