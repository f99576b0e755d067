"""What is searched for: which value of a trial counts, which value is better, and which trials count."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeVar

Mode = Literal["min", "max"]
Objective = Literal["best", "last"] | int
State = Literal["running", "paused", "complete", "pruned", "infeasible", "failed", "interrupted", "known"]

# What told the search something, so that it is one of the trials that were wanted.
COUNTED: tuple[State, ...] = ("complete", "paused", "pruned", "infeasible")
# What says nothing of the values, so that they are tried again.
ASKED_AGAIN: tuple[State, ...] = ("interrupted",)

Direction = Literal["minimize", "maximize"]
_DIRECTIONS: dict[Mode, Direction] = {"min": "minimize", "max": "maximize"}

_T = TypeVar("_T")


def direction_of(mode: Mode) -> Direction:
    """What Optuna calls a mode."""
    return _DIRECTIONS[mode]


def mode_of(direction: str) -> Mode:
    """The mode that one of Optuna's directions means, in letters of any size."""
    return next(mode for mode, name in _DIRECTIONS.items() if name == direction.lower())


def objective_value(series: Sequence[tuple[int, float]], mode: Mode, objective: Objective) -> tuple[float, int] | None:
    """The value that counts, and its step.

    Args:
        series: Steps and values of the tuned metric, in order; NaN and infinities do not count.
        mode: ``"min"`` or ``"max"``.
        objective: ``"best"``, ``"last"``, or k for the mean of the last k values (of all, where there are fewer).

    Returns:
        Value and step (of the best value, else of the last), or ``None`` where no value is finite.
    """
    finite = [(step, value) for step, value in series if math.isfinite(value)]
    if not finite:
        return None
    if objective == "best":
        first = best_of(finite, mode, value=lambda row: row[1]) or finite[0]
        return first[1], first[0]
    last = finite[-(1 if objective == "last" else int(objective)) :]
    return math.fsum(value for _, value in last) / len(last), last[-1][0]


def value_beside(series: Sequence[tuple[int, float]], mode: Mode, objective: Objective, step: int) -> float | None:
    """What a further metric was where the first one counts, or last before; ``None`` where it was not measured.

    Args:
        series: Steps and values of the further metric, in order.
        mode: Its mode.
        objective: The rule for the value that counts; that of the last ones holds for each metric by itself.
        step: Of the value of the first metric.
    """
    if not series:
        return None
    if objective == "best":
        return next((value for at, value in reversed(series) if at <= step), series[0][1])
    counts = objective_value(series, mode, objective)
    return series[-1][1] if counts is None else counts[0]


def is_better(value: float | None, than: float | None, mode: Mode) -> bool:
    """Whether a value is better than another one: an equal one is not, NaN and ``None`` never are."""
    if value is None or math.isnan(value):
        return False
    if than is None or math.isnan(than):
        return True
    return value < than if mode == "min" else value > than


def best_of(found: Iterable[_T], mode: Mode, *, value: Callable[[_T], float | None]) -> _T | None:
    """The one with the best value, the first of equals; ``None`` where none has a value.

    Args:
        found: What there is, in order.
        mode: ``"min"`` or ``"max"``.
        value: Gives the value of one; ``None`` and NaN are no values.
    """
    best: _T | None = None
    for one in found:
        if is_better(value(one), None if best is None else value(best), mode):
            best = one
    return best
