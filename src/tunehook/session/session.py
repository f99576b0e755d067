"""The life of one trial, driven by every callback: all rules live here once, so that adapters cannot differ."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunehook.inject import (
    IN_FUNCTION,
    Find,
    Injection,
    Slot,
    may_return_value,
    names_in,
    names_read,
    note_stop,
)
from tunehook.record import Events, Journal, Recorder, Stopped, outlines
from tunehook.session.checkpoints import Found
from tunehook.session.conclusion import Heard, conclude, missing
from tunehook.session.continuation import Continuation
from tunehook.session.forks import part_when_forked
from tunehook.session.keeper import Judge, Keeper
from tunehook.session.models import check_untrained, note_trained, release
from tunehook.session.others import with_others
from tunehook.session.reads import unread
from tunehook.snapshot import Arrays, SnapshotPlan
from tunehook.trial import (
    Budget,
    Decision,
    Objective,
    Outcome,
    State,
    Trial,
    TrialError,
    injecting,
    is_misuse,
    objective_value,
    told_apart,
)

log = logging.getLogger("tunehook")


class TrialSession:
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
        pauses: Whether the trial is paused and goes on later. Defaults to False.
        keeps_models: Whether the trained model is kept. Defaults to False.
        secrets: Names of arguments whose values are not recorded, beside those that look like secrets.
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
        pauses: bool = False,
        keeps_models: bool = False,
        secrets: Collection[str] = (),
    ) -> None:
        self.trial = trial
        self.budget = Budget()
        self.decision = Decision()
        self.pause: Decision | None = None  # with which it pauses between two epochs
        self.outcome: Outcome | None = None
        self.exception: BaseException | None = None
        self.step = 0
        self.fits = 0  # that began to train
        self.pid = os.getpid()
        self.is_adopted = False  # begun by another process, and trained in one of its own
        self.trains = True  # the models that it is given, which are no other trial's then
        self.ends_with_fit = False  # in a process that a framework has started for one fit
        self.is_alone = False  # it leaves its fit, where other ranks would wait for it
        self.way_out = IN_FUNCTION  # where the trial is known only when its objects exist
        self._theirs: Keeper | None = None  # what a copy in a forked process records with, if it takes the trial over
        self._was_told = False
        part_when_forked(self)
        self.keeper = Keeper(
            trial, judge, recorders=recorders, snapshots=snapshots, keeps_checkpoints=keeps_checkpoints, pauses=pauses,
            keeps_models=keeps_models,
        )  # fmt: skip
        self._objective, self._secrets = objective, secrets
        self._injection: Injection | None = None
        self._heard = Heard()
        self.may_return = may_return_value()
        self._series: list[tuple[int, float]] = []
        self._driven = False
        self._is_ready = False

    @property
    def _journal(self) -> Journal | None:
        return self.keeper.journal

    @property
    def continuation(self) -> Continuation:
        """The checkpoints to go on from, and those that are kept."""
        return self.keeper.continuation

    @property
    def is_over(self) -> bool:
        """Whether the trial has ended."""
        return self.outcome is not None

    @property
    def is_unmeasured(self) -> bool:
        """Whether the tuned metric was not reported yet; a trial of a search outside has none."""
        return self.step == 0 and self.trial.metric != ""

    @property
    def measured(self) -> tuple[float, int] | tuple[None, None]:
        """The objective up to now, and its step; ``None`` before the first finite value."""
        return objective_value(self._series, self.trial.mode, self._objective) or (None, None)

    def check_measured(self, logged: Iterable[str]) -> None:
        """Check that the tuned metric was reported by now, unless the training function may return it.

        Args:
            logged: The names of the metrics that exist.

        Raises:
            TrialError: It was not.
        """
        self._heard.logged = sorted(logged)
        if self.is_unmeasured and not self.may_return:
            raise self.missing(self._heard.logged)

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
        model = model if self.trains else None
        if model is not None:
            check_untrained(model, self.trial)
        if self.keeper.taker is not None:
            self.keeper.taker.restart()
        given = unread(self.trial)
        names = names_in(given, self.fits)
        values = {name: given[full] for name, full in names.items() if name not in left_out}
        with injecting([*self.trial.params]):
            self._injection = Injection(values, slots, notes=notes, find=find, names=names, way_out=self.way_out)
            if model is not None:  # not where a name is wrong, which changes nothing
                note_trained(model, self.trial)
            self._injection.apply()
        return self._injection

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
        read = {name: self.trial.params[name] for name in names_read(self.trial)}
        searched = read.keys() if self._injection is None else {*read, *self._injection.paths}
        self.keeper.open(self.trial, outlines(held | read, searched=searched, secrets=self._secrets), loggers)

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
        self.keeper.recorders.report(step, numbers)
        if not self.decision.stop:
            decision = self.keeper.judged(self.trial, step, value, self.budget)
            if decision.stop and decision.state == "paused":
                self.pause, decision = decision, Decision()
            if not decision.stop:
                decision = self.keeper.asked_to_stop()
            if decision.stop:
                self._stop(decision)
        return self.decision

    def _stop(self, decision: Decision) -> None:
        self.decision = decision
        note_stop()
        if self._journal is not None:
            self._journal.decision(self.step, decision)

    def follow(self, step: int, decision: Decision) -> None:
        """Take over what rank 0 reported and was answered."""
        self.step, self.decision = step, decision
        if decision.stop:
            note_stop()

    def watch(self, recorder: Recorder) -> None:
        """Add a recorder that shows the trial from now on, before `ready`."""
        self.keeper.recorders.watch(self.trial, recorder)

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Record metrics beside the tuned one, at the step of the last report."""
        self.tell_forked()
        if metrics:
            self.keeper.recorders.report(self.step, {name: float(value) for name, value in metrics.items()})

    @property
    def takes_snapshots(self) -> bool:
        """Whether a snapshot may be due."""
        return self.keeper.taker is not None

    @property
    def counts_steps(self) -> bool:
        """Whether a snapshot may be due at any optimizer step, so that an adapter has to ask at each."""
        return self.keeper.taker is not None and self.keeper.taker.counts_steps

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
        self.keeper.snapshot(self.step, step, collect, is_epoch_end=is_epoch_end, is_end=is_end)

    def go_on(self, found: Found) -> None:
        """Take over what an earlier attempt reported up to a checkpoint, now that the adapter has restored it.

        Call it after `ready`, when `budget` is known: the judge hears of each measurement.
        """
        for step, metrics in self.continuation.take_over(found):
            if step > self.step and self.trial.metric in metrics:
                self.step, value = step, metrics[self.trial.metric]
                self._series.append((step, value))
                if found.progress.trial == self.trial.number:  # before a pause, so it has heard
                    continue
                decision = self.keeper.judged(self.trial, step, value, self.budget)
                if decision.state == "interrupted":  # another process took this attempt for lost meanwhile
                    self.decision = decision

    def keep_checkpoint(self, write: Callable[[Path], None]) -> None:
        """Keep a checkpoint, unless the trial is stopped; one that is to pause ends with it, and else goes on.

        Args:
            write: Writes its files into a folder.
        """
        if not self.decision.stop and self.continuation.keep(write, step=self.step) and self.pause is not None:
            self._stop(self.pause)
        self.pause = None

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a recorder asks for the model that the training has kept."""
        return self.keeper.recorders.keeps_model

    def note_checkpoint(self, path: str | os.PathLike[str] | None) -> None:
        """Write where the training has kept its model; nothing where there is no such file.

        Args:
            path: A file or folder.
        """
        if path and Path(path).exists():
            self.keeper.note_model(self.trial, Path(path))

    def missing(self, metrics: Iterable[str]) -> TrialError:
        """The error for a tuned metric that is not among those that were logged."""
        return missing(self.trial.metric, metrics)

    def take_result(self, result: object) -> None:
        """Take what the training function returned: a number, or the tuned metric in a dict, is the trial's value.

        Reports serve to stop the trial then. Other results are none of the study's; those that hold numbers are told.
        """
        self._heard.take(result, self.trial, is_driven=self._driven)

    def note_late(self, error: Exception) -> None:
        """Note what the training function raised after the trial was stopped, which has an outcome by then."""
        if self._journal is not None:
            self._journal.problem(f"after the stop the training raised {error!r}")

    def end(self, exception: BaseException | None = None) -> None:
        """Close the record and tell the judge how the trial ended, its `outcome` from now on; the first call counts.

        Args:
            exception: What ended the training, ``None`` where it returned.
        """
        self.tell_forked()
        self.refresh()
        if self.outcome is None:
            outcome = self._conclude(self.exception or self.told_apart(exception))
            if outcome.state != "interrupted" and not is_misuse(outcome):  # asked again, or refused
                self._show()
            self._finish(outcome)

    def _show(self) -> None:
        """Open the recorders of a trial that came to no fit, so that it has its run too."""
        try:
            self.ready()
        except Exception as error:  # noqa: BLE001 - the trial is over: its journal has all, and `tunehook sync` shows it
            log.warning("No recorder shows %s, which came to no fit: %r", self.trial.name, error)

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

    def take_over(self) -> None:
        """Train in this process, which a framework has forked for one fit from the one that the trial belongs to."""
        if self._theirs is not None and self.pid == os.getppid():
            self.keeper, self._theirs = self._theirs, None
            self.pid, self.ends_with_fit, self._injection = os.getpid(), True, None

    def recover(self, reason: str, *, state: State = "interrupted") -> Outcome:
        """End a trial whose process is gone, with all that its journal holds.

        Args:
            reason: What happened, for people; a journal that holds the end, or a stop, wins.
            state: The state that it means.
        """
        self.refresh()
        if self.outcome is not None:
            return self.outcome
        return self._finish(self._conclude() if self.decision.stop else Outcome(state, reason, *self.measured))

    def release(self, model: object) -> None:
        """Let another trial train a model that made no step in this one, and is as it was."""
        if not self.step:
            release(model, self.trial)

    def _conclude(self, exception: BaseException | None = None) -> Outcome:
        return conclude(
            self.trial, self._heard, self.decision, self.measured,
            exception=exception, last=self.step, is_driven=self._driven,
        )  # fmt: skip

    def _finish(self, outcome: Outcome, *, is_told: bool = False) -> Outcome:
        self.outcome = outcome if is_told else with_others(self.trial, outcome, self._objective, self._heard.others)
        self.keeper.finish(self.trial, self.outcome, is_told=is_told, is_leaving=self.is_adopted)
        return self.outcome

    def _replay(self) -> Outcome | None:
        """Read what another process, which holds a copy of this session, did with the trial."""
        events = Events.of_trial(self.trial)
        for report in events.reports:
            if self.trial.metric in report.metrics and report.step > self.step:
                self.step = report.step
                self._series.append((self.step, report.metrics[self.trial.metric]))
        if (stopped := events.now.last(Stopped)) is not None:
            self.decision = stopped.decision
        return events.outcome

    def part(self) -> None:
        """Record nothing in a process that was just forked: the trial is its parent's."""
        if self._journal is not None:
            self._theirs = self.keeper.moved(self.trial)
        self.keeper = Keeper(self.trial)

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
        return {**self.__dict__, "_injection": None, "_theirs": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A spawned process trains one fit."""
        here = os.getpid()
        self.__dict__.update(state, pid=here, ends_with_fit=state["ends_with_fit"] or state["pid"] != here)
        part_when_forked(self)
