"""The attributes that tunehook writes into a storage, and reads back where they are of the kind that it writes.

What is not was written by someone else, or is damaged. It counts as not written, and is told once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunehook.record import (
    END,
    PROCESS,
    Is,
    as_outcome,
    has,
    is_flag,
    is_lineage,
    is_number,
    is_text,
    is_time,
    is_values,
    is_whole,
    is_wholes,
    maybe,
    one_of,
)
from tunehook.space import Space, SpaceError
from tunehook.system import shown
from tunehook.trial import Mode, Outcome, is_key

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial
    from optuna.trial import FrozenTrial

log = logging.getLogger("tunehook")

TOKEN = "tunehook:token"  # noqa: S105 - no secret
OWNER = "tunehook:owner"
# User attributes of a trial: how it ended; which attempt it is, and the key that all attempts share, where it is asked
# again; of an interrupted one, what is asked again, known before its end is.
OUTCOME = "tunehook:outcome"
ATTEMPT = "tunehook:attempt"
KEY = "tunehook:key"
AGAIN = "tunehook:again"
PAUSE = "tunehook:pause"  # of a trial that was paused: how often, when, and whether its checkpoint is kept
BRACKET = "tunehook:bracket"  # of a trial: with which others it is compared at rungs, where it is not the first one
RUNGS = "tunehook:rungs"  # of a trial that has come to the first: after how many reports it may be paused
LINEAGE = "tunehook:lineage"  # where a trial stands in a population
# Of a study: what `optimize` was asked for last.
PLAN = "tunehook:plan"
LEADER = "tunehook:leader"  # the process that has called `optimize` last
AGREED = "tunehook:agreed"  # by machine: below this number the storage and the journals there say the same
FEASIBLE = "feasible"  # the constraint that infeasible trials break

_told: set[tuple[str, str, str]] = set()


def _is_space(value: Any) -> bool:
    try:
        Space.from_description(value)
    except SpaceError:
        return False
    return True


def _one_or_all(value: Any, is_it: Is) -> bool:
    """Whether a value is of a kind, or a list of several that are."""
    return all(map(is_it, value)) if isinstance(value, list) and len(value) > 1 else is_it(value)


def is_description(value: object) -> bool:
    """Whether it says what a study searches, and how, as a study writes it."""
    fields = {
        "space": _is_space,
        "metric": lambda one: _one_or_all(one, lambda name: is_text(name) and name != ""),
        "mode": lambda one: _one_or_all(one, one_of(Mode)),
        "objective": lambda one: one in ("best", "last") if is_text(one) else is_whole(one) and one > 0,
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
    fields: dict[str, Is] = {"values": is_values, ATTEMPT: is_whole, KEY: is_key}
    found: dict[str, Any] | None = _of_trial(trial, AGAIN, lambda value: has(value, fields))
    return found


def stored_lineage(trial: FrozenTrial | AskedTrial) -> dict[str, Any] | None:
    """The place of a trial in its population: member, generation, interval and the number of its older parent."""

    def is_place(value: Any) -> bool:
        return is_lineage(value) and (value["parent"] is None or value["parent"] < trial.number)

    found: dict[str, Any] | None = _of_trial(trial, LINEAGE, is_place)
    return found


def stored_outcome(trial: FrozenTrial) -> Outcome | None:
    """How a trial ended, ``None`` where it was not told here."""
    kept = _of_trial(trial, OUTCOME, lambda value: has(value, END))
    if kept is None or (kept["state"] == "paused" and trial.state.name == "RUNNING"):  # it goes on
        return None
    return as_outcome(kept)


def stored_pause(trial: FrozenTrial | AskedTrial) -> dict[str, Any]:
    """How often a trial was paused, when last, and whether its checkpoint was kept; of one that never was, 0 times."""
    fields: dict[str, Is] = {"count": is_whole, "time": is_time, "is_kept": is_flag}
    return _of_trial(trial, PAUSE, lambda value: has(value, fields)) or {"count": 0, "time": 0.0, "is_kept": False}


def stored_bracket(trial: FrozenTrial) -> int:
    """With which other trials one is compared at its rungs."""
    found: int | None = _of_trial(trial, BRACKET, is_whole)
    return found or 0


def stored_rungs(trial: FrozenTrial) -> tuple[int, ...]:
    """After how many reports a trial may be paused; empty where that is not known."""
    return tuple(_of_trial(trial, RUNGS, is_wholes) or ())


def stored_owner(trial: FrozenTrial | AskedTrial) -> dict[str, Any] | None:
    """The process that asked for a trial: host, pid, time, and whether it had waited."""
    found: dict[str, Any] | None = _of_trial(trial, OWNER, lambda value: has(value, PROCESS))
    return found


def stored_plan(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What `optimize` was asked for last, by the attributes of the study; empty where that is not known."""
    fields = {"trials": maybe(is_whole), "grid": is_flag}
    return _checked("the study", attributes, PLAN, lambda value: has(value, fields)) or {}


def stored_agreed(attributes: Mapping[str, Any], host: str) -> int:
    """Below which number the storage and the journals of a machine say the same, by the attributes of the study."""
    found: int | None = _checked("the study", attributes, f"{AGREED}:{host}", is_whole)
    return found or 0


def stored_leader(attributes: Mapping[str, Any]) -> dict[str, Any] | None:
    """The process that has called `optimize` last, by the attributes of the study: host, pid and time."""
    found: dict[str, Any] | None = _checked("the study", attributes, LEADER, lambda value: has(value, PROCESS))
    return found


def stored_claim(attributes: Mapping[str, Any], name: str) -> tuple[str, float]:
    """Who has claimed a work on the whole study, and until when, by the attributes of the study."""

    def is_claim(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) == 2 and is_text(value[0]) and is_number(value[1])

    holder, until = _checked("the study", attributes, name, is_claim) or ("", 0.0)
    return holder, until


def _of_trial(trial: FrozenTrial | AskedTrial, name: str, is_ours: Is) -> Any:
    """An attribute of a trial, ``None`` where it is none of ours."""
    return _checked(f"trial {trial.number}", trial.user_attrs, name, is_ours)


def _checked(whose: str, attributes: Mapping[str, Any], name: str, is_ours: Is) -> Any:
    value = attributes.get(name)
    if value is None or is_ours(value):
        return value
    told = (whose, name, shown(value, most=80))
    if told not in _told:
        _told.add(told)
        log.warning(
            "The storage has a %s of %s that tunehook does not write, %s: it is left out.", name, whose, told[2]
        )
    return None
