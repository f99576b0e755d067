"""What objects of Keras were constructed with, and methods of models called with, some of which can be replaced."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import keras

from tunehook.inject import NAMED, Arguments
from tunehook.integrations.keras import config, host
from tunehook.system import kept_random

Kind = Literal["model", "layer", "optimizer", "schedule", "callback", "part"]

ROOTS: dict[type, Kind] = {
    keras.Layer: "layer",
    keras.optimizers.Optimizer: "optimizer",
    keras.optimizers.schedules.LearningRateSchedule: "schedule",
    keras.callbacks.Callback: "callback",
    keras.regularizers.Regularizer: "part",
    keras.initializers.Initializer: "part",
}
"""What is watched, and what each class makes."""


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
        base = next(each for each in cls.__mro__ if host.is_plain(each)) if self.kind == "model" else object
        super().__init__(cls, base)
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
            if entry and is_object(held):
                whole[name] = _remade(name, held, entry, value)
            elif entry:
                whole[path] = value
        return super().arguments(whole)


def kind_of(cls: type) -> Kind:
    """What a class makes; a model of Keras's own counts as a layer, and a loader of torch as a part."""
    if issubclass(cls, keras.Model):
        return "layer" if host.is_plain(cls) else "model"
    return next((kind for root, kind in ROOTS.items() if issubclass(cls, root)), "part")


def is_object(value: Any) -> bool:
    """Whether an argument is an object that can be made again with another setting, its name or its configuration.

    Layers and what trains are none: a new one would be another object than the script's.
    """
    is_watched = isinstance(value, keras.Layer | keras.optimizers.Optimizer | keras.callbacks.Callback)
    return not is_watched and (isinstance(value, str) or config.is_object(value) or hasattr(value, "get_config"))


def _remade(name: str, value: Any, entry: str, new: Any) -> Any:
    """An object that is an argument with another setting, and with the seed that it has."""
    if config.is_object(value):
        return config.edited({name: value}, f"{name}.{entry}", new)[name]
    if isinstance(value, str):
        value = (keras.regularizers if name.endswith("regularizer") else keras.initializers).get(value)
    with kept_random():
        made = type(value).from_config(config.edited(value.get_config(), entry, new))
    if entry != "seed" and hasattr(value, "seed"):
        made.seed = value.seed
    return made


def is_plain(value: Any) -> bool:
    """Whether an argument is a setting by itself, not an object."""
    if isinstance(value, list | tuple):
        return all(isinstance(item, int | float | str) for item in value)
    return isinstance(value, int | float | str | None)


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
        self._order = [each.name for each in own]
        own = [each for each in own if names is None or each.name in names]
        self.parameters = {each.name: each for each in own}
        self.signature = bound.signature.replace(parameters=own)
        given = {name: value for name, value in bound.arguments.items() if name in self.parameters}
        self.bound, self._by_name = inspect.BoundArguments(self.signature, given), {*given}

    @property
    def order(self) -> list[str]:
        """See `Arguments`."""
        return self._order
