"""Trials for a terminal: all of them in a table, and one of them whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.cells import cell_len

from tunehook.figures import StudyView, causes
from tunehook.report.bars import sparkline
from tunehook.study import Study
from tunehook.system import clock, did_you_mean, first_line, near, printable, short, shortened
from tunehook.trial import State, StudyError, told_counts

if TYPE_CHECKING:
    from tunehook.figures import TrialView

_NUMBERS = 12  # of trials in a line
_LONGEST = 20  # characters of a name or value in the table


def chosen_trials(view: StudyView, *, sort: str, state: str | None, best: int | None) -> list[dict[str, Any]]:
    """Trials as plain rows, in an order.

    Args:
        view: The study.
        sort: ``trial``, ``value``, ``state``, ``seconds`` or a name of the space; with ``-`` before it the other way.
        state: Only those of this state.
        best: Only so many, the best ones first.

    Raises:
        StudyError: The order or the state is none; the message names those that there are.
    """
    rows = [_row(trial) for trial in view.trials]
    name, is_down = sort.removeprefix("-"), sort.startswith("-")
    orders = ["trial", "value", "state", "seconds", *view.others, *view.space.names]
    if name not in orders:
        raise StudyError(f"--sort {name} is none of {', '.join(orders)}.{did_you_mean(near(name, orders, most=1))}")
    if state is not None and state not in get_args(State):
        raise StudyError(f"--state {state} is none of {', '.join(get_args(State))}.")
    kept = [row for row in rows if state is None or row["state"] == state]
    if best is not None:
        if view.others:
            first = f"{'-' if view.mode == 'max' else ''}value"
            raise StudyError(
                f"Study '{view.name}' has {1 + len(view.others)} metrics, so --best has no order: those that no other "
                f"one beats are what `tunehook best {view.name}` shows, and --sort {first} sorts by {view.metric}."
            )
        complete = [row for row in kept if row["value"] is not None and row["state"] in ("complete", "pruned")]
        return sorted(complete, key=lambda row: row["value"], reverse=view.mode == "max")[:best]
    return _sorted(kept, name, is_down=is_down)


def _sorted(rows: list[dict[str, Any]], name: str, *, is_down: bool) -> list[dict[str, Any]]:
    """Rows in the order of a column; those without a value come last, either way."""

    def at(row: dict[str, Any]) -> Any:
        if name in ("trial", "value", "state", "seconds"):
            return row[name]
        return row["values"][name] if name in row["values"] else row["params"].get(name)

    there, missing = [row for row in rows if at(row) is not None], [row for row in rows if at(row) is None]
    is_number = all(isinstance(at(row), int | float) for row in there)
    return sorted(there, key=at if is_number else lambda row: str(at(row)), reverse=is_down) + missing


def _row(trial: TrialView) -> dict[str, Any]:
    return {
        "trial": trial.number, "state": trial.state, "value": trial.value, "step": trial.outcome.step,
        "seconds": None if trial.seconds is None else round(trial.seconds, 1), "reason": trial.outcome.reason,
        "params": dict(trial.params), "values": dict(trial.values), "lineage": _lineage(trial),
    }  # fmt: skip


def _lineage(trial: TrialView) -> dict[str, Any] | None:
    return None if trial.lineage is None else trial.lineage.describe()


def trials_table(view: StudyView, rows: Sequence[dict[str, Any]], *, width: int | None) -> list[str]:
    """The trials in aligned columns, a line each.

    The live table is made for few rows: of 2,000 it takes seconds.

    Args:
        view: The study.
        rows: Trials from `chosen_trials`.
        width: Columns of the terminal, for which hyperparameters are left out from the right; ``None`` for any width.
    """
    brief, best = shortened(view.space.names), [*view.front, view.best]
    place = ["member", "parent"] if any(row["lineage"] for row in rows) else []
    heads = ["trial", "state", *map(_cut, [view.metric, *view.others]), "step", "time", *place,
             *(_cut(brief[name]) for name in view.space.names)]  # fmt: skip
    cells = [
        [f"{row['trial']}{'*' if row['trial'] in best else ''}", row["state"], short(row["value"]),
         *(short(row["values"].get(name)) for name in view.others),
         short(row["step"]), "-" if row["seconds"] is None else clock(row["seconds"]),
         *(short((row["lineage"] or {}).get(name)) for name in place),
         *(_cut(short(row["params"].get(name), digits=3)) for name in view.space.names)]
        for row in rows
    ]  # fmt: skip
    columns = [[head, *(line[at] for line in cells)] for at, head in enumerate(heads)]
    wide = [max(map(_width, column)) for column in columns]
    kept = [at for at in range(len(wide)) if width is None or sum(wide[: at + 1]) + 2 * at <= width]
    left_out = len(heads) - len(kept)
    told = [
        "  ".join(_placed(column[row], wide[at], is_left=at == 1) for at, column in enumerate(columns[: len(kept)]))
        for row in range(len(cells) + 1)
    ]
    end = [f"{left_out} hyperparameters are left out, for which the terminal is too narrow"] if left_out else []
    star = "those on the front" if view.others else "the best one"
    return [f"study {view.name}: {len(rows)} of {len(view.trials)} trials; * is {star}", *told, *end]


def _placed(text: str, width: int, *, is_left: bool) -> str:
    room = " " * (width - _width(text))
    return text + room if is_left else room + text


def _width(text: str) -> int:
    """Columns of a text; asking rich of each of thousands costs more than all else of the table."""
    return len(text) if text.isascii() else cell_len(text)


def _cut(text: str) -> str:
    told = printable(text)
    return told if len(told) <= _LONGEST else f"{told[: _LONGEST - 1]}…"


def why_failed(view: StudyView, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each cause for which some of the trials gave nothing."""
    shown = {row["trial"] for row in rows}
    for state, cause, trials in causes(view):
        numbers = [trial.number for trial in trials if trial.number in shown]
        if numbers:
            yield f"{len(numbers)} {state}: {first_line(cause) or 'no reason'} ({_few(numbers)})"


