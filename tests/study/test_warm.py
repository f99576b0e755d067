"""Beginning a study with values of the user's, the script's own ones, and the trials of other studies."""

from __future__ import annotations

import logging
import math
import re
import shutil
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

import tunehook as th
from tunehook.search import SEARCHES
from tunehook.space import Space, SpaceError
from tunehook.study import KnownTrial, Study
from tunehook.trial import Outcome, StudyError

SPACE = {
    "lr": th.Float(1e-6, 1e-1, log=True), "wd": th.LogNormal(-9, 2), "shift": th.Normal(0, 1, step=0.5),
    "hidden": th.Int(1, 5000, log=True), "betas": th.Choice([[0.9, 0.999], [0.8, 0.9]]), "odd": th.Choice([1, True]),
    "optimizer": th.Choice({"sgd": {"momentum": th.Float(0, 0.99)}, "adam": {"eps": th.Float(1e-9, 1e-3, log=True)}}),
    "seed": 1,
}  # fmt: skip


def study(name: str = "new", space: Any = SPACE, **options: Any) -> Study:
    """A study of 'loss' that tells what it does."""
    return Study(name, space, **{"metric": "loss", "mode": "min", "search": "random", "seed": 1, **options})


def run(found: Study, values: list[float]) -> list[dict[str, Any]]:
    """Ask for trials and tell their values."""
    params = []
    for value in values:
        trial = found.ask()
        found.tell(trial, Outcome("complete", value=value))
        params.append(dict(trial.params))
    return params


# ------------------------------------------------------------------ values of the user's

ENQUEUED: list[dict[str, Any]] = [
    {"lr": 1e-4},
    {"wd": 1e-4, "shift": -0.5},
    {"hidden": 4096, "betas": [0.8, 0.9], "odd": True},
    {"odd": 1, "optimizer": "sgd"},
    {"optimizer": "sgd", "momentum": 0.9},
    {"optimizer": "adam", "eps": 1e-8, "seed": 1},
    {"betas": (0.9, 0.999)},
]


@pytest.mark.parametrize("search", [name for name in SEARCHES if name not in ("grid", "cmaes", "gp")])
def test_values_of_the_user_are_tried_as_they_are(search: str) -> None:
    """On logarithmic and normal scales, in choices and branches; what is left out is the search's."""
    found = study(search=search, storage=InMemoryStorage())
    for params in ENQUEUED:
        found.enqueue(params)
    for params, tried in zip(ENQUEUED, run(found, [1.0] * len(ENQUEUED)), strict=True):
        for name, value in params.items():
            wanted = list(value) if isinstance(value, tuple) else value
            assert tried[name] == (pytest.approx(wanted, rel=1e-8) if name in ("wd", "shift") else wanted)
            assert type(tried[name]) is type(wanted)
        assert set(tried) == {*(set(SPACE)), "momentum" if tried["optimizer"] == "sgd" else "eps"}


WRONG = [
    ({"lr": 1.0}, "Hyperparameter 'lr': 1.0 is outside Float(1e-06, 0.1, log=True): it is beyond the bounds."),
    ({"odd": 2}, "Hyperparameter 'odd': 2 is outside Choice([1, True]): it is none of the options."),
    (
        {"momentum": 0.5},
        "Hyperparameter 'momentum' exists only where optimizer is 'sgd': give that too, or leave it out",
    ),
    ({"lrr": 1.0}, "There is no hyperparameter 'lrr' in the space. Did you mean 'lr'?"),
]


@pytest.mark.parametrize(("params", "message"), WRONG)
def test_values_that_are_none_of_the_space(params: dict[str, Any], message: str) -> None:
    """They are an error at once, and nothing is enqueued."""
    found = study(storage=InMemoryStorage())
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}"):
        found.enqueue(params)
    assert not found.lead.has_waiting


# ------------------------------------------------------------------ the script's own values


