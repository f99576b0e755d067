"""Where the settings of a fit's objects were typed in: the call, and the argument of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from tunehook.inject.calls import Call, Trace
from tunehook.integrations import keras_config as config
from tunehook.integrations import keras_record as record
from tunehook.integrations.keras_arguments import KerasArguments, is_object, is_plain
from tunehook.integrations.keras_calls import call_of_compile

_DEEP = 8  # levels of layers in layers
_IDENTITY = frozenset({"name", "dtype", "trainable", "autocast", "batch_shape", "batch_input_shape"})

Place = tuple[Call, str]
"""A call, and the argument of it into which a value was typed; a path where it is a setting of an object in there."""


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
            yield f"model.{name}", *self._ranked(self._model, name, self._rank(name))
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
        compiled = call_of_compile(self._trace, self._model)
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

    def _rank(self, name: str) -> int:
        call = self._trace.of(self._model)
        return 0 if call is None else call.arguments.rank(name)

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
        if not call.arguments.takes(name) or (entry and path not in own and not is_object(held)):
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
