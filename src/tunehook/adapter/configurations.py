"""Hearing of the calls that make configurations, so that a value can go in there."""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Iterable
from typing import Any

from tunehook.adapter.hearing import hear_one, subclasses
from tunehook.adapter.patches import put_once
from tunehook.inject import Arguments, class_name, class_of_constructor, hear_planned, trace_in_progress

_names: set[str] = set()  # of the classes that are heard, in this process


def hear_configurations(cls: type) -> bool:
    """Hear of each constructor call of a class of configurations from now on.

    This includes classes of the same name that are defined later, because a script that runs again defines its classes
    again, and so may a function. It works for dataclasses, and for classes that inherit their constructor, such as
    those of pydantic.

    Args:
        cls: The class.

    Returns:
        Whether it can be.
    """
    _note(map(class_name, (cls, class_of_constructor(cls))))
    return _hear(cls)


def _hear_by_name(names: Collection[str]) -> None:
    if _names.issuperset(names):
        return
    _note(names)
    short = {name.partition(":")[2] for name in names}
    for cls in subclasses(object):  # the function may be a pickled one, whose classes are in no module
        if cls.__qualname__ in short and class_name(cls) in names:
            _hear(cls)


def _note(names: Iterable[str]) -> None:
    _names.update(names)
    put_once(abc, "update_abstractmethods", _hearing)


def _hearing(update: Callable[[type], type]) -> Callable[[type], type]:
    """Around what dataclass calls with each class that it has made; attrs does too, but not with those with slots."""

    def hear_of_it(cls: type) -> type:
        if class_name(update(cls)) in _names:
            _hear(cls)
        return cls

    return hear_of_it


def _hear(cls: type) -> bool:
    return hear_one(class_of_constructor(cls), _put_in)


def _put_in(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    trace = trace_in_progress()
    if trace is None or class_name(type(made)) not in _names:
        return args, kwargs
    arguments = Arguments(type(made), object)
    try:
        arguments.bind(args, kwargs)
    except TypeError:  # the constructor will say what is wrong
        return args, kwargs
    call = trace.take(made, arguments, lambda *_: {})
    return arguments.arguments(call.given) if call.given else (args, kwargs)


hear_planned(_hear_by_name)
