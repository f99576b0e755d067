"""A grid search that stays exact with many processes and after a restart.

Optuna's grid is not used: its ``GridSampler`` may repeat or skip combinations with several processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler

from tunehook.space import GridExhausted, Space, SpaceError
from tunehook.system import all_trials, end_trial, given_values, retried_number

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class GridSampler(BaseSampler):
    """All combinations of a space, each exactly once, also from many processes and after a restart.

    A trial's combination follows from its number alone: the trials with lower numbers that were asked of the grid are
    counted. Storages hand out numbers atomically, so that no two trials can get the same combination. Enqueued trials
    (``fixed_params``) and Optuna's retries (``failed_trial``) are marked as such from their creation and not counted.

    Optuna's own ``GridSampler`` (5.0) is not enough. An enqueued trial takes the place of a combination, which is drawn
    later, at random among those left, so that two workers may draw the same. When all are handed out, those that still
    run are handed out again; when all are finished, the first that comes along is repeated with a warning. Under ask
    and tell the last ``tell`` raises a RuntimeError. Values are scalars only, and all combinations are kept in memory.

    A finished trial that was put in by ``study.add_trial`` counts as a combination, unless its system attributes have
    ``fixed_params``.

    Args:
        space: The space; every hyperparameter has finitely many values.

    Raises:
        SpaceError: A hyperparameter has no grid.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._size = space.grid_size()

    def remaining(self, study: Study) -> int:
        """Number of combinations that have not been handed out yet."""
        return max(0, self._size - sum(map(_is_asked, all_trials(study))))

    def point(self, study: Study, number: int) -> dict[str, Any]:
        """The user's values of the trial ``number``, also if it ended before they were stored.

        Raises:
            GridExhausted: The grid has no combination for it.
        """
        index = sum(_is_asked(trial) for trial in all_trials(study) if trial.number < number)
        if index >= self._size:
            raise GridExhausted(
                f"All {self._size} combinations of the grid have been handed out, there is none for trial {number}.\n"
                "  Add values to the space for more."
            )
        return self._space.grid_point(index)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Refuse a trial for which the grid has no values; it is marked as failed, so that nobody waits for it.

        Raises:
            GridExhausted: All combinations have been handed out.
            SpaceError: An enqueued trial leaves values open.
        """
        try:
            if _is_asked(trial):
                self.point(study, trial.number)
            else:
                self._check_complete(trial)
        except SpaceError:
            end_trial(study, trial)
            raise

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All names: a combination is sampled at once."""
        return self._space.distributions()

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """The raw values of the trial's combination."""
        retried = retried_number(trial)
        return self._space.encode(self.point(study, trial.number if retried is None else retried))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Refuse what is not in the space.

        Raises:
            SpaceError: Always.
        """
        raise SpaceError(f"The grid has no '{param_name}' with {param_distribution}, it is over {self._space!r}.")

    def _check_complete(self, trial: FrozenTrial) -> None:
        given = given_values(trial)
        missing = [] if given is None else self._space.missing(given)
        if missing:
            raise SpaceError(
                f"A trial that is enqueued in a grid gives every value, missing: {', '.join(missing)}.\n"
                "  Add them, or use another search."
            )


def _is_asked(trial: FrozenTrial) -> bool:
    return given_values(trial) is None and retried_number(trial) is None
