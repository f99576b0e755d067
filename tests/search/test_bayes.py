"""Bayesian search on real Optuna studies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

import tunehook as th
from tunehook.search import bayes
from tunehook.search.bayes import STARTUP, GaussianProcessSampler
from tunehook.search.gaussian import GaussianProcess

X: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0)}


def valley(trial: optuna.Trial) -> float:
    """A minimum of 0 at x=0.3, n=40, kind "b", size 64."""
    x = trial.suggest_float("x", 0, 1)
    n = trial.suggest_int("n", 1, 1000, log=True)
    kind = trial.suggest_categorical("kind", ["a", "b", "c"])
    size = trial.suggest_categorical("size", [256, 32, 64, 128])
    return (x - 0.3) ** 2 + 0.1 * math.log(n / 40) ** 2 + 0.5 * (kind != "b") + 0.05 * abs(math.log2(size / 64))


def best(sampler: optuna.samplers.BaseSampler, trials: int = 40, direction: str = "minimize") -> float:
    """The best value of a search."""
    sign = 1 if direction == "minimize" else -1
    study = optuna.create_study(sampler=sampler, direction=StudyDirection[direction.upper()])
    study.optimize(lambda trial: sign * valley(trial), n_trials=trials)
    return sign * study.best_value


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_it_is_far_ahead_of_random_search(direction: str) -> None:
    """On a mixed space, in either direction, on average over five seeds."""
    ours = [best(GaussianProcessSampler(seed=seed), direction=direction) for seed in range(5)]
    random = [best(RandomSampler(seed=seed), direction=direction) for seed in range(5)]
    assert sum(ours) < sum(random) / 2


def branin(trial: optuna.Trial) -> float:
    """A smooth function with three minima of 0."""
    x, y = trial.suggest_float("x", -5, 10), trial.suggest_float("y", 0, 15)
    bent = y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6
    return bent * bent + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887


def test_a_smooth_function_is_found_to_three_digits() -> None:
    """Its distances say more than ranks, which are noisy where many values are nearly the best."""
    for seed in range(3):
        study = optuna.create_study(sampler=GaussianProcessSampler(seed=seed))
        study.optimize(branin, n_trials=40)
        assert study.best_value < 0.01


def test_what_is_rounded_is_tried_once() -> None:
    """Numbers that stand for one whole number are one configuration: forty trials of 200 are forty."""
    space = {"n": th.Int(1, 1_991, step=10)}
    study = th.Study("s", space, metric="v", mode="min", search="bayes", seed=1)
    wide = th.Study("wide", {"n": th.Int(0, 2_000)}, metric="v", mode="min", search="bayes", seed=1)
    for one in (study, wide):
        seen = []
        for _ in range(40):
            trial = one.ask()
            seen.append(trial.params["n"])
            one.tell(trial, th.Outcome("complete", value=abs(trial.params["n"] - 700)))
        assert len(set(seen[8:])) == 32


def test_a_seed_gives_the_same_trials() -> None:
    """Two studies with one seed, and not with another one."""

    def params(seed: int) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=GaussianProcessSampler(seed=seed))
        study.optimize(valley, n_trials=14)
        return [trial.params for trial in study.trials]

    assert params(1) == params(1) != params(2)


def told(*trials: tuple[float, TrialState, dict[int, float], float | None]) -> optuna.Study:
    """A study with trials of x: the state, the values on the way and the last one."""
    study = optuna.create_study(sampler=GaussianProcessSampler(seed=1), direction="maximize")
    for x, state, steps, value in trials:
        study.add_trial(
            create_trial(
                state=state, params={"x": x}, distributions=X, value=value,
                intermediate_values=steps,
            )
        )  # fmt: skip
    return study


def test_stopped_trials_are_learned_from() -> None:
    """They end where finished ones would, by what those have gained from that step on."""
    finished = [(x / 10, TrialState.COMPLETE, {5: 0.1 * x, 10: 0.1 * x + 1}, 0.1 * x + 1) for x in range(4)]
    stopped = [(0.6 + at / 20, TrialState.PRUNED, {5: 0.6 + at / 20}, None) for at in range(8)]
    study = told(*finished, *stopped)
    assert study.ask(X).params["x"] > 0.9
    broken = told(*finished, (0.35, TrialState.COMPLETE, {5: math.nan, 10: 1.3}, 1.3), *stopped)
    assert broken.ask(X).params["x"] > 0.9
    unstopped = told(*finished, *[(0.6, TrialState.PRUNED, {5: -3.0}, None), *[
        (0.5 + at / 20, TrialState.PRUNED, {5: -3.0 - at}, None) for at in range(8)
    ]])  # fmt: skip
    assert unstopped.ask(X).params["x"] < 0.5


def test_the_values_of_stopped_trials_are_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is told that there are some."""
    heard: list[bool] = []

    class Heard(GaussianProcess):
        def __init__(self, *given: Any, has_guesses: bool = False, **more: Any) -> None:
            heard.append(has_guesses)
            super().__init__(*given, has_guesses=has_guesses, **more)

    monkeypatch.setattr(bayes, "GaussianProcess", Heard)
    finished = [(x / 10, TrialState.COMPLETE, {5: 0.1 * x}, 0.1 * x) for x in range(9)]
    told(*finished).ask(X)
    assert heard
    assert not any(heard)
    heard.clear()
    told(*finished, (0.95, TrialState.PRUNED, {3: 0.5}, None)).ask(X)
    assert heard
    assert all(heard)


