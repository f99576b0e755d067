"""How a search goes: one line a trial that ends, or a live table, and at the end where the study stands.

A table only where nothing trains: trainings write on the terminal as they like, progress bars among them, and two that
move its cursor tear each other. Beside a table, streams and handlers are replaced while it is there, those that hold
the old stream too; rich alone would miss those, take a file for the terminal, and wrap lines a second time.
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.ansi import AnsiDecoder
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tunehook.launch.notebook import NotebookTable, is_notebook, page_of
from tunehook.record import Recorder
from tunehook.system import Forgiving, Row, clock, make_table, printable, short, shortened, told_values, written_above
from tunehook.trial import FinishedTrial, Outcome, Standing, StudyError, Trial, count_line

if TYPE_CHECKING:
    from tunehook.launch.led import Shown

_ROWS = 12  # trials in the table at most; one that is taller than the terminal does not stay in place
_AROUND = 9  # lines around them: the title, names in up to three lines, rules, and two lines below
_INDENT = " " * 4
_TOLD = ("failed", "infeasible", "interrupted")  # whose reason is said beside a table in a notebook
_REFRESH = 0.2  # seconds; no thread, so that training pays only where it reports
_LOOK = 1.0  # seconds between two looks at what other processes have done


class Progress(Recorder):
    """Shows trials as they run; a recorder beside the others.

    Each trial that ends is one line. Where the trials run in processes of their own and this one has a terminal, it is
    a table that stays in place instead. In a notebook it is a table too, with a line for each trial that gave nothing.
    At the end stands where the study is, and its best trial. Counts and the best trial are those of the study, with
    what other processes have done.

    Args:
        study: The study.
        total: Number of trials to come to, ``None`` where it is not known.
        is_live: Whether the trials run elsewhere, so that nothing but their table is written on the terminal.
        console: Where to write. Defaults to standard error, so that a script's own output stays clean.
    """

    def __init__(
        self, study: Shown, *, total: int | None, is_live: bool = False, console: Console | None = None
    ) -> None:
        self._study, self._total = study, total
        # By its file: one that looks standard error up would find what is written above the table.
        self._console = console or Console(file=Forgiving(sys.stderr))  # type: ignore[arg-type] # a stream to rich
        self._standing = study.standing()
        self._before = self._standing.finished
        self._rows: dict[int, dict[str, Any]] = {}
        self._began = self._drawn = self._looked = time.monotonic()
        self._number = -1
        is_fit = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) \
            if is_live and is_fit else None  # fmt: skip
        # A training writes to another output of the cell, so the table is never in its way.
        self._page = NotebookTable() if console is None and is_notebook() else None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        if self._shown():
            self._draw(is_last=True)
        self._stack.close()
        for line in summary(self._study, self._standing, self._total):
            self._say(line)

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        """Show a trial that begins, the one that `report` and `close` are about."""
        self._number = trial.number
        self.begin(trial)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the newest value of the tuned metric."""
        if self._study.metric in metrics:
            self.measure(self._number, step, metrics[self._study.metric])

    def close(self, outcome: Outcome) -> None:
        """Show how the trial ended."""
        self.finish(self._number, outcome)

    def begin(self, trial: Trial) -> None:
        """Show one of several trials."""
        self._rows[trial.number] = {"params": trial.params, "state": "running", "value": None, "step": None,
                                    "began": time.monotonic(), "took": None, "others": {}}  # fmt: skip
        self._draw()

    def measure(self, number: int, step: int, value: float) -> None:
        """Show the newest value of the tuned metric of one of several trials."""
        self._rows[number].update(step=step, value=value)
        self._draw()

    def finish(self, number: int, outcome: Outcome) -> None:
        """Show how one of several trials ended."""
        row = self._rows[number]
        row.update(state=outcome.state, value=outcome.value, step=outcome.step, reason=outcome.reason)
        row["others"] = dict(zip(self._study.others, outcome.values[1:], strict=False))
        row["took"] = time.monotonic() - row["began"]
        self._look()
        self._draw(force=True)
        if self._live is None and (self._page is None or outcome.state in _TOLD):
            self._say(self._line(number, row))
        past = [one for one, other in self._rows.items() if other["state"] != "running"]
        for old in past[:-_ROWS]:
            del self._rows[old]

    def refresh(self) -> None:
        """Draw again, so that the seconds go on where no trial reports."""
        if (self._live or self._page) and time.monotonic() - self._looked > _LOOK:
            self._look()
        self._draw()

    def where(self) -> str | None:
        """A table on a screen lies nowhere."""
        return None

    def _look(self) -> None:
        """See what the study has now; where its storage is away, what it had."""
        self._looked = time.monotonic()
        with contextlib.suppress(StudyError):
            self._standing = self._study.standing()

    def _line(self, number: int, row: Mapping[str, Any]) -> str:
        total = f"/{self._total}" if self._total else ""
        called = shortened(list(row["params"])) if self._console.is_terminal else {}
        values = told_values({called.get(name, name): value for name, value in row["params"].items()})
        metrics = ", ".join(f"{name} {short(value)}" for name, value in
                            {self._study.metric: row["value"], **row["others"]}.items())  # fmt: skip
        return (
            f"[{self._standing.finished}{total}] trial {number}: {row['state']}, {metrics} "
            f"({values}; {row['took']:.1f} s); {self._best()}"
        ) + ("" if row["state"] in ("complete", "pruned") else f"; {row['reason']}")

    def _say(self, line: str) -> None:
        """Write a line; on a terminal that is narrower it goes on below, and no word is broken."""
        line = printable(line)
        if self._console.is_terminal:
            width = max(self._console.width, 2 * len(_INDENT))
            line = textwrap.fill(line, width, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False)
        self._console.print(Text(line), soft_wrap=True)

    @property
    def _value(self) -> float | None:
        return None if self._standing.best is None else self._standing.best.value

    def _best(self, metric: str = "") -> str:
        if self._study.others:
            return f"front {len(self._standing.front)}"
        return f"best {metric} {short(self._value)}" if metric else f"best {short(self._value)}"

    def _draw(self, *, force: bool = False, is_last: bool = False) -> None:
        is_due = force or is_last or time.monotonic() - self._drawn > _REFRESH
        if (self._live is None and self._page is None) or not is_due:
            return
        self._drawn = time.monotonic()
        title, names, metrics = f"study {self._study.name}", self._study.space.names, [*self._study.others]
        if self._page is not None:
            self._page.show(page_of(title, self._shown(), names, [self._study.metric, *metrics], self._pace()))
        if self._live is None:
            return
        if not self._live.is_started:
            self._stack.callback(self._live.stop)  # last, after what was begun above it is written
            self._stack.enter_context(written_above(self._write))
            self._live.start()
        width = self._console.width
        table = make_table(title, self._shown(), names, self._study.metric, others=metrics, width=width)
        self._live.update(table if is_last else Group(table, Text(printable(self._pace()))), refresh=True)

    def _write(self, lines: str) -> None:
        """Write lines above the table, as they are: the terminal breaks those that are too long for it."""
        decode = AnsiDecoder().decode_line
        texts = [decode(line.rstrip("\r")) for line in lines.split("\n")]
        # In a group, since the console would put texts together again, to wrap them.
        self._console.print(Group(Text("\n", no_wrap=True, overflow="ignore").join(texts)), crop=False)

    def _shown(self) -> list[Row]:
        """The best trial, those that run and the newest of the others, as many as there is room for."""
        rows = {number: self._row(number) for number in self._rows}
        room = max(2, min(_ROWS, self._console.height - _AROUND))
        top = self._top[-(room // 2) :]  # of a large front the newest
        for one in top:
            rows.setdefault(one.number, _row_of(one, [*self._study.others]))
        first = [one.number for one in top]
        first += [number for number, row in reversed(rows.items()) if row.state == "running"]
        order = list(dict.fromkeys([*first, *reversed(self._rows)]))
        return [rows[number] for number in sorted(order[:room])]

    def _row(self, number: int) -> Row:
        row = self._rows[number]
        took = row["took"] if row["took"] is not None else time.monotonic() - row["began"]
        is_best = number in [one.number for one in self._top]
        return Row(
            number, row["state"], row["params"], row["value"], row["step"], f"{took:.1f}", is_best, row["others"]
        )

    @property
    def _top(self) -> Sequence[FinishedTrial]:
        """The best trial, or those of the front."""
        best = self._standing.best
        return self._standing.front if best is None else [best]

    def _pace(self) -> str:
        finished = self._standing.finished
        new = finished - self._before
        each = (time.monotonic() - self._began) / new if new else None
        parts = [f"{finished}" + (f" of {self._total}" if self._total else "") + " trials"]
        parts.append(self._best(self._study.metric) + (" (*)" if self._top else ""))
        if each is not None:
            parts.append(f"{each:.1f} s a trial")
            if self._total:
                parts.append(f"{clock((self._total - finished) * each)} left")
        return ", ".join(parts)


def _row_of(best: FinishedTrial, others: Sequence[str]) -> Row:
    """The row of a trial that another process, or an earlier one, has trained."""
    further = dict(zip(others, best.values[1:], strict=False))
    return Row(best.number, "complete", best.params, best.value, best.outcome.step, "-", is_best=True, others=further)


def summary(study: Shown, standing: Standing, total: int | None) -> list[str]:
    """Where a study stands, in lines: how many trials there are, the best one, and where its record is."""
    lines = [count_line(study.name, standing.counts, standing.finished, total)]
    best = standing.best
    lines += front_lines([study.metric, *study.others], standing)
    if best is not None:
        lines.append(f"best {study.metric} {short(best.value)}, trial {best.number}: {told_values(best.params)}")
        with contextlib.suppress(StudyError):
            lines += [f"record: {_nearby(place)}" for place in study.records(best.number)]
    return lines


def front_lines(metrics: Sequence[str], standing: Standing) -> list[str]:
    """The front of a study with several metrics, a line for each trial."""
    count = len(standing.front)
    head = (
        [f"front: {count} of the complete trials {'is' if count == 1 else 'are'} beaten by no other"] if count else []
    )
    return head + [
        f"  trial {one.number}: "
        + " ".join(f"{name}={short(value)}" for name, value in zip(metrics, one.values, strict=False))
        + f" ({told_values(one.params)})"
        for one in standing.front
    ]


def _nearby(place: str) -> str:
    """A path as seen from the working directory, if it is below."""
    with contextlib.suppress(OSError, ValueError):
        return str(Path(place).relative_to(Path.cwd()))
    return place
