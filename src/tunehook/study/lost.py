"""Lost trials: those whose process is gone are told, with what their journal holds, and asked again."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from optuna.exceptions import UpdateFinishedTrialError

from tunehook.record import Events, Journal, is_here
from tunehook.search import GridSampler
from tunehook.session import TrialSession
from tunehook.space import GridExhausted
from tunehook.storage import Ledger, stored_attempt, stored_owner
from tunehook.study.again import Again
from tunehook.study.holders import Holders
from tunehook.system import given_values
from tunehook.trial import JournalError, Outcome, Trial, objective_value

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

log = logging.getLogger("tunehook")

_LOOK = 5.0  # seconds between two looks for trials whose process is gone

# Ends that this process could not tell, as the storage failed, by the trial's folder: told when it is used again, also
# by another study object of the same name.
_untold: dict[Path, tuple[Trial, Outcome]] = {}


class Tells(Protocol):
    """Who leads trials, and tells their ends."""

    def session(self, trial: Trial) -> TrialSession:
        """The session of a trial."""

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take the end of a trial."""


class Lost:
    """Tells the trials of a study whose process is gone.

    Args:
        ledger: The storage.
        holders: Who runs the trials.
        again: Asks their values again.
        leads: The study.
    """

    def __init__(self, ledger: Ledger, holders: Holders, again: Again, leads: Tells) -> None:
        self._ledger, self._holders, self._again, self._leads = ledger, holders, again, leads
        self._looked = float("-inf")

    def reclaim(self) -> None:
        """Tell trials whose process is gone as interrupted; every five seconds at most."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        self._again.ask_left_out(self._ledger.trials())
        for frozen in self._holders.running():
            untold = _untold.pop(self._ledger.paths.trial(frozen.number), None)
            if untold is not None and untold[0].key == self._ledger.key_of(frozen):
                self._leads.tell(*untold)
                continue
            holder, reason = self._holders.of(frozen)
            if holder == "lost":
                outcome = self._recover(frozen, reason)
                log.info("Trial %d: %s (%s)", frozen.number, outcome.state, outcome.reason)

    @staticmethod
    def remember(trial: Trial, outcome: Outcome) -> None:
        """Remember an end that could not be told now."""
        _untold[trial.folder] = trial, outcome

    def _recover(self, frozen: FrozenTrial, reason: str) -> Outcome:
        """End a trial whose process is gone."""
        if not self._ledger.has_values(frozen):
            return self.recover_nameless(frozen, Outcome("interrupted", reason))
        trial = self._ledger.as_trial(frozen)
        if Events.of_trial(trial):
            return self._leads.session(trial).recover(reason)
        # Its journal is on another machine, or was not begun.
        series = sorted(frozen.intermediate_values.items())
        value, step = objective_value(series, trial.mode, self._ledger.objective) or (None, None)
        outcome = Outcome("interrupted", reason, value, step)
        self._keep_end(frozen, trial, outcome)
        self._leads.tell(trial, outcome)
        return outcome

    def recover_nameless(self, frozen: FrozenTrial, outcome: Outcome) -> Outcome:
        """End a trial that got no values, or not all; they are known where they were given, or where it is a grid."""
        study, values = self._ledger.study, given_values(frozen)
        if values is None and isinstance(study.sampler, GridSampler):
            try:
                values = self._ledger.space.encode(study.sampler.point(study, frozen.number))
            except GridExhausted:
                outcome = Outcome("interrupted", "the grid has no values for it")
        is_told = self.end_nameless(frozen, outcome, again=values)
        if is_told and values is not None:
            if self._ledger.space.is_complete(values):
                trial = self._ledger.as_trial(frozen, self._ledger.space.decode(values))
                self._keep_end(frozen, trial, outcome)
            self._again.ask(values, (stored_attempt(frozen) or 0) + 1, self._ledger.key_of(frozen))
        return outcome

    def end_nameless(self, frozen: FrozenTrial, outcome: Outcome, *, again: Mapping[str, Any] | None = None) -> bool:
        """Write the end of such a trial; whether no other process did so at the same moment."""
        try:
            if again is not None:
                self._again.note(frozen, again, (stored_attempt(frozen) or 0) + 1, self._ledger.key_of(frozen))
            self._ledger.end(frozen, outcome)
        except UpdateFinishedTrialError:
            return False
        return True

    def _keep_end(self, frozen: FrozenTrial, trial: Trial, outcome: Outcome) -> None:
        """Begin and end the journal of a trial whose process was killed before it could, so that none is missing."""
        owner = stored_owner(frozen) or {}
        if is_here(owner) and not frozen.intermediate_values:
            journal = Journal(trial.folder)
            with contextlib.suppress(JournalError):  # the storage has it
                journal.begin(trial)
                journal.end(outcome)
