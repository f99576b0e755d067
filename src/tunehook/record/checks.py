"""What is read back from a storage or a file, checked where it enters: it is of the kind that this package writes.

What is not was written by someone else, or is damaged. It counts as not written. So a study can be looked at whatever
it holds, and nothing strange becomes a path, the id of a process or the end of a trial.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, TypeGuard, get_args

from tunehook.snapshot import Snapshot
from tunehook.trial import Mode, State

Is = Callable[[Any], bool]

_LAST_TIME = 253_370_764_800  # when the year 9999 begins


def is_whole(value: object) -> bool:
    """Whether it is a whole number from 0, of a size that databases and names of files take."""
    return isinstance(value, int | Integral) and not isinstance(value, bool) and 0 <= int(value) < 2**63


def is_wholes(value: object) -> bool:
    """Whether it is a list of whole numbers from 0."""
    return isinstance(value, list) and all(map(is_whole, value))


def _is_pid(value: object) -> bool:
    return isinstance(value, int) and is_whole(value) and 0 < value < 2**31


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number that a double holds."""
    if not isinstance(value, int | float | Real) or isinstance(value, bool):  # those of NumPy, too
        return False
    return not isinstance(value, int) or value.bit_length() < 1024


def is_time(value: object) -> bool:
    """Whether it is a time in seconds since 1970 that a `datetime` takes, whatever the time zone."""
    return is_number(value) and 0 <= value < _LAST_TIME


def _is_measured(value: object) -> bool:
    return is_number(value) or (isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"))


def is_text(value: object) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def is_path(value: object) -> bool:
    """Whether it is a text that may be the name of a file."""
    try:
        return isinstance(value, str) and value != "" and b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:  # half of a character
        return False


def is_flag(value: object) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def is_values(value: object) -> bool:
    """Whether it is plain values by name."""
    scalars = str | int | float | bool | None
    return isinstance(value, dict) and _is_table(value) and all(isinstance(one, scalars) for one in value.values())


def is_texts(value: object) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_metrics(value: object) -> bool:
    return isinstance(value, dict) and all(_is_measured(one) for one in value.values())


def is_snapshot(value: Any) -> bool:
    """Whether it is what `Snapshot.as_json` gives."""
    try:
        return is_whole(Snapshot.from_json(value).step)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False


def _is_outline(value: object) -> bool:
    return _is_table(value) and has(value, dict.fromkeys(("parameters", "gradients"), maybe(_is_table)))


def one_of(names: object) -> Is:
    """Whether it is one of the texts of a literal type."""
    return lambda value: isinstance(value, str) and value in get_args(names)


def maybe(is_it: Is) -> Is:
    """The check for what may be missing."""
    return lambda value: value is None or is_it(value)


def has(value: object, fields: Mapping[str, Is]) -> bool:
    """Whether it has these fields, each of which passes its check."""
    return isinstance(value, dict) and all(is_it(value.get(name)) for name, is_it in fields.items())


def is_modes(value: object) -> bool:
    """Whether it is modes by the names of metrics."""
    return isinstance(value, dict) and _is_table(value) and all(map(one_of(Mode), value.values()))


def is_lineage(value: Any) -> bool:
    """Whether it is where a trial stands in a population."""
    fields = {**dict.fromkeys(("member", "generation", "interval"), is_whole), "parent": maybe(is_whole)}
    return has(value, fields) and value.keys() == fields.keys()


END: dict[str, Is] = {
    "state": lambda value: one_of(State)(value) and value != "running",
    "reason": is_text, "value": maybe(_is_measured), "step": maybe(is_whole),
    "traceback": maybe(is_text),
    "values": maybe(lambda value: isinstance(value, list | tuple) and all(map(_is_measured, value))),
}  # fmt: skip
_LINE: dict[str, Is] = {"event": is_text, "time": maybe(is_time)}
PROCESS: dict[str, Is] = {
    "pid": _is_pid, "host": is_text, "time": is_time, "start": maybe(is_text), "space": maybe(is_text),
}  # fmt: skip
# The fields of each event of a journal; those of others, of later versions, are not known.
_EVENTS: dict[str, dict[str, Is]] = {
    "begin": {
        "trial": is_whole, "study": is_text, "key": is_text, "attempt": is_whole, "params": _is_table,
        "metric": is_text, "mode": one_of(Mode), "study_id": maybe(is_text), "is_given": maybe(is_flag),
        "lineage": maybe(is_lineage), "others": maybe(is_modes), **PROCESS,
    },
    "process": PROCESS,
    "task": {**PROCESS, "place": is_text},
    "config": {"effective": maybe(_is_table), "records": maybe(is_texts), "versions": maybe(_is_table)},
    "recorder": {"recorder": is_text, "run": _is_table, "records": maybe(is_texts)},
    "synced": {"rows": is_whole},
    "continue": dict.fromkeys(("trial", "attempt", "step", "reports"), is_whole),
    "report": {"step": is_whole, "metrics": _is_metrics},
    "snapshot": {"step": is_whole, "snapshot": _is_outline},
    "decision": {"step": is_whole, "stop": is_flag, "state": one_of(State), "reason": is_text},
    "checkpoint": {"path": is_path, "size": is_whole, "changed": is_whole},
    "saved": {"name": is_text, "digest": is_text},
    "problem": {"text": is_text},
    "end": END,
}  # fmt: skip


def is_event(value: Any) -> bool:
    """Whether it is an event of a journal, with the fields of its kind."""
    return has(value, _LINE) and has(value, _EVENTS.get(value["event"], {}))
