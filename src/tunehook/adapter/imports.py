"""Something that is done as soon as a module has been imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType


def when_imported(name: str, action: Callable[[], object]) -> None:
    """Do something right after a module is imported, or now where it has been.

    Nothing is imported for it. Python has no such hook, so a finder stands before the others until the module comes.

    Args:
        name: The module's whole name, such as ``"pytorch_lightning"``.
        action: What is done, once.
    """
    if name in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Expecting(name, action))


class _Expecting(importlib.abc.MetaPathFinder):
    """Finds one module as the finders behind it do, and lets an action follow its import."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self._name = name
        self._action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's own spec, whose loader tells when it is done; nothing for any other module."""
        if fullname != self._name:
            return None
        behind = sys.meta_path[sys.meta_path.index(self) + 1 :]
        found = (finder.find_spec(fullname, path, target) for finder in behind)
        spec = next((one for one in found if one is not None), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                if self in sys.meta_path:  # an import that failed is tried again
                    sys.meta_path.remove(self)
                    self._action()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
