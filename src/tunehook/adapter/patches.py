"""What is put over other people's functions, classes and objects: one way in, one way out, and a list of it."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_NOTHING = object()
_live: dict[object, tuple[weakref.ref[Any], str]] = {}  # what is put over what, in order


def put(owner: Any, name: str, value: object) -> Callable[[], None]:
    """Put something over an attribute.

    Args:
        owner: A class, a module, or an object with attributes of its own; an ``__setattr__`` of its class is passed by.
        name: The attribute.
        value: What stands there from now on.

    Returns:
        What takes it back: the attribute is what it was, or is gone where the owner had none of its own. It does
        nothing the second time, nor where something else was put there since.
    """
    before, token = vars(owner).get(name, _NOTHING), object()
    held = weakref.ref(owner, lambda _: _live.pop(token, None))
    _set(owner, name, value)
    _live[token] = held, name

    def undo() -> None:
        owner = held()
        if _live.pop(token, None) is not None and owner is not None and vars(owner).get(name) is value:
            _set(owner, name, before)

    return undo


def _set(owner: Any, name: str, value: object) -> None:
    is_plain = isinstance(owner, type | ModuleType)
    if value is _NOTHING:
        delattr(owner, name) if is_plain else vars(owner).pop(name)
    elif is_plain:
        setattr(owner, name, value)
    else:
        vars(owner)[name] = value


class Patches:
    """What is put over other people's things for a while.

    Example:
        >>> import json
        >>> with Patches() as patches:
        ...     patches.put(json, "loads", lambda text: "ours")
        ...     json.loads("1"), live()
        ('ours', ['json.loads'])
        >>> json.loads("1"), live()
        (1, [])
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def put(self, owner: Any, name: str, value: object) -> None:
        """Put something over an attribute; see `put`."""
        self.add(put(owner, name, value))

    def add(self, undo: Callable[[], None]) -> None:
        """Take something back besides."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Take everything back, the last one first; may be called more than once."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.undo()


def put_once(owner: type | ModuleType, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a method for the rest of the process; a second call does nothing.

    Args:
        owner: The class or the module that defines it.
        name: Its name.
        make: Makes the new one, given the original.
    """
    original = getattr(owner, name)
    if not hasattr(original, "original"):
        made = stands_for(original)(make(original))
        made.original = original
        put(owner, name, made)


def live() -> list[str]:
    """What something of ours stands over now, such as ``keras.src.models.model.Model.fit``."""
    found = [(held(), name) for held, name in _live.values()]
    return [f"{_name_of(owner)}.{name}" for owner, name in found if owner is not None]


def _name_of(owner: Any) -> str:
    if isinstance(owner, ModuleType):
        return owner.__name__
    if isinstance(owner, type):
        return f"{owner.__module__}.{owner.__qualname__}"
    return f"<{type(owner).__name__}>"


def stands_for(original: Callable[..., Any]) -> Callable[[Function], Function]:
    """Decorate a function that replaces another one: name, documentation and signature are those of the original.

    Args:
        original: The function that is replaced.
    """

    def decorate(function: Function) -> Function:
        functools.update_wrapper(function, original)
        if not hasattr(original, "__wrapped__"):  # inspect.getfullargspec, which Keras asks, looks through no wrapper
            function.__signature__ = inspect.signature(original)  # type: ignore[attr-defined]
        return function

    return decorate
