"""The life of one trial: the value that counts, decisions, outcomes, recorders that fail, other processes."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import tunehook.record.paths
from tunehook.inject.slot import Slot
from tunehook.record.journal import Journal, read_journal
from tunehook.session.in_progress import activate, active, check_idle
from tunehook.session.session import TrialSession
from tunehook.trial.ends import describe, is_out_of_memory
from tunehook.trial.errors import InjectionError, JournalError, StorageError, TrialError
from tunehook.trial.objective import Mode, Objective, State, objective_value
from tunehook.trial.values import Budget, Decision, Outcome, Trial

NAN, INF = math.nan, math.inf


class Court:
    """A judge that stops at the steps it was given, and keeps what it is told."""

    def __init__(self, stops: Mapping[int, Decision] | None = None) -> None:
        self.stops = dict(stops or {})
        self.reports: list[tuple[int, float, Budget]] = []
        self.told: list[Outcome] = []

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        self.reports.append((step, value, budget))
        return self.stops.get(step, Decision())

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        self.told.append(outcome)


class Tape:
    """A recorder that keeps what it gets, and fails in one of its methods."""

    def __init__(self, fails: str = "", place: str | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails, self.place = fails, place

    def _take(self, name: str, *what: Any) -> None:
        self.calls.append((name, *what))
        if name == self.fails:
            raise ConnectionError(f"{name} is broken")

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        self._take("open", dict(trial.params), dict(config), list(loggers))

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self._take("report", step, dict(metrics))

    def close(self, outcome: Outcome) -> None:
        self._take("close", outcome.state)

    def where(self) -> str | None:
        return self.place


def trial(mode: Mode = "max") -> Trial:
    """Trial 3 of a study of 'acc'."""
    return Trial("digits", 3, {"hidden": 8}, Path("study/trial-0003"), "acc", mode)


def begun(court: Court, *tapes: Tape, **options: Any) -> TrialSession:
    """A session that injected and opened its recorders."""
    session = TrialSession(trial(), court, recorders=tapes, **options)
    model = {"hidden": 4}
    slots = [
        Slot("model.hidden", get=lambda: model["hidden"], set=lambda value: model.update(hidden=value)),
        Slot("model.depth", get=lambda: 2, set=lambda _: None),
    ]
    session.begin(slots)
    session.ready(loggers=["logger"])
    return session


def journal() -> list[dict[str, Any]]:
    """The journal of trial 3, without times."""
    return [{k: v for k, v in e.items() if k != "time"} for e in read_journal(Path("study/trial-0003/journal.jsonl"))]


def die(session: TrialSession) -> None:
    """Leave a session as its process leaves it that is killed."""
    assert session._journal is not None
    session._journal.close()


def kinds() -> list[str]:
    """The kinds of the journal's events."""
    return [event["event"] for event in journal()]


# ------------------------------------------------------------------ the value that counts

OBJECTIVES: list[tuple[list[float], Mode, Objective, tuple[float, int] | None]] = [
    ([], "max", "best", None),
    ([], "min", "last", None),
    ([NAN, INF, -INF], "max", "best", None),
    ([NAN], "max", 3, None),
    ([1, 3, 2], "max", "best", (3, 2)),
    ([1, 3, 2], "min", "best", (1, 1)),
    ([1, 3, 2], "max", "last", (2, 3)),
    ([3, 1, 3], "max", "best", (3, 1)),
    ([NAN, 1, INF], "max", "best", (1, 2)),
    ([-INF, 1], "min", "best", (1, 2)),
    ([1, 2, NAN], "max", "last", (2, 2)),
    ([1, 2, 6], "max", 2, (4, 3)),
    ([1, 2, 6], "min", 2, (4, 3)),
    ([1, 2, 6], "max", 3, (3, 3)),
    ([1, 2, 6], "max", 9, (3, 3)),
    ([1, 2, 6], "max", 1, (6, 3)),
    ([1, NAN, 3], "max", 2, (2, 3)),
    ([0.1] * 10, "max", 10, (0.1, 10)),
    ([-0.0], "max", "best", (0.0, 1)),
]


@pytest.mark.parametrize(("values", "mode", "objective", "expected"), OBJECTIVES)
def test_the_value_that_counts(
    values: list[float], mode: Mode, objective: Objective, expected: tuple[float, int] | None
) -> None:
    """Best, last and the mean of the last k over steps 1, 2, 3; only finite values count, the first of equal ones."""
    assert objective_value(list(enumerate(values, start=1)), mode, objective) == expected


