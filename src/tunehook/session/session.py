"""The life of one trial, driven by every callback: all rules live here once, so that adapters cannot differ."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import os
import reprlib
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunehook.inject import (
    IN_FUNCTION,
    Find,
    Injection,
    Slot,
    may_return_value,
    names_in,
    names_read,
    names_read_too_early,
    near,
    note_injected,
    note_stop,
    unread_values,
)
from tunehook.record import Journal, LinkError, Recorder, Recorders, outline, read_trial
from tunehook.session.checkpoints import Checkpoints
from tunehook.session.continuation import GoingOn
from tunehook.session.isolation import claim_runs
from tunehook.snapshot import Arrays, PatternError, SnapshotPlan, Taker
from tunehook.trial import (
    Budget,
    Decision,
    InjectionError,
    Objective,
    Outcome,
    State,
    Trial,
    TrialError,
    describe,
    holds_numbers,
    injecting,
    objective_value,
    returned_value,
    told_apart,
)

log = logging.getLogger("tunehook")


class Judge(Protocol):
    """Who owns a trial: a study in this process, or the way to one in another."""

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Take the tuned metric of one step and answer whether to go on."""

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take the end of the trial."""


class TrialSession(GoingOn):
    """One trial from its begin to its end.

    A callback calls `begin` with the slots of the user's objects, `ready` when everything is built, `report` and `log`
    as metrics come, and `end`. Values go in, decisions come out; nothing here knows a framework.

    A session belongs to one process. Where the training forks another one, the copy in there puts values in, too, but
    records nothing and ends nothing, which it says once; `take_over` is for frameworks that fork their ranks.

    Args:
        trial: The trial.
        judge: Who decides and is told the end; ``None`` on a rank that only follows, where nothing is recorded.
        recorders: Further recorders beside the journal.
        objective: The rule for the value that counts; see `objective_value`.
        snapshots: Which snapshots of the parameters to take, ``None`` for none.
        keeps_checkpoints: Whether a later attempt shall go on from where this one is interrupted. Defaults to False.
    """

    def __init__(
        self,
        trial: Trial,
        judge: Judge | None = None,
        *,
        recorders: Sequence[Recorder] = (),
        objective: Objective = "best",
        snapshots: SnapshotPlan | None = None,
        keeps_checkpoints: bool = False,
    ) -> None:
        self.trial = trial
        self.budget = Budget()
        self.decision = Decision()
        self.outcome: Outcome | None = None
        self.exception: BaseException | None = None
        self.step = 0
        self.fits = 0  # that began to train
        self.pid = os.getpid()
        self.is_adopted = False  # begun by another process, and trained in one of its own
        self.ends_with_fit = False  # in a process that a framework has started for one fit
        self.way_out = IN_FUNCTION  # where the trial is known only when its objects exist
        self._forked: dict[str, Any] = {}  # what a copy in a forked process records with, if it takes the trial over
        self._was_told = False
        _sessions.add(self)
        self._judge = judge
        self._recorders = Recorders() if judge is None else Recorders(recorders, Journal(trial.folder))
        self._objective = objective
        self._taker = Taker(snapshots) if snapshots is not None and judge is not None else None
        self.checkpoints = Checkpoints(trial) if keeps_checkpoints and judge is not None else None
        self._is_full = False
        self._injection: Injection | None = None
        self._returned: float | None = None
        self._unused: list[str] = []  # what a training without a fit did not read
        self._logged: list[str] = []
        self.may_return = may_return_value()
        self._series: list[tuple[int, float]] = []
        self._driven = False
        self._is_ready = False

    @property
    def _journal(self) -> Journal | None:
        return self._recorders.journal

    @property
    def is_over(self) -> bool:
        """Whether the trial has ended."""
        return self.outcome is not None

    @property
    def is_unmeasured(self) -> bool:
        """Whether the tuned metric was not reported yet; a trial of a search outside has none."""
        return self.step == 0 and self.trial.metric != ""

    @property
    def best(self) -> float | None:
        """The objective up to now, ``None`` before the first finite value."""
        return self._objective_now()[0]

    def check_measured(self, logged: Iterable[str]) -> None:
        """Check that the tuned metric was reported by now, unless the training function may return it.

        Args:
            logged: The names of the metrics that exist.

        Raises:
            TrialError: It was not.
        """
        self._logged = sorted(logged)
        if self.is_unmeasured and not self.may_return:
            raise self.missing(self._logged)

    def begin(
        self,
        slots: Sequence[Slot],
        *,
        model: object = None,
        notes: Sequence[str] = (),
        find: Find | None = None,
        left_out: Collection[str] = (),
    ) -> Injection:
        """Put the trial's values into the user's objects. Several fits of one trial begin several times.

        Args:
            slots: All slots that exist.
            model: The model that is trained, where the adapter knows it.
            notes: Lines for error messages on slots that cannot be listed one by one.
            find: Finds such a slot by its path.
            left_out: Names that this fit has no use for, a later one of the trial.

        Raises:
            InjectionError: A value cannot be injected exactly, or the script read it before the trial was known.
            TrialError: Another trial trained the model already.
        """
        self._driven = True
        self.tell_forked()
        if model is not None:
            self._check_untrained(model)
        if self._taker is not None:
            self._taker.restart()
        unread = self._unread()
        names = names_in(unread, self.fits)
        values = {name: unread[full] for name, full in names.items() if name not in left_out}
        with injecting([*self.trial.params]):
            self._injection = Injection(values, slots, notes=notes, find=find, names=names, way_out=self.way_out)
            if model is not None:  # not where a name is wrong, which changes nothing
                _trained[model] = self._me
            self._injection.apply()
        return self._injection

    def _unread(self) -> dict[str, Any]:
        """The values that the script has not read itself: those are put in nowhere else."""
        self.check_reads()
        values = unread_values(self.trial)
        note_injected(self.trial, set(values))
        return values

    def check_reads(self) -> None:
        """Check that the script has read the values of this trial and of no other.

        Raises:
            InjectionError: It has read one before the trial was known.
        """
        early = names_read_too_early(self.trial)
        if early:
            raise InjectionError(
                f"th.value({early[0]!r}, ...) was read before this trial was known, so it did not return its value.\n"
                "  Call study.optimize(train, ...), which knows the trial before it calls train."
            )

    def ready(self, *, loggers: Sequence[object] = ()) -> None:
        """Open the recorders, now that the effective configuration is known; a second call does nothing.

        Args:
            loggers: The loggers that the user gave to the framework.

        Raises:
            TrialError: A logger writes to a run that is not this trial's.
        """
        if self._is_ready or self._journal is None:
            return
        self._is_ready = True
        held = self._injection.effective() if self._injection is not None else {}
        held |= {name: self.trial.params[name] for name in names_read(self.trial)}
        effective = {path: outline(value) for path, value in held.items()}
        self._recorders.open(self.trial, effective, loggers)
        claim_runs(self.trial, loggers)
        if self.trial.attempt:
            self._ask_what_they_have(0)
        self._journal.config(effective, records=self._recorders.where())

    def report(self, step: int, metrics: Mapping[str, Any]) -> Decision:
        """Take a measurement of the tuned metric and decide.

        Args:
            step: Number of this measurement in the trial, from 1; it grows, over several fits too.
            metrics: The metrics measured now, the tuned one among them. NaN is taken as it comes.

        Returns:
            Go on, or stop with a reason; once stopped, the answer stays.

        Raises:
            TrialError: The tuned metric is not among the metrics, or the step does not grow.
        """
        self.tell_forked()
        if self.trial.metric not in metrics:
            raise self.missing(metrics)
        if step <= self.step:
            raise TrialError(f"Step {step} was reported after step {self.step}; the steps of a trial grow.")
        self.step = step
        numbers = {name: float(value) for name, value in metrics.items()}
        value = numbers[self.trial.metric]
        self._series.append((step, value))
        self._recorders.report(step, numbers)
        if not self.decision.stop:
            self.decision = self._decide(step, value)
            if not self.decision.stop:
                self.decision = self._asked_to_stop()
            if self.decision.stop:
                note_stop()
                if self._journal is not None:
                    self._journal.decision(step, self.decision)
        return self.decision

    def follow(self, step: int, decision: Decision) -> None:
        """Take over what rank 0 reported and was answered."""
        self.step, self.decision = step, decision
        if decision.stop:
            note_stop()

    def watch(self, recorder: Recorder) -> None:
        """Add a recorder that shows the trial from now on, before `ready`."""
        self._recorders.watch(self.trial, recorder)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Record metrics beside the tuned one, at the step of the last report."""
        self.tell_forked()
        if metrics:
            self._recorders.report(self.step, {name: float(value) for name, value in metrics.items()})

    @property
    def takes_snapshots(self) -> bool:
        """Whether a snapshot may be due."""
        return self._taker is not None

    @property
    def counts_steps(self) -> bool:
        """Whether a snapshot may be due at any optimizer step, so that an adapter has to ask at each."""
        return self._taker is not None and self._taker.counts_steps

    def snapshot(
        self, step: int, collect: Callable[[], Arrays], *, is_epoch_end: bool = False, is_end: bool = False
    ) -> None:
        """Take a snapshot of the parameters, where the study wants some and one is due.

        Args:
            step: Number of optimizer steps that were made.
            collect: Gives the parameters and their gradients by name; called where they are needed only.
            is_epoch_end: Whether an epoch ends here.
            is_end: Whether the training ends here.

        Raises:
            TrialError: A name of the study's plan fits no parameter.
        """
        taker = self._taker
        if taker is None or self._journal is None or not taker.is_due(step, is_epoch_end=is_epoch_end, is_end=is_end):
            return
        try:
            arrays, gradients = collect()
            if not arrays:  # a model that is built by its first batch
                return
            with taker.measure(step):
                self._recorders.snapshot(self.step, taker.load().take(step, arrays, gradients))
        except PatternError as error:
            raise TrialError(str(error)) from error
        except Exception as error:  # noqa: BLE001 - statistics end no training
            self._taker = None
            log.warning("No more snapshots of the parameters in this trial: %r", error)
            self._recorders.note(f"no more snapshots: {error!r}")

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a recorder asks for the model that the training has kept."""
        return self._recorders.keeps_model

    def note_checkpoint(self, path: str | os.PathLike[str] | None) -> None:
        """Write where the training has kept its model; nothing where there is no such file.

        Args:
            path: A file or folder.
        """
        if self._journal is None or not path or not Path(path).exists():
            return
        try:
            self._journal.checkpoint(Path(path))
        except LinkError as error:
            self._recorders.tell(f"nobody finds the model of {self.trial.name}: {error}")

    def missing(self, metrics: Iterable[str]) -> TrialError:
        """The error for a tuned metric that is not among those that were logged."""
        close = near(self.trial.metric, metrics)
        hint = f" Did you mean {' or '.join(repr(name) for name in close)}?" if close else ""
        return TrialError(
            f"The study tunes the metric '{self.trial.metric}', but the training did not log it.{hint}\n"
            f"  Metrics that exist: {', '.join(sorted(metrics)) or '(none)'}.\n"
            f"  Log '{self.trial.metric}' in every epoch, or name one of these as Study(..., metric=...)."
        )

    def take_result(self, result: object) -> None:
        """Take what the training function returned: a number, or the tuned metric in a dict, is the trial's value.

        Reports serve to stop the trial then. Other results are none of the study's; those that hold numbers are told.
        """
        self._returned = returned_value(result, self.trial.metric)
        self._unused = [] if self._driven else list(unread_values(self.trial))
        if self._returned is None and holds_numbers(result):
            log.warning(
                "%s: train returned %s, which is not used: return a number, or a dict with '%s'.",
                self.trial.name, reprlib.repr(result), self.trial.metric,
            )  # fmt: skip

    def note_late(self, error: Exception) -> None:
        """Note what the training function raised after the trial was stopped, which has an outcome by then."""
        if self._journal is not None:
            self._journal.problem(f"after the stop the training raised {error!r}")

    def end(self, exception: BaseException | None = None) -> Outcome:
        """Close the record and tell the judge; the first call counts, later ones return its outcome.

        Args:
            exception: What ended the training, ``None`` where it returned.
        """
        self.tell_forked()
        self.refresh()
        if self.outcome is None:
            self._finish(self._conclude(self.exception or self.told_apart(exception)))
        return self.outcome  # type: ignore[return-value]

    def told_apart(self, exception: BaseException | None) -> BaseException | None:
        """What ended the training; see `tunehook.trial.ends.told_apart`."""
        if exception is None or self.step:
            return exception
        # A fit that has refused the training at once has put nothing in; its objects have values already.
        return told_apart(exception, self.trial.params if self._injection is None else self._injection.paths)

    def refresh(self) -> None:
        """Take over what another process (a spawned rank) wrote of this trial, its end included."""
        if self.outcome is None and self._journal is not None and not self._driven:
            told = self._replay()
            if told is not None:
                self._finish(told, is_told=True)

    def handed_over(self) -> TrialSession:
        """A copy for the process that trains, which adopts it; this one stays with whoever asked, to `recover`."""
        theirs = copy.copy(self)
        theirs._judge = None  # noqa: SLF001 - its own class
        return theirs

    def adopt(self, judge: Judge, *, place: str = "", folder: Path | None = None) -> None:
        """Train a trial that another process began, in this one.

        Args:
            judge: The way to the one who decides.
            place: Where a cluster runs this process, which it ends where the one that began the trial is gone.
            folder: The trial's folder on this machine, whose lines the judge carries to where the study is. Defaults
                to None: the machine sees the trial's own folder.
        """
        self.pid, self._judge = os.getpid(), judge
        self.is_adopted, self.ends_with_fit = True, False
        if folder is not None:
            self.trial = dataclasses.replace(self.trial, folder=folder)
            self._recorders.journal = Journal(folder)
        if self._journal is not None and place:
            self._journal.task(place)
        elif self._journal is not None:
            self._journal.process()
        if folder is not None:
            self.drop_checkpoints("this machine does not see the study's folder")

    def take_over(self) -> None:
        """Train in this process, which a framework has forked for one fit from the one that the trial belongs to."""
        if self._forked and self.pid == os.getppid():
            vars(self).update(self._forked, pid=os.getpid(), ends_with_fit=True, _injection=None)
            self._forked = {}

    def settle(self) -> None:
        """Wait, after the end, until the recorders that go on writing beside the training have written all."""
        self._recorders.wait()

    def recover(self, reason: str, *, state: State = "interrupted") -> Outcome:
        """End a trial whose process is gone, with all that its journal holds.

        Args:
            reason: What happened, for people; a journal that holds the end, or a stop, wins.
            state: The state that it means.
        """
        self.refresh()
        if self.outcome is None:
            value, step = self._objective_now()
            lost = Outcome(state, reason, value, step)
            self._finish(self._conclude(None) if self.decision.stop else lost)
        return self.outcome  # type: ignore[return-value]

    @property
    def _me(self) -> tuple[str, str, int]:
        return self.trial.study, self.trial.key, self.trial.number

    def release(self, model: object) -> None:
        """Let another trial train a model that made no step in this one, and is as it was."""
        if not self.step and _trained.get(model) == self._me:
            del _trained[model]

    def _check_untrained(self, model: object) -> None:
        """Trials start from scratch: a model that another one trained would go on with its weights."""
        owner = _trained.get(model, self._me)
        if owner != self._me:
            raise TrialError(
                f"The {type(model).__name__} was trained in trial {owner[2]} of study '{owner[0]}' already, and trial "
                f"{self.trial.number} would go on with its weights.\n"
                "  Make the model inside the training function, so that each trial starts from scratch."
            )

    def _objective_now(self) -> tuple[float, int] | tuple[None, None]:
        return objective_value(self._series, self.trial.mode, self._objective) or (None, None)

    def _decide(self, step: int, value: float) -> Decision:
        if not math.isfinite(value):
            return Decision(True, f"{self.trial.metric} is {value} at step {step}", "infeasible")
        if self._judge is None:
            return Decision()
        return self._judge.report(self.trial, step, value, self.budget)

    def _asked_to_stop(self) -> Decision:
        """What someone decided who watches a recorder, such as with the Stop button of a web page.

        The trial is pruned, by a person in place of a rule: its values are not asked again, and the search learns what
        it came to.
        """
        reason = self._recorders.why_stop()
        return Decision() if reason is None else Decision(True, reason, "pruned")

    def _conclude(self, exception: BaseException | None) -> Outcome:
        value, step = self._objective_now()
        if exception is not None:
            return describe(exception, value=value, step=step)
        if self.decision.stop:
            return Outcome(self.decision.state, self.decision.reason, value, step)
        if self._returned is not None and self._unused:
            return Outcome("failed", self._why_unused())
        if self._returned is not None:
            value, step = self._returned, self.step or None
            if not math.isfinite(value):
                return Outcome("infeasible", f"train returned {value}")
        if value is None:
            return Outcome("failed", self._why_nothing())
        return Outcome("complete", "trained to its end", value, step)

    def _why_unused(self) -> str:
        name = self._unused[0]
        return (
            f"The training returned a value, but nothing used {', '.join(map(repr, self._unused))} of the space.\n"
            f"  Read such values: th.value({name!r}, {self.trial.params[name]!r}); "
            "or add TuneCallback() to the callbacks of the fit."
        )

    def _why_nothing(self) -> str:
        if not self._driven:
            return (
                "The training returned without a TuneCallback, so no value was used and nothing was measured.\n"
                "  Add TuneCallback() to the callbacks of the Trainer or of model.fit inside the training function."
            )
        if self._logged:
            return f"{self.missing(self._logged)}\n  Or return its value from the training function."
        return (
            f"The training returned, but the metric '{self.trial.metric}' was never reported.\n"
            "  Train at least one epoch, and log the metric in it."
        )

    def _finish(self, outcome: Outcome, *, is_told: bool = False) -> None:
        """Every keeper hears of the end, also where another one cannot write any more."""
        self.outcome = outcome
        if self._journal is None or self._judge is None:
            return
        try:
            if not is_told:
                self._journal.end(outcome)
        finally:
            try:
                self._judge.tell(self.trial, outcome)
            finally:
                self._recorders.close(outcome)
                self._journal.close()

    def _replay(self) -> Outcome | None:
        """Read what another process, which holds a copy of this session, did with the trial."""
        outcome = None
        for event in read_trial(self.trial):
            if event["event"] == "report" and self.trial.metric in event["metrics"] and event["step"] > self.step:
                self.step = event["step"]
                self._series.append((self.step, float(event["metrics"][self.trial.metric])))
            elif event["event"] == "decision":
                self.decision = Decision(event["stop"], event["reason"], event["state"])
            elif event["event"] == "end":
                outcome = Outcome(event["state"], event["reason"], event["value"], event["step"], event["traceback"])
        return outcome

    def _part(self) -> None:
        """Record nothing in a process that was just forked: the trial is its parent's."""
        if self._journal is not None:
            names = ("_judge", "_taker", "checkpoints")
            recorders = self._recorders.moved(Journal(self.trial.folder))
            self._forked = {**{name: getattr(self, name) for name in names}, "_recorders": recorders}
        self._judge = self._taker = self.checkpoints = None
        self._recorders = Recorders()

    @property
    def is_forked(self) -> bool:
        """Whether this process was forked in the training, so that the trial is its parent's."""
        return self.pid != os.getpid()

    def tell_forked(self) -> None:
        """Say once that nothing is recorded here, where that is so."""
        if self.is_forked and not self._was_told:
            self._was_told = True
            log.warning(
                "Process %d was forked in the training of %s of study %s: nothing that it measures is recorded. To "
                "record it, train in the process that it was forked from, or spawn it.",
                os.getpid(), self.trial.name, self.trial.study,
            )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """For spawned processes: what is open stays here."""
        return {**self.__dict__, "_injection": None, "_forked": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A spawned process trains one fit."""
        here = os.getpid()
        self.__dict__.update(state, pid=here, ends_with_fit=state["ends_with_fit"] or state["pid"] != here)
        _sessions.add(self)


_sessions: weakref.WeakSet[TrialSession] = weakref.WeakSet()


def _part_all() -> None:
    for session in list(_sessions):
        session._part()  # noqa: SLF001 - its own class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_part_all)

# Which trial trained a model: its study, key and number.
_trained: weakref.WeakKeyDictionary[object, tuple[str, str, int]] = weakref.WeakKeyDictionary()
