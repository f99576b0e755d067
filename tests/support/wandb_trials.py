"""Trials without a study, for tests of what the W&B recorder makes of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunehook.record import Recorder
from tunehook.session.session import TrialSession
from tunehook.trial.values import Budget, Decision, Outcome, Trial


@dataclass
class Judge:
    """Stops a trial at a step, or lets it train."""

    stop_at: int | None = None

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Stop at the step."""
        return Decision(True, "below the median") if step == self.stop_at else Decision()

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Nothing is kept."""


def make_session(
    recorder: Recorder, number: int = 0, *, metric: str = "val_acc", stop_at: int | None = None
) -> TrialSession:
    """A session of a trial whose ``lr`` tells its number."""
    folder, key = Path("studies", f"trial-{number:04d}"), f"{number:04d}-{os.getpid()}"
    trial = Trial("digits", number, {"lr": 0.1 + number}, folder, metric, "max", key=key)
    return TrialSession(trial, Judge(stop_at), recorders=[recorder])


def begin(
    recorder: Recorder, number: int = 0, *, loggers: Sequence[object] = (), stop_at: int | None = None
) -> TrialSession:
    """A session that is ready to train."""
    session = make_session(recorder, number, stop_at=stop_at)
    session.ready(loggers=loggers)
    return session
