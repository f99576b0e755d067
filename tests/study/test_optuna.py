"""study.optuna: what Optuna's own plots, tables and importances make of a study, with the user's own values."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState, create_trial

import tunehook as th
from tunehook.space import SpaceError
from tunehook.trial import Outcome, StudyError

SPACE = {
    "lr": th.LogNormal(-7, 1), "shift": th.Normal(2, 1), "units": th.Normal(100, 20, step=1),
    "drop": th.Float(0.1, 0.5, step=0.1), "width": th.Int(16, 1024, log=True, step=16),
    "depth": th.Int(0, 4000, step=2), "act": th.Choice(["relu", None, 1.5]), "layers": th.Choice([[8, 8], [16]]),
    "fixed": 3,
}  # fmt: skip


def study(name: str = "digits", space: Any = None, *, metric: Any = "acc", mode: Any = "max") -> th.Study:
    """A study that is opened once more."""
    return th.Study(name, space or SPACE, metric=metric, mode=mode, search="random", seed=1)


def searched(many: int = 12) -> th.Study:
    """A study whose trials are all complete."""
    made = study()
    for number in range(many):
        trial = made.ask()
        made.tell(trial, Outcome("complete", "", trial.params["shift"] + number / 100, 1))
    return made


def raw_values(made: th.Study) -> list[Any]:
    """What is in the storage, and what samplers see."""
    return [(one.params, one.distributions, one.system_attrs) for one in made._ledger.trials()]


def test_values_are_the_users_own_and_the_storage_stays() -> None:
    """By trials, best ones, a table and a single trial, each in its distribution; samplers see what they saw."""
    made = searched()
    before = raw_values(made)
    found = made.optuna
    for ours, theirs in zip(made.trials, found.trials, strict=True):
        expected = {**ours.params, "layers": str(ours.params["layers"])}
        del expected["fixed"]
        assert theirs.params == expected
        assert {name: type(value) for name, value in theirs.params.items()} == {
            name: type(value) for name, value in expected.items()
        }
        with warnings.catch_warnings(action="error"):  # Optuna warns of values outside
            create_trial(params=theirs.params, distributions=theirs.distributions, value=0.0)
    assert found.best_trial.number == made.best.number
    assert found.best_params["shift"] == made.best.params["shift"]
    assert list(found.trials_dataframe()["params_units"]) == [one.params["units"] for one in made.trials]
    assert found.metric_names == ["acc"]
    kinds = {name: type(one).__name__ for name, one in found.trials[0].distributions.items()}
    assert kinds["units"] == kinds["width"] == kinds["depth"] == "IntDistribution"
    ranges: Any = found.trials[0].distributions
    assert (ranges["lr"].low, ranges["lr"].high, ranges["lr"].log) == (
        pytest.approx(math.exp(-12)), pytest.approx(math.exp(-2)), True
    )  # fmt: skip
    assert (ranges["shift"].low, ranges["shift"].high, ranges["shift"].log) == (-3, 7, False)
    assert raw_values(made) == raw_values(study()) == before


def test_optunas_plots_and_importances() -> None:
    """They have the user's own ranges, logarithmic where those are, and the metric's name."""
    found = searched(25).optuna
    contour = optuna.visualization.plot_contour(found, params=["lr", "shift"])
    assert contour.layout.xaxis.type == "log"
    assert contour.layout.yaxis.range[1] > 1.5  # no probability
    slices = optuna.visualization.plot_slice(found, params=["units"])
    assert sorted(slices.data[0].x) == sorted(one.params["units"] for one in found.trials)
    importance = optuna.visualization.plot_param_importances(found)
    assert importance.data[0].name == "acc"
    assert set(optuna.importance.get_param_importances(found)) == set(SPACE) - {"fixed"}


def test_what_is_enqueued_and_added_is_the_users_own() -> None:
    """It is asked as it is, shown as it is, and a wrong value is an error at once, before anything is kept."""
    made = study()
    own = {"lr": made.ask().params["lr"], "units": 91, "act": None, "drop": 0.3}
    made.optuna.enqueue_trial(own, user_attrs={"why": "a guess"})
    waiting = made.optuna.get_trials(states=(TrialState.WAITING,))[0]
    assert waiting.system_attrs["fixed_params"] == own
    made.optuna.enqueue_trial(own, skip_if_exists=True)
    asked = made.ask()
    assert {name: asked.params[name] for name in own} == own
    known = made.optuna.trials[-1]
    made.optuna.add_trial(create_trial(params=known.params, distributions=known.distributions, value=0.25))
    assert made.trials[-1].params == asked.params
    assert made.trials[-1].value == 0.25
    many = len(made.optuna.trials)
    for wrong, message in (
        ({"drop": 0.35}, r"^0\.35 is outside Float\(0\.1, 0\.5, step=0\.1\)"),
        ({"lrr": 1.0}, r"^There is no hyperparameter 'lrr' in study\.optuna\. It has: lr, shift, units, "),
    ):
        with pytest.raises(SpaceError, match=message):
            made.optuna.enqueue_trial(wrong)
    with pytest.raises(SpaceError, match="The trial has no value for 'lr', 'shift'"):
        made.optuna.add_trial(create_trial(params={}, distributions={}, value=0.25))
    assert len(made.optuna.trials) == many


def test_it_asks_for_no_trials() -> None:
    """Nor does anything of Optuna train through it; what it is told counts, and its sampler is the study's."""
    made = searched(2)
    for call in (made.optuna.ask, lambda: made.optuna.optimize(lambda _: 0.0, n_trials=1)):
        with pytest.raises(StudyError, match=re.escape("Ask with study.ask(), or train with study.optimize(train, tr")):
            call()
    with pytest.raises(StorageInternalError, match=r"use study\.report and study\.tell to change its trials"):
        optuna.Trial(made.optuna, made.optuna.trials[0]._trial_id).report(0.5, 1)
    sampler = optuna.samplers.RandomSampler()
    made.optuna.sampler = sampler
    assert made._ledger.study.sampler is made.optuna.sampler is sampler
    trial = made.ask()
    told = made.optuna.tell(trial.number, 0.75)
    assert told.params["shift"] == trial.params["shift"]
    assert made.trials[-1].value == 0.75
    made.optuna.set_user_attr("seen", 1)
    assert study().optuna.user_attrs["seen"] == 1
    assert optuna.study.get_all_study_names(made._ledger.kept) == ["digits"]