@pytest.mark.parametrize(("objective", "value", "step"), [("best", 0.9, 2), ("last", 0.7, 3), (2, 0.8, 3)])
def test_a_session_ends_with_its_objective(objective: Objective, value: float, step: int) -> None:
    """The rule of the study is what the outcome holds."""
    session = begun(Court(), objective=objective)
    assert session.measured == (None, None)
    for number, measured in enumerate([0.1, 0.9, 0.7], start=1):
        session.report(number, {"acc": measured})
    assert session.measured[0] == pytest.approx(value)
    assert session.measured[1] == step
    session.end()
    outcome = session.outcome
    assert outcome is not None
    assert (outcome.state, outcome.step) == ("complete", step)
    assert outcome.value == pytest.approx(value)


# ------------------------------------------------------------------ decisions


def test_a_trial_from_begin_to_end() -> None:
    """The judge gets each value and the budget, recorders and journal everything, in order."""
    court, tape = Court(), Tape(place="https://w/1")
    session = begun(court, tape)
    session.budget = Budget(2, 1.0)
    assert session.report(1, {"acc": 0.5, "loss": 2}) == Decision()
    session.log({"epoch": 1})
    session.log({})
    session.report(2, {"acc": 0.75})
    session.end()
    outcome = session.outcome
    assert outcome is not None
    assert outcome == Outcome("complete", "trained to its end", 0.75, 2)
    assert court.reports == [(1, 0.5, Budget(2, 1.0)), (2, 0.75, Budget(2, 1.0))]
    assert court.told == [outcome]
    assert tape.calls == [
        ("open", {"hidden": 8}, {"model.depth": 2, "model.hidden": 8}, ["logger"]),
        ("report", 1, {"acc": 0.5, "loss": 2.0}),
        ("report", 1, {"epoch": 1.0}),
        ("report", 2, {"acc": 0.75}),
        ("close", "complete"),
    ]
    assert kinds() == ["config", "report", "report", "report", "end"]
    assert journal()[0]["records"] == ["https://w/1"]


def test_a_stop_stays() -> None:
    """Once stopped the judge is not asked again, the answer stays and is the outcome's; values are still recorded."""
    stop = Decision(True, "median: falls behind")
    court = Court({2: stop})
    session = begun(court)
    assert [session.report(step, {"acc": step / 10}) for step in (1, 2, 3)] == [Decision(), stop, stop]
    assert [step for step, _, _ in court.reports] == [1, 2]
    session.end()
    assert session.outcome == Outcome("pruned", "median: falls behind", 0.3, 3)
    assert kinds() == ["config", "report", "report", "decision", "report", "end"]


@pytest.mark.parametrize(("value", "text"), [(NAN, "nan"), (INF, "inf"), (-INF, "-inf")])
def test_a_value_that_is_not_finite_is_infeasible(value: float, text: str) -> None:
    """The judge is not asked; the trial stops, keeps the best finite value, and says what it saw."""
    court = Court()
    session = begun(court)
    session.report(1, {"acc": 0.25})
    decision = session.report(2, {"acc": value})
    assert decision == Decision(True, f"acc is {text} at step 2", "infeasible")
    assert [step for step, _, _ in court.reports] == [1]
    session.end()
    assert session.outcome == Outcome("infeasible", f"acc is {text} at step 2", 0.25, 1)


def test_other_metrics_may_be_nan() -> None:
    """Only the tuned metric decides; the others are recorded as they come."""
    session = begun(Court())
    assert not session.report(1, {"acc": 0.5, "loss": NAN}).stop
    assert journal()[-1]["metrics"] == {"acc": 0.5, "loss": "NaN"}
    session.end()


@pytest.mark.parametrize("step", [2, 1, 0, -1])
def test_steps_grow(step: int) -> None:
    """A step that was passed is an error that says both."""
    session = begun(Court())
    session.report(2, {"acc": 1})
    with pytest.raises(TrialError) as caught:
        session.report(step, {"acc": 1})
    assert str(caught.value) == f"Step {step} was reported after step 2; the steps of a trial grow."
    session.end()


def test_a_missing_metric() -> None:
    """The message lists the metrics that exist and near names, and nothing is recorded."""
    session = begun(Court())
    with pytest.raises(TrialError) as caught:
        session.report(1, {"val_loss": 1, "ac": 1})
    assert str(caught.value) == (
        "The study tunes the metric 'acc', but the training did not log it. Did you mean 'ac'?\n"
        "  Metrics that exist: ac, val_loss.\n"
        "  Log 'acc' in every epoch, or name one of these as Study(..., metric=...)."
    )
    assert str(session.missing({})) == (
        "The study tunes the metric 'acc', but the training did not log it.\n"
        "  Metrics that exist: (none).\n"
        "  Log 'acc' in every epoch, or name one of these as Study(..., metric=...)."
    )
    assert kinds() == ["config"]
    session.end()


