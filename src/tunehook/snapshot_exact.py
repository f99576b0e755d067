"""Statistics of all elements of large arrays."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from tunehook.snapshot import BINS, TensorStats
from tunehook.snapshot_look import Array, Look
from tunehook.snapshot_moments import Moments, finish, is_safe, moments_in_chunks, stats_of

# So few elements stay in the cache, and neither torch nor the BLAS behind NumPy takes threads for them: threads would
# wait for each other, and for whatever else runs.
_CHUNK, _ROW = 2**15 - 2**6, 2**13


def exact_stats(look: Look, flat: Array) -> TensorStats:
    """Statistics of an array from all its elements.

    Float32 stays float32, and is worked on by torch where that is loaded; all else becomes float64.

    Args:
        look: What a look found: the extremes, and how many elements are not finite.
        flat: All elements.
    """
    low, high = look.range
    if not low <= high:  # there is no finite element
        return stats_of([look])[0]
    torch = sys.modules.get("torch")
    is_plain = flat.dtype == np.float32 and not look.nan and not look.inf and is_safe(low, high)
    if torch is not None and is_plain and flat.flags.writeable:
        mean = float(look.sample.mean())
        is_off = mean * mean > 0.5 * float(np.einsum("i,i->", look.sample, look.sample)) / look.sample.size
        part = _with_torch(torch, torch.from_numpy(flat), low, high, mean if is_off else 0.0)
    else:
        part = moments_in_chunks(flat, low, high, is_clean=not look.nan and not look.inf)
    return finish(look, part)


def _with_torch(torch: Any, flat: Any, low: float, high: float, first: float) -> Moments:
    """Float32 in memory, in chunks; sums are those of distances from ``first``, where that is not 0.

    Torch and NumPy take turns: each call is the one of the two that took the least time. A second thread of Python's
    gained nothing.
    """
    scale = BINS / (high - low) if high > low else 0.0
    offset = torch.tensor((first - low) * scale if high > low else BINS / 2, dtype=torch.float32)
    shifted, scaled, places = torch.empty(_CHUNK), torch.empty(_CHUNK), torch.empty(_CHUNK, dtype=torch.uint8)
    elements, scaled_here, places_here = flat.numpy(), scaled.numpy(), places.numpy()
    shifted_here = shifted.numpy()
    is_zero = np.empty(_CHUNK, np.bool_)
    counts, sums, squares, zeros, start = [], [], [], 0, 0
    with torch.no_grad():
        for piece in flat.split(_CHUNK):
            size = piece.numel()
            if size < _CHUNK:  # the last one
                shifted, scaled, places = shifted[:size], scaled[:size], places[:size]
                scaled_here, places_here, is_zero = scaled_here[:size], places_here[:size], is_zero[:size]
            away = torch.sub(piece, first, out=shifted) if first else piece
            sums.append(away.sum())
            here = shifted_here[:size] if first else elements[start : start + size]
            squares += [float(np.dot(row, row)) for row in (here[at : at + _ROW] for at in range(0, size, _ROW))]
            np.equal(elements[start : start + size], 0, out=is_zero)
            zeros += int(np.count_nonzero(is_zero))
            torch.add(offset, away, alpha=scale, out=scaled)
            np.copyto(places_here, scaled_here, casting="unsafe")
            counts.append(torch.bincount(places, minlength=BINS + 1))
            start += size
    size = flat.numel()
    rest = math.fsum(torch.stack(sums).tolist()) / size
    spread = max(0.0, math.fsum(squares) - size * rest * rest)
    bins = torch.stack(counts).sum(0)
    bins[BINS - 1] += bins[BINS]  # the maximum
    return Moments(size, first + rest, spread, zeros, bins[:BINS].numpy())
