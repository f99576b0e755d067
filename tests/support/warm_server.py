"""The process that forks the programs of `warm`: ``python warm_server.py <folder> <module> ...``.

A program that it forks differs from one that a fresh interpreter runs in what is imported already, in the seed of the
hashes of texts, which all of its programs share, in its parent and its process group, and in its very end: behind the
``atexit`` handlers no module is taken apart, which would touch, and so copy, all that is shared.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import fcntl
import gc
import io
import marshal
import multiprocessing
import os
import runpy
import select
import signal
import socket
import sys
import threading
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from warm_client import FLAGS, LENGTH, receive

MOST_FILES = 253  # that the kernel hands over at once
HIGH = 512


def serve(listener: socket.socket) -> list[str] | None:
    """Fork for each connection, until the standard input ends; in a program, its arguments."""
    while listener.fileno() in select.select([listener.fileno(), 0], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return _guard(connection)
        connection.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    return None


def _guard(connection: socket.socket) -> list[str]:
    """Between the process that forks, which never waits, and the program, which ends with the one that wants it."""
    length, files, _, _ = socket.recv_fds(connection, LENGTH, MOST_FILES)
    arguments, folder, variables, numbers = marshal.loads(receive(connection, int.from_bytes(length, "big")))  # noqa: S302
    if (pid := os.fork()) == 0:
        connection.close()
        _take(files, numbers)
        os.chdir(folder)
        return _enter(arguments, variables)
    for file in (0, 1, 2, *files):
        os.close(file)
    _tell(connection, pid)
    ended = os.pidfd_open(pid)
    if ended not in select.select([connection.fileno(), ended], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    _tell(connection, code)
    os._exit(0)


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody wants it any more
        connection.sendall(number.to_bytes(LENGTH, "big", signed=True))


def _take(files: Sequence[int], numbers: Sequence[int]) -> None:
    """Give files the numbers that they have where they come from."""
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, HIGH) for file in files]
    for file in files:
        os.close(file)
    for file, number in zip(moved, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)


def _enter(arguments: list[str], variables: dict[str, str]) -> list[str]:
    """Be as Python is where it begins; returns the arguments of the program."""
    sys.orig_argv[:] = [sys.executable, *arguments]
    flags, rest = {argument for argument in arguments if argument in FLAGS}, arguments
    while rest[0] in FLAGS:
        rest = rest[1:]
    os.environ.clear()
    os.environ.update(variables)
    sys.dont_write_bytecode = "-B" in flags or bool(variables.get("PYTHONDONTWRITEBYTECODE"))
    is_direct = "-u" in flags or bool(variables.get("PYTHONUNBUFFERED"))
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=stream is sys.stderr or stream.isatty(), write_through=is_direct)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()  # it is not made anew in a fork
    return rest


def run(arguments: list[str], below: Sequence[str]) -> None:
    """Run a program as ``__main__``.

    Args:
        arguments: A script, ``-c`` with code, or ``-m`` with a module, and their arguments.
        below: What is on the path of modules behind those of the program.
    """
    kind, rest = arguments[0], arguments[1:]
    main: Any = types.ModuleType("__main__")
    main.__builtins__ = builtins
    sys.modules["__main__"] = main
    place = {"-c": "", "-m": os.getcwd()}.get(kind, str(Path(kind).resolve().parent))  # noqa: PTH109
    above = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [place, *above, *(path for path in below if path not in above)]
    if kind == "-m":
        sys.argv[:] = rest
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined] # what Python itself calls
        return
    if kind == "-c":
        sys.argv[:], code = ["-c", *rest[1:]], compile(rest[0], "<string>", "exec")
    else:
        main.__file__ = str(Path(kind).absolute())
        sys.argv[:], code = arguments, compile(Path(kind).read_bytes(), main.__file__, "exec")
    exec(code, vars(main))  # noqa: S102 - what the test has written


class _Ending:
    """Ends a program once its last ``atexit`` handler has run.

    Attributes:
        code: What it ends with; ``None`` where Python itself ends it.
    """

    code: int | None = None

    def __call__(self) -> None:
        if self.code is not None:
            with contextlib.suppress(Exception):  # where it cannot be written, Python says so
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(self.code & 0xFF)


if __name__ == "__main__":
    atexit.register(ending := _Ending())  # the first one is called last
    home = Path(sys.argv[1])
    below = sys.path[1:]
    for module in sys.argv[2:]:
        __import__(module)
    if "optuna" in sys.modules:
        import optuna

        import revisions

        revisions.read_once()
        optuna.storages.RDBStorage("sqlite:///:memory:").engine.dispose()
    if threading.active_count() > 1 or len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        raise RuntimeError(f"A fork has none of the threads that one of {sys.argv[2:]} has started.")
    sys.executable = str(home / "python")
    multiprocessing.set_executable(sys.executable)
    gc.freeze()  # what is imported need not be looked through, nor copied, at the end of each program
    listener = socket.socket(socket.AF_UNIX)
    at = os.open(home, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{at}/socket")
    os.close(at)
    listener.listen(64)
    os.write(1, b"ready\n")
    if (arguments := serve(listener)) is not None:
        try:
            run(arguments, below)
            ending.code = 0
        except SystemExit as end:
            ending.code = end.code if isinstance(end.code, int) else int(end.code is not None)
            raise
        except Exception:
            ending.code = 1
            raise
