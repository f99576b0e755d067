"""Which study a folder belongs to, in a file of it, which whoever opens the study holds.

Trials lie in the folder by their numbers, so it has room for one study. What the file says of the study is what the
storage says too; without the storage, the study is rebuilt from it and the journals.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import IO, Any, Literal

from tunehook.record import Events, StudyPaths, has, is_flag, is_text, lock_file, one_of, open_file, sealed, unsealed
from tunehook.storage.attributes import is_description
from tunehook.storage.database import PATIENCE
from tunehook.system import StoredError, from_json, read_whole
from tunehook.trial import StudyError

log = logging.getLogger("tunehook")

Where = Literal["file", "elsewhere", "memory"]

_TELL = 5.0  # seconds after which it is said that it is waited for


@dataclass(frozen=True)
class Described:
    """A study, as the file in its folder describes it.

    Attributes:
        id: Tells it from others of its name.
        name: Its name.
        storage: Where it is kept: in the ``file`` of the folder, ``elsewhere``, or in ``memory``.
        is_grid: Whether its search is the exact grid.
        known: Its metric, mode, objective and space.
    """

    id: str
    name: str
    storage: Where
    is_grid: bool
    known: dict[str, Any]


class Folder:
    """A study's folder, held by this process.

    Args:
        file: The file in it.
        paths: The names in it.
    """

    def __init__(self, file: IO[bytes], paths: StudyPaths) -> None:
        self._file, self._paths = file, paths

    def read(self) -> Described | None:
        """The study that it belongs to; ``None`` where that is not known."""
        self._file.seek(0)
        return _read(self._file, self._paths)

    def write(self, described: Described) -> None:
        """Keep which study it belongs to."""
        if self.read() == described:
            return
        line = json.dumps({"event": "study", **asdict(described)}).encode()
        self._file.truncate(0)
        self._file.write(sealed(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    @property
    def has_trials(self) -> bool:
        """Whether there are any in it."""
        return any(self._paths.folder.glob("trial-*"))

    def check(self, name: str) -> None:
        """Check that it is no other study's.

        Raises:
            StudyError: It is.
        """
        described = self.read()
        theirs = _first_study(self._paths) if described is None else described.name
        if theirs not in (None, name):
            raise StudyError(
                f"The folder {self._paths.folder} belongs to the study '{theirs}', so '{name}' cannot have it: the "
                "trials of a study lie in its folder by their numbers.\n"
                "  Give each study a folder of its own: Study(..., folder=...), or leave folder out."
            )


@contextlib.contextmanager
def holding(paths: StudyPaths) -> Iterator[Folder]:
    """Hold a study's folder, which exists, so that one process at a time makes the study or brings it up to date.

    Raises:
        StudyError: Another process holds it for too long.
        OSError: The file in it cannot be used.
    """
    began = time.monotonic()
    is_told = False
    while True:
        with open_file(paths.description, "ab+", below=paths.folder) as file:
            if lock_file(file):
                yield Folder(file, paths)
                return
        waited = time.monotonic() - began
        if waited > PATIENCE:
            raise StudyError(
                f"Another process has been opening the study in {paths.folder} for {PATIENCE:.0f} s.\n"
                f"  End it where it hangs, such as with `fuser -k {paths.description}`, and start the script again."
            )
        if waited > _TELL and not is_told:
            is_told = True
            log.warning("Waiting for another process that opens the study in %s.", paths.folder)
        time.sleep(0.02)


def describe_folder(paths: StudyPaths) -> Described | None:
    """The study that a folder belongs to; ``None`` where that is not known. Nothing is written.

    Raises:
        StudyError: The file in it cannot be read.
    """
    try:
        with open_file(paths.description, "rb", below=paths.folder) as file:
            return _read(file, paths)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StudyError(
            f"{paths.description} cannot be read: {error.strerror or error}.\n"
            "  Move what is in its place: it is written when the study is opened by its script."
        ) from error


def _read(file: IO[bytes], paths: StudyPaths) -> Described | None:
    found: Any = None
    with contextlib.suppress(StoredError):
        text = read_whole(file).strip()
        if not text:
            return None
        line, is_right = unsealed(text)
        found = from_json(line) if is_right else None
    fields = {"id": is_text, "name": is_text, "storage": one_of(Where), "is_grid": is_flag, "known": is_description}
    if not has(found, fields):
        log.warning("%s is damaged and left out; it is written again when the study is opened.", paths.description)
        return None
    return Described(**{name: found[name] for name in fields})


def _first_study(paths: StudyPaths) -> str | None:
    """The study of the first trial that lies there, as in a folder of an earlier version."""
    first = min(paths.folder.glob("trial-*"), default=None, key=lambda folder: (len(folder.name), folder.name))
    begin = None if first is None else Events.of_latest(first / "journal.jsonl").begin
    return None if begin is None else begin.study