def _few(numbers: Sequence[int]) -> str:
    """Trials by their numbers, the first of them where they are many."""
    more = f" and {len(numbers) - _NUMBERS} more" if numbers[_NUMBERS:] else ""
    return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:_NUMBERS]))}{more}"


def trial_of(study: Study, number: int) -> dict[str, Any]:
    """All that is known of a trial.

    Raises:
        StudyError: There is none of this number.
    """
    found = next((trial for trial in study.look(only=[number]).trials), None)
    if found is None:
        last = max((trial.number for trial in study.trials), default=None)
        there = "it has none yet" if last is None else f"they go from 0 to {last}"
        raise StudyError(f"There is no trial {number} in study '{study.name}': {there}.")
    return {
        "study": study.name, "metric": study.metric, **_row(found), "began": found.began, "epochs": found.epochs,
        "machine": found.host, "attempt": found.attempt, "is_given": found.is_given,
        "metrics": {name: list(zip(curve.steps, curve.values, strict=True)) for name, curve in found.curves.items()},
        "effective": study.effective(number), "records": study.records(number), "traceback": found.outcome.traceback,
    }  # fmt: skip


def trial_lines(found: dict[str, Any]) -> Iterator[str]:
    """A trial for people, in lines."""
    took = "" if found["seconds"] is None else f", {clock(found['seconds'])}"
    where = f" on {found['machine']}" if found["machine"] else ""
    yield f"trial {found['trial']} of study {found['study']}: {found['state']}{took}{where}"
    if found["reason"]:
        yield f"  {first_line(found['reason'])}"
    if found["value"] is not None:
        at = "" if found["step"] is None else f" at step {found['step']}"
        yield f"{found['metric']} {found['value']!r}{at}"
    yield from (f"{name} {value!r}" for name, value in found["values"].items() if name != found["metric"])
    if (lineage := found["lineage"]) is not None:
        before = "" if lineage["parent"] is None else f", goes on with trial {lineage['parent']}"
        yield f"member {lineage['member']} of the population, generation {lineage['generation']}{before}"
    for name, value in found["params"].items():
        yield f"  {name} = {value!r}"
    for name, series in found["metrics"].items():
        values = [value for _, value in series if math.isfinite(value)]
        if values:
            yield f"{name}: {sparkline(values)} {short(values[0])} to {short(values[-1])} in {len(series)} reports"
    others = {path: value for path, value in found["effective"].items() if path not in found["params"]}
    if others:
        yield "in force besides:"
        yield from (f"  {path} = {value!r}" for path, value in others.items())
    yield from (f"record: {place}" for place in found["records"])
    if found["traceback"]:
        yield from found["traceback"].splitlines()


def studies_in(folder: Path) -> list[dict[str, Any]]:
    """The studies in a folder, each with a line for people; one that cannot be opened is a line too."""
    return [_study(path) for path in sorted(folder.glob("*")) if _may_be_study(path)]


def _may_be_study(path: Path) -> bool:
    """Whether a folder is that of a study, as far as one may look into it."""
    try:
        return (path / "study.json").is_file() or (path / "study.db").is_file()
    except PermissionError:
        return True


def _study(path: Path) -> dict[str, Any]:
    try:
        study = Study.open(path.name, folder=path, brief=True)
        standing = study.standing()
    except (StudyError, OSError) as error:
        return {"study": path.name, "error": str(error), "told": f"{path.name}: {first_line(error)}"}
    best = standing.best
    counts: dict[State, int] = standing.counts
    states = told_counts(counts)
    top = f"; best {study.metric} {short(best.value)}, trial {best.number}" if best is not None else ""
    top += f"; front: {_few([one.number for one in standing.front])}" if standing.front else ""
    return {
        "study": study.name, "metric": study.metric, "mode": study.mode, "counts": counts, "folder": str(path),
        "best": None if best is None else {"number": best.number, "value": best.value},
        "front": [{"number": one.number, "values": list(one.values)} for one in standing.front],
        "told": f"{study.name}: {states}{top}",
    }  # fmt: skip
