"""What a framework says in each training: once a study on the terminal, and of the later ones in their trial's output.

The trials of a study that train one after the other in this process make everything again, and a framework tells each
time what hardware there is, gives its advice and prints the model. Nothing of that is lost.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tunehook.adapter.patches import Patches
from tunehook.record import open_file, output_of
from tunehook.session import active
from tunehook.system import standard_handlers

# What was said in each study of this process, by its folder.
_said: defaultdict[Path, set[Hashable]] = defaultdict(set)


class Once:
    """Decides what a trial says on the terminal, and writes the rest into its output.

    Args:
        folder: The trial's folder.
        packages: The framework's: what the user's code says with the framework's functions is the user's.
        topics: Loggers of the framework by the ends of their names, with what they speak of, if that is one thing.
    """

    def __init__(self, folder: Path, packages: Collection[str], topics: Mapping[str, str]) -> None:
        self._said, self._output = _said[folder.parent], output_of(folder)
        self._packages, self._topics = packages, topics
        self._decided: tuple[logging.LogRecord | None, bool] = (None, True)

    def passes(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; several handlers may ask for the same one."""
        if not self._is_frameworks(record.pathname):
            return True
        if record is not self._decided[0]:
            said = record.getMessage()
            topic = next((topic for end, topic in self._topics.items() if record.name.endswith(end)), None)
            self._decided = record, self.is_new(topic or (record.name, said)) or not self.keep(said)
        return self._decided[1]

    def warn(self, show: Callable[..., None], message: Any, category: Any, filename: str, lineno: int,
             *others: Any) -> None:  # fmt: skip
        """Show a warning; numbers in it, such as that of the batches, make no other one of it."""
        key = (filename, lineno, re.sub(r"\d+", "#", str(message)))
        text = warnings.formatwarning(message, category, filename, lineno).rstrip()
        if not self._is_frameworks(filename) or self.is_new(key) or not self.keep(text):
            show(message, category, filename, lineno, *others)

    def printing(self, topic: str, show: Callable[..., None]) -> Callable[..., None]:
        """What prints something with rich, so that it does so once.

        Args:
            topic: What it speaks of.
            show: What prints it each time.
        """

        @functools.wraps(show)
        def show_once(*args: Any, **kwargs: Any) -> None:
            from rich import get_console
            from rich.text import Text

            if self.is_new(topic):
                show(*args, **kwargs)
                return
            with get_console().capture() as captured:
                show(*args, **kwargs)
            if not self.keep(Text.from_ansi(captured.get()).plain):
                show(*args, **kwargs)

        return show_once

    def is_new(self, key: Hashable) -> bool:
        """Whether it was not said before in this study."""
        is_new = key not in self._said
        self._said.add(key)
        return is_new

    def keep(self, text: str) -> bool:
        """Write what is not shown into the trial's output; answers whether that could be done."""
        try:
            with open_file(self._output, "a", below=self._output.parent.parent) as file:
                file.write(text.rstrip("\n") + "\n")
        except OSError:
            return False
        return True

    def _is_frameworks(self, path: str) -> bool:
        files = [getattr(sys.modules.get(name), "__file__", None) for name in self._packages]
        return path.startswith(tuple(str(Path(file).parent) + os.sep for file in files if file))


@contextlib.contextmanager
def said_once(
    packages: Collection[str], topics: Mapping[str, str], printers: Callable[[], Iterable[tuple[type, str, str]]]
) -> Iterator[None]:
    """Let the trial of this process repeat nothing on the terminal that an earlier one said; undone at its end.

    A trial in a process of its own has an output of its own, where everything is.

    Args:
        packages: See `Once`.
        topics: See `Once`.
        printers: Gives what prints with rich: classes, their static methods for it, and the topics.
    """
    session = active()
    if session is None or session.is_adopted:
        yield
        return
    once = Once(session.trial.folder, packages, topics)
    handlers = [handler for handler, _ in standard_handlers()]
    with Patches() as patches:
        for handler in handlers:
            handler.addFilter(once.passes)
            patches.add(functools.partial(handler.removeFilter, once.passes))
        patches.put(warnings, "showwarning", functools.partial(once.warn, warnings.showwarning))
        for cls, name, topic in printers():
            patches.put(cls, name, staticmethod(once.printing(topic, getattr(cls, name))))
        yield
