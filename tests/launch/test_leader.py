"""The loop that asks for trials, and the policy on failures: with a fake study, a fake clock and no storage."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from tunehook.launch.failures import Failures, Raised, not_importable
from tunehook.launch.leader import Leader, Running
from tunehook.launch.node.child import NodeJudge
from tunehook.launch.node.node import Node
from tunehook.launch.request import Request
from tunehook.system import Terminated
from tunehook.trial.errors import (
    InjectionError,
    JournalError,
    StorageError,
    StudyError,
    StudyFinished,
    StudyFull,
    TrialError,
)
from tunehook.trial.values import Outcome, Trial

TRIAL = Trial("digits", 3, {}, Path("study", "trial-0003"), "acc", "max")
COMPLETE = Outcome("complete", "trained to its end", 0.5, 1)
INTERRUPTED = Outcome("interrupted", "killed")
FAILED = Outcome("failed", "ValueError: x", traceback="Traceback: x\n")


class Fake:
    """A study as a leader sees it: what it answers when it is asked is said in advance."""

    name, max_failures, recorders, judges, is_grid, goes_on = "fake", 3, (), True, False, False

    def __init__(self, *answers: type[Exception] | None, others: tuple[list[int], ...] = ()) -> None:
        self.answers, self.others = list(answers), list(others)
        self.asked, self.finished, self.has_waiting = 0, 0, False
        self.told: dict[int, Outcome] = {}

    def ask(self) -> Any:
        """The next trial, or what was said in advance."""
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer("no more")
        self.asked += 1
        return SimpleNamespace(number=self.asked - 1)

    def session(self, trial: Any) -> Any:
        """Only who recovers it matters."""
        return SimpleNamespace(trial=trial, recover=lambda reason, state="interrupted": Outcome(state, reason))

    def tell(self, trial: Any, outcome: Outcome) -> None:
        """Keep the end."""
        self.told[trial.number] = outcome
        self.finished += outcome.state in ("complete", "pruned", "infeasible")

    def reclaim(self) -> None:
        """Nothing is lost."""

    def waits_for(self) -> list[int]:
        """What other processes run, as said in advance."""
        return self.others.pop(0) if self.others else []

    def resting(self, _rest: object) -> Any:
        """A storage that is always there."""
        return contextlib.nullcontext()


class Played(Leader[Running]):
    """Trials that end as is said in advance, one each time that is listened to."""

    def __init__(
        self, study: Any, request: Request, *, ends: Callable[[int], Outcome | None], clock: list[float]
    ) -> None:
        super().__init__(study, request)
        self.ends, self.clock, self.pause = ends, clock, 0.1
        self.most, self.signalled = 0, list[tuple[int, int]]()

    def _begin(self, session: Any) -> None:
        self._running[str(session.trial.number)] = Running(
            str(session.trial.number), session, pid=1, heard=self.clock[0]
        )
        self.most = max(self.most, len(self._busy()))

    def _listen(self, seconds: float) -> None:
        self.clock[0] += self.pause
        for one in list(self._running.values())[:1]:
            outcome = self.ends(one.session.trial.number)
            if outcome is not None:
                self._take(one, outcome)

    def _take(self, one: Running, outcome: Outcome) -> None:
        del self._running[one.token]
        self._take_end(one, outcome)
        one.is_done = True
        self._judge(one, None)

    def _signal(self, one: Running, number: int) -> None:
        self.signalled.append((one.session.trial.number, number))
        self._take(one, Outcome("interrupted", one.why or "SIGTERM"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which goes on where a leader listens."""
    now = [100.0]
    fake = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None)
    monkeypatch.setattr("tunehook.launch.leader.time", fake)
    return now


def lead(
    study: Fake, clock: list[float], ends: Callable[[int], Outcome | None] = lambda _: COMPLETE, **options: Any
) -> Played:
    """A leader who has run."""
    leader = Played(study, Request(**options), ends=ends, clock=clock)
    leader.run()
    return leader


@pytest.mark.parametrize(("trials", "workers", "most"), [(5, 2, 2), (5, None, 1), (2, 4, 2)])
def test_as_many_as_were_wanted(trials: int, workers: int | None, most: int, clock: list[float]) -> None:
    """No trial too many is begun, and no more at once than there are places."""
    study = Fake()
    leader = lead(study, clock, trials=trials, workers=workers)
    assert (study.asked, study.finished, leader.most) == (trials, trials, most)


def test_what_does_not_count_is_made_up_for(clock: list[float]) -> None:
    """An interrupted trial leaves its place to another one."""
    study = Fake()
    lead(study, clock, lambda number: INTERRUPTED if number == 1 else COMPLETE, trials=3, workers=2)
    assert (study.asked, study.finished) == (4, 3)


def test_no_trial_begins_after_the_time(clock: list[float]) -> None:
    """Those that run then train to their end."""
    study = Fake()
    lead(study, clock, timeout=0.35)
    assert study.finished == study.asked == 4