def test_a_follower_records_and_decides_nothing() -> None:
    """A rank without a judge injects, takes over what rank 0 was answered, and writes nothing."""
    session = TrialSession(trial())
    session.begin([Slot("model.hidden", get=lambda: 8, set=lambda _: None)])
    session.ready()
    stop = Decision(True, "why")
    session.follow(4, stop)
    assert (session.step, session.decision) == (4, stop)
    session.end()
    assert session.outcome == Outcome("pruned", "why")
    assert not Path("study").exists()


def test_a_follower_that_reports_goes_on() -> None:
    """Without a judge every finite value goes on."""
    session = TrialSession(trial())
    assert session.report(1, {"acc": 1}) == Decision()
    assert session.report(2, {"acc": NAN}).state == "infeasible"


# ------------------------------------------------------------------ outcomes


class SIGTERMException(SystemExit):
    """Lightning raises this at SIGTERM."""


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


class ResourceExhaustedError(Exception):
    """As TensorFlow names it."""


class CudaOutOfMemoryError(OutOfMemoryError):
    """A child of it."""


class ProcessRaisedException(Exception):  # noqa: N818 - torch's name
    """As torch's spawn names it."""


EXCEPTIONS: list[tuple[BaseException, State, str]] = [
    (KeyboardInterrupt(), "interrupted", "Ctrl-C"),
    (KeyboardInterrupt("x"), "interrupted", "Ctrl-C"),
    (SystemExit(), "interrupted", "SystemExit"),
    (SystemExit(3), "interrupted", "SystemExit: 3"),
    (SIGTERMException(), "interrupted", "SIGTERM"),
    (MemoryError(), "infeasible", "MemoryError"),
    (OutOfMemoryError("CUDA out of memory. Tried\nmore"), "infeasible", "OutOfMemoryError: CUDA out of memory. Tried"),
    (CudaOutOfMemoryError(), "infeasible", "CudaOutOfMemoryError"),
    (ResourceExhaustedError("OOM"), "infeasible", "ResourceExhaustedError: OOM"),
    (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        "infeasible",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried",
    ),
    (RuntimeError("RESOURCE_EXHAUSTED: jax"), "infeasible", "RuntimeError: RESOURCE_EXHAUSTED: jax"),
    (RuntimeError("CUDA error: out of memory"), "infeasible", "RuntimeError: CUDA error: out of memory"),
    (RuntimeError("shapes differ"), "failed", "RuntimeError: shapes differ"),
    (ValueError("out of memory, says a user"), "failed", "ValueError: out of memory, says a user"),
    (ValueError(), "failed", "ValueError"),
    (ValueError("\n  first\nsecond"), "failed", "ValueError: first"),
    (InjectionError("no slot"), "failed", "InjectionError: no slot"),
    (GeneratorExit(), "failed", "GeneratorExit"),
]


@pytest.mark.parametrize(("exception", "state", "reason"), EXCEPTIONS, ids=lambda value: repr(value)[:40])
def test_what_an_exception_means(exception: BaseException, state: State, reason: str) -> None:
    """Each exception has its outcome; only failures keep a traceback; the value up to then stays."""
    outcome = describe(exception, value=0.5, step=2)
    assert (outcome.state, outcome.reason, outcome.value, outcome.step) == (state, reason, 0.5, 2)
    assert (outcome.traceback is not None) == (state == "failed")


def test_the_traceback_of_a_failure_has_its_causes() -> None:
    """The chain of exceptions is kept."""
    error = ValueError("high")
    error.__cause__ = KeyError("deep")
    text = describe(error).traceback
    assert text is not None
    assert "KeyError: 'deep'" in text
    assert text.rstrip().endswith("ValueError: high")


def test_memory_that_ran_out_in_a_spawned_process() -> None:
    """Torch's spawn hands on a text only."""
    assert is_out_of_memory(ProcessRaisedException("...\ntorch.OutOfMemoryError: CUDA out of memory."))
    assert not is_out_of_memory(ProcessRaisedException("...\nValueError: x"))


