"""Starting and ending trial processes: forked from a warm parent that imported and computed nothing, or fresh."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Protocol

from tunehook.launch.node.channel import Address
from tunehook.launch.node.child import GRACE, Boot
from tunehook.launch.node.function import Function
from tunehook.system import END_NOW, PATIENCE

log = logging.getLogger("tunehook")

_LAST = 5.0  # seconds that a killed process has to be gone, a little more than its guard gives to what is below it
# The guard is forked before anything large is imported.
_CODE = (
    "from tunehook.system import guarded; guarded(ends_with_parent={is_trial}); "
    "from tunehook.launch.node.child import main; main()"
)
# A service of W&B that another process started ends with it; each trial process has its own.
_NOT_INHERITED = ("WANDB_SERVICE",)


class Starter(Protocol):
    """A way to start trial processes."""

    def start(self, token: str, environment: Mapping[str, str]) -> None:
        """Start a process, which will say hello with the token.

        Raises:
            OSError: It cannot be started.
        """

    def signal(self, token: str, number: int) -> None:
        """Send a signal to a process; SIGKILL goes to all that it started, too."""

    def ended(self) -> list[tuple[str, int]]:
        """Tokens and exit codes of processes that ended since, as `subprocess.Popen.returncode`."""

    def close(self) -> None:
        """End what is left."""


class Warm:
    """Forks trial processes from a parent that has imported everything: 10 ms in place of seconds.

    Args:
        address: Where the node process listens.
        function: The user's training.
        threads: Number of threads for one trial.

    Attributes:
        process: The warm parent.
        connection: The way to it, once it has said that it is ready.
    """

    def __init__(self, address: Address, function: Function, threads: int) -> None:
        self.process = _start(Boot(address, function), environment(threads))
        self.connection: Connection | None = None
        self._ended: list[tuple[str, int]] = []

    def start(self, token: str, environment: Mapping[str, str]) -> None:
        """See `Starter`."""
        self._send("fork", token, dict(environment))

    def signal(self, token: str, number: int) -> None:
        """See `Starter`."""
        self._send("signal", token, number)

    def note(self, token: str, code: int) -> None:
        """Take the exit code that the warm parent sent."""
        self._ended.append((token, code))

    def ended(self) -> list[tuple[str, int]]:
        """See `Starter`."""
        found, self._ended = self._ended, []
        return found

    def close(self) -> None:
        """Let the warm parent end what is left, and itself."""
        if self.connection is not None:
            self.connection.close()
        else:  # it still imports, and has forked nothing
            _signal(self.process, signal.SIGTERM)
        _end(self.process)

    def _send(self, *order: object) -> None:
        if self.connection is not None:
            with contextlib.suppress(OSError):  # it is gone, which is heard of next
                self.connection.send(order)


class Fresh:
    """Starts each trial in a process of its own from the beginning, which imports everything again.

    Args:
        address: Where the node process listens.
        function: The user's training.
        threads: Number of threads for one trial.
    """

    def __init__(self, address: Address, function: Function, threads: int) -> None:
        self._address, self._function, self._threads = address, function, threads
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, token: str, environment_: Mapping[str, str]) -> None:
        """See `Starter`."""
        boot = Boot(self._address, self._function, token)
        self._processes[token] = _start(boot, {**environment(self._threads), **environment_})

    def signal(self, token: str, number: int) -> None:
        """See `Starter`."""
        process = self._processes.get(token)
        if process is not None and process.poll() is None:
            _signal(process, number)

    def ended(self) -> list[tuple[str, int]]:
        """See `Starter`."""
        found = [(token, code) for token, process in self._processes.items() if (code := process.poll()) is not None]
        for token, _ in found:
            del self._processes[token]
        return found

    def close(self) -> None:
        """See `Starter`."""
        for process in self._processes.values():
            _end(process)


def environment(threads: int) -> dict[str, str]:
    """The variables of a trial process: its share of threads, unless the user has set it; no GPU until it trains."""
    own = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        own.setdefault(name, str(threads))
    # torch then looks for GPUs without the driver of CUDA, which would be lost in forks. Lightning sets it too.
    own.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    return own


def cores() -> int:
    """Number of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def can_fork() -> bool:
    """Whether processes may be forked on this system; on macOS its own libraries do not survive it."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def _start(boot: Boot, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603 - this Python and a fixed line
        [sys.executable, "-c", _CODE.format(is_trial=boot.token is not None)],
        stdin=subprocess.PIPE,
        env=dict(variables),
        start_new_session=True,
    )
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it ended at once, which is told by its exit code
            process.stdin.write(pickle.dumps(boot))
            process.stdin.close()
    return process


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if number != getattr(signal, "SIGKILL", None):
            process.send_signal(number)
        elif sys.platform == "linux":
            process.send_signal(END_NOW)
        else:
            os.killpg(process.pid, number)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE + PATIENCE + 2)
        return
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    try:
        process.wait(_LAST)
    except subprocess.TimeoutExpired:
        log.warning("Process %d does not end, although it was killed; it is left behind.", process.pid)
