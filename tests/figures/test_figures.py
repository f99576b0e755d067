"""The figures as plain data: the user's own values, options in their order, and what is wrong with layers."""

from __future__ import annotations

import json
import math
import re
from typing import Any, get_args

import numpy as np
import pytest

import tunehook as th
from tunehook import figures
from tunehook.figures import Curve, StudyView, TrialView
from tunehook.figures.figure import SYMBOLS, axis, label, log_axis, place, shares
from tunehook.snapshot import Snapshot, Snapshots
from tunehook.trial import Lineage, Outcome, State

SPACE = th.Space({
    "lr": th.LogNormal(-7, 2), "scale": th.Normal(0, 1), "size": th.Choice([128, 32, None]), "n": th.Int(1, 9, step=2),
    "fixed": 3,
})  # fmt: skip


def view(states: list[State], *, mode: Any = "max", values: list[float | None] | None = None) -> StudyView:
    """A study whose trials ended so, one after the other on one machine."""
    trials = [
        TrialView(
            number,
            {"lr": 10.0 ** -(number % 5), "scale": number - 3.0, "size": [128, 32, None][number % 3], "n": 1},
            Outcome(state, f"process {number} is gone" if state == "failed" else "",
                    values[number] if values else float(number)),
            began=100.0 * number, ended=100.0 * number + 50, host="here",
            curves={"acc": Curve([1, 2], [0.5, math.nan])},
        )
        for number, state in enumerate(states)
    ]  # fmt: skip
    return StudyView("s", "acc", mode, SPACE, trials, best=None)


BRANCHES = th.Space({
    "opt": th.Choice({"sgd": {"momentum": th.Float(0, 1), "lr": th.Float(0.1, 1)},
                      "adam": {"lr": th.Float(1e-4, 1e-2, log=True)}}),
    "n": th.Choice([1, None]),
})  # fmt: skip
ALL = (figures.history, figures.curves, figures.parallel, figures.importance, figures.contour, figures.timeline)


def test_values_are_the_users_own() -> None:
    """Normal ones are no probabilities, options stand in their order, and what is fixed is on no axis."""
    seen = view(["complete"] * 6)
    slices = {one.title: one for one in figures.slices(seen)}
    assert list(slices) == ["lr", "scale", "size", "n"]
    assert slices["scale"].data[0]["x"] == [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0]
    assert slices["lr"].data[0]["x"][:3] == [1.0, 0.1, 0.01]
    assert slices["lr"].layout["xaxis"]["type"] == "log"
    assert slices["size"].layout["xaxis"]["ticktext"] == ["128", "32", "None"]
    assert [round(one) for one in slices["size"].data[0]["x"]] == [0, 1, 2, 0, 1, 2]
    assert [place(SPACE["size"], one) for one in (None, 128, "x")] == [2.0, 0.0, None]


def test_figures_are_json_without_nan() -> None:
    """Whatever was measured; NaN has no place in a figure."""
    states: list[State] = ["complete", "pruned", "infeasible", "failed", "interrupted", "running", "complete"]
    seen = view(states, values=[1.0, 2.0, math.inf, None, None, 0.5, math.nan])
    for one in (*(make(seen) for make in ALL), *figures.slices(seen)):
        if one is not None:
            json.dumps([one.data, one.layout], allow_nan=False)


@pytest.mark.parametrize("states", [[], ["failed"], ["running"], ["complete"]])
def test_there_is_nothing_to_draw(states: list[State]) -> None:
    """No figure of hyperparameters before three trials have a value, and none at all without trials."""
    seen = view(states)
    assert figures.parallel(seen) is figures.contour(seen) is figures.importance(seen) is None
    assert figures.slices(seen) == []
    assert (figures.timeline(seen) is None) == (not states)


@pytest.mark.parametrize(("mode", "best"), [("max", [(0, 1.0), (2, 3.0)]), ("min", [(0, 1.0), (3, 0.5)])])
def test_the_best_so_far(mode: str, best: list[tuple[int, float]]) -> None:
    """Of complete trials, in the order of their numbers; equal ones are no better."""
    seen = view(["complete", "pruned", "complete", "complete"], mode=mode, values=[1.0, 9.0, 3.0, 0.5])
    assert seen.best_so_far == best
    shown = figures.history(seen)
    assert shown is not None
    line = shown.data[-1]
    assert [*zip(line["x"], line["y"], strict=True)][: len(best)] == best
    assert line["x"][-1] == 3  # it goes on to the last trial


