"""One picture of a study, from its storage and the journals that can be read here. Nothing here writes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tunehook.figures import COUNTERS, Curve, TrialView
from tunehook.record import Config, Ended, Events, Process, Report, Taken
from tunehook.storage import stored_attempt
from tunehook.system import given_values
from tunehook.trial import Outcome, objective_value

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tunehook.snapshot import Snapshot
    from tunehook.storage import Ledger


def view_trial(ledger: Ledger, frozen: FrozenTrial, events: Events) -> TrialView:
    """A trial as it is looked at.

    Args:
        ledger: The storage.
        frozen: The trial there.
        events: Its journal; none where that lies on another machine.
    """
    outcome = ledger.outcome_of(frozen)
    curves = _curves(events)
    if ledger.metric not in curves and frozen.intermediate_values:
        curves[ledger.metric] = Curve([*frozen.intermediate_values], [*frozen.intermediate_values.values()])
    if outcome.state == "running" and ledger.metric in curves:
        curve = curves[ledger.metric]
        series = [*zip(curve.steps, curve.values, strict=True)]
        value, step = objective_value(series, ledger.mode, ledger.objective) or (None, None)
        outcome = dataclasses.replace(outcome, value=value, step=step)
    begin, process, end = events.begin, events.last(Process), events.last(Ended)
    return TrialView(
        frozen.number, ledger.space.decode(frozen.params), outcome,
        began=_seconds(frozen.datetime_start) or (None if begin is None else begin.time),
        ended=_seconds(frozen.datetime_complete) or (None if end is None else end.time),
        host="" if process is None else process.host, attempt=stored_attempt(frozen) or 0,
        is_given=bool(begin.is_given if begin is not None else given_values(frozen)),
        curves={name: one for name, one in curves.items() if name not in COUNTERS}, epochs=_epochs(curves),
        values=dict(zip([ledger.metric, *ledger.others], outcome.values, strict=False)),
        lineage=ledger.lineage_of(frozen),
    )  # fmt: skip


def effective_of(events: Events) -> dict[str, Any]:
    """What was in force in a trial, by slot path; nothing where its journal does not say it."""
    return next((dict(config.effective) for config in events.all(Config)), {})


def versions_of(events: Events) -> dict[str, str]:
    """The versions that a trial trained with; nothing where its journal does not say it."""
    return next(({name: str(one) for name, one in config.versions.items()} for config in events.all(Config)), {})


def read_snapshots(events: Events) -> list[Snapshot]:
    """The snapshots of a trial that are whole."""
    return [one.snapshot for one in events.all(Taken) if one.is_whole]


def row_of(trial: TrialView) -> dict[str, Any]:
    """A trial as a row of a table, with the last finite value of each metric.

    Moments are those of UTC in ISO 8601, durations are in seconds.
    """
    last = {name: [one for one in curve.values if math.isfinite(one)][-1:] for name, curve in trial.curves.items()}
    return {
        "number": trial.number, "state": trial.state, "value": trial.value,
        "reason": trial.outcome.reason, **({} if trial.lineage is None else trial.lineage.describe()),
        "step": trial.outcome.step, "began": _moment(trial.began), "ended": _moment(trial.ended),
        "seconds": None if trial.seconds is None else round(trial.seconds, 3), "epochs": trial.epochs,
        "machine": trial.host, "attempt": trial.attempt, "is_given": trial.is_given,
        **{f"params.{name}": value for name, value in trial.params.items()},
        **{f"values.{name}": value for name, value in trial.values.items()},
        **{f"metrics.{name}": found[0] for name, found in last.items() if found},
    }  # fmt: skip


def columns_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The columns of rows from `row_of`, those of the metrics last.

    Args:
        rows: The rows, which may have other metrics each.
        names: Names of the space.
    """
    empty = row_of(TrialView(0, dict.fromkeys(names), Outcome("running")))
    return [*empty, *dict.fromkeys(name for row in rows for name in row if name not in empty)]


def _curves(events: Events) -> dict[str, Curve]:
    found: dict[str, dict[int, float]] = {}
    for report in events.all(Report):
        for name, value in report.metrics.items():
            found.setdefault(name, {})[report.step] = value
    return {name: Curve([*series], [*series.values()]) for name, series in found.items()}


def _epochs(curves: Mapping[str, Curve]) -> int | None:
    epochs = [one for one in curves["epoch"].values if math.isfinite(one)] if "epoch" in curves else []
    return int(max(epochs)) + 1 if epochs else None


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
