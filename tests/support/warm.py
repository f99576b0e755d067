"""Python programs in processes of their own that start at once: a process that has imported what they need forks them.

A fork is as good as a new interpreter for what is tested with it: its process id, memory, file descriptors, exit code
and ``atexit`` handlers are its own. The imports of torch and W&B are not what is tested, and take seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import warm_client
import warm_server
from waiting import PATIENCE

IMPORTED = (
    "torch",
    "torch._dynamo",
    "wandb",
    "wandb_training",
    "tunehook.integrations.wandb.recorder",
    "tunehook.integrations.wandb.sync",
    "typer",
)
# What Lightning and Keras import, and neither of them: who comes before whom is as in a new interpreter.
BELOW = (
    "matplotlib",
    "pandas",
    "scipy.stats",
    "sklearn",
    "h5py",
    "optuna",
    "sqlalchemy.dialects.sqlite",
    "alembic.command",
)
BELOW_ON_TORCH = ("torch", "torch._dynamo", "torchmetrics", "scipy.signal")


class Program:
    """A program that runs, with what ``subprocess.Popen`` offers."""

    def __init__(self, connection: socket.socket, output: Path, errors: Path) -> None:
        self.pid = warm_client.receive_number(connection)
        self.returncode: int | None = None
        self._connection, self._written = connection, (output, errors)

    def poll(self, timeout: float = 0.0) -> int | None:
        """The exit code, ``None`` while it runs; negative, it is the signal."""
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            self.returncode = warm_client.receive_number(self._connection)
            self._connection.close()
        return self.returncode

    def kill(self) -> None:
        """Kill it, if it runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str]:
        """Wait for its end; what it wrote to its output and to its error stream.

        Raises:
            subprocess.TimeoutExpired: It runs on.
        """
        if self.poll(timeout) is None:
            raise subprocess.TimeoutExpired("python", timeout)
        output, errors = (path.read_text() for path in self._written)
        return output, errors


class WarmPython:
    """The process that has imported it all, and forks.

    Args:
        imported: Modules. Defaults to what trainings that W&B records need.
        path: Where it looks for modules, ``PYTHONPATH``. Defaults to the path of this process.
        **variables: Environment variables of it.

    Attributes:
        executable: A program to start in place of ``sys.executable``, and that of its programs.
    """

    def __init__(self, imported: Sequence[str] = IMPORTED, path: str | None = None, **variables: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm")
        self._home = Path(self._folder.name)
        self._count = 0
        self.executable = str(self._home / "python")
        base = str(Path(sys.executable).resolve())
        Path(self.executable).write_text(
            f"#!{base} -IS\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            f"import warm_client\nwarm_client.main({self._folder.name!r}, {sys.executable!r}, sys.argv[1:])\n"
        )
        Path(self.executable).chmod(0o700)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        path = os.pathsep.join(filter(None, sys.path)) if path is None else path
        self._process = subprocess.Popen(
            [sys.executable, warm_server.__file__, self._folder.name, *imported],
            env={**clean, "WANDB_ERROR_REPORTING": "false", "PYTHONPATH": path, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        atexit.register(self.close)

    def start(self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Program:
        """Begin a program.

        Args:
            arguments: As for ``python``: a script, ``-c`` with code, or ``-m`` with a module, and their arguments.
            cwd: Its working directory.
            env: Its environment variables; most of Python's own have no effect any more.
        """
        self._count += 1
        written = self._home / f"{self._count}.out", self._home / f"{self._count}.err"
        connection = warm_client.connect(self._home)
        with Path(os.devnull).open("rb") as nothing, written[0].open("wb") as output, written[1].open("wb") as errors:
            files = [nothing.fileno(), output.fileno(), errors.fileno()]
            warm_client.send(connection, (list(arguments), str(cwd), dict(env), [0, 1, 2]), files)
        return Program(connection, *written)

    def close(self) -> None:
        """End."""
        self._process.communicate()
        self._folder.cleanup()


@functools.cache
def warm_python() -> WarmPython:
    """The one of this process, for trainings that W&B records."""
    return WarmPython()


@functools.cache
def python() -> str:
    """What starts a script in place of ``sys.executable``, where the start itself is not what is tested.

    The script is forked, and so is what it starts by ``sys.executable``, such as the ranks of a fit, but for what has a
    session of its own, as trial processes have.
    """
    is_on_torch = os.environ.get("KERAS_BACKEND", "torch") == "torch"
    return WarmPython([*BELOW, *(BELOW_ON_TORCH if is_on_torch else ())], path="").executable
