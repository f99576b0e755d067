"""What a stopping rule is shown of a trial, and that it decides by it as by all reports."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from tunehook.search.course import Course
from tunehook.search.guard import Guarded, looks_at_few
from tunehook.search.samplers import STOPPERS, make_stopper
from tunehook.trial import Budget, Mode, direction_of

RULES: dict[str, Callable[[], BasePruner]] = {
    "MedianPruner": lambda: MedianPruner(n_startup_trials=2, n_warmup_steps=3),
    "PercentilePruner": lambda: PercentilePruner(60.0, n_startup_trials=1, interval_steps=4),
    "SuccessiveHalvingPruner": lambda: SuccessiveHalvingPruner(min_resource=2),
    "HyperbandPruner": lambda: HyperbandPruner(min_resource=1, max_resource=30),
    **{name: functools.partial(make_stopper, name, Budget(40)) for name in STOPPERS},
}


def verdicts(rule: BasePruner, mode: Mode, seed: int, *, by_few: bool) -> list[list[bool]]:
    """What a rule says at each report of 30 trials, with NaN among them, and with steps that are left out."""
    draw = random.Random(seed)
    said: list[list[bool]] = []
    study = optuna.create_study(
        direction=direction_of(mode), pruner=rule, sampler=RandomSampler(seed=0), study_name="one"
    )
    for _ in range(30):
        trial, course, step = study.ask(), Course(mode, {}), 0
        said.append([])
        for _ in range(20):
            step += draw.choice([1, 1, 1, 2, 5])
            value = draw.choice([math.nan, *(draw.random() for _ in range(12))])
            trial.report(value, step)
            course.add(step, value)
            shown = course.shown(trial)
            assert len(shown.intermediate_values) <= 3
            said[-1].append(rule.prune(study, shown) if by_few else trial.should_prune())
            if said[-1][-1]:
                break
        study.tell(trial, *([None, TrialState.PRUNED] if said[-1][-1] else [0.5]))
    return said


@pytest.mark.filterwarnings("ignore:All-NaN", "ignore:invalid value")
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_rule_decides_as_by_all_reports(name: str, mode: Mode) -> None:
    """At each report of each trial."""
    for seed in range(3):
        assert looks_at_few(RULES[name]())
        by_all = verdicts(RULES[name](), mode, seed, by_few=False)
        assert verdicts(RULES[name](), mode, seed, by_few=True) == by_all
        assert {one for each in by_all for one in each} == {False, True}


@pytest.mark.filterwarnings("ignore:PatientPruner is experimental")
def test_others_see_all_reports() -> None:
    """A rule that looks back farther, or one of a user's."""

    class Own(MedianPruner):
        """A rule of someone's own."""

    for rule in (PatientPruner(MedianPruner(), 3), ThresholdPruner(lower=0.0), Own()):
        assert not looks_at_few(rule)
        assert not looks_at_few(Guarded(rule, first=1, last=None))
