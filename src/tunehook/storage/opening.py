"""Open the Optuna study below a study: make it, or find the one that is there."""

from __future__ import annotations

import functools
import logging
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import optuna
from optuna.study import StudyDirection

from tunehook.record import ROOT, LinkError, StudyPaths, check_place
from tunehook.search import GridSampler
from tunehook.space import Space
from tunehook.storage.attributes import is_description
from tunehook.storage.database import PATIENCE
from tunehook.storage.folder import Described, Folder, Where, describe_folder, holding
from tunehook.storage.messages import from_environment, how_to_rebuild, patiently, storage_errors
from tunehook.storage.reader import SqliteReader, has_tables, reads, until_free
from tunehook.storage.retrying import PatientStorage
from tunehook.system import cached, hidden, quiet, shown, study_id, with_cache
from tunehook.trial import Mode, StudyError, direction_of

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

log = logging.getLogger("tunehook")

_DESCRIPTION = "tunehook:study"
_CREATION = 2.0  # seconds until who has made a study in a server has described it


def open_study(
    name: str,
    given: str | BaseStorage | None,
    *,
    paths: StudyPaths,
    sampler: BaseSampler,
    pruner: BasePruner | None,
    mine: Mapping[str, Any],
    space: Space,
    known_id: str = "",
) -> tuple[optuna.Study, PatientStorage, str]:
    """Open a study in its storage, which is made where there is none; with the id of the study.

    Args:
        name: Name of the study.
        given: Its storage, or the URL of one; ``None`` for an SQLite file in the study's folder.
        paths: The names below that folder, which is made.
        sampler: What proposes values.
        pruner: What stops trials.
        mine: Its metric, mode and objective.
        space: Its space.
        known_id: Its id, where it was open already. Defaults to an empty text.

    Raises:
        StudyError: The folder or the storage cannot be used, or the study in there is another one.
    """
    kept_in = paths.database if given is None else given
    with quiet(), storage_errors(name, kept_in):
        _make_folder(paths.folder)
        with holding(paths) as folder:
            folder.check(name)
            kept = PatientStorage(patiently(lambda: _make_storage(given, paths)), study=name, place=kept_in)
            modes: list[Mode] = [mine["mode"]] if mine["mode"] in get_args(Mode) else mine["mode"]
            is_new = _make_study(kept, name, modes)
            study = optuna.load_study(study_name=name, storage=kept, sampler=sampler, pruner=pruner)
            if not is_new and kept.pulse is not None:
                _wait_for_maker(study)
            found = _describe(study, kept, folder, {**mine, "space": space.describe()}, known_id, is_file=given is None)
    kept.patience = PATIENCE
    if kept.pulse is not None:
        kept.pulse.study_id = study_id(study)
    return study, kept, found.id


def find_study(
    name: str | None, *, storage: str | None, folder: str | os.PathLike[str] | None, is_file: bool = False,
    is_brief: bool = False,
) -> tuple[optuna.Study, PatientStorage, dict[str, Any]]:  # fmt: skip
    """Find a study that exists, and what is written of it there; nothing is made.

    Args:
        name: Name of the study; ``None`` where the storage has one only.
        storage: Storage URL, ``None`` for that of the environment, or else the SQLite file in the study's folder.
        folder: The study's folder, ``None`` for the usual one.
        is_file: Whether it is known to be in the file there. Defaults to False.
        is_brief: Whether finished trials may come without what they reported. Defaults to False.

    Raises:
        StudyError: There is no such study, or its storage cannot be used.
    """
    url = None if is_file else storage or from_environment()
    paths = StudyPaths(Path(folder) if folder else ROOT / (name or ""))
    file = None if url is not None else paths.database
    place: object = url or file
    if file is not None and not _has_study(str(name), paths):
        there = sorted(path.parent.name for path in ROOT.glob(f"*/{file.name}"))
        if (described := describe_folder(paths)) is not None:
            way_out = how_to_rebuild(described.name, paths.folder)
            raise StudyError(hidden(f"The file {file} of study '{described.name}' is gone.\n  {way_out}."))
        raise StudyError(hidden(f"There is no study '{name}' in {file.parent}.{_listed(there, str(ROOT))}"))
    with quiet(), storage_errors(str(name), place):
        if url is not None:
            from tunehook.storage.database import connect

            made, again = connect(url, create=False), None
        else:
            again = functools.partial(sqlite_there, Path(str(file)).absolute(), is_brief=is_brief)
            made = again()
        kept = PatientStorage(made, study=str(name), place=place, again=again)
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


