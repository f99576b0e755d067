"""Where the values of a study belong, kept in its folder, so that other processes and later ones need not find out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tunehook.inject import Calls, Plan
from tunehook.record import has, is_text, is_whole, maybe, open_file, plans_of
from tunehook.system import StoredError, from_json, read_whole

_PARTS = [part.name for part in dataclasses.fields(Plan) if part.name != "classes"]


def kept_plan(folder: Path, names: Collection[str]) -> Plan | None:
    """The plan that a trial of the study has confirmed, ``None`` where none has.

    An old one does no harm: it is compared with the objects of the fit before anything is trained.

    Args:
        folder: The folder of a trial.
        names: The names of the space.
    """
    found = _read(folder).get(_key(names))
    if not isinstance(found, dict) or not all(_is_calls(found.get(part)) for part in _PARTS):
        return None
    classes = found.get("classes")
    if not isinstance(classes, list) or not all(map(is_text, classes)):
        return None
    calls = {part: {(place, number): paths for place, number, paths in found[part]} for part in _PARTS}
    return Plan(**calls, classes=frozenset(classes))


def keep_plan(folder: Path, names: Collection[str], plan: Plan) -> None:
    """Keep a plan for other processes; a folder that cannot be written to goes without.

    Args:
        folder: The folder of a trial.
        names: The names of the space.
        plan: What goes into which call.
    """
    if kept_plan(folder, names) == plan:
        return
    place = plans_of(folder)
    draft = place.with_name(f"{place.name}.{os.getpid()}")
    listed = {part: _listed(getattr(plan, part)) for part in _PARTS}
    whole = {**_read(folder), _key(names): {**listed, "classes": sorted(plan.classes)}}
    with contextlib.suppress(OSError):
        with open_file(draft, "w", below=place.parent) as file:
            json.dump(whole, file)
        draft.replace(place)


def _read(folder: Path) -> dict[str, Any]:
    place = plans_of(folder)
    with contextlib.suppress(OSError, StoredError), open_file(place, "rb", below=place.parent) as file:
        found = from_json(read_whole(file))
        return found if isinstance(found, dict) else {}
    return {}


def _key(names: Collection[str]) -> str:
    return " ".join(sorted(names))


def _listed(calls: Calls) -> list[tuple[str, int | None, Mapping[str, str]]]:
    return [(place, number, dict(paths)) for (place, number), paths in calls.items()]


def _is_calls(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, list)
        and len(row) == 3
        and is_text(row[0])
        and maybe(is_whole)(row[1])
        and isinstance(row[2], dict)
        and has(row[2], dict.fromkeys(row[2], is_text))
        for row in value
    )
