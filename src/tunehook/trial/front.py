"""Several metrics at once: which trials no other one beats, and how much they cover."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tunehook.trial.objective import Mode

_T = TypeVar("_T")


def pareto_front(
    found: Iterable[_T], modes: Sequence[Mode], *, values: Callable[[_T], Sequence[float] | None]
) -> list[_T]:
    """Those that no other one beats: none is as good in every value and better in one. Equal ones are all of it.

    Args:
        found: What there is, in order.
        modes: ``"min"`` or ``"max"`` for each value.
        values: Gives the values of one; one without one for each mode, or with NaN, is left out.
    """
    measured = [(one, values(one) or ()) for one in found]
    known = [
        (one, _losses(its, modes)) for one, its in measured if len(its) == len(modes) and not any(map(math.isnan, its))
    ]
    return [one for one, losses in known if not any(_beats(other, losses) for _, other in known)]


def hypervolume(points: Iterable[Sequence[float]], reference: Sequence[float], modes: Sequence[Mode]) -> float:
    """The volume between points and a reference point that at least one of them beats: the larger, the better.

    It is exact, by slicing (While et al., 2006, doi:10.1109/TEVC.2005.851275); meant for up to some hundred points of
    two or three values.

    Args:
        points: The values of each point; one that is no better than the reference in some value adds nothing.
        reference: What is just not good enough, in the units of the metrics.
        modes: ``"min"`` or ``"max"`` for each value.
    """
    bound = _losses(reference, modes)
    losses = [_losses(one, modes) for one in points]
    inside = [one for one in losses if all(a < b for a, b in zip(one, bound, strict=True))]
    return _volume(inside, bound)


def _volume(points: Sequence[Sequence[float]], bound: Sequence[float]) -> float:
    if not points:
        return 0.0
    if len(bound) == 1:
        return bound[0] - min(one[0] for one in points)
    edges = sorted({one[0] for one in points})
    total = 0.0
    for start, end in zip(edges, [*edges[1:], bound[0]], strict=True):
        total += (end - start) * _volume([one[1:] for one in points if one[0] <= start], bound[1:])
    return total


def _losses(values: Sequence[float], modes: Sequence[Mode]) -> list[float]:
    return [value if mode == "min" else -value for value, mode in zip(values, modes, strict=True)]


def _beats(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and list(a) != list(b)
