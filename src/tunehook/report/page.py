"""The report of a study: one HTML file that needs no network and nothing beside it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from tunehook.figures import StudyView, TrialView, script, write_images
from tunehook.report import parts
from tunehook.report.sections import Section, sections, study_figures
from tunehook.study import Study

_CHOICE = 8  # trials whose snapshots are looked at unless some are named: the best ones


def write_report(study: Study, path: Path, *, trials: Sequence[int] = ()) -> Path:
    """Write the report of a study.

    Args:
        study: The study, which is only looked at.
        path: The file. One that is there is replaced, once the new one is whole.
        trials: Numbers of trials whose snapshots are shown beside those of the best ones.

    Returns:
        The file.

    Raises:
        ModuleNotFoundError: Plotly is not installed; the message says what installs it.
        StudyError: A trial does not exist, or the storage cannot be used.
        OSError: The file cannot be written.
    """
    page = make_page(look(study, trials=trials))
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def write_figures(study: Study, folder: Path, form: str) -> list[Path]:
    """Write the figures of a study as images, as `tunehook.figures.write_images` does.

    Args:
        study: The study, which is only looked at.
        folder: Where they are written.
        form: ``"png"``, ``"pdf"`` or ``"svg"``.
    """
    return write_images(study_figures(study.look()), folder, form)


def look(study: Study, *, trials: Sequence[int] = ()) -> StudyView:
    """The picture of a study with all that a report shows."""
    view = study.look()
    complete = [one for one in view.trials if one.state == "complete" and one.value is not None]
    complete = view.front_trials or complete
    ranked = sorted(complete, key=lambda one: (_value(one) * (1 if view.mode == "min" else -1), one.number))
    wanted = dict.fromkeys([*(one.number for one in ranked[:1]), *trials, *(one.number for one in ranked[1:_CHOICE])])
    taken = {number: found for number in wanted if (found := study.snapshots_of(number))}
    view = dataclasses.replace(view, snapshots=taken)
    if view.best is None:
        return view
    return dataclasses.replace(
        view, effective=study.effective(view.best), versions=study.versions(view.best), records=study.records(view.best)
    )


def _value(trial: TrialView) -> float:
    return trial.value if trial.value is not None else math.nan


def make_page(view: StudyView) -> str:
    """The page as text."""
    made = sections(view)
    shown = {one.name: {"data": one.data, "layout": one.layout} for section in made for one in section.figures}
    columns, rows = _table(view)
    data = parts.embedded({"study": view.name, "figures": shown, "columns": columns, "rows": rows})
    scripts = [script(), _asset("page.js")]
    allowed = " ".join(f"'sha256-{_digest(one)}'" for one in scripts)
    links = "".join(f'<li><a href="#{one.name}">{parts.text(one.title)}</a></li>' for one in made)
    title = parts.text(f"{view.name} · tunehook")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src {allowed}; img-src data: blob:; font-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_asset("page.css")}</style>
</head>
<body>
<a class="skip" href="#best">To the best trial</a>
<header>
<div class="top"><div><h1>{parts.text(view.name)}</h1>
<p class="lead">{parts.text(_lead(view))}</p></div>
<button type="button" id="theme" aria-label="Switch between light and dark">Dark</button></div>
<nav aria-label="Sections"><ul>{links}</ul></nav>
</header>
<main>
{"".join(map(_section, made))}
</main>
<footer><p>Made by tunehook from the study's storage and journals. Nothing here is loaded from elsewhere.</p></footer>
<script type="application/json" id="data">{data}</script>
<script>{scripts[0]}</script>
<script>{scripts[1]}</script>
</body>
</html>
"""


def _section(section: Section) -> str:
    return (
        f'<section id="{section.name}" aria-labelledby="{section.name}-head"><h2 id="{section.name}-head">'
        f"{parts.text(section.title)}</h2>{section.content}</section>\n"
    )


def _lead(view: StudyView) -> str:
    aims = ", ".join(f"{name} as {'small' if mode == 'min' else 'large'} as possible"
                     for name, mode in {view.metric: view.mode, **view.others}.items())  # fmt: skip
    return f"{len(view.trials)} trials over {len(view.space.searched)} hyperparameters, {aims}"


def _table(view: StudyView) -> tuple[list[str], list[list[Any]]]:
    """The heads and rows of the table of trials; numbers stay numbers, so that they can be sorted."""
    names, others = view.space.names, list(view.others)
    place = ["member", "from trial"] if any(one.lineage is not None for one in view.trials) else []
    columns = ["trial", "state", view.metric, *others, *place, *names, "seconds", "epochs", "machine", "reason"]
    rows = [
        [one.number, one.state, *map(_cell, [one.value, *map(one.values.get, others), *_place(one)[: len(place)],
                                             *(_option(one, name) for name in names)]),
         None if one.seconds is None else round(one.seconds, 1), one.epochs,
         *map(_cell, [one.host, one.outcome.reason])]
        for one in view.trials
    ]  # fmt: skip
    return [parts.cut(one, most=80) for one in columns], rows


def _place(trial: TrialView) -> tuple[int | None, int | None]:
    """The member of a population, and the trial whose training it goes on with."""
    return (None, None) if trial.lineage is None else (trial.lineage.member, trial.lineage.parent)


def _option(trial: TrialView, name: str) -> Any:
    """A value of a trial; None is one too, as long as the trial has it."""
    value = trial.params.get(name)
    return value if name not in trial.params or isinstance(value, int | float | str) else repr(value)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return None if value is None else str(value)
    if isinstance(value, int | float) and math.isfinite(value):
        return value
    return parts.cut(value, most=300)


def _digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
