"""How a trial goes on where an earlier attempt was interrupted, and keeps what a later one goes on from.

A trial that goes on takes the reports over: its journal holds all of them, so whoever reads it, such as after another
kill, needs no other one. Its run has the rows of the attempts in their order; the first reports of an attempt that goes
on are those that the run has.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunehook.record import BEGINNING, Place, Recorders, is_snapshot, next_place, read_earlier
from tunehook.session.checkpoints import CheckpointError, Checkpoints, Found
from tunehook.trial import Decision, Trial

log = logging.getLogger("tunehook")


class GoingOn(ABC):
    """What a session of a trial does with checkpoints.

    Attributes:
        trial: The trial.
        step: Its last measurement.
        decision: The answer to it.
        checkpoints: Those of the trial and its attempts, ``None`` where none are kept.
    """

    trial: Trial
    step: int
    decision: Decision
    checkpoints: Checkpoints | None

    _recorders: Recorders
    _series: list[tuple[int, float]]
    _is_full: bool  # whether it was told that a checkpoint has no room

    @abstractmethod
    def _decide(self, step: int, value: float) -> Decision:
        """What the judge says of a measurement."""

    def find_checkpoint(self) -> Found | None:
        """The checkpoint of an earlier attempt to go on from; one that cannot be used is told in a line."""
        try:
            return None if self.checkpoints is None else self.checkpoints.find()
        except CheckpointError as error:
            self.begin_anew(str(error))
            return None

    def begin_anew(self, why: str) -> None:
        """Say in a line that the trial does not go on from its checkpoint, and why."""
        self._recorders.tell(f"{self.trial.name} begins anew: {why}")

    def go_on(self, found: Found) -> None:
        """Take over what an earlier attempt reported up to a checkpoint, now that the adapter has restored it.

        Call it after `ready`, when `budget` is known: the judge hears of each measurement.
        """
        journal = self._recorders.journal
        if journal is None:
            return
        progress = found.progress
        log.info("%s goes on after step %d of its attempt %d.", self.trial.name, progress.step, progress.attempt)
        self._ask_what_they_have(progress.reports)
        journal.goes_on(trial=progress.trial, attempt=progress.attempt, step=progress.step, reports=progress.reports)
        for number, event in enumerate(found.reports, start=1):
            step, metrics = event["step"], {name: float(value) for name, value in event["metrics"].items()}
            self._recorders.report(step, metrics, is_urgent=number == len(found.reports))
            if step > self.step and self.trial.metric in metrics:
                self.step, value = step, metrics[self.trial.metric]
                self._series.append((step, value))
                decision = self._decide(step, value)
                if decision.state == "interrupted":  # another process took this attempt for lost meanwhile
                    self.decision = decision

    def _ask_what_they_have(self, taken: int) -> None:
        """Ask recorders whose record is one for all attempts what they have of the earlier ones.

        Args:
            taken: How many reports lie before the checkpoint, 0 where the trial begins anew.
        """
        made, seen = _made(read_earlier(self.trial))
        self._recorders.ask_what_they_have(taken=taken, made=made, seen=seen)

    def keep_checkpoint(self, write: Callable[[Path], None]) -> None:
        """Keep a checkpoint; one that fails is told in a line, and the training goes on.

        Args:
            write: Writes its files into a folder.
        """
        if self.checkpoints is None or self.decision.stop:
            return
        try:
            self.checkpoints.save(write, step=self.step, reports=self._recorders.reports)
            self._is_full = False
        except OSError as error:  # no room, which may come back
            if not self._is_full:
                self._is_full = True
                self._recorders.tell(
                    f"a checkpoint of {self.trial.name} could not be kept: {error}; the one before it counts"
                )
        except Exception as error:  # noqa: BLE001 - such as a value that cannot be pickled; it ends no training
            self.drop_checkpoints(f"it could not be saved: {error!r}")

    def drop_checkpoints(self, why: str) -> None:
        """Keep none from now on, and say why in a line: the trial would not go on exactly."""
        if self.checkpoints is not None:
            self.checkpoints.discard()
            self.checkpoints = None
            self._recorders.tell(f"no checkpoints of {self.trial.name}, which begins anew if it is interrupted: {why}")


def _made(attempts: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[int, Place]:
    """How many reports earlier attempts have made at most, and where the last of their snapshots lies."""
    made, seen = 0, BEGINNING
    for events in attempts:
        made = max(made, sum(event["event"] == "report" for event in events))
        place = BEGINNING
        for event in events:
            if event["event"] == "snapshot" and is_snapshot(event["snapshot"]):
                place = next_place(place, event["snapshot"]["step"])
        seen = max(seen, place)
    return made, seen
