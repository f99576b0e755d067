"""Agreement of the storage and the journals: what one has and the other lacks is written when the study is opened.

The journals are the truth. A storage that is older than they are, as after a power failure or from a backup, gets the
trials that it lacks, under their numbers, and the values that wait; one that is gone gets them all. A journal that
lacks the end of its trial, as where the disk was full at that line, gets it from the storage.

Only journals of this very study count, by its id: not those of an older one of its name, nor of someone's own Optuna
study. A number of which nothing is left is a trial that was interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunehook.record import Begin, Ended, Events, Journal, Report, is_here, read_events
from tunehook.space import SpaceError
from tunehook.storage import (
    ATTEMPT,
    KEY,
    LINEAGE,
    OWNER,
    PAUSE,
    Ledger,
    how_to_rebuild,
    is_running,
    is_waiting,
    keep_left_out,
    read_waiting,
    stored_attempt,
    stored_outcome,
    stored_owner,
)
from tunehook.study.again import Again
from tunehook.study.holders import Holders
from tunehook.study.restored import Restored, listed
from tunehook.system import given_values
from tunehook.trial import ASKED_AGAIN, JournalError, Outcome, StudyError, Trial, is_key, key_of, number_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tunehook.storage import Waiting
    from tunehook.study.lost import Tells

log = logging.getLogger("tunehook")

_TAIL = 65536  # bytes of the end of a journal, in which the end of its trial stands
_FAR = 1000  # so many numbers may be missing in a row; a folder with a number beyond is none of ours
NOTHING = Outcome("interrupted", "nothing is left of it: no journal, and it was not in the storage")


class Restoring:
    """Lets the storage and the journals of a study say the same.

    Args:
        ledger: The storage.
        holders: Who runs the trials.
        again: Asks values again.
        leads: The study.
    """

    def __init__(self, ledger: Ledger, holders: Holders, again: Again, leads: Tells) -> None:
        self._ledger, self._holders, self._again, self._leads = ledger, holders, again, leads

    def run(self) -> Restored:
        """Bring both up to date; says what was done, also in a line of the log.

        Raises:
            StudyError: The journal of a trial that the storage lacks cannot be read.
        """
        done, agreed, waiting = Restored(), self._ledger.notes.agreed, self._waiting()
        if any(number >= agreed for number in (*self._there(), *waiting)):
            try:
                with self._ledger.holding():
                    self._run([number for number in self._there() if number >= agreed], done)
                for trial, outcome in done.outcomes:  # which shows the study, and removes files: that takes its time
                    self._leads.tell(trial, outcome)
            finally:
                done.tell(self._ledger.name, self._ledger.paths)
        keep_left_out(self._ledger.paths, self._ledger.study_id, self._ledger.trials(), waiting)
        return done

    def check_free(self, trial: Trial) -> None:
        """Check that no journal of another trial of this study lies where that of a new one begins.

        Raises:
            JournalError: One does, or it cannot be read.
        """
        path = self._ledger.paths.journal(trial.number)
        try:
            begin = Events.of_latest(path, is_strict=True).begin
        except OSError as error:
            raise JournalError(str(unreadable(path, error))) from error
        if begin is None or begin.key == trial.key or not trial.study_id or begin.study_id != trial.study_id:
            return
        raise JournalError(
            f"The journal {path} is that of an earlier trial of study '{trial.study}', which the storage lacks, so "
            f"the new trial {trial.number} has no place.\n"
            f"  End all processes of the study. {how_to_rebuild(trial.study, self._ledger.paths.folder)}"
        )

    def _run(self, there: Sequence[int], done: Restored) -> None:
        trials = {frozen.number: frozen for frozen in self._ledger.trials()}
        if len(trials) == max(trials, default=-1) + 1:
            self._put_in(there, done)
            trials = {frozen.number: frozen for frozen in self._ledger.trials()}
        elif hidden := [number for number in there if number not in trials and self._own(number)]:
            log.warning(  # the next row would get another number than its place
                "Study '%s': a row of its storage cannot be read, so trials that it lacks are not put in; trials %s "
                "are in the journals only.\n  %s",
                self._ledger.name, listed(hidden), how_to_rebuild(self._ledger.name, self._ledger.paths.folder),
            )  # fmt: skip
        agreed, lacking = self._ledger.notes.agreed, set[int]()
        for number in there:
            frozen = trials.get(number)
            if frozen is None:
                continue
            if self._is_open(frozen) and (events := self._own(number)) and self._bring(frozen, events, done):
                done.trials.append(number)
            elif frozen.state.is_finished() and self._lacks_end(frozen) and not self._end(frozen, done):
                lacking.add(number)
        trials = {frozen.number: frozen for frozen in self._ledger.trials()}
        while agreed in trials and not self._is_open(trials[agreed]) and agreed not in lacking:
            agreed += 1
        self._ledger.notes.note_agreed(agreed)

    def _is_open(self, frozen: FrozenTrial) -> bool:
        """Whether more may come of a trial, as far as the storage knows."""
        return not frozen.state.is_finished() or self._ledger.is_paused(frozen)

    def _there(self) -> list[int]:
        """Numbers of the trials that have a folder."""
        try:
            with os.scandir(self._ledger.paths.folder) as entries:
                names = [entry.name for entry in entries if entry.name.startswith("trial-")]
        except FileNotFoundError:
            return []
        numbers = (name.removeprefix("trial-") for name in names)
        found = sorted(int(one) for one in numbers if one.isascii() and one.isdigit() and len(one) < 10)
        return [number for number in found if self._ledger.paths.trial(number).name in names]

    def _waiting(self) -> dict[int, Waiting]:
        """The values that waited when they were last heard of, by the numbers of their trials."""
        return read_waiting(self._ledger.paths, self._ledger.study_id)

    def _own(self, number: int, *, is_needed: bool = False) -> Events | None:
        """What the journal of a trial says, where it is one of this study that can be put in.

        Args:
            number: The trial's number.
            is_needed: Whether a journal that cannot be read is an error. Defaults to False, it is told.

        Raises:
            StudyError: It is, where that is an error.
        """
        path = self._ledger.paths.journal(number)
        with _left_out(path):
            try:
                return self._checked(number, path, Events.of_latest(path, is_strict=is_needed))
            except OSError as error:
                raise unreadable(path, error) from error
        return None

    def _checked(self, number: int, path: Path, events: Events) -> Events | None:
        begin = events.begin
        if begin is None or not begin.study_id or begin.study_id != self._ledger.study_id:
            return None
        if begin.trial != number or not is_key(begin.key) or self._raw(begin) is None:
            log.warning("%s is no journal of a trial of this study.", path)
            return None
        return events

    def _raw(self, begin: Begin) -> dict[str, Any] | None:
        """The raw values of a trial, ``None`` where the space has none such."""
        try:
            raw = self._ledger.space.encode(begin.params)
        except SpaceError:
            return None
        return raw if self._ledger.space.is_complete(raw) else None

    # ------------------------------------------------------------------ from the journals

    def _put_in(self, there: Sequence[int], done: Restored) -> None:
        """Put in the trials that the storage lacks, in the order of their numbers, which it gives itself."""
        waiting = self._waiting()  # read first, as another process writes it last
        number = len(self._ledger.trials())
        handed_out = self._handed_out(there, waiting)
        for there_is in sorted({*there, *waiting}):
            if not number <= there_is <= number + _FAR:
                continue
            events = self._own(there_is, is_needed=True)
            if events is None and there_is not in waiting:
                continue
            try:
                for missing in range(number, there_is):
                    self._put_in_nothing(missing, handed_out.get(missing), waiting.values())
                    done.lost.append(missing)
                if events is None:
                    self._let_wait(there_is, waiting[there_is])
                    done.trials.append(there_is)
                else:
                    (done.trials if self._put_in_one(there_is, events, waiting.values()) else done.lost).append(
                        there_is
                    )
            except _OvertakenError:
                done.overtaken = there_is
                return
            number = there_is + 1

    def _let_wait(self, number: int, waiting: Waiting) -> None:
        if len(self._ledger.trials()) != number:
            raise _OvertakenError
        self._ledger.enqueue(waiting.raw, waiting.named)

    def _put_in_one(self, number: int, events: Events, waiting: Iterable[Waiting]) -> bool:
        """Put in a trial; whether what its journal says can be put in."""
        with _left_out(self._ledger.paths.journal(number)):
            self._put_in_events(number, events)
            return True
        self._put_in_nothing(number, None, waiting)
        return False

    def _put_in_events(self, number: int, events: Events) -> None:
        begin, outcome = events.begin, events.outcome
        assert begin is not None  # noqa: S101 - of `_own`
        raw = self._raw(begin)
        assert raw is not None  # noqa: S101 - of `_own`
        named: dict[str, Any] = {
            KEY: begin.key,
            OWNER: _owner(begin),
            **({ATTEMPT: begin.attempt} if begin.attempt else {}),
            **({} if begin.lineage is None else {LINEAGE: dict(begin.lineage)}),
        }
        if outcome is not None and outcome.state in ASKED_AGAIN:
            named |= self._again.asked(raw, begin.attempt + 1, begin.key)
        end = events.last(Ended)
        pauses = len(events.all(Begin)) - (outcome is None or outcome.state != "paused")
        if pauses:
            named[PAUSE] = {"count": pauses, "time": begin.time if end is None else end.time, "is_kept": True}
        self._create(
            number, outcome, began=begin.time, ended=begin.time if end is None else end.time, raw=raw,
            is_given=begin.is_given or begin.attempt > 0, series=dict(self._series(events)), named=named,
        )  # fmt: skip

    def _put_in_nothing(self, number: int, point: Mapping[str, Any] | None, waiting: Iterable[Waiting]) -> None:
        """Put in a trial of which nothing is left.

        Args:
            number: Its number.
            point: Its values, where it is known that it had those of a grid; they are asked again.
            waiting: Values that wait, among which may be its own for a further attempt: they have its key.
        """
        keys = (one.named[KEY] for one in waiting if KEY in one.named)
        key = next((key for key in keys if number_of(key) == number), key_of(self._ledger.study_id, number, None))
        raw = {} if point is None else self._ledger.space.encode(point)
        named = {KEY: key, **({} if point is None else self._again.asked(raw, 1, key))}
        self._create(number, NOTHING, began=0.0, raw=raw, is_given=point is None, named=named)

    def _create(self, number: int, outcome: Outcome | None, **known: Any) -> None:
        if not self._ledger.put_in(number, outcome, **known):
            raise _OvertakenError

    def _handed_out(self, there: Sequence[int], waiting: Collection[int]) -> dict[int, Mapping[str, Any]]:
        """The combinations of a grid that the missing trials had, by their numbers.

        The grid counts the trials that it was asked for, so each of its trials says how many there were before it.
        """
        found: dict[int, Mapping[str, Any]] = {}
        first = len(self._ledger.trials())
        count = self._ledger.handed_out
        if count is None:
            return found
        missing: list[int] = []
        begins = {number: events.begin for number in there if number >= first and (events := self._own(number))}
        for number in range(first, max(begins, default=-1) + 1):
            begin = begins.get(number)
            if begin is None and number in waiting:
                continue
            if begin is None:
                missing.append(number)
            elif not begin.is_given and begin.attempt == 0:
                points = [self._ledger.space.grid_point(at) for at in self._indices(count, len(missing) + 1)]
                before = next((at for at, point in enumerate(points) if self._is_point(point, begin)), 0)
                found |= dict(zip(missing, points[:before], strict=False))
                count, missing = count + before + 1, []
        return found

    def _indices(self, first: int, many: int) -> range:
        return range(first, min(first + many, self._ledger.space.grid_size()))

    def _is_point(self, point: Mapping[str, Any], begin: Begin) -> bool:
        return self._ledger.space.encode(point) == self._raw(begin)

    def _series(self, events: Events) -> Iterator[tuple[int, float]]:
        """The tuned metric by step, as a session has reported it."""
        last = 0
        for report in events.all(Report):
            if self._ledger.metric in report.metrics and report.step > last:
                last = report.step
                yield last, report.metrics[self._ledger.metric]

    def _bring(self, frozen: FrozenTrial, events: Events, done: Restored) -> bool:
        """Bring a trial up to date that the storage has, but not its end; whether anything was to be brought."""
        begin, outcome = events.begin, events.outcome
        assert begin is not None  # noqa: S101 - of `_own`
        raw = self._raw(begin)
        if raw is None or begin.attempt != (stored_attempt(frozen) or 0):
            return False
        is_new, is_paused = is_waiting(frozen), self._ledger.is_paused(frozen)
        if is_paused and outcome in (None, stored_outcome(frozen)):  # it waits, or is to go on
            return False
        if not is_new and not self._has(frozen, raw):  # another trial, which got the number
            return False
        if not is_new and (self._is_held(frozen) or (outcome is None and self._holders.of(frozen)[0] != "lost")):
            return False
        if is_new:
            self._ledger.begin_again(frozen, raw)
        if is_paused and self._ledger.go_on(frozen) is None:  # as another process lets it
            return False
        if self._ledger.key_of(frozen) != begin.key:
            self._ledger.note(frozen, KEY, begin.key)
        if is_new:
            self._ledger.note(frozen, OWNER, _owner(begin))
        series = {step: value for step, value in self._series(events) if step not in frozen.intermediate_values}
        for step, value in series.items():
            self._ledger.note_report(frozen, step, value)
        if outcome is not None:
            done.outcomes.append((begin.as_trial(self._ledger.paths.trial(frozen.number)), outcome))
        return is_new or bool(series) or outcome is not None

    def _has(self, frozen: FrozenTrial, raw: Mapping[str, Any]) -> bool:
        """Whether a trial has these raw values, as far as the digits go that values have."""
        decode = self._ledger.space.decode
        return self._ledger.has_values(frozen) and decode(frozen.params) == decode(raw)

    def _is_held(self, frozen: FrozenTrial) -> bool:
        """Whether a trial runs, as far as is known."""
        owner = stored_owner(frozen) or {}
        if is_here(owner) and owner.get("pid") == os.getpid():
            return self._ledger.runs_here(frozen.number)
        return is_running(frozen) and self._holders.of(frozen)[0] == "live"

    # ------------------------------------------------------------------ from the storage

    def write_journals(self) -> None:
        """Write the journals of the trials that have ended here again, in short, where somebody has removed them."""
        for frozen in self._ledger.begun():
            outcome, owner = stored_outcome(frozen), stored_owner(frozen) or {}
            if outcome is None or not is_here(owner) or self._is_whole(frozen):
                continue
            trial = self._ledger.as_trial(frozen)
            journal = Journal(trial.folder)
            journal.begin(trial, is_given=given_values(frozen) is not None)
            journal.problem("the journal was removed: this is what the study had of it")
            for step, value in sorted(frozen.intermediate_values.items()):
                journal.report(step, {trial.metric: value})
            journal.end(outcome)

    def _is_whole(self, frozen: FrozenTrial) -> bool:
        """Whether the journal of a finished trial is there: removed between two lines, it has the later ones alone."""
        events = self._own(frozen.number) if self._ledger.paths.journal(frozen.number).exists() else None
        begin = None if events is None else events.begin
        is_mine = begin is not None and begin.key == self._ledger.key_of(frozen)
        return is_mine and events is not None and events.outcome is not None

    def _lacks_end(self, frozen: FrozenTrial) -> bool:
        """Whether the journal of a finished trial, which lies here, lacks its end."""
        path = self._ledger.paths.journal(frozen.number)
        with _left_out(path):
            last = Events(read_events(path, tail=_TAIL)).last(Begin, Ended)
            if isinstance(last, Ended):
                return False
            events = Events.of_latest(path)  # those of another trial are followed by no end of this one
            is_mine = events.begin is not None and events.begin.key == self._ledger.key_of(frozen)
            return is_mine and events.outcome is None and stored_outcome(frozen) is not None
        return False

    def _end(self, frozen: FrozenTrial, done: Restored) -> bool:
        """End the journal of a trial; whether that was possible."""
        outcome = stored_outcome(frozen)
        assert outcome is not None  # noqa: S101 - of `_lacks_end`
        try:
            Journal(self._ledger.paths.trial(frozen.number)).end(outcome)
        except JournalError as error:
            log.warning("%s", error)
            return False
        done.ends.append(frozen.number)
        return True


class _OvertakenError(Exception):
    """A trial did not get its number, which another one has."""


def unreadable(path: Path, error: OSError) -> StudyError:
    """The error for a journal that is needed, and exists, but cannot be read."""
    if error.errno in (errno.EMFILE, errno.ENFILE):  # the journal is whole
        way_out = "Raise the limit of open files (ulimit -n), and start again."
    else:
        way_out = (
            "Make it a file that this user can read, and start again. Where that is not possible, move "
            f"{path.parent} away: nothing is left of the trial then."
        )
    return StudyError(
        f"The journal {path} cannot be read: {error.strerror or error}. What it says of its trial would be lost.\n"
        f"  {way_out}"
    )


@contextlib.contextmanager
def _left_out(path: Path) -> Iterator[None]:
    """Say that a journal cannot be read; one trial does not keep a study from being opened."""
    try:
        yield
    except (OSError, ValueError, TypeError, ArithmeticError) as error:
        log.warning("The journal %s cannot be read, and is left out: %r", path, error)


def _owner(begin: Begin) -> dict[str, Any]:
    return {"host": begin.host, "pid": begin.pid, "time": begin.time, "start": begin.start, "space": begin.space}
