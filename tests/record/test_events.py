"""A journal as values: every line that is written, what is damaged or of a later version, and rows over attempts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from tunehook.record import (
    Begin,
    Config,
    Ended,
    Event,
    Events,
    GoesOn,
    InSync,
    Journal,
    Kept,
    Process,
    Report,
    RunNote,
    Stopped,
    Taken,
    Task,
    join,
    read_attempts,
    read_events,
    read_processes,
    unsealed,
)
from tunehook.snapshot import SnapshotPlan, Taker
from tunehook.trial import Decision, Outcome, Trial

CORE = Path(__file__).parents[2]


_JOURNALS: list[Journal] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Close the journals of a test."""
    yield
    while _JOURNALS:
        _JOURNALS.pop().close()


def make_trial(number: int = 0, *, attempt: int = 0, key: str = "0000-12345678") -> Trial:
    """An attempt of a trial."""
    return Trial("s", number, {"lr": 0.1}, Path("study", f"trial-{number:04d}"), "v", "min", attempt, key)


def begun(number: int = 0, **options: Any) -> Journal:
    """Its journal."""
    trial = make_trial(number, **options)
    journal = Journal(trial.folder)
    journal.begin(trial)
    _JOURNALS.append(journal)
    return journal


def test_every_line_is_a_value(tmp_path: Path) -> None:
    """Those that say something to people only are an event without more."""
    model, trial = tmp_path / "model.ckpt", make_trial()
    model.write_text("weights")
    taken = Taker(SnapshotPlan(every=1)).load().take(4, {"w": np.arange(3.0)}, {})
    journal = begun()
    journal.process()
    journal.task("node 1")
    journal.config({"model.lr": 0.1}, records=["https://w/1"])
    journal.recorder("wandb", {"id": "1"}, places=["runs/1"])
    journal.goes_on(trial=0, attempt=0, step=1, reports=1)
    journal.report(1, {"v": float("nan"), "w": 1})
    journal.snapshot(1, taken.as_json())
    journal.decision(1, Decision(True, "median", "pruned"))
    journal.checkpoint(model)
    journal.problem("away")
    journal.synced(2)
    journal.end(Outcome("pruned", "median", float("inf"), 1))
    events = Events.of_trial(trial)
    assert [type(event) for event in events] == [
        Begin, Process, Task, Config, RunNote, GoesOn, Report, Taken, Stopped, Kept, Event, InSync, Ended,
    ]  # fmt: skip
    assert events.begin is not None
    assert events.begin.as_trial(trial.folder) == trial
    assert events.all(Config)[0].effective == {"model.lr": 0.1}
    assert events.records == ["https://w/1", "runs/1"]
    assert (events.all(RunNote)[0].recorder, events.all(RunNote)[0].run) == ("wandb", {"id": "1"})
    (report,), (look,) = events.all(Report), events.all(Taken)
    assert (report.step, str(dict(report.metrics))) == (1, "{'v': nan, 'w': 1.0}")
    assert (look.step, look.snapshot.step, look.names("parameters")) == (1, 4, ["w"])
    assert events.all(Stopped)[0].decision == Decision(True, "median", "pruned")
    assert events.all(Kept)[0].path == model
    assert events.all(InSync)[0].rows == 2
    assert events.outcome == Outcome("pruned", "median", float("inf"), 1)
    assert len({event.time for event in events} - {0.0}) >= 1
    assert events[1:3].all(Task) == [events[2]]
    assert [type(one) for one in read_processes(trial)] == [Begin, Process]


def test_what_is_not_there() -> None:
    """A journal that was not begun, and one whose trial goes on."""
    events = Events.of_trial(make_trial())
    assert (len(events), events.begin, events.outcome, events.last(Report), events.records) == (0, None, None, None, [])
    begun().report(1, {"v": 1.0})
    assert Events.of_trial(make_trial()).outcome is None


def test_lines_that_are_damaged_or_of_a_later_version(caplog: pytest.LogCaptureFixture) -> None:
    """The ones are told and left out; the others are events, and what they say of records is looked at."""
    journal = begun()
    journal._write("weather", rain=True, records=["https://w/2"])
    journal._write("weather", records=3)
    journal._write("report", step="1", metrics={})
    journal.close()
    events = Events.of_trial(make_trial())
    assert [type(event) for event in events] == [Begin, Event, Event]
    assert events.records == ["https://w/2"]
    assert "line 4 is of a version of tunehook that this one does not know, and left out" in caplog.text


@pytest.mark.parametrize("when", [1e300, float("nan"), float("inf"), -1.0, 253_402_300_800])
def test_a_time_that_is_none(when: float) -> None:
    """A line of the year 10000, or of no time, is none that was written."""
    journal = begun()
    journal.report(1, {"v": 1.0})
    journal.close()
    path = journal.path
    lines = [{**json.loads(unsealed(line)[0]), "time": when} for line in path.read_bytes().splitlines()]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert len(Events.of_latest(path)) == 0


def test_an_end_that_is_none() -> None:
    """A trial that runs has not ended."""
    journal = begun()
    journal.end(Outcome("running"))
    assert [type(event) for event in Events.of_trial(make_trial())] == [Begin]


