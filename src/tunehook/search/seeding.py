"""A sampler whose random numbers follow from the trial's place in the search."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler

from tunehook.system import all_trials, given_values

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState


class SeededByNumber(BaseSampler):
    """A sampler that is made for each trial, with a seed that follows from the study's seed and its number.

    Optuna's samplers start their random stream at their construction: the same seed in a second process, or in a study
    that is gone on with, would sample the first trials' values again. Here trial n draws the same numbers whoever asks
    for it and whenever. Trials that were given their values, those that are asked again among them, are not counted: a
    search that was cut off proposes what it would have proposed otherwise.

    Args:
        make: Makes the sampler from a seed.
        seed: Seed of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._local = threading.local()  # threads may ask at the same time

    def inner(self, study: Study, trial: FrozenTrial) -> BaseSampler:
        """The sampler of a trial."""
        if getattr(self._local, "number", None) != trial.number:
            self._local.number, self._local.sampler = trial.number, self._make(seed_of(study, trial, self._seed))
        sampler: BaseSampler = self._local.sampler
        return sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As each of the samplers does; the same one is asked always, since it keeps what it has seen of the study."""
        if not hasattr(self._local, "first"):
            self._local.first = self._make(self._seed)
        first: BaseSampler = self._local.first
        return first.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler of the trial does."""
        return self.inner(study, trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the sampler of the trial does."""
        return self.inner(study, trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """As the sampler of the trial does."""
        self.inner(study, trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the sampler of the trial does."""
        self.inner(study, trial).after_trial(study, trial, state, values)


def seed_of(study: Study, trial: FrozenTrial, seed: int) -> int:
    """The seed of a trial: it follows from that of the study and how many before it were not given their values."""
    number = trial.number
    given = sum(other.number < number and given_values(other) is not None for other in all_trials(study))
    entropy = [seed, number - given] if given_values(trial) is None else [seed, number, 1]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
