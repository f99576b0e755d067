"""Python programs in processes of their own that start at once: a process that has imported what they need forks them.

A fork is as good as a new interpreter for what is tested with it: its process id, memory, file descriptors, exit code
and ``atexit`` handlers are its own. The imports of torch and W&B are not what is tested, and take two seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = (
    "torch",
    "torch._dynamo",
    "wandb",
    "wandb_training",
    "tunehook.integrations.wandb.recorder",
    "tunehook.integrations.wandb.sync",
    "typer",
)


class Program:
    """A program that runs, with what ``subprocess.Popen`` offers."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._folder = folder

    def poll(self) -> int | None:
        """The exit code, ``None`` while it runs; negative, it is the signal."""
        if self.returncode is None and (code := self._folder / "code").exists():
            self.returncode = int(code.read_text())
        return self.returncode

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float = 120.0) -> tuple[str, str]:
        """Wait for its end; what it wrote to its output and to its error stream."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("python", timeout)
            time.sleep(0.01)
        return (self._folder / "out").read_text(), (self._folder / "err").read_text()


class WarmPython:
    """The process that has imported it all, and forks.

    Args:
        imported: Modules. Defaults to what trainings that W&B records need.
        **variables: Environment variables of it.
    """

    def __init__(self, imported: Sequence[str] = IMPORTED, **variables: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm")
        self._count = 0
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, __file__, *imported],
            env={**clean, "WANDB_ERROR_REPORTING": "false", "PYTHONPATH": path, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.close)

    def start(self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Program:
        """Begin a program.

        Args:
            arguments: As for ``python``: a script, ``-c`` with code, or ``-m`` with a module, and their arguments.
            cwd: Its working directory.
            env: Its environment variables; Python's own have no effect any more.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        folder = Path(self._folder.name, str(self._count))
        folder.mkdir()
        self._count += 1
        job = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "folder": str(folder)}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Program(int(self._process.stdout.readline()), folder)

    def close(self) -> None:
        """End."""
        self._process.communicate()
        self._folder.cleanup()


@functools.cache
def warm_python() -> WarmPython:
    """The one of this process."""
    return WarmPython()


def _serve() -> list[str] | None:
    """Fork for each job; in a child, the arguments of its program."""
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        if (warden := os.fork()) == 0:
            if (pid := os.fork()) == 0:
                return _enter(job)
            _wait(pid, Path(job["folder"]))
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) not in ((0, 0), (warden, 0)):
                pass
    return None


def _enter(job: dict[str, Any]) -> list[str]:
    for stream, name, flags in ((0, os.devnull, os.O_RDONLY), (1, "out", 0), (2, "err", 0)):
        opened = os.open(Path(job["folder"], name), flags or os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, stream)
        os.close(opened)
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    return list(job["arguments"])


def _wait(pid: int, folder: Path) -> None:
    """Keep the exit code of the program, in a process between, so that the one that forks never waits."""
    os.write(1, b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    (folder / "written").write_text(str(code))
    (folder / "written").rename(folder / "code")
    os._exit(0)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        __import__(module)
    gc.freeze()  # what is imported need not be looked through, nor copied, at the end of each child
    if (arguments := _serve()) is not None:
        kind, rest = arguments[0], arguments[1:]
        if kind == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(rest[0], {"__name__": "__main__"})  # noqa: S102 - what the test has written
        elif kind == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(kind, run_name="__main__")
