"""Hyperopt's algorithms as an Optuna sampler, so that all else of a study is as with any search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler

from tunehook.integrations.hyperopt.host import ALGORITHMS, Search, check_adaptive, choice, uniform
from tunehook.search import known_values, startup
from tunehook.space import Space
from tunehook.system import all_trials

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class HyperoptSampler(BaseSampler):
    """A search of Hyperopt as an Optuna sampler: TPE (Bergstra et al., 2011), annealing, adaptive TPE or random.

    Numbers are Hyperopt's uniform and loguniform ones, those with a step and whole ones the rounded kinds, and a choice
    has its branches, so that Hyperopt knows what exists with which option. Stopped trials count with their last value,
    raised by what finished ones have gained from there, and infeasible ones as the worst.

    Args:
        space: The `Space` that is searched.
        algorithm: ``"tpe"``, ``"anneal"``, ``"atpe"`` (which needs ``hyperopt[atpe]``) or ``"random"``. Defaults to
            ``"tpe"``.
        seed: Seed of the random numbers. Defaults to None, an unpredictable one.
        startup: How many trials with random values come before the first that TPE proposes. Defaults to 20, Hyperopt's.

    Raises:
        ValueError: There is no such algorithm.
        ModuleNotFoundError: Adaptive TPE lacks its packages.

    Example:
        >>> sampler = HyperoptSampler(Space({"x": Float(0, 1)}), seed=1)
    """

    def __init__(self, space: Space, *, algorithm: str = "tpe", seed: int | None = None, startup: int = 20) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm is one of {', '.join(map(repr, ALGORITHMS))}; got {algorithm!r}.")
        if algorithm == "atpe":
            check_adaptive()
        self._space = space
        self._distributions = {name: d for name, d in space.distributions().items() if not d.single()}
        tree = _tree(self._distributions, space.branches(), {})
        self._search = Search(algorithm, tree, list(self._distributions), startup)
        self.reseed_rng() if seed is None else self._seed(seed)

    def reseed_rng(self) -> None:
        """Take unpredictable random numbers from now on."""
        self._seed(None)

    def _seed(self, seed: int | None) -> None:
        self._dice = np.random.default_rng(seed)
        self._random = RandomSampler(seed=int(self._dice.integers(2**32)))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space, but for names that have one value only."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose values of what exists together."""
        if not self._distributions:
            return {}
        others = [one for one in all_trials(study) if one.number != trial.number and self._is_of_space(one)]
        known = [(self._encode(one.params), -value) for one, value in known_values(others, study.direction)]
        proposed = self._search.propose(int(self._dice.integers(2**31 - 1)), known)
        return {name: _decode(self._distributions[name], value) for name, value in proposed.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _is_of_space(self, trial: FrozenTrial) -> bool:
        there = trial.distributions
        return all(there.get(name, d) == d for name, d in self._distributions.items()) and self._space.is_complete(
            trial.params
        )

    def _encode(self, params: Mapping[str, Any]) -> dict[str, float]:
        return {name: _encode(d, params[name]) for name, d in self._distributions.items() if name in params}


def _make(algorithm: str, space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    sampler = HyperoptSampler(space, algorithm=algorithm, seed=seed, startup=startup(trials))
    return sampler, f"Hyperopt's {algorithm}"


def make_tpe(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    """The search ``"hyperopt"``."""
    return _make("tpe", space, seed, trials)


def make_anneal(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    """The search ``"hyperopt-anneal"``."""
    return _make("anneal", space, seed, trials)


def make_atpe(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    """The search ``"hyperopt-atpe"``."""
    return _make("atpe", space, seed, trials)


def make_random(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    """The search ``"hyperopt-random"``."""
    return _make("random", space, seed, trials)


def _tree(
    distributions: Mapping[str, BaseDistribution], branches: Mapping[str, Mapping[str, Any]], around: Mapping[str, Any]
) -> dict[str, Any]:
    """What exists with the options that are chosen around it, with the branches of its choices."""
    tree: dict[str, Any] = {}
    for name, d in distributions.items():
        needs = {other: value for other, value in branches.get(name, {}).items() if other in distributions}
        if needs != around:
            continue
        if isinstance(d, CategoricalDistribution):
            inner = [_tree(distributions, branches, {**around, name: option}) for option in d.choices]
            tree[name] = choice(name, inner)
        else:
            tree[name] = _number(name, d)
    return tree


def _number(name: str, d: BaseDistribution) -> Any:
    if not isinstance(d, FloatDistribution | IntDistribution):
        raise TypeError(f"Optuna's distributions are numbers and choices, got {d!r}.")
    if d.step is None:
        return uniform(name, *_scaled(d.low, d.high, log=d.log), log=d.log, step=None)
    if d.log:  # Optuna has such of whole numbers only, by steps of 1
        return uniform(name, *_scaled(d.low - 0.5, d.high + 0.5, log=True), log=True, step=1)
    last = round((d.high - d.low) / d.step)
    return uniform(name, -0.5, last + 0.5, log=False, step=1)


def _scaled(low: float, high: float, *, log: bool) -> tuple[float, float]:
    return (math.log(low), math.log(high)) if log else (low, high)


def _encode(d: BaseDistribution, value: Any) -> float:
    """What Hyperopt has for a value: the place of an option, the number of a step, or the value."""
    if isinstance(d, CategoricalDistribution):
        return int(d.to_internal_repr(value))
    assert isinstance(d, FloatDistribution | IntDistribution)  # noqa: S101 - of `_number`
    return float(value) if d.step is None or d.log else float(round((value - d.low) / d.step))


def _decode(d: BaseDistribution, value: Any) -> Any:
    """The value of what Hyperopt has, inside the bounds."""
    if isinstance(d, CategoricalDistribution):
        return d.choices[int(value)]
    assert isinstance(d, FloatDistribution | IntDistribution)  # noqa: S101 - of `_number`
    exact = float(value) if d.step is None or d.log else d.low + round(float(value)) * d.step
    kind = int if isinstance(d, IntDistribution) else float
    return kind(min(max(exact, d.low), d.high))
