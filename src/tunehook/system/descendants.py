"""The descendants of a process: none outlives it, however it ends, and whatever session or group they have made.

On Linux a process can be the one to whom the kernel gives orphans (``PR_SET_CHILD_SUBREAPER``), in place of the first
process of the machine. So whoever starts others finds what these have left behind among its own children. A guard, a
small process between the one that starts and the one that is started, does so where both of them are killed. Nothing
stands above the guard: where it is killed itself, the kernel ends the process below it, but not what that has started.

On other systems a process group is all there is; what leaves it is not found.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import FrameType

log = logging.getLogger("tunehook")

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
PATIENCE = 3.0  # seconds that orphans have to end in good order
_LAST = 3.0  # seconds that killed ones have to be gone: those that wait for a disk, or are another user's, are left
_TELL, _KILL, _LEAVE, _LEFT = range(4)  # what is done about an orphan, step by step
_ALONE = 30  # seconds that a child may go on without the parent of its guard
_LOOK = 0.05  # seconds between two looks at those that were told to
END_NOW = int(getattr(signal, "SIGQUIT", signal.SIGTERM))  # tells a guard to kill all that is below it


def end_with_parent(number: int) -> None:
    """Let the kernel send this process a signal when its parent is gone; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))


def take_orphans() -> None:
    """Let the kernel give this process what its descendants leave behind; only Linux can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Orphans:
    """What ended processes have left to this one, which takes orphans: it is told to end, and killed a little later.

    What is there when this is made belongs to this process and is left.
    """

    def __init__(self) -> None:
        self._own = set(_children())
        self._next: dict[int, tuple[int, float]] = {}  # what is done about each next, and when

    def look(self, known: Collection[int], *, by_force: bool = False) -> bool:
        """End what is there.

        Args:
            known: Children of this process that it has started since.
            by_force: Whether all are killed now.

        Returns:
            Whether something is left, so that it makes sense to look again soon.
        """
        now = time.monotonic()
        there = [pid for pid in _children() if pid not in self._own and pid not in known]
        self._next = {pid: self._next.get(pid, (_TELL, now)) for pid in there}
        for pid in there:
            if not _has_ended(pid):
                self._end(pid, now, by_force=by_force)
        return any(step != _LEFT for step, _ in self._next.values())

    def _end(self, pid: int, now: float, *, by_force: bool) -> None:
        step, due = self._next[pid]
        if by_force and step <= _KILL:
            step, due = _KILL, now
        if now < due:
            return
        if step == _TELL:
            _send(pid, signal.SIGTERM)
            self._next[pid] = _KILL, now + PATIENCE
        elif step == _KILL:
            _send(pid, signal.SIGKILL)
            self._next[pid] = _LEAVE, now + _LAST
        else:
            log.warning("Process %d does not end, although it was killed; it is left behind.", pid)
            self._next[pid] = _LEFT, float("inf")

    def end(self, *, by_force: bool = False) -> None:
        """End all of them, and wait until there are none but those that do not end."""
        while self.look((), by_force=by_force):
            time.sleep(_LOOK)


def hear_of_ends() -> None:
    """Let the system keep how children end: it forgets where SIGCHLD is ignored, as a parent may pass on."""
    ignored = hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    if ignored and threading.current_thread() is threading.main_thread():  # others may not set it
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def guarded(*, ends_with_parent: bool) -> None:
    """Go on in a child of this process, which stays as its guard: it ends all that the child leaves, then ends as it.

    To be called before there are threads. SIGTERM is passed on; `END_NOW` kills all at once.

    Args:
        ends_with_parent: Whether the child gets a SIGTERM when the parent of the guard is gone; it may notice itself.
    """
    if sys.platform != "linux":
        return
    hear_of_ends()
    guard = os.getpid()
    take_orphans()
    try:
        child = os.fork()
    except OSError:  # no room for one more; the work comes first
        return
    if child == 0:
        end_with_parent(signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        return
    os.close(0)  # the child's to read
    _watch(child, ends_with_parent=ends_with_parent)


def _watch(child: int, *, ends_with_parent: bool) -> None:
    """Wait for the child, end what it leaves, and end as it did."""
    orphans, is_forced = Orphans(), False

    def pass_on(number: int, _frame: FrameType | None) -> None:
        nonlocal is_forced
        is_forced = is_forced or number in (END_NOW, signal.SIGALRM)
        if number == signal.SIGHUP:
            signal.alarm(_ALONE)
        if number != signal.SIGHUP or ends_with_parent:
            _send(child, signal.SIGKILL if is_forced else signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, END_NOW):
        signal.signal(number, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(signal.SIGHUP)
    ended, status = 0, 0
    while ended != child:  # orphans that end meanwhile are let go
        ended, status = os.waitpid(-1, 0)
    while orphans.look((), by_force=is_forced):
        time.sleep(_LOOK)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource  # Windows has none

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one dump is enough
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _has_ended(pid: int) -> bool:
    """Whether a child has ended, which is gone then."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _children() -> list[int]:
    """The children of this process."""
    if sys.platform != "linux":
        return []
    me, found = os.getpid(), []
    with contextlib.suppress(OSError):  # many kernels have this list; all others are asked of each process
        tasks = [Path(task.path, "children").read_text() for task in os.scandir("/proc/self/task")]
        return [int(pid) for task in tasks for pid in task.split()]
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
                if int(Path(entry.path, "stat").read_text().rpartition(")")[2].split()[1]) == me:
                    found.append(int(entry.name))
    return found
