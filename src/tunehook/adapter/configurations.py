"""Hearing of the calls that make configurations, so that a value can go in there."""

from __future__ import annotations

from typing import Any

from tunehook.adapter.hearing import hear_one
from tunehook.inject import Arguments, trace_in_progress


def hear_configurations(cls: type) -> bool:
    """Hear of each constructor call of a class of configurations from now on.

    Args:
        cls: The class.

    Returns:
        Whether it was not heard before, and can be.
    """
    return hear_one(cls, _put_in)


def _put_in(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    trace = trace_in_progress()
    if trace is None:
        return args, kwargs
    arguments = Arguments(type(made), object)
    try:
        arguments.bind(args, kwargs)
    except TypeError:  # the constructor will say what is wrong
        return args, kwargs
    call = trace.take(made, arguments, lambda *_: {})
    return arguments.arguments(call.given) if call.given else (args, kwargs)
