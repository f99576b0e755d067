"""The further metrics of a trial: what they were where the first one counts, and whether they keep to their limits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from tunehook.record import Events, Report
from tunehook.trial import Mode, Objective, Outcome, Trial, value_beside


def with_others(trial: Trial, outcome: Outcome, objective: Objective, returned: Mapping[str, float]) -> Outcome:
    """An outcome with the values of all metrics, in their order, and by their limits.

    Each is what the training returned; else, from the journal, that of the report of which the first metric counts, or
    the nearest one before; by the same rule where that is the last ones.

    Args:
        trial: The trial.
        outcome: How it ended, by its first metric.
        objective: The rule for the value that counts.
        returned: What the training returned, by metric.

    Returns:
        The same where the trial has one metric and no limits. A complete trial that lacks one has failed; one with a
        value that is not finite, or beyond a limit, is infeasible, but for one that is paused, which may get within it.
    """
    more: dict[str, Mode] = {**dict.fromkeys(trial.limits, "min"), **trial.others}
    if not more or outcome.value is None or outcome.state in ("failed", "interrupted"):
        return outcome
    reports = Events.of_trial(trial).all(Report)
    found: dict[str, float] = {}
    for name, mode in more.items():
        series = [(one.step, one.metrics[name]) for one in reports if name in one.metrics]
        value = returned.get(name)
        value = value_beside(series, mode, objective, outcome.step or 0) if value is None else value
        if value is not None:
            found[name] = value
    found[trial.metric] = outcome.value
    lacking = next((name for name in more if name not in found), None)
    if lacking is not None and outcome.state == "complete":
        return _lacks(trial, lacking, reports)
    if trial.others and all(math.isfinite(found.get(name, math.nan)) for name in trial.others):
        outcome = dataclasses.replace(outcome, values=(outcome.value, *(found[name] for name in trial.others)))
    if outcome.state == "paused":
        return outcome
    broken = next((why for name, value in found.items() if (why := _broken(trial, name, value))), None)
    return outcome if broken is None else dataclasses.replace(outcome, state="infeasible", reason=broken)


def _broken(trial: Trial, name: str, value: float) -> str | None:
    """Why a value makes a trial infeasible, ``None`` where it does not."""
    if not math.isfinite(value):
        return f"{name} is {value}"
    low, high = trial.limits.get(name, (None, None))
    if low is not None and value < low:
        return f"{name} is {value:.6g}, below its limit of {low:g}"
    return f"{name} is {value:.6g}, above its limit of {high:g}" if high is not None and value > high else None


def _lacks(trial: Trial, name: str, reports: Sequence[Report]) -> Outcome:
    known = sorted({metric for one in reports for metric in one.metrics})
    what = "tunes the metric" if name in trial.others else "has a limit for the metric"
    return Outcome(
        "failed",
        f"The study {what} '{name}' too, but the training did not log it.\n"
        f"  Metrics that exist: {', '.join(known) or '(none)'}.\n"
        f"  Log '{name}', or return it from the training function in a dict with '{trial.metric}'.",
    )
