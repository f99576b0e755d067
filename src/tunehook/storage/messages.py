"""Where a study is kept: Optuna's storages, opened by several processes at once, and failing with a way out."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tunehook.record import ROOT
from tunehook.system import first_line, hidden
from tunehook.trial import StorageError, StudyError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

VARIABLE = "TUNEHOOK_STORAGE"  # the storage of studies that are given none

# What databases say where their disk is full.
_FULL = re.compile("disk is full|no space left|could not extend file|disk full", re.IGNORECASE)

# What SQLite says of a file that is none of its own, or not whole.
_DAMAGED = re.compile("malformed|not a database|disk image", re.IGNORECASE)


def check_shared(storage: object, study: str) -> None:
    """Check that another process can open a storage.

    Raises:
        StudyError: It is in the memory of this one.
    """
    from optuna.storages import InMemoryStorage

    if isinstance(storage, InMemoryStorage):
        raise StudyError(
            f"Study '{study}' is kept in memory, which a spawned process cannot see.\n"
            "  Leave out storage=... (an SQLite file) or give a database's URL."
        )


def from_environment() -> str | None:
    """The storage URL that the environment gives, ``None`` where it gives none."""
    return os.environ.get(VARIABLE, "").strip() or None


def patiently(make: Callable[[], BaseStorage]) -> BaseStorage:
    """Make a storage, again where another process makes the tables of a new database at the same moment."""
    import sqlalchemy.exc

    for seconds in (0.1, 0.2, 0.4, 0.8, 1.6):
        try:
            return make()
        except sqlalchemy.exc.DBAPIError as error:
            if not re.search("already exists|unique", str(error.orig), re.IGNORECASE):
                raise
            time.sleep(seconds * random.SystemRandom().uniform(0.5, 1.5))
    return make()


def cause_of(error: BaseException) -> str:
    """What an error of a storage says, in one line: that of the database's driver where there is one."""
    cause = error.__cause__ or error
    said = getattr(cause, "orig", None) or cause
    if isinstance(said, MemoryError):  # which says nothing itself
        return "out of memory"
    if isinstance(said, KeyError):  # which says the key alone
        return f"nobody can read {first_line(said)}"
    details = getattr(said, "details", None)  # of gRPC, whose text is a whole page
    text = (details() if callable(details) else None) or str(said) or repr(said)
    return first_line(text).rstrip(".")


def way_out(said: str, study: str, place: object) -> str:
    """What to do about what a storage says.

    Args:
        said: What it says.
        study: Name of the study.
        place: The storage's URL, or its file in the study's folder.
    """
    if isinstance(place, Path) and _DAMAGED.search(said):
        return f"The file is damaged. {how_to_rebuild(study, place.parent)}"
    if said == "out of memory":
        return "Free some, or raise the limit of this process: ulimit -v, or memory.max of a container or job."
    if _FULL.search(said):
        return (
            "Make room, and start the script again: the study goes on where it was, and what was measured is in the "
            "journals."
        )
    return "Check that the place exists and can be written, or give another one: Study(..., storage=...)."


def how_to_rebuild(study: str, folder: Path) -> str:
    """How to rebuild a study whose file is gone or damaged."""
    is_usual = folder.absolute() == (ROOT / study).absolute()
    where = "" if is_usual else f" --folder {shlex.quote(str(folder))}"
    return f"Rebuild it from the journals of its trials: tunehook rebuild {study}{where}"


def as_study_error(error: BaseException, kind: type[StudyError], text: str, *, url: object = None) -> StudyError:
    """A `StudyError` in place of what a storage raised; its cause is left out where it names a password."""
    told = kind(hidden(text, url=url))
    whole = "".join(traceback.format_exception(error))
    told.__cause__ = error if hidden(whole, url=url) == whole else None
    told.__suppress_context__ = True
    return told


@contextlib.contextmanager
def storage_errors(study: str, storage: object) -> Iterator[None]:
    """Say which storage cannot be used and what to do; passwords stay out.

    Args:
        study: Name of the study; empty where it is about none.
        storage: The storage, its URL or its file.

    Raises:
        StorageError: In place of what the storage raises.
    """
    try:
        yield
    except StudyError:
        raise
    except Exception as error:  # noqa: BLE001 - also what Optuna says of another version's tables, or stumbles upon
        place = getattr(storage, "url", storage)
        said = cause_of(error)
        whose = f" of study '{study}'" if study else ""
        told = as_study_error(error, StorageError, f"The storage {place}{whose} cannot be used: {said}.\n"
                              f"  {way_out(said, study, place)}", url=place)  # fmt: skip
    else:
        return
    # Outside of the except clause, so that what was raised is not even its context.
    raise told
