"""Rebuilding a study from its journals, where its storage is gone or damaged."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from tunehook.record import ROOT, Events, Process, StudyPaths
from tunehook.space import Space
from tunehook.storage import from_environment, stored_outcome
from tunehook.study.study import Study
from tunehook.trial import State, StudyError

_QUIET = 86400.0  # seconds without a line after which a trial whose process is on another machine is taken for left


@dataclass(frozen=True)
class Rebuilt:
    """What became of a study that was rebuilt.

    Attributes:
        study: Its name.
        journals: How many journals of trials there are in its folder.
        counts: Number of trials by state.
        lost: Numbers of the trials of which nothing is left.
        kept: What the old file is called now, ``None`` where there was none.
    """

    study: str
    journals: int
    counts: dict[State, int]
    lost: list[int]
    kept: str | None


def rebuild(name: str, *, storage: str | None = None, folder: str | os.PathLike[str] | None = None) -> Rebuilt:
    """Rebuild a study from the journals of its trials; its old file is kept under another name.

    A study in a server is brought up to date, or made where the server has none of this name.

    Args:
        name: Name of the study.
        storage: Storage URL of a study that is not in the file in its folder. Defaults to ``TUNEHOOK_STORAGE``.
        folder: The study's folder. Defaults to ``tunehook-studies/<name>``.

    Raises:
        StudyError: There is no such study, one of its trials runs, or its storage cannot be used.
    """
    from tunehook.storage import describe_folder
    from tunehook.study.restoring import NOTHING

    paths = StudyPaths((Path(folder) if folder is not None else ROOT / name).absolute())
    described = describe_folder(paths)
    if described is None:
        raise StudyError(
            f"There is no {paths.description}, which describes the study '{name}', so its space is not known.\n"
            "  Start the script of the study, which knows it: it rebuilds the study from the journals."
        )
    if described.name != name:
        raise StudyError(f"The folder {paths.folder} belongs to the study '{described.name}': give that name.")
    if described.storage == "memory":
        raise StudyError(f"The study '{name}' was kept in memory, and ended with its process.")
    url = storage or from_environment()
    is_file = described.storage == "file"
    if not is_file and url is None:
        raise StudyError(f"The study '{name}' is kept in a storage of its own: give its URL, with --storage.")
    if is_file and url is not None:
        raise StudyError(
            f"The study '{name}' is kept in {paths.database}, not in another storage: leave --storage out, and unset "
            "TUNEHOOK_STORAGE."
        )
    known = described.known
    space = Space.from_description(known["space"])
    if described.is_grid and space.lacks_condition and _lacks_some(paths):
        raise StudyError(
            f"The journals of some trials of study '{name}' are gone, and which combinations of its grid they had "
            f"follows from its condition, which only its script knows.\n  Move {paths.database} away and start the "
            "script: it rebuilds the study from the journals."
        )
    _check_idle(name, paths)
    kept = _move_away(paths) if is_file else None
    study = Study(
        name, space, metric=known["metric"], mode=known["mode"],
        objective=known["objective"], search="grid" if described.is_grid else "random", folder=paths.folder,
        storage=url,
    )  # fmt: skip
    counts = study.counts()
    lost = [one.number for one in study.raw_trials if stored_outcome(one) == NOTHING]
    return Rebuilt(name, len(_journals(paths)), counts, lost, None if kept is None else str(kept))


def _journals(paths: StudyPaths) -> list[Path]:
    return sorted(paths.folder.glob("trial-*/journal.jsonl"))


def _lacks_some(paths: StudyPaths) -> bool:
    names = [path.parent.name.removeprefix("trial-") for path in _journals(paths)]
    numbers = {int(name) for name in names if name.isascii() and name.isdigit()}
    return len(numbers) < max(numbers, default=-1) + 1


def _check_idle(name: str, paths: StudyPaths) -> None:
    """Check that no trial runs, as far as that is known here: its process would go on with the old file.

    Raises:
        StudyError: One does, or may do so where that cannot be seen from here; a journal cannot be read.
    """
    from tunehook.study.restoring import unreadable

    for path in _journals(paths):
        try:
            events = Events.of_latest(path, is_strict=True)
        except OSError as error:
            raise unreadable(path, error) from error
        if events.outcome is not None:
            continue
        processes = events.all(Process)
        alive = [one.pid for one in processes if one.is_here and one.lives]
        away = [one for one in processes if not one.is_here]
        if alive:
            raise StudyError(
                f"{path.parent.name} of study '{name}' runs, in process {alive[-1]}.\n"
                "  Wait until its script has ended, or end it, and call this again."
            )
        if away and time.time() - path.stat().st_mtime < _QUIET:
            raise StudyError(
                f"{path.parent.name} of study '{name}' has no end, and whether its process {away[-1].pid} on "
                f"{away[-1].host} runs cannot be seen here: it is on another machine, or in another container.\n"
                "  Call this there, where that can be seen. A trial whose journal has not changed for a day is taken "
                "for left: where its process is gone, wait for that, or call "
                f"touch -d '2 days ago' {shlex.quote(str(path))}"
            )


def _move_away(paths: StudyPaths) -> Path | None:
    """Give the study's file, and those that SQLite has beside it, a name that is free."""
    if not any(file.exists() for file in paths.databases):
        return None
    number = 1
    while (kept := paths.folder / f"{paths.database.name}.{number}").exists():
        number += 1
    for file in paths.databases:
        if file.exists():
            file.rename(kept.with_name(kept.name + file.name.removeprefix(paths.database.name)))
    return kept
