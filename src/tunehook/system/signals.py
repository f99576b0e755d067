"""Signals that ask a process to end: who handles them for a while, and SIGTERM held back until an epoch has ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

# For how many seconds an epoch is let go on, so that what it has trained can be kept.
SOON = 5.0
# So many seconds more, where it takes longer than the one before.
LATE = 3.0


class Terminated(SystemExit):
    """SIGTERM: the process is asked to end, such as by a scheduler that needs its place."""


@contextlib.contextmanager
def handling(handler: Callable[[int, Any], object], *numbers: int) -> Iterator[None]:
    """Let a function handle signals inside, where they arrive: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, other in zip(numbers, before, strict=True):
            signal.signal(number, other)


def terminate(number: int, _frame: object) -> NoReturn:
    """Handle a signal by raising `Terminated`."""
    raise Terminated(128 + number)


class Notice:
    """Holds SIGTERM back while an epoch ends that is likely to end soon, by what the one before took.

    Whoever trains calls `begin_epoch`, and asks `is_given` between two epochs; then it keeps what there is to keep and
    calls `pass_on`. A second SIGTERM, or an epoch that takes too long, ends the training at once, as it would have
    without. In another thread than the main one, where no signals arrive, it does nothing.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_given = False
        self._pid = 0
        self._clock = clock
        self._began: float | None = None
        self._took: float | None = None
        self._before: Any = None
        self._timer: threading.Timer | None = None

    def open(self) -> None:
        """Begin to listen."""
        if threading.current_thread() is threading.main_thread() and self._before is None:
            before = signal.getsignal(signal.SIGTERM)
            if callable(before):  # else it ends the process, or nobody wants it
                self._before, self._pid = before, os.getpid()
                signal.signal(signal.SIGTERM, self._take)

    def begin_epoch(self) -> None:
        """Note that an epoch begins, and with it that another one has ended."""
        now = self._clock()
        self._took = None if self._began is None else now - self._began
        self._began = now

    @property
    def ends_soon(self) -> bool:
        """Whether the epoch is likely to end soon."""
        return self._took is not None and self._began is not None and self._began + self._took - self._clock() <= SOON

    def pass_on(self) -> None:
        """End the training now."""
        signal.raise_signal(signal.SIGTERM)

    def close(self) -> None:
        """Listen no more; may be called more than once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._took = None  # a handler that came after ours may still call it, which passes everything on then
        if self._before is not None and signal.getsignal(signal.SIGTERM) == self._take:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _take(self, number: int, frame: Any) -> None:
        # A process that the training has forked has nothing to keep.
        if self.is_given or not self.ends_soon or os.getpid() != self._pid:
            self._before(number, frame)
        else:
            self.is_given = True
            self._timer = threading.Timer(SOON + LATE, os.kill, (os.getpid(), number))
            self._timer.daemon = True
            try:
                self._timer.start()
            except RuntimeError:  # no room for a thread: nobody would end a training that goes on
                self._before(number, frame)
