"""Looking at a study from outside: how far it is, what runs, how long it takes."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tunehook.progress import clock, short
from tunehook.record import read_journal
from tunehook.study import Study
from tunehook.trial import FinishedTrial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_LAST = 20  # so many finished trials say how long one takes
_TAIL = 65536  # bytes of the end of a journal, in which its last measurement stands


@dataclass(frozen=True)
class Running:
    """A trial that trains now.

    Attributes:
        number: Its number.
        params: Its values.
        step: Its last step, ``None`` before the first.
        value: The metric there.
        seconds: How long it has been running.
    """

    number: int
    params: dict[str, Any]
    step: int | None
    value: float | None
    seconds: float | None


@dataclass(frozen=True)
class Best:
    """The best complete trial.

    Attributes:
        number: Its number.
        value: Its objective.
        params: Its values.
        records: Where its record lies.
    """

    number: int
    value: float
    params: dict[str, Any]
    records: list[str]


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        study: Its name.
        metric: The metric that is tuned.
        mode: ``"min"`` or ``"max"``.
        counts: Number of trials by state.
        finished: How many count: complete, pruned and infeasible ones.
        wanted: How many there shall be, ``None`` where it is not known.
        best: The best one.
        running: Those that train now.
        seconds_a_trial: Median of the last ones, ``None`` before the first has ended.
        seconds_left: Until there are as many as wanted, where that is known and something runs.
    """

    study: str
    metric: str
    mode: str
    counts: dict[str, int]
    finished: int
    wanted: int | None
    best: Best | None
    running: list[Running] = field(default_factory=list)
    seconds_a_trial: float | None = None
    seconds_left: float | None = None

    @property
    def is_done(self) -> bool:
        """Whether there are as many trials as wanted, and none runs."""
        return self.wanted is not None and self.finished >= self.wanted and not self.running


def best_of(study: Study) -> Best:
    """The best complete trial.

    Raises:
        StudyError: There is none.
    """
    return _named(study, study.best)


def _named(study: Study, found: FinishedTrial) -> Best:
    return Best(found.number, float(found.value or 0.0), dict(found.params), study.records(found.number))


def status_of(study: Study) -> Status:
    """How far a study is now, from its storage and the journals that can be read here."""
    trials = study.trials
    frozen = {one.number: one for one in study.optuna.get_trials(deepcopy=False)}
    counts: dict[str, int] = dict(Counter(trial.outcome.state for trial in trials))
    finished, wanted = sum(counts.get(state, 0) for state in ("complete", "pruned", "infeasible")), study.wanted
    complete = [trial for trial in trials if trial.outcome.state == "complete" and trial.value is not None]
    pick = min if study.mode == "min" else max
    best = _named(study, pick(complete, key=lambda trial: trial.value or 0.0)) if complete else None
    running = [
        _running(study, frozen[trial.number], dict(trial.params)) for trial in trials
        if trial.outcome.state == "running"
    ]  # fmt: skip
    took = [
        (one.datetime_complete - one.datetime_start).total_seconds()
        for one in frozen.values()
        if one.state.name in ("COMPLETE", "PRUNED") and one.datetime_complete and one.datetime_start
    ][-_LAST:]
    each = statistics.median(took) if took else None
    left = None
    if each is not None and wanted is not None and (running or finished >= wanted):
        left = max(0, wanted - finished) * each / max(1, len(running))
    return Status(
        study.name, study.metric, study.mode, counts, finished, wanted,
        best, running, each, left,
    )  # fmt: skip


def _running(study: Study, frozen: FrozenTrial, params: dict[str, Any]) -> Running:
    step, value = max(frozen.intermediate_values.items(), default=(None, None))
    path = study.paths.journal(frozen.number)
    # The journal is further on where the storage is away; a trial of another machine may have none here.
    if path.is_file():
        for event in read_journal(path, tail=_TAIL):
            told = event.get("metrics", {}).get(study.metric) if event["event"] == "report" else None
            if told is not None and event["step"] >= (step or 0):
                step, value = event["step"], float(told)
    began = frozen.datetime_start
    seconds = None if began is None else max(0.0, (datetime.now() - began).total_seconds())
    return Running(frozen.number, params, step, value, seconds)


def lines(status: Status) -> list[str]:
    """The status for people, in lines."""
    of = f" of {status.wanted}" if status.wanted is not None else ""
    counted = ", ".join(f"{number} {state}" for state, number in status.counts.items()) or "none"
    told = [f"study {status.study}: {status.finished}{of} trials finished ({counted})"]
    if status.best is not None:
        told.append(f"best {status.metric} {short(status.best.value)}, trial {status.best.number}: "
                    f"{_values(status.best.params)}")  # fmt: skip
    told += [
        f"trial {one.number} runs"
        + (f" at step {one.step}, {status.metric} {short(one.value)}" if one.step is not None else "")
        + (f", for {clock(one.seconds)}" if one.seconds is not None else "")
        + f": {_values(one.params)}"
        for one in status.running
    ]
    if status.seconds_a_trial is not None:
        left = "" if status.seconds_left is None else f", {clock(status.seconds_left)} left"
        told.append(f"{status.seconds_a_trial:.1f} s a trial{left}")
    return told


def table(status: Status) -> Group:
    """The status for a terminal."""
    first, *rest = lines(status)
    running = Table(title=Text(first), title_justify="left", expand=False)
    names = list(status.running[0].params) if status.running else []
    for name in ("trial", *names, status.metric, "step", "time"):
        running.add_column(Text(name), justify="right", overflow="ellipsis", max_width=20)
    for one in status.running:
        running.add_row(
            str(one.number), *(Text(short(one.params[name])) for name in names), short(one.value), short(one.step),
            "-" if one.seconds is None else clock(one.seconds),
        )  # fmt: skip
    # Text throughout: rich would read [...] in names and values as markup.
    return Group(running, *(Text(line) for line in rest if not line.startswith("trial ")))


def _values(params: dict[str, Any]) -> str:
    return " ".join(f"{name}={short(value)}" for name, value in params.items())
