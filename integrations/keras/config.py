"""Settings of layers and optimizers: the entries of their configurations, by path."""

from __future__ import annotations

import math
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


def edited(config: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a configuration with another value at a path of `settings`."""
    key, _, rest = path.partition(".")
    if rest:
        value = {**config[key], "config": edited(config[key]["config"], rest, value)}
    return {**config, key: value}


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


def differ(given: Any, present: Any) -> bool:
    """Whether a setting is certainly not what a constructor was given.

    Numbers tell, in whatever precision Keras keeps them; of other values it has its own ways to write them.
    """
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in (given, present)):
        return False
    return not alike(given, present) and not math.isclose(given, present, rel_tol=1e-2)


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


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, int | float | str) for item in value)