def test_infeasible_trials_are_avoided() -> None:
    """A broken constraint counts as the worst value, whatever was measured."""
    study, proposed = optuna.create_study(sampler=GaussianProcessSampler(seed=1), direction="maximize"), []
    for _ in range(24):
        trial = study.ask(X)
        x = trial.params["x"]
        proposed.append(x)
        if x > 0.5:
            trial.set_constraint("memory", 1.0)
        trial.report(x, 1)
        study.tell(trial, state=TrialState.PRUNED) if x > 0.5 else study.tell(trial, x)
    assert sum(x > 0.5 for x in proposed[-10:]) <= 4
    assert 0.45 < study.best_value <= 0.5


def test_nothing_finite_is_nothing_to_learn_from() -> None:
    """NaN and infinities are left out; with less than two values left, values are random."""
    study = told(
        *[(at / 20, TrialState.PRUNED, {1: math.nan if at % 2 else math.inf}, None) for at in range(12)],
        (0.5, TrialState.COMPLETE, {}, math.inf),
    )
    assert 0 <= study.ask(X).params["x"] <= 1


@pytest.mark.parametrize("workers", [4, 16])
def test_workers_propose_different_values(workers: int) -> None:
    """What runs counts as if it had what is expected of it, so a batch lies apart, and still finds the best."""
    study = optuna.create_study(sampler=GaussianProcessSampler(seed=3))
    space: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    for batch in range(6):
        asked = [study.ask(space) for _ in range(workers)]
        points = [(trial.params["x"], trial.params["y"]) for trial in asked]
        nearest = [min(math.dist(one, other) for other in points if other is not one) for one in points]
        assert min(nearest) > 0
        if batch == 1:  # the first that is proposed; later ones crowd around the best
            assert statistics.median(nearest) > 1e-3
        for trial, (x, y) in zip(asked, points, strict=True):
            study.tell(trial, (x - 0.2) ** 2 + (y - 0.7) ** 2)
    assert study.best_value < 0.01


@pytest.mark.parametrize("startup", [2, STARTUP])
def test_a_small_space_is_used_up_without_an_error(startup: int) -> None:
    """Each of six combinations is tried before one is tried again, those at random too."""
    study = optuna.create_study(sampler=GaussianProcessSampler(seed=1, startup=startup))
    space: dict[str, BaseDistribution] = {"n": IntDistribution(1, 3), "kind": CategoricalDistribution(["a", "b"])}
    seen = []
    for _ in range(10):
        trial = study.ask(space)
        seen.append((trial.params["n"], trial.params["kind"]))
        study.tell(trial, trial.params["n"])
    assert len(set(seen[:6])) == 6


def test_hyperparameters_of_some_trials_only() -> None:
    """What not every trial has is random; what they share is searched."""
    study = optuna.create_study(sampler=GaussianProcessSampler(seed=1))

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        fixed = trial.suggest_categorical("fixed", ["only"])
        extra = trial.suggest_float("momentum", 0, 1) if trial.number % 2 else 0.0
        return (x - 0.5) ** 2 + 0.001 * extra + (fixed != "only")

    study.optimize(objective, n_trials=30)
    assert study.best_value < 0.01


def test_several_objectives_are_an_error() -> None:
    """Before a value is proposed."""
    study = optuna.create_study(sampler=GaussianProcessSampler(), directions=["minimize", "maximize"])
    said = r"^GaussianProcessSampler searches for one objective, and the study has 2: use optuna.samplers.NSGAIISampler"
    with pytest.raises(ValueError, match=said):
        study.ask(X)


def ask_and_tell(study: th.Study, trials: int) -> list[dict[str, Any]]:
    """So many trials, one after the other."""
    values = []
    for _ in range(trials):
        trial = study.ask()
        values.append(dict(trial.params))
        study.tell(trial, th.Outcome("complete", value=(trial.params["x"] - 0.4) ** 2))
    return values


def test_a_study_that_goes_on_proposes_the_same(make: Callable[[str], th.Study]) -> None:
    """Opened again after any trial, as in another process, it proposes what it would have."""
    whole = ask_and_tell(make("whole"), 14)
    for cut in range(1, 14):
        first = ask_and_tell(make(f"cut-{cut}"), cut)
        assert first + ask_and_tell(make(f"cut-{cut}"), 14 - cut) == whole


@pytest.fixture
def make() -> Callable[[str], th.Study]:
    """Opens a study by its name, with a seed."""

    def opened(name: str) -> th.Study:
        space = {"x": th.Float(0, 1), "n": th.Int(1, 100, log=True)}
        return th.Study(name, space, metric="v", mode="min", search="bayes", seed=5)

    return opened


def test_random_trials_come_first() -> None:
    """As many as are said, then the process proposes; running ones count."""
    study = optuna.create_study(sampler=GaussianProcessSampler(seed=1))
    asked = [study.ask(X) for _ in range(3)]
    for trial in asked:
        study.tell(trial, abs(trial.params["x"] - 0.5))
    random = optuna.create_study(sampler=GaussianProcessSampler(seed=1))
    assert [random.ask(X).params for _ in range(STARTUP)][:3] == [trial.params for trial in asked]
