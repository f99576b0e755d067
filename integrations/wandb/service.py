"""The service of W&B's SDK, the process behind it: used, missed, started again, killed.

It is the border to how the SDK keeps it, written for wandb 0.31; 0.28.1 has the same: ``_connection`` of the singleton,
its ``_proc``, that one's ``_process``, and the addresses in ``WANDB_SERVICE``.
"""
# ruff: noqa: SLF001 - this is the border

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
from typing import Any

import wandb

from tunehook.integrations.wandb.sdk import open_runs, singleton

# So many seconds after a call has failed the service is still awaited to be gone.
DYING = 0.2

# What the SDK imports with the first run of a process and, where it is installed, with the first histogram. Here it is
# imported before a training begins. In the writer's thread that half a second of looking up files held single steps up
# by 0.2 s: the thread lets go of the GIL for each file, and has it back before one that waits for it is awake.
LATE = ("requests", "yaml", "pandas", "wandb.sdk.lib.gitlib", "wandb.sdk.launch.inputs.internal")

_log = logging.getLogger("tunehook")

for _name in LATE:
    with contextlib.suppress(Exception):  # one that fails does so again where the SDK needs it, in the writer's thread
        importlib.import_module(_name)


def service_process() -> subprocess.Popen[bytes] | None:
    """The service of the SDK that this process started, ``None`` where there is none or a parent has it."""
    process: Any = getattr(getattr(current_service(), "_proc", None), "_process", None)
    return process if isinstance(process, subprocess.Popen) else None


def current_service() -> Any:
    """The connection to the service that serves the runs of this process now, ``None`` without one."""
    found = singleton()
    return None if found is None else found._connection


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
        if not is_shared and not open_runs():
            tear_down()


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
            return process.wait(None if open_runs() else wait)
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
