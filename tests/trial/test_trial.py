"""Trial, Budget, Decision, Outcome, and the names of files."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import get_args

import optuna
import pytest

from tunehook.record.paths import StudyPaths, journal_of
from tunehook.trial.objective import (
    ASKED_AGAIN,
    COUNTED,
    Mode,
    State,
    best_of,
    direction_of,
    is_better,
    mode_of,
)
from tunehook.trial.values import Budget, Decision, Outcome, Trial

TRIAL = Trial("digits", 7, {"lr": 0.1}, Path("somewhere"), "acc", "max")


@pytest.mark.parametrize(("number", "name"), [(0, "trial-0000"), (7, "trial-0007"), (12345, "trial-12345")])
def test_the_name_of_a_trial_is_that_of_its_folder(number: int, name: str) -> None:
    """A trial is called the same on dashboards and on disk, also beyond four digits."""
    assert dataclasses.replace(TRIAL, number=number).name == name
    assert StudyPaths(Path("s")).trial(number) == Path("s", name)


def test_paths_lie_below_the_study(hostile: Path) -> None:
    """All file names hang on the study's folder, whatever it is called."""
    paths = StudyPaths(hostile)
    assert paths.database == hostile / "study.db"
    assert paths.journal(3) == hostile / "trial-0003" / "journal.jsonl" == journal_of(paths.trial(3))


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "reports"),
    [
        (None, 1.0, None),
        (10, 1.0, 10),
        (10, 4.0, 40),
        (10, 0.5, 5),
        (9, 0.5, 4),
        (1, 0.2, 1),
        (0, 1.0, 1),
    ],
)
def test_the_reports_of_a_budget(epochs: int | None, per_epoch: float, reports: int | None) -> None:
    """Reports follow from epochs and reports an epoch, rounded down, at least one."""
    assert Budget(epochs, per_epoch).reports == reports


@pytest.mark.parametrize(
    ("state", "code"),
    [("complete", 0), ("pruned", 0), ("running", 0), ("infeasible", 1), ("failed", 1), ("interrupted", 130)],
)
def test_the_exit_code_of_an_outcome(state: State, code: int) -> None:
    """A process ends with 0 where the trial did what it should, 130 after an interruption, else 1."""
    assert Outcome(state).exit_code == code


def test_a_fresh_decision_is_to_go_on() -> None:
    """The default says go on."""
    assert Decision() == Decision(stop=False, reason="go on", state="pruned")


@pytest.mark.parametrize("value", [TRIAL, Budget(3), Decision(True, "x", "infeasible"), Outcome("failed", "x")])
def test_values_are_frozen_and_pickle(value: Trial | Budget | Decision | Outcome) -> None:
    """What callbacks see cannot be changed, and travels to other processes whole."""
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.other = 1  # type: ignore[union-attr]


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("max", [], None),
        ("max", [0.5, 0.7, 0.6], 1),
        ("min", [0.5, 0.7, 0.6], 0),
        ("max", [0.5, 0.7, 0.7], 1),
        ("min", [0.5, 0.5, 0.5], 0),
        ("min", [0.0, -0.0], 0),
        ("max", [NAN, 0.1, NAN], 1),
        ("min", [NAN, None], None),
        ("max", [None, -INFINITY, -INFINITY], 1),
        ("max", [0.5, INFINITY], 1),
    ],
)
def test_the_best_of_several(mode: Mode, values: list[float | None], best: int | None) -> None:
    """The best value, the first of equals; NaN and None are no values."""
    assert best_of(range(len(values)), mode, value=lambda place: values[place]) == best


@pytest.mark.parametrize(
    ("value", "than", "lower", "higher"),
    [
        (1.0, 2.0, True, False),
        (1.0, 1.0, False, False),
        (1.0, None, True, True),
        (1.0, NAN, True, True),
        (NAN, 1.0, False, False),
        (NAN, None, False, False),
        (None, None, False, False),
        (INFINITY, 1.0, False, True),
    ],
)
def test_which_value_is_better(value: float | None, than: float | None, lower: bool, higher: bool) -> None:
    """In both modes; an equal one is not better, and any number is better than none."""
    assert (is_better(value, than, "min"), is_better(value, than, "max")) == (lower, higher)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_modes_are_directions_of_optuna(mode: Mode) -> None:
    """Each of them is one, in letters of any size."""
    direction = direction_of(mode)
    assert optuna.create_study(direction=direction).direction.name == direction.upper()
    assert mode_of(direction) == mode_of(direction.upper()) == mode


def test_a_state_that_is_asked_again_does_not_count() -> None:
    """An end counts, is asked again, is the script's own failure, or is known from elsewhere."""
    assert not set(COUNTED) & set(ASKED_AGAIN)
    assert {*COUNTED, *ASKED_AGAIN, "failed", "running", "known"} == set(get_args(State))
