"""The constructor calls of Keras's objects: what of a trial goes into them, and where each setting was typed in."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import keras
from keras.src.utils.naming import to_snake_case

from tunehook.arguments import NAMED, Arguments
from tunehook.calls import Call, Trace, keep, trace_in_progress
from tunehook.integrations import keras_config as config
from tunehook.integrations import keras_record as record
from tunehook.integrations.keras_seeds import made_again
from tunehook.patches import hear_calls

Kind = Literal["model", "layer", "optimizer", "schedule", "callback", "part"]

_ROOTS: dict[type, Kind] = {
    keras.Layer: "layer",
    keras.optimizers.Optimizer: "optimizer",
    keras.optimizers.schedules.LearningRateSchedule: "schedule",
    keras.callbacks.Callback: "callback",
    keras.regularizers.Regularizer: "part",
    keras.initializers.Initializer: "part",
}
_DEEP = 8  # levels of layers in layers
_parameters: weakref.WeakKeyDictionary[type, tuple[Any, ...]] = weakref.WeakKeyDictionary()

Place = tuple[Call, str]
"""A call, and the argument of it into which a value was typed; a path where it is a setting of an object in there."""


def watch() -> None:
    """Hear of each constructor call of Keras's objects from now on; again, of classes that came since too."""
    for root in _ROOTS:
        hear_calls(root, put_in)
    keep(_taken)


def _taken() -> Callable[[], None]:
    """What puts Keras's own global state back as it is now, before a training function is called once more."""
    names, states, dtype = record.names(), record.randomness(), keras.config.dtype_policy()

    def put_back() -> None:
        record.restore_randomness(states)
        record.restore_names(names)
        keras.config.set_dtype_policy(dtype)

    return put_back


