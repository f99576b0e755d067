"""What a study searches by, checked before Optuna is loaded."""

from __future__ import annotations

import logging
from typing import Any

import optuna
import pytest
from optuna.pruners import ThresholdPruner
from optuna.samplers import RandomSampler

import tunehook as th
from tunehook.search import Course, Method
from tunehook.trial import Budget, Decision

SPACE = th.Space({"x": th.Float(0, 1)})


@pytest.mark.parametrize(("search", "stopper", "error"), [
    ("bayse", None, "There is no search method 'bayse'. Did you mean 'bayes'?"),
    ("bayes", "ahsa", "There is no stopper 'ahsa'. Did you mean 'asha'?"),
    (None, None, "search is one of 'bayes'"), (RandomSampler, None, "or an instance of an Optuna sampler"),
    ("bayes", 3, "or an instance of an Optuna pruner; got 3"),
    ("grid", None, "A grid needs finitely many values"),
])  # fmt: skip
def test_what_is_none_is_told_at_once(search: Any, stopper: Any, error: str) -> None:
    """With what is possible."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Method(search, stopper, SPACE)
    assert error in str(caught.value)


def test_what_the_user_did_not_choose_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """By 'bayes', with the number of trials that is known then."""
    caplog.set_level(logging.INFO, logger="tunehook")
    method = Method("bayes", None, SPACE)
    method.trials = 20
    method.sampler()
    Method("random", None, SPACE).sampler()
    (said,) = caplog.messages
    assert said.startswith("bayes: ")
    assert "20 trials" in said


def test_a_stopper_judges_the_reports_of_a_trial() -> None:
    """A named one from its warm-up on, any other one at each of them; it says who decided."""
    method = Method("random", ThresholdPruner(lower=0.5), SPACE)
    study = optuna.create_study(pruner=method.pruner(Budget(9)))
    running = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    running.report(0.25, 1)
    course = Course("max", {1: 0.25})
    assert method.judges
    assert method.judge(study, running, course, 1, "acc 0.25 at step 1") == Decision(
        True, "ThresholdPruner: acc 0.25 at step 1 falls behind the other trials"
    )
    named = Method("random", "median", SPACE)
    study.pruner = named.pruner(Budget(9))
    assert named.judge(study, running, course, 1, "acc 0.25 at step 1") == Decision()
    assert not Method("random", None, SPACE).judges
