"""The population of a study: which interval of training goes on with which."""

from __future__ import annotations

import itertools
from typing import Any

from tunehook.figures.figure import ACCENT, Figure, by_state, dots, label, number, numbers, shown_value
from tunehook.figures.view import StudyView, TrialView


def lineage(view: StudyView) -> Figure | None:
    """The intervals of a population, with a line from each to those that go on with it; nothing in other searches."""
    shown = [trial for trial in view.trials if trial.lineage is not None and trial.value is not None]
    if not shown:
        return None
    known = {trial.number: trial for trial in shown}
    won = schedule(view)
    goes_on, copies = list[tuple[TrialView, TrialView]](), list[tuple[TrialView, TrialView]]()
    for trial in shown:
        before = known.get(_parent(trial))
        if before is not None:
            (goes_on if _member(before) == _member(trial) else copies).append((before, trial))
    data = [
        _lines("goes on", goes_on, {"color": "#7d8597", "width": 1}),
        _lines("copies another member", copies, {"color": "#9b5de5", "width": 1.5, "dash": "dash"}),
        _lines("the schedule that won", [*itertools.pairwise(won)], {"color": ACCENT, "width": 3}),
        *(dots(state, [_end(one) for one in trials], numbers(one.value or 0.0 for one in trials), trials)
          for state, trials in by_state(shown)),
    ]  # fmt: skip
    changed = [name for name in view.space.names if len({repr(one.params.get(name)) for one in won}) > 1]
    members = len({_member(trial) for trial in shown})
    return Figure(
        "lineage", "Lineage of the population",
        f"{len(shown)} intervals of {members} members over the epochs of their training; {len(copies)} of them copy "
        f"another member.",
        data,
        {"xaxis": {"title": {"text": "epochs"}}, "yaxis": {"title": {"text": label(view.metric, most=30)}}},
        "Each dot is an interval of training at its end. A line comes from the interval that it goes on with, a dashed "
        "one where a weak member has copied a strong one.",
        ("up to epoch", "trial", "member", view.metric, *changed),
        [(str(_end(one)), str(one.number), str(_member(one)), shown_value(one.value),
          *(shown_value(one.params.get(name)) for name in changed)) for one in won],
    )  # fmt: skip


def schedule(view: StudyView) -> list[TrialView]:
    """The intervals from which the best trial has come, the first one first; nothing where there is no population."""
    known = {trial.number: trial for trial in view.trials if trial.lineage is not None}
    at, found = known.get(-1 if view.best is None else view.best), list[TrialView]()
    while at is not None and at not in found:
        found.insert(0, at)
        at = known.get(_parent(at))
    return found


def _lines(name: str, pairs: list[tuple[TrialView, TrialView]], line: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "name": name, "line": line, "hoverinfo": "skip",
        "x": [at for before, after in pairs for at in (_end(before), _end(after), None)],
        "y": [at for pair in pairs for at in (*(number(one.value or 0.0) for one in pair), None)],
    }  # fmt: skip


def _parent(trial: TrialView) -> int:
    return -1 if trial.lineage is None or trial.lineage.parent is None else trial.lineage.parent


def _member(trial: TrialView) -> int:
    return -1 if trial.lineage is None else trial.lineage.member


def _end(trial: TrialView) -> int:
    return 0 if trial.lineage is None else trial.lineage.end
