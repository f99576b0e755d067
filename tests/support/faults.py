"""Faults at a chosen one of all calls that change files below a folder, in a program and in what it forks.

`faults.c` stands before the C library, so that SQLite's writes are counted and spoiled as Python's are.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from warm import WarmPython

SOURCE = Path(__file__).with_suffix(".c")
COMPILER = shutil.which("cc")
CONTROL = struct.Struct("llllllll1000s1000s")
LEADER = struct.Struct("l")  # the last number of these
HOUR = 3600
KINDS = {
    "kill": (1, 0), "interrupt": (2, 0), "eio": (3, errno.EIO), "full": (4, errno.ENOSPC),
    "ahead": (5, HOUR), "behind": (5, -HOUR),
}  # fmt: skip
PLENTY = 2**40  # bytes
TIMEOUT = 60.0


class Run(NamedTuple):
    """What became of a program.

    Args:
        calls: How many calls it has made that change files.
        code: Its exit code, negative where it was a signal.
        said: What it wrote to its error stream.
        taken: By how many bytes its files had grown where they were largest.
    """

    calls: int
    code: int
    said: str
    taken: int


class Faults:
    """Runs programs whose calls are counted, each forked from a process that has imported a module.

    Args:
        module: The script that is run.
        imported: What the process imports. Defaults to none: the script alone.
    """

    def __init__(self, module: Path, *imported: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="faults")
        library, control = Path(self._folder.name, "faults.so"), Path(self._folder.name, "control")
        assert COMPILER is not None
        subprocess.run([COMPILER, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
        control.write_bytes(bytes(CONTROL.size))
        with control.open("r+b") as file:
            self._control = mmap.mmap(file.fileno(), CONTROL.size)
        self._variables = {"LD_PRELOAD": str(library), "FAULTS_CONTROL": str(control)}
        self._module = module
        self._python = WarmPython(imported or [module.stem], **self._variables)

    def run(
        self, root: Path, arguments: Sequence[str] = (), *, at: int = 0, kind: str = "kill", room: int = PLENTY,
        log: Path | None = None,
    ) -> Run:  # fmt: skip
        """Run the script with one fault.

        Args:
            root: The folder whose changes count; it need not exist.
            arguments: Of the script.
            at: The number of the call that is spoiled, from 1. Defaults to 0: none.
            kind: ``"kill"`` and ``"interrupt"`` come before the call; with ``"eio"`` this one fails, with ``"full"``
                this and all that follow; with ``"ahead"`` and ``"behind"`` the clock is set by an hour.
            room: Bytes by which files may grow. Defaults to more than they do.
            log: A file that takes down each call, for `after_power_loss`.
        """
        number, error = KINDS[kind] if at else (0, 0)
        if log is not None:
            log.write_bytes(b"")
        self._control[:] = CONTROL.pack(
            0, at, number, error, room, room, 0, 0, os.fsencode(root), b"" if log is None else os.fsencode(log)
        )
        program = self._python.start(
            [str(self._module), *arguments], cwd=root.parent, env={**os.environ, **self._variables}
        )
        self._control[7 * LEADER.size : 8 * LEADER.size] = LEADER.pack(program.pid)
        try:
            _, said = program.communicate(timeout=TIMEOUT)
        finally:
            program.kill()
        assert program.returncode is not None
        count, _, _, _, _, least, *_ = CONTROL.unpack(self._control[:])
        return Run(count, program.returncode, said, room - least)

    def close(self) -> None:
        """End the process that forks."""
        self._python.close()
        self._folder.cleanup()


class Call(NamedTuple):
    """A call that changed a file."""

    name: str
    path: Path
    more: str
    offset: int
    data: bytes


def calls(log: Path) -> Iterator[Call]:
    """What `Faults.run` has taken down."""
    for line in log.read_text().splitlines():
        name, path, more, offset, data = line.split("\t")
        yield Call(name, Path(path), more, int(offset), bytes.fromhex(data))


def after_power_loss(log: Path, count: int, root: Path, to: Path) -> None:
    """Make the folder as it is where power fails behind a call: a file holds what was in it when it was synced last.

    Which files there are, and how they are called, a file system keeps in the order in which it happened, so of those
    that were never synced there is an empty one.

    Args:
        log: What the program did.
        count: So many calls were made.
        root: The folder.
        to: Where it is made.
    """
    now: dict[Path, bytes] = {}
    safe: dict[Path, bytes] = {}
    folders = [root]
    for call in list(calls(log))[:count]:
        match call.name:
            case "create":
                now[call.path] = safe[call.path] = b""
            case "write":
                held = now[call.path].ljust(call.offset, b"\0")
                now[call.path] = held[: call.offset] + call.data + held[call.offset + len(call.data) :]
            case "truncate":
                now[call.path] = now[call.path][: call.offset].ljust(call.offset, b"\0")
            case "sync" if call.path in now:
                safe[call.path] = now[call.path]
            case "rename":
                for files in (now, safe):
                    if call.path in files:
                        files[Path(call.more)] = files.pop(call.path)
            case "unlink":
                for files in (now, safe):
                    files.pop(call.path, None)
            case "mkdir":
                folders.append(call.path)
    for folder in folders:
        (to / folder.relative_to(root)).mkdir(parents=True, exist_ok=True)
    for path, data in safe.items():
        (to / path.relative_to(root)).write_bytes(data)


@functools.cache
def faults(module: Path) -> Faults:
    """The one of this process for a script."""
    return Faults(module)
