"""The one way in which stored text is read: from files only, with limits on size, depth and numbers.

Whoever can write to a study's folder, or hands over a sweep file, may put anything there: a pipe, a device, brackets
without end. What is read here is either a plain value that the rest can work with, or a `StoredError`.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
from collections.abc import Iterator
from typing import IO, Any

# Bytes of one line, or of a file that is read as a whole: a snapshot of ten thousand parameters has a third of it.
MOST = 64 * 2**20
_LONGEST = 16  # times that, of a line that is passed over to reach the next one
# Levels of containers. Python's own limit depends on who calls, and what is deeper cannot be copied or shown.
DEEP = 100


class StoredError(ValueError):
    """Stored text that cannot be read, with the reason in a few words."""


class NoFileError(OSError):
    """Something else than a file, such as a pipe or a device."""


def open_regular(path: str, flags: int) -> int:
    """Open a file, as an ``opener`` of `open`, without waiting for what is none, such as a pipe that nobody writes to.

    Raises:
        NoFileError: It is none.
        OSError: It cannot be opened.
    """
    file = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    mode = os.fstat(file).st_mode
    if not stat.S_ISREG(mode):
        os.close(file)
        raise NoFileError(errno.EINVAL, "Is a directory" if stat.S_ISDIR(mode) else "Is no file", path)
    return file


def read_whole(file: IO[bytes], *, most: int = MOST) -> bytes:
    """All that a file holds.

    Raises:
        StoredError: It is larger than ``most`` bytes.
    """
    found = file.read(most + 1)
    if len(found) > most:
        raise StoredError(f"it is larger than {most:,} bytes")
    return found


def read_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file, one at a time, without their ends; one that is too long is cut off.

    One that is longer than `_LONGEST` limits is the last one: a file may have no line's end in a terabyte.
    """
    while line := file.readline(MOST + 1):
        yield line.removesuffix(b"\n")
        parts = 1
        while len(line) > MOST and not line.endswith(b"\n"):
            if parts == _LONGEST:
                return
            line, parts = file.readline(MOST + 1), parts + 1


def from_json(text: str | bytes) -> Any:
    """The value that a text in JSON stands for.

    Raises:
        StoredError: It is not JSON, is too long, or is nested too deeply.
    """
    if len(text) > MOST:
        raise StoredError(f"it is longer than {MOST:,} bytes")
    try:
        value = json.loads(text)
    except RecursionError:
        raise StoredError(_TOO_DEEP) from None
    except (ValueError, TypeError) as error:  # a value of SQL may be no text
        raise StoredError(f"it is not JSON: {error}") from None
    opening = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if sum(map(text.count, opening)) > DEEP and _is_deep(value):  # type: ignore[arg-type] # of one kind
        raise StoredError(_TOO_DEEP)
    return value


_TOO_DEEP = f"it is nested deeper than {DEEP} levels"


def _is_deep(value: Any) -> bool:
    """Whether containers lie in each other on too many levels, looked at level by level."""
    level = [value]
    for _ in range(DEEP):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [one for one in itertools.chain.from_iterable(inner) if isinstance(one, dict | list)]
        if not level:
            return False
    return True
