"""Paused trials: who pauses, who goes on, and what is kept of them until then.

A paused trial keeps its number, its journal and its checkpoint. In the storage it waits, and of several processes that
want it to go on one gets it: a storage lets a trial run once. So all decide by what the storage holds, without a lock.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunehook.record import Journal
from tunehook.search import Climb, Method, goes_on, left_behind, rungs_of
from tunehook.session import Checkpoints
from tunehook.storage import KEY, PAUSE, RUNGS, Ledger, stored_outcome, stored_pause, stored_rungs
from tunehook.study.terms import Terms
from tunehook.trial import Budget, Decision, Outcome, Trial, objective_value

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial
    from optuna.trial import FrozenTrial

log = logging.getLogger("tunehook")

_MANY = 300  # trials, where nobody knows how many there will be


class Pausing:
    """Pauses trials of a study, and lets them go on.

    Args:
        ledger: The storage.
        method: Who proposes values and stops trials.
        terms: How many trials are wanted, of which one that goes on takes its place.
    """

    def __init__(self, ledger: Ledger, method: Method, terms: Terms) -> None:
        self._ledger, self._method, self._terms = ledger, method, terms
        self._is_told = False  # that trials are not paused

    def judge(self, running: AskedTrial, budget: Budget, step: int, say: str) -> Decision:
        """Whether a trial pauses after a report.

        Args:
            running: The trial, which has reported.
            budget: How long it trains.
            step: Number of the report.
            say: What it measured, for people.
        """
        rungs = rungs_of(budget)
        if not rungs and not self._is_told:
            self._is_told = True
            many = (
                "how many epochs they have is not known" if budget.epochs is None else f"{budget.epochs} epochs are few"
            )
            log.info("Study '%s': trials are not paused and train to their end: %s.", self._ledger.name, many)
        if step not in rungs:
            return Decision()
        if step == rungs[0]:
            self._ledger.note(running, RUNGS, list(rungs))
        climbs = self._climbs(running.number)
        if goes_on(climbs, self._ledger.mode) == running.number:  # at once, so it needs no checkpoint
            return Decision()
        return Decision(True, f"pause: {say}", "paused")

    def keep(self, running: AskedTrial, trial: Trial, outcome: Outcome) -> None:
        """Let a trial wait that was paused."""
        pauses = stored_pause(running)["count"] + 1
        is_kept = Checkpoints(trial).size > 0
        self._ledger.note(running, KEY, trial.key)  # which follows from when it was asked for, as it will be again
        self._ledger.note(running, PAUSE, {"count": pauses, "time": time.time(), "is_kept": is_kept})
        self._ledger.end(running, outcome)

    def end_left_behind(self, most: int | None) -> None:
        """End the paused trials that can never go on, as pruned, and remove their checkpoints.

        Args:
            most: How many trials there will be; ``None`` where nobody knows.
        """
        for number in left_behind(self._climbs(), most or _MANY, self._ledger.mode):
            frozen = self._ledger.numbered(number)
            before = stored_outcome(frozen)
            asked = self._ledger.go_on(frozen)  # so that no other process lets it go on meanwhile
            if asked is not None and before is not None:
                trial = self._ledger.as_trial(asked)
                outcome = dataclasses.replace(before, state="pruned", reason=f"{before.reason}, and was left behind")
                Journal(trial.folder).end(outcome)
                self._ledger.end(asked, outcome)
                self._ledger.let_go(number)
                Checkpoints(trial).discard()

    def tell_what_is_left(self) -> None:
        """Say how many trials are paused, and what room their checkpoints take."""
        waiting = [self._ledger.as_trial(one) for one in self._ledger.begun() if self._waits(one)]
        room = sum(Checkpoints(trial).size for trial in waiting) / 1e6
        if waiting:
            log.info(
                "Study '%s': %d trials are paused, and the best of them go on where more trials are asked for; their "
                "checkpoints take %.3g MB in %s.",
                self._ledger.name, len(waiting), room, self._ledger.paths.folder,
            )  # fmt: skip

    def next(self, *, is_closing: bool = False) -> int | None:
        """The number of the paused trial that goes on next, ``None`` where none does.

        Args:
            is_closing: Whether no new trial begins any more. Defaults to False.
        """
        return goes_on(self._climbs(), self._ledger.mode, is_closing=is_closing) if self._method.pauses else None

    def ask(self, *, is_closing: bool = False) -> AskedTrial | None:
        """The paused trial that goes on now, which runs from now on; ``None`` where none does."""
        while (number := self.next(is_closing=is_closing)) is not None:
            if (asked := self._ledger.go_on(self._ledger.numbered(number))) is not None:
                self._terms.counted.add(number)
                return asked
        return None

    def _climbs(self, pausing: int | None = None) -> list[Climb]:
        """How far the trials have come, each by its latest attempt.

        Args:
            pausing: One that runs and would wait.
        """
        trials = {self._ledger.key_of(one): one for one in self._ledger.begun() if one.intermediate_values}
        known = next((rungs for one in trials.values() if (rungs := stored_rungs(one))), ())
        if not known:  # as of trials that were put in from their journals
            known = tuple(sorted({one.last_step or 0 for one in trials.values() if self._waits(one)}))
        return [
            Climb(one.number, self._values(one, stored_rungs(one) or known), one.number == pausing or self._waits(one))
            for one in trials.values()
        ]

    def _values(self, frozen: FrozenTrial, rungs: tuple[int, ...]) -> tuple[float, ...]:
        reports, last = frozen.intermediate_values, frozen.last_step or 0
        found = [
            self._value({step: reports[step] for step in reports if step <= rung}) for rung in rungs if rung <= last
        ]
        return tuple(value for value in found if value is not None)

    def _value(self, reports: Mapping[int, float]) -> float | None:
        found = objective_value(sorted(reports.items()), self._ledger.mode, self._ledger.objective)
        return None if found is None else found[0]

    def _waits(self, frozen: FrozenTrial) -> bool:
        """Whether a trial is paused and can go on here: where its checkpoint is, or where it has none of ours."""
        outcome = None if not frozen.state.is_finished() else stored_outcome(frozen)
        if outcome is None or outcome.state != "paused":
            return False
        return not stored_pause(frozen)["is_kept"] or Checkpoints(self._ledger.as_trial(frozen)).size > 0