def test_a_line_of_a_trial_is_found_in_its_trace() -> None:
    """The curves of a state are one trace with gaps, and its spans say which part is which trial."""
    shown = figures.curves(view(["complete", "failed", "complete"]))
    assert shown is not None
    (trace,) = [one for one in shown.data if one["name"] == "complete"]
    assert trace["x"] == [1, 2, None, 1, 2, None]
    assert trace["meta"]["spans"] == [[0, 0, 2], [2, 3, 5]]


def test_each_state_has_its_look() -> None:
    """A color and a symbol of its own in figures, also for trials that paused or are known, which no timeline has."""
    states: tuple[State, ...] = get_args(State)
    assert len({*figures.COLORS.values()}) == len({*SYMBOLS.values()}) == len(states)
    seen = view(list(states), values=[1.0] * len(states))
    shown = {one.name: [trace.get("name") for trace in one.data] for make in ALL if (one := make(seen)) is not None}
    assert shown["history"] == shown["curves"] + ["best so far"] == [*states, "best so far"]
    assert shown["timeline"] == [one for one in states if one != "known"]
    assert "A known trial comes from elsewhere" in (figures.history(seen) or figures.slices(seen)[0]).note
    assert {one["customdata"][0] for one in figures.slices(seen)[0].data} == {
        states.index(one) for one in ("complete", "paused", "pruned", "known")
    }


def test_what_stands_in_a_branch() -> None:
    """Trials have only values of their branch, a name of two branches two axes, and pairs are of what meets."""
    params = [
        {"opt": "sgd", "momentum": at / 10, "lr": 0.5, "n": None} if at % 2 else {"opt": "adam", "lr": 1e-3, "n": 1}
        for at in range(8)
    ]
    trials = [TrialView(at, one, Outcome("complete", value=float(at))) for at, one in enumerate(params)]
    seen = StudyView("s", "acc", "max", BRANCHES, trials, importance={"momentum": 0.6, "lr": 0.4})
    slices = {one.title: one.data[0] for one in figures.slices(seen)}
    assert list(slices) == ["momentum", "lr[opt='sgd']", "lr[opt='adam']", "opt", "n"]
    assert slices["momentum"]["customdata"] == slices["lr[opt='sgd']"]["customdata"] == [1, 3, 5, 7]
    assert slices["lr[opt='adam']"]["customdata"] == [0, 2, 4, 6]
    assert len({one.name for one in figures.slices(seen)}) == 5
    assert all(re.fullmatch(r"[\w.-]+", one.name) for one in figures.slices(seen))
    lines, pair, weight = figures.parallel(seen), figures.contour(seen, "lr[opt='adam']"), figures.importance(seen)
    assert lines is not None
    assert pair is not None
    assert weight is not None
    columns = dict(zip(["n", "opt", "lr[opt='adam']", "lr[opt='sgd']", "momentum"], zip(*(
        trace["y"][first:end] for trace in lines.data for _, first, end in trace["meta"]["spans"]), strict=True),
        strict=False))  # fmt: skip
    assert columns["momentum"].count(None) == columns["lr[opt='adam']"].count(None) == 4
    assert pair.title == "lr[opt='adam'] and opt"  # with what it is together at all
    assert [name for name, _ in weight.rows] == ["momentum", "lr"]


def test_the_ends_of_numbers() -> None:
    """What is farther apart than a number goes, next to nothing, or all the same, has its figures too."""
    for values in ([-1.7e308, 0.0, 1.7e308], [0.0, 5e-324, 0.0], [3.0] * 3):
        seen = view(["complete"] * 3, values=list(values))
        made = [one for make in ALL if (one := make(seen)) is not None]
        json.dumps([[one.data, one.layout] for one in [*made, *figures.slices(seen)]], allow_nan=False)
        assert "contour" in [one.name for one in made]


