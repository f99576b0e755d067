"""Whether the kernel killed a process since memory ran out, which its exit code does not tell from another SIGKILL."""

from __future__ import annotations

import time
from pathlib import Path

COUNTER = Path("/proc/vmstat")
# A large process takes seconds to be gone after it was killed, and is heard of then.
RECENT = 5.0


class OutOfMemory:
    """Watches the kernel's count of the processes that it killed for memory, those of containers included.

    Args:
        counter: The file with the count; without it, nothing is known.
        recent: Seconds for which a look is kept at least, so that a kill is found by what was before.
    """

    def __init__(self, counter: Path = COUNTER, *, recent: float = RECENT) -> None:
        self._counter, self._recent = counter, recent
        now = (time.monotonic(), self._count())
        self._before, self._latest = now, now

    def look(self) -> None:
        """Note how many there were; called often, also while nothing happens."""
        if time.monotonic() - self._latest[0] >= self._recent:
            self._before, self._latest = self._latest, (time.monotonic(), self._count())

    def has_killed(self) -> bool:
        """Whether the kernel killed a process within the last seconds; each one is told once."""
        if self._count() <= self._before[1]:
            return False
        (earlier, before), (later, latest) = self._before, self._latest
        self._before, self._latest = (earlier, before + 1), (later, max(latest, before + 1))
        return True

    def _count(self) -> int:
        try:
            lines = self._counter.read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
