"""A sampler that draws whole configurations, for spaces with branches or a condition, which Optuna does not know of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, RandomSampler

from tunehook.search.seeding import seed_of
from tunehook.space import Space, SpaceError
from tunehook.system import given_values

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState

# So many proposals of a model are tried, whose next may be no other one; then values are drawn at random.
_PROPOSED, _DRAWN = 20, 10_000


class Whole(BaseSampler):
    """Draws, by another sampler, values for what exists in a configuration, until the condition of the space holds.

    Args:
        inner: The other sampler.
        space: The space.
        seed: Seed of the study, for what is drawn at random. Defaults to None, an unpredictable one.
        parts: Names for which the other one is asked at once; what does not exist in the configuration is left out.
            Defaults to None: it finds out by what trials have had.
    """

    def __init__(
        self,
        inner: BaseSampler,
        space: Space,
        *,
        seed: int | None = None,
        parts: Sequence[Collection[str]] | None = None,
    ) -> None:
        self.inner, self._space, self._seed = inner, space, seed
        self._distributions = space.distributions()
        self._parts = None if parts is None else [self._of_part(part) for part in parts]

    def _of_part(self, names: Collection[str]) -> dict[str, BaseDistribution]:
        return {name: d for name in names if not (d := self._distributions[name]).single()}

    def reseed_rng(self) -> None:
        """As the other sampler does."""
        self.inner.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All names: a configuration is drawn at once."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A configuration, with the values that the trial was enqueued with.

        Raises:
            SpaceError: None is found for which the condition holds.
        """
        given = given_values(trial) or {}
        parts = self._parts
        if parts is None:
            parts = [self.inner.infer_relative_search_space(study, trial)]
        dice = RandomSampler(seed=None if self._seed is None else seed_of(study, trial, self._seed))
        for attempt in range(_PROPOSED + _DRAWN):
            known: dict[str, Any] = {}
            for part in parts if attempt < _PROPOSED else ():
                known |= self.inner.sample_relative(study, trial, part)
            raw = self._draw(study, trial, {**known, **given}, self.inner if attempt < _PROPOSED else dice)
            if raw.keys() <= given.keys() or self._space.allows(raw):
                return raw
        said = f"The condition of {self._space!r} held for none of {_DRAWN:,} configurations that were drawn"
        if given:
            raise SpaceError(
                f"{said} with {dict(given)}, with which trial {trial.number} was enqueued; the trial is left out.\n"
                "  Enqueue values for which it holds."
            )
        raise SpaceError(
            f"{said}.\n  Loosen it, or narrow the ranges to where it holds; or search a quantity that it follows from, "
            "such as a ratio."
        )

    def _draw(self, study: Study, trial: FrozenTrial, known: dict[str, Any], other: BaseSampler) -> dict[str, Any]:
        """The values that are known, and those of another sampler for the rest of what exists."""

        def value_of(name: str) -> Any:
            if name in known:
                return known[name]
            return other.sample_independent(study, trial, name, self._distributions[name])

        return self._space.walk(value_of)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As the other sampler does, for a name with a single value."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """As the other sampler does."""
        self.inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As the other sampler does."""
        self.inner.after_trial(study, trial, state, values)