def test_whose_lines_they_are() -> None:
    """A folder may have had another trial before, whose storage is gone; a begin that is damaged is nobody's."""
    journal = begun(key="0000-01d01d01")
    journal.report(1, {"v": 9.0})
    begun().report(1, {"v": 1.0})
    path = journal.path
    for events in (Events.of_trial(make_trial()), Events.of_key(path, make_trial().key), Events.of_latest(path)):
        assert [report.metrics["v"] for report in events.all(Report)] == [1.0]
    assert len(Events.of_key(path, "0000-00000000")) == 0
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[3:]))
    assert [type(event) for event in Events.of_latest(path)] == [Report]
    assert Events.of_latest(path).begin is None
    assert len(Events.of_key(path, make_trial().key)) == 0


def test_attempts_in_their_order() -> None:
    """By attempt, not by number; the trial itself where it is asked for, and none of another key."""
    for number, attempt in ((0, 0), (3, 2), (5, 1)):
        begun(number, attempt=attempt).report(1, {"v": float(attempt)})
    begun(4, attempt=1, key="0004-12345678")
    latest = replace(make_trial(7), attempt=3)
    assert [events.all(Report)[0].metrics["v"] for events in read_attempts(latest)] == [0.0, 1.0, 2.0]
    Journal(latest.folder).begin(latest)
    assert [len(events) for events in read_attempts(latest, with_itself=True)] == [2, 2, 2, 1]
    assert read_attempts(make_trial()) == []


# ------------------------------------------------------------------ rows


def report(step: int, attempt: int) -> Report:
    """A report; its value tells who made it."""
    return Report(step=step, metrics={"v": float(attempt)})


class Look(Taken):
    """A snapshot, of which the step counts."""

    is_whole = True


def snapshot(step: int, optimizer_step: int) -> Taken:
    """A snapshot after a report."""
    return Look(step=step, raw={"step": optimizer_step})


def named(rows: Iterable[Event]) -> list[Any]:
    """What can be compared of rows."""
    return [(row.step, row.metrics if isinstance(row, Report) else row.raw)
            for row in rows if isinstance(row, Report | Taken)]  # fmt: skip


def test_each_step_is_there_once() -> None:
    """Killed behind its checkpoint twice; then in an attempt that started over."""
    first: list[Event] = [report(1, 0), snapshot(1, 10), report(2, 0), report(3, 0), snapshot(3, 30)]
    second: list[Event] = [report(1, 1), report(2, 1)]  # killed before it made a step
    third: list[Event] = [report(1, 2), report(2, 2), snapshot(2, 25), report(3, 2), report(4, 2), snapshot(4, 40)]
    joined = join([first, second, third])
    assert named(joined.all) == named([*first, *third[-2:]])
    assert (joined.made, joined.seen) == (4, (0, 40))

    anew: list[Event] = [report(1, 3), snapshot(1, 10), report(2, 3)]
    after: list[Event] = [report(1, 4), report(2, 4), report(3, 4), report(4, 4)]
    joined = join([first, anew, after])
    assert named(joined.all) == named([*first, *after[-1:]])
    assert join([]).all == []


def test_each_step_of_each_fit_is_there_once() -> None:
    """Steps start over with each fit: a snapshot of a later fit is not one that was made."""
    whole: list[Event] = [
        snapshot(0, 0), snapshot(0, 2), report(1, 1), snapshot(1, 0), snapshot(1, 2), report(2, 1),
    ]  # fmt: skip
    assert named(join([whole]).all) == named(whole)
    for killed_at in range(len(whole)):
        assert named(join([whole[:killed_at], whole]).all) == named(whole)


def test_a_snapshot_that_is_none_is_no_row() -> None:
    """Its line has the form of one, and not its content."""
    journal = begun()
    journal.snapshot(1, {"step": 1, "parameters": {"w": 3}})
    journal.close()
    (look,) = Events.of_trial(make_trial()).all(Taken)
    assert (look.is_whole, look.names("parameters"), look.names("gradients")) == (False, ["w"], [])
    assert join([[look]]).all == []


def test_one_file_knows_the_fields_of_lines() -> None:
    """Whoever else reads a journal reads values; only what checks and what reads them names ``event``."""
    raw = re.compile(r"""\[["']event["']\]|get\(["']event["']""")
    files = [*(CORE / "src").rglob("*.py"), *(CORE / "integrations").rglob("*.py")]
    found = {path.relative_to(CORE).as_posix() for path in files if raw.search(path.read_text())}
    assert found == {"src/tunehook/record/checks.py", "src/tunehook/record/events.py"}


def test_reading_from_the_end() -> None:
    """As many whole lines as there are in the last bytes."""
    journal = begun()
    for step in range(1, 9):
        journal.report(step, {"v": 1.0})
    journal.close()
    read = [*read_events(journal.path, tail=200)]
    assert all(isinstance(event, Report) for event in read)
    assert 1 <= len(read) < 4


def test_what_was_before_a_pause() -> None:
    """By how often the trial had been paused: one that reads late may find that it has gone on and paused again."""
    begin = Mock(spec=Begin)
    paused, done = (Ended(time=0.0, outcome=Outcome(state, "")) for state in ("paused", "complete"))
    first, second, third = (Report(time=0.0, step=step, metrics={"v": 0.0}) for step in (1, 2, 3))
    events = Events([begin, first, paused, begin, second, paused, begin, third, done])
    assert [len(events.before(pauses)) for pauses in (1, 2)] == [3, 6]
    assert len(Events([begin, first, begin, second]).before(1)) == 2  # its end could not be written
