"""The figures of a model's parameters over a training, from its snapshots, and which of its layers do not learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tunehook.figures.figure import Figure, label, log_axis, number, numbers, shown_value
from tunehook.snapshot import BINS, Snapshot, TensorStats, layer_of

_ROWS = 48  # bins of values of a heat map
_MOST = 60  # columns of a heat map
# Updates of about a thousandth of the weights are common in trainings that work (Karpathy, CS231n, 2015); a tenth of
# the weights in a step is far beyond, and so is a norm that has grown tenfold.
_USUAL, _TOO_MUCH = 1e-3, 1e-1
_GROWN = 10.0
_PALETTE = ["#3a86c8", "#1a936f", "#d08c2a", "#9b5de5", "#d64545", "#00a6a6", "#b56576", "#7d8597"]


@dataclass(frozen=True)
class LayerMark:
    """What is wrong with a layer.

    Attributes:
        layer: Its name.
        kind: ``"exploding"`` or ``"dead"``.
        why: What was seen, in words.
    """

    layer: str
    kind: str
    why: str


def marks(snapshots: Sequence[Snapshot]) -> list[LayerMark]:
    """The layers that explode or are dead, each with what was seen.

    A layer explodes where NaN or infinities are in it, where its norm has grown tenfold since the first snapshot that
    had one, or where an update is more than a tenth of it per step. It is dead where its last gradients are zero in all
    elements, or, without gradients, where it has not moved since the snapshot before.
    """
    found = []
    for layer, names in _layers(snapshots).items():
        why = _explodes(snapshots, layer, names)
        if why:
            found.append(LayerMark(layer, "exploding", why))
        elif why := _is_dead(snapshots, names):
            found.append(LayerMark(layer, "dead", why))
    return found


def _explodes(snapshots: Sequence[Snapshot], layer: str, names: Sequence[str]) -> str:
    for one in snapshots:
        held = [*_held(one.parameters, names), *_held(one.gradients, names)]
        if broken := sum(stats.nan + stats.inf for stats in held):
            return f"{broken} NaN or infinite elements at step {one.step}"
    for name in names:
        norms = [(one.step, one.parameters[name].norm) for one in snapshots if name in one.parameters]
        first = next((norm for _, norm in norms if norm > 0), 0.0)
        if first and norms[-1][1] > _GROWN * first:
            return f"the norm of {name} grew from {shown_value(first)} to {shown_value(norms[-1][1])}"
    for one in snapshots:
        steps = max(1, one.step - (one.since or 0))
        if one.since is not None and (ratio := one.ratios.get(layer, 0.0) / steps) > _TOO_MUCH:
            return f"updates of {ratio:.0%} of the weights a step before step {one.step}"
    return ""


def _is_dead(snapshots: Sequence[Snapshot], names: Sequence[str]) -> str:
    with_gradients = next((one for one in reversed(snapshots) if _held(one.gradients, names)), None)
    if with_gradients is not None:
        held = _held(with_gradients.gradients, names)
        return f"all gradients are zero at step {with_gradients.step}" if all(one.zeros == 1 for one in held) else ""
    last = snapshots[-1]
    moved = [stats.update for stats in _held(last.parameters, names) if stats.update is not None]
    return f"it has not moved between steps {last.since} and {last.step}" if moved and not any(moved) else ""


def weights(trial: int, snapshots: Sequence[Snapshot]) -> list[Figure]:
    """The norms of a trial's layers and of their gradients, and the ratios of update to weight, over the steps."""
    if not snapshots:
        return []
    at, title = _axis(snapshots)
    layers = _layers(snapshots)

    def over(value: Callable[[Snapshot, str, Sequence[str]], float | None]) -> list[dict[str, Any]]:
        lines = []
        for color, (layer, names) in enumerate(layers.items()):
            values = [value(one, layer, names) for one in snapshots]
            if any(one is not None for one in values):
                lines.append(_line(layer, at, [None if one is None else number(one) for one in values], color))
        return lines

    def figure(name: str, heading: str, alt: str, data: list[dict[str, Any]], note: str = "") -> Figure:
        return Figure(
            f"{name}-{trial}", heading, f"{alt} of {len(data)} layers of trial {trial} over {len(at)} snapshots.", data,
            {"xaxis": {"title": {"text": title}}, "yaxis": _log_axis(data), "height": 320},
            note,
        )  # fmt: skip

    made = [
        figure("norms", "Norms of the parameters", "The norm",
               over(lambda one, _, names: _norm(one.parameters, names))),
        figure("gradients", "Norms of the gradients", "The norm of the gradients",
               over(lambda one, _, names: _norm(one.gradients, names))),
        figure("ratios", "Ratio of update to weight", "The ratio of update to weight, a step,",
               over(lambda one, layer, _: _ratio(one, layer)),
               f"A step, on the way since the snapshot before. About {_USUAL:g} is common; {_TOO_MUCH:g} is far "
               "too much."),
    ]  # fmt: skip
    return [one for one in made if one.data]