def test_an_exception_that_was_noted_counts() -> None:
    """A framework that swallows Ctrl-C leaves it in the session."""
    session = begun(Court())
    session.report(1, {"acc": 0.5})
    session.exception = KeyboardInterrupt()
    session.end()
    assert session.outcome == Outcome("interrupted", "Ctrl-C", 0.5, 1)


def test_an_exception_wins_over_a_stop() -> None:
    """A trial that fails after it was stopped has failed."""
    session = begun(Court({1: Decision(True, "why")}))
    session.report(1, {"acc": 0.5})
    session.end(ValueError("x"))
    assert session.outcome is not None
    assert session.outcome.state == "failed"


def test_a_training_without_a_callback() -> None:
    """It is told as a failure with the way out."""
    session = TrialSession(trial(), Court())
    session.end()
    outcome = session.outcome
    assert outcome is not None
    assert outcome == Outcome(
        "failed",
        "The training returned without a TuneCallback, so no value was used and nothing was measured.\n"
        "  Add TuneCallback() to the callbacks of the Trainer or of model.fit inside the training function.",
    )


def test_a_training_that_measured_nothing() -> None:
    """The callback was there, the metric was not."""
    session = begun(Court())
    session.end()
    assert session.outcome == Outcome(
        "failed",
        "The training returned, but the metric 'acc' was never reported.\n"
        "  Train at least one epoch, and log the metric in it.",
    )


def test_ending_twice() -> None:
    """The first end counts; nobody hears of the second."""
    court, tape = Court(), Tape()
    session = begun(court, tape)
    session.report(1, {"acc": 0.5})
    assert not session.is_over
    session.end()
    first = session.outcome
    assert session.is_over
    session.end(ValueError("later"))
    assert session.outcome is first
    assert court.told == [first]
    assert kinds().count("end") == [call[0] for call in tape.calls].count("close") == 1


# ------------------------------------------------------------------ recorders and the disk


def test_ready_twice_opens_once() -> None:
    """A second fit of the same trial opens nothing again."""
    tape = Tape()
    session = begun(Court(), tape)
    session.ready()
    assert [call[0] for call in tape.calls] == ["open"]
    session.end(ValueError())


def test_a_recorder_that_fails_in_open_ends_the_trial_before_training() -> None:
    """What it raises is raised; those that are open are closed with the outcome."""
    court, tapes = Court(), [Tape(), Tape("open"), Tape()]
    session = TrialSession(trial(), court, recorders=tapes)
    session.begin([Slot("model.hidden", get=lambda: 8, set=lambda _: None)])
    with pytest.raises(ConnectionError, match="open is broken") as caught:
        session.ready()
    session.end(caught.value)
    assert session.outcome is not None
    assert session.outcome.state == "failed"
    assert [[call[0] for call in tape.calls] for tape in tapes] == [["open", "close"], ["open"], []]
    assert court.told[0].reason == "ConnectionError: open is broken"


def test_a_recorder_that_fails_in_report_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Training goes on, the other recorder goes on, the broken one is left alone from then on."""
    court, tapes = Court(), [Tape("report"), Tape()]
    session = begun(court, *tapes)
    for step in (1, 2, 3):
        session.report(step, {"acc": step / 10})
    session.end()
    assert session.outcome is not None
    assert session.outcome.state == "complete"
    assert [call[0] for call in tapes[0].calls] == ["open", "report"]
    assert [call[0] for call in tapes[1].calls] == ["open", "report", "report", "report", "close"]
    text = "Tape failed and is left out from here on: ConnectionError('report is broken')"
    assert [event for event in journal() if event["event"] == "problem"] == [{"event": "problem", "text": text}]
    assert caplog.record_tuples == [
        ("tunehook", logging.WARNING, f"{text}. The journal keeps everything: study/trial-0003/journal.jsonl")
    ]


def test_a_recorder_that_fails_in_close(caplog: pytest.LogCaptureFixture) -> None:
    """The outcome stands, the others are closed, and it is told once."""
    court, tapes = Court(), [Tape("close"), Tape()]
    session = begun(court, *tapes)
    session.report(1, {"acc": 0.5})
    session.end()
    assert session.outcome is not None
    assert session.outcome.state == "complete"
    assert tapes[1].calls[-1] == ("close", "complete")
    assert kinds() == ["config", "report", "end", "problem"]
    assert len(caplog.messages) == 1


def test_a_full_disk_tells_the_study_and_closes_the_recorders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal cannot be written at all: every other keeper hears of the end, also past a broken recorder."""
    court, tapes = Court(), [Tape("close"), Tape()]
    session = begun(court, *tapes)
    assert session._journal is not None
    session._journal.close()
    real = tunehook.record.paths._open
    monkeypatch.setattr(
        tunehook.record.paths, "_open",
        lambda path, flags: os.open("/dev/full", os.O_RDWR) if flags & os.O_APPEND else real(path, flags),
    )  # fmt: skip
    with pytest.raises(JournalError) as caught:
        session.report(1, {"acc": 0.5})
    with pytest.raises(JournalError, match="No space left on device"):
        session.end(caught.value)
    assert [outcome.state for outcome in court.told] == ["interrupted"]  # its values are asked again
    assert [tape.calls[-1] for tape in tapes] == [("close", "interrupted")] * 2
    session.end()
    assert session.outcome is court.told[0]


