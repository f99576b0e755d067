"""What the script reads of its trial, what it returns, and what it raises after a stop: the same in every framework."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import optuna
import pytest

import tunehook as th
from adapters import Project
from contract_study import Kept, a_study, events, run
from tunehook.trial.errors import InjectionError, TrialError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks: small data, old calls of NumPy and pytrees ...


def test_a_value_that_the_script_reads(project: Project) -> None:
    """The script computes with it, it is put into nothing besides, and the record has it; all else is injected."""
    study = a_study({"width": 6, project.rate: 0.25})
    made = []

    def train() -> None:
        model = project.model(width=2 * th.value("width", 3))
        project.fit(model, project.callback())
        made.append(model)

    study.optimize(train, trials=1, progress=False)
    plain = project.model(width=12)
    project.fit(plain, rate=0.25)
    assert project.weights(made[0]) == project.weights(plain)
    config = next(event for event in events(study) if event["event"] == "config")["effective"]
    assert (config["width"], config["model.width"], config[project.rate]) == (6, 12, 0.25)


def test_a_number_that_is_used_in_several_places(project: Project) -> None:
    """What the script derives from it follows, as if it had been typed in."""
    study = a_study({"epochs": 3})
    counts = []

    def train() -> None:
        epochs = th.value("epochs", 1)
        counts.append(project.fit(project.model(width=epochs), project.callback(), scores=[1.0] * epochs))

    study.optimize(train, trials=1, progress=False)
    assert counts[0].epochs == 3


def test_a_script_without_a_trial_has_its_own_values(project: Project) -> None:
    """Outside of a study, and for names that the space does not have, the default is given and no trial known."""
    assert th.value("width", 4) == 4
    assert th.current() is None
    study = a_study({"width": 6})
    seen = []

    def train() -> None:
        seen.append((th.value("depth", 2), th.current()))
        project.fit(project.model(), project.callback())

    study.optimize(train, trials=1, progress=False)
    ((depth, trial),) = seen
    assert depth == 2
    assert isinstance(trial, th.Trial)
    assert (trial.number, dict(trial.params), trial.folder) == (0, {"width": 6}, study.paths.trial(0))
    assert th.current() is None
    assert "TUNEHOOK_TRIAL" not in os.environ


def test_a_name_of_a_branch_that_is_not_chosen(project: Project) -> None:
    """It is neither injected nor recorded: the script trains with its own value."""
    kept = Kept()
    space = {"kind": th.Choice({"wide": {"width": th.Choice([6]), project.rate: 0.25}, "plain": {}})}
    study = a_study(space, search="grid", recorders=[kept])
    made = {}

    def train() -> None:
        kind = th.value("kind", "plain")
        made[kind] = project.model(width=3)
        project.fit(made[kind], project.callback())

    study.optimize(train, progress=False)
    for kind, width, rate in (("wide", 6, 0.25), ("plain", 3, 0.05)):
        plain = project.model(width=width)
        project.fit(plain, rate=rate)
        assert project.weights(made[kind]) == project.weights(plain)
    assert [trial.params for trial in study.trials] == [
        {"kind": "wide", "width": 6, project.rate: 0.25}, {"kind": "plain"},
    ]  # fmt: skip
    opened = [told for call, told in kept.calls if call == "open"]
    assert [list(params) for _, params, _ in opened] == [["kind", "width", project.rate], ["kind"]]
    begin, config = events(study, 1)[0], next(one for one in events(study, 1) if one["event"] == "config")
    assert begin["params"] == {"kind": "plain"}
    assert "width" not in config["effective"]
    assert config["effective"]["model.width"] == 3


def test_a_value_read_before_the_trial_is_known(project: Project) -> None:
    """With ``TuneCallback(study)`` the trial is asked for in the fit, so the script has trained with its default."""
    study = a_study({"width": 6})
    message = (
        r"^th.value\('width', ...\) was read before this trial was known, so it did not return its value.\n"
        r"  Call study.optimize\(train, ...\), which knows the trial before it calls train.$"
    )
    model = project.model(width=th.value("width", 4))
    with pytest.raises(InjectionError, match=message):
        project.fit(model, project.callback(study))


def test_a_value_read_after_it_was_injected(project: Project) -> None:
    """It would count twice."""
    study = a_study({"width": 6})

    def train() -> None:
        project.fit(project.model(), project.callback())
        th.value("width", 4)

    message = (
        r"^th.value\('width', ...\) is read after a fit has begun, which put the value into an object already.\n"
        "  Read it before that fit: a name that the script reads is put into no object.$"
    )
    with pytest.raises(InjectionError, match=message):
        study.optimize(train, trials=1, progress=False)


@pytest.mark.parametrize("returned", ["number", "dict", "array"])
def test_what_the_training_returns_is_the_value(project: Project, returned: str) -> None:
    """A mean over folds, say; reports on the way are kept, and the value that counts is the returned one."""
    study = a_study()

    def train() -> Any:
        import numpy as np

        for score in (1.0, 4.0):
            project.fit(project.model(), project.callback(), scores=[score])
        return {"number": 2.5, "dict": {"score": 2.5, "loss": 9.0}, "array": np.float32(2.5)}[returned]

    study.optimize(train, trials=1, progress=False)
    assert study.best.value == 2.5
    assert [event["metrics"]["score"] for event in events(study) if event["event"] == "report"] == [1.0, 4.0]
    assert events(study)[-1]["value"] == 2.5


def test_a_metric_that_is_measured_after_the_fit(project: Project) -> None:
    """A training that returns the value need not log it; one that does not is told so, with what exists."""
    study = a_study(metric="test_score")

    def train() -> Mapping[str, float]:
        project.fit(project.model(), project.callback())
        return {"test_score": 0.75}

    study.optimize(train, trials=1, progress=False)
    assert (study.best.value, study.best.outcome.step) == (0.75, None)

    def forgets() -> Mapping[str, float]:
        project.fit(project.model(), project.callback())
        return {"test_scores": 0.75}

    with pytest.raises(TrialError) as caught:
        study.optimize(forgets, trials=2, progress=False)
    assert "The study tunes the metric 'test_score', but the training did not log it." in str(caught.value)
    assert str(caught.value).endswith("\n  Or return its value from the training function.")


def test_a_training_that_returns_nothing_is_told_in_its_first_epoch(project: Project) -> None:
    """It cannot return the metric, so a name that nobody logs is an error at once."""
    count = None

    def train() -> None:
        nonlocal count
        count = project.fit(project.model(), project.callback(), scores=[1.0] * 5)

    with pytest.raises(TrialError, match=r"^The study tunes the metric 'other', but the training did not log it"):
        a_study(metric="other").optimize(train, trials=1, progress=False)
    assert count is None


def test_a_returned_nan_is_infeasible(project: Project) -> None:
    """As a reported one is."""
    study = a_study()

    def train() -> float:
        project.fit(project.model(), project.callback())
        return math.nan

    study.optimize(train, trials=1, progress=False)
    assert (study.trials[0].outcome.state, study.trials[0].outcome.reason) == ("infeasible", "train returned nan")


def test_results_that_are_not_used_are_told(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """A list of numbers is no value; what holds none, such as a model, is nobody's business."""
    study = a_study()

    def train() -> list[dict[str, float]]:
        project.fit(project.model(), project.callback())
        return [{"loss": 0.5}]

    study.optimize(train, trials=1, progress=False)
    assert [record.getMessage() for record in caplog.records if "returned" in record.getMessage()] == [
        "trial-0000: train returned [{'loss': 0.5}], which is not used: return a number, or a dict with 'score'."
    ]
    assert study.best.value == 2.0
    caplog.clear()
    study.optimize(lambda: project.fit(project.model(), project.callback()), trials=2, progress=False)
    assert not [record for record in caplog.records if "returned" in record.getMessage()]


