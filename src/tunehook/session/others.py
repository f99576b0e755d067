"""The further metrics of a trial with several: what they were where the first one counts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from tunehook.record import Events, Report
from tunehook.trial import Objective, Outcome, Trial, objective_value


def with_others(trial: Trial, outcome: Outcome, objective: Objective, returned: Mapping[str, float]) -> Outcome:
    """An outcome with the values of all metrics, in their order.

    Each is what the training returned; else, from the journal, that of the report of which the first metric counts, or
    the nearest one before; by the same rule where that is the last ones.

    Args:
        trial: The trial.
        outcome: How it ended, by its first metric.
        objective: The rule for the value that counts.
        returned: What the training returned, by metric.

    Returns:
        The same where the trial has one metric. A complete trial that lacks one has failed, and one with a value that
        is not finite is infeasible.
    """
    if not trial.others or outcome.value is None or outcome.state in ("failed", "interrupted"):
        return outcome
    reports = Events.of_trial(trial).all(Report)
    found: list[float | None] = [outcome.value]
    for name, mode in trial.others.items():
        series = [(one.step, one.metrics[name]) for one in reports if name in one.metrics]
        value = returned.get(name)
        if value is None and objective == "best":
            before = [one for step, one in series if step <= (outcome.step or 0)]
            value = before[-1] if before else series[0][1] if series else None
        elif value is None:
            counts = objective_value(series, mode, objective)
            value = series[-1][1] if counts is None and series else None if counts is None else counts[0]
        found.append(value)
    values = [one for one in found if one is not None]
    if len(values) == len(found):
        named = zip((trial.metric, *trial.others), values, strict=True)
        strange = next((f"{name} is {value}" for name, value in named if not math.isfinite(value)), "")
        if strange:
            return dataclasses.replace(outcome, state="infeasible", reason=strange)
        return dataclasses.replace(outcome, values=tuple(values))
    if outcome.state != "complete":
        return outcome
    name = next(name for name, one in zip((trial.metric, *trial.others), found, strict=True) if one is None)
    known = sorted({name for one in reports for name in one.metrics})
    return Outcome(
        "failed",
        f"The study tunes the metric '{name}' too, but the training did not log it.\n"
        f"  Metrics that exist: {', '.join(known) or '(none)'}.\n"
        f"  Log '{name}', or return it from the training function in a dict with '{trial.metric}'.",
    )