def sqlite_there(path: Path, *, is_brief: bool = False) -> BaseStorage:
    """A storage on a file that exists, to be read; nothing is made or written, also beside the file.

    Args:
        path: The file.
        is_brief: Whether finished trials may come without what they reported, as they do where it saves time.
    """
    place = path.absolute()
    if reads(place):
        return with_cache(SqliteReader(place, is_brief=is_brief))
    from tunehook.storage.sqlite import opened_reading

    return cached(until_free(lambda: opened_reading(place)))


def names_in(url: str) -> list[str]:
    """The names of the studies in a storage; nothing is made.

    Raises:
        StudyError: It cannot be used.
    """
    from tunehook.storage.database import connect

    with quiet(), storage_errors("", url):
        return sorted(str(found.study_name) for found in connect(url, create=False).get_all_studies())


def _has_study(name: str, paths: StudyPaths) -> bool:
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
        return cached(sqlite(paths.database))
    if isinstance(given, str):
        from tunehook.storage.database import connect

        return connect(given)
    return cached(given)


def described(metric: str, mode: Mode, others: Mapping[str, Mode]) -> dict[str, Any]:
    """How the description of a study says its metrics: of several as lists."""
    if not others:
        return {"metric": metric, "mode": mode}
    return {"metric": [metric, *others], "mode": [mode, *others.values()]}


def _make_study(kept: PatientStorage, name: str, modes: Sequence[Mode]) -> bool:
    """Make the Optuna study; False where there is one of this name."""
    try:
        kept.create_new_study([StudyDirection[direction_of(mode).upper()] for mode in modes], name)
    except optuna.exceptions.DuplicatedStudyError:
        return False
    return True


def _wait_for_maker(study: optuna.Study) -> None:
    """Wait for another machine that has made the study at this moment, and describes it next."""
    deadline = time.monotonic() + _CREATION
    while _description(study) is None and time.monotonic() < deadline and not study.get_trials(deepcopy=False):
        time.sleep(0.1)


def _describe(
    study: optuna.Study, kept: PatientStorage, folder: Folder, mine: dict[str, Any], known_id: str, *, is_file: bool
) -> Described:
    """Say in the storage and in the folder which study this is, or find it said there.

    A study in memory is another one each time. Else a storage that does not have the study yet has lost it where the
    folder has it: it is the same one.

    Raises:
        StudyError: It is a study of another kind, or the folder is another one's.
    """
    there, known = folder.read(), _description(study)
    has_file = there is not None
    if kept.is_in_memory or (there is not None and there.storage == "memory"):
        there = None
    if known is not None:
        _compare(study.study_name, known, mine, "open the old one as it was")
    elif there is not None and folder.has_trials:
        _compare(study.study_name, there.known, mine, "move its folder away, whose trials it would get")
    found = (known or {}).get("id") or (known_id or uuid.uuid4().hex if there is None else there.id)
    if there is not None and there.id != found:
        raise StudyError(
            f"The folder of study '{study.study_name}' belongs to another study of this name, which has another "
            "storage.\n  Give each study a folder of its own: Study(..., folder=...)."
        )
    if known is None or "id" not in known:
        study.set_user_attr(_DESCRIPTION, {**mine, "id": found})
    where: Where = "memory" if kept.is_in_memory else "file" if is_file else "elsewhere"
    described = Described(found, study.study_name, where, isinstance(study.sampler, GridSampler), mine)
    if where != "memory" or not has_file:
        folder.write(described)
    return described


def _compare(name: str, theirs: Mapping[str, Any], mine: Mapping[str, Any], way_out: str) -> None:
    """Refuse a study of another kind under the same name; another condition is told."""
    space = Space.from_description(mine["space"])
    lines = [
        f"{key}: it has {theirs[key]!r}, you passed {mine[key]!r}"
        for key in ("metric", "mode", "objective")
        if theirs[key] != mine[key]
    ]
    lines += space.difference(theirs["space"])
    if lines:
        raise StudyError(
            f"The study '{name}' exists already and differs:\n"
            + "".join(f"  {line}\n" for line in lines)
            + f"  Give the new one another name, or {way_out}."
        )
    if (told := space.other_condition(theirs["space"])) is not None:
        log.warning("The space of study '%s' %s. Trials from before may break the condition of now.", name, told)


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
