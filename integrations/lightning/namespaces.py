"""The two class trees of Lightning: ``lightning.pytorch`` and ``pytorch_lightning``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from tunehook.adapter import said_once

NAMESPACES = ("lightning.pytorch", "pytorch_lightning")
_LOGGERS = ("lightning", "pytorch_lightning", "lightning_fabric")
_SUMMARY = "the model's summary"


def loaded() -> Iterator[Any]:
    """Those that are loaded."""
    yield from (sys.modules[name] for name in NAMESPACES if name in sys.modules)


def first_callback() -> type:
    """The Callback of the namespace that is loaded, else of the first one that is installed, loaded now.

    Raises:
        ImportError: None is installed.
    """
    for name in sorted(NAMESPACES, key=lambda one: one not in sys.modules):
        if name in sys.modules or importlib.util.find_spec(name.partition(".")[0]) is not None:
            host: type = importlib.import_module(name).Callback
            return host
    raise ImportError(
        "tunehook.integrations.lightning needs Lightning: pip install 'tunehook[lightning]' "
        "(or 'tunehook[pytorch-lightning]')"
    )


def lines_said_once() -> AbstractContextManager[None]:
    """Let what Lightning says in each training be shown in the first trial only; one function, however often loaded."""
    return said_once(_LOGGERS, {".model_summary": _SUMMARY}, _printers)


def _printers() -> Iterator[tuple[type, str, str]]:
    for namespace in loaded():
        callbacks = importlib.import_module(f"{namespace.__name__}.callbacks")
        yield callbacks.RichModelSummary, "summarize", _SUMMARY
