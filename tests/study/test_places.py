"""Claimed places, by themselves: the number that was wanted is reached, and never exceeded."""

from __future__ import annotations

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import create_trial

from ledgers import make_ledger
from tunehook.storage.ledger import Ledger
from tunehook.study.holders import Holders
from tunehook.study.places import Places
from tunehook.study.terms import Terms
from tunehook.trial import Outcome, State, StudyFull


class Elsewhere(Holders):
    """Every other trial that runs is another process's, which lives."""

    def is_elsewhere(self, frozen: object, *_: object) -> bool:
        """Whether it is."""
        return True


def places(ledger: Ledger, limit: int | None) -> Places:
    """The places of a study that shall have so many trials."""
    return Places(ledger, Elsewhere(ledger), Terms(limit=limit))


@pytest.mark.parametrize(("states", "is_full"), [
    ([], False), (["complete"], False), (["complete", "complete"], True), (["complete", "pruned"], True),
    (["infeasible", "pruned"], True), (["failed", "interrupted", "failed"], False), (["complete", "running"], True),
])  # fmt: skip
def test_two_places(states: list[State], is_full: bool) -> None:
    """Those that count take one, and so do those that run elsewhere."""
    ledger = make_ledger()
    for state in states:
        asked = ledger.ask()
        if state != "running":
            ledger.end(asked, Outcome(state, "why", 0.5))
    places(ledger, None).check()
    if not is_full:
        places(ledger, 2).check()
        return
    with pytest.raises(StudyFull, match="The last of the 2 trials of study 'digits' are running in other processes"):
        places(ledger, 2).check()


def test_a_trial_without_values_takes_no_place() -> None:
    """It is none of those that were wanted, as one that was added by hand; else nobody could ask for the last one."""
    ledger = make_ledger()
    ledger.study.add_trial(create_trial(value=0.5))
    places(ledger, 1).check()
    assert ledger.finished == 0


def test_of_two_that_ask_at_once_the_first_stays() -> None:
    """Each sees the other's trial: the one with the higher number is given back, not both."""
    storage = InMemoryStorage()
    one, two = make_ledger(storage), make_ledger(storage)
    first, second = one.ask(), two.ask()
    with pytest.raises(StudyFull):
        places(two, 1).check(second)
    places(one, 1).check(first)
    assert [frozen.state.name for frozen in one.trials()] == ["RUNNING", "WAITING"]


def test_a_trial_that_had_waited_counts_all() -> None:
    """Its number is low, but it was taken last."""
    storage = InMemoryStorage()
    one, two = make_ledger(storage), make_ledger(storage)
    one.give_back(one.ask())
    one.enqueue({"x": 0.5})
    waited, new = one.ask(), two.ask()
    places(two, 2).check(new)
    assert (waited.number, new.number) == (0, 1)
    with pytest.raises(StudyFull):
        places(one, 1).check(waited)


def test_one_that_ends_while_others_count_takes_a_place() -> None:
    """Its trial ran when the trials were read, and its process is gone when it is looked for."""
    storage = InMemoryStorage()
    one, two = make_ledger(storage), make_ledger(storage)
    asked = one.ask()

    class Going(Holders):
        def is_elsewhere(self, frozen: object, *_: object) -> bool:
            one.end(asked, Outcome("complete", "why", 0.5))
            return False

    with pytest.raises(StudyFull):
        Places(two, Going(two), Terms(limit=1)).check()
