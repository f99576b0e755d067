"""The two class trees of Lightning: ``lightning.pytorch`` and ``pytorch_lightning``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

NAMESPACES = ("lightning.pytorch", "pytorch_lightning")


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