def test_a_judge_that_cannot_be_told() -> None:
    """The journal has the end and the recorders are closed, then the error is raised."""

    class Deaf(Court):
        def tell(self, trial: Trial, outcome: Outcome) -> None:
            raise ConnectionError("no storage")

    tape = Tape()
    session = begun(Deaf(), tape)
    session.report(1, {"acc": 0.5})
    with pytest.raises(ConnectionError, match="no storage"):
        session.end()
    assert kinds()[-1] == "end"
    assert tape.calls[-1] == ("close", "complete")


def test_an_end_that_nobody_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the journal nor the study, so the trial is asked again: for the recorders it is not complete."""

    class Full(Court):
        def tell(self, trial: Trial, outcome: Outcome) -> None:
            raise StorageError("the disk is full")

    tape = Tape()
    session = begun(Full(), tape)
    session.report(1, {"acc": 0.5})
    monkeypatch.setattr(Journal, "end", Mock(side_effect=JournalError("the disk is full")))
    with pytest.raises(StorageError):
        session.end()
    assert tape.calls[-1] == ("close", "interrupted")


def test_a_watching_recorder() -> None:
    """It sees the trial from the moment it was added, and lies nowhere."""
    tape = Tape()
    session = TrialSession(trial(), Court())
    session.watch(tape)
    session.begin([Slot("model.hidden", get=lambda: 8, set=lambda _: None)])
    session.ready()
    session.report(1, {"acc": 0.5})
    session.end()
    assert [call[0] for call in tape.calls] == ["open", "report", "close"]
    assert journal()[0]["records"] == []


# ------------------------------------------------------------------ other processes


def test_a_session_that_another_process_drove() -> None:
    """The copy in a spawned process writes; this one takes over values, stop and end, and tells its judge."""
    court = Court()
    here = TrialSession(trial(), court)
    there: TrialSession = pickle.loads(pickle.dumps(TrialSession(trial(), Court({2: Decision(True, "slow")}))))
    there.begin([Slot("model.hidden", get=lambda: 8, set=lambda _: None)])
    there.ready()
    there.report(1, {"acc": 0.5})
    here.refresh()
    assert (here.step, here.measured, here.is_over) == (1, (0.5, 1), False)
    there.report(2, {"acc": NAN})
    there.end()
    here.refresh()
    assert (here.step, here.decision) == (2, Decision(True, "acc is nan at step 2", "infeasible"))
    here.end()
    assert here.outcome == Outcome("infeasible", "acc is nan at step 2", 0.5, 1)
    assert court.told == [here.outcome]
    assert kinds().count("end") == 1


def test_what_drives_itself_reads_nothing() -> None:
    """A session that injected does not take its own journal for another process's."""
    session = begun(Court())
    session.report(1, {"acc": 0.5})
    session.refresh()
    assert session._series == [(1, 0.5)]
    session.end()


@pytest.mark.parametrize(
    ("stops", "values", "expected"),
    [
        ({}, [], Outcome("interrupted", "killed")),
        ({}, [0.5, 0.25], Outcome("interrupted", "killed", 0.5, 1)),
        ({2: Decision(True, "slow")}, [0.5, 0.25], Outcome("pruned", "slow", 0.5, 1)),
        ({}, [0.5, NAN], Outcome("infeasible", "acc is nan at step 2", 0.5, 1)),
    ],
)
def test_recovery_from_a_journal_without_an_end(
    stops: dict[int, Decision], values: list[float], expected: Outcome
) -> None:
    """A killed trial is interrupted with the value it had, unless it had been stopped already."""
    dead = begun(Court(stops))
    for step, value in enumerate(values, start=1):
        dead.report(step, {"acc": value})
    die(dead)
    court = Court()
    assert TrialSession(trial(), court).recover("killed") == expected
    assert court.told == [expected]
    assert kinds()[-1] == "end"


