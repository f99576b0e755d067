"""The recorders of one trial, and those that show a study: each is other people's code, so every call is guarded.

A recorder that fails is told once and left out; the training, the journal and the other recorders go on.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tunehook.record.events import BEGINNING, Place, next_place
from tunehook.record.journal import Journal
from tunehook.record.recorder import (
    CanStop,
    KeepsModel,
    OneForAllAttempts,
    Recorder,
    ShowsSnapshots,
    ShowsStudy,
    WritesBeside,
    offers,
)
from tunehook.snapshot import Snapshot
from tunehook.trial import JournalError, Outcome, Trial

log = logging.getLogger("tunehook")


@dataclasses.dataclass(eq=False)
class _Each:
    """A recorder, what it can do besides, and what it has of earlier attempts."""

    recorder: Recorder
    can_stop: CanStop | None
    shows: ShowsSnapshots | None
    for_all: OneForAllAttempts | None
    writes: WritesBeside | None
    keeps: KeepsModel | None
    reports: int = 0
    seen: Place = BEGINNING


def _each(it: Recorder) -> _Each:
    return _Each(
        it,
        can_stop=it if offers(it, CanStop) else None,
        shows=it if offers(it, ShowsSnapshots) else None,
        for_all=it if offers(it, OneForAllAttempts) else None,
        writes=it if offers(it, WritesBeside) else None,
        keeps=it if offers(it, KeepsModel) else None,
    )


class Recorders:
    """The journal of one trial, and the recorders that are open beside it.

    Args:
        recorders: The recorders.
        journal: The journal; ``None`` where nothing is recorded.

    Attributes:
        journal: The journal.
        reports: How many reports the journal has.
    """

    def __init__(self, recorders: Iterable[Recorder] = (), journal: Journal | None = None) -> None:
        self.journal = journal
        self.reports = 0
        self._place = BEGINNING  # of the last snapshot
        self._all = [_each(recorder) for recorder in recorders]
        self._open: list[_Each] = []

    def moved(self, journal: Journal) -> Recorders:
        """The same for another process, where none is open; what was counted stays."""
        theirs = copy.copy(self)
        theirs.journal, theirs._open = journal, []  # noqa: SLF001 - its own class
        return theirs

    def open(self, trial: Trial, effective: Mapping[str, Any], loggers: Sequence[object]) -> None:
        """Open all of them; an error ends the trial.

        Args:
            trial: The trial.
            effective: The effective configuration by slot path.
            loggers: The loggers that the user gave to the framework.
        """
        for one in self._all:
            one.recorder.open(trial, effective, loggers=loggers)
            self._open.append(one)

    def watch(self, trial: Trial, recorder: Recorder) -> None:
        """Open one more, which shows the trial from now on."""
        recorder.open(trial, {})
        self._open.append(_each(recorder))

    def where(self) -> list[str]:
        """Where people find the records."""
        return [place for one in self._open if (place := one.recorder.where()) is not None]

    def report(self, step: int, metrics: Mapping[str, float], *, is_kept: bool = False) -> None:
        """Write a report to the journal, unless that has it, and hand it to the recorders that have not got it."""
        self.reports += 1
        if self.journal is not None and not is_kept:
            self.journal.report(step, metrics)
        for one in list(self._open):
            if self.reports > one.reports:
                with self._guarded(one):
                    one.recorder.report(step, metrics)

    def snapshot(self, step: int, snapshot: Snapshot) -> None:
        """Write a snapshot to the journal, and hand it to the recorders that show such and have not got it.

        Args:
            step: The measurement before.
            snapshot: The snapshot.
        """
        if self.journal is not None:
            self.journal.snapshot(step, snapshot.as_json())
        self._place = next_place(self._place, snapshot.step)
        for one in list(self._open):
            if one.shows is not None and self._place > one.seen:
                with self._guarded(one):
                    one.shows.snapshot(step, snapshot)

    def why_stop(self) -> str | None:
        """Why someone who watches a recorder wants the trial to stop, as by a button on a web page."""
        for one in list(self._open):
            if one.can_stop is not None:
                with self._guarded(one):
                    reason = one.can_stop.wants_stop()
                    if isinstance(reason, str):
                        return reason
                    if reason is not None:
                        raise TypeError(f"wants_stop() returns a text, or None to go on; it returned {reason!r}")
        return None

    def ask_what_they_have(self, *, taken: int, made: int, seen: Place) -> None:
        """Ask those whose record is one for all attempts what they have of the earlier ones.

        Args:
            taken: How many reports come before the checkpoint, 0 where the trial starts over.
            made: How many reports earlier attempts have made at most.
            seen: Where the last of their snapshots lies.
        """
        for one in list(self._open):
            if one.for_all is not None:
                with self._guarded(one):
                    number = one.for_all.has_reports(taken, made)
                    # An attempt that ended before its first report may have made a snapshot.
                    one.reports, one.seen = number, seen if number > 0 or number == made else BEGINNING

    @property
    def keeps_model(self) -> bool:
        """Whether one of them asks for the model that the training has kept."""
        return any(one.keeps is not None and one.keeps.best_checkpoint for one in self._all)

    def tell(self, text: str) -> None:
        """Say something about the record to people, and in the journal."""
        log.warning("%s.", text)
        self.note(text)

    def note(self, problem: str) -> None:
        """Write a problem to the journal; one that cannot be written raises with the next event."""
        if self.journal is not None:
            with contextlib.suppress(JournalError):
                self.journal.problem(problem)

    def close(self, outcome: Outcome) -> None:
        """Close all of them."""
        for one in list(self._open):
            with self._guarded(one):
                one.recorder.close(outcome)
        self._open.clear()

    def wait(self) -> None:
        """Wait until those that go on writing beside the training have written all."""
        for one in self._all:
            with self._guarded(one):
                if one.writes is not None:
                    one.writes.wait()
        if self.journal is not None:  # which a failure has opened again
            self.journal.close()

    @contextlib.contextmanager
    def _guarded(self, one: _Each) -> Iterator[None]:
        def tell(error: Exception) -> None:
            text = f"{type(one.recorder).__name__} failed and is left out from here on: {error!r}"
            log.warning("%s. The journal keeps everything: %s", text, self.journal and self.journal.path)
            if one in self._open:
                self._open.remove(one)
            self.note(text)

        with _guarded(tell):
            yield

    def __getstate__(self) -> dict[str, Any]:
        """For other processes: what is open stays here."""
        return {**self.__dict__, "_open": []}


class _Study(Protocol):
    name: str
    recorders: list[Recorder]


class StudyRecorders:
    """Those of a study that show it as a whole."""

    def __init__(self) -> None:
        self._left_out: list[object] = []

    def update(self, study: _Study, *, is_last: bool) -> None:
        """Let them look at the study.

        Args:
            study: The study.
            is_last: Whether this process works on no further trial for now.
        """
        for recorder in study.recorders:
            if offers(recorder, ShowsStudy) and id(recorder) not in map(id, self._left_out):

                def tell(error: Exception, recorder: object = recorder) -> None:
                    self._left_out.append(recorder)
                    log.warning("%s does not show study %s any more: %r", type(recorder).__name__, study.name, error)

                with _guarded(tell):
                    recorder.update(study, is_last=is_last)


@contextlib.contextmanager
def _guarded(tell: Callable[[Exception], None]) -> Iterator[None]:
    """Tell an exception in place of raising it: no recorder ends a training or a study."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - recorders are other people's code
        tell(error)