def test_the_own_values_of_a_script_without_a_fit() -> None:
    """Those that it reads; outside of the space they are the search's, which is said. Twice is as good as once."""
    seen = []

    def train() -> dict[str, float]:
        seen.append((th.value("lr", 1e-2), th.value("hidden", 7), th.value("optimizer", "adam"), th.value("eps", 2.0)))
        return {"loss": seen[-1][0]}

    kind = th.Choice({"sgd": {}, "adam": {"eps": th.Float(1e-9, 1e-3)}})
    found = study(space={"lr": SPACE["lr"], "hidden": SPACE["hidden"], "optimizer": kind})
    assert found.enqueue_defaults(train) == {"lr": 1e-2, "hidden": 7, "optimizer": "adam"}
    assert found.enqueue_defaults(train) == {}
    assert len(seen) == 1
    found.optimize(train, trials=2, progress=False)
    assert seen[1][:3] == (1e-2, 7, "adam")
    assert 1e-9 <= seen[1][3] <= 1e-3
    assert seen[2][0] != 1e-2
    assert found.enqueue_defaults(train) == {}


def test_the_own_values_of_a_script_that_torchrun_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank refuses to read them, before the training is called."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(StudyError, match="Study 'new' cannot read the values of a training of several ranks"):
        study().enqueue_defaults(pytest.fail)


# ------------------------------------------------------------------ other studies

OLD = {"lr": th.Float(1e-6, 1.0, log=True), "hidden": th.Int(1, 100), "gone": th.Float(0, 1)}
NEW = {"lr": th.Float(1e-6, 1e-1, log=True), "hidden": th.Int(1, 1000), "dropout": th.Float(0, 0.5)}


@pytest.fixture
def old() -> Study:
    """A study with two trials that fit into the new space, one that does not, and one that has no value."""
    found = study("old", OLD)
    for params in ({"lr": 1e-3, "hidden": 8}, {"lr": 1e-2, "hidden": 16}, {"lr": 0.5, "hidden": 32}):
        found.enqueue(params)
    run(found, [0.5, 0.25, 0.125])
    found.tell(found.ask(), Outcome("pruned", "median", 0.0625, 1))
    return found


@pytest.mark.parametrize("search", ["bayes", "tpe", "random"])
def test_trials_of_another_study_are_learned_from(old: Study, search: str, caplog: Any) -> None:
    """They are known points: no training, not the best, not counted, and their place is told; twice is once."""
    new = study(space=NEW, search=search)
    with caplog.at_level(logging.INFO, "tunehook"):
        assert new.add_trials(old, fill={"dropout": 0.25}) == 2
    assert caplog.messages[-1] == (
        "Study 'new': 2 of 3 known trials were added.\n"
        "  left out of 3: 'gone', which is not in the space\n"
        "  left out of 1: 'lr', 0.5 is outside Float(1e-06, 0.1, log=True): it is beyond the bounds.\n"
        "  1 not added, since lr has a value outside of the space"
    )
    assert new.add_trials(old, fill={"dropout": 0.25}) == 0
    assert [trial.params for trial in new.trials] == [
        {"lr": 1e-3, "hidden": 8, "dropout": 0.25}, {"lr": 1e-2, "hidden": 16, "dropout": 0.25},
    ]  # fmt: skip
    assert new.counts() == {"known": 2}
    assert new.finished == 0
    assert list(new.dataframe()["reason"])[1].startswith("trial 1 of study 'old' (")
    with pytest.raises(StudyError, match=r"^Study 'new' has no complete trial yet \(2 known\)"):
        _ = new.best
    ((first, *_),) = [run(new, [0.75])]
    assert new.best.number == 2
    assert new.best.params == first
    assert [len(one.params) for one in new.optuna.best_trials] == [3]  # what samplers see has the known values
    assert new.optuna.best_value == 0.25
    alone = study("alone", NEW, search=search)
    assert search != "random" or run(alone, [0.75]) == [first]  # a seed draws what it would have drawn
    new.optimize(lambda: {"loss": th.value("lr", 0.1) + th.value("hidden", 1) + th.value("dropout", 0.1)}, trials=3,
                 progress=False)  # fmt: skip
    assert new.counts() == {"known": 2, "complete": 3}