def test_branches_and_several_metrics() -> None:
    """A trial has what exists in it, by Optuna's names, and each metric its name."""
    space = {"opt": th.Choice({"sgd": {"lr": th.Normal(1, 0.1)}, "adam": {"lr": th.LogNormal(-7, 1)}})}
    made = study("two", space, metric=["acc", "latency"], mode=["max", "min"])
    for number in range(6):
        made.tell(made.ask(), Outcome("complete", "", 0.5, 1, values=(0.5, float(number))))
    found = made.optuna
    assert found.metric_names == ["acc", "latency"]
    for ours, theirs in zip(made.trials, found.trials, strict=True):
        option = ours.params["opt"]
        assert theirs.params == {"opt": option, f"lr[opt={option!r}]": ours.params["lr"]}
    optuna.visualization.plot_pareto_front(found)


def test_a_study_that_is_only_looked_at(tmp_path: Path) -> None:
    """It is shown as it is, and refuses what would write."""
    made = searched(3)
    expected = [one.params["shift"] for one in made.trials]
    opened = th.Study.open("digits")
    assert [one.params["shift"] for one in opened.optuna.trials] == expected
    with pytest.raises((StorageInternalError, StudyError), match="not to write"):
        opened.optuna.enqueue_trial({"shift": expected[0]})
