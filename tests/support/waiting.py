"""Waiting for what has to come: for the event itself, and longer than any machine needs for it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 300.0  # seconds after which something is taken to hang, also where ten programs share a core


def hear(process: subprocess.Popen[Any], text: str) -> None:
    """Wait until a process has written a text to its error stream, which is a pipe.

    Raises:
        EOFError: It has ended without it.
    """
    assert process.stderr is not None
    said = ""
    while text not in said:
        line = process.stderr.readline()
        if not line:
            raise EOFError(said)
        said += line if isinstance(line, str) else line.decode()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: It never came.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"It has not come in {PATIENCE:.0f} s.")
        time.sleep(0.02)
