"""Statistics of all elements of large arrays."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from tunehook.snapshot import BINS, TensorStats
from tunehook.snapshot_look import Array, Look
from tunehook.snapshot_moments import Moments, finish, is_safe, moments_in_chunks, range_of, stats_of

_CHUNK = 2**15  # torch works on so many with one thread, and does not wait for another
_SHARED = 2**20  # elements from which a second thread pays


def exact_stats(look: Look, flat: Array) -> TensorStats:
    """Statistics of an array from all its elements.

    Float32 is worked on by torch where that is loaded, and stays float32; all else becomes float64.

    Args:
        look: What a look found: the extremes, and how many elements are not finite.
        flat: All elements.
    """
    if look.nan + look.inf + look.implicit == look.size:
        return stats_of([replace(look, sample=flat[:0])])[0]
    low, high = range_of(look)
    torch = sys.modules.get("torch")
    is_plain = flat.dtype == np.float32 and not look.nan and not look.inf and is_safe(low, high)
    if torch is not None and is_plain and flat.flags.writeable:
        part = _with_torch(torch, torch.from_numpy(flat), low, high)
    else:
        part = moments_in_chunks(flat, low, high)
    return finish(look, low, high, part)


def _with_torch(torch: Any, flat: Any, low: float, high: float) -> Moments:
    """Float32 in memory, in chunks, by as many threads as torch may use."""
    workers = min(torch.get_num_threads(), flat.numel() // _SHARED + 1)
    if workers == 1:
        return _part(torch, flat, low, high)
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda piece: _part(torch, piece, low, high), flat.tensor_split(workers)))
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _part(torch: Any, flat: Any, low: float, high: float) -> Moments:
    """One thread's part."""
    first = flat[:_CHUNK].mean().item()
    scale = BINS / (high - low) if high > low else 0.0
    offset = (first - low) * scale if high > low else BINS / 2
    away, places = torch.empty(_CHUNK), torch.empty(_CHUNK, dtype=torch.uint8)
    counts = torch.zeros(BINS + 1, dtype=torch.int64)
    sums, squares, full = [], [], 0
    with torch.no_grad():
        for piece in flat.split(_CHUNK):
            if piece.numel() < _CHUNK:
                away, places = away[: piece.numel()], places[: piece.numel()]
            torch.sub(piece, first, out=away)
            sums.append(away.sum())
            squares.append(torch.dot(away, away))
            full += int(np.count_nonzero(piece.numpy()))
            places.copy_(away.mul_(scale).add_(offset))
            counts += torch.bincount(places, minlength=BINS + 1)
    size = flat.numel()
    rest = math.fsum(torch.stack(sums).tolist()) / size
    spread = max(0.0, math.fsum(torch.stack(squares).tolist()) - size * rest * rest)
    counts[BINS - 1] += counts[BINS]
    return Moments(size, first + rest, spread, size - full, counts[:BINS].numpy())
