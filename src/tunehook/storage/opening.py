"""Open the Optuna study below a study: make it, or find the one that is there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from tunehook.record import ROOT, LinkError, StudyPaths, check_place, host
from tunehook.space import Space
from tunehook.storage.attributes import is_description
from tunehook.storage.messages import from_environment, patiently, storage_errors
from tunehook.storage.retrying import PATIENCE, PatientStorage
from tunehook.system import cached, hidden, is_alive, quiet, shown, study_id
from tunehook.trial import StudyError, direction_of

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

_DESCRIPTION = "tunehook:study"


def open_study(
    name: str,
    given: str | BaseStorage | None,
    *,
    paths: StudyPaths,
    sampler: BaseSampler,
    pruner: BasePruner | None,
    mine: Mapping[str, Any],
    space: Space,
) -> tuple[optuna.Study, PatientStorage]:
    """Open a study in its storage, which is made where there is none.

    Args:
        name: Name of the study.
        given: Its storage, or the URL of one; ``None`` for an SQLite file in the study's folder.
        paths: The names below that folder, which is made.
        sampler: What proposes values.
        pruner: What stops trials.
        mine: Its metric, mode and objective.
        space: Its space.

    Raises:
        StudyError: The folder or the storage cannot be used, or the study in there is another one.
    """
    kept_in = paths.database if given is None else given
    with quiet(), storage_errors(name, kept_in):
        _make_folder(paths.folder)
        kept = PatientStorage(patiently(lambda: _make_storage(given, paths)), study=name, place=kept_in)
        study = optuna.create_study(storage=kept, sampler=sampler, pruner=pruner, study_name=name,
                                    direction=direction_of(mine["mode"]), load_if_exists=True)  # fmt: skip
        _compare(study, {**mine, "space": space.describe()}, space)
    kept.patience = PATIENCE
    if kept.pulse is not None:
        kept.pulse.study_id = study_id(study)
    return study, kept


def find_study(
    name: str | None, *, storage: str | None, folder: str | os.PathLike[str] | None
) -> tuple[optuna.Study, PatientStorage, dict[str, Any]]:
    """Find a study that exists, and what is written of it there; nothing is made.

    Args:
        name: Name of the study; ``None`` where the storage has one only.
        storage: Storage URL, ``None`` for that of the environment, or else the SQLite file in the study's folder.
        folder: The study's folder, ``None`` for the usual one.

    Raises:
        StudyError: There is no such study, or its storage cannot be used.
    """
    url, paths = storage or from_environment(), StudyPaths(Path(folder) if folder else ROOT / (name or ""))
    file = None if url is not None else paths.database
    place: object = url or file
    if file is not None and not _has_study(str(name), paths):
        there = sorted(path.parent.name for path in ROOT.glob(f"*/{file.name}"))
        raise StudyError(hidden(f"There is no study '{name}' in {file.parent}.{_listed(there, str(ROOT))}"))
    with quiet(), storage_errors(str(name), place):
        if url is not None:
            from tunehook.storage.database import connect

            made = connect(url, create=False)
        else:
            from tunehook.storage.sqlite import sqlite_there

            made = cached(sqlite_there(Path(str(file))))
        kept = PatientStorage(made, study=str(name), place=place)
        there = sorted(str(found.study_name) for found in kept.get_all_studies())
    if name is None and len(there) == 1:
        name = there[0]
    where = hidden(str(place), url=url)
    if name not in there:
        said = f"There is no study '{name}' in {where}." if name else f"Say which study of {where}."
        raise StudyError(hidden(said + _listed(there, where)))
    study = optuna.load_study(study_name=name, storage=kept)
    known = _description(study)
    if known is None:
        raise StudyError(f"The study '{name}' in {where} was made by Optuna itself, so its space is not known.")
    return study, kept, known


def _has_study(name: str, paths: StudyPaths) -> bool:
    from tunehook.storage.sqlite import has_tables

    with storage_errors(name, paths.database):
        _check_links(paths)
        return has_tables(paths.database)


def _check_links(paths: StudyPaths) -> None:
    for file in paths.databases:
        if check_place(file, below=paths.folder).exists() and not file.is_file():
            raise LinkError(f"{file} is no file")  # SQLite would wait for what a pipe has to say


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "it is a file" if folder.is_file() else error.strerror or str(error)
        raise StudyError(
            f"The study's folder {folder} cannot be made: {why}.\n"
            "  Move what is in the way, or give another one: Study(..., folder=...)."
        ) from error


def _make_storage(given: str | BaseStorage | None, paths: StudyPaths) -> BaseStorage:
    if given is None:
        from tunehook.storage.sqlite import sqlite

        _check_links(paths)
        _clear(paths.database)
        return cached(sqlite(paths.database))
    if isinstance(given, str):
        from tunehook.storage.database import connect

        return connect(given)
    return cached(given)


def _clear(database: Path) -> None:
    """Remove the files in which processes of this machine that are gone began to make the database."""
    name = re.compile(re.escape(f"{database.name}.{host()}-") + r"(\d{1,9})(-\w+)?")
    for file in database.parent.iterdir():
        found = name.fullmatch(file.name)
        if found is not None and not is_alive(int(found[1]), since=file.lstat().st_mtime):
            file.unlink(missing_ok=True)


def _compare(study: optuna.Study, mine: dict[str, Any], space: Space) -> None:
    """Refuse a study of another kind under the same name."""
    theirs = _description(study)
    if theirs is None:
        study.set_user_attr(_DESCRIPTION, mine)
        return
    lines = [
        f"{key}: it has {theirs[key]!r}, you passed {mine[key]!r}"
        for key in ("metric", "mode", "objective")
        if theirs[key] != mine[key]
    ]
    lines += space.difference(theirs["space"])
    if lines:
        raise StudyError(
            f"The study '{study.study_name}' exists already and differs:\n"
            + "".join(f"  {line}\n" for line in lines)
            + "  Give the new one another name, or open the old one as it was."
        )


def _description(study: optuna.Study) -> dict[str, Any] | None:
    """What is written of a study in its storage, ``None`` where it was made by Optuna itself.

    Raises:
        StudyError: It is nothing that this package writes.
    """
    known = study.user_attrs.get(_DESCRIPTION)
    if known is None or is_description(known):
        return known
    raise StudyError(
        f"The storage describes the study '{study.study_name}' as tunehook does not: {shown(known, most=200)}.\n"
        "  Give the new one another name; with optuna.load_study(...) its trials can be looked at."
    )


def _listed(names: Sequence[str], where: str) -> str:
    return f"\n  There are in {where}: {', '.join(names)}." if names else f"\n  There are none in {where}."
