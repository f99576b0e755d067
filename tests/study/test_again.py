"""What is asked again, by itself: as often as the terms say, once by however many processes."""

from __future__ import annotations

from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from ledgers import make_ledger
from tunehook.study.again import Again
from tunehook.study.terms import ATTEMPTS, Terms
from tunehook.trial import Outcome

KEY = "0000-1b2c3d4e"
INTERRUPTED = Outcome("interrupted", "killed")


def test_values_are_asked_as_often_as_the_terms_say() -> None:
    """The terms of `optimize` hold for what is asked from then on."""
    ledger, terms = make_ledger(), Terms()
    again = Again(ledger, terms)
    assert [again.is_last(attempt) for attempt in range(ATTEMPTS)] == [False, False, True]
    again.ask({"x": 0.5}, ATTEMPTS, KEY)
    assert not ledger.has_waiting
    terms.begin(None, ATTEMPTS)
    again.ask({"x": 0.5}, ATTEMPTS, KEY)
    assert (ledger.has_waiting, again.is_last(ATTEMPTS - 1)) == (True, False)
    terms.end()
    assert not again.is_last(ATTEMPTS - 1)  # what ends later is asked again as it was begun


def test_the_same_attempt_is_asked_once() -> None:
    """Also by a second process."""
    storage = InMemoryStorage()
    one, two = make_ledger(storage), make_ledger(storage)
    for ledger in (one, two, one):
        Again(ledger, Terms()).ask({"x": 0.5}, 1, KEY)
    assert [frozen.state for frozen in one.trials()] == [TrialState.WAITING]


def test_what_a_killed_process_was_to_ask() -> None:
    """It was kept before the end was told, so whoever looks asks it; once."""
    ledger = make_ledger()
    again, asked = Again(ledger, Terms()), ledger.ask()
    again.note(asked, {"x": 0.5}, 1, KEY)
    again.ask_left_out(ledger.trials())
    assert not ledger.has_waiting  # it runs still
    ledger.end(asked, INTERRUPTED)
    for _ in range(2):
        again.ask_left_out(ledger.trials())
    assert [frozen.state for frozen in ledger.trials()] == [TrialState.FAIL, TrialState.WAITING]
    assert (ledger.ask().params, again.is_double(ledger.asked(1))) == ({"x": 0.5}, False)


def test_values_that_two_processes_asked_again() -> None:
    """The trial with the lower number is trained, the other one ends."""
    ledger = make_ledger()
    for _ in range(2):
        ledger.enqueue({"x": 0.5}, {"tunehook:attempt": 1, "tunehook:key": KEY})
    again = Again(ledger, Terms())
    assert [again.is_double(ledger.ask()) for _ in range(2)] == [False, True]
    assert [frozen.state for frozen in ledger.trials()] == [TrialState.RUNNING, TrialState.FAIL]
