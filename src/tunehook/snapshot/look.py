"""What is read of one array: a block sample, and what one full read of all elements finds.

A snapshot reads the weights once: one pass of ``aminmax`` finds the extremes and carries NaN and infinities through;
all else comes from samples, which are also what updates are measured from. An operation on all weights costs as much
again as that read, and a histogram of them six times as much at best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tunehook.snapshot.values import BINS

Array: TypeAlias = NDArray[Any]

BLOCK = 16  # elements that are neighbours in memory: a cache line of float32
_CHUNK = 2**17  # elements that are worked on at a time, so that they stay in the cache
_RISING = np.arange(BINS + 1) / BINS
_FALLING = 1 - _RISING


@dataclass(slots=True)
class Look:
    """What was read of one array.

    Attributes:
        size: Number of elements.
        sample: Elements that were looked at, one-dimensional, on the host.
        low: The smallest element of all; NaN or infinite where one is, until they are counted. ``None`` until it is
            known, where the sample is the whole array.
        high: The largest one.
        nan: Number of elements that are NaN, in all.
        inf: Number of elements that are infinite, in all.
        implicit: Number of zeros of a sparse array that are stored nowhere; part of ``size``.
        layout: Equal for two looks whose samples have the same elements at the same places; ``None`` for nothing.
        update: The norm of what was added to the array, where it is known.
    """

    size: int
    sample: Array
    low: float | None = None
    high: float | None = None
    nan: int = 0
    inf: int = 0
    implicit: int = 0
    layout: object = None
    update: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the sample has all finite elements that are stored."""
        return self.sample.size == self.size - self.implicit - self.nan - self.inf

    @property
    def is_clean(self) -> bool:
        """Whether the extremes are finite: neither is where an element is NaN, one is where one is infinite."""
        return self.low is None or self.high is None or (math.isfinite(self.low) and math.isfinite(self.high))

    @property
    def range(self) -> tuple[float, float]:
        """The ends of the bins: the extremes, between which zero lies where zeros are implicit."""
        low, high = self.low or 0.0, self.high or 0.0
        return (min(low, 0.0), max(high, 0.0)) if self.implicit else (low, high)

    def count_faults(self, nan: Any, inf: Any, low: Any, high: Any) -> None:
        """Take how many elements are NaN and infinite, and the extremes of the others, which the sample keeps."""
        self.sample = self.sample[np.isfinite(self.sample)]
        self.nan, self.inf, self.low, self.high, self.layout = int(nan), int(inf), float(low), float(high), None


def blocks_of(size: int, limit: int) -> Array:
    """Which blocks of 16 elements make the sample of an array: one at random in each of ``limit / 16`` equal parts.

    The same for each array of one size, so that two snapshots look at the same elements. At random, since a fixed
    distance would find the same columns of a matrix again and again.
    """
    blocks, parts = size // BLOCK, limit // BLOCK
    place = np.random.default_rng(size).random(parts)
    return ((np.arange(parts) + place) * (blocks / parts)).astype(np.int64)


def edges_of(low: Any, high: Any) -> Array:
    """`bin_edges`, as an array, for extremes that differ; a row of them for each, where those are columns."""
    edges: Array = low * _FALLING + high * _RISING
    return edges


def look_at(flat: Array, implicit: int, limit: int) -> Look:
    """A look at all elements of an array on the host."""
    if flat.size <= limit:
        return Look(flat.size + implicit, host(flat), implicit=implicit, layout=flat.size)
    blocks = flat[: flat.size // BLOCK * BLOCK].reshape(-1, BLOCK)
    low, high = extremes(flat)
    look = Look(flat.size + implicit, host(blocks[blocks_of(flat.size, limit)].reshape(-1)), low, high,
                implicit=implicit, layout=flat.size)  # fmt: skip
    if not look.is_clean:
        look.count_faults(*faults(flat))
    return look


def extremes(flat: Array) -> tuple[float, float]:
    """The smallest and the largest element of a flat array, NaN where one is NaN."""
    parts = (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))
    is_plain = flat.dtype.kind in "fiub" and flat.dtype != np.float16  # NumPy is slow with others
    with np.errstate(invalid="ignore"):
        ends = [(part.min(), part.max()) for part in (parts if is_plain else map(host, parts))]
        return float(np.min([low for low, _ in ends])), float(np.max([high for _, high in ends]))


def faults(flat: Array) -> tuple[int, int, float, float]:
    """How many elements are NaN, how many infinite, and the extremes of the finite ones."""
    nan = inf = 0
    low, high = np.inf, -np.inf
    for start in range(0, flat.size, _CHUNK):
        part = host(flat[start : start + _CHUNK])
        good = part[np.isfinite(part)]
        missing = int(np.isnan(part).sum())
        nan, inf = nan + missing, inf + part.size - good.size - missing
        if good.size:
            low, high = min(low, float(good.min())), max(high, float(good.max()))
    return nan, inf, low, high


def host(array: Any) -> Array:
    """An array as float32 where that holds its values, else as float64; a view where it is one already."""
    sample: Array = np.asarray(array)
    if sample.dtype in (np.float32, np.float64):
        return sample
    if sample.dtype.name == "bfloat16":
        return (sample.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    is_small = sample.dtype.kind in "bV" or sample.dtype.itemsize <= 2
    return sample.astype(np.float32 if is_small else np.float64)