def test_recovery_of_a_trial_that_ended() -> None:
    """Its process died between the journal and the storage: the journal's end wins and is not written again."""
    dead = begun(Court())
    dead.report(1, {"acc": 0.5})
    dead.end(ValueError("mine"))
    ended = dead.outcome
    assert ended is not None
    court = Court()
    assert TrialSession(trial(), court).recover("killed") == ended
    assert court.told == [ended]
    assert kinds().count("end") == 1


def test_recovery_from_a_damaged_journal() -> None:
    """A torn last report is not counted."""
    dead = begun(Court())
    dead.report(1, {"acc": 0.5})
    die(dead)
    with Path("study/trial-0003/journal.jsonl").open("a") as file:
        file.write(json.dumps({"event": "report", "step": 2, "metrics": {"acc": 0.9}})[:-3])
    assert TrialSession(trial(), Court()).recover("killed") == Outcome("interrupted", "killed", 0.5, 1)


def test_a_pickled_session_holds_nothing_open() -> None:
    """Values and state travel; open recorders and files stay."""
    tape = Tape()
    session = begun(Court(), tape)
    session.report(1, {"acc": 0.5})
    copy: TrialSession = pickle.loads(pickle.dumps(session))
    assert (copy.trial, copy.step, copy.measured) == (session.trial, 1, (0.5, 1))
    assert copy._injection is None
    assert copy.keeper.recorders.where() == []  # none is open
    session.report(2, {"acc": 0.6})
    assert tape.calls[-1][:2] == ("report", 2)
    session.end()


# ------------------------------------------------------------------ the active session


def test_one_session_is_active_at_a_time() -> None:
    """Inside there is one, a second one is refused with the way out, after it there is none."""
    session = TrialSession(trial(), Court())
    assert active() is None
    with activate(session):
        assert active() is session
        with pytest.raises(TrialError) as caught, activate(TrialSession(trial(), Court())):
            pytest.fail("unreachable")
        assert active() is session
    assert str(caught.value) == (
        "Trial 3 of study 'digits' is still open in this process; a trial cannot start another one inside.\n"
        "  End it first, or run the inner study by itself."
    )
    assert active() is None


def test_no_session_is_active_after_an_error() -> None:
    """What is raised inside leaves nothing behind."""
    with pytest.raises(ValueError, match="mine"), activate(TrialSession(trial(), Court())):
        raise ValueError("mine")
    assert active() is None
    check_idle()


def test_a_session_that_ended_makes_room() -> None:
    """Once the outer trial is over another one may begin."""
    session = TrialSession(trial(), Court())
    with activate(session):
        session.end(ValueError())
        check_idle()


class Button(Tape):
    """A recorder on whose page people can stop the trial."""

    def __init__(self, *reasons: str | None, fails: str = "") -> None:
        super().__init__(fails)
        self.reasons = list(reasons)

    def wants_stop(self) -> str | None:
        self._take("wants_stop")
        return self.reasons.pop(0)


def test_a_recorder_may_stop_the_trial() -> None:
    """What a person decides counts where the rules say go on: the judge has the value, and the trial ends as pruned."""
    court, button = Court(), Button(None, "stopped by hand")
    session = begun(court, Tape(), button)
    assert session.report(1, {"acc": 0.5}) == Decision()
    stopped = session.report(2, {"acc": 0.75})
    assert stopped == session.report(3, {"acc": 0.7}) == Decision(True, "stopped by hand", "pruned")
    session.end()
    assert session.outcome == court.told[0] == Outcome("pruned", "stopped by hand", 0.75, 2)
    assert [value for _, value, _ in court.reports] == [0.5, 0.75]
    decisions = [
        event for event in read_journal(Path("study/trial-0003/journal.jsonl")) if event["event"] == "decision"
    ]
    assert [(event["step"], event["state"], event["reason"]) for event in decisions] == [
        (2, "pruned", "stopped by hand")
    ]


def test_a_rule_counts_before_a_person() -> None:
    """A recorder is asked only where the judge goes on, and one that fails there is left out."""
    broken = Button(fails="wants_stop")
    session = begun(Court({2: Decision(True, "below the median")}), broken, Button(None))
    assert not session.report(1, {"acc": 0.5}).stop
    assert session.report(2, {"acc": 0.5}).reason == "below the median"
    session.end()
    assert [name for name, *_ in broken.calls] == ["open", "report", "wants_stop"]
