"""Looking at a study from outside: how far it is, what runs, how long it takes."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tunehook.record import Report, read_events
from tunehook.report.bars import sparkline
from tunehook.storage import GRACE, is_counted
from tunehook.study import Study
from tunehook.system import clock, printable, short, told_values
from tunehook.trial import FinishedTrial, State, StudyError, count_line, told_counts

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.console import Group

_LAST = 20  # so many finished trials say how long one takes
_TAIL = 65536  # bytes of the end of a journal, in which its last measurement stands
_COURSE = 100  # reports of a running trial
_AROUND = 9  # lines around the rows of a table


@dataclass(frozen=True)
class Running:
    """A trial that trains now.

    Attributes:
        number: Its number.
        params: Its values.
        step: Its last step, ``None`` before the first.
        value: The metric there.
        seconds: How long it has been running.
        lost: What happened to its process, ``None`` where that lives as far as is known.
        course: The metric at its last reports, as far as they stand at the end of its journal or in the storage.
    """

    number: int
    params: dict[str, Any]
    step: int | None
    value: float | None
    seconds: float | None
    lost: str | None = None
    course: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Best:
    """The best complete trial.

    Attributes:
        number: Its number.
        value: Its objective.
        params: Its values.
        records: Where its record lies.
        step: The step of its value.
        values: In a study with several metrics, the values of all by name; else ``None``.
    """

    number: int
    value: float
    params: dict[str, Any]
    records: list[str]
    step: int | None = None
    values: dict[str, float] | None = None


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        study: Its name.
        metric: The metric that is tuned.
        mode: ``"min"`` or ``"max"``.
        counts: Number of trials by state.
        finished: How many count: complete, pruned, paused and infeasible ones.
        wanted: How many there shall be, ``None`` where it is not known.
        best: The best one.
        running: Those that train now.
        seconds_a_trial: Median of the last ones, ``None`` before the first has ended.
        seconds_left: Until there are as many as wanted, where that is known and something runs.
        processes: Whether a process works on it: ``"live"``, ``"gone"`` or, where they were on other machines and none
            of them runs a trial, ``"unknown"``.
        front: With several metrics, the complete trials that no other one beats.
        promotes: Whether paused trials are still to go on before it is done; `Watch` looks for it.
    """

    study: str
    metric: str
    mode: str
    counts: dict[State, int]
    finished: int
    wanted: int | None
    best: Best | None
    running: list[Running] = field(default_factory=list)
    seconds_a_trial: float | None = None
    seconds_left: float | None = None
    processes: str = "live"
    front: list[Best] = field(default_factory=list)
    promotes: bool = False

    @property
    def is_done(self) -> bool:
        """Whether there are as many trials as wanted, and none runs or is to go on."""
        return self.wanted is not None and self.finished >= self.wanted and not self.running and not self.promotes


def best_of(study: Study) -> Best:
    """The best complete trial.

    Raises:
        StudyError: There is none, or the study has several metrics.
    """
    return _named(study, study.best)


def front_of(study: Study) -> list[Best]:
    """The complete trials of a study with several metrics that no other one beats.

    Raises:
        StudyError: There is none.
    """
    standing = study.standing()
    if not standing.front:
        counts = told_counts(standing.counts)
        raise StudyError(f"Study '{study.name}' has no complete trial yet ({counts}), so none is on the front.")
    return [_named(study, one) for one in standing.front]


def _named(study: Study, found: FinishedTrial) -> Best:
    named = dict(zip([study.metric, *study.others], found.values, strict=False)) if study.others else None
    return Best(found.number, float(found.value or 0.0), dict(found.params), study.records(found.number),
                found.outcome.step, named)  # fmt: skip


def status_of(study: Study) -> Status:
    """How far a study is now, from its storage and the journals that can be read here."""
    lead, standing = study.lead, study.standing()
    lost, wanted = lead.lost(), lead.wanted
    frozen = {one.number: one for one in study.raw_trials}
    running = [
        _running(study, frozen[one.number], dict(one.params), lost.get(one.number)) for one in standing.running
        if one.number in frozen
    ]  # fmt: skip
    took = [
        (one.datetime_complete - one.datetime_start).total_seconds()
        for one in frozen.values()
        if is_counted(one) and one.datetime_complete and one.datetime_start
    ][-_LAST:]
    each = statistics.median(took) if took else None
    left = None
    live = [one for one in running if one.lost is None]
    if each is not None and wanted is not None and (live or standing.finished >= wanted):
        left = max(0, wanted - standing.finished) * each / max(1, len(live))
    return Status(
        study.name, study.metric, study.mode, standing.counts, standing.finished, wanted,
        None if standing.best is None else _named(study, standing.best), running, each, left, lead.attendance(lost),
        [_named(study, one) for one in standing.front],
    )  # fmt: skip


