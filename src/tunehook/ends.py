"""What the end of a trial means: the value that counts, and what an exception says."""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Mapping, Sequence
from typing import Literal

from tunehook.record import JournalError
from tunehook.storage import StorageAway
from tunehook.trial import Mode, Outcome, State, best_of

Objective = Literal["best", "last"] | int

# Names of the exceptions by which torch, TensorFlow and JAX say that memory ran out.
_OUT_OF_MEMORY = {"OutOfMemoryError", "ResourceExhaustedError", "MemoryError"}
# What interruptions are called: Python's, Lightning's and ours.
_SIGNALS = {"KeyboardInterrupt": "Ctrl-C", "SIGTERMException": "SIGTERM", "Terminated": "SIGTERM"}
# None of them is the training's own fault.
_INTERRUPTIONS = (KeyboardInterrupt, SystemExit, StorageAway, JournalError)
_OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "resource_exhausted")


class TrialError(RuntimeError):
    """The training does not do what tuning needs, such as logging the metric: the same would happen in every trial."""


def objective_value(series: Sequence[tuple[int, float]], mode: Mode, objective: Objective) -> tuple[float, int] | None:
    """The value that counts, and its step.

    Args:
        series: Steps and values of the tuned metric, in order; NaN and infinities do not count.
        mode: ``"min"`` or ``"max"``.
        objective: ``"best"``, ``"last"``, or k for the mean of the last k values (of all, where there are fewer).

    Returns:
        Value and step (of the best value, else of the last), or ``None`` where no value is finite.
    """
    finite = [(step, value) for step, value in series if math.isfinite(value)]
    if not finite:
        return None
    if objective == "best":
        first = best_of(finite, mode, value=lambda row: row[1]) or finite[0]
        return first[1], first[0]
    last = finite[-(1 if objective == "last" else int(objective)) :]
    return math.fsum(value for _, value in last) / len(last), last[-1][0]


def returned_value(result: object, metric: str) -> float | None:
    """The value of a trial, where its training function returned one.

    Args:
        result: What was returned: a number, an array or tensor of one element, or a mapping with the metric.
        metric: Name of the tuned metric.

    Returns:
        The value, NaN and infinities included; ``None`` where the result holds none.
    """
    if isinstance(result, Mapping):
        result = result.get(metric)
    if isinstance(result, bool) or result is None:
        return None
    if isinstance(result, int | float) or getattr(result, "shape", None) == ():
        try:
            return float(result)  # type: ignore[arg-type] # arrays and tensors without axes are numbers too
        except (TypeError, ValueError, OverflowError):
            return None
    return None


def holds_numbers(result: object) -> bool:
    """Whether a result looks like measurements: a container of numbers, or of mappings to them."""
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, list | tuple):
        return any(returned_value(one, "") is not None or holds_numbers(one) for one in result)
    return False


def describe(exception: BaseException, *, value: float | None = None, step: int | None = None) -> Outcome:
    """The outcome that an exception means.

    Memory that ran out is infeasible; Ctrl-C, SIGTERM, ``sys.exit``, a storage that is away and a journal that cannot
    be written, as on a full disk, are an interruption; all else is a failure.

    Args:
        exception: What ended the training.
        value: The objective up to then.
        step: The step of that value.
    """
    name = type(exception).__name__
    said = str(exception).strip().splitlines()
    reason = f"{name}: {said[0]}" if said else name
    if name == "ProcessRaisedException":  # of torch's spawn: what the process raised stands last in its traceback
        raised = [line for line in said if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
        reason = re.sub(r"^[\w.]*\.(?=\w+:)", "", raised[-1]) if raised else reason
    state: State = "failed"
    if is_out_of_memory(exception):
        state = "infeasible"
    elif isinstance(exception, _INTERRUPTIONS):
        state = "interrupted"
        reason = _SIGNALS.get(name, reason)
    text = "".join(traceback.format_exception(exception)) if state == "failed" else None
    return Outcome(state, reason, value, step, text)


def is_out_of_memory(exception: BaseException) -> bool:
    """Whether memory ran out, on the device or the host."""
    if any(kind.__name__ in _OUT_OF_MEMORY for kind in type(exception).__mro__):
        return True
    text = str(exception).lower()
    told = isinstance(exception, RuntimeError) or type(exception).__name__ == "ProcessRaisedException"
    return told and any(mark in text for mark in _OUT_OF_MEMORY_TEXTS)
