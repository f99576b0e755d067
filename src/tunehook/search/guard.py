"""A pruner that is asked only where its answer makes sense."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, PercentilePruner, SuccessiveHalvingPruner

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


# Those that look at the best and the last two reports of a trial, for which a `Course` serves.
_LOOK_AT_FEW = (HyperbandPruner, MedianPruner, PercentilePruner, SuccessiveHalvingPruner)


def looks_at_few(pruner: BasePruner) -> bool:
    """Whether a pruner decides by the best and the last two reports of a trial; one of a user's may look at all."""
    return type(pruner.pruner if isinstance(pruner, Guarded) else pruner) in _LOOK_AT_FEW


class Guarded(BasePruner):
    """A pruner that is asked only where its answer makes sense.

    Optuna lets a sampler see only the trials of the same bracket if the study's pruner is a ``HyperbandPruner``; its
    documentation asks for ten trials in each of the brackets then. Behind this class a sampler learns from all trials.

    Args:
        pruner: The pruner that is asked.
        first: The first report at which it is asked.
        last: The number of reports in a whole trial, at which it is not asked; None where that is not known.
    """

    def __init__(self, pruner: BasePruner, *, first: int, last: int | None) -> None:
        self.pruner = pruner
        self.first = first
        self.last = last

    def judges(self, step: int) -> bool:
        """Whether the pruner is asked at a report; where it is not, the storage need not be read."""
        return step >= self.first and (self.last is None or step < self.last)

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial should stop at its latest report; it should if all that it reported is NaN."""
        step = trial.last_step
        if step is None or not self.judges(step):
            return False
        if all(math.isnan(value) for value in trial.intermediate_values.values()):
            return True  # the pruners say so too, but NumPy warns on the way
        return self.pruner.prune(study, trial)