class KerasArguments(Arguments):
    """What an object of Keras was constructed with.

    Settings of an object that is an argument are arguments too, such as ``kernel_regularizer.l2``, also where Keras
    knows the object by its name.

    Args:
        cls: The class that was constructed.

    Attributes:
        kind: What it makes.
        name: What a layer is called, as far as the call says; ``""`` where it is no layer.
    """

    def __init__(self, cls: type) -> None:
        self.kind = kind_of(cls)
        base = next(each for each in cls.__mro__ if record.is_plain(each)) if self.kind == "model" else object
        known, code = _parameters.get(cls), getattr(cls.__init__, "__code__", None)  # type: ignore[misc]
        if known is None or known[0] is not code:  # Keras gives a model class another constructor when it is a graph
            super().__init__(cls, base)
            _parameters[cls] = known = (code, self.parameters, self.signature)
        self.cls, self.base = cls, base
        _, self.parameters, signature = known
        vars(self)["signature"] = signature
        self.name = ""

    def takes(self, name: str) -> bool:
        """Whether the constructor takes an argument of this name, and it is none of those in ``*args``."""
        own = self.signature.parameters
        if name in own:
            return own[name].kind in NAMED
        if self.rest is None or name in self.bound.arguments.get(self.rest, ()):
            return self.rest is not None
        has_more = any(
            each.kind is each.VAR_POSITIONAL and self.bound.arguments.get(each.name) for each in own.values()
        )
        return not has_more and bool(self.parameters)

    def arguments(self, new: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call with some of them replaced."""
        present = self.values()
        whole = {path: value for path, value in new.items() if "." not in path}
        for path, value in new.items():
            name, _, entry = path.partition(".")
            held = whole.get(name, present.get(name))
            if entry and _is_object(held):
                whole[name] = _remade(name, held, entry, value)
            elif entry:
                whole[path] = value
        return super().arguments(whole)


def kind_of(cls: type) -> Kind:
    """What a class makes; a model of Keras's own counts as a layer."""
    if issubclass(cls, keras.Model):
        return "layer" if record.is_plain(cls) else "model"
    return next(kind for root, kind in _ROOTS.items() if issubclass(cls, root))


def _is_object(value: Any) -> bool:
    """Whether an argument is an object with settings, its name, or what describes it."""
    return isinstance(value, str) or config.is_object(value) or hasattr(value, "get_config")


def _remade(name: str, value: Any, entry: str, new: Any) -> Any:
    """An object that is an argument with another setting, and with the seeds that it has."""
    if config.is_object(value):
        return config.edited({name: value}, {f"{name}.{entry}": new})[name]
    if isinstance(value, str):
        value = (keras.regularizers if name.endswith("regularizer") else keras.initializers).get(value)
    described = keras.saving.serialize_keras_object(value)
    return made_again(value, {**described, "config": config.edited(described["config"], {entry: new})})


# ------------------------------------------------------------------ calls


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
        arguments.bound = arguments.signature.bind(*args, **kwargs)
    except (TypeError, ValueError):  # the constructor will say what is wrong; some that are written in C say nothing
        return args, kwargs
    if issubclass(cls, keras.Layer):
        arguments.name = _name(cls, arguments.bound)
    trace.take(made, arguments, _guess)
    call = trace.of(made)
    if call is None or not call.edits:
        return args, kwargs
    args, kwargs = trace.edited(call)
    _note(made, arguments, call, args, kwargs)
    return args, kwargs


def _name(cls: type, bound: inspect.BoundArguments) -> str:
    """What Keras will call a layer."""
    rest: Any = next((value for value in bound.arguments.values() if isinstance(value, dict) and "name" in value), {})
    given = bound.arguments.get("name") or rest.get("name")
    if isinstance(given, str):
        return given
    prefix = to_snake_case(cls.__name__)
    count = record.names().get(prefix, 0)
    return f"{prefix}_{count}" if count else prefix


def _note(made: Any, arguments: KerasArguments, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Correct what was noted of a call as it was typed: by Keras, for ``get_config()``, and by us."""
    if record.KEY in vars(made):
        vars(made)[record.KEY] = {**vars(made)[record.KEY], "args": args, "kwargs": kwargs}
    bound = arguments.signature.bind(*args, **kwargs).arguments
    given = {**bound, **(bound.get(arguments.rest, {}) if arguments.rest else {})}
    names = {path.partition(".")[0] for path in call.edits}
    record.note_settings(made, {name: given[name] for name in names})


def _guess(call: Call, trace: Trace) -> Mapping[str, str]:
    """What may belong into a call: the names that have its kind, or the name of its layer, and an argument of it."""
    arguments = call.arguments
    if not isinstance(arguments, KerasArguments):
        return {}
    own, kind = arguments.values(), arguments.kind
    found: dict[str, str] = {}
    for name in trace.values:
        for path in _readings(name, arguments):
            if path in own and arguments.takes(path.partition(".")[0]) and (is_plain(own[path]) or kind == "model"):
                found[path] = name
    if kind in ("optimizer", "schedule") and any(
        other.edits and other.place != call.place and getattr(other.arguments, "kind", "") == kind
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
    if arguments.kind == "callback":
        start = f"{arguments.cls.__name__}."
        return [bare.removeprefix(start)] if bare.startswith(start) else []
    start = f"{arguments.name}."
    inner = name.removeprefix("layer.")
    found = [inner.removeprefix(start)] if inner.startswith(start) and arguments.kind in ("layer", "model") else []
    return [*found, bare] if arguments.kind == "model" else found


def is_plain(value: Any) -> bool:
    """Whether an argument is a setting by itself, not an object."""
    if isinstance(value, list | tuple):
        return all(isinstance(item, int | float | str) for item in value)
    return isinstance(value, int | float | str | None)


# ------------------------------------------------------------------ where settings were typed in


class Typed:
    """The calls that made the objects of one fit.

    Args:
        trace: What the training function has made.
        model: The model of the fit.
        callbacks: The callbacks of the fit.
    """

    def __init__(self, trace: Trace, model: Any, callbacks: list[Any]) -> None:
        self._trace, self._model = trace, model
        self._layers = dict(_named_layers(model))
        self._callbacks = _numbered(callbacks)
        self._values: dict[Call, dict[str, Any]] = {}  # what each call was given, read once

    @property
    def knows_model(self) -> bool:
        """Whether the training function has made the model."""
        return self._trace.of(self._model) is not None

    def argument(self, name: str) -> Place | None:
        """Where an argument of the model was typed in."""
        return self._place(self._model, name)

    def optimizer(self, optimizer: Any, path: str) -> Place | None:
        """Where a setting of an optimizer was typed in."""
        return self._place(optimizer, path)

    def layer(self, path: str, value: Any) -> Place | None:
        """Where a setting of a layer was typed in.

        Args:
            path: Names of layers and the setting, such as ``hidden.units``.
            value: What it is now.
        """
        start = max((name for name in self._layers if path.startswith(f"{name}.")), key=len, default=None)
        if start is None:
            return None
        setting, layer = path.removeprefix(f"{start}."), self._layers[start]
        copied = self._of_original(layer)
        place = None if copied is None else self._in_call(copied, setting)
        if place is not None and config.alike(self.present(place), value):
            return place
        return self._place(layer, setting)

    def _of_original(self, layer: Any) -> Call | None:
        """The call of the layer of which Keras has made a copy, as ``clone_model`` does: its value comes from there."""
        call, name = self._trace.of(layer), layer.name
        if call is None or call.is_typed_in or call.edits:
            return None
        for other in reversed(self._trace.calls):
            own = other.arguments
            if other.is_typed_in and own.cls is call.arguments.cls and getattr(own, "name", "") == name:
                return other
        return None

    def more(self) -> Iterator[tuple[str, Place, int]]:
        """Paths of settings that are known from calls, where they were typed in, and their ranks."""
        for name in self._own(self._model):
            yield f"model.{name}", *self._ranked(self._model, name, 0)
        for path, optimizer in other_optimizers(self._model):
            for name in self._own(optimizer):
                yield f"{path}.{name}", *self._ranked(optimizer, name, 1 if path.startswith("optimizer.") else 2)
        for path, layer in self._layers.items():
            rank = 2 if "." in path and not isinstance(layer, keras.Model) else 1
            for name in self._own(layer):
                yield f"layer.{path}.{name}", *self._ranked(layer, name, rank)
        for path, callback in self._callbacks.items():
            for name in self._own(callback):
                yield f"callback.{path}.{name}", *self._ranked(callback, name, 2)
        compiled = self._trace.of(_compiled.get(self._model))
        if compiled is not None:
            yield from ((f"compile.{name}", (compiled, name), 2) for name in compiled.arguments.values())

    def _own(self, owner: Any) -> list[str]:
        """The plain arguments of the call that made an object."""
        call = self._trace.of(owner)
        if call is None:
            return []
        given = self._given(call).items()
        plain = [name for name, value in given if is_plain(value) and name not in _IDENTITY]
        return [name for name in plain if self._place(owner, name) is not None]

    def _ranked(self, owner: Any, name: str, rank: int) -> tuple[Place, int]:
        place = self._place(owner, name)
        assert place is not None, "it is one of _own"  # noqa: S101
        return place, rank

    def _place(self, owner: Any, path: str) -> Place | None:
        call = self._trace.of(owner)
        return None if call is None else self._in_call(call, path)

    def _in_call(self, call: Call, path: str) -> Place | None:
        if not isinstance(call.arguments, KerasArguments):
            return None
        name, _, entry = path.partition(".")
        own = self._given(call)
        held = own.get(name)
        if entry and (inner := self._place(held, entry)) is not None:
            return inner
        if not call.arguments.takes(name) or (entry and path not in own and not _is_object(held)):
            return None
        return call, path

    def present(self, place: Place) -> Any:
        """What a call has for an argument."""
        call, path = place
        if path in call.edits:
            return self._trace.values.get(call.edits[path])
        return self._given(call).get(path)

    def _given(self, call: Call) -> dict[str, Any]:
        if call not in self._values:
            self._values[call] = call.arguments.values()
        return self._values[call]


_IDENTITY = frozenset({"name", "dtype", "trainable", "autocast", "batch_shape", "batch_input_shape"})


def _named_layers(owner: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The layers of a model by path, those in models and in the user's layers included. Keras's own hide them."""
    if record.is_plain(type(owner)) and isinstance(owner, keras.Model):
        inner = owner.layers
    else:
        inner = owner._flatten_layers(include_self=False, recursive=False)  # noqa: SLF001
    for layer in inner:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        path = f"{prefix}{layer.name}"
        yield path, layer
        if depth < _DEEP and (isinstance(layer, keras.Model) or not record.is_plain(type(layer))):
            yield from _named_layers(layer, f"{path}.", depth + 1)


def _numbered(callbacks: list[Any]) -> dict[str, Any]:
    """Callbacks by their classes, with a number where there are several of one."""
    kinds = [type(one).__name__ for one in callbacks]
    found: dict[str, Any] = {}
    for index, (kind, callback) in enumerate(zip(kinds, callbacks, strict=True)):
        found[kind if kinds.count(kind) == 1 else f"{kind}.{kinds[:index].count(kind)}"] = callback
    return found


def other_optimizers(model: Any) -> Iterator[tuple[str, Any]]:
    """The optimizers that are not the compiled one: attributes of the model, and those that a MultiOptimizer holds."""
    compiled = getattr(model, "optimizer", None)
    for index, one in enumerate(inner_optimizers(compiled)):
        yield f"optimizer.{index}", one
    with contextlib.suppress(TypeError):
        for name, one in vars(model).items():
            if isinstance(one, keras.optimizers.Optimizer) and one is not compiled and not name.startswith("_"):
                yield f"model.{name}", one


def inner_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers among which a ``MultiOptimizer`` chooses, as far as it says."""
    if not hasattr(optimizer, "_inner_optimizers"):
        return []
    chosen = getattr(optimizer, "_optimizer_map", None)
    cells = [cell.cell_contents for cell in getattr(chosen, "__closure__", None) or ()]
    held = [*optimizer._inner_optimizers, *cells]  # noqa: SLF001 - before it is built its own list may be empty
    return list({id(one): one for one in held if isinstance(one, keras.optimizers.Optimizer)}.values())


def flat(callbacks: Any) -> list[Any]:
    """The callbacks of a fit, however they were given."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    if isinstance(callbacks, list | tuple):
        return [one for each in callbacks for one in flat(each)]
    return [] if callbacks is None else [callbacks]


class MethodArguments(Arguments):
    """What a method of a model was called with.

    Args:
        cls: The class of the model.
        bound: The arguments of the call, the model first.
        names: Those that count, ``None`` for all.
    """

    def __init__(self, cls: type, bound: inspect.BoundArguments, names: tuple[str, ...] | None = None) -> None:
        self.cls, self.base = cls, object
        own = list(bound.signature.parameters.values())[1:]
        own = [each for each in own if names is None or each.name in names]
        self.parameters = {each.name: each for each in own}
        vars(self)["signature"] = bound.signature.replace(parameters=own)
        given = {name: value for name, value in bound.arguments.items() if name in self.parameters}
        self.bound = inspect.BoundArguments(self.signature, given)


class _Compile:
    """Stands for a call of ``compile``."""


_compiled: weakref.WeakKeyDictionary[Any, _Compile] = weakref.WeakKeyDictionary()  # the last one by model


def compile_with_values(original: Any) -> Any:
    """A ``keras.Model.compile`` that takes the values of the trial which belong into it.

    Args:
        original: Keras's own.
    """
    signature = inspect.signature(original)

    def compile_model(self: Any, *args: Any, **kwargs: Any) -> Any:
        trace = trace_in_progress()
        if trace is None:
            return original(self, *args, **kwargs)
        try:
            arguments = MethodArguments(type(self), signature.bind(self, *args, **kwargs))
        except TypeError:  # it will say what is wrong
            return original(self, *args, **kwargs)
        _compiled[self] = one = _Compile()
        trace.take(one, arguments, _guess_compile)
        call = trace.of(one)
        if call is not None and call.edits:
            args, kwargs = trace.edited(call)
        return original(self, *args, **kwargs)

    return compile_model


def _guess_compile(call: Call, trace: Trace) -> Mapping[str, str]:
    """What may belong into a call of ``compile``: its names in full, and those of what people search."""
    own = call.arguments.values()
    found = {name.removeprefix("compile."): name for name in trace.values}
    return {path: name for path, name in found.items() if path in own and (path != name or path in _SEARCHED)}


_SEARCHED = ("optimizer", "loss")

__all__ = ["KerasArguments", "MethodArguments", "Place", "Typed", "compile_with_values", "flat", "inner_optimizers",
           "is_plain", "other_optimizers", "watch"]  # fmt: skip
