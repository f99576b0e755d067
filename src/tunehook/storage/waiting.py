"""The values that wait to be asked for, in a file of the study's folder: no journal has them before their trial begins.

A trial keeps the number that it got when it was enqueued. So what the file says of a number counts until there is a
journal of that trial, and a line that is there twice says nothing new.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunehook.record import (
    Is,
    StudyPaths,
    has,
    is_lineage,
    is_text,
    is_values,
    is_whole,
    maybe,
    open_file,
    sealed,
    unsealed,
)
from tunehook.storage.attributes import ATTEMPT, KEY, LINEAGE
from tunehook.storage.states import is_waiting
from tunehook.system import StoredError, from_json, given_values, read_lines
from tunehook.trial import is_key

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

log = logging.getLogger("tunehook")

_NAMED: dict[str, Is] = {ATTEMPT: maybe(is_whole), KEY: maybe(is_key), LINEAGE: maybe(is_lineage)}
_FIELDS: dict[str, Is] = {
    "study_id": is_text, "trial": is_whole, "values": is_values, "named": lambda value: has(value, _NAMED),
}  # fmt: skip


@dataclass(frozen=True)
class Waiting:
    """Values that wait.

    Attributes:
        raw: The raw values, which may be some only.
        named: What is known of their trial: attempt, key, and its place in a population.
    """

    raw: Mapping[str, Any]
    named: Mapping[str, Any]


def keep_waiting(paths: StudyPaths, study_id: str, frozen: FrozenTrial) -> None:
    """Keep the values of a trial that waits; where that is not possible it is told, and the storage has them."""
    line = _line(study_id, frozen)
    try:
        with open_file(paths.waiting, "ab", below=paths.folder) as file:
            file.write(b"\n" + sealed(json.dumps(line).encode()) + b"\n")  # a torn line before it ends here
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        log.warning(
            "The values of trial %d wait in the storage only, since %s cannot be written: %s.",
            frozen.number, paths.waiting, error.strerror or error,
        )  # fmt: skip


def keep_left_out(paths: StudyPaths, study_id: str, trials: Iterable[FrozenTrial], kept: Collection[int]) -> None:
    """Keep the values that wait in the storage only, since a process was killed, or the disk full, at that moment.

    Args:
        paths: Where the file is.
        study_id: The study's id.
        trials: The trials of the storage.
        kept: The numbers of those that the file has.
    """
    for frozen in trials:
        if is_waiting(frozen) and frozen.number not in kept and has(_line(study_id, frozen), _FIELDS):
            keep_waiting(paths, study_id, frozen)


def _line(study_id: str, frozen: FrozenTrial) -> dict[str, Any]:
    named = {name: frozen.user_attrs[name] for name in _NAMED if name in frozen.user_attrs}
    return {"study_id": study_id, "trial": frozen.number, "values": dict(given_values(frozen) or {}), "named": named}


def read_waiting(paths: StudyPaths, study_id: str) -> dict[int, Waiting]:
    """The values that wait, or have waited, by the numbers of their trials; damaged lines are left out and told."""
    try:
        with open_file(paths.waiting, "rb", below=paths.folder) as file:
            lines = [line for line in read_lines(file) if line.strip()]
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.warning("The values that wait are left out: %s.", error)
        return {}
    found: dict[int, Waiting] = {}
    for line in lines:
        read = _read(line)
        if read is None:
            log.warning("%s: a line is damaged and left out; the other lines are whole.", paths.waiting)
        elif read["study_id"] == study_id:
            named = {name: value for name, value in read["named"].items() if name in _NAMED and value is not None}
            found[read["trial"]] = Waiting(read["values"], named)
    return found


def _read(line: bytes) -> dict[str, Any] | None:
    body, is_right = unsealed(line)
    try:
        value = from_json(body) if is_right else None
    except StoredError:
        return None
    return value if has(value, _FIELDS) else None
