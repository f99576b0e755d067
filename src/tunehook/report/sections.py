"""The sections of a report, each of them made from the picture of a study."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import tunehook
from tunehook.figures import (
    Figure,
    StudyView,
    TrialView,
    causes,
    contour,
    curves,
    fronts,
    history,
    importance,
    lineage,
    marks,
    parallel,
    schedule,
    shown_value,
    slices,
    tensors,
    timeline,
    weights,
)
from tunehook.report import parts
from tunehook.snapshot import layer_of
from tunehook.system import clock
from tunehook.trial import FORMATS

_TENSORS = 60  # histograms of a trial
_SNAPSHOTS = 2_500_000  # characters that the snapshots of all trials take, about


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: Names it within the page.
        title: Its heading.
        content: Its HTML.
        figures: The figures in it.
    """

    name: str
    title: str
    content: str
    figures: Sequence[Figure] = field(default_factory=tuple)


def sections(view: StudyView) -> list[Section]:
    """All sections that have something to show, in the order of the page."""
    made = [make(view) for make in _SECTIONS]
    return [one for one in made if one is not None]


def study_figures(view: StudyView) -> list[Figure]:
    """The figures of the study as a whole, those of single trials left out."""
    made = [make(view) for make in (search, values, time)]
    return [figure for section in made if section is not None for figure in section.figures]


_FORMS = {"yaml": "As YAML", "hydra": "For Hydra, in a shell", "arguments": "As arguments, in a shell"}


def best(view: StudyView) -> Section:
    """The best trial, and how it was found."""
    trial = view.best_trial
    ended = [one.ended or one.began for one in view.trials]
    began = [one.began for one in view.trials if one.began is not None]
    took = max((one for one in ended if one is not None), default=0.0) - min(began, default=0.0)
    states = ", ".join(f"{many} {state}" for state, many in _counts(view.trials))
    of = f" of {view.wanted}" if view.wanted is not None else ""
    common = [("trials" + of, str(len(view.trials))), ("from the first begin to the last end", clock(took))]
    if view.front:
        return Section("best", "Best trials", parts.tiles(common) + _front(view, states))
    if trial is None:
        told = "<p>No trial is complete yet, so there is no best one.</p>"
        return Section("best", "Best trial", parts.tiles(common) + told + f"<p>{parts.text(states)}</p>")
    top = [
        (f"{view.metric}, the {'smaller' if view.mode == 'min' else 'larger'} the better", shown_value(trial.value)),
        (f"the best one; {states}", f"trial {trial.number}"),
        *common,
    ]
    content = (
        parts.tiles(top)
        + f"<p>{parts.text(_how(view, trial))} "
        + f'<button type="button" data-choose="{trial.number}">Select it in all figures</button></p>'
        + '<div class="two"><div>' + parts.pairs(trial.params, caption="Its hyperparameters") + "</div><div>"
        + parts.code("best-python", "As Python", FORMATS["python"](trial.params))
        + parts.folded("As YAML, for Hydra, as arguments", "".join(
            parts.code(f"best-{form}", title, FORMATS[form](trial.params)) for form, title in _FORMS.items()
        ))
        + "".join(f"<p>record: <code>{parts.text(one)}</code></p>" for one in view.records) + "</div></div>"
    )  # fmt: skip
    return Section("best", "Best trial", content)


def _front(view: StudyView, states: str) -> str:
    """The trials that no other one beats, each with its values."""
    metrics = [view.metric, *view.others]
    names = [name for name in view.space.names if any(name in one.params for one in view.front_trials)]
    rows = [
        (f"trial {one.number}", *(shown_value(one.values.get(name)) for name in metrics),
         *(repr(one.params[name]) if name in one.params else "" for name in names)) for one in view.front_trials
    ]  # fmt: skip
    return (
        f"<p>{parts.text(states)}. {len(rows)} of the complete trials are beaten by no other one: none is as good in "
        "every metric and better in one.</p>"
        + parts.table(("on the front", *metrics, *names), rows, caption="The Pareto front")
    )


