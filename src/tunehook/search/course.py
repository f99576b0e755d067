"""How a trial has gone up to now, as far as a stopping rule looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tunehook.system import with_reports
from tunehook.trial import Mode, is_better

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial
    from optuna.trial import FrozenTrial


class Course:
    """The reports of a trial that Optuna's own rules look at: the best one and the last two.

    Handed all of them, a rule goes through all at each report, so that a hundred thousand take hours. What it decides
    is the same.

    Args:
        mode: ``"min"`` or ``"max"``.
        reports: What was measured already, by step.
    """

    def __init__(self, mode: Mode, reports: Mapping[int, float]) -> None:
        self._mode = mode
        self._best: tuple[int, float] | None = None
        self._last: list[tuple[int, float]] = []
        for step, value in reports.items():
            self.add(step, value)

    def add(self, step: int, value: float) -> None:
        """Add a report."""
        if is_better(value, None if self._best is None else self._best[1], self._mode):
            self._best = step, value
        self._last = sorted([*self._last, (step, value)])[-2:]

    def shown(self, running: AskedTrial) -> FrozenTrial:
        """The trial with these reports only."""
        return with_reports(running, dict([*self._last, *([] if self._best is None else [self._best])]))
