"""The two namespaces of Lightning: one source, so that most tests of the adapter train in one of them."""

from __future__ import annotations

import importlib
from pathlib import Path

# What a package says of itself, and the imports of two docstrings.
_ITSELF = {"__init__.py", "__setup__.py", "__version__.py", "__about__.py"}
_DOCSTRINGS = {"callbacks/device_stats_monitor.py", "core/datamodule.py"}
_NAMES = {"lightning.pytorch": "pytorch_lightning", "lightning.fabric": "lightning_fabric"}


def files(namespace: str) -> dict[str, str]:
    """The modules of a namespace, by their place in it, as the other namespace would name things."""
    folder = Path(str(importlib.import_module(namespace).__file__)).parent
    found = {}
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name, other in _NAMES.items():
            text = text.replace(name, other)
        found[str(path.relative_to(folder))] = text
    return found


def test_both_have_the_same_source() -> None:
    """But for the names of their packages."""
    one, other = files("lightning.pytorch"), files("pytorch_lightning")
    assert len(other) > 150
    assert one.keys() ^ other.keys() <= _ITSELF
    assert {name for name, text in other.items() if one.get(name) != text} <= _ITSELF | _DOCSTRINGS
