"""Where a callback's trial comes from: a study, an Optuna trial, or the trial that ``study.optimize`` works on."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from tunehook.extensions import ENGINES, load
from tunehook.session import TrialSession, active
from tunehook.snapshot import SnapshotPlan
from tunehook.study import OptunaTrial, Study
from tunehook.trial import Trial, TrialError

if TYPE_CHECKING:
    import optuna

_IN_SCRIPT = (
    "Make it in a training function, so that the trial is known before:\n"
    "    def train(): ...  # the script, with TuneCallback() in its fit\n"
    "    study.optimize(train, trials=30)"
)
_IN_OBJECTIVE = "Write @th.objective above the objective, so that the trial is known before it makes its objects."
_IN_AGENT = "Give the agent wandb.agent(sweep, th.objective(train)), so that the trial is known before train makes it."
_IN_THREAD = "Make the objects, and call fit, in the thread in which the training function is called."


class Source:
    """Gives a callback the session to work on, and ends the session where nobody else does.

    Args:
        given: What the callback was given: ``None`` for the active trial, a `Study`, or an Optuna trial.
        metric: Name of the metric to report; goes with an Optuna trial only.
        inject: Whether the parameters of an Optuna trial are injected.
        snapshots: Which snapshots are taken in an Optuna trial, ``None`` for the default; a study has its own.

    Raises:
        TypeError: ``given`` or ``snapshots`` is something else.
        ValueError: ``metric``, ``inject`` or ``snapshots`` is given without an Optuna trial, or an Optuna trial without
            a metric.
    """

    def __init__(
        self,
        given: Study | optuna.Trial | None,
        *,
        metric: str | None,
        inject: bool,
        snapshots: SnapshotPlan | bool | None = None,
    ) -> None:
        self._asked: Study | OptunaTrial | None
        if given is None or isinstance(given, Study):
            if metric is not None or not inject or snapshots is not None:
                raise ValueError(
                    "metric=, inject= and snapshots= go with an Optuna trial only: "
                    "TuneCallback(trial, metric='val_acc').\n"
                    "  A study has its own: Study(..., metric=..., snapshots=...)."
                )
            self._asked = given
        elif hasattr(given, "suggest_float") and hasattr(given, "should_prune"):
            self._asked = OptunaTrial(
                given, metric=metric, inject=inject, snapshots=True if snapshots is None else snapshots
            )
        else:
            raise TypeError(
                f"TuneCallback takes nothing, a tunehook Study or an Optuna trial; got {given!r}.\n"
                "  For example TuneCallback(study), or TuneCallback() inside study.optimize(train, ...)."
            )

    @property
    def asks(self) -> bool:
        """Whether trials are asked for here, each fit one; else they are asked for and ended elsewhere."""
        return self._asked is not None and not self._is_led()

    def _is_led(self) -> bool:
        """Whether the trial in progress is one of the study, whose script is run again for it."""
        study, session = self.study, active()
        if study is None or session is None or session.trial.study != study.name:
            return False
        asked_in = session.trial.folder.parent
        if session.ends_with_fit and asked_in != study.paths.folder:
            raise TrialError(
                f"The study '{study.name}' is in {study.paths.folder}, but its trial was asked for in {asked_in}. With "
                "TuneCallback(study) a script is run again for its trial: each run makes the study elsewhere, or the "
                "script makes several studies of this name.\n"
                f"  Give the study one folder, such as Study(..., folder={str(asked_in)!r}), and each study its own "
                "name."
            )
        return True

    @property
    def knows_late(self) -> bool:
        """Whether a fit asks for a trial that could be known before it: of a study, or of a search outside."""
        return isinstance(self._asked, Study) or (self._asked is None and given_trial() is not None)

    @property
    def study(self) -> Study | None:
        """The study that it was given."""
        return self._asked if isinstance(self._asked, Study) else None

    @property
    def names(self) -> list[str]:
        """The names of the space, as far as they are known before a trial is asked for."""
        if isinstance(self._asked, Study):
            return self._asked.space.names
        given = given_trial()
        return [] if given is None else [*given.params]

    @property
    def may_prune(self) -> bool:
        """Whether `end` may raise ``optuna.TrialPruned``."""
        return isinstance(self._asked, OptunaTrial)

    @property
    def has_trial(self) -> bool:
        """Whether a fit that begins now is one of a trial."""
        return self.asks or active() is not None or given_trial() is not None

    def claim(self, session: TrialSession | None) -> TrialSession | None:
        """The session to work on: the open one, the active one, that of a newly asked trial, or of a search outside.

        Args:
            session: The session of the last fit.
        """
        if session is not None:
            session.refresh()  # a spawned process may have ended it
            if not session.is_over and not _is_past(session):
                return session
        if self._asked is not None and self.asks:
            asked = self._asked.session(self._asked.ask())
            asked.way_out = _IN_SCRIPT if self.study is not None else _IN_OBJECTIVE
            return asked
        given = None if active() is not None else given_trial()
        if given is None:
            session = active()
            if session is not None and threading.current_thread() is not threading.main_thread():
                session.way_out = _IN_THREAD
            return session
        session = TrialSession(given)
        session.way_out = _IN_AGENT
        return session

    def end(self, session: TrialSession) -> None:
        """End the trial after a fit that is complete, where no ``study.optimize`` of this process does.

        Raises:
            optuna.TrialPruned: An Optuna trial was stopped.
        """
        if self.asks or session.ends_with_fit:
            session.end()
        if isinstance(self._asked, OptunaTrial):
            self._asked.raise_if_pruned(session)

    def take_over(self, session: TrialSession | None) -> None:
        """Train in this process, which the framework has forked for its fit.

        Args:
            session: The session of the last fit.
        """
        for one in (session, active()):
            if one is not None and not one.is_over:
                one.take_over()

    def fail(self, session: TrialSession, exception: BaseException) -> None:
        """Tell what ended the training; ``study.optimize`` tells what it gets to see itself."""
        if session.is_over:
            return
        if self.asks:
            session.end(exception)
        elif isinstance(exception, KeyboardInterrupt | SystemExit):
            session.exception = exception  # Lightning 2.1 swallows it


def given_trial() -> Trial | None:
    """The trial of a search outside of this package that this process works on, such as a run of a W&B agent."""
    for variable, current_trial in ENGINES.items():
        if os.environ.get(variable):
            trial: Trial | None = load(current_trial)()
            return trial
    return None


def _is_past(session: TrialSession) -> bool:
    """Whether the search outside has gone on to its next trial; it tells nobody of the end of one."""
    return not session.trial.metric and given_trial() != session.trial
