"""The live table of a search: one line a trial, the best one, the pace."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tunehook.record import Recorder
from tunehook.trial import Mode, Outcome, Trial

_ROWS = 12  # the newest trials; a table that is taller than the terminal does not stay in place
_REFRESH = 0.2  # seconds; no thread, so that training pays only where it reports
_STYLES = {
    "running": "cyan", "complete": "green", "pruned": "yellow", "infeasible": "magenta", "failed": "red",
    "interrupted": "yellow",
}  # fmt: skip


class Progress(Recorder):
    """Shows trials as they run; a recorder beside the others.

    On a terminal it is a table that stays in place; elsewhere each trial that ends is one line.

    Args:
        title: Heading, the study's name.
        names: Names of the hyperparameters, in order.
        metric: Name of the tuned metric.
        mode: ``"min"`` or ``"max"``.
        total: Number of trials to come to, ``None`` where it is not known.
        done: How many of them were finished before.
        best: Best value before.
        console: Where to write. Defaults to standard error, so that a script's own output stays clean.
    """

    def __init__(
        self,
        title: str,
        names: Sequence[str],
        *,
        metric: str,
        mode: Mode,
        total: int | None,
        done: int = 0,
        best: float | None = None,
        console: Console | None = None,
    ) -> None:
        self._title, self._names, self._metric, self._mode, self._total = title, list(names), metric, mode, total
        self._console = console or Console(stderr=True)
        self._done, self._before, self._best = done, done, best
        self._best_number: int | None = None
        self._rows: dict[int, dict[str, Any]] = {}
        self._began = self._drawn = time.monotonic()
        self._number = -1
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._draw(force=True)
            self._live.stop()

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        """Show a trial that begins, the one that `report` and `close` are about."""
        self._number = trial.number
        self.begin(trial)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the newest value of the tuned metric."""
        if self._metric in metrics:
            self.measure(self._number, step, metrics[self._metric])

    def close(self, outcome: Outcome) -> None:
        """Show how the trial ended."""
        self.finish(self._number, outcome)

    def begin(self, trial: Trial) -> None:
        """Show one of several trials."""
        self._rows[trial.number] = {"params": trial.params, "state": "running", "value": None, "step": None,
                                    "began": time.monotonic(), "took": None}  # fmt: skip
        self._draw()

    def measure(self, number: int, step: int, value: float) -> None:
        """Show the newest value of the tuned metric of one of several trials."""
        self._rows[number].update(step=step, value=value)
        self._draw()

    def finish(self, number: int, outcome: Outcome) -> None:
        """Show how one of several trials ended."""
        row = self._rows[number]
        row.update(state=outcome.state, value=outcome.value, step=outcome.step, reason=outcome.reason)
        row["took"] = time.monotonic() - row["began"]
        self._done += outcome.state not in ("interrupted", "failed")
        if outcome.state == "complete" and self._is_better(outcome.value):
            self._best, self._best_number = outcome.value, number
        self._draw(force=True)
        if self._live is None:
            self._console.print(Text(self._line(number, row)), soft_wrap=True)
        past = [one for one, other in self._rows.items() if other["state"] != "running"]
        for old in past[:-_ROWS]:
            del self._rows[old]

    def refresh(self) -> None:
        """Draw again, so that the seconds go on where no trial reports."""
        self._draw()

    def where(self) -> str | None:
        """A table on a screen lies nowhere."""
        return None

    def _is_better(self, value: float | None) -> bool:
        if value is None or self._best is None:
            return value is not None
        return value < self._best if self._mode == "min" else value > self._best

    def _line(self, number: int, row: Mapping[str, Any]) -> str:
        values = " ".join(f"{name}={short(row['params'][name])}" for name in self._names)
        total = f"/{self._total}" if self._total else ""
        return (
            f"[{self._done}{total}] trial {number}: {row['state']}, {self._metric} {short(row['value'])} "
            f"({values}; {row['took']:.1f} s); best {short(self._best)}"
        ) + ("" if row["state"] in ("complete", "pruned") else f"; {row['reason']}")

    def _draw(self, *, force: bool = False) -> None:
        if self._live is None or not (force or time.monotonic() - self._drawn > _REFRESH):
            return
        self._drawn = time.monotonic()
        self._live.update(Group(self._table(), self._pace()), refresh=True)

    def _table(self) -> Table:
        # Text throughout: rich would read [...] in names, values and reasons as markup.
        table = Table(title=Text(f"study {self._title}"), title_justify="left", expand=False)
        table.add_column("trial", justify="right")
        table.add_column("state")
        for name in self._names:
            table.add_column(Text(name), justify="right", overflow="ellipsis", max_width=20)
        for name in (self._metric, "step", "seconds"):
            table.add_column(Text(name), justify="right")
        for number, row in list(self._rows.items())[-_ROWS:]:
            took = row["took"] if row["took"] is not None else time.monotonic() - row["began"]
            mark = " *" if number == self._best_number else ""
            table.add_row(
                f"{number}{mark}", Text(row["state"], style=_STYLES[row["state"]]),
                *(Text(short(row["params"][name])) for name in self._names),
                short(row["value"]), short(row["step"]), f"{took:.1f}",
            )  # fmt: skip
        return table

    def _pace(self) -> Text:
        new = self._done - self._before
        each = (time.monotonic() - self._began) / new if new else None
        parts = [f"{self._done}" + (f" of {self._total}" if self._total else "") + " trials"]
        parts.append(f"best {self._metric} {short(self._best)}" + ("" if self._best_number is None else " (*)"))
        if each is not None:
            parts.append(f"{each:.1f} s a trial")
            if self._total:
                parts.append(f"{clock((self._total - self._done) * each)} left")
        return Text(", ".join(parts))


def short(value: Any) -> str:
    """A value as people want to read it in a table: four significant digits, lists and dicts as they are."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """A duration as ``h:mm:ss`` or ``m:ss``."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
