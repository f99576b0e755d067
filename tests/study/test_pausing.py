"""Paused trials in the study: what goes on, what counts, and what is left at the end."""

from __future__ import annotations

import math

import optuna
import pytest

import tunehook as th
from pause_study import EPOCHS, RUNGS, study, train, trained
from tunehook.record.journal import read_journal


def check(done: th.Study, many: int) -> None:
    """Every trial has come to where it stands by each epoch once, and the best have come further."""
    epochs = trained()
    counts = done.counts()
    assert sum(counts.values()) == many
    assert counts["complete"] >= 1
    assert done.finished == many
    for trial in done.trials:
        steps = epochs[trial.params["x"]]
        assert steps == [*range(1, len(steps) + 1)]
        assert len(steps) in ([EPOCHS] if trial.outcome.state == "complete" else RUNGS)
        events = [*read_journal(done.paths.journal(trial.number))]
        assert [event["step"] for event in events if event["event"] == "report"] == steps
    there = [sum(len(steps) > rung for steps in epochs.values()) for rung in RUNGS]
    assert there[0] >= math.ceil(many / 3)
    assert there[1] >= math.ceil(there[0] / 3)
    assert not done.goes_on


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_whole_study(workers: int | None) -> None:
    """Nothing is trained twice, and a larger study later goes on with what is paused."""
    made = study(many=20)
    made.optimize(train, trials=12, workers=workers, progress=False)
    check(made, 12)
    study(many=20).optimize(train, workers=workers, progress=False)
    check(study(many=20), 20)


def test_samplers_see_what_is_paused() -> None:
    """Optuna takes none of them for one that waits to be asked for; samplers get them with their reports."""
    made = study(many=20, search="random")
    made.optimize(train, trials=6, progress=False)
    states = [trial.state for trial in made.optuna.trials]
    assert set(states) == {optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.COMPLETE}
    paused = [trial for trial in made.optuna.trials if trial.state == optuna.trial.TrialState.PRUNED]
    assert {trial.last_step for trial in paused} <= set(RUNGS)
    assert [trial.value for trial in paused] == [trial.intermediate_values[trial.last_step] for trial in paused]
    assert made.optuna.ask().number == 6
