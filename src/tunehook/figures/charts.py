"""The figures of a study: what was tried, what it gave, and what it depends on."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tunehook.figures.figure import (
    ACCENT,
    COLORS,
    SCALE,
    Figure,
    axis,
    by_state,
    dots,
    label,
    number,
    numbers,
    place,
    share,
    shares,
    shown_value,
)
from tunehook.figures.view import StudyView, TrialView
from tunehook.space import Choice
from tunehook.system import clock, shortened
from tunehook.trial import State

_BINS = 6  # colors of the lines of parallel coordinates
_CELLS = 60  # of a surface, each way
_WIDTH = 0.08  # of the kernel of a surface, as a share of an axis
_NOTES: dict[frozenset[State], str] = {  # of a history, by the states that it has
    frozenset(["pruned", "paused"]): "A pruned or paused trial has the value that it had when it was stopped.",
    frozenset(["known"]): "A known trial comes from elsewhere: its reason, in the table of trials, says from where.",
}
_FEWEST = 3  # trials from which a figure of hyperparameters says something


def history(view: StudyView) -> Figure | None:
    """The value of each trial, and the best so far."""
    shown = [trial for trial in view.trials if trial.value is not None]
    if not shown:
        return None
    best, last = view.best_so_far, shown[-1].number
    steps = [*best, *([(last, best[-1][1])] if best and best[-1][0] < last else [])]
    line = {
        "type": "scatter", "mode": "lines", "name": "best so far", "x": [at for at, _ in steps],
        "y": numbers(value for _, value in steps), "line": {"shape": "hv", "color": ACCENT, "width": 2},
        "hoverinfo": "skip",
    }  # fmt: skip
    lines = [line] if best else []
    so_far = ", and the best so far" if best else ""
    at = f" The best, {shown_value(best[-1][1])}, came in trial {best[-1][0]}." if best else ""
    return Figure(
        "history", "History",
        f"The value of {len(shown)} trials in the order of their numbers{so_far}.{at}",
        [*(dots(state, [one.number for one in trials], numbers(one.value or 0.0 for one in trials), trials)
           for state, trials in by_state(shown)), *lines],
        {"xaxis": {"title": {"text": "trial"}}, "yaxis": {"title": {"text": label(view.metric, most=30)}}},
        " ".join(note for states, note in _NOTES.items() if states & {trial.state for trial in shown}),
        ("trial", view.metric), [(str(at), shown_value(value)) for at, value in best],
    )  # fmt: skip


def curves(view: StudyView, *, metric: str | None = None) -> Figure | None:
    """The learning curves of all trials, by how they ended."""
    metric = metric or view.metric
    shown = [trial for trial in view.trials if metric in trial.curves]
    if not shown:
        return None
    best = [trial for trial in shown if trial.number == view.best]
    traces = [_lines(trials, metric, state, COLORS[state], 1.0) for state, trials in by_state(shown)]
    traces += [_lines(best, metric, "best", ACCENT, 3.0)] if best else []
    return Figure(
        "curves", "Learning curves",
        f"{metric} over the reports of {len(shown)} trials, one line each, colored by how the trial ended.",
        traces,
        {"xaxis": {"title": {"text": "report"}}, "yaxis": {"title": {"text": label(metric, most=30)}}},
    )  # fmt: skip


def parallel(view: StudyView) -> Figure | None:
    """Each trial as a line through its values, colored by what they gave."""
    names, shown = view.names, view.measured
    if len(shown) < _FEWEST or not names:
        return None
    names = [*reversed(names)]  # the most important one stands beside the metric
    space = view.space.searched
    places = {name: [_place(view, trial, name) for trial in shown] for name in names}
    columns = [shares(space[name], places[name]) for name in names]
    values = [trial.value or 0.0 for trial in shown]
    low, high = min(values), max(values)
    columns.append([share(value, low, high) for value in values])
    order = sorted(range(len(shown)), key=lambda at: values[at], reverse=view.mode == "min")
    data = [
        _bundle([shown[at] for at in order[begin:end]], [[column[at] for column in columns] for at in order[begin:end]],
                bin_, len(order[begin:end]))
        for bin_ in range(_BINS)
        for begin, end in [(bin_ * len(order) // _BINS, (bin_ + 1) * len(order) // _BINS)] if end > begin
    ]  # fmt: skip
    brief = shortened(names)
    heads = [label(one, most=18) for one in [*map(brief.__getitem__, names), view.metric]]
    return Figure(
        "parallel", "Parallel coordinates",
        f"{len(shown)} trials as lines through their values of {', '.join(names)}, colored by {view.metric}.",
        data,
        {
            "xaxis": {"tickvals": [*range(len(heads))], "ticktext": heads, "range": [-0.35, len(heads) - 0.65],
                      "fixedrange": True, "side": "top", "tickangle": 0},
            "yaxis": {"visible": False, "range": [-0.06, 1.06], "fixedrange": True},
            "legend": {"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top"},
            "margin": {"l": 15, "r": 40, "t": 50, "b": 50},
            "annotations": [*_scales(view, names, places), *_ends(len(names), low, high)],
            "shapes": [{"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "layer": "below", "line": {"width": 1}}
                       for at in range(len(heads))],
            "minwidth": 110 * len(heads),
        },
        "The most important hyperparameter stands beside the metric. Select trials in the table to see their lines.",
    )  # fmt: skip


def importance(view: StudyView) -> Figure | None:
    """The share of each hyperparameter in what tells the best trials from the others."""
    found = {name: one for name, one in view.importance.items() if name in view.space.names}
    if not found:
        return None
    names = [*reversed(found)]
    first = next(iter(found))
    return Figure(
        "importance", "Importance of the hyperparameters",
        f"{first} matters most, with a share of {found[first]:.0%}.",
        [{"type": "bar", "orientation": "h", "x": numbers(found[name] for name in names),
          "y": [label(name) for name in names], "marker": {"color": COLORS["complete"]}, "showlegend": False}],
        {"xaxis": {"title": {"text": "share"}, "rangemode": "tozero", "tickformat": ".0%"},
         "yaxis": {"automargin": True, "type": "category"}, "height": 120 + 34 * len(names)},
        "By PED-ANOVA, from what the best tenth of the complete trials have in common. It says which names to "
        "search on, not which values are good.",
        ("hyperparameter", "share"), [(name, f"{value:.1%}") for name, value in found.items()],
    )  # fmt: skip


def slices(view: StudyView) -> list[Figure]:
    """The value of the trials over each hyperparameter by itself."""
    shown = view.measured
    if len(shown) < _FEWEST:
        return []
    return [made for name in view.names if (made := _slice(view, name, shown)) is not None]


def _slice(view: StudyView, name: str, shown: list[TrialView]) -> Figure | None:
    distribution = view.space.searched[name]
    shown = [trial for trial in shown if _place(view, trial, name) is not None]
    if not shown:
        return None
    data = []
    for state, trials in by_state(shown):
        at = [_place(view, trial, name) for trial in trials]
        if isinstance(distribution, Choice):  # beside each other, since many have the same place
            at = [None if one is None else one + _aside(trial.number) for one, trial in zip(at, trials, strict=True)]
        data.append(dots(state, at, numbers(trial.value or 0.0 for trial in trials), trials))
    its = view.space.name_of(name)
    # The name of a branch may have any characters, that of the figure is one of an element and of a file.
    called = its.replace("*", "_") + ("" if its == name else f"-{list(view.space.searched).index(name)}")
    return Figure(
        f"slice-{called}", name, f"{view.metric} of {len(shown)} trials over {name}.", data,
        {"xaxis": axis(name, distribution), "yaxis": {"title": {"text": label(view.metric, most=24)}}, "height": 280,
         "showlegend": False},
    )  # fmt: skip


def contour(view: StudyView, first: str | None = None, second: str | None = None) -> Figure | None:
    """The value over two hyperparameters, the most important ones unless others are named."""
    named = [name for name in (first, second) if name is not None]
    order = [*named, *(name for name in view.names if name not in named)]
    pairs = (pair for pair in itertools.combinations(order, 2) if {*named} <= {*pair})
    # What stands in two branches is in no trial together, so the next pair is taken.
    tried = ((names, _both(view, *names)) for names in pairs)
    found = next((one for one in tried if len(one[1]) >= _FEWEST), None)
    if found is None:
        return None
    names, there = found
    across, up = (view.space.searched[name] for name in names)
    values = numbers(trial.value or 0.0 for trial, _, _ in there)
    bar = {"title": {"text": label(view.metric, most=20)}, "thickness": 12, "outlinewidth": 0}
    data = []
    is_plane = len({x for _, x, _ in there}) > 1 and len({y for _, _, y in there}) > 1
    if is_plane and not isinstance(across, Choice) and not isinstance(up, Choice):
        data.append(_surface(view, names, there))
    data.append({
        "type": "scatter", "mode": "markers", "name": "trials", "x": [x for _, x, _ in there],
        "y": [y for _, _, y in there], "customdata": [trial.number for trial, _, _ in there],
        "marker": {"color": values, "coloraxis": "coloraxis", "size": 9, "line": {"width": 1, "color": "#ffffff"}},
        "showlegend": False, "hovertemplate": "trial %{customdata}: %{marker.color}<extra></extra>",
    })  # fmt: skip
    return Figure(
        "contour", f"{names[0]} and {names[1]}",
        f"{view.metric} of {len(there)} trials over {names[0]} and {names[1]}.", data,
        {"xaxis": axis(names[0], across), "yaxis": axis(names[1], up), "height": 460,
         "coloraxis": {"colorscale": SCALE, "reversescale": view.mode == "min", "colorbar": bar}},
        "The surface is the mean of the trials around each point, weighted by their nearness; it is empty where "
        "nothing was tried." if len(data) > 1 else "Each dot is a trial.",
    )  # fmt: skip


def _both(view: StudyView, first: str, second: str) -> list[tuple[TrialView, float, float]]:
    """The trials that have two hyperparameters, with where these stand."""
    return [
        (trial, x, y)
        for trial in view.measured
        if (x := _place(view, trial, first)) is not None and (y := _place(view, trial, second)) is not None
    ]


def _surface(view: StudyView, names: Sequence[str], there: list[tuple[TrialView, float, float]]) -> dict[str, Any]:
    """A smoothed mean (Nadaraya and Watson, 1964) in shares of the axes.

    A heat map: Plotly's contours do not come to an end on two logarithmic axes (plotly.js 3).
    """
    import numpy as np

    grids, sides = [], []
    for name, seen in zip(names, ([x for _, x, _ in there], [y for _, _, y in there]), strict=True):
        scaled = np.array(shares(view.space.searched[name], seen), dtype=float)
        low, high = min(seen), max(seen)
        is_scaled_by_log = axis(name, view.space.searched[name]).get("type") == "log"
        grids.append(np.geomspace(low, high, _CELLS) if is_scaled_by_log else np.linspace(low, high, _CELLS))
        sides.append(np.exp(-0.5 * ((np.linspace(0, 1, _CELLS)[:, None] - scaled) / _WIDTH) ** 2))
    values = np.array([trial.value for trial, _, _ in there], dtype=float)
    weights = np.einsum("xt,yt->yx", *sides)
    mean = np.einsum("xt,yt,t->yx", *sides, values) / np.maximum(weights, 1e-300)
    return {
        "type": "heatmap", "x": numbers(grids[0]), "y": numbers(grids[1]), "coloraxis": "coloraxis",
        "z": [[number(one) if near > 0.2 else None for one, near in zip(row, weighed, strict=True)]
              for row, weighed in zip(mean, weights, strict=True)],
        "opacity": 0.55, "hoverinfo": "skip",
    }  # fmt: skip


def timeline(view: StudyView) -> Figure | None:
    """When each trial ran, and where: one row for each place that had a trial at a time."""
    trained = (one for one in view.trials if one.state != "known")
    shown = sorted((one for one in trained if one.began is not None), key=lambda one: (one.began, one.number))
    if not shown:
        return None
    now = max(one.ended or one.began or 0.0 for one in shown)
    rows, busy = _rows(shown, now)
    names = sorted(busy, key=lambda place: (place[0], place[1]))
    data = []
    for state, trials in by_state(shown):
        spans = [(one.began or 0.0, max((one.ended or now) - (one.began or 0.0), 0.001)) for one in trials]
        data.append({
            "type": "bar", "orientation": "h", "name": state, "base": [_date(began) for began, _ in spans],
            "x": [round(1000 * took) for _, took in spans], "y": [_row_name(rows[one.number]) for one in trials],
            "customdata": [one.number for one in trials], "marker": {"color": COLORS[state], "line": {"width": 0.5}},
            "text": [clock(took) for _, took in spans], "textposition": "none",
            "hovertemplate": "trial %{customdata}, %{text}<extra></extra>",
        })  # fmt: skip
    whole = now - (shown[0].began or 0.0)
    taken = {name: sum(took for took in spent) for name, spent in busy.items()}
    return Figure(
        "timeline", "Timeline",
        f"{len(shown)} trials in {clock(whole)} on {len(names)} places of {len({host for host, _ in names})} machines.",
        data,
        {"xaxis": {"type": "date", "title": {"text": "time (UTC)"}}, "barmode": "overlay",
         "yaxis": {"automargin": True, "type": "category", "categoryorder": "array",
                   "categoryarray": [_row_name(name) for name in reversed(names)]},
         "height": 150 + 30 * len(names)},
        "A row is a place on a machine that had one trial at a time.",
        ("place", "trials", "busy"),
        [(_row_name(name), str(len(busy[name])), f"{taken[name] / whole:.0%}" if whole else "") for name in names],
    )  # fmt: skip


def _rows(shown: list[TrialView], now: float) -> tuple[dict[int, tuple[str, int]], dict[tuple[str, int], list[float]]]:
    """The first free row of its machine for each trial, and how long each row was busy with each."""
    rows: dict[int, tuple[str, int]] = {}
    until: dict[tuple[str, int], float] = {}
    busy: dict[tuple[str, int], list[float]] = {}
    for trial in shown:
        began, ended = trial.began or 0.0, trial.ended or now
        slot = 0
        while until.get((trial.host, slot), began) > began:
            slot += 1
        row = (trial.host, slot)
        until[row] = ended
        rows[trial.number] = row
        busy.setdefault(row, []).append(max(0.0, ended - began))
    return rows, busy


def _row_name(row: tuple[str, int]) -> str:
    return f"{label(row[0], most=20) or 'unknown'} · {row[1] + 1}"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")


def causes(view: StudyView) -> list[tuple[str, str, list[TrialView]]]:
    """The trials that gave nothing, by state and cause, the most frequent first; a cause is told by its first trial.

    Reasons that differ in their numbers only, such as process ids, are one cause.
    """
    found: dict[tuple[str, str], list[TrialView]] = {}
    for trial in view.trials:
        if trial.state in ("failed", "infeasible", "interrupted"):
            found.setdefault((trial.state, re.sub(r"\d+", "0", trial.outcome.reason)), []).append(trial)
    grouped = sorted(found.items(), key=lambda one: -len(one[1]))
    return [(state, trials[0].outcome.reason, trials) for (state, _), trials in grouped]


# ------------------------------------------------------------------ parts


def _lines(trials: list[TrialView], metric: str, name: str, color: str, width: float) -> dict[str, Any]:
    """Many lines in one trace, with gaps between them; ``meta`` says which part of it is which trial."""
    x: list[int | None] = []
    y: list[float | None] = []
    spans = []
    for trial in trials:
        curve = trial.curves[metric]
        spans.append([trial.number, len(x), len(x) + len(curve.steps)])
        x += [*curve.steps, None]
        y += [*numbers(curve.values), None]
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "meta": {"spans": spans},
        "line": {"color": color, "width": width}, "hoverinfo": "skip",
        "opacity": 1.0 if width > 1 else min(0.9, 0.3 + 12 / len(trials)),
    }  # fmt: skip


def _bundle(trials: list[TrialView], rows: list[list[float | None]], bin_: int, many: int) -> dict[str, Any]:
    """The lines of trials that are about as good as each other."""
    wide = len(rows[0])
    x = [at for _ in rows for at in [*range(wide), None]]
    y = [None if one is None else round(one, 4) for row in rows for one in [*row, None]]
    spans = [[trial.number, at * (wide + 1), at * (wide + 1) + wide] for at, trial in enumerate(trials)]
    names = ["worst sixth", "", "", "", "", "best sixth"]
    has_gaps = any(None in row for row in rows)  # between two of them a value is no line
    return {
        "type": "scatter", "mode": "lines+markers" if has_gaps else "lines", "x": x, "y": y, "meta": {"spans": spans},
        "hoverinfo": "skip", "marker": {"size": 4},
        "line": {"color": _color(bin_ / (_BINS - 1)), "width": 1 + bin_ / 4},
        "opacity": min(0.9, 0.35 + 20 / (many + 1)),
        "name": names[bin_] or f"{bin_ + 1}", "showlegend": bool(names[bin_]),
    }  # fmt: skip


def _color(at: float) -> str:
    """A color of the scale of values."""
    (low, before), (high, after) = next((one, two) for one, two in itertools.pairwise(SCALE) if at <= two[0])
    part = (at - low) / (high - low)
    mixed = [round(int(before[i : i + 2], 16) * (1 - part) + int(after[i : i + 2], 16) * part) for i in (1, 3, 5)]
    return "#" + "".join(f"{one:02x}" for one in mixed)


def _scales(view: StudyView, names: list[str], places: dict[str, list[float | None]]) -> list[dict[str, Any]]:
    """What stands along the axes of parallel coordinates."""
    found = []
    for at, name in enumerate(names):
        distribution = view.space.searched[name]
        if isinstance(distribution, Choice):
            many = len(distribution.options)
            ticks = [(one / max(1, many - 1), label(distribution.options[one], most=14))
                     for one in range(0, many, max(1, many // 8))]  # fmt: skip
        else:
            seen = [one for one in places[name] if one is not None]
            ticks = [(0.0, shown_value(min(seen))), (1.0, shown_value(max(seen)))] if seen else []
        found += [_tick(at, y, text) for y, text in ticks]
    return found


def _ends(at: int, low: float, high: float) -> list[dict[str, Any]]:
    return [_tick(at, 0.0, shown_value(low)), _tick(at, 1.0, shown_value(high))]


def _tick(x: float, y: float, text: str) -> dict[str, Any]:
    return {"x": x, "y": y, "text": text, "showarrow": False, "xanchor": "right", "xshift": -4, "font": {"size": 11}}


def _place(view: StudyView, trial: TrialView, name: str) -> float | None:
    """Where a trial stands on the axis of a hyperparameter; ``None`` where it has none of it."""
    values = view.searched[trial.number]
    return place(view.space.searched[name], values[name]) if name in values else None


def _aside(at: int) -> float:
    """A little to the side, always the same for a trial."""
    return ((at * 0.618) % 1 - 0.5) * 0.5
