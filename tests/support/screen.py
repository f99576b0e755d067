"""A terminal for tests: a command runs in a pseudo-terminal, and what it writes is laid out as on a screen."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

CODE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\r|\n|\x08|[^\x1b\r\n\x08]")


@dataclass
class Screen:
    """The lines of a terminal of some columns, with those that have scrolled out at the top.

    It knows what rich writes: new lines, the way up, erased lines, colours, a cursor that is hidden and shown.
    """

    columns: int
    lines: list[list[str]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    unknown: set[str] = field(default_factory=set)

    def write(self, text: str) -> None:
        """Take what a program writes; no code is torn."""
        for found in CODE.finditer(text):
            self._take(found[0], found[1], found[2])

    def _take(self, text: str, number: str | None, code: str | None) -> None:
        if code == "A":
            self.row = max(0, self.row - int(number or 1))
        elif code == "K":
            self.lines[self.row] = []
        elif code in ("m", "h", "l"):
            pass
        elif code is not None:
            self.unknown.add(text)
        elif text == "\r":
            self.column = 0
        elif text == "\n":
            self._go_down()
        elif text == "\x08":
            self.column = max(0, self.column - 1)
        else:
            self._put(text)

    def _go_down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def _put(self, letter: str) -> None:
        if self.column == self.columns:
            self.column = 0
            self._go_down()
        line = self.lines[self.row]
        line += " " * (self.column + 1 - len(line))
        line[self.column] = letter
        self.column += 1

    @property
    def text(self) -> list[str]:
        """The lines that stand there now."""
        return ["".join(line).rstrip() for line in self.lines]

    def has(self, text: str) -> bool:
        """Whether a text stands in a line."""
        return any(text in line for line in self.text)


def run_in_terminal(
    command: list[str], *, columns: int = 80, lines: int = 24, limit: float = 60.0,
    look: Callable[[Screen, int], object] = lambda *_: None,
) -> tuple[Screen, int]:  # fmt: skip
    """Run a command in a terminal of its own; gives the screen and the exit code.

    Args:
        command: The command.
        columns: Columns of the terminal.
        lines: Its lines.
        limit: Seconds after which the test fails.
        look: Is called with the screen after each piece of output, and with the file that keys are written to.
    """
    size = struct.pack("HHHH", lines, columns, 0, 0)
    pid, file = pty.fork()
    if pid == 0:
        ioctl(0, termios.TIOCSWINSZ, size)
        os.environ.update(TERM="xterm-256color")
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            os.environ.pop(name, None)
        os.execvp(command[0], command)  # noqa: S606
    ioctl(file, termios.TIOCSWINSZ, size)
    screen, rest, end = Screen(columns), b"", time.monotonic() + limit
    while True:
        if time.monotonic() > end:
            os.kill(pid, 9)
        try:
            if not select.select([file], [], [], 0.2)[0]:
                continue
            rest += os.read(file, 65536)
        except OSError:  # the terminal is closed
            break
        whole = re.fullmatch(rb"(.*?)(\x1b\[?[0-9;?]*|[\xc0-\xff][\x80-\xbf]{0,2})?", rest, re.DOTALL)
        assert whole is not None
        screen.write(whole[1].decode())
        rest = whole[2] or b""
        look(screen, file)
    os.close(file)
    return screen, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_script(name: str, *arguments: str, **options: object) -> tuple[Screen, int]:
    """Run a script of the tests in a terminal."""
    return run_in_terminal([sys.executable, str(Path(__file__).with_name(name)), *arguments], **options)  # type: ignore[arg-type]
