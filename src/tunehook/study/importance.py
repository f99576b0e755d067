"""How much each hyperparameter matters, from the trials of a study."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunehook.space import Space
from tunehook.system import quiet
from tunehook.trial import Mode, direction_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# Below so many complete trials the tenth that is best is a single trial, and says nothing.
ENOUGH = 20


def find_importance(trials: Sequence[FrozenTrial], mode: Mode, space: Space) -> dict[str, float]:
    """The share of each hyperparameter in what tells the best tenth of the trials from the others, by PED-ANOVA.

    Watanabe et al., 2023, arXiv:2304.10255. The shares sum to 1; the largest comes first.

    Args:
        trials: The trials, of which the complete ones count, by their first metric.
        mode: ``"min"`` or ``"max"``.
        space: Says what the user calls them; a name of several branches has the sum of their shares.

    Returns:
        The shares by name; nothing where fewer than 20 trials are complete, or all have the same value.
    """
    from tunehook.storage import outcome_of  # which loads Optuna

    # Of several metrics Optuna calls those complete, too, that were stopped.
    ends = ((trial, outcome_of(trial).state) for trial in trials if trial.state.name == "COMPLETE")
    complete = [_by_first(trial) for trial, state in ends if state in ("complete", "known")]
    if len(complete) < ENOUGH or len({trial.value for trial in complete}) < 2:
        return {}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna, that this is new
        # A study in memory, for this may run beside the training, whose storage is left alone.
        study = optuna.create_study(direction=direction_of(mode))
        for trial in complete:
            with contextlib.suppress(ValueError):  # of a damaged one, which Optuna refuses
                study.add_trial(trial)
        if len(study.get_trials(deepcopy=False)) < ENOUGH:
            return {}
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    shares: dict[str, float] = {}
    for raw, share in found.items():
        name = space.name_of(raw)
        shares[name] = shares.get(name, 0.0) + float(share)
    return dict(sorted(shares.items(), key=lambda one: -one[1]))


def _by_first(trial: FrozenTrial) -> FrozenTrial:
    """A trial by its first metric alone."""
    if len(trial.values or ()) > 1:
        trial = copy.copy(trial)
        trial.values = trial.values[:1]
    return trial
