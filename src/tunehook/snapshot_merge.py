"""Several tensors as if they were one, from their statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tunehook.snapshot import BINS, TensorStats
from tunehook.snapshot_look import Array, edges_of


def merge(tensors: Sequence[TensorStats]) -> TensorStats:
    """Several tensors as if they were one.

    Moments, norms, extremes and counts are exact where those of the tensors are: Chan, Golub and LeVeque 1979,
    equations 2.1, over all tensors at once. The histograms are laid on the bins between the common extremes; within a
    bin of a tensor its elements are taken to be spread evenly, so no element is moved further than by a bin of its
    tensor. The bins together count as many elements as those of the tensors, each tensor with the share that its size
    gives it. Updates are known together where they are known of all tensors.
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
        edges = edges_of(low, high) / half
        if is_point.any():
            places = np.searchsorted(edges[1:-1], lows[is_point], side="right")
            shares += np.bincount(places, weights[is_point], BINS)
        if not is_point.all():
            shares += _spread(counts[~is_point], lows[~is_point], spans[~is_point], edges)
    return _whole(shares, int(seen.sum()))


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
    """Whole numbers with a given sum, as near to the shares as can be: the largest remainders are rounded up."""
    wanted = shares * (total / shares.sum())
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    missing = total - int(counts.sum())
    order = np.argsort(counts - wanted)
    counts[order[:missing]] += 1
    return tuple(counts.tolist())
