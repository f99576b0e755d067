"""A trial of someone's own Optuna study, led like one of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tunehook.record import ROOT, Journal, StudyPaths
from tunehook.session import TrialSession
from tunehook.snapshot import SnapshotPlan, plan_of
from tunehook.storage import OUTCOME
from tunehook.trial import Budget, Decision, Outcome, Trial, key_of, mode_of

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial


class OptunaTrial:
    """A trial of someone's own Optuna study, led like one of ours. Optuna records its end, not this class.

    Args:
        trial: The Optuna trial.
        metric: Name of the metric to report.
        inject: Whether its parameters are injected.
        snapshots: Which snapshots of the model's parameters are taken, as in `Study`.

    Raises:
        TypeError: ``snapshots`` is no plan.
        ValueError: No metric is given, or the study has several objectives.
    """

    def __init__(
        self, trial: AskedTrial, *, metric: str | None, inject: bool, snapshots: SnapshotPlan | bool = True
    ) -> None:
        if not metric:
            raise ValueError(
                "An Optuna trial does not know which metric to report: TuneCallback(trial, metric='val_acc')."
            )
        if len(trial.study.directions) != 1:
            raise ValueError(
                f"The Optuna study has {len(trial.study.directions)} objectives; a trial with several cannot be "
                "stopped early.\n  Leave TuneCallback out, or give the study one direction."
            )
        self._optuna, self._metric, self._inject = trial, metric, inject
        self._snapshots = plan_of(snapshots)

    def ask(self) -> Trial:
        """The trial with the parameters that were suggested up to now."""
        name = re.sub(r"[^\w.-]|^[.-]+$", "_", self._optuna.study.study_name)
        trial = Trial(
            study=name,
            number=self._optuna.number,
            params=dict(self._optuna.params) if self._inject else {},
            folder=StudyPaths((ROOT / name).absolute()).trial(self._optuna.number),
            metric=self._metric,
            mode=mode_of(self._optuna.study.direction.name),
            key=key_of(name, self._optuna.number, self._optuna.datetime_start),
        )
        Journal(trial.folder).begin(trial)
        return trial

    def session(self, trial: Trial) -> TrialSession:
        """The session that leads the trial; a further fit goes on after the steps that are reported already."""
        session = TrialSession(trial, self, snapshots=self._snapshots)
        session.step = max(self._optuna.study.get_trials(deepcopy=False)[trial.number].intermediate_values, default=0)
        return session

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Report to Optuna and ask its pruner."""
        self._optuna.report(value, step)
        if not self._optuna.should_prune():
            return Decision()
        pruner = type(self._optuna.study.pruner).__name__
        return Decision(True, f"{pruner}: {trial.metric} {value:.6g} at step {step} falls behind the other trials")

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Keep the reason beside the trial; the objective's return or exception is what Optuna records."""
        self._optuna.set_user_attr(OUTCOME, {"state": outcome.state, "reason": outcome.reason})

    def raise_if_pruned(self, session: TrialSession) -> None:
        """Tell Optuna of a stop in the way that it understands, so that it does not record the trial as complete."""
        from optuna import TrialPruned

        if session.decision.stop:
            raise TrialPruned(session.decision.reason)
