"""The plain lines, the live table, and what is written above it."""

from __future__ import annotations

import re
import sys
from io import StringIO
from types import ModuleType, SimpleNamespace
from typing import Any

import optuna
import pytest
from rich.console import Console

import tunehook as th
from hostile import ESCAPES, UNSEEN
from tunehook.launch.progress import Progress
from tunehook.record import Recorder
from tunehook.report.status import best_of, lines, status_of
from tunehook.study.study import Study
from tunehook.system.words import clock, short
from tunehook.trial.errors import StorageAway
from tunehook.trial.objective import Mode, State
from tunehook.trial.values import Outcome, Standing


class Clock:
    """A clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("tunehook.launch.progress.time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The module's clock."""
    return Clock(monkeypatch)


class Shown(Progress):
    """A progress that knows its study."""

    study: Study

    def ask(self) -> int:
        """Begin a trial, as a session does; gives its number."""
        trial = self.study.ask()
        self.open(trial, {})
        return trial.number


def table(
    terminal: bool, *, done: int = 0, best: float | None = None, mode: Mode = "max", total: int | None = 4,
    width: int = 120, height: int = 40, space: dict[str, Any] | None = None,
) -> tuple[Shown, StringIO]:  # fmt: skip
    """A progress on a console that writes into text, of a study with so many trials and that best value before."""
    out = StringIO()
    console = Console(
        force_terminal=terminal, file=out, width=width, height=height, color_system=None, legacy_windows=False
    )
    study = Study("digits", space or {"lr": 0.012345, "act": "relu"}, metric="acc", mode=mode, search="random",
                  storage=optuna.storages.InMemoryStorage())  # fmt: skip
    for number in range(done):
        value = best if number == 0 else None
        study.tell(study.ask(), Outcome("infeasible" if value is None else "complete", "x", value))
    shown = Shown(study, total=total, is_live=terminal, console=console)
    shown.study = study
    return shown, out


