"""A figure as plain data, as Plotly reads it, and what its parts have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from tunehook.figures.view import TrialView
from tunehook.space import Choice, Distribution, Float, Int, LogNormal
from tunehook.system import printable, short
from tunehook.trial import State

# One color a state; they are told apart in light and dark, and each has a symbol of its own, for those who see no red.
COLORS: dict[State, str] = {
    "complete": "#1a936f", "pruned": "#d08c2a", "infeasible": "#9b5de5", "failed": "#d64545", "interrupted": "#7d8597",
    "running": "#3a86c8", "paused": "#d16ba5", "known": "#8a6d3b",
}  # fmt: skip
SYMBOLS: dict[State, str] = {
    "complete": "circle", "pruned": "triangle-down", "infeasible": "x", "failed": "x-thin-open",
    "interrupted": "diamond", "running": "circle-open", "paused": "square", "known": "cross",
}  # fmt: skip
ACCENT = "#e4572e"  # the best trial, and the best so far
# From the worst to the best value; every part of it is seen on white and on black.
SCALE: list[tuple[float, str]] = [(0.0, "#8d99ae"), (0.35, "#5f8fc0"), (0.7, "#1a936f"), (1.0, "#e4a11b")]
_FEW_DECADES = 2.5
_LONGEST = 40  # characters of a name or value in a figure


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: Names it on a page.
        title: What it shows.
        alt: What is to be seen in it, in a sentence or two.
        data: Plotly's traces.
        layout: Plotly's layout.
        note: How to read it.
        head: Heads of the columns of the same as a table; empty where there is none.
        rows: Its rows.
    """

    name: str
    title: str
    alt: str
    data: list[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def label(text: object, *, most: int = _LONGEST) -> str:
    """A name or value in a figure: Plotly reads some tags and entities in texts, and here there are none."""
    told = text if isinstance(text, str) else repr(text)
    told = printable(told if len(told) <= most else f"{told[: most - 1]}…")
    return told.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def number(value: float) -> float | None:
    """A number with five digits, which are more than a figure shows; ``None`` for what has no place in it."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def numbers(values: Iterable[float]) -> list[float | None]:
    """Each of them."""
    return [number(value) for value in values]


def is_log(distribution: Distribution) -> bool:
    """Whether its values are seen on a logarithmic scale."""
    return isinstance(distribution, LogNormal) or (isinstance(distribution, Float | Int) and distribution.log)


def place(distribution: Distribution, value: Any) -> float | None:
    """Where a value stands on the axis of its distribution; ``None`` for one that it lacks."""
    if isinstance(distribution, Choice):
        known = [repr(option) for option in distribution.options]
        return float(known.index(repr(value))) if repr(value) in known else None
    return None if value is None else number(value)


def axis(name: str, distribution: Distribution) -> dict[str, Any]:
    """Plotly's axis of a hyperparameter: the user's own values, options in their order."""
    made: dict[str, Any] = {"title": {"text": label(name)}, "automargin": True}
    if isinstance(distribution, Choice):
        many = len(distribution.options)
        each = range(0, many, max(1, math.ceil(many / 20)))
        return {
            **made, "range": [-0.5, many - 0.5], "tickvals": [*each],
            "ticktext": [label(distribution.options[at], most=20) for at in each],
        }  # fmt: skip
    if isinstance(distribution, LogNormal):
        return {**made, **log_axis(*(math.exp(distribution.mu + far * distribution.sigma) for far in (-3, 3)))}
    if isinstance(distribution, Float | Int) and distribution.log:
        return {**made, **log_axis(distribution.low, distribution.high)}
    return made


def log_axis(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis: 1, 2 and 5 of each power of ten have a label where these are few."""
    if not 0 < low < high:
        return {"type": "log"}
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first) / 8))
    leads = (1, 2, 5) if math.log10(high / low) < _FEW_DECADES else (1,)
    ticks = [float(f"{lead}e{power}") for power in range(first, last + 1, every) for lead in leads]
    return {"type": "log", "tickvals": ticks, "ticktext": [short(one, digits=3) for one in ticks]}


def shares(distribution: Distribution, places: Sequence[float | None]) -> list[float | None]:
    """Where places stand between the least and the most of them, from 0 to 1, on the distribution's scale."""
    if isinstance(distribution, Choice):
        last = max(1, len(distribution.options) - 1)
        return [None if one is None else one / last for one in places]
    scaled = [None if one is None else math.log(one) if is_log(distribution) else one for one in places]
    seen = [one for one in scaled if one is not None]
    low, high = min(seen, default=0.0), max(seen, default=0.0)
    return [None if one is None else share(one, low, high) for one in scaled]


def share(value: float, low: float, high: float) -> float:
    """Where a value stands between two others, from 0 to 1, also where they are farther apart than a number goes."""
    return (value / 2 - low / 2) / ((high / 2 - low / 2) or 1.0) if high > low else 0.5


def shown_value(value: Any) -> str:
    """A value in a table."""
    return short(value, digits=5)


def by_state(trials: Iterable[TrialView]) -> list[tuple[State, list[TrialView]]]:
    """The trials by state, in one order everywhere; states that no trial has are left out."""
    found: dict[State, list[TrialView]] = {}
    for trial in trials:
        found.setdefault(trial.state, []).append(trial)
    order: tuple[State, ...] = get_args(State)
    return sorted(found.items(), key=lambda one: order.index(one[0]) if one[0] in order else len(order))


def dots(state: State, x: list[Any], y: list[Any], trials: list[TrialView]) -> dict[str, Any]:
    """Trials of one state as dots."""
    return {
        "type": "scatter", "mode": "markers", "name": state, "x": x, "y": y,
        "customdata": [trial.number for trial in trials],
        "marker": {"color": COLORS.get(state), "symbol": SYMBOLS.get(state), "size": 8, "opacity": 0.8},
        "hovertemplate": "trial %{customdata}: %{y}<extra></extra>",
    }  # fmt: skip
