"""One fit of a trial, the same in every framework: values in, measurements out, stop, and its end.

The hooks of an adapter say when. Where values go is listed by its `Slots`; what only the framework can answer or do is
its `Host`. All rules between the two are here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from tunehook.adapter.keeping import Keeping, ModelHost
from tunehook.adapter.ranks import Alone, Ranks, together
from tunehook.inject import Injection, Slot, show
from tunehook.session import Part, TrialSession, check_parts
from tunehook.snapshot import Arrays
from tunehook.trial import Budget, InjectionError, TrialError, injecting


class Slots(Protocol):
    """The slots of one fit.

    Attributes:
        slots: All slots.
        notes: Lines for error messages on slots that cannot be listed one by one.
    """

    slots: list[Slot]
    notes: list[str]

    def find(self, path: str) -> Slot | None:
        """A slot that is not listed."""

    def left_out(self) -> Collection[str]:
        """The names of the space that a later fit of a trial leaves to its script."""

    def open(self, injection: Injection) -> None:
        """Take note of the values, which were put in just now."""

    def why_fixed(self, path: str, value: Any) -> str:
        """Why a value cannot change in the middle of a training, ``""`` where it can."""

    def check_stepped(self) -> None:
        """Check at the end of the first epoch that the optimizers with injected values make steps."""

    def finish(self) -> None:
        """Undo what was for this fit only; may be called more than once."""


class Host(ModelHost, Protocol):
    """What a framework knows of a training that is going on, and does with it."""

    @property
    def steps(self) -> int:
        """Number of optimizer steps that were made."""

    def budget(self, metric: str) -> Budget:
        """How long the fit trains, and how often it measures the metric."""

    def parameters(self, *, has_gradients: bool) -> Arrays:
        """The parameters by name, and their gradients where there are any and the framework has them."""

    def parts(self) -> Iterable[Part]:
        """All arrays of the model, trained or not."""

    def kept_model(self, metric: str) -> str | os.PathLike[str] | None:
        """The file in which the training has kept its model: the best one by the metric, where it says."""

    def why_untrained(self) -> str:
        """Why a fit may have made no step, and what to do; the end of a message."""

    def stop(self) -> None:
        """End the fit in good order."""


class FitCore:
    """One fit of a trial.

    A callback calls `begin` when the objects exist, `read_back` whenever something may have changed them, `start`
    before the first step; `take` with each measurement, `end_epoch`, `snapshot`; and `complete`.

    Args:
        session: The session of the trial; one that only follows, on ranks above 0.
        slots: The slots of the user's objects.
        host: The framework's training.
        ranks: Its processes. Defaults to this one alone.

    Attributes:
        injection: The values that were put in, ``None`` before.
        epochs: How many have ended.
        is_complete: Whether the fit has ended in good order.
    """

    def __init__(self, session: TrialSession, slots: Slots, host: Host, ranks: Ranks | None = None) -> None:
        self.session = session
        self.injection: Injection | None = None
        self.epochs = 0
        self.is_complete = False
        self._slots, self._host = slots, host
        self._ranks = Alone() if ranks is None else ranks
        self._keeping = Keeping(session, host, self._ranks)
        self._logged: dict[str, None] = {}

    def begin(self) -> None:
        """Put the values in.

        Raises:
            InjectionError: One cannot be injected exactly.
            TrialError: Another trial trained the model already.
        """
        slots = self._slots
        self.injection = self.session.begin(
            slots.slots, model=self._host.model, notes=slots.notes, find=slots.find, left_out=slots.left_out()
        )
        slots.open(self.injection)

    def read_back(self, when: str) -> None:
        """Check that the values are in force.

        Args:
            when: The moment, as words for the message.

        Raises:
            InjectionError: One is not.
        """
        if self.injection is not None:
            with injecting([*self.session.trial.params]):
                self.injection.read_back(when)

    def check_live(self) -> None:
        """Check that the values of a member of a population can change in the middle of its training.

        Raises:
            InjectionError: One cannot.
        """
        lineage, injection = self.session.trial.lineage, self.injection
        if lineage is None or injection is None:
            return
        for path, name in injection.names.items():
            value = injection.paths[path]
            if name in lineage.names and (why := self._slots.why_fixed(path, value)):
                raise InjectionError(
                    f"'{name}' ({path} = {show(value)}) cannot change in the middle of a training, as search='pbt' "
                    f"does: {why}.\n  Make it a plain value in the space, or use another search."
                )

    def start(self) -> None:
        """The first step comes next; a later fit of a trial that was stopped makes none.

        Raises:
            TrialError: Another trial trained a part of the model already.
        """
        check_parts(self._host.parts(), self._host.model, self.session.trial)
        self.session.budget = self._host.budget(self.session.trial.metric)
        if self.session.decision.stop:
            self._host.stop()

    def see(self, names: Iterable[str]) -> None:
        """Remember names of metrics, for messages on the tuned one."""
        self._logged.update(dict.fromkeys(names))

    def take(self, metrics: Mapping[str, Any], *, may_measure: bool = True, **position: float) -> bool:
        """Take metrics: report them where the tuned one is among them, else only record them.

        Args:
            metrics: What was measured now.
            may_measure: Whether the tuned metric counts here. Defaults to True.
            **position: Where in the training that was, such as the epoch.

        Returns:
            Whether the tuned metric was reported.
        """
        is_measured = may_measure and self.session.trial.metric in metrics
        whole = {**metrics, **position} if metrics else {}
        together(self._ranks, functools.partial(self._hand_over, whole, is_measured=is_measured))
        if is_measured:
            self._keeping.take()
        self.follow()
        return is_measured

    def _hand_over(self, metrics: Mapping[str, Any], *, is_measured: bool) -> None:
        if self._ranks.number != 0:
            return
        if is_measured:
            self.session.report(self.session.step + 1, metrics)
        else:
            self.session.log(metrics)

    def follow(self) -> None:
        """Let all ranks do what rank 0 was answered."""
        if self._ranks.count > 1:
            self.session.follow(*self._ranks.agree((self.session.step, self.session.decision)))
        if self.session.decision.stop:
            self._host.stop()

    def check_measured(self) -> None:
        """Check that the tuned metric was reported by now.

        Raises:
            TrialError: It was not.
        """
        self.session.check_measured(self._logged)

    def end_epoch(self) -> None:
        """Count an epoch that ends; after the first one the optimizers must have made steps.

        Raises:
            InjectionError: One has not.
        """
        self.epochs += 1
        if self.epochs == 1:
            together(self._ranks, self._slots.check_stepped)

    def snapshot(self, *, is_start: bool = False, is_epoch_end: bool = False, is_end: bool = False) -> None:
        """Take a snapshot of the parameters where one is due; on rank 0 only, with no word to the others."""
        is_end = is_end and self.session.decision.state != "paused"
        if self.session.takes_snapshots:
            collect = functools.partial(self._host.parameters, has_gradients=not is_start)
            self.session.snapshot(self._host.steps, collect, is_epoch_end=is_epoch_end, is_end=is_end)

    def complete(self) -> None:
        """The fit ended in good order.

        Raises:
            TrialError: It has trained nothing.
        """
        if self.epochs == 0 and not self.session.decision.stop:
            raise TrialError(
                "The fit ended without a training step, so there is nothing to tune: " + self._host.why_untrained()
            )
        self.is_complete = True
        self._keeping.end()
        if self.session.wants_checkpoint and self._ranks.number == 0:
            self.session.note_checkpoint(self._host.kept_model(self.session.trial.metric))
