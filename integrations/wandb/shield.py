"""The shield between a training and W&B's SDK: a thread that makes the calls, and the service behind it.

W&B is called from a thread of its own: its calls wait for its service, and ``finish`` for the network. The thread rests
nine times as long as a row took, so that rows that come fast cost the training no more than a tenth of a core.
"""
# ruff: noqa: SLF001 - the SDK offers no way to ask for its service

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import wandb
from pydantic import ValidationError
from wandb.sdk import wandb_setup

# The writer rests nine times as long as a row took, so that it takes at most a tenth of one core from the training.
REST = 9.0
# Without an answer for so long, in seconds and beyond the limit of the call itself, the service is taken for stuck.
GRACE = 5.0
# So many seconds after a call has failed the service is still awaited to be gone.
DYING = 0.2

# What the SDK imports with the first run of a process and, where it is installed, with the first histogram. Here it is
# imported before a training begins. In the writer's thread that half a second of looking up files held single steps up
# by 0.2 s: the thread lets go of the GIL for each file, and has it back before one that waits for it is awake.
LATE = ("requests", "yaml", "pandas", "wandb.sdk.lib.gitlib", "wandb.sdk.launch.inputs.internal")

# Of a setting or a name, which another service or mode would not take either.
WRONG = (ValidationError, UnicodeError)

_log = logging.getLogger("tunehook")

for _name in LATE:
    with contextlib.suppress(Exception):  # one that fails does so again where the SDK needs it, behind the shield
        importlib.import_module(_name)


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
                self._thread = threading.Thread(target=self._work, name="tunehook-wandb", daemon=True)
                self._thread.start()
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


def service_process() -> subprocess.Popen[bytes] | None:
    """The service of the SDK that this process started, ``None`` where there is none or a parent has it."""
    process: Any = getattr(getattr(current_service(), "_proc", None), "_process", None)
    return process if isinstance(process, subprocess.Popen) else None


def current_service() -> Any:
    """The connection to the service that serves the runs of this process now, ``None`` without one."""
    singleton = wandb_setup._singleton
    return None if singleton is None or singleton._pid != os.getpid() else singleton._connection


# All recorders of a process share its service: who uses it, and a lock for whoever ends it.
_users: list[object] = []
_ending = threading.RLock()


def use_service(user: object) -> object:
    """Note that someone's run is begun or begins, and start the service if need be.

    Returns:
        The service, for `restart_service`.
    """
    with _ending:
        if not any(user is other for other in _users):
            _users.append(user)
        leave_dead_service()
        wandb.setup()
        return current_service()


def leave_service(user: object) -> None:
    """Note that its run has ended."""
    with _ending:
        _users[:] = [other for other in _users if other is not user]


def end_service(user: object) -> None:
    """End the service in good order, unless it serves the run of someone else."""
    with _ending:
        is_shared = any(other is not user for other in _users)
        if not is_shared and not _has_open_run():
            tear_down()


def _has_open_run() -> bool:
    return getattr(wandb_setup._singleton, "most_recent_active_run", None) is not None


def restart_service(service: object) -> bool:
    """Let the SDK start its service again if the one that a run began with is gone; false where it still runs."""
    with _ending:
        is_current = service is None or service is current_service()
        if _is_gone(wait=DYING):
            tear_down()
            return True
        return not is_current  # another run of this process was first


def _is_gone(*, wait: float) -> bool:
    """Whether the service has ended; one that was killed is awaited, and may hang on with its socket closed."""
    process = service_process()
    if process is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        if process.poll() is not None:
            return True
    return not _answers(os.environ.get("WANDB_SERVICE", ""))


def leave_dead_service() -> None:
    """Forget the service of a parent process if it has ended, so that the SDK starts one here."""
    with _ending:
        address = os.environ.get("WANDB_SERVICE", "")
        if not address or service_process() is not None or _answers(address):
            return
        _log.warning("The W&B service that this process was given has ended: it starts one of its own.")
        tear_down()
        os.environ.pop("WANDB_SERVICE", None)


def end_quietly(*, wait: float) -> None:
    """Let the SDK's own end, which comes next at the end of the process, pass over a service that is gone or hangs.

    It would print a traceback, or wait without end for one that is stopped. Where a run is open still, which is the
    user's, its upload is waited for as the SDK does it.

    Args:
        wait: Seconds until a service that has nothing to upload and does not end is killed.
    """
    connection, process = current_service(), service_process()
    if process is None:
        return
    teardown = connection.teardown

    def join() -> int:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(None if _has_open_run() else wait)
        process.kill()
        return process.wait()

    def end(exit_code: int) -> int | None:
        try:
            code: int | None = teardown(exit_code)
        except Exception:
            if not _is_gone(wait=DYING):
                raise
            return None
        return code

    connection._proc.join, connection.teardown = join, end


def tear_down() -> None:
    """End the service and wait until it has written all, as the end of the process does."""
    with contextlib.suppress(BaseException):  # it raises that the service is gone, SystemExit with its code among it
        wandb.teardown()


def _answers(address: str) -> bool:
    """Whether someone listens at the service's address; true where the address is not understood."""
    unix, tcp = re.fullmatch(r"\d+-\d+-unix-(.+)", address), re.fullmatch(r"\d+-\d+-tcp-localhost-(\d+)", address)
    try:
        if unix is not None and hasattr(socket, "AF_UNIX"):
            with socket.socket(socket.AF_UNIX) as made:
                made.settimeout(1.0)
                made.connect(unix[1])
        elif tcp is not None:
            socket.create_connection(("localhost", int(tcp[1])), timeout=1.0).close()
    except (TimeoutError, BlockingIOError):
        return True
    except OSError:
        return False
    return address != ""


def kill_service() -> None:
    """End a service that does not answer, so that whoever waits for it goes on; not below a run of the user's."""
    process = service_process()
    if process is not None and process.poll() is None and wandb.run is None:
        _log.warning("W&B's service (process %d) does not answer and is ended.", process.pid)
        with contextlib.suppress(OSError):
            os.kill(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def first_line(error: object) -> str:
    """What an error says, in one line without its full stop; its class, where it says nothing."""
    if isinstance(error, ValidationError):  # its first line says only how many settings are wrong
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return f"a setting of W&B is wrong, as of a variable WANDB_...; mend {'; '.join(wrong)}"
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines and lines[0] != "<no message>" else type(error).__name__
