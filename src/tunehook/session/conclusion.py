"""What a training comes to that has ended: a trial that measured nothing is told what it lacks."""

from __future__ import annotations

import logging
import math
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tunehook.inject import unread_values
from tunehook.system import did_you_mean, near
from tunehook.trial import Decision, Outcome, Trial, TrialError, describe, holds_numbers, returned_value

log = logging.getLogger("tunehook")

_NO_FIT = (
    "search='pbt' goes on from checkpoints of a fit, and the training has called none.\n"
    "  Add TuneCallback() to the callbacks of the Trainer or of model.fit inside the training function."
)


@dataclass
class Heard:
    """What a training has said besides its measurements.

    Attributes:
        returned: The value that the training function returned.
        unused: Names of the space that a training without a fit did not read.
        logged: Metrics that exist, where the tuned one is none of them.
        others: What it returned of further metrics.
    """

    returned: float | None = None
    unused: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    others: dict[str, float] = field(default_factory=dict)

    def take(self, result: object, trial: Trial, *, is_driven: bool) -> None:
        """Take what a training function returned; see `TrialSession.take_result`."""
        self.returned = returned_value(result, trial.metric)
        self.unused = [] if is_driven else list(unread_values(trial))
        if isinstance(result, Mapping):
            values = {name: returned_value(result, name) for name in (*trial.others, *trial.limits)}
            self.others = {name: value for name, value in values.items() if value is not None}
        if self.returned is None and not self.others and holds_numbers(result):
            log.warning(
                "%s: train returned %s, which is not used: return a number, or a dict with '%s'.",
                trial.name, reprlib.repr(result), trial.metric,
            )  # fmt: skip


def conclude(
    trial: Trial,
    heard: Heard,
    decision: Decision,
    measured: tuple[float, int] | tuple[None, None],
    *,
    exception: BaseException | None = None,
    last: int = 0,
    is_driven: bool = True,
) -> Outcome:
    """How a trial ended.

    Args:
        trial: The trial.
        heard: What its training said.
        decision: The last answer to it.
        measured: The value that counts and where it was measured, if there is one.
        exception: What ended the training, ``None`` where it returned.
        last: The step of the last measurement.
        is_driven: Whether a fit has begun.
    """
    value, step = measured
    if exception is not None:
        return describe(exception, value=value, step=step)
    if decision.stop:
        return Outcome(decision.state, decision.reason, value, step)
    if trial.lineage is not None:  # its intervals are told apart by what is measured in them
        if not is_driven:
            return Outcome("failed", _NO_FIT)
        heard = Heard(logged=heard.logged)
    if heard.returned is not None and heard.unused:
        return Outcome("failed", _why_unused(trial, heard.unused))
    if heard.returned is not None:
        value, step = heard.returned, last or None
        if not math.isfinite(value):
            return Outcome("infeasible", f"train returned {value}")
    if value is None:
        return Outcome("failed", _why_nothing(trial, heard.logged, is_driven=is_driven))
    return Outcome("complete", "trained to its end", value, step)


def missing(metric: str, metrics: Iterable[str]) -> TrialError:
    """The error for a tuned metric that is not among those that were logged."""
    hint = did_you_mean(near(metric, metrics))
    return TrialError(
        f"The study tunes the metric '{metric}', but the training did not log it.{hint}\n"
        f"  Metrics that exist: {', '.join(sorted(metrics)) or '(none)'}.\n"
        f"  Log '{metric}' in every epoch, or name one of these as Study(..., metric=...)."
    )


def _why_unused(trial: Trial, unused: list[str]) -> str:
    name = unused[0]
    return (
        f"The training returned a value, but nothing used {', '.join(map(repr, unused))} of the space.\n"
        f"  Read such values: th.value({name!r}, {trial.params[name]!r}); "
        "or add TuneCallback() to the callbacks of the fit."
    )


def _why_nothing(trial: Trial, logged: list[str], *, is_driven: bool) -> str:
    if not is_driven:
        return (
            "The training returned without a TuneCallback, so no value was used and nothing was measured.\n"
            "  Add TuneCallback() to the callbacks of the Trainer or of model.fit inside the training function."
        )
    if logged:
        return f"{missing(trial.metric, logged)}\n  Or return its value from the training function."
    return (
        f"The training returned, but the metric '{trial.metric}' was never reported.\n"
        "  Train at least one epoch, and log the metric in it."
    )
