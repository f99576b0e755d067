"""Paused trials: who pauses, who goes on, and what is kept of them until then.

A paused trial keeps its number, its journal and its checkpoint. In the storage it waits, and of several processes that
want it to go on one gets it: a storage lets a trial run once. So all decide by what the storage holds, without a lock.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tunehook.record import Journal
from tunehook.search import Climb, Method, foremost, goes_on, left_behind, rungs_by
from tunehook.session import Checkpoints
from tunehook.storage import (
    BRACKET,
    KEY,
    PAUSE,
    RUNGS,
    Ledger,
    stored_again,
    stored_bracket,
    stored_pause,
    stored_rungs,
)
from tunehook.study.places import Places
from tunehook.study.terms import Terms
from tunehook.trial import Budget, Decision, Outcome, Trial, objective_value

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial
    from optuna.trial import FrozenTrial

log = logging.getLogger("tunehook")

_T = TypeVar("_T")
_MANY = 300  # trials, where nobody knows how many there will be


class Pausing:
    """Pauses trials of a study, and lets them go on.

    Args:
        ledger: The storage.
        method: Who proposes values and stops trials.
        terms: How many trials are wanted, of which one that goes on takes its place.
        places: Whether there is one for a new trial.
    """

    def __init__(self, ledger: Ledger, method: Method, terms: Terms, places: Places) -> None:
        self._ledger, self._method, self._terms, self._places = ledger, method, terms, places
        self._is_told = False  # whether trials are paused
        self._found: dict[tuple[Hashable, int], tuple[FrozenTrial, Any]] = {}

    def judge(self, running: AskedTrial, budget: Budget, step: int, say: str) -> Decision:
        """Whether a trial pauses after a report.

        Args:
            running: The trial, which has reported.
            budget: How long it trains.
            step: Number of the report.
            say: What it measured, for people.
        """
        bracket, rungs = rungs_by(self._rule, budget, running.number)
        if not rungs and not bracket:
            why = f"{budget.epochs} epochs are few" if budget.epochs else "how many epochs they have is not known"
            self.say(f"trials are not paused and train to their end: {why}.")
        if bracket and step == 1:
            self._ledger.note(running, BRACKET, bracket)
        if step not in rungs or (self._method.is_auto and not self._is_value_logged()):
            return Decision()
        if step == rungs[0]:
            self._ledger.note(running, RUNGS, list(rungs))
        climbs, _ = self._climbs(running.number)
        if self._chosen(climbs, is_closing=self._places.are_full(), beside=running.number) == running.number:
            return Decision()  # it goes on at once, so it needs no checkpoint
        if self._method.is_auto:
            places = " and ".join(map(str, rungs))
            self.say(
                f"trials pause after measurement {places} of {budget.reports}, and only the best go on. "
                "With stopper=None all train to their end."
            )
        return Decision(True, f"pause: {say}", "paused")

    @property
    def _rule(self) -> str:
        return self._method.pausing or "pause"

    def _is_value_logged(self) -> bool:
        """Whether trials are told apart by what they log, and not by something else that their training returns.

        Where it may return their value, the first one that is complete says so.
        """
        measured = [one for one in self._ledger.begun() if one.intermediate_values]
        complete = [one for one in measured if self._ledger.outcome_of(one).state == "complete"]
        if all(map(self._has_logged, complete)):
            return bool(complete) or not self._terms.may_return
        self.say("trials are not paused: the value that their training returns is another one than it logs.")
        return False

    def _has_logged(self, frozen: FrozenTrial) -> bool:
        reports = frozen.intermediate_values
        return self._once("logged", frozen, lambda: frozen.value in (self._value(reports), *reports.values()))

    def say(self, what: str) -> None:
        """Say whether trials are paused, once."""
        if not self._is_told:
            self._is_told = True
            log.info("Study '%s': %s", self._ledger.name, what)

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
        climbs, trials = self._climbs()
        for number in left_behind(climbs, most or _MANY, self._ledger.mode, rule=self._rule):
            before = self._ledger.outcome_of(trials[number])
            # It runs for a moment, so that no other process lets it go on meanwhile.
            asked = self._ledger.go_on(trials[number]) if self._is_here(trials[number]) else None
            if asked is not None:
                trial = self._ledger.as_trial(asked)
                outcome = dataclasses.replace(before, state="pruned", reason=f"{before.reason}, and was left behind")
                Journal(trial.folder).end(outcome)
                self._ledger.end(asked, outcome)
                self._ledger.let_go(number)
                Checkpoints(trial).discard()

    def tell_what_is_left(self) -> None:
        """Say how many trials are paused, and what room their checkpoints take."""
        waiting = [self._ledger.as_trial(one) for one in self._ledger.begun() if self._ledger.is_paused(one)]
        room = sum(Checkpoints(trial).size for trial in waiting) / 1e6
        if waiting:
            log.info(
                "Study '%s': %d trials are paused, and the best of them go on where more trials are asked for; their "
                "checkpoints take %.3g MB in %s.",
                self._ledger.name, len(waiting), room, self._ledger.paths.folder,
            )  # fmt: skip

    def next(self, *, is_closing: bool = False) -> FrozenTrial | None:
        """The paused trial that goes on next, ``None`` where none does.

        Args:
            is_closing: Whether no new trial begins any more. Defaults to False.
        """
        climbs, trials = self._climbs() if self._method.pauses else ([], {})
        while (number := self._chosen(climbs, is_closing=is_closing)) is not None:
            if self._is_here(trials[number]):
                return trials[number]
            climbs = [dataclasses.replace(one, waits=one.waits and one.trial != number) for one in climbs]
        return None

    def _chosen(self, climbs: list[Climb], *, is_closing: bool, beside: int | None = None) -> int | None:
        """The number of the trial that goes on next.

        When the time is up, it is the foremost one, so that there is a complete trial, and none where there is one.

        Args:
            climbs: The trials.
            is_closing: Whether no new trial begins any more.
            beside: One that runs and asks.
        """
        if not self._terms.is_over:
            return goes_on(climbs, self._ledger.mode, rule=self._rule, is_closing=is_closing)
        others = [self._ledger.outcome_of(one).state for one in self._ledger.begun() if one.number != beside]
        return None if {"running", "complete"} & {*others} else foremost(climbs, self._ledger.mode)

    @property
    def has_promotions(self) -> bool:
        """Whether a paused trial is to go on before the study is done, in whichever process and by whichever method."""
        climbs, _ = self._climbs()
        return goes_on(climbs, self._ledger.mode, rule=self._rule, is_closing=True) is not None

    def ask(self, *, is_closing: bool = False) -> AskedTrial | None:
        """The paused trial that goes on now, which runs from now on; ``None`` where none does."""
        while (paused := self.next(is_closing=is_closing)) is not None:
            if (asked := self._ledger.go_on(paused)) is not None:
                self._terms.counted.add(paused.number)
                return asked
        return None

    def _climbs(self, pausing: int | None = None) -> tuple[list[Climb], dict[int, FrozenTrial]]:
        """How far the trials have come, each by its latest attempt, and these by their numbers.

        Args:
            pausing: One that runs and would wait.
        """
        begun = {one.number: one for one in self._ledger.begun() if one.intermediate_values}
        latest = {self._key(one): one for one in begun.values()}
        known = next((rungs for one in begun.values() if (rungs := self._rungs(one))), ())
        if not known:  # as of trials that were put in from their journals
            known = tuple(sorted({one.last_step or 0 for one in begun.values() if self._ledger.is_paused(one)}))
        found = [self._once(known, one, functools.partial(self._climb, one, known)) for one in latest.values()]
        climbs = [climb for climb in found if climb is not None]
        return [dataclasses.replace(one, waits=True) if one.trial == pausing else one for one in climbs], begun

    def _climb(self, frozen: FrozenTrial, known: tuple[int, ...]) -> Climb | None:
        if self._is_lost(frozen):
            return None
        values, is_paused = self._values(frozen, known), self._ledger.is_paused(frozen)
        is_left = self._ledger.outcome_of(frozen).state == "pruned"
        return Climb(frozen.number, values, is_paused, bracket=stored_bracket(frozen), is_left=is_left)

    def _is_lost(self, frozen: FrozenTrial) -> bool:
        """Whether a trial has ended so that nothing comes of it, and another one is to go on in its place."""
        state = self._ledger.outcome_of(frozen).state
        return state in ("failed", "infeasible") or (state == "interrupted" and stored_again(frozen) is None)

    def _key(self, frozen: FrozenTrial) -> str:
        return self._once("key", frozen, lambda: self._ledger.key_of(frozen))

    def _rungs(self, frozen: FrozenTrial) -> tuple[int, ...]:
        return self._once("rungs", frozen, lambda: stored_rungs(frozen))

    def _values(self, frozen: FrozenTrial, known: tuple[int, ...]) -> tuple[float, ...]:
        """What a trial had measured at each rung that it has reached."""
        rungs = self._rungs(frozen) or known
        reports, last = frozen.intermediate_values, frozen.last_step or 0
        reached = [{step: reports[step] for step in reports if step <= rung} for rung in rungs if rung <= last]
        return tuple(value for value in map(self._value, reached) if value is not None)

    def _value(self, reports: Mapping[int, float]) -> float | None:
        found = objective_value(sorted(reports.items()), self._ledger.mode, self._ledger.objective)
        return None if found is None else found[0]

    def _once(self, what: Hashable, frozen: FrozenTrial, find: Callable[[], _T]) -> _T:
        """What is found of a trial, once while the storage gives the same object: there may be many trials."""
        if not frozen.state.is_finished():
            return find()
        known = self._found.get(place := (what, frozen.number))
        if known is None or known[0] is not frozen:
            known = self._found[place] = frozen, find()
        found: _T = known[1]
        return found

    def _is_here(self, paused: FrozenTrial) -> bool:
        """Whether a paused trial can go on here: where its checkpoint is, or where it has none of ours."""
        return not stored_pause(paused)["is_kept"] or Checkpoints(self._ledger.as_trial(paused)).size > 0
