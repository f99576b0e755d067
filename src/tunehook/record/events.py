"""What a journal says, as values: the one place that knows the fields of its lines, but for what writes them.

Lines of a kind that is not known here, as of a later version, are an `Event` without more.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, overload

from tunehook.record.checks import is_snapshot, is_texts
from tunehook.record.journal import is_here, read_journal
from tunehook.record.paths import journal_of
from tunehook.snapshot import Snapshot
from tunehook.system import is_alive
from tunehook.trial import Decision, Lineage, Mode, Outcome, Trial

# Where in a trial a snapshot was taken: in which of its fits, and at which step, since steps start over with each fit.
Place = tuple[int, int]
BEGINNING: Place = (0, -1)  # before all of them


def next_place(place: Place, step: int) -> Place:
    """Where a snapshot lies, by that of the one before in the same attempt: where its step does not grow, a fit began.

    Args:
        place: Where the one before lies, `BEGINNING` for the first.
        step: Number of optimizer steps that the fit has made.
    """
    fit, before = place
    return fit + (step <= before), step


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of a journal.

    Args:
        time: When it was written, in seconds since 1970; 0 where the line does not say it.
        records: Where other recorders keep the trial, as the line says.
    """

    time: float = 0.0
    records: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Process(Event):
    """A process that trains the trial: on this machine the one that asked for it or another one, or on a cluster."""

    pid: int
    host: str
    start: str | None = None
    space: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether its id can be looked up here; see `tunehook.record.journal.is_here`."""
        return is_here({"host": self.host, "space": self.space, "start": self.start})

    @property
    def lives(self) -> bool:
        """Whether it still runs, on this machine."""
        return is_alive(self.pid, since=self.time, start=self.start)


@dataclass(frozen=True, kw_only=True)
class Task(Process):
    """A process that trains the trial on a cluster."""

    place: str


@dataclass(frozen=True, kw_only=True)
class Begin(Process):
    """The trial was asked for, by this process."""

    trial: int
    study: str
    key: str
    attempt: int
    params: Mapping[str, Any]
    metric: str
    mode: Mode
    study_id: str = ""
    is_given: bool = False
    lineage: Mapping[str, Any] | None = None
    others: Mapping[str, Mode] | None = None

    def as_trial(self, folder: Path) -> Trial:
        """The trial whose journal is in a folder."""
        return Trial(
            self.study, self.trial, self.params, folder, self.metric, self.mode, self.attempt, self.key, self.study_id,
            lineage=None if self.lineage is None else Lineage(**self.lineage), others=dict(self.others or {}),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config(Event):
    """What is in force, by slot path, and the versions of the packages that train."""

    effective: Mapping[str, Any]
    versions: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunNote(Event):
    """A recorder keeps the trial too, in this run."""

    recorder: str
    run: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class GoesOn(Event):
    """The trial goes on from a checkpoint of another trial, an earlier attempt, or of its own, before a pause."""

    trial: int
    reports: int


@dataclass(frozen=True, kw_only=True)
class Report(Event):
    """Metrics at the step of a measurement, from 1; 0 before the first."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Taken(Event):
    """A snapshot of the parameters, taken after the measurement of a step."""

    step: int
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def is_whole(self) -> bool:
        """Whether it is what `Snapshot.as_json` gives."""
        return is_snapshot(self.raw)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot, of one that is whole."""
        return Snapshot.from_json(self.raw)

    def names(self, kind: str) -> list[str]:
        """The names of its ``parameters`` or ``gradients``."""
        return list(self.raw.get(kind) or ())


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """The trial is stopped."""

    step: int
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class Kept(Event):
    """Where the training has kept its model, and what `stamp` said of it."""

    path: Path
    stamp: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A checkpoint to go on from was saved under this name, whose files have this digest."""

    name: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class InSync(Event):
    """Another recorder was found to have so many rows, and the end of the trial."""

    rows: int


@dataclass(frozen=True, kw_only=True)
class Ended(Event):
    """How the trial ended."""

    outcome: Outcome


_E = TypeVar("_E", bound=Event)


