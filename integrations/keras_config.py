"""Settings of layers and optimizers: the entries of their configurations, by path."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

# Entries that say who an object is, not how it works.
_IDENTITY = frozenset({"name", "dtype", "trainable", "build_config", "batch_shape", "batch_input_shape"})
_PLAIN = (int, float, str, type(None))


class ObjectName(str):
    """The name of an object's class, shown where the object is a setting."""

    __slots__ = ()


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
    made = copy.deepcopy(dict(config))
    for path, value in changes.items():
        _set(made, path, value)
    return made


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
