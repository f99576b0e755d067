"""Lost trials, by themselves: who holds a trial, and what is told of one that nobody holds."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

import tunehook as th
from ledgers import make_ledger
from tunehook.record import Events, Journal, host
from tunehook.storage.attributes import OWNER
from tunehook.storage.ledger import Ledger
from tunehook.study.again import Again
from tunehook.study.holders import Holders
from tunehook.study.lost import Lost
from tunehook.study.terms import Terms
from tunehook.trial import Outcome, Trial

GONE = {"host": host(), "pid": 2**22 - 1, "time": 1.0}


class Leads:
    """Who leads trials: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Outcome]] = []

    def session(self, trial: Trial) -> Any:
        """Is not asked for where a trial has no journal."""
        raise AssertionError(trial)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take note."""
        self.told.append((trial.number, outcome))


def lost(ledger: Ledger, leads: Leads) -> Lost:
    """What tells the lost trials of a study."""
    return Lost(ledger, Holders(ledger), Again(ledger, Terms()), leads)


def test_a_trial_whose_process_is_gone() -> None:
    """It is told with what it had measured; those that run here are left alone."""
    ledger, leads = make_ledger(), Leads()
    mine, theirs = ledger.ask(), ledger.ask()
    theirs.report(0.25, 1)
    theirs.report(0.75, 2)
    ledger.note(theirs, OWNER, GONE)
    assert Holders(ledger).lost() == {1: f"its process {GONE['pid']} was killed as it began"}
    lost(ledger, leads).reclaim()
    reason = f"its process {GONE['pid']} was killed as it began"
    assert leads.told == [(1, Outcome("interrupted", reason, 0.75, 2))]
    assert Holders(ledger).of(ledger.trials()[mine.number]) == ("live", "")


def test_it_looks_every_few_seconds_only(caplog: pytest.LogCaptureFixture) -> None:
    """Loops call it at each turn."""
    caplog.set_level(logging.INFO, logger="tunehook")
    ledger, leads = make_ledger(), Leads()
    looks = lost(ledger, leads)
    looks.reclaim()
    ledger.note(ledger.ask(), OWNER, GONE)
    looks.reclaim()
    assert leads.told == []
    looks._looked -= 6
    looks.reclaim()
    assert len(leads.told) == 1
    assert caplog.messages == [f"Trial 0: interrupted (its process {GONE['pid']} was killed as it began)"]


def test_a_trial_that_was_given_its_values_and_got_no_further() -> None:
    """They are asked again, and its journal says how it ended."""
    ledger, leads = make_ledger(), Leads()
    ledger.enqueue({"x": 0.5})
    frozen = ledger.trials()[0]
    ledger.set_state(frozen, TrialState.RUNNING)  # as who asks does first
    ledger.note(frozen, OWNER, GONE)
    lost(ledger, leads).reclaim()
    assert [one.state.name for one in ledger.trials()] == ["FAIL", "WAITING"]
    events = Events.of_trial(ledger.as_trial(ledger.trials()[0], {"x": 0.5}))
    assert [type(event).__name__ for event in events] == ["Begin", "Ended"]
    assert ledger.ask().params == {"x": 0.5}


def test_an_end_that_could_not_be_told_is_told_later() -> None:
    """As the storage was away; by its key, since another study may have the folder by then."""
    ledger, leads = make_ledger(InMemoryStorage()), Leads()
    trial = ledger.as_trial(ledger.ask())
    Lost.remember(trial, Outcome("complete", "late", 0.5))
    lost(ledger, leads).reclaim()
    assert leads.told == [(0, Outcome("complete", "late", 0.5))]
    Lost.remember(Trial(**{**vars(trial), "key": "0000-00000000"}), Outcome("complete", "another's", 0.5))
    lost(ledger, leads).reclaim()
    assert len(leads.told) == 1


def test_processes_are_those_of_the_journal() -> None:
    """The one that asked, and the one that trains, up to the first measurement."""
    ledger = make_ledger()
    asked = ledger.ask()
    journal = Journal(ledger.as_trial(asked).folder)
    journal.begin(ledger.as_trial(asked))
    journal.process()
    journal.report(1, {"acc": 0.5})
    journal.process()
    journal.close()
    assert len(Holders(ledger)._processes(ledger.trials()[0])) == 2


def test_a_trial_of_a_grid_with_branches_is_lost_before_it_has_values() -> None:
    """It has a journal, and its combination is asked again."""
    space = {"optimizer": th.Choice({"sgd": {"momentum": th.Choice([0.0, 0.9])}, "adam": {}})}
    study = th.Study("branches", space, metric="m", mode="max", search="grid")
    study.counts()
    frozen = study._ledger.numbered(study._ledger.study.ask().number)
    study._asks.lost.recover_nameless(frozen, Outcome("interrupted", "its process is gone"))
    begin = Events.of_latest(study.paths.journal(frozen.number)).begin
    assert begin is not None
    assert begin.params == study.ask().params == {"optimizer": "sgd", "momentum": 0.0}
