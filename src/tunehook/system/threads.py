"""Threads, also where the system has no room for one more."""

from __future__ import annotations

import _thread
import errno
from collections.abc import Callable


def in_thread(work: Callable[..., None], *given: object) -> None:
    """Do something in a thread of its own, for which nobody waits when the process ends.

    Not in a `threading.Thread`: its `start` waits until the thread has begun, forever where no memory is left for that.
    Here the thread is gone then, and what it was given is let go.

    Args:
        work: What to do.
        given: Its arguments.

    Raises:
        OSError: There is no room for one more.
    """
    try:
        _thread.start_new_thread(work, given)
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from error