def test_causes_differ_in_more_than_numbers() -> None:
    """Process ids make no causes; the most frequent cause comes first."""
    found = figures.causes(view(["infeasible", "failed", "complete", "failed"]))
    assert [(state, cause, [one.number for one in trials]) for state, cause, trials in found] == [
        ("failed", "process 1 is gone", [1, 3]), ("infeasible", "", [0]),
    ]  # fmt: skip


def test_trials_side_by_side_have_places_of_their_own() -> None:
    """A place has one trial at a time, and the next trial takes the first one that is free."""
    times = [(0, 10), (1, 5), (5, 8), (10, 12)]
    trials = [
        TrialView(at, {}, Outcome("complete"), began=float(begin), ended=float(end), host="m")
        for at, (begin, end) in enumerate(times)
    ]
    shown = figures.timeline(StudyView("s", "acc", "max", SPACE, trials))
    assert shown is not None
    assert shown.data[0]["y"] == ["m · 1", "m · 2", "m · 2", "m · 1"]
    assert shown.rows == [("m · 1", "2", "100%"), ("m · 2", "2", "58%")]


def test_an_axis() -> None:
    """Powers of ten, with 2 and 5 where they are few; shares go from 0 to 1, on the logarithm where the axis has it."""
    assert log_axis(16, 256)["ticktext"] == ["10", "20", "50", "100", "200", "500", "1e3", "2e3", "5e3"]
    assert log_axis(1e-5, 1e-1)["ticktext"] == ["1e-5", "1e-4", "1e-3", "0.01", "0.1"]
    assert shares(th.Float(1e-4, 1, log=True), [1e-4, None, 1e-2, 1.0]) == pytest.approx([0.0, None, 0.5, 1.0])
    assert shares(th.Float(0, 1), [0.5, 0.5]) == [0.5, 0.5]
    assert axis("x", th.Float(0, 1)).get("type") is None


def test_a_label_is_no_markup() -> None:
    """Plotly reads tags and entities in texts; the ends of lines and what turns letters around are escaped."""
    assert label("<b>&amp;\n\u202e") == "&lt;b&gt;&amp;amp;\\n\\u202e"
    assert len(label("x" * 10_000)) == 40


# ------------------------------------------------------------------ parameters


def taken(*steps: dict[str, Any], gradients: list[dict[str, Any]] | None = None) -> list[Snapshot]:
    """Snapshots of arrays, one after the other."""
    taker = Snapshots()

    def made(arrays: dict[str, Any]) -> dict[str, Any]:
        return {name: np.asarray(one, dtype=float) for name, one in arrays.items()}

    return [
        taker.take(at, made(arrays), None if gradients is None else made(gradients[at]))
        for at, arrays in enumerate(steps)
    ]


@pytest.mark.parametrize(
    ("steps", "gradients", "marks"),
    [
        ([{"a.w": [1.0]}, {"a.w": [1.001]}], None, []),
        ([{"a.w": [1.0]}, {"a.w": [math.nan]}], None, [("a", "exploding", "1 NaN or infinite elements at step 1")]),
        ([{"a.w": [1.0]}, {"a.w": [1.0]}], None, [("a", "dead", "it has not moved between steps 0 and 1")]),
        ([{"a.w": [1.0]}, {"a.w": [11.0]}], None, [("a", "exploding", "the norm of a.w grew from 1 to 11")]),
        (
            [{"a.w": [1.0]}, {"a.w": [1.5]}],
            None,
            [("a", "exploding", "updates of 33% of the weights a step before step 1")],
        ),
        (
            [{"a.w": [1.0], "b.w": [1.0]}, {"a.w": [1.001], "b.w": [1.001]}],
            [{"a.w": [1.0], "b.w": [1.0]}, {"a.w": [0.0], "b.w": [1.0]}],
            [("a", "dead", "all gradients are zero at step 1")],
        ),
        (
            [{"a.b": [0.0]}, {"a.b": [0.5]}],
            None,
            [("a", "exploding", "updates of 100% of the weights a step before step 1")],
        ),
    ],
)
def test_layers_are_marked(
    steps: list[dict[str, Any]], gradients: list[dict[str, Any]] | None, marks: list[tuple[str, str, str]]
) -> None:
    """What explodes or is dead, with what was seen."""
    found = figures.marks(taken(*steps, gradients=gradients))
    assert [(one.layer, one.kind, one.why) for one in found] == marks