def train(shown: Shown, number: int, state: State, value: float | None, *, took: float = 0, at: Clock) -> None:
    """One trial as a session drives it."""
    trial = shown.study.ask()
    shown.open(trial, {})
    at.now += took
    if value is not None:
        shown.report(1, {"acc": value, "loss": 1.0})
    outcome = Outcome(state, f"why {number}", value, None if value is None else 1)
    shown.study.tell(trial, outcome)
    shown.close(outcome)


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
        told = out.getvalue().splitlines()
    assert told == [
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
    """Brackets and colons of metrics, values and reasons are shown as they are."""
    shown, out = table(terminal, width=200, space={"name": text})
    shown.study.metric = text
    states: list[State] = ["failed", "complete"]
    with shown:
        for state in states:
            trial = shown.study.ask()
            shown.open(trial, {})
            ticking.now += 1
            shown.report(1, {text: 0.5})
            shown.study.tell(trial, Outcome(state, text, 0.5, 1))
            shown.close(Outcome(state, text, 0.5, 1))
    assert out.getvalue().count(text) >= 7


def test_the_table(ticking: Clock) -> None:
    """States, values, steps and seconds; the best is marked; below are the count, the best, the pace and the rest."""
    shown, out = table(terminal=True)
    with shown:
        train(shown, 0, "complete", 0.5, took=10, at=ticking)
        train(shown, 1, "complete", 0.75, took=20, at=ticking)
        shown.ask()
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


def ending(out: StringIO) -> list[str]:
    """The lines behind the table, or behind the lines of the trials."""
    text = out.getvalue()
    return text[text.rindex("study digits: ") :].splitlines()


def rows(out: StringIO) -> list[tuple[int, bool]]:
    """Number and mark of the trials in the table that was drawn last."""
    found = [re.match(r"[│ ]*(\d+)( \*)?[ │]+(?:running|complete)", line) for line in last(out)]
    return [(int(one[1]), one[2] is not None) for one in found if one is not None]


def test_the_best_trial_is_always_in_sight(ticking: Clock) -> None:
    """Also if it is not among the newest, or was there before this process began."""
    shown, out = table(terminal=True, total=None, done=2, best=5.0)
    with shown:
        for number in range(2, 30):
            train(shown, number, "complete", 9.0 if number == 4 else 1.0, took=1, at=ticking)
            drawn = rows(out)
            best = 0 if number < 4 else 4
            assert [one for one, is_best in drawn if is_best] == [best]
            assert len(drawn) == min(12, number if best == 0 else number - 1)
        assert [one for one, _ in drawn] == [4, *range(19, 30)]


def test_running_trials_come_before_those_that_have_ended(ticking: Clock) -> None:
    """In a low terminal as many as fit: the best, those that run, and the newest of the others."""
    shown, out = table(terminal=True, total=None, height=14)
    with shown:
        train(shown, 0, "complete", 9.0, took=1, at=ticking)
        long = [shown.ask(), shown.ask()]
        for number in range(3, 9):
            train(shown, number, "complete", 1.0, took=1, at=ticking)
        assert [one for one, _ in rows(out)] == [0, *long, 7, 8]
        assert len(last(out)) <= 14


@pytest.mark.parametrize("terminal", [False, True])
def test_other_processes_count_too(terminal: bool, ticking: Clock) -> None:
    """Counts, the best trial and the pace are those of the study, whoever has trained its trials."""
    shown, out = table(terminal, total=9)
    other = Study("digits", shown.study.space, metric="acc", mode="max", search="random",
                  storage=shown.study._storage)  # fmt: skip
    with shown:
        mine, theirs = shown.study.ask(), other.ask()
        shown.open(mine, {})
        other.tell(theirs, Outcome("complete", "x", 0.75, 3))
        other.tell(other.ask(), Outcome("infeasible", "x"))
        ticking.now += 2
        shown.refresh()
        if terminal:
            assert last(out)[-1] == "2 of 9 trials, best acc 0.75 (*), 1.0 s a trial, 0:07 left"
            assert rows(out) == [(0, False), (1, True)]
        shown.study.tell(mine, Outcome("complete", "x", 0.5, 1))
        shown.close(Outcome("complete", "x", 0.5, 1))
        if not terminal:
            assert out.getvalue() == "[3/9] trial 0: complete, acc 0.5 (lr=0.01235 act=relu; 2.0 s); best 0.75\n"
    assert ending(out) == [
        "study digits: 3 of 9 trials finished (2 complete, 1 infeasible)",
        "best acc 0.75, trial 1: lr=0.01235 act=relu",
        "record: tunehook-studies/digits/trial-0001/journal.jsonl",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_the_end_without_a_complete_trial(terminal: bool, ticking: Clock) -> None:
    """The counts by state stand there, and nothing that does not exist."""
    shown, out = table(terminal, total=None)
    with shown:
        train(shown, 0, "failed", None, at=ticking)
        train(shown, 1, "infeasible", None, at=ticking)
    assert (
        out.getvalue().splitlines()[-1].removeprefix("\x1b[?25h")
        == "study digits: 1 trials finished (1 failed, 1 infeasible)"
    )


def test_a_storage_that_is_away_leaves_what_was_known(ticking: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table ends no study."""
    shown, out = table(terminal=True, best=0.5, done=1)

    def away() -> Standing:
        raise StorageAway("away")

    with shown:
        shown.ask()
        monkeypatch.setattr(shown.study, "standing", away)
        ticking.now += 2
        shown.refresh()
        assert last(out)[-1] == "1 of 4 trials, best acc 0.5 (*)"
    assert (
        out.getvalue().splitlines()[-3].removeprefix("\x1b[?25h") == "study digits: 1 of 4 trials finished (1 complete)"
    )


@pytest.mark.parametrize(
    ("mode", "values", "order", "best"),
    [
        ("max", [0.5, 0.7, 0.7], [0, 1, 2], 1),
        ("max", [0.5, 0.7, 0.7], [2, 1, 0], 1),
        ("min", [0.5, 0.1, 0.1, 0.1], [3, 1, 2, 0], 1),
        ("min", [0.0, 0.0, 0.0], [1, 2, 0], 0),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_ties(
    terminal: bool, mode: Mode, values: list[float], order: list[int], best: int, ticking: Clock
) -> None:  # fmt: skip
    """Of equal values the trial that began first is the best in every view, in whatever order they end."""
    shown, out = table(terminal, mode=mode, total=len(values))
    study = shown.study
    with shown:
        trials = [study.ask() for _ in values]
        for trial in trials:
            shown.begin(trial)
        for number in order:
            ticking.now += 1
            outcome = Outcome("complete", "x", values[number], 1)
            study.tell(trials[number], outcome)
            shown.finish(number, outcome)
        assert not terminal or [one for one, is_best in rows(out) if is_best] == [best]
    assert f"best acc {short(values[best])}, trial {best}: " in out.getvalue()
    assert (study.best.number, best_of(study).number) == (best, best)
    found = status_of(study)
    assert found.best is not None
    assert (found.best.number, lines(found)[1]) == (
        best, f"best acc {short(values[best])}, trial {best}: lr=0.01235 act=relu",
    )  # fmt: skip


def test_drawing_is_rare(ticking: Clock) -> None:
    """Between two reports within a fifth of a second nothing is drawn; an end always is."""
    shown, out = table(terminal=True)
    with shown:
        trial = shown.study.ask()
        shown.open(trial, {})
        ticking.now += 0.3
        shown.report(1, {"acc": 0.1})
        size = len(out.getvalue())
        for step in range(2, 100):
            shown.report(step, {"acc": 0.1})
        shown.report(100, {"loss": 0.1})
        assert len(out.getvalue()) == size
        shown.study.tell(trial, Outcome("complete", "", 0.1, 99))
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
    earlier = 0 if before is None else 1
    shown, _ = table(terminal=True, mode=mode, done=earlier, best=before)
    with shown:
        for number, value in enumerate(values, start=earlier):
            train(shown, number, "complete", value, at=ticking)
        marked = [row.number for row in shown._shown() if row.is_best]
    assert marked == [0 if mark is None else mark + earlier]


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
    shown.ask()
    with pytest.raises(KeyboardInterrupt), shown:
        raise KeyboardInterrupt
    drawn, summary = out.getvalue().split("study digits: ")
    assert drawn.rstrip().endswith("\x1b[?25h")
    assert "\x1b" not in summary
    assert shown._live is not None
    assert not shown._live.is_started


class Notebook:
    """What a kernel offers to show things: `display`, and what it shows in the outputs of a cell."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.outputs: list[str] = []
        self.updates = 0
        module, shown = ModuleType("IPython"), ModuleType("IPython.display")
        vars(module).update(display=shown, get_ipython=lambda: SimpleNamespace(kernel=self))
        vars(shown).update(HTML=lambda text: text, display=self.display)
        monkeypatch.setitem(sys.modules, "IPython", module)
        monkeypatch.setitem(sys.modules, "IPython.display", shown)

    def display(self, text: str, *, display_id: bool) -> Notebook:
        """Show a new output, which has a handle."""
        assert display_id
        self.outputs.append(text)
        return self

    def update(self, text: str) -> None:
        """Replace it."""
        self.updates += 1
        self.outputs[-1] = text


def test_a_table_in_a_notebook(
    monkeypatch: pytest.MonkeyPatch, ticking: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """One output of the cell, replaced as trials begin and end, with a column a metric; names are no markup."""
    notebook = Notebook(monkeypatch)
    study = Study("two", {"act": th.Choice(["<b>x</b>", f"{ESCAPES}<i>"])}, metric=["acc<i>", "late"],
                  mode=["max", "min"], search="random", seed=1, storage=optuna.storages.InMemoryStorage())  # fmt: skip
    with Progress(study, total=3) as shown:
        for values in ((0.5, 3.0), (0.75, 2.0)):
            trial = study.ask()
            shown.open(trial, {})
            ticking.now += 1
            outcome = Outcome("complete", "", values[0], 1, values=values)
            study.tell(trial, outcome)
            shown.close(outcome)
        trial = study.ask()
        shown.open(trial, {})
        study.tell(trial, failed := Outcome("failed", "ValueError: x"))
        shown.close(failed)
    (page,) = notebook.outputs
    assert notebook.updates >= 2
    heads = re.findall(r"<th [^>]*>(.*?)</th>", page)
    assert heads == ["trial", "state", "act", "acc&lt;i&gt;", "late", "step", "seconds"]
    found = [re.findall(r"<td [^>]*>(.*?)</td>", line) for line in re.findall(r"<tr>(.*?)</tr>", page)[1:]]
    assert [[line[0], line[1], *line[3:]] for line in found] == [
        ["0", "complete", "0.5", "3", "1", "1.0"], ["1 *", "complete", "0.75", "2", "1", "1.0"],
        ["2", "failed", "-", "-", "-", "0.0"],
    ]  # fmt: skip
    assert "<p>2 of 3 trials, front 1 (*)" in page
    assert not re.search(r"<(?!/?(table|caption|thead|tbody|tr|th|td|p)\b)", page)
    assert not UNSEEN.search(page)
    told = capsys.readouterr().err
    assert "trial 0: complete" not in told
    assert re.search(r"^\[2/3\] trial 2: failed, .*; ValueError: x\n", told)
    assert "\nstudy two: 2 of 3 trials finished (2 complete, 1 failed)\n" in told


def test_several_metrics_in_the_table(ticking: Clock) -> None:
    """Each has a column, and the trials of the front are marked and stay."""
    shown, out = table(True, total=40)
    study = Study("two", {"x": th.Float(0, 1)}, metric=["acc", "late"], mode=["max", "min"], search="random", seed=1,
                  storage=optuna.storages.InMemoryStorage())  # fmt: skip
    study.tell(study.ask(), Outcome("complete", "", 0.9, 1, values=(0.9, 3.0)))
    with Progress(study, total=3, is_live=True, console=shown._console) as progress:
        trial = study.ask()
        progress.begin(trial)
        ticking.now += 1
        outcome = Outcome("complete", "", 0.5, 2, values=(0.5, 5.0))
        study.tell(trial, outcome)
        progress.finish(trial.number, outcome)
    lines = [line for line in out.getvalue().splitlines() if "complete" in line and "│" in line]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines[-2:]]
    assert [[one[0], *one[3:]] for one in cells] == [["0 *", "0.9", "3", "1", "-"], ["1", "0.5", "5", "2", "1.0"]]
