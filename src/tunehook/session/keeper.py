"""What a trial is recorded and decided with, in the one process that it belongs to."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from tunehook.record import Events, Journal, LinkError, Recorder, Recorders
from tunehook.session.checkpoints import Checkpoints
from tunehook.session.continuation import Continuation
from tunehook.session.isolation import claim_runs
from tunehook.session.kept import KeptModels
from tunehook.snapshot import Arrays, PatternError, SnapshotPlan, Taker
from tunehook.trial import Budget, Decision, JournalError, Outcome, Trial, TrialError

log = logging.getLogger("tunehook")


class Judge(Protocol):
    """Who owns a trial: a study in this process, or the way to one in another."""

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Take the tuned metric of one step and answer whether to go on."""

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take the end of the trial."""


class Keeper:
    """The judge, the journal and the recorders, the snapshots and the checkpoints of a trial.

    On a rank that only follows, and in a process that a training has forked, there are none of these.

    Args:
        trial: The trial.
        judge: Who decides and is told the end; ``None`` where nothing is recorded.
        recorders: Further recorders beside the journal.
        snapshots: Which snapshots of the parameters to take, ``None`` for none.
        keeps_checkpoints: Whether a later attempt shall go on from where this one is interrupted.
        pauses: Whether the trial is paused and goes on later.
        keeps_models: Whether the trained model is kept.
    """

    def __init__(
        self,
        trial: Trial,
        judge: Judge | None = None,
        *,
        recorders: Sequence[Recorder] = (),
        snapshots: SnapshotPlan | None = None,
        keeps_checkpoints: bool = False,
        pauses: bool = False,
        keeps_models: bool = False,
    ) -> None:
        self.judge = judge
        self.recorders = Recorders() if judge is None else Recorders(recorders, Journal(trial.folder, trial=trial))
        self.taker = None if judge is None or snapshots is None else Taker(snapshots)
        kept = Checkpoints(trial) if (keeps_checkpoints or pauses) and judge is not None else None
        models = KeptModels(trial, self.recorders) if keeps_models and judge is not None else None
        self.continuation = Continuation(trial, self.recorders, kept, pauses=pauses, models=models)

    @property
    def journal(self) -> Journal | None:
        """The journal, ``None`` where nothing is recorded."""
        return self.recorders.journal

    def moved(self, trial: Trial) -> Keeper:
        """The same for a copy of this process that takes the trial over, where nothing is open yet."""
        theirs = copy.copy(self)
        theirs.recorders = self.recorders.moved(Journal(trial.folder, trial=trial))
        mine = self.continuation
        models = None if mine.models is None else KeptModels(trial, theirs.recorders)
        theirs.continuation = Continuation(trial, theirs.recorders, mine.checkpoints, pauses=mine.pauses, models=models)
        return theirs

    def without_judge(self) -> Keeper:
        """The same for a process that has a judge of its own."""
        theirs = copy.copy(self)
        theirs.judge = None
        return theirs

    def open(self, trial: Trial, effective: Mapping[str, Any], loggers: Sequence[object]) -> None:
        """Open the recorders, and write the effective configuration.

        Raises:
            TrialError: A logger writes to a run that is not this trial's.
        """
        if self.journal is None:
            return
        self.recorders.open(trial, effective, loggers)
        claim_runs(trial, loggers)
        if trial.is_again:
            self.continuation.ask_what_they_have(0)
        self.journal.config(effective, records=self.recorders.where())

    def judged(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """What the judge says of a measurement; one that is not finite needs no judge."""
        if not math.isfinite(value):
            return Decision(True, f"{trial.metric} is {value} at step {step}", "infeasible")
        return Decision() if self.judge is None else self.judge.report(trial, step, value, budget)

    def asked_to_stop(self) -> Decision:
        """What someone decided who watches a recorder, such as with the Stop button of a web page.

        The trial is pruned, by a person in place of a rule: its values are not asked again, and the search learns what
        it came to.
        """
        reason = self.recorders.why_stop()
        return Decision() if reason is None else Decision(True, reason, "pruned")

    def snapshot(
        self, after: int, step: int, collect: Callable[[], Arrays], *, is_epoch_end: bool, is_end: bool
    ) -> None:
        """Take a snapshot of the parameters after a measurement, where one is due; see `TrialSession.snapshot`."""
        taker = self.taker
        if taker is None or not taker.is_due(step, is_epoch_end=is_epoch_end, is_end=is_end):
            return
        try:
            arrays, gradients = collect()
            if not arrays:  # a model that is built by its first batch
                return
            with taker.measure(step):
                self.recorders.snapshot(after, taker.load().take(step, arrays, gradients))
        except PatternError as error:
            raise TrialError(str(error)) from error
        except Exception as error:  # noqa: BLE001 - statistics end no training
            self.taker = None
            log.warning("No more snapshots of the parameters in this trial: %r", error)
            self.recorders.note(f"no more snapshots: {error!r}")

    def note_model(self, trial: Trial, path: Path) -> None:
        """Write where the training has kept its model."""
        if self.journal is None:
            return
        try:
            self.journal.checkpoint(path)
        except LinkError as error:
            self.recorders.tell(f"nobody finds the model of {trial.name}: {error}")

    def finish(self, trial: Trial, outcome: Outcome, *, is_told: bool, is_leaving: bool = False) -> None:
        """Let every keeper hear of the end, also where another one cannot write any more.

        Where neither the journal nor the study could take it, the trial is asked again, so its recorders hear of an
        interrupted one.

        Args:
            trial: The trial.
            outcome: How it ended.
            is_told: Whether the journal has it.
            is_leaving: Whether this process ends with the trial. Defaults to False.
        """
        if self.journal is None or self.judge is None:
            return
        is_known = False
        try:
            if not is_told:
                self.journal.end(outcome)
                is_told = True
        finally:
            try:
                if is_leaving and outcome.state == "paused":  # another one may go on with its records at once
                    self.recorders.close(outcome)
                    self.recorders.wait()
                self.judge.tell(trial, outcome)
                is_known = True
            finally:
                try:
                    is_known = is_told or self._end_again(trial, outcome) or is_known
                finally:
                    lost = replace(outcome, state="interrupted", reason="its end could not be written")
                    self.recorders.close(outcome if is_known else lost)
                    self.journal.close()

    def _end_again(self, trial: Trial, outcome: Outcome) -> bool:
        """Write the end once more where it could not be written, as by a Ctrl-C at that line or for lack of room.

        Where there is no room yet, it is written from the study when that is opened again.

        Returns:
            Whether the journal has it.
        """
        if self.journal is None:
            return False
        self.journal.close()
        if Events.of_trial(trial).outcome is None:
            try:
                self.journal.end(outcome)
            except JournalError:  # which is raised already
                return False
        return True