def test_the_trials_of_others_are_waited_for(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """That is said once; when they have ended, nothing is left."""
    caplog.set_level(logging.INFO, logger="tunehook")
    study = Fake(None, StudyFinished, StudyFinished, StudyFinished, others=([4, 7], [7]))
    lead(study, clock, trials=9)
    assert caplog.messages == ["Waiting for trials that other processes are running: 4, 7."]
    assert study.answers == []


def test_a_study_that_is_full_for_a_moment(clock: list[float]) -> None:
    """The trials of others have ended since and were not enough: it is asked again."""
    study = Fake(StudyFull)
    lead(study, clock, trials=2)
    assert study.finished == 2


def test_who_says_nothing_is_killed(clock: list[float]) -> None:
    """After the limit, and not before."""
    study = Fake()
    leader = lead(study, clock, lambda number: None if number == 0 else COMPLETE, trials=1, report_timeout=2.0)
    assert leader.signalled == [(0, signal.SIGKILL)]
    assert study.told[0].reason == "no report for 2 s, so its process was killed"
    assert 102.0 <= clock[0] <= 102.5


def test_nobody_is_blamed_where_nobody_listened(clock: list[float]) -> None:
    """A storage that was away for longer than the limit costs no trial its life."""
    study, heard = Fake(), list[int]()

    def ends(number: int) -> Outcome | None:
        heard.append(number)
        return COMPLETE if len(heard) == 2 else None

    leader = Played(study, Request(trials=1, report_timeout=2.0), ends=ends, clock=clock)
    leader.pause = 5.0
    leader.run()
    assert (leader.signalled, study.told) == ([], {0: COMPLETE})


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_ends_what_runs(number: int, raised: type[BaseException], clock: list[float]) -> None:
    """In good order, and no further trial begins."""
    study = Fake()

    def ends(_number: int) -> Outcome | None:
        signal.raise_signal(number)
        return None

    with pytest.raises(raised):
        lead(study, clock, ends, trials=9, workers=2)
    assert {trial: outcome.state for trial, outcome in study.told.items()} == {0: "interrupted", 1: "interrupted"}


# ------------------------------------------------------------------ the policy on failures


@pytest.mark.parametrize(
    ("ends", "error"),
    [
        ([FAILED] * 2 + [COMPLETE] + [FAILED] * 2, None),
        ([FAILED] * 3, StudyError),
        ([FAILED, INTERRUPTED, FAILED, FAILED], StudyError),
        ([INTERRUPTED] * 29 + [COMPLETE] + [INTERRUPTED] * 29, None),
        ([INTERRUPTED] * 30, StudyError),
        ([FAILED, FAILED], StudyError),
        ([INTERRUPTED, FAILED], None),
    ],
)
def test_when_a_study_stops(ends: list[Outcome], error: type[Exception] | None) -> None:
    """After three failures in a row, thirty interruptions, or where all trials failed."""
    study: Any = Fake()
    failures = Failures(study)
    with pytest.raises(error) if error is not None else contextlib.nullcontext():
        for outcome in ends:
            failures.count()
            failures.judge(outcome, None, is_done=False)
        failures.close()


@pytest.mark.parametrize("kind", [InjectionError, TrialError, JournalError])
def test_what_every_trial_would_raise(kind: type[Exception]) -> None:
    """It stops the study as what it is, also where it comes from another process, and for a class below it."""

    class Special(kind):  # type: ignore[valid-type,misc]
        pass

    study: Any = Fake()
    error = Special("mend it")
    here = Raised.of(error)
    there = pickle.loads(pickle.dumps(here))
    assert (there.kind, there.text, there.error) == (kind, "mend it", None)
    for raised in (here, there):
        with pytest.raises(kind, match=r"^mend it$") as said:
            Failures(study).judge(FAILED, raised, is_done=True)
        assert (said.value is error) == (raised is here)
    assert isinstance(not_importable(there), kind)


def test_a_function_that_cannot_be_loaded() -> None:
    """The last line of its traceback comes first."""
    raised = Raised("no module", "Traceback\nModuleNotFoundError: no module\n")
    assert str(not_importable(raised)) == (
        "The training function cannot be loaded in another process: ModuleNotFoundError: no module\n"
        "Traceback\nModuleNotFoundError: no module\n"
        "  What the function needs must be importable there, or defined inside it."
    )


@pytest.mark.parametrize("error", [None, StorageError("the disk is full")])
def test_a_trial_process_hears_whether_its_end_is_kept(error: StorageError | None) -> None:
    """An error there too: what has recorded the trial must not say that it is complete."""
    ours, theirs = multiprocessing.Pipe()
    node: Any = object.__new__(Node)
    node._take_end = Mock(side_effect=error)
    with contextlib.nullcontext() if error is None else pytest.raises(StorageError):
        node._take(SimpleNamespace(connection=ours), ("tell", COMPLETE))
    with contextlib.nullcontext() if error is None else pytest.raises(StorageError, match="the end of trial-0003"):
        NodeJudge(theirs).tell(TRIAL, COMPLETE)
    for end in (ours, theirs):
        end.close()
