"""Rows of Optuna's tables, as `SqliteStorage` writes and reads them.

Whoever can write to the file may put anything there, so a row that nobody can read is left out and told.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import FrozenTrial, TrialState

from tunehook.record import is_number
from tunehook.system import from_json, shown, trial_id

log = logging.getLogger("tunehook")

# The schema whose tables the statements here read and write: Optuna's names for it, the old one and the one of today.
SCHEMA = (12, "v3.2.0.a")
NOT_FOUND = "Record does not exist."  # what a relational storage says of a trial or a study that it does not have
# How the tables store numbers that a FLOAT column cannot hold.
_NUMBERS = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}

TRIALS = "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials"


def put_param(
    db: sqlite3.Connection, trial_id: int, name: str, internal: float, distribution: BaseDistribution,
    previous: BaseDistribution | None = None,
) -> None:  # fmt: skip
    """Write a value of a trial, whose distribution goes together with those of the name in the study."""
    if previous is None:
        found = db.execute(
            "SELECT distribution_json FROM trial_params JOIN trials USING (trial_id)"
            " WHERE study_id = (SELECT study_id FROM trials WHERE trial_id = ?) AND param_name = ? LIMIT 1",
            (trial_id, name),
        ).fetchone()
        previous = None if found is None else readable_distribution(found[0])
    if previous is not None:
        check_distribution_compatibility(previous, distribution)
    db.execute(
        "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (trial_id, name, internal, distribution_to_json(distribution)),
    )


def put_attribute(db: sqlite3.Connection, of: Literal["study", "trial"], row_id: int, key: str, text: str) -> None:
    """Write a user attribute of a study or of a trial, in place of an earlier one of its key.

    Args:
        db: The file.
        of: Of which of the two.
        row_id: Its id.
        key: The attribute's key.
        text: Its value, as JSON.
    """
    db.execute(
        f"INSERT INTO {of}_user_attributes ({of}_id, key, value_json) VALUES (?, ?, ?)"  # noqa: S608 - ours
        f" ON CONFLICT ({of}_id, key) DO UPDATE SET value_json = excluded.value_json",
        (row_id, key, text),
    )


def put_report(db: sqlite3.Connection, trial_id: int, step: int, value: float) -> None:
    """Write a report, in place of an earlier one of its step."""
    # Private: the names of the types in the tables, for the version that is named above.
    from optuna.storages._rdb import models

    stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
    db.execute(
        "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
        " VALUES (?, ?, ?, ?) ON CONFLICT (trial_id, step) DO UPDATE SET"
        " intermediate_value = excluded.intermediate_value,"
        " intermediate_value_type = excluded.intermediate_value_type",
        (trial_id, step, stored, kind.name),
    )


def put_values(db: sqlite3.Connection, trial_id: int, values: Sequence[float] | None) -> None:
    """Write the values of a trial, in place of earlier ones."""
    from optuna.storages._rdb import models

    for objective, value in enumerate(values or ()):
        stored, kind = models.TrialValueModel.value_to_stored_repr(value)
        db.execute(
            "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (trial_id, objective) DO UPDATE SET"
            " value = excluded.value, value_type = excluded.value_type",
            (trial_id, objective, stored, kind.name),
        )


def check_study(db: sqlite3.Connection, study_id: int) -> None:
    """Check that there is a study.

    Raises:
        KeyError: There is none.
    """
    if db.execute("SELECT 1 FROM studies WHERE study_id = ?", (study_id,)).fetchone() is None:
        raise KeyError(NOT_FOUND)


def read_trial(db: sqlite3.Connection, trial_id: int) -> FrozenTrial:
    """The trial as it is in the file now.

    Raises:
        KeyError: There is none.
    """
    trials = read_trials(db, db.execute(f"{TRIALS} WHERE trial_id = ?", (trial_id,)))
    if not trials:
        raise KeyError(NOT_FOUND)
    return trials[0]


def read_changed(
    db: sqlite3.Connection, study_id: int, *, among: set[int], after: int, is_brief: bool = False,
    known: Mapping[int, FrozenTrial] = MappingProxyType({}),
) -> list[FrozenTrial]:  # fmt: skip
    """The trials of a study that may have changed: those of some ids, and all with a higher one than another.

    Args:
        db: A connection.
        study_id: The study.
        among: The ids.
        after: The other one.
        is_brief: Whether what was reported is read of running trials only: it is most of the rows. Defaults to False.
        known: Those of them that need not be read, by their ids. Defaults to none.

    Raises:
        KeyError: There is no such study.
    """
    check_study(db, study_id)
    # Not as an OR, for which SQLite goes through all trials of the study.
    which = (
        "study_id = :study AND trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study"
        " AND trial_id > :last UNION ALL SELECT value FROM json_each(:others))"
    )
    others = [key for key in among if key not in known]
    asked = {"study": study_id, "last": after, "others": json.dumps(others)}
    rows = db.execute(f"{TRIALS} WHERE {which} ORDER BY trial_id", asked)
    found = read_trials(db, (row for row in rows if row[0] not in known), is_brief=is_brief)
    return sorted([*found, *known.values()], key=trial_id) if known else found


def read_trials(
    db: sqlite3.Connection, rows: Iterable[tuple[int, int, str, str | None, str | None]], *, is_brief: bool = False
) -> list[FrozenTrial]:
    """Trials by their rows, with what the other tables hold of them; what nobody can read is left out and told."""
    trials: dict[int, FrozenTrial] = {}

    def take(key: int, number: int, state: str, start: str | None, end: str | None) -> None:
        if not isinstance(number, int) or number < 0:
            raise ValueError("its number is none")
        trial = FrozenTrial(number, TrialState.FAIL, None, None, None, {}, {}, {}, {}, {}, key)
        trials[key] = trial  # also where its state is none, since trials are found by their place
        trial.datetime_start, trial.datetime_complete = _from_stored(start), _from_stored(end)
        trial.state = TrialState[state]

    def take_param(key: int, name: str, value: float, text: str) -> None:
        distribution = _distribution(text)
        if not is_number(value):
            raise ValueError("its value is no number")
        trials[key].params[name] = distribution.to_external_repr(value)
        trials[key].distributions[name] = distribution

    def take_value(key: int, value: float, kind: str) -> None:
        trials[key].values = [*(trials[key].values or ()), _number(value, kind)]

    def take_report(key: int, step: int, value: float, kind: str) -> None:
        trials[key].intermediate_values[int(step)] = _number(value, kind)

    def take_user_attr(key: int, name: str, text: str) -> None:
        trials[key].user_attrs[name] = from_json(text)

    def take_system_attr(key: int, name: str, text: str) -> None:
        trials[key].system_attrs[name] = from_json(text)

    _each(rows, take)
    keys = (json.dumps(list(trials)),)
    few = (json.dumps([key for key, trial in trials.items() if not trial.state.is_finished()]),)
    for columns, order, take_row in (
        ("param_name, param_value, distribution_json FROM trial_params", "ORDER BY param_id", take_param),
        ("value, value_type FROM trial_values", "ORDER BY objective", take_value),
        ("step, intermediate_value, intermediate_value_type FROM trial_intermediate_values", "", take_report),
        ("key, value_json FROM trial_user_attributes", "", take_user_attr),
        ("key, value_json FROM trial_system_attributes", "", take_system_attr),
    ):
        which = "WHERE trial_id IN (SELECT value FROM json_each(?))"
        asked = few if take_row is take_report and is_brief else keys
        _each(db.execute(f"SELECT trial_id, {columns} {which} {order}", asked), take_row)
    return list(trials.values())


def _number(value: Any, kind: str) -> float:
    return float(value) if kind == "FINITE" else _NUMBERS[kind]


_been_told: set[tuple[str, str, str]] = set()


def _each(rows: Iterable[Any], take: Callable[..., None]) -> None:
    """Take each row. One that cannot be read is reported once and skipped, so the others are still read."""
    for row in rows:
        try:
            take(*row)
        except MemoryError:  # it says nothing of the row
            raise
        except Exception as error:  # noqa: BLE001 - a table may hold anything
            tell_left_out("row", row, error)


def tell_left_out(kind: str, what: object, why: object) -> None:
    """Say once that nobody can read a part of a storage.

    Args:
        kind: What it is, such as "row".
        what: What stands there, or its id.
        why: What reading it raised, or a text.
    """
    told, said = shown(what), why if isinstance(why, str) else shown(why)
    if (kind, told, said) not in _been_told:
        _been_told.add((kind, told, said))
        log.warning("The study's storage has a %s that nobody can read, which is left out: %s (%s)", kind, told, said)


def readable_distribution(text: Any) -> BaseDistribution | None:
    """The distribution that a row says, ``None`` where it says none, which is told."""
    try:
        return json_to_distribution(text)
    except Exception as error:  # noqa: BLE001 - as above
        tell_left_out("distribution", text, error)
        return None


def is_moment(moment: datetime) -> bool:
    """Whether a trial may have begun or ended then; a `datetime` near the first and the last year has no time zone."""
    return 1970 <= moment.year < 9999


@functools.lru_cache(maxsize=1024)
def _distribution(text: str) -> BaseDistribution:
    """The same object for the same text: there are as many texts as trials, and few differ."""
    return json_to_distribution(text)


def to_stored(local: datetime) -> str:
    """Optuna stores times in UTC, without saying so, and shows local ones."""
    return local.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _from_stored(text: str | None) -> datetime | None:
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if not is_moment(moment):
        raise ValueError("no trial was trained then")
    return moment.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