def _running(study: Study, frozen: FrozenTrial, params: dict[str, Any], lost: str | None) -> Running:
    reports = dict(frozen.intermediate_values)
    path = study.paths.journal(frozen.number)
    # The journal is further on where the storage is away; a trial of another machine may have none here.
    for event in read_events(path, tail=_TAIL):
        if isinstance(event, Report) and study.metric in event.metrics:
            reports[event.step] = event.metrics[study.metric]
    step, value = max(reports.items(), default=(None, None))
    course = [one for _, one in sorted(reports.items()) if math.isfinite(one)]
    began = frozen.datetime_start
    seconds = None if began is None else max(0.0, (datetime.now() - began).total_seconds())
    return Running(frozen.number, params, step, value, seconds, lost, course[-_COURSE:])


class Watch:
    """Looks at a study again and again, to see what one look cannot: whether anything happens.

    Where the processes of a study were on other machines and none of them runs a trial, they are taken for gone once
    nothing has changed for as long as a trial may give no sign of life.

    Args:
        study: The study.
        clock: Seconds that never go back.
    """

    def __init__(self, study: Study, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._study, self._clock = study, clock
        self._seen: object = None
        self._since = clock()

    def look(self) -> Status:
        """How far the study is now."""
        found = status_of(self._study)
        if found.is_done and found.counts.get("paused"):  # between two of the last ones none runs
            found = replace(found, promotes=self._study.lead.has_promotions)
        seen = (found.counts, [one.number for one in found.running])
        if seen != self._seen:
            self._seen, self._since = seen, self._clock()
        is_quiet = self._clock() - self._since > GRACE
        return replace(found, processes="gone") if found.processes == "unknown" and is_quiet else found


def lines(status: Status) -> list[str]:
    """The status for people, in lines."""
    told = [*_head(status), *(_told(one, status.metric) for one in status.running), *_pace(status)]
    return [*map(printable, told)]


def table(status: Status, *, width: int, height: int) -> Group:
    """The status for a terminal of so many columns and lines: the best trial, and those that run."""
    from rich.console import Group  # lines need none of it
    from rich.text import Text

    from tunehook.system import Row, make_table

    best, room = status.best, max(2, height - _AROUND)
    rows = [
        Row(one.number, "running" if one.lost is None else "lost", one.params, one.value, one.step,
            "-" if one.seconds is None else clock(one.seconds)) for one in status.running
    ]  # fmt: skip
    top = status.front if best is None else [best]
    rows = [
        *(Row(one.number, "complete", one.params, one.value, one.step, "-", is_best=True, others=one.values or {})
          for one in top[-(room // 2) :]), *rows,
    ]  # fmt: skip
    others = [name for name in (top[0].values or {}) if name != status.metric] if top else []
    names = list(dict.fromkeys(name for row in rows for name in row.params))
    first, *rest = _head(replace(status, front=[]))  # whose rows are in the table
    lost = [_told(one, status.metric) for one in status.running if one.lost is not None]
    free = max(0, height - _AROUND - len(rows) - len(lost))
    courses = [f"trial {one.number} {bars}" for one in status.running if (bars := sparkline(one.course))][:free]
    shown = make_table(
        first, sorted(rows[:room], key=lambda row: row.number), names, status.metric, others=others, width=width
    )
    # Text throughout: rich would read [...] in names and values as markup.
    return Group(shown, *(Text(printable(line)) for line in [*rest, *courses, *lost, *_pace(status)]))


def ending(status: Status) -> str:
    """Why nobody has to wait for a study any longer, though it is not done."""
    of = f" of {status.wanted}" if status.wanted is not None else ""
    return (
        f"No process works on study '{status.study}' any more; {status.finished}{of} trials are finished.\n"
        "  Start its script again: the study goes on where it was."
    )


def _head(status: Status) -> list[str]:
    told = [count_line(status.study, status.counts, status.finished, status.wanted)]
    if status.best is not None:
        told.append(f"best {status.metric} {short(status.best.value)}, trial {status.best.number}: "
                    f"{told_values(status.best.params)}")  # fmt: skip
    told += [f"on the front: trial {one.number}: {told_values(one.values or {})} ({told_values(one.params)})"
             for one in status.front]  # fmt: skip
    return told


def _told(one: Running, metric: str) -> str:
    bars = sparkline(one.course) if len(one.course) > 1 else ""
    at = f" at step {one.step}, {metric} {short(one.value)}{' ' * bool(bars)}{bars}" if one.step is not None else ""
    since = f", for {clock(one.seconds)}" if one.seconds is not None else ""
    how = f"runs{at}{since}" if one.lost is None else f"was left{at} ({one.lost})"
    return f"trial {one.number} {how}: {told_values(one.params)}"


def _pace(status: Status) -> list[str]:
    if status.seconds_a_trial is None:
        return []
    left = "" if status.seconds_left is None else f", {clock(status.seconds_left)} left"
    return [f"{status.seconds_a_trial:.1f} s a trial{left}"]
