"""The user's training function on its way into another process: by reference where it can be imported."""

from __future__ import annotations

import importlib
import operator
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import spawn
from pathlib import Path
from typing import Any

from tunehook.extensions import FRAMEWORKS, load
from tunehook.launch.node.globals import kept_state, put_state
from tunehook.trial import StudyError


@dataclass(frozen=True)
class Function:
    """A function of no arguments that another process can call.

    Attributes:
        module: Module of a function that is found by name; ``"__main__"`` for the script, which then runs again.
        name: Its name in there.
        value: The function itself, pickled by cloudpickle, where it is not found by a name.
        place: What multiprocessing tells a spawned process: path, arguments, working directory, script.
        frameworks: Slow modules that this process has loaded already.
        state: What libraries keep for a whole process.
    """

    module: str = ""
    name: str = ""
    value: bytes = b""
    place: dict[str, Any] = field(default_factory=dict, repr=False)
    frameworks: tuple[str, ...] = ()
    state: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, train: Callable[[], object]) -> Function:
        """Pack a function.

        Raises:
            StudyError: It can neither be found by name nor be pickled.
        """
        place = dict(spawn.get_preparation_data("tunehook-trial"))
        place.pop("authkey", None)
        place.pop("start_method", None)
        frameworks, state = tuple(name for name in FRAMEWORKS if name in sys.modules), kept_state()
        module, name = getattr(train, "__module__", None) or "", getattr(train, "__qualname__", "")
        if _is_found(train, module, name) and (module != "__main__" or _has_script(place)):
            if module != "__main__":
                place = {key: value for key, value in place.items() if not key.startswith("init_main")}
            return cls(module=module, name=name, place=place, frameworks=frameworks, state=state)
        place = {key: value for key, value in place.items() if not key.startswith("init_main")}
        value = pickled(
            train,
            f"The training function {train!r}",
            "Open files, datasets and models inside the function, or put it into a module at the top level.",
        )
        return cls(value=value, place=place, frameworks=frameworks, state=state)

    def enter(self) -> None:
        """Take over path, arguments and working directory, and import what is slow; nothing of the user's yet."""
        spawn.prepare({key: value for key, value in self.place.items() if not key.startswith("init_main")})
        for name in self.frameworks:
            load(name)

    def load(self) -> Callable[[], object]:
        """The function, with its module imported or its script run again, under another name than ``__main__``."""
        put_state(self.state)
        if self.value:
            return pickle.loads(self.value)  # type: ignore[no-any-return] # noqa: S301 - made above
        if self.module == "__main__":
            spawn.prepare({key: value for key, value in self.place.items() if key.startswith("init_main")})
        found: Any = importlib.import_module(self.module)
        return operator.attrgetter(self.name)(found)  # type: ignore[no-any-return]


def _is_found(train: object, module: str, name: str) -> bool:
    try:
        return module in sys.modules and operator.attrgetter(name)(sys.modules[module]) is train
    except AttributeError:
        return False


def _has_script(place: dict[str, Any]) -> bool:
    """Whether there is a file to run again; a notebook, ``python -c`` and the interactive prompt have none."""
    path = place.get("init_main_from_path")
    return "init_main_from_name" in place or (
        path is not None and Path(path).is_file() and "ipython" not in path.lower()
    )


def pickled(value: object, what: str, way_out: str) -> bytes:
    """Something on its way into another process.

    Args:
        value: Anything, classes and functions of a script or notebook among it.
        what: What it is, for people.
        way_out: What to do where it cannot be sent.

    Raises:
        StudyError: It cannot be pickled.
    """
    import cloudpickle

    try:
        return cloudpickle.dumps(value)  # type: ignore[no-any-return]
    except Exception as error:
        raise StudyError(
            f"{what} cannot be sent to another process: {type(error).__name__}: {error}.\n  {way_out}"
        ) from error
