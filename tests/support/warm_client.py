"""What `warm.python()` runs in place of the interpreter: it hands all that it was given to the process that forks.

It starts in some ten milliseconds, so it imports little. To whoever started it, it is the program: it passes signals on
to it, and ends as it has ended, with its exit code or by the same signal.
"""

from __future__ import annotations

import marshal
import os
import signal
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

LENGTH = 8
FLAGS = ("-u", "-B")
# What Python reads when it starts, and a fork of one that runs can do as well. Ray sets the last one in who calls it.
VARIABLES = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONBREAKPOINT"}


def main(folder: str, real: str, arguments: Sequence[str]) -> None:
    """Run a program and end as it has ended.

    Args:
        folder: Where the socket of the process that forks is.
        real: The interpreter, which is started where a fork of another one would not do.
        arguments: As for ``python``.
    """
    if is_apart() or not can_be_forked(arguments, os.environ):
        os.execv(real, [real, *arguments])  # noqa: S606
    files = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - no more imports than needed
    files = [file for file in files if is_open(file)]
    connection = connect(folder)
    send(connection, (list(arguments), os.getcwd(), dict(os.environ), files), files)  # noqa: PTH109
    pid = receive_number(connection)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os.kill(pid, number))
    code = receive_number(connection)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def is_apart() -> bool:
    """Whether this was started in a process group of its own, which nothing that is forked would be in.

    The ranks of torchrun are, which wants no more of it than to send them a signal.
    """
    return os.getpgrp() == os.getpid() and "TORCHELASTIC_RUN_ID" not in os.environ


def can_be_forked(arguments: Sequence[str], variables: Iterable[str]) -> bool:
    """Whether these are a script, ``-c`` or ``-m``, and all else can be set in a Python that runs."""
    rest = [argument for argument in arguments if argument not in FLAGS]
    is_program = bool(rest) and (rest[0] in ("-c", "-m") or not rest[0].startswith("-"))
    return is_program and all(name in VARIABLES or not name.startswith("PYTHON") for name in variables)


def is_open(file: int) -> bool:
    """Whether a file descriptor is one, and not that of the listing that named it."""
    try:
        os.fstat(file)
    except OSError:
        return False
    return True


def connect(folder: str | Path) -> socket.socket:
    """A connection to the process that forks."""
    connection = socket.socket(socket.AF_UNIX)
    at = os.open(folder, os.O_RDONLY)
    connection.connect(f"/proc/self/fd/{at}/socket")  # the path of a socket may have some hundred characters only
    os.close(at)
    return connection


def send(connection: socket.socket, job: Any, files: Sequence[int]) -> None:
    """Send a job, and open files."""
    data = marshal.dumps(job)
    socket.send_fds(connection, [len(data).to_bytes(LENGTH, "big")], files)
    connection.sendall(data)


def receive_number(connection: socket.socket) -> int:
    """A process id or an exit code."""
    return int.from_bytes(receive(connection, LENGTH), "big", signed=True)


def receive(connection: socket.socket, length: int) -> bytes:
    """So many bytes.

    Raises:
        EOFError: The other side has ended.
    """
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError("the process that forks has ended")
        data += part
    return data
