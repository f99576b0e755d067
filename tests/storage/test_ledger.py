"""What a study asks of its storage."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

import tunehook as th
from ledgers import make_ledger
from tunehook.storage import is_counted, outcome_of
from tunehook.storage.states import stored_state
from tunehook.trial import ASKED_AGAIN, COUNTED, Outcome, State

ENDS: dict[State, TrialState] = {
    "complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL, "interrupted": TrialState.FAIL,
}  # fmt: skip


def test_it_is_opened_when_it_is_needed() -> None:
    """Not before, and once."""
    storage = InMemoryStorage()
    ledger = make_ledger(storage)
    assert storage.get_all_studies() == []
    assert ledger.study is ledger.study
    assert [study.study_name for study in storage.get_all_studies()] == ["digits"]


@pytest.mark.parametrize("state", ENDS)
def test_an_end_is_read_as_it_was_written(state: State) -> None:
    """With its value, also where Optuna keeps none; those that count are those that say something of the values."""
    ledger, outcome = make_ledger(), Outcome(state, "why", 0.5, 3, "traceback")
    ledger.end(ledger.ask(), outcome)
    (frozen,) = ledger.trials()
    assert (frozen.state, outcome_of(frozen)) == (ENDS[state], outcome)
    assert ledger.outcome_of(frozen) == outcome
    assert stored_state(state) == ENDS[state]
    assert is_counted(frozen) == (state in COUNTED) == bool(ledger.finished)
    assert not (is_counted(frozen) and state in ASKED_AGAIN)


def test_what_is_told_first_counts() -> None:
    """A second end is refused, also by another process."""
    storage = InMemoryStorage()
    one, two = make_ledger(storage), make_ledger(storage)
    one.end(one.ask(), Outcome("complete", "first", 0.5))
    with pytest.raises(UpdateFinishedTrialError):
        two.end(two.trials()[0], Outcome("failed", "second"))
    assert outcome_of(one.trials()[0]).state == "complete"


def test_a_trial_that_is_given_back_waits_with_its_values() -> None:
    """Whoever asks next gets it, with its number."""
    ledger = make_ledger()
    asked = ledger.ask()
    ledger.take(asked)
    ledger.give_back(asked)
    assert (ledger.has_waiting, ledger.running(), ledger.begun()) == (True, [], [])
    again = ledger.ask()
    assert (again.number, again.params) == (asked.number, asked.params)


def test_the_trial_that_this_thread_began_last() -> None:
    """As long as it runs, and nobody has taken it."""
    ledger = make_ledger()
    assert ledger.begun_last() is None
    asked = ledger.ask()
    last = ledger.begun_last()
    assert last is not None
    assert last.number == asked.number
    ledger.take(asked)
    assert ledger.begun_last() is None


def test_a_study_knows_how_many_trials_were_wanted() -> None:
    """What was asked for last; of a grid all of it, where no number was said."""
    space = th.Space({"x": th.Choice([1, 2, 3])})
    ledger = make_ledger(search="grid", space=space)
    assert ledger.notes.wanted is None
    ledger.notes.note_plan()
    assert ledger.notes.wanted == 3


@pytest.mark.parametrize("asked", [0, 1])
def test_a_trial_is_put_in_under_its_number_or_not(asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process asks for a trial before it, or at that moment, which leaves one that was interrupted."""
    options: dict[str, Any] = {"began": 1.0, "raw": None, "is_given": False, "named": {}}
    ledger = make_ledger()
    real = ledger.kept.put_in

    def put_in(*args: Any) -> int:
        ledger.ask()
        return real(*args)

    assert ledger.put_in(0, None, **options)
    if asked:
        monkeypatch.setattr(ledger.kept, "put_in", put_in)
    else:
        ledger.ask()
    assert not ledger.put_in(1, None, **options)
    states = [outcome_of(frozen).state for frozen in ledger.trials()]
    assert states == ["running", "running", *["interrupted"] * asked]
