"""Courses of values as small bars in a line."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence

from tunehook.system import encodable

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, width: int = 24) -> str:
    """Values as small bars, from the least to the most; of many the means of neighbours.

    Where the encoding of standard output has no such bars, there are none.

    Args:
        values: Finite numbers, in order.
        width: Bars at most.
    """
    if encodable(_BARS, sys.stdout) != _BARS:
        return ""
    many = min(width, len(values))
    edges = [at * len(values) // many for at in range(many + 1)] if many else [0]
    means = [math.fsum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((one - low) * scale)] for one in means)