def tensors(trial: int, snapshots: Sequence[Snapshot], *, most: int) -> list[tuple[str, Figure]]:
    """The histogram over the steps of each parameter, those of marked layers first, and at most so many."""
    if not snapshots:
        return []
    marked = {one.layer for one in marks(snapshots)}
    names = [name for names in _layers(snapshots).values() for name in names]
    few = sorted(names, key=lambda name: layer_of(name) not in marked)[:most]
    few.sort(key=names.index)
    return [(name, one) for place, name in enumerate(few) if (one := _heat(trial, place, name, snapshots)) is not None]


def _heat(trial: int, place: int, name: str, snapshots: Sequence[Snapshot]) -> Figure | None:
    every = math.ceil(len(snapshots) / _MOST)
    at, title = _axis(snapshots)
    seen = [(x, one.parameters[name]) for x, one in zip(at, snapshots, strict=True)
            if name in one.parameters and math.isfinite(one.parameters[name].min)][::every]  # fmt: skip
    if not seen:
        return None
    low, high = min(stats.min for _, stats in seen), max(stats.max for _, stats in seen)
    if low == high:
        low, high = low - 0.5, high + 0.5
    columns = [_spread(stats, low, high) for _, stats in seen]
    width = (high - low) / _ROWS
    return Figure(
        f"tensor-{trial}-{place}", name,
        f"Histograms of {name} in trial {trial} over {len(seen)} snapshots, between {shown_value(low)} and "
        f"{shown_value(high)}.",
        [{"type": "heatmap", "x": [x for x, _ in seen], "y": numbers(low + width * (i + 0.5) for i in range(_ROWS)),
          "z": [[column[row] for column in columns] for row in range(_ROWS)], "coloraxis": "coloraxis",
          "hovertemplate": "step %{x}, around %{y}: %{z} %<extra></extra>"}],
        {"xaxis": {"title": {"text": title}, "type": "category" if len(seen) == 1 else "linear"},
         "yaxis": {"title": {"text": label(name)}}, "height": 320,
         "coloraxis": {"colorscale": "heat", "colorbar": {"title": {"text": "%"}, "thickness": 12, "outlinewidth": 0}}},
        "Each column is a histogram: the share of the elements around each value.",
    )  # fmt: skip


def _spread(stats: TensorStats, low: float, high: float) -> list[float]:
    """The shares of a histogram, in percent, in bins of a wider range."""
    edges, total = stats.edges, sum(stats.counts) or 1
    rows = [0.0] * _ROWS
    width = (high - low) / _ROWS
    for bin_ in range(BINS):
        if not stats.counts[bin_]:
            continue
        begin, end = (edges[bin_] - low) / width, (edges[bin_ + 1] - low) / width
        first, last = (min(_ROWS - 1, max(0, int(one))) for one in (begin, end))
        for row in range(first, last + 1):
            inside = min(end, row + 1) - max(begin, row) if first < last else end - begin
            rows[row] += 100 * stats.counts[bin_] / total * (max(0.0, inside) / (end - begin))
    return [round(one, 1) for one in rows]


def _axis(snapshots: Sequence[Snapshot]) -> tuple[list[int], str]:
    """The steps; where they begin again with another fit, the numbers of the snapshots."""
    steps = [one.step for one in snapshots]
    grows = all(one < two for one, two in itertools.pairwise(steps))
    return (steps, "optimizer step") if grows else ([*range(len(steps))], "snapshot")


def _layers(snapshots: Sequence[Snapshot]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for one in snapshots:
        for name in one.parameters:
            found.setdefault(layer_of(name), {})[name] = None
    return {layer: [*names] for layer, names in found.items()}


def _held(stats: Any, names: Sequence[str]) -> list[TensorStats]:
    return [stats[name] for name in names if name in stats]


def _norm(stats: Any, names: Sequence[str]) -> float | None:
    held = _held(stats, names)
    return math.hypot(*(one.norm for one in held)) if held else None


def _ratio(snapshot: Snapshot, layer: str) -> float | None:
    if snapshot.since is None or layer not in (ratios := snapshot.ratios):
        return None
    return ratios[layer] / max(1, snapshot.step - snapshot.since)


def _log_axis(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    seen = [one for line in lines for one in line["y"] if one]
    return log_axis(min(seen), max(seen)) if seen else {}


def _line(name: str, x: list[int], y: list[float | None], color: int) -> dict[str, Any]:
    drawn = [None if one is not None and one <= 0 else one for one in y]  # which has no place on a logarithmic axis
    return {"type": "scatter", "mode": "lines+markers", "name": label(name, most=24), "x": x, "y": drawn,
            "line": {"color": _PALETTE[color % len(_PALETTE)]}, "marker": {"size": 5}}  # fmt: skip