def test_an_error_after_a_stop_leaves_the_trial_pruned(project: Project) -> None:
    """What a script raises on what the stop has cut short is noted, and the study goes on."""
    study = a_study(stopper=optuna.pruners.ThresholdPruner(lower=0.0))

    def train() -> None:
        count = project.fit(project.model(), project.callback(), scores=[-1.0, 1.0])
        [][count.epochs]

    study.optimize(train, trials=2, progress=False)
    assert [trial.outcome.state for trial in study.trials] == ["pruned", "pruned"]
    noted = [event["text"] for event in events(study) if event["event"] == "problem"]
    assert noted == ["after the stop the training raised IndexError('list index out of range')"]


def test_an_error_without_a_stop_is_a_failure(project: Project) -> None:
    """Nothing else is forgiven."""
    study = a_study(max_failures=1)

    def train() -> None:
        project.fit(project.model(), project.callback())
        raise KeyError("val_loss")

    with pytest.raises(th.StudyError, match="KeyError"):
        study.optimize(train, trials=1, progress=False)
    assert study.trials[0].outcome.state == "failed"


def test_a_value_of_another_type(project: Project) -> None:
    """It is refused with both, before the training."""
    study = a_study({"width": 6.5})
    message = (
        r"^The hyperparameter 'width' is 6.5 \(float\), but th.value\('width', 4\) wants int, the type of its "
        r"default.\n  Use a distribution that gives it, or another default.$"
    )
    with pytest.raises(InjectionError, match=message):
        study.optimize(lambda: th.value("width", 4), trials=1, progress=False)
    assert run(a_study(name="other"), project).epochs == 2
