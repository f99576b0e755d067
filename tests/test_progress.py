"""The live table and the plain lines."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tunehook.progress import Progress, clock, short
from tunehook.record import Recorder
from tunehook.trial import Mode, Outcome, State, Trial


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("tunehook.progress.time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The module's clock."""
    return Clock(monkeypatch)


def trial(number: int, **params: Any) -> Trial:
    """A trial with the values of the table below."""
    return Trial("digits", number, {"lr": 0.012345, "act": "relu", **params}, Path("t"), "acc", "max")


def table(terminal: bool, **options: Any) -> tuple[Progress, StringIO]:
    """A progress on a console that writes into text."""
    out = StringIO()
    console = Console(force_terminal=terminal, file=out, width=120, color_system=None, legacy_windows=False)
    given: dict[str, Any] = {"metric": "acc", "mode": "max", "total": 4, "console": console, **options}
    return Progress("digits", ["lr", "act"], **given), out


def train(shown: Progress, number: int, state: State, value: float | None, *, took: float = 0, at: Clock) -> None:
    """One trial as a session drives it."""
    shown.open(trial(number), {})
    at.now += took
    if value is not None:
        shown.report(1, {"acc": value, "loss": 1.0})
    shown.close(Outcome(state, f"why {number}", value, None if value is None else 1))


