"""The settings of a fit's objects, and where each was typed in: the call, and the argument of it."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from tunehook.inject import UNKNOWN, Call, Trace, signature_of
from tunehook.integrations.keras import config, host
from tunehook.integrations.keras.arguments import KerasArguments, is_object, is_plain
from tunehook.integrations.keras.calls import call_of_compile
from tunehook.integrations.keras.compiled import Compiled

_DEEP = 8  # levels of layers in layers
_IDENTITY = frozenset({"name", "dtype", "trainable", "autocast", "batch_shape", "batch_input_shape"})

Place = tuple[Call, str]
"""A call, and the argument of it into which a value was typed; a path where it is a setting of an object in there."""


@dataclass(frozen=True)
class Setting:
    """A setting of an object of a fit.

    Attributes:
        path: Full name, such as ``layer.hidden.units``.
        value: What it is now; `UNKNOWN` where only the call that made the object tells, and that was not seen.
        place: Where it was typed in, ``None`` where that was not seen.
        rank: As of a slot.
        owner: The object, for messages.
        is_made: Whether the call that made the object was seen.
        type: What it takes.
        alias: Another full name, by the class of the object, such as ``Net.units``.
        is_read: Whether the value is what an object of Keras itself says that it has before its first fit.
    """

    path: str
    value: Any
    place: Place | None
    rank: int
    owner: str
    is_made: bool
    type: object
    alias: str = ""
    is_read: bool = False

    @property
    def is_listed(self) -> bool:
        """Whether it is worth a line in messages and records."""
        if self.value is UNKNOWN:
            return False
        return self.rank == 0 or (self.rank == 1 and config.is_shown(self.path, self.value))


class Objects:
    """The objects of one fit.

    Args:
        trace: What the training function has made; ``None`` where its trial is known in the fit only.
        model: The model of the fit.
        compiled: Its optimizer.
        callbacks: The callbacks of the fit.
    """

    def __init__(self, trace: Trace | None, model: Any, compiled: Compiled, callbacks: list[Any]) -> None:
        self._trace, self._model, self._compiled, self._callbacks = trace, model, compiled, callbacks

    def settings(self) -> Iterator[Setting]:
        """All settings. Where several have one path, the last one counts."""
        model, optimizer = self._model, self._compiled.optimizer
        if not host.is_plain(type(model)):
            yield from self._of_model()
        for path, value in self._compiled.settings().items():
            yield self._setting(f"optimizer.{path}", optimizer, path, value, 1, _number(value), is_config=True)
        for start, layer, rank in _named_layers(model, _inner_rank(model)):
            present: dict[str, Any] = {}
            with contextlib.suppress(Exception):  # get_config is the user's code
                present = dict(config.settings(config.read(layer)))
            for path, value in present.items():
                yield self._setting(f"layer.{start}.{path}", layer, path, value, rank, _number(value), is_config=True)
            yield from self._arguments(f"layer.{start}", layer, rank, but=present)
        for start, one in other_optimizers(model):
            yield from self._arguments(start, one, 1 if start.startswith("optimizer.") else 2)
        others = [one for one in self._callbacks if not type(one).__module__.startswith("tunehook.")]
        for kind, one in _numbered(others).items():
            yield from self._arguments(f"callback.{kind}", one, 2)
        yield from self._of_compile()

    def _of_model(self) -> Iterator[Setting]:
        """The arguments of a model class of the user's."""
        call = self._call(self._model)
        own = KerasArguments(type(self._model)) if call is None else call.arguments
        for name, value in self._given(self._model).items():
            if name not in _IDENTITY:
                rank = 0 if call is None else own.rank(name)
                yield self._setting(f"model.{name}", self._model, name, value, rank, own.type_of(name))

    def _arguments(self, start: str, owner: Any, rank: int, *, but: Container[str] = ()) -> Iterator[Setting]:
        """The plain arguments of the call that made an object; those of its class where the call was not seen."""
        for name, value in self._given(owner).items():
            if name not in _IDENTITY and name not in but and (value is UNKNOWN or is_plain(value)):
                setting = self._setting(f"{start}.{name}", owner, name, value, rank, _number(value))
                if value is UNKNOWN or setting.place is not None:
                    yield setting

    def _given(self, owner: Any) -> dict[str, Any]:
        """The arguments of the call that made an object, `UNKNOWN` ones where the call was not seen."""
        if (call := self._call(owner)) is not None:
            return call.present
        try:
            return dict.fromkeys(KerasArguments(type(owner)).parameters, UNKNOWN)
        except (TypeError, ValueError):  # some that are written in C say nothing
            return {}

    def _of_compile(self) -> Iterator[Setting]:
        call = None if self._trace is None else call_of_compile(self._trace, self._model)
        names = [*signature_of(keras.Model.compile).parameters][1:]
        for name, value in dict.fromkeys(names, UNKNOWN).items() if call is None else call.present.items():
            place = None if call is None else (call, name)
            yield Setting(f"compile.{name}", value, place, 2, "the call of compile()", call is not None, _number(value))

    def _call(self, owner: Any) -> Call | None:
        return None if self._trace is None else self._trace.of(owner)

    def _setting(
        self, path: str, owner: Any, name: str, value: Any, rank: int, kind: object, *, is_config: bool = False
    ) -> Setting:
        call = self._call(owner)
        place = self._of_original(owner, name, value) or self._place(owner, name)
        text = type(owner).__name__ + (f" '{owner.name}'" if path.startswith("layer.") else "")
        made_at = text if call is None else call.name
        alias = f"{type(owner).__name__}.{name}"
        # A fit may set what the next one of the same objects begins with, such as a learning rate.
        is_new = call is not None and self._trace is not None and call.fit == self._trace.fits
        is_read = is_config and is_new and host.is_plain(type(owner))
        return Setting(path, value, place, rank, made_at, call is not None, kind, alias, is_read)

    # ------------------------------------------------------------------ places

    def _place(self, owner: Any, path: str) -> Place | None:
        if isinstance(owner, keras.Model) and host.is_plain(type(owner)):
            for layer in owner.layers:
                if path.startswith(f"{layer.name}."):
                    return self._place(layer, path.removeprefix(f"{layer.name}."))
        call = self._call(owner)
        return None if call is None else self._in_call(call, path)

    def _in_call(self, call: Call, path: str) -> Place | None:
        if not isinstance(call.arguments, KerasArguments):
            return None
        name, _, entry = path.partition(".")
        held = call.present.get(name)
        if entry and (inner := self._place(held, entry)) is not None:
            return inner
        if not call.arguments.takes(name) or (entry and path not in call.present and not is_object(held)):
            return None
        return call, path

    def _of_original(self, layer: Any, path: str, value: Any) -> Place | None:
        """The call of the layer of which Keras has made a copy, as ``clone_model`` does: its value comes from there."""
        call = self._call(layer)
        if self._trace is None or not isinstance(layer, keras.Layer) or call is None or call.is_typed_in or call.edits:
            return None
        for other in reversed(self._trace.calls):
            own = other.arguments
            if other.is_typed_in and own.cls is call.arguments.cls and getattr(own, "name", "") == layer.name:
                place = self._in_call(other, path)
                return place if place is not None and config.alike(in_force(place), value) else None
        return None


