"""The trials of a study with several metrics, and those among them that no other one beats."""

from __future__ import annotations

from tunehook.figures.figure import ACCENT, Figure, by_state, dots, label, numbers, shown_value
from tunehook.figures.view import StudyView


def fronts(view: StudyView) -> list[Figure]:
    """The Pareto front: the first metric over each of the others; nothing with one metric."""
    return [made for other in view.others if (made := _front(view, other)) is not None]


def _front(view: StudyView, other: str) -> Figure | None:
    first, metrics = view.metric, [view.metric, *view.others]
    shown = [trial for trial in view.trials if {first, other} <= trial.values.keys()]
    if not shown:
        return None
    best = sorted((one for one in shown if one.number in view.front), key=lambda one: one.values[other])
    data = [
        dots(state, numbers(one.values[other] for one in trials), numbers(one.values[first] for one in trials), trials)
        for state, trials in by_state(shown)
    ]
    # Along the steps lies what at least one trial beats; of three metrics two have no such line.
    shape = "hv" if view.others[other] == "min" else "vh"
    data.append({
        "type": "scatter", "mode": "markers" if len(metrics) > 2 else "lines+markers", "name": "front",
        "hoverinfo": "skip",
        "x": numbers(one.values[other] for one in best), "y": numbers(one.values[first] for one in best),
        "line": {"color": ACCENT, "width": 2, "dash": "dot", "shape": shape},
        "marker": {"size": 14, "color": ACCENT, "symbol": "circle-open"},
    })  # fmt: skip
    axes = {
        axis: {"title": {"text": f"{label(name, most=30)} ({'smaller' if mode == 'min' else 'larger'} is better)"}}
        for axis, name, mode in (("xaxis", other, view.others[other]), ("yaxis", first, view.mode))
    }
    return Figure(
        f"front-{list(view.others).index(other)}", f"{first} and {other}",
        f"{first} over {other} of {len(shown)} trials; {len(best)} of them are on the front, which no other one beats.",
        data, axes,
        "Trials on the front are circled: none of the others is as good in every metric and better in one." +
        (f" It is the front of all {len(metrics)} metrics, of which two are seen here." if len(metrics) > 2 else ""),
        ("trial", *metrics), [(str(one.number), *(shown_value(one.values[name]) for name in metrics)) for one in best],
    )  # fmt: skip
