"""What this process writes on its terminal: our own lines, and those of others above a table that stays in place."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tunehook.system.words import encodable, printable

log = logging.getLogger("tunehook")


class _StandardError(logging.Handler):
    """Writes on what is standard error when a line comes, as logging's own handler of last resort does."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            sys.stderr.write(encodable(self.format(record), sys.stderr) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - logging's own way: a line that cannot be written ends nothing
            self.handleError(record)


def _clean(record: logging.LogRecord) -> bool:
    """Let no line of ours do anything to a terminal, whatever it tells of names and errors."""
    with contextlib.suppress(TypeError, ValueError):  # arguments that do not fit; logging itself tells that
        said = record.getMessage()
        clean = "\n".join(map(printable, said.split("\n")))
        if clean != said:
            record.msg, record.args = clean, ()
    return True


log.addFilter(_clean)


class Forgiving:
    """A stream that writes whatever its encoding lacks as escapes; all else is asked of the stream itself."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        return int(self._stream.write(encodable(text, self._stream)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_visible() -> None:
    """Show tunehook's own lines to people who configured no logging."""
    if not log.handlers and not logging.getLogger().handlers:
        handler = _StandardError()
        handler.setFormatter(logging.Formatter("tunehook: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


def is_terminal(stream: Any) -> bool:
    """Whether a stream leads to a terminal; one that is closed does not."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def flush_output() -> None:
    """Write what standard output and error still hold, before a process ends without doing so itself."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def standard_handlers() -> list[tuple[Any, object]]:
    """The handlers of all loggers that write on standard output or error, each with its stream."""
    known = logging.getLogger().manager.loggerDict.values()
    loggers = [logging.getLogger(), *(one for one in known if isinstance(one, logging.Logger))]
    handlers = {id(handler): handler for logger in loggers for handler in logger.handlers}
    streams = _standard_streams()
    found = [(handler, _stream_of(handler)) for handler in handlers.values()]
    return [(handler, stream) for handler, stream in found if any(stream is one for one in streams)]


@contextlib.contextmanager
def written_above(show: Callable[[str], None]) -> Iterator[None]:
    """Hand what is written on the terminal inside to a function, in whole lines.

    It holds for ``print``, for warnings and for the handlers of all loggers, those that were made before too. What
    leads elsewhere, such as into a file, is left alone.

    Args:
        show: Takes lines without the last newline.
    """
    above = {id(stream): _Above(stream, show) for stream in _standard_streams() if is_terminal(stream)}
    handlers = [handler for handler, stream in standard_handlers() if id(stream) in above]
    names = [name for name in ("stdout", "stderr") if id(getattr(sys, name)) in above]
    before = {name: getattr(sys, name) for name in names}
    for name in names:
        setattr(sys, name, above[id(before[name])])
    rewired = [handler for handler in handlers if _rewire(handler, above)]
    try:
        yield
    finally:
        for one in above.values():
            one.end()
        for name in names:
            if isinstance(getattr(sys, name), _Above):
                setattr(sys, name, before[name])
        for handler in rewired:
            if isinstance(handler.stream, _Above):
                handler.setStream(handler.stream.stream)


class _Above:
    """A stream whose lines a function takes, once they are whole; all else is asked of the stream itself."""

    def __init__(self, stream: Any, show: Callable[[str], None]) -> None:
        self.stream = stream
        self._show: Callable[[str], None] | None = show
        self._begun = ""  # a line whose end is still to come
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Take a text; the last line waits for its end."""
        with self._lock:
            if self._show is None:  # someone has kept it for longer than the table was there
                return int(self.stream.write(text))
            lines, newline, rest = text.rpartition("\n")
            if newline:
                lines, self._begun = self._begun + lines, ""
                self._show(lines)
            self._begun += rest
            return len(text)

    def writelines(self, lines: Any) -> None:
        """Take several texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """What is there was shown; a line that is not whole would stand in the table."""

    def end(self) -> None:
        """Write a line that was begun, and take no more."""
        with self._lock:
            if self._begun and self._show is not None:
                self._show(self._begun)
            self._begun, self._show = "", None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _rewire(handler: Any, above: dict[int, _Above]) -> bool:
    """Let a handler write above; not one that looks its stream up as it writes, nor one with a stream of its own."""
    stream = getattr(handler, "stream", None)
    if id(stream) not in above:
        return False
    handler.setStream(above[id(stream)])
    return True


def _standard_streams() -> list[Any]:
    streams = {id(one): one for one in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__) if one is not None}
    return list(streams.values())


def _stream_of(handler: logging.Handler) -> object:
    """Where a handler writes; rich's has a console."""
    return getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