def in_force(place: Place) -> Any:
    """What the object was made with that a call has made."""
    call, path = place
    return call.given.get(path, call.present.get(path))


def _number(value: Any) -> object:
    """The type of a setting that is a number now; all others may be several things."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int | float


def _inner_rank(model: Any) -> int:
    """The rank of settings inside layers of the user's: after all others, except in a model class of the user's."""
    return 2 if host.is_plain(type(model)) else 1


def _named_layers(
    owner: Any, inner: int, prefix: str = "", rank: int = 1, depth: int = 0
) -> Iterator[tuple[str, Any, int]]:
    """The layers of a model by path, with their ranks, those in models and in the user's layers included.

    Keras's own hide theirs.
    """
    is_graph = isinstance(owner, keras.Model) and host.is_plain(type(owner))
    layers = owner.layers if is_graph else host.inner_layers(owner)
    for layer in layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        path = f"{prefix}{layer.name}"
        holds = isinstance(layer, keras.Model) and host.is_plain(type(layer))
        if not holds:
            yield path, layer, rank
        if depth < _DEEP and (holds or not host.is_plain(type(layer))):
            yield from _named_layers(layer, inner, f"{path}.", rank if holds else inner, depth + 1)


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
    for index, one in enumerate(host.inner_optimizers(compiled)):
        yield f"optimizer.{index}", one
    with contextlib.suppress(TypeError):
        for name, one in vars(model).items():
            if isinstance(one, keras.optimizers.Optimizer) and one is not compiled and not name.startswith("_"):
                yield f"model.{name}", one


def flat(callbacks: Any) -> list[Any]:
    """The callbacks of a fit, however they were given."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    if isinstance(callbacks, list | tuple):
        return [one for each in callbacks for one in flat(each)]
    return [] if callbacks is None else [callbacks]
