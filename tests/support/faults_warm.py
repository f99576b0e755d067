"""Imported by the process that forks the runs of `faults`: what a study costs once in a process, it has paid.

A run takes a fifth of the time then: imports, and what Alembic does with Optuna's migrations, are not what is tested.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faults_study
from revisions import read_once
from tunehook.launch.node import process
from tunehook.launch.node.child import Boot, main
from tunehook.system import guarded


class Prepared:
    """The process that a study starts, forked before the study is opened; with what the node asks of a `Popen`."""

    def __init__(self) -> None:
        end, self._start = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._start)
            os.dup2(end, 0)
            _become_fresh()
        os.close(end)

    def begin(self, boot: Boot, variables: Mapping[str, str]) -> Any:
        """Start what a fresh interpreter would; for another one there is none prepared."""
        process._start = _start
        with contextlib.suppress(BrokenPipeError), os.fdopen(self._start, "wb") as start:
            start.write(pickle.dumps(dict(variables)) + pickle.dumps(boot))
        return self

    def poll(self) -> int | None:
        """The exit code, ``None`` while it runs."""
        if self.returncode is None and (status := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(status[1])
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("python", timeout)
            time.sleep(0.002)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _become_fresh() -> None:
    """Wait for what a fresh interpreter is told, and be one."""
    os.setsid()
    told: Any = os.fdopen(0, closefd=False)
    sys.stdin = told
    try:
        variables = pickle.load(told.buffer)
    except EOFError:  # it started none
        os._exit(0)
    os.environ.clear()
    os.environ.update(variables)
    guarded(ends_with_parent=False)
    main()
    sys.exit(0)


def prepare() -> None:
    """Let the next process that a study starts be one that is there already."""
    process._start = Prepared().begin


def _pay() -> None:
    """Train the study once, in a folder that is removed again."""
    read_once()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("root").mkdir()
        faults_study.main(0)
        gc.collect()  # closes the database


_start = process._start
_pay()
