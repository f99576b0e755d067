"""A sampler whose random numbers follow from the trial's number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState


class SeededByNumber(BaseSampler):
    """A sampler that is made anew for each trial, with a seed that follows from the study's seed and its number.

    Optuna's samplers start their random stream at their construction: the same seed in a second process, or in a study
    that is gone on with, would sample the first trials' values again. Here trial n draws the same numbers whoever asks
    for it and whenever.

    Args:
        make: Makes the sampler from a seed.
        seed: Seed of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._local = threading.local()  # threads may ask at the same time

    def inner(self, number: int) -> BaseSampler:
        """The sampler of a trial."""
        if getattr(self._local, "number", None) != number:
            mixed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
            self._local.number, self._local.sampler = number, self._make(mixed)
        sampler: BaseSampler = self._local.sampler
        return sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the sampler of the trial does."""
        return self.inner(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the sampler of the trial does."""
        return self.inner(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the sampler of the trial does."""
        return self.inner(trial.number).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """As the sampler of the trial does."""
        self.inner(trial.number).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the sampler of the trial does."""
        self.inner(trial.number).after_trial(study, trial, state, values)