def _how(view: StudyView, trial: TrialView) -> str:
    source = "Its values were enqueued" if trial.is_given else "The search proposed it"
    again = f", in attempt {trial.attempt + 1} of the same values" if trial.attempt else ""
    at = f" at report {trial.outcome.step}" if trial.outcome.step is not None else ""
    took = f" after {clock(trial.seconds)} of training" if trial.seconds is not None else ""
    before = [value for number, value in view.best_so_far if number != trial.number]
    better = f" The best one before it had {shown_value(before[-1])}." if before else ""
    steps = len(view.best_so_far)
    turns = f" {steps} trials in turn were the best so far." if steps > 1 else ""
    intervals = len(schedule(view))
    course = (
        f" It is the last of {intervals} intervals of training, whose values changed: the lineage below has them all, "
        "and study.schedule() too."
        if intervals > 1
        else ""
    )
    return (
        f"{source}{again}, as trial {trial.number} of {len(view.trials)}. It reached {view.metric} "
        f"{shown_value(trial.value)}{at}{took}.{better}{turns}{course}"
    )


def search(view: StudyView) -> Section | None:
    """How the search went."""
    return _of_figures("search", "The search", [*fronts(view), history(view), curves(view), lineage(view)])


def values(view: StudyView) -> Section | None:
    """What the value depends on."""
    shown = [parallel(view), importance(view), contour(view)]
    each = slices(view)
    made = _of_figures("values", "What the value depends on", shown)
    if made is None or not each:
        return made
    grid = '<div class="two">' + "".join(map(parts.drawing, each)) + "</div>"
    return Section(made.name, made.title, made.content + grid, [*made.figures, *each])


def time(view: StudyView) -> Section | None:
    """When and where the trials ran."""
    return _of_figures("time", "When and where", [timeline(view)])


def trials(view: StudyView) -> Section:
    """The table of all trials, which the page's script fills."""
    states = "".join(f'<option value="{state}">{state} ({many})</option>' for state, many in _counts(view.trials))
    content = (
        '<div class="tools" role="search"><label>Search<input id="find" type="search" '
        'placeholder="words, all of them"></label><label>State<select id="state"><option value="">all</option>'
        f'{states}</select></label><button type="button" id="clear" hidden>Clear the selection</button></div>'
        '<p class="lead" id="found" role="status"></p>'
        '<div class="tall" tabindex="0" role="region" aria-label="Trials"><table id="trials-table">'
        '<thead><tr id="heads"></tr></thead><tbody id="rows"></tbody></table></div>'
        '<p><button type="button" id="more" hidden>Show more</button></p>'
        '<div id="selected" hidden><h3>Selected trials</h3><div class="scroll" tabindex="0" role="region" '
        'aria-label="Selected trials"><table><tbody id="selected-table"></tbody></table></div></div>'
        '<p class="lead" id="said" role="status"></p>'
        "<noscript><p>The figures and this table need JavaScript.</p></noscript>"
    )
    return Section("trials", "Trials", content)


