"""What the end of a trial means: what an exception says, and what a training returned."""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunehook.system import first_line
from tunehook.trial.errors import InjectionError, JournalError, StorageAway, StorageError, StudyError, TrialError
from tunehook.trial.objective import State
from tunehook.trial.values import Outcome

# Names of the exceptions by which torch, TensorFlow and JAX say that memory ran out.
_OUT_OF_MEMORY = {"OutOfMemoryError", "ResourceExhaustedError", "MemoryError"}
# What interruptions are called: Python's, Lightning's and ours.
_SIGNALS = {"KeyboardInterrupt": "Ctrl-C", "SIGTERMException": "SIGTERM", "Terminated": "SIGTERM"}
# None of them is the training's own fault.
_INTERRUPTIONS = (KeyboardInterrupt, SystemExit, StorageAway, StorageError, JournalError)
_OUT_OF_MEMORY_TEXTS = ("out of memory", "can't allocate memory", "resource_exhausted")


# Every trial would end so: the script has to change.
MISUSE = (InjectionError, TrialError)
_OURS = (*MISUSE, StudyError, JournalError)
# Modules of frameworks, and of what stands between their frames and ours.
_FRAMEWORKS = {"lightning", "pytorch_lightning", "lightning_fabric", "keras", "torch", "tensorflow", "jax", "tunehook"}
# What tells that something is wrong by itself, not a file, a device or a connection.
_CERTAIN = (ValueError, TypeError, NotImplementedError, AttributeError, LookupError, AssertionError)


@contextlib.contextmanager
def injecting(names: Sequence[str]) -> Iterator[None]:
    """Tell what goes wrong while values are put in, or looked for, as such: it would in every trial.

    Args:
        names: The hyperparameters, for messages.

    Raises:
        InjectionError: In place of any other error, but those that say what they are, and memory that ran out.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, _OURS) or is_out_of_memory(error):
            raise
        raise InjectionError(
            f"{', '.join(names)} cannot be injected: {_in_one_line(error)}\n"
            "  That was raised while the values were put in, by an object that has to be read or made again for it: "
            "mend it, or take the names out of the space."
        ) from error


def told_apart(error: BaseException, injected: Mapping[str, Any]) -> BaseException:
    """An error of a training that has measured nothing, turned into ours where only a change of the script can mend it.

    That is what a framework raises by itself, with no code of the user's between its ``fit`` and the error, where it
    names an injected value, or says that it is not set up well.

    Args:
        error: What ended the training.
        injected: The injected values by slot path.
    """
    if isinstance(error, _OURS) or not _is_of_framework(error):
        return error
    text = _in_one_line(error)
    named = [f"{path} = {value!r}" for path, value in injected.items() if _names(text, path.rpartition(".")[2])]
    told: Exception
    if named and isinstance(error, _CERTAIN):
        told = InjectionError(
            f"{', '.join(named)} cannot be used: {text}\n"
            "  The framework says so before anything is measured, and would in every trial: remove what it names from "
            "the training, or take the name out of the space."
        )
    elif any(kind.__name__ == "MisconfigurationException" for kind in type(error).__mro__):
        told = TrialError(
            f"The framework refuses the training before anything is measured: {text}\n"
            "  It would in every trial: mend the script and start it again."
        )
    else:
        return error
    told.__cause__ = error
    return told


def _is_of_framework(error: BaseException) -> bool:
    """Whether a framework raised it within its ``fit``, with no code of the user's in between."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    last = max((at for at, frame in enumerate(frames) if not _is_known(frame.f_globals.get("__name__"))), default=-1)
    # What a loader's process raises comes without the frames of the user's data.
    is_carried = str(error).startswith("Caught ")
    return not is_carried and any(frame.f_code.co_name == "fit" for frame in frames[last + 1 :])


def _is_known(module: object) -> bool:
    top = str(module).partition(".")[0]
    return top in _FRAMEWORKS or (top in sys.stdlib_module_names and top != "__main__")


def _names(text: str, name: str) -> bool:
    """Whether a message names a setting, and does not only use the word."""
    word = rf"\b{re.escape(name)}\b"
    return re.search(word if "_" in name else rf"[`'\"]{word}[`'\"]|{word} ?=", text) is not None


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text if len(text) <= 500 else text[:497] + '...'}" if text else name


def is_misuse(outcome: Outcome) -> bool:
    """Whether a trial ended since the script has to change; an error of another process is known by its name only."""
    return outcome.state == "failed" and outcome.reason.startswith(tuple(f"{kind.__name__}:" for kind in MISUSE))


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

    Memory that ran out is infeasible; Ctrl-C, SIGTERM, ``sys.exit``, and a storage or journal that cannot be used, as
    on a full disk, are an interruption; all else is a failure.

    Args:
        exception: What ended the training.
        value: The objective up to then.
        step: The step of that value.
    """
    name = type(exception).__name__
    said = first_line(exception)
    reason = f"{name}: {said}" if said else name
    if name == "ProcessRaisedException":  # of torch's spawn: what the process raised stands last in its traceback
        raised = [
            line for line in str(exception).splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)
        ]
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
