"""Reading the SQLite file of a study without a trace: nothing is written, also beside it, and no right to is needed.

SQLite in WAL mode has a log beside the file (``-wal``) and an index of it (``-shm``), which each reader makes where
they are missing. On a read-only mount, or in someone else's folder, it could not; in one's own it would leave traces.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

# Seconds that SQLite itself waits for a file that another program holds, deaf to Ctrl-C; then it is asked again.
BUSY = 5.0
_HEADER = 32  # bytes of the log that change where it begins again
_TRIES = 20


class OneMoment(sqlite3.Connection):
    """A connection that reads one moment of a file, from its first read until it is closed.

    A second transaction would read the index of the log again, while a writer may be changing it, and without a lock a
    reader cannot repair it. SQLAlchemy would end the transaction between two reads.
    """

    is_unwatched = False

    def commit(self) -> None:
        """Hold on."""

    def rollback(self) -> None:
        """Hold on."""


def connect_reading(place: Path) -> sqlite3.Connection:
    """A connection that reads the file as it is now, for a short while: one moment of it.

    Where nobody has the file open, all is in the file itself. Else a part is in the log, whose index is used as it is.
    Where there is none, as in a copy, or where it cannot be used without a lock, the connection is to a copy in memory.

    Raises:
        sqlite3.Error, OSError: The file cannot be read.
    """
    log, index = (place.with_name(place.name + end) for end in ("-wal", "-shm"))
    with contextlib.suppress(FileNotFoundError):  # the last one who writes may remove it at this moment
        if log.stat().st_size == 0:
            return _connect(place, "immutable=1")
    if not log.exists():
        return _connect(place, "immutable=1")
    if index.exists():
        for options in ("mode=ro&readonly_shm=1", *(["mode=ro"] if os.access(index, os.W_OK) else [])):
            connection = _connect(place, options)
            try:
                connection.execute("BEGIN")
                connection.execute("SELECT 1 FROM sqlite_master").fetchone()
            except sqlite3.OperationalError as error:
                connection.close()
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                    raise
            else:
                return connection
    return _copied(place, log)


def connect_whole(place: Path) -> sqlite3.Connection:
    """The same for those who cannot read again: where the file may change under the connection, it is to a copy."""
    connection = connect_reading(place)
    if not is_unwatched(connection):
        return connection
    connection.close()
    return _copied(place, place.with_name(place.name + "-wal"))


def read_any_text(connection: sqlite3.Connection) -> None:
    """Let a connection read texts that are no UTF-8 too, with escapes: one such cell would raise for all trials."""
    connection.text_factory = functools.partial(str, encoding="utf-8", errors="backslashreplace")


def is_unwatched(connection: sqlite3.Connection) -> bool:
    """Whether SQLite takes the file for one that nobody writes to.

    If someone begins to, parts of two moments may be read: whoever reads asks `state_of` before and after.
    """
    return isinstance(connection, OneMoment) and connection.is_unwatched


def state_of(place: Path) -> tuple[int, ...]:
    """What changes with the file itself, whatever is in its log; empty where there is none."""
    try:
        found = place.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _connect(place: Path, options: str) -> OneMoment:
    connection = sqlite3.connect(
        f"{place.absolute().as_uri()}?{options}", uri=True, timeout=BUSY, check_same_thread=False,
        factory=OneMoment,
    )  # fmt: skip
    read_any_text(connection)
    connection.is_unwatched = options == "immutable=1"
    connection.execute("PRAGMA query_only=ON")
    return connection


def _copied(place: Path, log: Path) -> sqlite3.Connection:
    """A copy in memory. The log comes last: it has all that was moved to the file meanwhile, unless it began again."""
    with tempfile.TemporaryDirectory(prefix="tunehook-") as folder:
        copies = [Path(folder, file.name) for file in (place, log)]
        for _ in range(_TRIES):
            before, state = _header(log), state_of(place)
            shutil.copyfile(place, copies[0])
            with contextlib.suppress(FileNotFoundError):  # all is in the file
                shutil.copyfile(log, copies[1])
            if _header(log) == before and (before or state_of(place) == state):
                break
            copies[1].unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(copies[0])) as copied:
            kept = sqlite3.connect(":memory:", check_same_thread=False)
            read_any_text(kept)
            copied.backup(kept)
    return kept


def _header(log: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        return file.read(_HEADER)
    return b""
