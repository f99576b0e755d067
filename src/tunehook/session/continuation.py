"""How a trial goes on where an earlier attempt was interrupted, and keeps what a later one goes on from.

A trial that goes on takes the reports over: its journal holds all of them, so whoever reads it, such as after another
kill, needs no other one. Its run has the rows of the attempts in their order; the first reports of an attempt that goes
on are those that the run has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tunehook.record import Recorders, join, read_attempts
from tunehook.session.checkpoints import CheckpointError, Checkpoints, Found
from tunehook.session.kept import KeptModels
from tunehook.trial import JournalError, Trial, TrialError

log = logging.getLogger("tunehook")

_told: set[tuple[Path, str]] = set()  # of each study, why its trials are not paused


class Continuation:
    """The checkpoints of a trial: those of earlier attempts to go on from, and its own.

    Args:
        trial: The trial.
        recorders: Its journal, and the recorders beside it.
        checkpoints: The checkpoints, ``None`` where none are kept.
        pauses: Whether the trial is paused and goes on later, where that can be exact. Defaults to False.
        models: The models that it keeps, which go with a checkpoint. Defaults to None, none.

    Attributes:
        trial: The trial.
        checkpoints: The checkpoints; ``None`` from where on none are kept.
        is_needed: Whether the next one has to be kept, since others go on from it.
    """

    def __init__(
        self,
        trial: Trial,
        recorders: Recorders,
        checkpoints: Checkpoints | None = None,
        *,
        pauses: bool = False,
        models: KeptModels | None = None,
    ) -> None:
        self.trial, self.pauses, self.models = trial, pauses, models
        self._recorders = recorders
        self.checkpoints = checkpoints
        self._is_full = False  # whether it was told that one has no room
        self.is_needed = False

    def find(self) -> Found | None:
        """The checkpoint of an earlier attempt to go on from; one that cannot be used is told in a line."""
        try:
            return None if self.checkpoints is None else self.checkpoints.find()
        except CheckpointError as error:
            self.start_over(str(error))
            return None

    def start_over(self, why: str) -> None:
        """Say in a line that the trial does not go on from its checkpoint, and why.

        Raises:
            CheckpointError: It goes on with the training of another one, or not at all.
        """
        lineage = self.trial.lineage
        if lineage is not None and lineage.parent is not None:
            raise CheckpointError(f"{self.trial.name} cannot go on with the training of trial {lineage.parent}: {why}")
        self._recorders.tell(f"{self.trial.name} starts over: {why}")

    def take_over(self, found: Found) -> Iterator[tuple[int, Mapping[str, float]]]:
        """Record what an earlier attempt reported up to a checkpoint, and give each step with its metrics."""
        journal, progress = self._recorders.journal, found.progress
        if journal is None:
            return
        log.info("%s goes on after step %d of its attempt %d.", self.trial.name, progress.step, progress.attempt)
        self.ask_what_they_have(progress.reports)
        journal.goes_on(trial=progress.trial, attempt=progress.attempt, step=progress.step, reports=progress.reports)
        is_kept = progress.trial == self.trial.number  # before a pause, in this very journal
        for report in found.reports:
            self._recorders.report(report.step, report.metrics, is_kept=is_kept)
            yield report.step, report.metrics
        if self.models is not None:
            self.models.take_over(found)

    def ask_what_they_have(self, taken: int) -> None:
        """Ask recorders whose record is one for all attempts what they have of the earlier ones.

        Args:
            taken: How many reports come before the checkpoint, 0 where the trial starts over.
        """
        rows = join(read_attempts(self.trial))
        self._recorders.ask_what_they_have(taken=taken, made=rows.made, seen=rows.seen)

    def keep(self, write: Callable[[Path], None], *, step: int) -> bool:
        """Keep a checkpoint; one that fails is told in a line, and the training goes on.

        Args:
            write: Writes its files into a folder.
            step: The last measurement.

        Returns:
            Whether it is kept.
        """
        journal = self._recorders.journal
        if self.checkpoints is None or journal is None:
            return False
        if self.models is not None:
            self.models.write()
        try:
            self.checkpoints.save(write, step=step, reports=self._recorders.reports, journal=journal)
        except (OSError, JournalError) as error:  # no room, which may come back
            if self.is_needed:
                raise JournalError(f"The checkpoint of {self.trial.name} cannot be kept: {error}") from error
            if not self._is_full:
                self._is_full = True
                told = f"a checkpoint of {self.trial.name} could not be kept: {error}; the one before it counts"
                self._recorders.tell(told)
        except Exception as error:  # noqa: BLE001 - such as a value that cannot be pickled; it ends no training
            self.drop(f"it could not be saved: {error!r}")
        else:
            self._is_full = False
            if self.models is not None:
                self.models.prune()
            return True
        return False

    def drop(self, why: str) -> None:
        """Keep none from now on, and say why in a line: the trial would not go on exactly.

        Raises:
            TrialError: It is one of a population, which needs them.
        """
        if self.trial.lineage is not None:
            raise TrialError(
                f"search='pbt' goes on from checkpoints, and none can be kept: {why}.\n"
                "  Remove that from the training, or use another search."
            )
        if self.checkpoints is not None:
            self.checkpoints.discard()
            self.checkpoints = None
            name = self.trial.name
            text = f"no checkpoints of {name}, which starts over if it is interrupted: {why}"
            if not self.pauses:
                self._recorders.tell(text)
                return
            text = f"{name} is not paused and trains to its end: {why}"
            told = self.trial.folder.parent, why
            (self._recorders.note if told in _told else self._recorders.tell)(text)  # it is so in each trial
            _told.add(told)
