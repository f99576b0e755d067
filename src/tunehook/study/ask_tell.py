"""Ask and tell: the trials of a study, from their values to their ends. A process makes its own after a fork."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from optuna.exceptions import UpdateFinishedTrialError

from tunehook.record import Journal
from tunehook.search import Course, Method
from tunehook.session import Checkpoints
from tunehook.space import GridExhausted, SpaceError
from tunehook.storage import FEASIBLE, Ledger
from tunehook.study.again import Again
from tunehook.study.holders import Holders
from tunehook.study.lost import Lost, Tells
from tunehook.study.members import Members
from tunehook.study.models import tidy
from tunehook.study.pausing import Pausing
from tunehook.study.places import Places
from tunehook.study.restoring import Restoring
from tunehook.study.terms import Terms
from tunehook.system import contains, fixed_values, given_values, kept_random, note_report, reports_of
from tunehook.trial import (
    ASKED_AGAIN,
    INTERVAL_ENDS,
    Budget,
    Decision,
    JournalError,
    Outcome,
    StudyError,
    StudyFinished,
    StudyFull,
    Trial,
    is_misuse,
)

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial

log = logging.getLogger("tunehook")

_REMOVAL = 0.3  # seconds in which a folder of files is removed, as a rule


class AskTell:
    """Asks for the trials of a study, and tells what they measured and how they ended.

    Args:
        ledger: The storage.
        method: Who proposes values and stops trials.
        terms: What `optimize` was asked for.
        leads: The study, which leads trials.
    """

    def __init__(self, ledger: Ledger, method: Method, terms: Terms, leads: Tells) -> None:
        self.ledger, self._method, self._leads, self._terms = ledger, method, leads, terms
        self.holders = Holders(ledger)
        self.again = Again(ledger, terms)
        self.places = Places(ledger, self.holders, terms)
        self.pausing = Pausing(ledger, method, terms, self.places)
        self.lost = Lost(ledger, self.holders, self.again, leads)
        self.restoring = Restoring(ledger, self.holders, self.again, leads)
        population = method.population
        self.members = None if population is None else Members(ledger, population, seed=method.seed)
        self._budget: Budget | None = None  # of which the pruner is
        self._was_removed = False  # the study, while it was used here
        self._courses: dict[int, Course] = {}  # of the trials that run here

    def look(self) -> None:
        """Make the study good whose file was removed, or put in another one's place, while it is used here.

        Raises:
            StudyError: It cannot be made good.
        """
        if not self.ledger.is_there:
            paths, name = self.ledger.paths, self.ledger.name
            log.warning(
                "The file of study '%s' in %s was removed while it is used: it is written again.", name, paths.folder
            )
            self._was_removed = True
            self._renew()

    def close(self) -> None:
        """Leave the study whole, at the end of `Study.optimize`."""
        self.look()
        if self._was_removed:  # who removes a folder may have gone on behind the file of the study
            self.restoring.write_journals()
        self.pausing.tell_what_is_left()
        tidy(self.ledger, self._terms.keep)

    def _renew(self) -> None:
        for is_last in (False, False, False, True):
            try:
                self.ledger.renew()
                self.restoring.write_journals()
                self.restoring.run()
            except (StudyError, OSError):  # a folder may be removed file by file, for a while
                if is_last:
                    raise
                time.sleep(_REMOVAL)
            else:
                return

    def ask(self) -> Trial:
        """Ask for a trial, which is running from now on."""
        self.look()
        self.lost.reclaim()
        asked = self.pausing.ask() or self._new()
        trial = self.ledger.as_trial(asked)
        try:
            self.restoring.check_free(trial)
            Journal(trial.folder).begin(trial, is_given=bool(fixed_values(asked)))
        except JournalError as error:  # nobody would find its process, so it would run for ever
            self._leads.tell(trial, Outcome("interrupted", str(error)))
            raise
        return trial

    def _new(self) -> AskedTrial:
        """A new trial; where there is to be none, a paused one for which the end is the time to go on."""
        try:
            if self._terms.is_over:
                raise StudyFull(f"The time of study '{self.ledger.name}' is up.")
            self.places.check()
            asked = self._ask()
            self.ledger.take(asked)
            self.places.check(asked)
        except StudyFinished:
            if (paused := self.pausing.ask(is_closing=True)) is not None:
                return paused
            raise
        return asked

    def _ask(self) -> AskedTrial:
        with kept_random():
            try:
                while self._is_double(asked := self._propose()):
                    pass
                self._check_given(asked.number, fixed_values(asked))
            except GridExhausted as error:
                raise StudyFinished(f"Study '{self.ledger.name}' is finished: {error}") from error
            except BaseException as error:
                self._end_unasked(error)
                raise
        return asked

    def _propose(self) -> AskedTrial:
        if self.members is not None:
            self.members.prepare()
        return self.ledger.ask()

    def _is_double(self, asked: AskedTrial) -> bool:
        return self.again.is_double(asked) or (self.members is not None and self.members.is_double(asked))

    def _check_given(self, number: int, given: Mapping[str, Any]) -> None:
        """Check the raw values that a trial was enqueued with past `Study.enqueue`."""
        for name, raw in given.items():
            if name not in self.ledger.distributions or contains(self.ledger.distributions[name], raw):
                continue
            raise SpaceError(
                f"Trial {number} was enqueued with {name}={raw!r}, which is none of Optuna's raw values of "
                f"{self.ledger.space.searched[name]!r}; the trial is left out.\n"
                "  Enqueue your own values: study.enqueue({...})."
            )

    def _end_unasked(self, error: BaseException) -> None:
        """End a trial that could not be asked for; values that it was given are asked again, unless they are wrong.

        Raises:
            SpaceError: They are wrong.
        """
        with contextlib.suppress(StudyError):  # the storage; the error that is raised says so
            frozen = self.ledger.begun_last()
            if frozen is None:
                return
            given = given_values(frozen) or {}
            wrong = error if given and isinstance(error, SpaceError) else None  # no configuration has them
            try:
                self._check_given(frozen.number, given)
            except SpaceError as found:
                wrong = found
            if wrong is None:
                self.lost.recover_nameless(frozen, Outcome("interrupted", f"it could not be asked for: {error!r}"))
                return
            self.lost.end_nameless(frozen, Outcome("failed", str(wrong)))
            if wrong is not error:
                raise wrong from error

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Take the metric of one step of a running trial and answer whether to go on."""
        self.look()
        try:
            running = self.ledger.asked(trial.number)
            course = self._courses.get(trial.number) or Course(trial.mode, reports_of(running))
            self._courses[trial.number] = course
            is_new = step not in reports_of(running)
            if is_new:  # not of a trial that starts over after a pause
                note_report(running, step, value)
        except UpdateFinishedTrialError:
            return Decision(True, "another process took the trial for lost and told its end", "interrupted")
        if not is_new:  # it was judged: where a trial goes on without its checkpoint, it would never pass its rung
            return Decision()
        course.add(step, value)
        if not self._method.judges:
            return Decision()
        say = f"{trial.metric} {value:.6g} at step {step}"
        if self._method.pauses:
            return self.pausing.judge(running, budget, step, say)
        if self._budget != budget:
            self._budget = budget
            self.ledger.study.pruner = self._method.pruner(budget)
        with self.ledger.kept.remembering():
            return self._method.judge(self.ledger.study, running, course, step, say)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take the end of a trial. What is told first counts."""
        try:
            self.look()
            self._tell(trial, outcome)
        except UpdateFinishedTrialError:  # another process told it at the same moment
            return
        except StudyError:
            self.lost.remember(trial, outcome)
            raise
        finally:
            self.ledger.let_go(trial.number)
            self._courses.pop(trial.number, None)
        self.look()
        if outcome.state in ASKED_AGAIN:
            self.again.ask(self.ledger.space.encode(trial.params), trial.attempt + 1, trial.key)
        if is_misuse(outcome) and trial.lineage is None:  # which says nothing of the values: they are the next trial's
            self.ledger.enqueue(self.ledger.space.encode(trial.params))
        if outcome.state == "paused":
            self.pausing.end_left_behind(self._method.trials if not self._method.is_grid else self.ledger.notes.wanted)
            return
        is_kept = trial.lineage is not None and outcome.reason.startswith(INTERVAL_ENDS)
        if not is_kept and (outcome.state not in ASKED_AGAIN or self.again.is_last(trial.attempt)):
            Checkpoints(trial).discard()
        tidy(self.ledger, self._terms.keep, trial)
        if self.members is not None:
            self.members.forget(trial)

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        running = self.ledger.asked(trial.number)
        if self._method.pauses and outcome.state == "complete" and not reports_of(running):
            self.pausing.say(f"trials are not paused: no {trial.metric} is measured before they end.")
        if outcome.state in ASKED_AGAIN:
            self.again.note(running, self.ledger.space.encode(trial.params), trial.attempt + 1, trial.key)
        is_unknown = bool(trial.others) and not outcome.values and outcome.state == "pruned"
        if outcome.state == "infeasible" or is_unknown:  # Optuna's samplers have no other use for it
            running.set_constraint(FEASIBLE, 1.0)
        if outcome.state == "paused":
            self.pausing.keep(running, trial, outcome)
        elif (
            self._method.is_named
        ):  # these samplers do nothing after a trial, and Optuna would read it back three times
            self.ledger.end(running, outcome)
        else:
            self.ledger.tell(running, outcome)
