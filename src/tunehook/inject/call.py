"""One constructor call of a training function: what was typed in, and where."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tunehook.inject.arguments import Arguments
from tunehook.inject.variables import Typed

MADE_BY = "_tunehook_call"
"""The attribute in which an adapter leaves the key of the call that made an object, so that its copies have it too."""
Route = tuple[tuple[CodeType, int], ...]
_NUMBERS = itertools.count()
LIBRARIES = ("site-packages", "dist-packages")
"""What the path of a file has that is not the user's own."""


@dataclass(eq=False)
class Call:
    """One outermost constructor call.

    Attributes:
        arguments: What was typed in.
        place: Names where: the positions of all frames from the training function down. Rounds of a loop are one place.
        number: Its index among the calls of its place since the last fit.
        fit: How many fits have begun before it.
        line: File and line for people.
        is_typed_in: Whether it is in the user's code, not in a framework's.
        edits: The names of the space whose values went in, by argument.
        given: These values, by argument.
        route: The functions from the one that makes the call up to the training function, and where in them.
        is_of_fit: Whether it is the call of the fit that begins, into whose arguments values can still be put.
        key: A text that no other call has, in other processes too.
    """

    arguments: Arguments
    place: str
    number: int
    line: str
    is_typed_in: bool
    edits: dict[str, str] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    route: Route = ()
    fit: int = 0
    is_of_fit: bool = False
    key: str = field(default_factory=lambda: f"{os.getpid()}-{next(_NUMBERS)}")

    @property
    def stage(self) -> tuple[str, int]:
        """Which of the calls of its place it is, those of each fit counted by themselves."""
        return f"{self.fit}:{self.place}", self.number

    @property
    def name(self) -> str:
        """For people, such as ``Net at train.py:14``."""
        return f"{self.arguments.cls.__name__} at {self.line}"

    def typed(self, path: str) -> Typed | None:
        """One of its arguments as the script has it, ``None`` where it is of a framework's call."""
        names = self.arguments.order
        if not self.route or not self.is_typed_in:
            return None
        name, _, entry = path.partition(".")
        users = itertools.takewhile(
            lambda one: not any(name in one[0].co_filename for name in LIBRARIES), self.route[1:]
        )
        return Typed(*self.route[0], name, names.index(name) if name in names else -1, entry, tuple(users))

    @functools.cached_property
    def present(self) -> dict[str, Any]:
        """What was typed in, by argument, defaults and entries included; what becomes of it later does not count."""
        return self.arguments.values()

    def in_force(self) -> dict[str, Any]:
        """What the object was made with, by argument: what was typed in, and the trial's values."""
        return {**self.present, **self.given}


def counted(train: Callable[[], object]) -> object:
    """Call a training function: the positions of its calls are counted from here."""
    return train()


def position(cls: type) -> tuple[str, str, bool, Route]:
    """Where a call stands: its place, its file and line, whether these are the user's own code, and its route."""
    module = cls.__module__.replace("__mp_main__", "__main__")  # as the script is called in a trial process
    parts = [f"{module}.{cls.__qualname__}"]
    line, is_typed_in, route = "", True, list[tuple[CodeType, int]]()
    for number, frame in enumerate(frames()):
        code = frame.f_code
        parts.append(f"{Path(code.co_filename).name}:{code.co_qualname}:{frame.f_lasti}")
        is_users = not any(name in code.co_filename for name in LIBRARIES)
        route.append((code, frame.f_lasti))
        if number == 0:
            is_typed_in = is_users or frame.f_globals.get("__name__", "").startswith(("jsonargparse", "hydra"))
        if not line and is_users:
            line = f"{Path(code.co_filename).name}:{frame.f_lineno}"
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:24], line, is_typed_in, tuple(route)


def codes_of_the_user() -> list[CodeType]:
    """The functions of the user's that are running, from the innermost one up to the training function."""
    codes = [frame.f_code for frame in frames()]
    return [code for code in codes if not any(name in code.co_filename for name in LIBRARIES)]


def frames() -> Iterator[FrameType]:
    """The frames from the call up to the training function, without ours."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the only way up the stack that costs little
    while frame is not None and frame.f_code is not counted.__code__:
        if not str(frame.f_globals.get("__name__", "")).startswith("tunehook."):
            yield frame
        frame = frame.f_back
