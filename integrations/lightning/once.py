"""What Lightning says for each Trainer: once a study on the terminal, and of the later ones in their trial's output.

The trials of a study that train one after the other in this process make a Trainer each, and Lightning tells each time
what hardware there is, gives its advice and prints the model. Nothing of that is lost.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

from tunehook.adapter import Patches
from tunehook.record import open_file, output_of
from tunehook.session import active
from tunehook.system import standard_handlers

_PACKAGES = ("lightning", "pytorch_lightning", "lightning_fabric")
_NAMESPACES = ("lightning.pytorch", "pytorch_lightning")
_SUMMARY = "the model's summary"

# What was said in each study of this process, by its folder.
_said: defaultdict[Path, set[Hashable]] = defaultdict(set)


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Let the trial of this process repeat nothing on the terminal that an earlier one said; undone at its end.

    A trial in a process of its own has an output of its own, where everything is.
    """
    session = active()
    if session is None or session.is_adopted:
        yield
        return
    once = _Once(session.trial.folder)
    handlers = [handler for handler, _ in standard_handlers()]
    with Patches() as patches:
        for handler in handlers:
            handler.addFilter(once.passes)
            patches.add(functools.partial(handler.removeFilter, once.passes))
        patches.put(warnings, "showwarning", functools.partial(once.warn, warnings.showwarning))
        for kind in _rich_summaries():
            patches.put(kind, "summarize", staticmethod(once.summarizing(kind.summarize)))
        yield


class _Once:
    """Decides what a trial says on the terminal, and writes the rest into its output.

    Args:
        folder: The trial's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._said, self._output = _said[folder.parent], output_of(folder)
        self._decided: tuple[logging.LogRecord | None, bool] = (None, True)

    def passes(self, record: logging.LogRecord) -> bool:
        """Whether a line is written; several handlers may ask for the same one."""
        if not _is_lightnings(record.pathname):
            return True
        if record is not self._decided[0]:
            said = record.getMessage()
            key = _SUMMARY if record.name.endswith(".model_summary") else (record.name, said)
            self._decided = record, self._is_new(key) or not self._keep(said)
        return self._decided[1]

    def warn(self, show: Callable[..., None], message: Any, category: Any, filename: str, lineno: int,
             *others: Any) -> None:  # fmt: skip
        """Show a warning; numbers in it, such as that of the batches, make no other one of it."""
        key = (filename, lineno, re.sub(r"\d+", "#", str(message)))
        text = warnings.formatwarning(message, category, filename, lineno).rstrip()
        if not _is_lightnings(filename) or self._is_new(key) or not self._keep(text):
            show(message, category, filename, lineno, *others)

    def summarizing(self, summarize: Callable[..., None]) -> Callable[..., None]:
        """What prints the summary of a model with rich, so that it does so once."""

        @functools.wraps(summarize)
        def summarize_once(*args: Any, **kwargs: Any) -> None:
            from rich import get_console
            from rich.text import Text

            if self._is_new(_SUMMARY):
                summarize(*args, **kwargs)
                return
            with get_console().capture() as captured:
                summarize(*args, **kwargs)
            if not self._keep(Text.from_ansi(captured.get()).plain):
                summarize(*args, **kwargs)

        return summarize_once

    def _is_new(self, key: Hashable) -> bool:
        """Whether it was not said before in this study."""
        is_new = key not in self._said
        self._said.add(key)
        return is_new

    def _keep(self, text: str) -> bool:
        """Write what is not shown into the trial's output; answers whether that could be done."""
        try:
            with open_file(self._output, "a", below=self._output.parent.parent) as file:
                file.write(text.rstrip("\n") + "\n")
        except OSError:
            return False
        return True


def _is_lightnings(path: str) -> bool:
    """Whether a file is Lightning's own: what the user's code says with Lightning's functions is the user's."""
    files = [getattr(sys.modules.get(name), "__file__", None) for name in _PACKAGES]
    return path.startswith(tuple(str(Path(file).parent) + os.sep for file in files if file))


def _rich_summaries() -> list[Any]:
    callbacks = [importlib.import_module(f"{name}.callbacks") for name in _NAMESPACES if name in sys.modules]
    return [one.RichModelSummary for one in callbacks]
