"""What a storage said of all trials last, for whoever judges a report: to read them again takes longer and longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# Share of the time that reading may take: what took 10 ms is good for 200 ms. What this process writes that others
# are judged by counts at once; other processes are seen that much later.
SHARE = 0.05


class Memory:
    """The trials of a study as they were read last, and the system attributes of those that run here.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._trials: list[FrozenTrial] | None = None
        self._until = 0.0
        self._attributes: dict[int, dict[str, Any]] = {}
        self._lock = threading.RLock()

    def trials(self, read: Callable[[], list[FrozenTrial]]) -> list[FrozenTrial]:
        """All trials, read where they are not known, or where the time has come."""
        with self._lock:
            began = self._clock()
            if self._trials is None or began > self._until:
                self._trials = read()
                ended = self._clock()
                self._until = ended + (ended - began) / SHARE
            return self._trials

    def attributes(self, trial: int, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The system attributes of a trial of this process, which nobody else writes; read once."""
        with self._lock:
            if trial not in self._attributes:
                self._attributes[trial] = dict(read())
            return self._attributes[trial]

    def note(self, trial: int, key: str, value: Any) -> None:
        """Note a system attribute that was written, by which other trials may be judged."""
        with self._lock:
            self._trials = None
            if trial in self._attributes:
                self._attributes[trial][key] = value

    def forget(self, trial: int) -> None:
        """Forget a trial whose state has changed, and what was read of the others."""
        with self._lock:
            self._trials = None
            self._attributes.pop(trial, None)
