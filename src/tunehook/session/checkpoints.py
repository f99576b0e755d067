"""What an interrupted trial goes on from: its last checkpoint, whole or not there, at a pace that costs little.

Checkpoints are made between two epochs: there all of the one is done and nothing of the next, so no count has to be put
right and no loader to be wound forward. In Lightning that place is the start of the fit loop's next round, before any
hook and after schedules that look at metrics; in Keras the last callback's ``on_epoch_end``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunehook.record import (
    Events,
    Journal,
    Report,
    Saved,
    StudyPaths,
    check_place,
    checkpoints_of,
    digest_of,
    files_in,
    is_whole,
    open_file,
    plain,
    remove,
    sync_path,
)
from tunehook.system import from_json, read_whole, shown
from tunehook.trial import Trial

# Share of the training time that checkpoints may take.
SHARE = 0.01
# What the first one is taken to cost: seconds, and bytes a second.
_START, _SPEED = 0.005, 2.5e8

_PROGRESS = "progress.json"


class CheckpointError(RuntimeError):
    """A trial cannot go on from its checkpoint."""


class Pace:
    """Says when the next checkpoint is due, so that all of them take one percent of the training time at most.

    What one costs is measured; before the first it is guessed from its size. So what a kill takes away is the epoch
    that was going on, or a hundred times what a checkpoint costs.

    Args:
        clock: Seconds that never go back.

    Example:
        >>> seconds = iter([0.0, 1.0, 1.0, 3.0, 202.0, 404.0])
        >>> pace = Pace(clock=lambda: next(seconds))
        >>> pace.is_due(size=0)
        True
        >>> with pace.measure():
        ...     pass  # it takes from 1 to 3 seconds
        >>> pace.is_due(size=0), pace.is_due(size=0)
        (False, True)
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._costs = 0.0
        self._last: float | None = None

    def is_due(self, size: int) -> bool:
        """Whether the share has room for one more, which costs what the last one did.

        Args:
            size: Bytes of a checkpoint, about.
        """
        next_one = _START + size / _SPEED if self._last is None else self._last
        trained = self._clock() - self._began - self._costs
        return self._costs + next_one <= SHARE * trained

    @contextlib.contextmanager
    def measure(self) -> Iterator[None]:
        """Take the time of a checkpoint inside, also of one that fails."""
        start = self._clock()
        try:
            yield
        finally:
            self._last = self._clock() - start
            self._costs += self._last


@dataclass(frozen=True)
class Progress:
    """How far a trial was at a checkpoint.

    Attributes:
        trial: Number of the trial that wrote it, an earlier attempt.
        attempt: Which attempt that was.
        step: Its last measurement of the tuned metric.
        reports: How many reports its journal had.
        params: Its values as plain ones.
    """

    trial: int
    attempt: int
    step: int
    reports: int
    params: dict[str, Any]

    @property
    def trial_name(self) -> str:
        """The name of the folder of that trial."""
        return StudyPaths(Path()).trial(self.trial).name

    def __post_init__(self) -> None:
        if not all(map(is_whole, (self.trial, self.attempt, self.step, self.reports))):
            raise ValueError(f"numbers of a checkpoint are whole and not below 0, got {shown(self)}")


@dataclass(frozen=True)
class Found:
    """A checkpoint to go on from.

    Attributes:
        folder: Where the adapter finds its files.
        progress: How far the trial was.
        reports: The reports up to there.
        is_parents: Whether another trial's training is gone on with, as in a population.
    """

    folder: Path
    progress: Progress
    reports: tuple[Report, ...]
    is_parents: bool = False


