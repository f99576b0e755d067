"""Reading the SQLite file of a study without a trace: nothing is written, also beside it, and no right to is needed.

SQLite in WAL mode has a log beside the file (``-wal``) and an index of it (``-shm``), which each reader makes where
they are missing. On a read-only mount, or in someone else's folder, it could not; in one's own it would leave traces.
"""

from __future__ import annotations

import contextlib
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


def _connect(place: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{place.absolute().as_uri()}?{options}", uri=True, timeout=BUSY, check_same_thread=False,
        factory=OneMoment,
    )  # fmt: skip
    connection.execute("PRAGMA query_only=ON")
    return connection


def _copied(place: Path, log: Path) -> sqlite3.Connection:
    """A copy in memory. The log comes last: it has all that was moved to the file meanwhile, unless it began again."""
    with tempfile.TemporaryDirectory(prefix="tunehook-") as folder:
        copies = [Path(folder, file.name) for file in (place, log)]
        for _ in range(_TRIES):
            before = _header(log)
            shutil.copyfile(place, copies[0])
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile: all is in the file, at the next try
                shutil.copyfile(log, copies[1])
                if _header(log) == before:
                    break
            copies[1].unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(copies[0])) as copied:
            kept = sqlite3.connect(":memory:", check_same_thread=False)
            copied.backup(kept)
    return kept


def _header(log: Path) -> bytes:
    with contextlib.suppress(FileNotFoundError), log.open("rb") as file:
        return file.read(_HEADER)
    return b""
