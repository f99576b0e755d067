"""Branches and conditions in every search, by studies that ask and tell."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage

import tunehook as th
from tunehook.search import SEARCHES, GaussianProcessSampler
from tunehook.space import Choice, Float, Int, Space, SpaceError
from tunehook.trial import StudyFinished

SGD = {"lr": Float(1e-3, 1, log=True), "momentum": Float(0, 0.99), "nesterov": Choice([True, False])}
SPACE = {"optimizer": Choice({"sgd": SGD, "adam": {"lr": Float(1e-5, 1e-2, log=True)}}), "width": Int(1, 100)}


def allowed(params: dict[str, Any]) -> bool:
    """A condition that half of the configurations meet."""
    return bool(params["width"] * params["lr"] < 0.5)


def loss(params: Mapping[str, Any]) -> float:
    """Best with some momentum."""
    return float(abs(params["width"] - 20) / 20 + abs(params.get("momentum", 0.0) - 0.8))


def run(study: th.Study, trials: int) -> list[dict[str, Any]]:
    """Ask for trials and tell them."""
    found = []
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, th.Outcome("complete", value=loss(trial.params)))
        found.append(dict(trial.params))
    return found


def a_study(search: Any, space: Any, **options: Any) -> th.Study:
    """A study in memory."""
    return th.Study("whole", space, metric="loss", mode="min", search=search,
                    **{"seed": 3, "storage": InMemoryStorage(), **options})  # fmt: skip


@pytest.mark.parametrize(
    "search", ["random", "qmc", "tpe", "bayes", "nsga2", pytest.param("gp", marks=pytest.mark.slow), "own"]
)
def test_every_search_draws_what_exists(search: str) -> None:
    """Only what exists, within its branch's bounds, and the condition holds; what was enqueued is kept."""
    sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=5) if search == "own" else search
    study = a_study(sampler, Space(SPACE, where=allowed))
    study.enqueue({"optimizer": "adam", "width": 7})
    found = run(study, 16)
    assert (found[0]["optimizer"], found[0]["width"]) == ("adam", 7)
    for params in found:
        is_sgd = params["optimizer"] == "sgd"
        assert list(params) == ["optimizer", "lr", *(["momentum", "nesterov"] if is_sgd else []), "width"]
        assert 1e-3 <= params["lr"] <= 1 if is_sgd else 1e-5 <= params["lr"] <= 1e-2
        assert allowed(params)
    assert {params["optimizer"] for params in found} == {"sgd", "adam"}
    assert [trial.params for trial in study.trials] == found
    table = study.dataframe()
    assert list(table["params.momentum"].isna()) == [params["optimizer"] == "adam" for params in found]


def test_bayes_learns_inside_branches() -> None:
    """It finds the branch and the value in it that random search of the same budget does not."""
    ours = [a_study("bayes", SPACE, seed=seed) for seed in range(3)]
    random = [a_study("random", SPACE, seed=seed) for seed in range(3)]
    for study in (*ours, *random):
        run(study, 30)
    assert max(study.best_value for study in ours) < 0.1
    assert sum(study.best_value for study in ours) < sum(study.best_value for study in random) / 3
    shares = ours[0].importance()
    assert set(shares) == {"optimizer", "lr", "momentum", "nesterov", "width"}
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("search", ["random", "qmc", "tpe", "bayes"])
def test_a_study_that_is_gone_on_with_proposes_the_same(search: str) -> None:
    """Branches and conditions change nothing in what a seed means."""
    space = Space(SPACE, where=allowed)
    whole = run(a_study(search, space), 14)
    storage = InMemoryStorage()
    parts = [run(a_study(search, space, storage=storage), many) for many in (6, 1, 7)]
    assert [params for part in parts for params in part] == whole


def test_the_process_knows_branches_in_any_optuna_study() -> None:
    """With a space of ours, the sampler serves a plain study of Optuna."""
    space = Space(SPACE)
    study = optuna.create_study(sampler=GaussianProcessSampler(seed=1, startup=4, space=space))
    made = space.distributions()
    for _ in range(12):
        trial = study.ask()
        raw = space.walk(lambda name, trial=trial: trial._suggest(name, made[name]))  # type: ignore[misc]
        study.tell(trial, loss(space.decode(raw)))
    assert {"sgd", "adam"} == {trial.params["optimizer"] for trial in study.trials}


def test_a_grid_tries_each_branch_once() -> None:
    """In order, also where another study goes on, and then it is finished."""
    space = {"a": Choice({"x": {"b": Choice([1, 2])}, "y": {}}), "c": Int(0, 1)}
    storage = InMemoryStorage()
    found = [dict(a_study("grid", space, storage=storage).ask().params) for _ in range(6)]
    assert found == [Space(space).grid_point(index) for index in range(6)]
    with pytest.raises(StudyFinished, match="All 6 combinations of the grid have been handed out"):
        a_study("grid", space, storage=storage).ask()


def test_a_condition_that_nothing_meets() -> None:
    """An error with the way out, not a trial; and enqueued values that break it are one at once."""
    study = a_study("random", Space(SPACE, where=lambda params: params["width"] > 100))
    with pytest.raises(SpaceError, match=r" held for none of 10,000 configurations that were drawn\.\n  Loosen it, or"):
        study.ask()
    assert study.counts() == {}
    with pytest.raises(SpaceError, match=r"^The condition of the space does not hold for \{'optimizer': 'adam', 'lr'"):
        study.enqueue({"optimizer": "adam", "lr": 1e-3, "width": 5})


def test_enqueued_values_for_which_no_others_are_found() -> None:
    """They are an error once, and the study goes on without them."""
    study = a_study(
        "random", Space({"a": Int(4, 8), "b": Int(1, 4)}, where=lambda params: params["a"] * params["b"] <= 6)
    )
    study.enqueue({"b": 4})
    said = r"drawn with \{'b': 4\}, with which trial 0 was enqueued; the trial is left out.\n  Enqueue values"
    with pytest.raises(SpaceError, match=said):
        study.ask()
    assert not study.lead.has_waiting
    assert study.ask().params["b"] == 1


def test_another_condition_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Trials from before may break it, so the study goes on and says so."""
    space = {"x": Float(0, 1)}
    storage = InMemoryStorage()
    a_study("random", Space(space, where=lambda params: params["x"] < 0.5), storage=storage).ask()
    with caplog.at_level(logging.WARNING, "tunehook"):
        trial = a_study("random", Space(space, where=lambda params: params["x"] > 0.5), storage=storage).ask()
    assert trial.params["x"] > 0.5
    assert "and its source was another one. Trials from before may break the condition of now." in caplog.text


def test_cmaes_says_what_it_cannot_search() -> None:
    """A branch hangs on a choice; a condition over numbers holds in its points."""
    with pytest.raises(SpaceError, match=r"^The search 'cmaes' is for numbers only, but 'optimizer', 'nesterov' is a"):
        a_study("cmaes", SPACE)
    pytest.importorskip("cmaes")
    study = a_study("cmaes", Space({"x": Float(0, 1), "width": Float(0, 1)}, where=lambda p: p["x"] + p["width"] < 1))
    for _ in range(12):
        trial = study.ask()
        assert trial.params["x"] + trial.params["width"] < 1
        study.tell(trial, th.Outcome("complete", value=-trial.params["x"]))


def test_every_search_is_tried_here() -> None:
    """A new one has to say what it does with branches."""
    assert {name for name in SEARCHES if not name.startswith("hyperopt")} == {  # those are tried with their package
        "random", "qmc", "tpe", "bayes", "gp", "grid", "cmaes", "nsga2", "pbt",
    }  # fmt: skip
