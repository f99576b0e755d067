"""Paused trials in the study: what goes on, what counts, and what is left at the end."""

from __future__ import annotations

import contextlib
import functools
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from optuna.trial import TrialState

import tunehook as th
from pause_study import EPOCHS, RUNGS, check, checkpoints, study, train, trained
from postgres import serving
from tunehook.record import Events, join
from tunehook.session import Checkpoints
from tunehook.storage import PAUSE
from tunehook.study.pausing import Pausing
from tunehook.trial import Budget, Outcome, StudyFull, Trial

NONE_PAUSES = "Study 'pause': trials are not paused and train to their end"


def test_a_whole_study(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is trained twice, what can never go on leaves no checkpoint, and a larger study goes on with the rest."""
    caplog.set_level(logging.INFO, logger="tunehook")
    made = study(many=45)
    made.optimize(train, trials=36, progress=False)
    check(made, 36)
    states = {trial.number: trial.outcome for trial in made.trials}
    waiting = [number for number, outcome in states.items() if outcome.state == "paused"]
    assert [int(name[:4]) for name in checkpoints()] == waiting
    assert len(waiting) <= 2 * 12
    behind = [outcome for outcome in states.values() if outcome.state == "pruned"]
    assert behind
    for outcome in behind:
        assert outcome.reason == f"pause: v {outcome.value:.6g} at step {outcome.step}, and was left behind"
    (told,) = [message for message in caplog.messages if "are paused" in message]
    assert told.startswith(f"Study 'pause': {len(waiting)} trials are paused, and the best of them go on where more")
    study(many=45).optimize(train, progress=False)
    check(study(many=45), 45, wanted=36)


def test_conditions_hold_where_trials_pause() -> None:
    """In what is proposed, also from paused trials, and in what goes on."""
    made = study(search="bayes", where=lambda params: params["x"] % 3 == 0)
    made.optimize(train, trials=18, progress=False)
    assert {trial.params["x"] % 3 for trial in made.trials} == {0}
    assert made.counts()["paused"]
    assert made.finished == 18


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"why_not": "it has two fits"}, "trial-0000 is not paused and trains to its end: it has two fits."),
        ({"budget": Budget()}, f"{NONE_PAUSES}: how many epochs they have is not known."),
        ({"budget": Budget(3)}, f"{NONE_PAUSES}: 3 epochs are few."),
    ],
)
def test_what_cannot_pause_trains_to_its_end(given: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture) -> None:
    """One line for the whole study says why."""
    caplog.set_level(logging.INFO, logger="tunehook")
    made = study(many=4)
    made.optimize(functools.partial(train, **given), progress=False)
    assert made.counts() == {"complete": 4}
    assert [message for message in caplog.messages if "not paused" in message] == [why]


MEASURED = "Study 'pause': trials are not paused: no v is measured before they end."
RETURNED = "Study 'pause': trials are not paused: the value that their training returns is another one than it logs."
PAUSED = (
    "Study 'pause': trials pause after measurement 3 and 6 of 12, and only the best go on. "
    "With stopper=None all train to their end."
)


def train_and_return(*, as_logged: bool) -> float:
    """What was logged last, or the value of another test."""
    train()
    trial = th.current()
    assert isinstance(trial, Trial)
    logged = Events.of_trial(trial).reports[-1].metrics["v"]
    return logged if as_logged else -1.5


@pytest.mark.parametrize(
    ("given", "training", "counts", "said"),
    [
        ({}, train, {"paused": 3, "complete": 1}, [PAUSED]),
        ({}, functools.partial(train_and_return, as_logged=True), {"paused": 2, "complete": 2}, [PAUSED]),
        ({}, functools.partial(train_and_return, as_logged=False), {"complete": 4}, [RETURNED]),
        ({}, lambda: {"v": 0.1 * th.value("x", 1)}, {"complete": 4}, [MEASURED]),
        ({"stopper": None}, train, {"complete": 4}, []),
        ({"search": "random"}, train, {"complete": 4}, []),
    ],
)
def test_pausing_is_the_default_of_bayes(
    given: dict[str, Any], training: Any, counts: dict[str, int], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It needs trials that are told apart by what they log; a line says why there is none, or how to have none."""
    caplog.set_level(logging.INFO, logger="tunehook")
    made = study(**{"search": "bayes", "stopper": "auto", **given})
    made.optimize(training, trials=4, progress=False)
    assert made.counts() == counts
    assert [message for message in caplog.messages if "pause after" in message or "not paused" in message] == said
    made.optimize(training, trials=7, progress=False)
    assert made.finished == 7


def test_nobody_leads_a_trial_that_is_asked_for() -> None:
    """So by default it trains to its end, outside of `optimize`."""
    made = study(search="bayes", stopper="auto")
    trial = made.ask()
    assert not any(made.report(trial, step, 1.0 * step, Budget(12)).stop for step in range(1, 13))
    assert not made.session(trial).continuation.pauses
    named = study("named", search="bayes")
    asked = named.ask()
    assert [named.report(asked, step, 1.0 * step, Budget(12)).state for step in (2, 3)] == ["pruned", "paused"]


def test_the_only_trial_does_not_pause() -> None:
    """It would go on at once, so there is no checkpoint to write and `train` is called once."""
    made, called = study(), list[int]()

    def train_counted() -> None:
        called.append(1)
        train()

    made.optimize(train_counted, trials=1, progress=False)
    assert len(called) == 1
    assert made.counts() == {"complete": 1}


def test_when_the_time_is_up_the_foremost_trial_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """So there is a complete trial; where there is one, what is paused waits."""
    with monkeypatch.context() as patch:
        patch.setattr(Pausing, "next", lambda *_, **__: None)
        study(many=20).optimize(train, trials=5, progress=False)
    made = study(many=20)
    assert made.counts() == {"paused": 5}
    best = min(made.trials, key=lambda trial: trial.value or 0.0)
    for _ in range(2):
        made.optimize(train, timeout=1e-9, progress=False)
        assert made.counts() == {"paused": 4, "complete": 1}
        assert made.best.number == best.number


def test_samplers_see_what_is_paused() -> None:
    """Optuna takes none of them for one that waits to be asked for; samplers get them with their reports."""
    made = study(many=20, search="random")
    made.optimize(train, trials=6, progress=False)
    below = made._ledger.study
    trials = below.trials
    assert {trial.state for trial in trials} == {TrialState.PRUNED, TrialState.COMPLETE}
    assert below.get_trials(states=(TrialState.WAITING,)) == []
    paused = below.get_trials(states=(TrialState.PRUNED,))
    assert {trial.last_step for trial in paused} <= set(RUNGS)
    assert [trial.value for trial in paused] == [trial.intermediate_values[trial.last_step or 0] for trial in paused]
    assert below.ask().number == 6


def test_a_trial_goes_on_once() -> None:
    """Of two processes that want the same trial to go on, one gets it."""
    made, other = study(many=20), study(many=20)
    made.optimize(train, trials=4, progress=False)
    assert other.finished == 4
    waiting = next(trial.number for trial in made.trials if trial.outcome.state == "paused")
    frozen = made._ledger.numbered(waiting)
    assert made._ledger.go_on(frozen) is not None
    assert other._ledger.go_on(frozen) is None
    assert made.counts()["running"] == 1
    made._ledger.end(frozen, Outcome("pruned", "left behind", 1.0, 3))
    assert other._ledger.go_on(frozen) is None


@pytest.mark.parametrize("kind", ["file", "url", "server"])
def test_paused_trials_are_read_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are not read again until another process lets them go on, and what they measured there is seen."""
    with serving() if kind == "server" else contextlib.nullcontext() as server:
        places = {"file": None, "url": "sqlite:///paused.db", "server": None if server is None else server.get_uri()}
        opened = [study(many=20, storage=places[kind]) for _ in range(3)]
        made, other, third = opened
        made.optimize(train, trials=9, progress=False)
        before = {trial.number: trial for trial in made._ledger.trials()}
        paused = {number for number, trial in before.items() if made._ledger.is_paused(trial)}
        again = {trial.number: trial for trial in made._ledger.trials()}
        assert len(paused) > 3
        assert all(again[number] is before[number] for number in paused)
        other.optimize(train, trials=20, progress=False)
        after = {trial.number: trial for trial in made._ledger.trials()}
        assert [*after.values()] == third._ledger.trials()
        reports = {number: (before[number].last_step, after[number].last_step) for number in paused}
        assert {(3, 6), (3, EPOCHS)} & {*reports.values()}
        assert any(after[number] is before[number] for number in paused)
        with _engine(third).connect() as db:  # one trial that nobody can read, beside others that are known
            db.execute(sqlalchemy.text("UPDATE trial_params SET distribution_json = '{}' WHERE trial_id = 5"))
            db.commit()
        opened.append(study(many=20, storage=places[kind]))
        read = [trial.number for trial in opened[-1]._ledger.trials()]
        assert read == [number for number in range(20) if kind == "file" or number != 4]
        for one in opened:
            _engine(one).dispose()
    assert "that nobody can read, which is left out" in caplog.text


def _engine(opened: th.Study) -> Any:
    """What holds the connections of a study."""
    backend: Any = opened._ledger.kept._backend
    return backend._backend.engine


def test_one_that_goes_on_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that is opened again, whose trials train side by side, begins none beyond its number."""
    with monkeypatch.context() as patch:
        patch.setattr(Pausing, "next", lambda *_, **__: None)
        study(many=20).optimize(train, trials=9, progress=False)
    again = study(many=20)
    again._terms.begin(9, None)
    asked: list[Trial] = []
    with contextlib.suppress(StudyFull):
        asked += iter(again.ask, None)
    assert 2 <= len(asked) <= 3
    assert {trial.pauses for trial in asked} == {1}
    assert again.counts()["running"] == len(asked)
    assert sum(again.counts().values()) == 9


def test_the_storage_is_lost() -> None:
    """The journals bring back what is paused, and it goes on."""
    study(many=12).optimize(train, trials=7, progress=False)
    before = {trial.number: trial.outcome for trial in study(many=12).trials}
    for path in Path("study").glob("study.db*"):
        path.unlink()
    opened = study(many=12)
    assert {trial.number: trial.outcome for trial in opened.trials} == before
    assert {frozen.user_attrs[PAUSE]["count"] for frozen in opened._ledger.trials() if PAUSE in frozen.user_attrs} == {
        1,
        2,
    }
    opened.optimize(train, progress=False)
    check(opened, 12, wanted=7)


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_checkpoint_is_lost(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without one a trial stays where it is; with one that was changed it starts over, which is told."""
    made = study(many=9)
    made.optimize(train, trials=3, progress=False)
    assert made.counts() == {"complete": 1, "paused": 2}
    before = [trial.params["x"] for trial in made.trials if trial.outcome.state == "paused"]
    for path in Path("study/checkpoints").glob("*/*"):
        if damage == "changed":
            (path / "state").write_text("0.1")
        else:
            shutil.rmtree(path)
    made.optimize(train, progress=False)
    over = [message for message in caplog.messages if "starts over" in message]
    twice = [x for x, steps in trained().items() if len(steps) > len(set(steps))]
    assert len(over) == len(twice) == (damage == "changed")
    assert set(twice) <= set(before)
    for trial in made.trials:
        events = Events.of_trial(made._ledger.as_trial(made._ledger.numbered(trial.number)))
        steps = sorted(set(trained()[trial.params["x"]]))
        assert [report.step for report in events.reports] == steps
        assert [row.step for row in join([events]).all] == steps


def test_a_checkpoint_is_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that goes on without it starts over, and is not paused once more where it was; so the study ends."""

    class Elsewhere(Checkpoints):
        """Those of another machine."""

        @property
        def size(self) -> int:
            self.discard()
            return 0

    monkeypatch.setattr("tunehook.study.pausing.Checkpoints", Elsewhere)
    made = study(many=20, search="random")
    began: list[int] = []

    def train_once() -> None:
        began.append(1)
        assert len(began) < 30
        train()

    made.optimize(train_once, trials=4, progress=False)

    assert made.counts() == {"complete": 1, "paused": 3}
    assert all(steps.count(step) <= 3 for steps in trained().values() for step in steps)


def test_a_limit_counts_at_the_end() -> None:
    """A paused trial may get within it with more epochs, so only what has trained to its end is judged by it."""
    made = study(many=20, search="random", constraints={"v": (None, 3.0)})
    made.optimize(train, trials=7, progress=False)
    assert made.counts() == {"complete": 1, "paused": 6}
    assert max(trial.value or 0.0 for trial in made.trials) > 3.0
    strict = study("strict", many=20, search="random", constraints={"v": (None, -1.0)})
    strict.optimize(train, trials=7, progress=False)
    assert strict.counts() == {"infeasible": 7}  # of which each gave its place to the next


def test_the_storage_is_removed_while_it_is_used() -> None:
    """Paused trials are written again as such, and go on."""
    made = study(many=20)
    made.optimize(train, trials=7, progress=False)
    before = made.trials
    for path in Path("study").glob("study.db*"):
        path.unlink()
    made.optimize(train, trials=14, progress=False)
    check(made, 14, wanted=7)
    assert [trial.number for trial in before] == [trial.number for trial in made.trials[:7]]


def test_the_storage_is_older_than_the_journals(caplog: pytest.LogCaptureFixture) -> None:
    """What was paused then, and is complete or was paused once more since, is so again, and trained no further."""
    study(many=9).optimize(train, trials=3, progress=False)
    before = {path.name: path.read_bytes() for path in Path("study").glob("study.db*")}
    was = {trial.number: trial.outcome for trial in study(many=9).trials}
    assert sorted(outcome.state for outcome in was.values()) == ["complete", "paused", "paused"]
    study(many=9).optimize(train, progress=False)
    ended = {trial.number: trial.outcome for trial in study(many=9).trials}
    changed = [number for number, outcome in was.items() if ended[number] != outcome]
    assert changed
    for path in Path("study").glob("study.db*"):
        path.unlink()
    for name, content in before.items():
        (Path("study") / name).write_bytes(content)
    opened, epochs = study(many=9), trained()
    assert {trial.number: trial.outcome for trial in opened.trials} == ended
    assert "its storage was older than its journals" in caplog.text
    opened.optimize(train, progress=False)
    assert trained() == epochs
    check(study(many=9), 9)


def test_one_that_fails_as_it_goes_on_gives_its_place_to_the_next() -> None:
    """So there is a complete trial in the end, also where the best ones failed."""
    made = study(many=20)
    failures: list[Trial] = []

    def train_or_fail() -> None:
        trial = th.current()
        assert isinstance(trial, Trial)
        if trial.pauses and len(failures) < 2:
            failures.append(trial)
            raise ValueError("such as a loader that breaks")
        train()

    made.optimize(train_or_fail, trials=7, progress=False)
    assert made.counts() == {"complete": 1, "paused": 6, "failed": 2}
    assert made.best.number not in [trial.number for trial in failures]