class Events(Sequence[Event]):
    """What the journal says of one attempt of a trial, in order; one that was paused begins again when it goes on."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._all = [*events]

    @classmethod
    def of_trial(cls, trial: Trial) -> Events:
        """Those of one trial, without those of an older trial in the same folder, whose storage is gone."""
        return cls(_of(trial.key, read_events(journal_of(trial.folder)), is_mine=True))

    @classmethod
    def of_key(cls, path: Path, key: str) -> Events:
        """Those in a journal that are of the trial of this key."""
        return cls(_of(key, read_events(path), is_mine=False))

    @classmethod
    def of_latest(cls, path: Path, *, is_strict: bool = False) -> Events:
        """Those of the latest trial of a journal; all where none begins, since that line is damaged.

        Args:
            path: The file.
            is_strict: Whether one that cannot be read is an error. Defaults to False, it is told.

        Raises:
            OSError: It is, where that is an error.
        """
        events = cls(map(_event, read_journal(path, is_strict=is_strict)))
        begin = events.last(Begin)
        return events if begin is None else cls(_of(begin.key, events, is_mine=False))

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Events: ...
    def __getitem__(self, index: int | slice) -> Event | Events:
        """One of them, or some."""
        return Events(self._all[index]) if isinstance(index, slice) else self._all[index]

    def __len__(self) -> int:
        return len(self._all)

    def all(self, kind: type[_E]) -> list[_E]:
        """Those of a kind, in order."""
        return [event for event in self._all if isinstance(event, kind)]

    def last(self, *kinds: type[_E]) -> _E | None:
        """The last one of a kind, or of several."""
        return next((event for event in reversed(self._all) if isinstance(event, kinds)), None)

    @property
    def begin(self) -> Begin | None:
        """With which it begins, ``None`` where that line is damaged."""
        first = self._all[0] if self._all else None
        return first if isinstance(first, Begin) else None

    @property
    def now(self) -> Events:
        """Those since the trial has begun, or gone on after a pause."""
        begun = [place for place, event in enumerate(self._all) if isinstance(event, Begin)]
        return self[begun[-1] :] if begun else self

    def before(self, pauses: int) -> Events:
        """Those until the trial had been paused so many times, whatever has come since."""
        ends = [
            place for place, one in enumerate(self._all) if isinstance(one, Ended) and one.outcome.state == "paused"
        ]
        return self[: ends[pauses - 1] + 1 if 0 < pauses <= len(ends) else len(self) - len(self.now)]

    @property
    def reports(self) -> list[Report]:
        """Each report once: a trial that goes on after a pause adds to what it had, one that starts over does not."""
        found: list[Report] = []
        is_new = False
        for event in self._all:
            if isinstance(event, Begin):
                is_new = True
            elif isinstance(event, GoesOn):
                found, is_new = found[: event.reports], False
            elif isinstance(event, Report):
                found, is_new = [*([] if is_new else found), event], False
        return found

    @property
    def outcome(self) -> Outcome | None:
        """How the trial ended, ``None`` where it has not; a complete one without a value has not."""
        end = self.now.last(Ended)
        if end is None:
            return None
        value = end.outcome.value
        return None if end.outcome.state == "complete" and (value is None or math.isnan(value)) else end.outcome

    @property
    def records(self) -> list[str]:
        """Where other recorders keep the trial."""
        return [place for event in self._all for place in event.records]


def read_events(path: Path, *, tail: int | None = None) -> Iterator[Event]:
    """What `read_journal` reads, as values.

    Args:
        path: The file.
        tail: Read so many bytes at its end only, from the first whole line on. Defaults to None, all of it.
    """
    return map(_event, read_journal(path, tail=tail))


def read_attempts(trial: Trial, *, with_itself: bool = False) -> list[Events]:
    """The events of the trial's earlier attempts in their order, and of its own before its last pause.

    Earlier attempts are trials of other numbers and the same key.

    Args:
        trial: The trial.
        with_itself: Whether those of the trial come last. Defaults to False.
    """
    found: list[tuple[int, Events]] = []
    for folder in sorted(trial.folder.parent.glob("trial-*")) if trial.attempt else []:
        events = Events.of_key(journal_of(folder), trial.key)
        if events.begin is not None and events.begin.attempt < trial.attempt:
            found.append((events.begin.attempt, events))
    earlier = [events for _, events in sorted(found, key=lambda item: item[0])]
    if not with_itself and not trial.pauses:
        return earlier
    mine = Events.of_trial(trial)
    return [*earlier, mine if with_itself else mine.before(trial.pauses)]


def read_processes(trial: Trial) -> list[Process]:
    """The processes of a trial, which are told before its first measurement; those of a cluster are none of ours.

    One that was paused has those that go on with it, none where they are not told yet.
    """
    events: Iterable[Event] = _of(trial.key, read_events(journal_of(trial.folder)), is_mine=True)
    if trial.pauses:
        now = Events(events).now
        events = now if now.outcome is None else ()
    first = itertools.takewhile(lambda event: not isinstance(event, Report), events)
    return [event for event in first if isinstance(event, Process) and not isinstance(event, Task)]


def _of(key: str, events: Iterable[Event], *, is_mine: bool) -> Iterator[Event]:
    """The events of the trial of a key, without those of another one that had the folder before or after."""
    for event in events:
        if isinstance(event, Begin):
            is_mine = event.key == key
        if is_mine:
            yield event


@dataclass
class Rows:
    """The reports and snapshots of several attempts of a trial, each step once.

    An attempt repeats what came after its checkpoint, or everything where it started over: its first reports are
    already there. A snapshot of a step is not made twice either, in each of the fits.

    Args:
        made: How many reports there are.
        seen: Where the last of the snapshots lies.
        all: The rows.
    """

    made: int = 0
    seen: Place = BEGINNING
    all: list[Report | Taken] = field(default_factory=list)

    def add(self, attempt: Iterable[Event]) -> None:
        """Add what the next attempt has made and none before it."""
        mine: int | None = None
        reports, place = 0, BEGINNING
        for event in attempt:
            if isinstance(event, Begin):
                mine, reports, place = event.trial, 0, BEGINNING
            elif isinstance(event, GoesOn) and event.trial == mine:  # after a pause: the reports before stand above
                reports, place = event.reports, (self.seen[0], BEGINNING[1])
            elif isinstance(event, Taken) and event.is_whole:
                place = next_place(place, event.raw["step"])
                if place > self.seen:
                    self.seen = place
                    self.all.append(event)
            elif isinstance(event, Report):
                reports += 1
                if reports > self.made:
                    self.made = reports
                    self.all.append(event)


def join(attempts: Iterable[Iterable[Event]]) -> Rows:
    """The rows of several attempts of a trial, in their order."""
    rows = Rows()
    for attempt in attempts:
        rows.add(attempt)
    return rows


def as_outcome(end: Mapping[str, Any]) -> Outcome:
    """How a trial ended, by fields that are as `tunehook.record.checks.END` says."""
    value = None if end.get("value") is None else float(end["value"])
    values = tuple(map(float, end.get("values") or ()))
    return Outcome(end["state"], end["reason"], value, end.get("step"), end.get("traceback"), values)


def _named(kind: type[Event]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    own = [one for one in dataclasses.fields(kind) if one.name not in ("time", "records")]
    needed = [one.name for one in own if one.default is dataclasses.MISSING]
    others = [one.name for one in own if one.default is not dataclasses.MISSING]

    def named(event: Mapping[str, Any]) -> dict[str, Any]:
        return {name: event[name] for name in needed} | {name: event[name] for name in others if name in event}

    return named


# Of each kind the value, and its fields.
_KINDS: dict[str, tuple[type[Event], Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "begin": (Begin, _named(Begin)),
    "process": (Process, _named(Process)),
    "task": (Task, _named(Task)),
    "config": (
        Config,
        lambda event: {"effective": event.get("effective") or {}, "versions": event.get("versions") or {}},
    ),
    "recorder": (RunNote, _named(RunNote)),
    "continue": (GoesOn, _named(GoesOn)),
    "report": (
        Report,
        lambda event: {"step": event["step"], "metrics": {name: float(one) for name, one in event["metrics"].items()}},
    ),
    "snapshot": (Taken, lambda event: {"step": event["step"], "raw": event["snapshot"]}),
    "decision": (
        Stopped,
        lambda event: {"step": event["step"], "decision": Decision(event["stop"], event["reason"], event["state"])},
    ),
    "checkpoint": (Kept, lambda event: {"path": Path(event["path"]), "stamp": (event["size"], event["changed"])}),
    "saved": (Saved, _named(Saved)),
    "synced": (InSync, _named(InSync)),
    "end": (Ended, lambda event: {"outcome": as_outcome(event)}),
}


def _event(line: Mapping[str, Any]) -> Event:
    places = line["records"] if is_texts(line.get("records")) else ()
    common: dict[str, Any] = {"time": float(line.get("time") or 0.0), "records": tuple(places)}
    if line["event"] not in _KINDS:
        return Event(**common)
    kind, fields = _KINDS[line["event"]]
    return kind(**common, **fields(line))
