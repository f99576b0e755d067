"""Statistics of all elements of large arrays."""

from __future__ import annotations

import numpy as np

from tunehook.snapshot.look import Array, Look, host
from tunehook.snapshot.moments import Moments, careful, finish, is_safe, of_doubles, of_floats, stats_of
from tunehook.snapshot.values import TensorStats

_CHUNK = 2**15  # elements that are worked on at a time, so that all temporary arrays stay in the cache


def exact_stats(look: Look, flat: Array) -> TensorStats:
    """Statistics of an array from all its elements. Float32 stays float32; all else becomes float64.

    Args:
        look: What a look found: the extremes, and how many elements are not finite.
        flat: All elements.
    """
    low, high = look.range
    if not low <= high:  # there is no finite element
        return stats_of([look])[0]
    is_clean = not look.nan and not look.inf
    if flat.dtype == np.float32 and is_clean and is_safe(low, high):
        return finish(look, of_floats(flat, low, high))
    return finish(look, _in_chunks(flat, low, high, is_clean=is_clean))


def _in_chunks(flat: Array, low: float, high: float, *, is_clean: bool) -> Moments:
    """Moments of all finite elements of an array on the host, a chunk at a time.

    Args:
        flat: The elements, of which one is finite.
        low: The smallest finite one.
        high: The largest one.
        is_clean: Whether all are finite.
    """
    is_single, safe = flat.dtype == np.float32, is_safe(low, high)
    total: Moments | None = None
    for start in range(0, flat.size, _CHUNK):
        part = host(flat[start : start + _CHUNK])
        if not is_clean:
            part = part[np.isfinite(part)]
        if part.size:
            found = (careful if not safe else of_floats if is_single else of_doubles)(part, low, high)
            total = found if total is None else total + found
    if total is None:
        raise ValueError("An array without a finite element has no moments.")
    return total