def test_histograms_over_steps() -> None:
    """Each column is the share of the elements in percent, whatever range its snapshot had."""
    snapshots = taken({"a.w": [0.0, 1.0]}, {"a.w": [0.0, 10.0, 10.0, 10.0]}, {"a.w": [5.0]})
    ((name, heat),) = figures.tensors(0, snapshots, most=9)
    assert name == "a.w"
    columns = [*zip(*heat.data[0]["z"], strict=True)]
    assert [pytest.approx(100, abs=0.5) for _ in columns] == [sum(column) for column in columns]
    assert (columns[1][0], columns[1][-1]) == (25.0, 75.0)


def test_the_figures_of_parameters() -> None:
    """Norms and ratios by layer, and gradients only where there are some."""
    snapshots = taken({"a.w": [3.0], "a.b": [4.0]}, {"a.w": [3.0], "a.b": [4.0]})
    norms, ratios = figures.weights(7, snapshots)
    assert norms.data[0]["y"] == [5.0, 5.0]
    assert ratios.data[0]["y"] == [None, None]  # zero has no place on a logarithmic axis
    assert figures.weights(7, []) == []


# ------------------------------------------------------------------ several metrics, and populations


def test_the_front() -> None:
    """The first metric over each other one, the front marked and as a table; nothing is the best so far."""
    values = [
        {"acc": 0.9, "ms": 5.0, "mb": 1.0},
        {"acc": 0.5, "ms": 1.0, "mb": 9.0},
        {"acc": 0.4, "ms": 2.0, "mb": 9.0},
    ]
    trials = [TrialView(at, {}, Outcome("complete", value=one["acc"]), values=one) for at, one in enumerate(values)]
    trials += [TrialView(3, {}, Outcome("failed")), TrialView(4, {}, Outcome("running", value=0.1))]
    seen = StudyView("s", "acc", "max", SPACE, trials, others={"ms": "min", "mb": "min"}, front=[0, 1])
    found = figures.fronts(seen)
    assert [one.title for one in found] == ["acc and ms", "acc and mb"]
    assert [(one.data[0]["customdata"], one.data[-1]["name"]) for one in found] == [([0, 1, 2], "front")] * 2
    assert (found[0].data[-1]["x"], found[0].data[-1]["y"]) == ([1.0, 5.0], [0.5, 0.9])
    assert found[0].rows == [("1", "0.5", "1", "9"), ("0", "0.9", "5", "1")]
    shown = figures.history(seen)
    assert shown is not None
    assert [trace["name"] for trace in shown.data] == ["running", "complete"]
    assert figures.fronts(view(["complete"])) == []


def test_the_lineage_of_a_population() -> None:
    """Lines from each interval to those that go on with it, the schedule that won among them, and as a table."""
    places = [(0, 0, None, 0.3), (1, 0, None, 0.1), (0, 1, 0, 0.5), (1, 1, 0, 0.8), (0, 2, 2, math.nan)]
    trials = [
        TrialView(
            at, {"n": 1 + 2 * at}, Outcome("complete", value=value), lineage=Lineage(member, generation, 4, parent)
        )
        for at, (member, generation, parent, value) in enumerate(places)
    ]
    shown = figures.lineage(StudyView("s", "acc", "max", SPACE, trials, best=3))
    assert shown is not None
    goes_on, copies, won, dots = shown.data
    assert (goes_on["x"], goes_on["y"]) == ([4, 8, None], [0.3, 0.5, None])
    assert (copies["x"], copies["y"]) == (won["x"], won["y"]) == ([4, 8, None], [0.3, 0.8, None])
    assert dots["customdata"] == [0, 1, 2, 3]
    assert (shown.head, shown.rows) == (
        ("up to epoch", "trial", "member", "acc", "n"), [("4", "0", "0", "0.3", "1"), ("8", "3", "1", "0.8", "7")]
    )  # fmt: skip
    assert figures.lineage(view(["complete"])) is None
