"""The arguments of a constructor call, by name, some of which can be replaced."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import sys
import typing
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunehook.inject import same

NAMED = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)


class Arguments:
    """What a constructor was called with.

    Entries of an argument that is a configuration (a dict or namespace) are arguments too, such as ``config.lr``.

    Args:
        cls: The class that was constructed.
        base: The class of the framework below it, whose own parameters are not the user's.

    Attributes:
        bound: The arguments of the call, bound to the constructor's parameters.
    """

    bound: inspect.BoundArguments

    def __init__(self, cls: type, base: type) -> None:
        self.cls, self.base = cls, base
        self.parameters = _parameters(cls, base)

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """The constructor's signature without ``self``."""
        own = signature_of(self.cls.__init__)  # type: ignore[misc]
        return own.replace(parameters=list(own.parameters.values())[1:])

    @functools.cached_property
    def rest(self) -> str | None:
        """Name of the ``**kwargs`` parameter."""
        kinds = {item.kind: name for name, item in self.signature.parameters.items()}
        return kinds.get(inspect.Parameter.VAR_KEYWORD)

    def values(self) -> dict[str, Any]:
        """The present arguments by name, defaults included; not those that are missing."""
        if self.cls.__init__ is self.base.__init__:  # type: ignore[misc]
            return {}
        given = dict(self.bound.arguments)
        rest = given.pop(self.rest, {}) if self.rest else {}
        defaults = {name: item.default for name, item in self.parameters.items() if item.default is not item.empty}
        named = {name: value for name, value in given.items() if name in self.parameters}
        whole = {**defaults, **named, **rest}
        return {**whole, **{path: value for name, each in whole.items() for path, value in _entries(name, each)}}

    def type_of(self, name: str) -> object:
        """What an argument takes: its annotation, else the type of its default, ``None`` for anything."""
        parameter = self.parameters.get(name)
        if parameter is None:
            return type_of_default(self.values().get(name)) if "." in name else None
        if parameter.annotation is not parameter.empty:
            return None if isinstance(parameter.annotation, str) else parameter.annotation
        return type_of_default(parameter.default)

    def changed(self, staged: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the staged values that are not the present ones."""
        present = self.values()
        return {name: value for name, value in staged.items() if name not in present or not same(value, present[name])}

    def arguments(self, new: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call with some of them replaced."""
        bound = inspect.BoundArguments(self.signature, self.bound.arguments.copy())
        rest = str(self.rest)
        for path, value in new.items():
            name, _, entry = path.partition(".")
            given = bound.arguments if name in self.signature.parameters else dict(bound.arguments.get(rest, {}))
            given[name] = _with_entry(given.get(name, self.values().get(name)), entry, value) if entry else value
            if given is not bound.arguments:
                bound.arguments[rest] = given
        return bound.args, bound.kwargs


def type_of_default(default: object) -> object:
    """The type that a default value stands for; an integer does not forbid floats."""
    if default is None or default is inspect.Parameter.empty:
        return None
    if isinstance(default, int | float) and not isinstance(default, bool):
        return float
    return type(default)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function of the user's, also where its annotations name what only type checkers know."""
    if sys.version_info >= (3, 14):  # which evaluates annotations when they are asked for
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _parameters(cls: type, base: type) -> dict[str, inspect.Parameter]:
    """Named parameters of the constructor, and of those of its base classes that it hands ``**kwargs`` on to."""
    found: dict[str, inspect.Parameter] = {}
    for each in cls.__mro__:
        if each is base:
            break
        if "__init__" not in vars(each):
            continue
        own = list(_resolved(each).values())[1:]
        found = {**{item.name: item for item in own if item.kind in NAMED}, **found}
        if not any(item.kind is inspect.Parameter.VAR_KEYWORD for item in own):
            break
    return found


def _resolved(cls: type) -> dict[str, inspect.Parameter]:
    """The parameters of a class's own constructor, with annotations evaluated where that is possible."""
    try:
        hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except Exception:  # noqa: BLE001 - it evaluates strings of the user's, which may raise anything
        hints = {}
    own = signature_of(cls.__init__).parameters  # type: ignore[misc]
    return {
        name: item.replace(annotation=hints[name]) if name in hints and item.kind in NAMED else item
        for name, item in own.items()
    }


def _entries(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Paths and values of the plain entries of a dict or namespace, however deep."""
    for key, item in items_of(vars(value) if isinstance(value, Namespace) else value):
        if not isinstance(key, str) or not key.isidentifier():
            continue
        if isinstance(item, int | float | str | list | tuple | None):
            yield f"{path}.{key}", item
        yield from _entries(f"{path}.{key}", item)


def items_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """The entries of a mapping that can be read; others are missing, as ``???`` of OmegaConf, or cannot be computed."""
    keys: list[Any] = []
    with contextlib.suppress(Exception):
        keys = [*value] if isinstance(value, Mapping) else []
    for key in keys:
        with contextlib.suppress(Exception):  # code of the mapping
            yield key, value[key]


def _with_entry(value: Any, entry: str, new: Any) -> Any:
    """A copy of a dict or namespace with one entry replaced."""
    made = copy.copy(value) if isinstance(value, dict | Namespace) else copy.deepcopy(value)
    key, _, inner = entry.partition(".")
    items = vars(made) if isinstance(made, Namespace) else made
    items[key] = _with_entry(items[key], inner, new) if inner else new
    return made
