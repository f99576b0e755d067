"""The thread that calls W&B's SDK in place of the training: its calls wait for its service, ``finish`` for the network.

It rests nine times as long as a row took, so that rows that come fast cost the training no more than a tenth of a core.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

# The writer rests nine times as long as a row took, so that it takes at most a tenth of one core from the training.
REST = 9.0
# Without an answer for so long, in seconds and beyond the limit of the call itself, the service is taken for stuck.
GRACE = 5.0

_log = logging.getLogger("tunehook")


class Writer:
    """A daemon thread that runs jobs in order. Putting a job never waits, and one that raises ends no other.

    The thread begins with the first job and ends where there is nothing to do for a while, so that a recorder that is
    done leaves none behind.
    """

    def __init__(self, *, idle: float = 5.0) -> None:
        self._jobs: deque[tuple[Callable[[], None], float, bool]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._idle = idle
        self._deadline: float | None = None  # of the job that runs
        self._hurries = False

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def is_stuck(self) -> bool:
        """Whether the job that runs is past its limit."""
        deadline = self._deadline
        return deadline is not None and time.monotonic() > deadline

    def put(self, job: Callable[[], None], *, limit: float, is_slow: bool = False) -> None:
        """Add a job.

        Args:
            job: Is called in the thread.
            limit: Seconds that it may take before the writer counts as stuck.
            is_slow: Rest behind the job, in proportion to its time.
        """
        with self._changed:
            self._jobs.append((job, limit, is_slow))
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="tunehook-wandb", daemon=True)
                thread.start()  # raises where there is no room for one more, and the next job tries again
                self._thread = thread
            self._changed.notify_all()

    def call(self, job: Callable[[], None], *, limit: float, wait: float) -> bool:
        """Add a job and wait for it.

        Args:
            job: Is called in the thread; what it raises is raised here, if it comes in time.
            limit: As in `put`.
            wait: Seconds to wait for it, with all jobs before it.

        Returns:
            Whether it is done.
        """
        done, errors = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                job()
            except BaseException as error:
                errors.append(error)
                if is_late:
                    raise
            finally:
                done.set()

        is_late = False
        self.put(run, limit=limit)
        is_late = not done.wait(wait)
        if errors and not is_late:
            raise errors[0]
        return not is_late

    def drain(self, wait: float) -> bool:
        """Wait until everything is done, without rests in between; false where it is not in time."""
        deadline = time.monotonic() + wait
        with self._changed:
            self._hurries = True
            self._changed.notify_all()
            try:
                while self._jobs or self._deadline is not None:
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        return False
                    self._changed.wait(remaining)
            finally:
                self._hurries = False
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._jobs:
                    if not self._changed.wait(self._idle) and not self._jobs:
                        self._thread = None
                        return
                job, limit, is_slow = self._jobs.popleft()
                began = time.monotonic()
                self._deadline = began + limit + GRACE
            try:
                job()
            except BaseException:  # noqa: BLE001 - the thread must live; jobs tell their own errors
                _log.debug("A call of W&B's SDK failed.", exc_info=True)
            took = time.monotonic() - began
            with self._changed:
                self._deadline = None
                self._changed.notify_all()
                if is_slow:
                    self._rest(REST * took)

    def _rest(self, seconds: float) -> None:
        """Wait, unless someone waits for the writer, or something else than the next row is to be done."""
        deadline = time.monotonic() + min(seconds, 0.1)
        while (
            not (self._hurries or (self._jobs and not self._jobs[0][2]))
            and (remaining := deadline - time.monotonic()) > 0
        ):
            self._changed.wait(remaining)
