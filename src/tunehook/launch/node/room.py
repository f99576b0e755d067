"""Room for one more process: where the system has none, it is waited for, and told."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
import time
from collections.abc import Callable, Iterator

from tunehook.trial import StudyError

log = logging.getLogger("tunehook")

PATIENCE = 120.0  # seconds that a trial waits for a process, as for a storage that is away
_PAUSE = 1.0  # seconds between two tries
_NO_ROOM = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_WAY_OUT = (
    "Take fewer workers, or raise the limits: ulimit -u for processes, ulimit -n for open files, pids.max and "
    "memory.max of a container or job."
)


def no_room(error: OSError) -> bool:
    """Whether a process could not be started for lack of memory, of a process id or of open files."""
    return error.errno in _NO_ROOM


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Start what all trials need.

    Raises:
        StudyError: In place of what the system says.
    """
    try:
        yield
    except OSError as error:
        raise cannot_start(error) from error


def cannot_start(error: OSError, waited: float = 0.0) -> StudyError:
    """The error where no process can be started."""
    since = f", after {waited:.0f} s" if waited else ""
    if no_room(error):
        return StudyError(f"No process can be started for a trial{since}: {error.strerror}.\n  {_WAY_OUT}")
    return StudyError(
        f"No process can be started for a trial: {error}.\n  See that {sys.executable} can be started with the "
        "environment variables of this process."
    )


class Room:
    """Which processes could not be started, and when that is tried again.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._next = float("-inf")
        self._waiting: list[str] = []

    @property
    def is_tight(self) -> bool:
        """Whether a process was refused a moment ago."""
        return self._clock() < self._next

    def refuse(self, token: str, error: OSError, *, is_needed: bool) -> None:
        """Note that a process could not be started.

        Args:
            token: Which one.
            error: What the system said.
            is_needed: Whether a trial waits for it; one that would be there before its trial is given up.

        Raises:
            StudyError: It can never be started, or a trial has waited for too long.
        """
        now = self._clock()
        self._next = now + _PAUSE
        if not is_needed:
            return
        self._waiting.append(token)
        if not no_room(error):
            raise cannot_start(error) from error
        if self._since is None:
            self._since = now
            log.warning("No process can be started (%s); waiting up to %.0f s.", error.strerror, PATIENCE)
        if now - self._since >= PATIENCE:
            raise cannot_start(error, now - self._since) from error

    def due(self) -> list[str]:
        """Those to be tried again now."""
        return [] if self.is_tight else self.give_up()

    def give_up(self) -> list[str]:
        """All that wait, which are not tried again unless they are refused again."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def found(self) -> None:
        """Note that a process has started."""
        self._since = None
