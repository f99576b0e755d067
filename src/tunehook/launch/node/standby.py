"""Trial processes that are there before their trial, so that it starts where another one has just ended."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection


@dataclass(frozen=True)
class Spare:
    """A process that waits for a trial.

    Attributes:
        token: Names it on its way here.
        connection: The way to it.
        pid: Its id.
    """

    token: str
    connection: Connection
    pid: int


class Spares:
    """The processes that wait.

    Args:
        start: Starts one, which says hello with the token that it gets.
    """

    def __init__(self, start: Callable[[str], None]) -> None:
        self._start = start
        self._coming: set[str] = set()
        self._ready: dict[str, Spare] = {}

    def fill(self, number: int) -> None:
        """Start processes until so many are there or on the way."""
        for _ in range(number - len(self._coming) - len(self._ready)):
            token = secrets.token_hex(8)
            self._coming.add(token)
            self._start(token)

    def greet(self, spare: Spare) -> bool:
        """Take one that has come in; False where it is none of these."""
        if spare.token not in self._coming:
            return False
        self._coming.remove(spare.token)
        self._ready[spare.token] = spare
        return True

    def take(self) -> Spare | None:
        """One for a trial, if one is there."""
        return self._ready.pop(next(iter(self._ready))) if self._ready else None

    def drop(self, token: str) -> None:
        """Forget one that has ended."""
        self._coming.discard(token)
        gone = self._ready.pop(token, None)
        if gone is not None:
            gone.connection.close()

    def close(self) -> None:
        """Let all of them go: one that waits ends when nobody is there any more."""
        self._coming.clear()
        for spare in self._ready.values():
            with contextlib.suppress(OSError):
                spare.connection.close()
        self._ready.clear()
