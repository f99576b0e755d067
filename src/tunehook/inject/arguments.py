"""The arguments of a constructor call, by name, some of which can be replaced."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import itertools
import sys
import types
import typing
import weakref
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from tunehook.inject.reads import is_mentioned
from tunehook.inject.slot import same

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
NAMED = (inspect.Parameter.POSITIONAL_ONLY, *_BY_NAME)

_PLAIN = (int, float, str, list, tuple, types.NoneType)  # what an entry is, to be one of the space's
_ACTS = ("__len__", "__iter__", "__call__", "__getitem__", "__array__")  # an object with one of these is more than that
_DEEPEST = 6
LAST = 5  # behind all ranks of other slots
_MANY = 100  # of a longer list the first ones are looked at


# What the constructors of classes take: their code, which may be replaced, the base, the parameters and the signature.
_taken: weakref.WeakKeyDictionary[type, tuple[object, type, dict[str, inspect.Parameter], inspect.Signature]] = (
    weakref.WeakKeyDictionary()
)


class Arguments:
    """What a constructor was called with.

    Entries of an argument that is a configuration are arguments too, such as ``config.lr``: of a dict, a namespace, a
    dataclass, an object of attrs or pydantic, or any other that holds plain values only.

    Args:
        cls: The class that was constructed.
        base: The class of the framework below it, whose own parameters are not the user's.

    Attributes:
        parameters: Its named parameters, those to which it hands ``**kwargs`` on included.
        signature: The constructor's signature without ``self``.
        bound: The arguments of the call, bound to the constructor's parameters.
    """

    bound: inspect.BoundArguments
    _by_name: Collection[str] = ()  # which of them were given so, and are again

    def __init__(self, cls: type, base: type) -> None:
        self.cls, self.base = cls, base
        code, known = getattr(cls.__init__, "__code__", None), _taken.get(cls)  # type: ignore[misc]
        if known is None or known[0] is not code or known[1] is not base:
            own = signature_of(cls.__init__)  # type: ignore[misc]
            signature = own.replace(parameters=list(own.parameters.values())[1:])
            _taken[cls] = known = code, base, _parameters(cls, base), signature
        self.parameters, self.signature = known[2:]

    @property
    def order(self) -> list[str]:
        """The parameters that can be given by their places, those that do not count included."""
        return [*self.signature.parameters]

    @functools.cached_property
    def rest(self) -> str | None:
        """Name of the ``**kwargs`` parameter."""
        kinds = {item.kind: name for name, item in self.signature.parameters.items()}
        return kinds.get(inspect.Parameter.VAR_KEYWORD)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take what the constructor is called with.

        Raises:
            TypeError: It does not take that.
        """
        self.bound, self._by_name = self.signature.bind(*args, **kwargs), {*kwargs}

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

    def rank(self, name: str) -> int:
        """The rank of an argument's slot: an entry of a configuration that no code of the class names comes last.

        Such a configuration is often that of a whole project, of which the class reads some entries only.
        """
        entry = name.rpartition(".")[2]
        return 0 if "." not in name or is_mentioned(self.cls, self.base, entry) else LAST

    def changed(self, staged: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the staged values that are not the present ones."""
        present = self.values()
        return {name: value for name, value in staged.items() if name not in present or not same(value, present[name])}

    def arguments(self, new: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call with some of them replaced, by position or by name as they were given."""
        bound = inspect.BoundArguments(self.signature, self.bound.arguments.copy())
        rest, by_position = str(self.rest), {*bound.arguments} - {*self._by_name}
        for path, value in new.items():
            name, _, entry = path.partition(".")
            others = bound.arguments.get(rest, {})
            given = bound.arguments if name in self.signature.parameters and name not in others else dict(others)
            given[name] = _with_entry(given.get(name, self.values().get(name)), entry, value) if entry else value
            if given is not bound.arguments:
                bound.arguments[rest] = given
        args, kwargs = list[Any](), dict[str, Any]()
        for name, value in _with_those_before(bound).items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                args += value
            elif kind is inspect.Parameter.VAR_KEYWORD:
                kwargs |= value
            elif kind is inspect.Parameter.POSITIONAL_ONLY or name in by_position:
                args.append(value)
            else:
                kwargs[name] = value
        return tuple(args), kwargs


def _with_those_before(bound: inspect.BoundArguments) -> dict[str, Any]:
    """The arguments of a call in their order, with the defaults of those by position only that one given stands behind.

    Args:
        bound: The arguments.
    """
    whole = bound.signature.parameters.values()
    only = [each for each in whole if each.kind is each.POSITIONAL_ONLY]
    count = max((number for number, each in enumerate(only, 1) if each.name in bound.arguments), default=0)
    given = {**{each.name: each.default for each in only[:count]}, **bound.arguments}
    return {each.name: given[each.name] for each in whole if each.name in given}


def type_of_default(default: object) -> object:
    """The type that a default value stands for; an integer does not forbid floats."""
    if default is None or default is inspect.Parameter.empty:
        return None
    if isinstance(default, int | float) and not isinstance(default, bool):
        return float
    return type(default)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a function of the user's, also where its annotations name what only type checkers know."""
    if isinstance(function, types.WrapperDescriptorType):
        return _signature_in_c(function)
    if sys.version_info >= (3, 14):  # which evaluates annotations when they are asked for
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


@functools.lru_cache(maxsize=64)
def _signature_in_c(function: types.WrapperDescriptorType) -> inspect.Signature:
    """The signature of a constructor in C. Python reads it from a text, and touches all modules: 20 ms in a fork."""
    return inspect.signature(function)


def _parameters(cls: type, base: type) -> dict[str, inspect.Parameter]:
    """Named parameters of the constructor, and of those of its base classes that it hands ``**kwargs`` on to."""
    found: dict[str, inspect.Parameter] = {}
    kinds: Collection[Any] = NAMED
    for each in cls.__mro__:
        if each is base:
            break
        if "__init__" not in vars(each):
            continue
        own = list(_resolved(each).values())[1:]
        found = {**{item.name: item for item in own if item.kind in kinds}, **found}
        if not any(item.kind is inspect.Parameter.VAR_KEYWORD for item in own):
            break
        kinds = _BY_NAME  # nothing else can be handed on so
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


def _entries(path: str, value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Paths and values of the plain entries of a configuration, however deep."""
    for key, item in items_of(value) if depth < _DEEPEST else ():
        if not isinstance(key, str) or not key.isidentifier():
            continue
        if isinstance(item, _PLAIN):
            yield f"{path}.{key}", item
        yield from _entries(f"{path}.{key}", item, depth + 1)


def items_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """The entries of a configuration: a mapping, a namespace, or an object that only holds values.

    Those that cannot be read are left out: they are missing, as ``???`` of OmegaConf, or cannot be computed.
    """
    if is_table(value):
        keys: list[Any] = []
        with contextlib.suppress(Exception):
            keys = [*value]
        for key in keys:
            with contextlib.suppress(Exception):  # code of the mapping
                yield key, value[key]
    elif holds_values(value):
        for key in _fields(value):
            with contextlib.suppress(Exception):  # a property of the user's
                yield key, getattr(value, key)


def is_table(value: Any) -> bool:
    """Whether it is a mapping, also one that does not say so, as those of ``ml_collections``."""
    return isinstance(value, Mapping) or all(
        hasattr(type(value), name) for name in ("keys", "__getitem__", "__setitem__")
    )


def _writable(made: Any) -> contextlib.AbstractContextManager[Any]:
    """While a copy is changed, it may be: a configuration of OmegaConf can be read-only."""
    if type(made).__module__.startswith("omegaconf."):
        context: contextlib.AbstractContextManager[Any] = sys.modules["omegaconf"].read_write(made)
        return context
    return contextlib.nullcontext()


def holds_values(value: Any, depth: int = 0) -> bool:
    """Whether an object is a configuration: one of a kind made for it, or one that has plain attributes only."""
    if isinstance(value, (type, *_PLAIN)):
        return False
    if isinstance(value, Namespace | types.SimpleNamespace) or _is_declared(value):
        return True
    acts = any(name in vars(cls) for cls in type(value).__mro__ for name in _ACTS)
    own: dict[str, Any] = getattr(value, "__dict__", {})
    return bool(own) and not acts and all(_is_setting(item, depth) for item in own.values())


def _is_declared(value: Any) -> bool:
    """Whether a class declares its fields: a dataclass, one of attrs, one of pydantic."""
    return any(hasattr(type(value), name) for name in ("__dataclass_fields__", "__attrs_attrs__", "model_fields"))


def _is_setting(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list | tuple | dict):
        items: Any = value.values() if isinstance(value, dict) else value
        return depth < _DEEPEST and all(_is_setting(item, depth + 1) for item in itertools.islice(items, _MANY))
    return isinstance(value, _PLAIN) or (depth < _DEEPEST and holds_values(value, depth + 1))


def _fields(value: Any) -> list[str]:
    cls: Any = type(value)
    if dataclasses.is_dataclass(cls):
        return [each.name for each in dataclasses.fields(cls) if each.init]
    if hasattr(cls, "__attrs_attrs__"):
        return [each.name for each in cls.__attrs_attrs__ if each.init]
    if hasattr(cls, "model_fields"):
        return [*cls.model_fields]
    return [name for name in vars(value) if not name.startswith("_")]


def _with_entry(value: Any, entry: str, new: Any) -> Any:
    """A copy of a configuration with one entry replaced; what it computes of its fields follows."""
    key, _, inner = entry.partition(".")
    if is_table(value):
        made: Any = copy.copy(value) if isinstance(value, dict) else copy.deepcopy(value)
        with _writable(made):
            made[key] = _with_entry(made[key], inner, new) if inner else new
        return made
    item = _with_entry(getattr(value, key), inner, new) if inner else new
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{key: item})
    if hasattr(type(value), "__attrs_attrs__"):
        given = {each.name: each.alias for each in type(value).__attrs_attrs__ if each.init}
        return type(value)(**{alias: item if name == key else getattr(value, name) for name, alias in given.items()})
    if hasattr(type(value), "model_copy"):
        made = value.model_copy(update={key: item})
    else:
        made = copy.copy(value)
        setattr(made, key, item)
    for name in [*vars(made)]:
        if isinstance(getattr(type(made), name, None), functools.cached_property):
            del vars(made)[name]
    return made