class Checkpoints:
    """The checkpoints of one trial and its later attempts, of which the newest is kept.

    Each is a folder of files that the adapter writes. It is renamed into its place when all of it is on disk, and the
    one before is removed then: at no moment is there none, or half of one. A checkpoint may hold any object of the
    training, so reading it may run code: one that is or holds a link, is another user's, or is not what the journal has
    the digest of, is not gone on from.

    Args:
        trial: The trial.
    """

    def __init__(self, trial: Trial) -> None:
        self.folder = checkpoints_of(trial.folder, trial.key)
        self._study = trial.folder.parent
        self._trial = trial
        self._pace = Pace()

    def begin(self) -> None:
        """Begin the time of which they take a share, where the training begins."""
        self._pace = Pace()

    def is_due(self, size: int) -> bool:
        """Whether it is time for the next one, of so many bytes."""
        return self._pace.is_due(size)

    def measure(self) -> AbstractContextManager[None]:
        """Take the time of the next one inside."""
        return self._pace.measure()

    def save(self, write: Callable[[Path], None], *, step: int, reports: int, journal: Journal) -> None:
        """Keep a new one.

        Args:
            write: Writes the files into a folder.
            step: The last measurement.
            reports: How many reports the journal has.
            journal: The journal of the trial, which keeps the digest.

        Raises:
            OSError, JournalError: There is no room, or the folder cannot be written; the one before is left.
        """
        trial = self._trial
        new = self.folder / f".new-{trial.attempt:03d}"
        for half in self.folder.glob(".new-*"):  # of an attempt that was killed while it wrote
            if half.name <= new.name:
                remove(half, below=self._study)
        try:
            check_place(new, below=self._study)
            _make(new)
            write(new)
            progress = Progress(trial.number, trial.attempt, step, reports, plain(trial.params))
            with open_file(new / _PROGRESS, "w", below=self._study) as file:
                json.dump(asdict(progress), file)
            for written in (*new.iterdir(), new):
                sync_path(written)
            there = self._there()
            serial = int(there[-1].name.partition("-")[2]) + 1 if there else 0
            place = self.folder / f"{trial.attempt:03d}-{serial:09d}"
            journal.saved(place.name, digest_of(new))  # before its name, so that none is without
            new.rename(place)
        except BaseException:
            remove(new, below=self._study)
            raise
        sync_path(self.folder)
        for older in there:
            if older.name < place.name:  # not one of a later attempt, where this process was taken for lost
                remove(older, below=self._study)

    def find(self) -> Found | None:
        """The newest checkpoint of before a pause or of the earlier attempts, else that of the parent.

        Raises:
            CheckpointError: There is one that cannot be used, or the parent has none any more.
        """
        found = self._newest() if self._trial.is_again else None
        lineage = self._trial.lineage
        if found is not None or lineage is None or lineage.parent is None:
            return found
        parents = Checkpoints(dataclasses.replace(self._trial, key=lineage.key, lineage=None))
        found = parents._newest(of_any=True) if lineage.key else None
        if found is None:
            raise CheckpointError(f"trial {lineage.parent}, whose training it goes on with, has no checkpoint any more")
        return dataclasses.replace(found, is_parents=True)

    def _newest(self, *, of_any: bool = False) -> Found | None:
        """The newest one.

        Args:
            of_any: Whether it may be one of other values. Defaults to False.

        Raises:
            CheckpointError: It cannot be used.
        """
        there = self._there()
        if not there:
            return None
        try:
            check_place(there[-1], below=self._study)
            check_ours(there[-1], *files_in(there[-1]), below=self._study, beside=self.folder)
            with open_file(there[-1] / _PROGRESS, "rb", below=self._study) as file:
                progress = Progress(**from_json(read_whole(file)))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"its checkpoint cannot be read: {shown(error)}") from error
        if not of_any and progress.params != plain(self._trial.params):
            raise CheckpointError("its checkpoint was made with other values")
        journal = StudyPaths(self._study).journal(progress.trial)
        events = Events.of_key(journal, self._trial.key)
        found = Found(there[-1], progress, tuple(events.reports[: progress.reports]))
        if len(found.reports) < progress.reports:
            raise CheckpointError(f"the journal of trial {progress.trial} has not all of its reports")
        self._check_digest(found, journal, events)
        return found

    @property
    def size(self) -> int:
        """Bytes that they take on the disk; 0 where there are none, or none that can be gone on from."""
        try:
            return sum(path.lstat().st_size for one in self._there() for path in files_in(one))
        except OSError:
            return 0

    def discard(self) -> None:
        """Remove them all."""
        remove(self.folder, below=self._study)
        with contextlib.suppress(OSError):  # those of other trials are in there
            check_place(self.folder.parent, below=self._study).rmdir()

    def _there(self) -> list[Path]:
        """The whole ones, the newest last."""
        return sorted(path for path in self.folder.glob("[0-9]*-[0-9]*") if re.fullmatch(r"\d{3,}-\d{9}", path.name))

    def _check_digest(self, found: Found, journal: Path, events: Events) -> None:
        """Check that the files are those that were written, by this user's journal.

        Raises:
            CheckpointError: They are not.
        """
        digest = next((one.digest for one in reversed(events.all(Saved)) if one.name == found.folder.name), None)
        try:
            check_ours(journal, below=self._study, beside=self.folder)
            if digest is None:
                raise CheckpointError(f"the journal of trial {found.progress.trial} has no digest of its checkpoint")
            if digest_of(found.folder) != digest:
                raise CheckpointError(
                    f"the files of its checkpoint {found.folder.name} are not those that were written: the disk has "
                    "changed them, or someone else has"
                )
        except OSError as error:
            raise CheckpointError(f"its checkpoint cannot be read: {error!r}") from error


def check_ours(*paths: Path, below: Path, beside: Path) -> None:
    """Check that files are where their names say, and made by this user: they may be unpickled.

    Args:
        *paths: The files.
        below: The study's folder.
        beside: The folder that tells as whom files are made here: a server may have other numbers for users.

    Raises:
        OSError: They are not.
    """
    for path in paths:
        check_place(path, below=below)
    with tempfile.TemporaryFile(dir=beside) as mine:
        me = os.fstat(mine.fileno()).st_uid
    for path in paths:
        if (owner := path.lstat().st_uid) != me:
            raise PermissionError(f"{path} belongs to another user ({owner}), whose code it could run")


def _make(folder: Path) -> None:
    """Make a folder; the one above may be removed at that moment, with the last checkpoint of another trial."""
    for is_last in (False, False, True):
        try:
            folder.mkdir(parents=True)
        except FileNotFoundError:
            if is_last:
                raise
        else:
            return
