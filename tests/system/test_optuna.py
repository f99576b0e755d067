"""The border to Optuna: what a new Optuna may change, one test for each thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.pruners import HyperbandPruner
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState

from tunehook import system

SPACE: dict[str, BaseDistribution] = {"x": FloatDistribution(0.0, 1.0)}


@pytest.fixture
def study() -> optuna.Study:
    """A study with a trial that ended, and one that runs."""
    made = optuna.create_study()
    made.tell(made.ask(SPACE), 0.5)
    made.ask(SPACE)
    return made


def test_ids_are_those_of_the_storage(study: optuna.Study) -> None:
    """Of a study, of a trial that runs and of one that is read."""
    storage, trial = study._storage, study.ask(SPACE)
    assert storage.get_study_name_from_id(system.study_id(study)) == study.study_name
    assert storage.get_trial(system.trial_id(trial)).number == trial.number
    assert [storage.get_trial(system.trial_id(one)).number for one in study.get_trials()] == [0, 1, 2]


def test_all_trials_are_those_of_all_brackets() -> None:
    """Under Hyperband, samplers are given a study that shows one bracket only."""
    seen: list[int] = []

    class Looks(optuna.samplers.RandomSampler):
        def sample_relative(self, study: optuna.Study, trial: Any, search_space: Any) -> dict[str, Any]:
            seen.append(len(system.all_trials(study)))
            return super().sample_relative(study, trial, search_space)

    study = optuna.create_study(sampler=Looks(seed=1), pruner=HyperbandPruner(1, 9, 3))
    for _ in range(4):
        study.ask(SPACE)
    assert seen == [1, 2, 3, 4]


def test_a_trial_of_another_process_is_led_from_here(study: optuna.Study) -> None:
    """It takes reports and attributes."""
    trial = system.running_trial(study, study.trials[1])
    trial.report(0.25, 1)
    trial.set_user_attr("a", 1)
    assert trial.params == study.trials[1].params
    assert (study.trials[1].intermediate_values, study.trials[1].user_attrs) == ({1: 0.25}, {"a": 1})


def test_a_trial_is_ended(study: optuna.Study) -> None:
    """Past the sampler, read or asked for."""
    system.end_trial(study, study.trials[1])
    system.end_trial(study, study.ask(SPACE))
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]


def test_values_that_a_trial_was_enqueued_with(study: optuna.Study) -> None:
    """By the trial that is asked for and by the one that is read; none where the search chose them."""
    study.enqueue_trial({"x": 0.25})
    assert system.given_values(study.trials[2]) == {"x": 0.25}
    asked = study.ask(SPACE)
    assert system.fixed_values(asked) == {"x": 0.25}
    assert system.given_values(study.trials[2]) == {"x": 0.25}
    assert not system.fixed_values(study.ask(SPACE))
    assert system.given_values(study.trials[3]) is None


def test_a_trial_that_optuna_asks_again(study: optuna.Study) -> None:
    """It says which one it is."""
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        again = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=1)
    again(study, study.trials[1])
    assert [system.retried_number(trial) for trial in study.trials] == [None, None, 1]


@pytest.mark.parametrize(
    ("raw", "is_one"), [(0.0, True), (1.0, True), (1.5, False), (float("nan"), False), ("a", False), (None, False)]
)
def test_raw_values_of_a_distribution(raw: object, is_one: bool) -> None:
    """Numbers in its range; and of choices, those that it has."""
    assert system.contains(SPACE["x"], raw) is is_one
    assert system.contains(CategoricalDistribution(["a", "b"]), raw) is (raw == "a")


def test_a_relational_storage_is_cached(tmp_path: Path) -> None:
    """As Optuna does it for those that it is given; others are used as they are."""
    plain, memory = RDBStorage(f"sqlite:///{tmp_path}/study.db"), InMemoryStorage()
    wrapped = system.cached(plain)
    assert wrapped is not plain
    assert system.uncached(wrapped) is plain
    assert system.uncached(plain) is plain
    assert system.cached(memory) is system.uncached(memory) is memory
    assert system.uncached(system.cached(f"sqlite:///{tmp_path}/other.db")).get_all_studies() == []


def test_optuna_says_nothing_of_studies_that_are_opened(capsys: pytest.CaptureFixture[str]) -> None:
    """Its level is as before then."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        with system.quiet():
            optuna.create_study(study_name="unsaid")
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
    assert "unsaid" not in capsys.readouterr().err