def test_known_trials_survive_their_storage(old: Study) -> None:
    """They have journals, from which they are put in again."""
    new = study(space=NEW)
    new.add_trials(old, fill={"dropout": 0.0})
    before = [(trial.number, trial.params, trial.outcome) for trial in new.trials]
    new._ledger.kept.remove_session()
    for file in new.paths.databases:
        file.unlink(missing_ok=True)
    again = study(space=NEW)
    assert [(trial.number, trial.params, trial.outcome) for trial in again.trials] == before
    assert again.counts() == {"known": 2}
    assert again.add_trials(old, fill={"dropout": 0.0}) == 0


def test_what_no_longer_makes_a_trial_is_said(old: Study, caplog: Any) -> None:
    """A name that is new, a condition that does not hold, a value that is none, and another metric."""
    with caplog.at_level(logging.INFO, "tunehook"):
        assert study(space=NEW).add_trials(old) == 0
        assert "2 not added, since it has no dropout: give fill={'dropout': ...}" in caplog.text
        space = Space(NEW, where=lambda params: params["hidden"] > 10)
        conditional = study("conditional", space)
        assert conditional.add_trials(old, fill={"dropout": 0.0}) == 1
        assert "1 not added, since the condition of the space does not hold" in caplog.text
        known = [
            KnownTrial({"lr": 1e-3, "hidden": 1, "dropout": 0.0}, value, f"run {value}") for value in (1, math.nan)
        ]
        assert study("given", NEW).add_trials(known, as_own=True) == 1
    assert study("given", NEW).best_value == 1.0
    other = Study("other", NEW, metric="acc", mode="max")
    with pytest.raises(StudyError, match=r"^Study 'old' has the metric 'loss' \(min\), and 'other' has 'acc' \(max\)"):
        other.add_trials(old)


def test_the_best_trials_of_another_study_are_trained_here(old: Study) -> None:
    """The best first, as far as they fit, also where the metric is another one; twice is as good as once."""
    new = Study("new", NEW, metric="acc", mode="max", search="random")
    assert new.enqueue_trials(old, trials=2) == 2
    assert new.enqueue_trials(old, trials=2) == 0
    first, second, third = run(new, [1.0, 2.0, 3.0])
    assert first["hidden"] == 32  # its lr is outside, and so the search's
    assert 1e-6 <= first["lr"] <= 1e-1
    assert (second["lr"], second["hidden"]) == (1e-2, 16)
    assert third["hidden"] not in (16, 32)
    assert new.enqueue_trials(old, trials=2) == 0


def test_what_is_learned_from_can_be_trained_too(old: Study, caplog: Any) -> None:
    """The best known trials come first here as well, once each."""
    new = study(space=OLD)
    with caplog.at_level(logging.INFO, "tunehook"):
        assert new.add_trials(old) == 3
        assert new.enqueue_trials(old, trials=2) == 2
        assert new.enqueue_trials(old, trials=2) == 0
        assert caplog.messages[-1].endswith("\n  2 not enqueued, since its values were enqueued before")
        assert new.add_trials(old) == 0
        assert caplog.messages[-1].endswith("\n  3 not added, since it was added before")
    assert [params["hidden"] for params in run(new, [1.0, 1.0])] == [32, 16]


def test_a_grid_counts_no_known_trial(old: Study) -> None:
    """Its combinations are all tried."""
    grid = study("grid", {"lr": th.Choice([1e-3, 1e-2]), "hidden": th.Choice([8, 16])}, search="grid")
    assert grid.add_trials(old) == 2
    assert run(grid, [1.0] * 4) == [{"lr": lr, "hidden": hidden} for lr in (1e-3, 1e-2) for hidden in (8, 16)]


def test_nothing_is_left_of_looking(old: Study) -> None:
    """A study that is only opened to look at it serves as well."""
    opened = Study.open("old")
    assert study(space=NEW).add_trials(opened, fill={"dropout": 0.1}) == 2
    shutil.rmtree(opened.paths.folder)