def failures(view: StudyView) -> Section | None:
    """The trials that gave nothing, by their causes."""
    found = causes(view)
    if not found:
        return None
    rows = []
    for state, cause, members in found:
        numbers = ", ".join(str(one.number) for one in members[:20]) + (", …" if len(members) > 20 else "")
        told = next((one.outcome.traceback for one in members if one.outcome.traceback), None)
        first = parts.folded("A traceback", f"<pre>{parts.lines(told)}</pre>") if told else ""
        rows.append(
            f'<tr><th scope="row"><span class="{state}">{state}</span></th><td class="number">{len(members)}</td>'
            f"<td>{parts.text(cause) or 'no reason'}{first}</td><td>{numbers}</td></tr>"
        )
    content = (
        '<div class="scroll" tabindex="0" role="region" aria-label="Failures by cause"><table><thead><tr>'
        '<th scope="col">ended</th><th scope="col" class="number">trials</th><th scope="col">cause</th>'
        f'<th scope="col">which</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
    return Section("failures", "Failures by cause", content)


def parameters(view: StudyView) -> Section | None:
    """What the parameters of the chosen trials did."""
    blocks, shown, room, left_out = [], list[Figure](), float(_SNAPSHOTS), 0
    options = []
    for number, taken in view.snapshots.items():
        made, content = _weights(number, taken)
        needed = len(parts.embedded([[one.data, one.layout] for one in made]))
        if needed > room and shown:
            left_out += 1
            continue
        room -= needed
        shown += made
        options.append(f'<option value="{number}">trial {number}{" (best)" if number == view.best else ""}</option>')
        blocks.append(f'<div data-snapshots="{number}" hidden>{content}</div>')
    if not blocks:
        return None
    told = f"<p>There was no room for {left_out} further trials: name them with --trial.</p>" if left_out else ""
    head = f'<div class="tools"><label>Trial<select id="snapshot-trial">{"".join(options)}</select></label></div>'
    return Section("parameters", "Parameters while they trained", head + told + "".join(blocks), shown)


def _weights(number: int, taken: Sequence[Any]) -> tuple[list[Figure], str]:
    over, histograms = weights(number, taken), tensors(number, taken, most=_TENSORS)
    marked = marks(taken)
    told = (
        parts.table(("layer", "mark", "what was seen"), [(one.layer, one.kind, one.why) for one in marked],
                    caption=f"Layers of trial {number} that explode or are dead")
        if marked
        else f"<p>No layer of trial {number} explodes or is dead, by its {len(taken)} snapshots.</p>"
    )  # fmt: skip
    grid = '<div class="two">' + "".join(map(parts.drawing, over)) + "</div>"
    bad = {one.layer: one.kind for one in marked}
    choices = "".join(
        f'<option value="{at}">{parts.text(name)}{_marked(name, bad)}</option>'
        for at, (name, _) in enumerate(histograms)
    )
    chooser = (
        f'<div class="tools"><label>Histogram of<select id="tensor-{number}" data-tensors>{choices}</select>'
        "</label></div>"
        if histograms
        else ""
    )
    heats = "".join(
        parts.drawing(one, attributes=f'data-tensor="{number}-{at}" hidden') for at, (_, one) in enumerate(histograms)
    )
    return [*over, *(one for _, one in histograms)], told + grid + chooser + heats


def _marked(name: str, bad: dict[str, str]) -> str:
    kind = bad.get(layer_of(name))
    return f" ({kind})" if kind else ""


def configuration(view: StudyView) -> Section | None:
    """What was in force in the best trial, to copy."""
    if not view.effective:
        return None
    content = parts.code(
        "effective", f"What was in force in trial {view.best}, by slot, as YAML", FORMATS["yaml"](view.effective)
    )
    return Section("configuration", "Effective configuration", content)


def environment(view: StudyView) -> Section:
    """Where the trials ran, and what made the report."""
    hosts = sorted({one.host for one in view.trials if one.host})
    rows = [
        ("machines of the trials", ", ".join(hosts) or "not known here"),
        *((f"{name}, in trial {view.best}", version) for name, version in view.versions.items()),
        ("report made", datetime.now(UTC).isoformat(" ", timespec="seconds").replace("+00:00", " UTC")),
        ("report made with", f"tunehook {tunehook.__version__}, Python {platform.python_version()}"),
    ]
    space = parts.pairs(view.space, caption="The space", head=("hyperparameter", "distribution"))
    return Section("environment", "Space and environment", space + parts.table(("what", "which"), rows,
                   caption="Environment"))  # fmt: skip


def _of_figures(name: str, title: str, shown: Iterable[Figure | None]) -> Section | None:
    found = [one for one in shown if one is not None]
    return Section(name, title, "".join(map(parts.drawing, found)), found) if found else None


def _counts(seen: Sequence[TrialView]) -> list[tuple[str, int]]:
    found: dict[str, int] = {}
    for one in seen:
        found[one.state] = found.get(one.state, 0) + 1
    return sorted(found.items(), key=lambda one: -one[1])


# In the order of the page.
_SECTIONS: tuple[Callable[[StudyView], Section | None], ...] = (
    best, search, values, time, trials, failures, parameters, configuration, environment,
)  # fmt: skip