def last(out: StringIO) -> list[str]:
    """The lines of the table that was drawn last, without control codes."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    drawn = text[text.rindex("study ") :].splitlines()
    return [line.rstrip() for line in drawn if line.strip()]


def test_it_is_a_recorder() -> None:
    """It has the methods of one, and lies nowhere."""
    shown, _ = table(terminal=False)
    assert isinstance(shown, Recorder)
    assert shown.where() is None


def test_plain_lines(ticking: Clock) -> None:
    """One line a trial that ends, with the reason of a bad end; failed and interrupted ones do not count."""
    shown, out = table(terminal=False)
    with shown:
        train(shown, 0, "complete", 0.5, took=2, at=ticking)
        train(shown, 1, "pruned", 0.25, at=ticking)
        train(shown, 2, "failed", None, at=ticking)
        train(shown, 3, "interrupted", 0.75, at=ticking)
        train(shown, 4, "infeasible", 0.9, at=ticking)
        train(shown, 5, "complete", 0.625, took=61.26, at=ticking)
    assert out.getvalue().splitlines() == [
        "[1/4] trial 0: complete, acc 0.5 (lr=0.01235 act=relu; 2.0 s); best 0.5",
        "[2/4] trial 1: pruned, acc 0.25 (lr=0.01235 act=relu; 0.0 s); best 0.5",
        "[2/4] trial 2: failed, acc - (lr=0.01235 act=relu; 0.0 s); best 0.5; why 2",
        "[2/4] trial 3: interrupted, acc 0.75 (lr=0.01235 act=relu; 0.0 s); best 0.5; why 3",
        "[3/4] trial 4: infeasible, acc 0.9 (lr=0.01235 act=relu; 0.0 s); best 0.5; why 4",
        "[4/4] trial 5: complete, acc 0.625 (lr=0.01235 act=relu; 61.3 s); best 0.625",
    ]


def test_plain_lines_without_a_total(ticking: Clock) -> None:
    """Where nobody knows how many there will be, only those that are done are counted, earlier ones too."""
    shown, out = table(terminal=False, total=None, done=7, best=0.75)
    train(shown, 7, "complete", 0.5, at=ticking)
    assert out.getvalue() == "[8] trial 7: complete, acc 0.5 (lr=0.01235 act=relu; 0.0 s); best 0.75\n"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("text", ["[bold]x[/bold]", "[/nothing]", ":warning:", "[1, 2]", "[link=x]"])
def test_nothing_is_read_as_markup(text: str, terminal: bool, ticking: Clock) -> None:
    """Brackets and colons of names, values and reasons are shown as they are."""
    out = StringIO()
    console = Console(force_terminal=terminal, file=out, width=200, color_system=None)
    shown = Progress(text, [text], metric=text, mode="max", total=1, console=console)
    with shown:
        shown.open(Trial("s", 0, {text: text}, Path("t"), text, "max"), {})
        ticking.now += 1
        shown.report(1, {text: 0.5})
        shown.close(Outcome("failed", text, None, None))
    assert out.getvalue().count(text) >= 4


def test_the_table(ticking: Clock) -> None:
    """States, values, steps and seconds; the best is marked; below are the count, the best, the pace and the rest."""
    shown, out = table(terminal=True)
    with shown:
        train(shown, 0, "complete", 0.5, took=10, at=ticking)
        train(shown, 1, "complete", 0.75, took=20, at=ticking)
        shown.open(trial(2), {})
        ticking.now += 5
        shown.report(3, {"acc": 0.7})
        lines = last(out)
    assert lines[0] == "study digits"
    assert re.split(r"[\s│┃]+", lines[2].strip("┃ ")) == ["trial", "state", "lr", "act", "acc", "step", "seconds"]
    rows = [re.split(r"\s*│\s*", line.strip("│ ")) for line in lines if re.match(r"\s*│\s*\d", line)]
    assert rows == [
        ["0", "complete", "0.01235", "relu", "0.5", "1", "10.0"],
        ["1 *", "complete", "0.01235", "relu", "0.75", "1", "20.0"],
        ["2", "running", "0.01235", "relu", "0.7", "3", "5.0"],
    ]
    assert lines[-1] == "2 of 4 trials, best acc 0.75 (*), 17.5 s a trial, 0:35 left"


def test_the_table_shows_the_newest_trials(ticking: Clock) -> None:
    """Twelve rows at most, so that it stays in place."""
    shown, out = table(terminal=True, total=None)
    with shown:
        for number in range(30):
            train(shown, number, "complete", number / 100, took=1, at=ticking)
        lines = last(out)
    numbers = [int(found[1]) for line in lines if (found := re.match(r"\s*│\s*(\d+)", line))]
    assert numbers == list(range(18, 30))
    assert lines[-1] == "30 trials, best acc 0.29 (*), 1.0 s a trial"


def test_drawing_is_rare(ticking: Clock) -> None:
    """Between two reports within a fifth of a second nothing is drawn; an end always is."""
    shown, out = table(terminal=True)
    with shown:
        shown.open(trial(0), {})
        ticking.now += 0.3
        shown.report(1, {"acc": 0.1})
        size = len(out.getvalue())
        for step in range(2, 100):
            shown.report(step, {"acc": 0.1})
        shown.report(100, {"loss": 0.1})
        assert len(out.getvalue()) == size
        shown.close(Outcome("complete", "", 0.1, 99))
        assert len(out.getvalue()) > size


@pytest.mark.parametrize(
    ("total", "done", "states", "took", "line"),
    [
        (4, 0, [], 0, "0 of 4 trials, best acc -"),
        (4, 3, [], 0, "3 of 4 trials, best acc -"),
        (None, 0, [], 0, "0 trials, best acc -"),
        (4, 0, ["interrupted"], 5, "0 of 4 trials, best acc -"),
        (4, 0, ["failed"], 5, "0 of 4 trials, best acc -"),
        (4, 0, ["infeasible"], 5, "1 of 4 trials, best acc -, 5.0 s a trial, 0:15 left"),
        (4, 3, ["complete"], 5, "4 of 4 trials, best acc 0.5 (*), 5.0 s a trial, 0:00 left"),
        (1, 1, ["complete"], 5, "2 of 1 trials, best acc 0.5 (*), 5.0 s a trial, 0:00 left"),
        (4, 0, ["complete"], 0, "1 of 4 trials, best acc 0.5 (*), 0.0 s a trial, 0:00 left"),
        (
            2000,
            0,
            ["complete", "complete"],
            3600,
            "2 of 2000 trials, best acc 0.5 (*), 3600.0 s a trial, 1998:00:00 left",
        ),
    ],
)
def test_the_pace(total: int | None, done: int, states: list[State], took: float, line: str, ticking: Clock) -> None:
    """Only trials of this run make the pace; nothing is divided by none of them."""
    shown, out = table(terminal=True, total=total, done=done)
    with shown:
        for number, state in enumerate(states):
            train(shown, number, state, 0.5 if state == "complete" else None, took=took, at=ticking)
        shown._draw(force=True)
        assert last(out)[-1] == line


@pytest.mark.parametrize(
    ("mode", "before", "values", "mark"),
    [
        ("max", None, [0.5, 0.7, 0.6], 1),
        ("min", None, [0.5, 0.7, 0.6], 0),
        ("max", 0.9, [0.5], None),
        ("min", 0.9, [0.5], 0),
        ("max", 0.5, [0.5], None),
        ("max", None, [0.0], 0),
        ("min", 0.0, [-0.5, 0.0], 0),
    ],
)
def test_the_best_mark(mode: Mode, before: float | None, values: list[float], mark: int | None, ticking: Clock) -> None:
    """The first trial that is better than all before, those of earlier runs included."""
    shown, _ = table(terminal=False, mode=mode, best=before)
    for number, value in enumerate(values):
        train(shown, number, "complete", value, at=ticking)
    assert shown._best_number == mark


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (1234567.0, "1.235e+06"),
        (0.000123456, "0.0001235"),
        (float("nan"), "nan"),
        (3, "3"),
        (True, "True"),
        ("relu", "relu"),
        ([1, 2.5], "[1, 2.5]"),
    ],
)
def test_a_value_in_short(value: Any, text: str) -> None:
    """Four significant digits for floats, all else as it is."""
    assert short(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0:00"), (0, "0:00"), (0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599.6, "1:00:00"), (90061, "25:01:01")],
)
def test_a_duration(seconds: float, text: str) -> None:
    """Minutes and seconds, hours where there are some, never below zero."""
    assert clock(seconds) == text


def test_an_error_leaves_the_terminal_in_order(ticking: Clock) -> None:
    """The table stops and shows the cursor again, whatever is raised inside."""
    shown, out = table(terminal=True)
    shown.open(trial(0), {})
    with pytest.raises(KeyboardInterrupt), shown:
        raise KeyboardInterrupt
    assert out.getvalue().rstrip().endswith("\x1b[?25h")
    assert shown._live is not None
    assert not shown._live.is_started
