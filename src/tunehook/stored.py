"""What is read back from a storage or a journal, checked where it enters: it is of the kind that this package writes.

What is not was written by someone else, or is damaged. It counts as not written, and is told once. So a study can be
looked at whatever it holds, and nothing strange becomes a path, the id of a process or the end of a trial.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, get_args

from tunehook.snapshot import Snapshot
from tunehook.space import Space
from tunehook.storage import OWNER
from tunehook.trial import Mode, Outcome, State, is_key

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial
    from optuna.trial import FrozenTrial

log = logging.getLogger("tunehook")

# User attributes of a trial: how it ended; which attempt it is, and the key that all attempts share, where it is asked
# again; of an interrupted one, what is asked again, known before its end is.
OUTCOME = "tunehook:outcome"
ATTEMPT = "tunehook:attempt"
KEY = "tunehook:key"
AGAIN = "tunehook:again"
# Of a study: what `optimize` was asked for last.
PLAN = "tunehook:plan"
LEADER = "tunehook:leader"  # the process that has called `optimize` last

Is = Callable[[Any], bool]
_told: set[tuple[str, str, str]] = set()


def is_whole(value: object) -> bool:
    """Whether it is a whole number from 0."""
    return isinstance(value, int | Integral) and not isinstance(value, bool) and int(value) >= 0


def is_wholes(value: object) -> bool:
    """Whether it is a list of whole numbers from 0."""
    return isinstance(value, list) and all(map(is_whole, value))


def _is_pid(value: object) -> bool:
    return isinstance(value, int) and is_whole(value) and 0 < value < 2**31


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Real) and not isinstance(value, bool)  # those of NumPy, too


def _is_measured(value: object) -> bool:
    return _is_number(value) or value in ("NaN", "Infinity", "-Infinity")


def is_text(value: object) -> bool:
    """Whether it is a text."""
    return isinstance(value, str)


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def is_flag(value: object) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _is_values(value: object) -> bool:
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
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _is_outline(value: object) -> bool:
    return _is_table(value) and has(value, dict.fromkeys(("parameters", "gradients"), maybe(_is_table)))


def _one_of(names: object) -> Is:
    return lambda value: value in get_args(names)


def maybe(is_it: Is) -> Is:
    """The check for what may be missing."""
    return lambda value: value is None or is_it(value)


def has(value: object, fields: Mapping[str, Is]) -> bool:
    """Whether it has these fields, each of which passes its check."""
    return isinstance(value, dict) and all(is_it(value.get(name)) for name, is_it in fields.items())


_END: dict[str, Is] = {
    "state": _one_of(State), "reason": is_text, "value": maybe(_is_measured), "step": maybe(is_whole),
    "traceback": maybe(is_text),
}  # fmt: skip
_LINE: dict[str, Is] = {"event": is_text, "time": maybe(_is_number)}
_PROCESS: dict[str, Is] = {"pid": _is_pid, "host": is_text, "time": _is_number}
# The fields of each event of a journal; those of others, of later versions, are not known.
_EVENTS: dict[str, dict[str, Is]] = {
    "begin": {
        "trial": is_whole, "study": is_text, "key": is_text, "attempt": is_whole, "params": _is_table,
        "metric": is_text, "mode": _one_of(Mode), **_PROCESS,
    },
    "process": _PROCESS,
    "task": {**_PROCESS, "place": is_text},
    "config": {"effective": maybe(_is_table), "records": maybe(is_texts)},
    "recorder": {"recorder": is_text, "run": _is_table, "records": maybe(is_texts)},
    "synced": {"rows": is_whole},
    "continue": dict.fromkeys(("trial", "attempt", "step", "reports"), is_whole),
    "report": {"step": is_whole, "metrics": _is_metrics},
    "snapshot": {"step": is_whole, "snapshot": _is_outline},
    "decision": {"step": is_whole, "stop": is_flag, "state": _one_of(State), "reason": is_text},
    "checkpoint": {"path": _is_path, "size": is_whole, "changed": is_whole},
    "problem": {"text": is_text},
    "end": _END,
}  # fmt: skip


def is_event(value: Any) -> bool:
    """Whether it is an event of a journal, with the fields of its kind."""
    return has(value, _LINE) and has(value, _EVENTS.get(value["event"], {}))


def _is_space(value: Any) -> bool:
    try:
        Space.from_description(value)
    except (ValueError, TypeError, KeyError, AttributeError, SyntaxError, RecursionError):
        return False
    return True


def is_description(value: object) -> bool:
    """Whether it says what a study searches, and how, as a study writes it."""
    fields = {
        "space": _is_space,
        "metric": is_text,
        "mode": _one_of(Mode),
        "objective": lambda one: is_text(one) or is_whole(one),
    }
    return has(value, fields)


def stored_attempt(trial: FrozenTrial | AskedTrial) -> int | None:
    """Which attempt a trial is; ``None`` for one that was not asked again."""
    found: int | None = _of_trial(trial, ATTEMPT, is_whole)
    return found


def stored_key(trial: FrozenTrial | AskedTrial) -> str | None:
    """The key that a trial has of the first attempt, ``None`` for a first attempt."""
    found: str | None = _of_trial(trial, KEY, is_key)
    return found


def stored_again(trial: FrozenTrial) -> dict[str, Any] | None:
    """What is asked again for an interrupted trial: the values, and attempt and key under their names."""
    fields: dict[str, Is] = {"values": _is_values, ATTEMPT: is_whole, KEY: is_key}
    found: dict[str, Any] | None = _of_trial(trial, AGAIN, lambda value: has(value, fields))
    return found


def stored_outcome(trial: FrozenTrial) -> Outcome | None:
    """How a trial ended, ``None`` where it was not told here."""
    kept = _of_trial(trial, OUTCOME, lambda value: has(value, _END))
    if kept is None:
        return None
    value = None if kept.get("value") is None else float(kept["value"])
    return Outcome(kept["state"], kept["reason"], value, kept.get("step"), kept.get("traceback"))


def stored_owner(trial: FrozenTrial | AskedTrial) -> dict[str, Any] | None:
    """The process that asked for a trial: host, pid, time, and whether it had waited."""
    found: dict[str, Any] | None = _of_trial(trial, OWNER, lambda value: has(value, _PROCESS))
    return found


def stored_plan(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What `optimize` was asked for last, by the attributes of the study; empty where that is not known."""
    fields = {"trials": maybe(is_whole), "grid": is_flag}
    return _checked("the study", attributes, PLAN, lambda value: has(value, fields)) or {}


def stored_leader(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The process that has called `optimize` last, by the attributes of the study: host, pid and time."""
    found: dict[str, Any] | None = _checked("the study", attributes, LEADER, lambda value: has(value, _PROCESS))
    return found


def stored_claim(attributes: Mapping[str, Any], name: str) -> tuple[str, float]:
    """Who has claimed a work on the whole study, and until when, by the attributes of the study."""

    def is_claim(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == 2 and is_text(value[0]) and _is_number(value[1])

    holder, until = _checked("the study", attributes, name, is_claim) or ("", 0.0)
    return holder, until


def _of_trial(trial: FrozenTrial | AskedTrial, name: str, is_ours: Is) -> Any:
    """An attribute of a trial, ``None`` where it is none of ours."""
    return _checked(f"trial {trial.number}", trial.user_attrs, name, is_ours)


def _checked(whose: str, attributes: Mapping[str, Any], name: str, is_ours: Is) -> Any:
    value = attributes.get(name)
    if value is None or is_ours(value):
        return value
    told = (whose, name, repr(value)[:80])
    if told not in _told:
        _told.add(told)
        log.warning(
            "The storage has a %s of %s that tunehook does not write, %s: it is left out.", name, whose, told[2]
        )
    return None
