"""The constructor calls of Keras's objects, and of ``compile``: which values of a trial go into them."""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Mapping
from typing import Any

import keras

from tunehook.adapter import hear_calls, put_once
from tunehook.inject import Call, Trace, keep, trace_in_progress
from tunehook.integrations.keras import host
from tunehook.integrations.keras.arguments import ROOTS, KerasArguments, MethodArguments, is_plain


def watch() -> None:
    """Hear of each constructor call of Keras's objects from now on; again, of classes that came since too."""
    loader = getattr(sys.modules.get("torch.utils.data"), "DataLoader", None)
    for root in (*ROOTS, loader):
        if root is not None:
            hear_calls(root, put_in)
    keep(host.taken)


def put_in(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a constructor call that begins, with the values of the trial that belong into it.

    Args:
        made: The object that is being made.
        args: Its positional arguments, as typed in.
        kwargs: Its keyword arguments.
    """
    trace, cls = trace_in_progress(), type(made)
    if trace is None or cls.__module__.startswith("tunehook."):
        return args, kwargs
    try:
        weakref.ref(made)
        arguments = KerasArguments(cls)
        arguments.bind(args, kwargs)
    except (TypeError, ValueError):  # the constructor will say what is wrong; some that are written in C say nothing
        return args, kwargs
    if issubclass(cls, keras.Layer):
        arguments.name = _name(cls, arguments.bound)
    if issubclass(cls, keras.Model):
        _hear_compile(cls)
    call = trace.take(made, arguments, _guess)
    if not call.given:
        return args, kwargs
    args, kwargs = arguments.arguments(call.given)
    _note(made, arguments, call, args, kwargs)
    return args, kwargs


def _name(cls: type, bound: inspect.BoundArguments) -> str:
    """What Keras will call a layer."""
    rest: Any = next((value for value in bound.arguments.values() if isinstance(value, dict) and "name" in value), {})
    given = bound.arguments.get("name") or rest.get("name")
    if isinstance(given, str):
        return given
    return host.next_name(cls)


def _note(made: Any, arguments: KerasArguments, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Correct what Keras has noted of a call as it was typed, for ``get_config()``."""
    bound = arguments.signature.bind(*args, **kwargs).arguments
    given = {**bound, **(bound.get(arguments.rest, {}) if arguments.rest else {})}
    names = {path.partition(".")[0] for path in call.edits}
    host.note_settings(made, {name: given[name] for name in names})


def _guess(call: Call, trace: Trace) -> Mapping[str, str]:
    """What may belong into a call: the names that have its kind, or the name of its layer, and an argument of it."""
    arguments = call.arguments
    if not isinstance(arguments, KerasArguments):
        return {}
    own, kind = call.present, arguments.kind
    found: dict[str, str] = {}
    for name in trace.values:
        for path in _readings(name, arguments):
            if path in own and arguments.takes(path.partition(".")[0]) and (is_plain(own[path]) or kind == "model"):
                found[path] = name
    if kind in ("optimizer", "schedule") and any(
        other.edits
        and other.fit == call.fit
        and other.place != call.place
        and getattr(other.arguments, "kind", "") == kind
        for other in trace.calls
    ):
        return {}  # most often the second one is for another model
    return found


def _readings(name: str, arguments: KerasArguments) -> list[str]:
    """The arguments of a call that a name of the space may mean."""
    bare = name.removeprefix(f"{arguments.kind}.")
    if arguments.kind == "schedule":
        return [bare.removeprefix("optimizer.learning_rate.")]
    if arguments.kind == "optimizer":
        bare = name.removeprefix("optimizer.")
        return ["learning_rate" if bare == "lr" else bare]
    by_class = f"{arguments.cls.__name__}."
    if arguments.kind == "callback":
        return [bare.removeprefix(by_class)] if bare.startswith(by_class) else []
    start = f"{arguments.name}."
    inner = name.removeprefix("layer.")
    found = [inner.removeprefix(start)] if inner.startswith(start) and arguments.kind in ("layer", "model") else []
    return [*found, bare.removeprefix(by_class)] if arguments.kind == "model" else found


class _Compile:
    """Stands for a call of ``compile``."""


def _hear_compile(cls: type) -> None:
    """Hear of the calls of a ``compile`` that a model's class has of its own."""
    for each in cls.__mro__[: cls.__mro__.index(keras.Model)]:
        if "compile" in vars(each) and not host.is_plain(each):
            put_once(each, "compile", compile_with_values)


_open: set[int] = set()  # models that are being compiled: what their own compile() hands on was not typed in
_compiled: weakref.WeakKeyDictionary[Any, _Compile] = weakref.WeakKeyDictionary()  # the last one by model


def compile_with_values(original: Any) -> Any:
    """A ``compile`` that takes the values of the trial which belong into it.

    Args:
        original: Keras's own, or that of a model's class.
    """
    signature = inspect.signature(original)

    def compile_model(*args: Any, **kwargs: Any) -> Any:
        trace = trace_in_progress()
        if trace is None or (args and id(args[0]) in _open):
            return original(*args, **kwargs)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # it will say what is wrong
            return original(*args, **kwargs)
        model = args[0]
        _compiled[model] = one = _Compile()
        arguments = MethodArguments(type(model), bound)
        call = trace.take(one, arguments, _guess_compile)
        if call.given:
            args, kwargs = arguments.arguments(call.given)
            args = (model, *args)
        _open.add(id(model))
        try:
            return original(*args, **kwargs)
        finally:
            _open.discard(id(model))

    return compile_model


def _guess_compile(call: Call, trace: Trace) -> Mapping[str, str]:
    """What may belong into a call of ``compile``: its names in full, and those of what people search."""
    own = call.present
    found = {name.removeprefix("compile."): name for name in trace.values}
    return {path: name for path, name in found.items() if path in own and (path != name or path in _SEARCHED)}


_SEARCHED = ("optimizer", "loss")


def call_of_compile(trace: Trace, model: Any) -> Call | None:
    """The call that compiled a model last, ``None`` where it was not seen."""
    return trace.of(_compiled.get(model))
