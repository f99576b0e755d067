"""Settings of layers and optimizers: the entries of their configurations, by path."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tunehook.inject import same

# Entries that say who an object is, not how it works.
_IDENTITY = frozenset({"name", "dtype", "trainable", "build_config", "batch_shape", "batch_input_shape"})
_PLAIN = (int, float, str, type(None))


class ObjectName(str):
    """The name of an object's class, shown where the object is a setting."""

    __slots__ = ()


def read(owner: Any) -> dict[str, Any]:
    """The configuration of a layer or optimizer; what Keras warns of concerns those who save it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(owner.get_config())


def settings(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Paths and values of what can be set in a configuration.

    An entry that is an object (a regularizer, a schedule, the layer in a wrapper) is one setting, shown by the name of
    its class, and its own settings follow: ``kernel_regularizer`` and ``kernel_regularizer.l2``. Of the layers of a
    model that is a layer itself, each is called by its name.

    Args:
        config: What ``get_config()`` returned.
    """
    for key, value in config.items():
        if key in _IDENTITY:
            continue
        if is_object(value):
            yield key, ObjectName(value["class_name"])
            for path, inner in settings(value["config"]):
                yield f"{key}.{path}", inner
        elif key == "layers" and isinstance(value, list):
            for layer in value:
                name = layer["config"].get("name")
                for path, inner in settings(layer["config"]):
                    yield f"{name}.{path}", inner
        elif isinstance(value, _PLAIN) or _is_row(value):
            yield key, value


def edited(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with other values at some paths of `settings`."""
    made = plain(config)
    for path, value in changes.items():
        _set(made, path, value)
    return made


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration without the shapes that objects in it were built for."""
    return {key: _unbuilt(value) for key, value in config.items()}


def _unbuilt(value: Any) -> Any:
    if isinstance(value, Mapping):
        skipped = ("build_config",) if "class_name" in value else ()
        return {key: _unbuilt(item) for key, item in value.items() if key not in skipped}
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return [_unbuilt(item) for item in value]
    return value  # functions and objects of the user's stay what they are


def same_but_names(one: Any, other: Any) -> bool:
    """Whether two entries are the same but for the names of objects in them and what is frozen."""
    if is_object(one) and is_object(other):
        keys = (one["config"].keys() | other["config"].keys()) - _IDENTITY
        return one["class_name"] == other["class_name"] and all(
            same_but_names(one["config"].get(key), other["config"].get(key)) for key in keys
        )
    return same(one, other)


def renamed(value: Any, like: Any) -> Any:
    """An entry with the name that another one has, where both are objects with names."""
    if is_object(value) and is_object(like) and "name" in like["config"]:
        return {**value, "config": {**value["config"], "name": like["config"]["name"]}}
    return value


def classes(owner: Any) -> set[type]:
    """The user's own classes of an object and of what it holds, which Keras would not find by name."""
    held = [owner, *vars(owner).values()]
    kinds = {type(each) for each in held if hasattr(each, "get_config")}
    return {kind for kind in kinds if not kind.__module__.startswith("keras.")}


def alike(wanted: Any, present: Any) -> bool:
    """Whether a setting that reads ``present`` is what ``wanted`` makes it.

    Keras keeps rates as 32-bit numbers, 3 as (3, 3), and one of two names of a function.
    """
    if isinstance(wanted, bool) or isinstance(present, bool):
        return wanted is present
    if isinstance(wanted, float) and isinstance(present, float) and present == float(np.float32(wanted)):
        return True
    if _is_row(present) and not isinstance(wanted, list | tuple):
        return bool(present) and all(item == wanted for item in present)
    if isinstance(wanted, str) and isinstance(present, str) and not isinstance(present, ObjectName):
        return wanted == present or (_function(wanted) is not None and _function(wanted) is _function(present))
    return same(wanted, present)


def _function(name: str) -> Any:
    try:
        return keras.activations.get(name)
    except ValueError:
        return None


def is_object(value: Any) -> bool:
    """Whether an entry is an object that Keras can make again from its class and configuration."""
    return isinstance(value, Mapping) and "class_name" in value and isinstance(value.get("config"), Mapping)


def is_shown(path: str, value: Any) -> bool:
    """Whether a setting is worth a line in messages and records: the numbers that shape and train."""
    if isinstance(value, bool) or "initializer" in path:
        return False
    return isinstance(value, int | float) or path.rpartition(".")[2] == "activation"


def _set(config: dict[str, Any], path: str, value: Any) -> None:
    key, _, rest = path.partition(".")
    if not rest:
        config[key] = value
    elif is_object(config.get(key)):
        _set(config[key]["config"], rest, value)
    else:  # a layer of a model, whose name may have dots in it
        layer = next(each for each in config["layers"] if path.startswith(f"{each['config'].get('name')}."))
        _set(layer["config"], path.removeprefix(f"{layer['config']['name']}."), value)


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, int | float | str) for item in value)
