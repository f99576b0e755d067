"""What a process knows of its trial outside of any fit, and what a training function may return."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunehook as th
from tunehook.inject.known import (
    asking,
    ending_early,
    handed_trial,
    knowing,
    known_trial,
    leave_if_stopped,
    names_read,
    note_stop,
    unread_asked,
)
from tunehook.launch.one import may_return
from tunehook.trial.ends import holds_numbers, returned_value
from tunehook.trial.values import Trial

TRIAL = Trial("digits", 3, {"size": (32, 32), "lr": 0.1}, Path("there"), "acc", "max")


def test_processes_that_are_started_inside_get_the_trial() -> None:
    """As it is, tuples among its values too; afterwards nothing is handed on."""
    with knowing(TRIAL):
        assert handed_trial() == TRIAL
        assert th.current() == TRIAL
        assert th.value("size", (1, 1)) == (32, 32)
    assert handed_trial() is None
    assert known_trial() is None


def test_a_study_within_an_objective_has_values_of_its_own() -> None:
    """A name that both have is the trial's while it is known, and the objective's before and after."""
    with asking(lambda: {"lr": 0.5, "depth": 2}):
        assert (th.value("lr", 1.0), th.value("depth", 1)) == (0.5, 2)
        with knowing(TRIAL):
            assert (th.value("lr", 1.0), th.value("depth", 1)) == (0.1, 1)
            assert names_read(TRIAL) == {"lr"}
        assert unread_asked() == {}
        assert th.value("lr", 1.0) == 0.5


def test_a_stopped_trial_is_left_at_its_next_fit() -> None:
    """The training function is left there; without a stop, and outside of a trial, nothing happens."""
    reached: list[Exception] = []
    leave_if_stopped()
    with knowing(TRIAL), ending_early(reached.append):
        leave_if_stopped()
        note_stop()
        leave_if_stopped()
        reached.append(ValueError("further"))
    assert reached == []
    leave_if_stopped()
    with knowing(TRIAL):
        leave_if_stopped()  # the stop was another trial's


def test_errors_pass_where_nothing_was_stopped() -> None:
    """An error of the training is its own."""
    with pytest.raises(ValueError, match=r"^mine$"), knowing(TRIAL), ending_early(lambda _: None):
        raise ValueError("mine")


def test_a_rank_that_does_not_know_its_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank of one process that hears of its trial in no fit: what it reads is not known."""
    monkeypatch.setenv("RANK", "1")
    study = th.Study("digits", {"width": 4}, metric="acc", mode="max", search="random")
    message = (
        r"^th.value\('width', ...\) is read before this rank knows the trial, which rank 0 tells when fit begins.\n"
        r"  Let the Trainer start the ranks \(devices=..., without torchrun or srun\), or make 'width' an argument of "
        r"the module.$"
    )
    with pytest.raises(RuntimeError, match=message):
        study.optimize(lambda: th.value("width", 2), trials=1)


def nothing() -> None:
    """Return nothing."""


def bare(flag: bool) -> None:
    """Return nothing, in two places."""
    if flag:
        return
    print("on")


def number() -> float:
    """Return a number."""
    return 0.5


def sometimes(flag: bool) -> Any:
    """Return something in one place."""
    if flag:
        return {"acc": 1.0}
    return None


class Script:
    """An object that is called."""

    def __call__(self) -> None:
        pass


@pytest.mark.parametrize(
    ("function", "may"),
    [(nothing, False), (bare, False), (functools.partial(bare, True), False), (number, True), (sometimes, True),
     (lambda: nothing(), True), (functools.partial(number), True), (Script(), True), (print, True)],
)  # fmt: skip
def test_functions_that_may_return_a_value(function: Callable[..., object], may: bool) -> None:
    """Those whose code returns something other than None, and those whose code is not known."""
    assert may_return(function) is may


@pytest.mark.parametrize(
    ("result", "value"),
    [(None, None), (True, None), (2, 2.0), (0.5, 0.5), (np.float32(0.5), 0.5), (np.array(2), 2.0), ("0.5", None),
     ({"acc": 1}, 1.0), ({"loss": 1}, None), ([0.5], None), (np.array([0.5]), None), (10**400, None)],
)  # fmt: skip
def test_values_that_are_returned(result: object, value: float | None) -> None:
    """Numbers, arrays without axes, and the metric of a mapping."""
    assert returned_value(result, "acc") == value


def test_results_that_hold_numbers() -> None:
    """Lists and mappings of numbers; nothing else."""
    assert all(map(holds_numbers, [[0.5], {"loss": 1}, [{"loss": 0.5}], (1, 2)]))
    assert not any(map(holds_numbers, [None, 0.5, "x", [], {}, [None], object()]))
