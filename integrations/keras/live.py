"""Which values of a Keras training can change in its middle, where the checkpoint of other values is restored.

The training function is called again, so that whatever a backend compiles is compiled with the new values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from tunehook.inject import is_used_later, same
from tunehook.integrations.keras import host
from tunehook.integrations.keras.places import other_optimizers


def why_fixed(path: str, value: Any, model: Any) -> str:
    """Why a value has to stay as it is, ``""`` where the training goes on with a new one as if it were typed in.

    Args:
        path: The slot.
        value: What it holds.
        model: The model.
    """
    kind, _, name = path.partition(".")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "fit":
        return "" if name == "batch_size" else "the plan of the whole training follows from it"
    if kind == "compile":
        return ""
    if kind == "callback":
        return "a callback goes on with what is in its checkpoint"
    if any(path.startswith(f"{start}.") for start, _ in other_optimizers(model)):
        return "of several optimizers each goes on with what is in its checkpoint"
    if kind == "optimizer":
        if name == "momentum" and value == 0:
            return "an optimizer of Keras keeps no momentum at 0 to go on with: let the range begin above 0"
        return "" if is_number else "what an optimizer keeps depends on it"
    if not isinstance(value, float) or "initializer" in path:
        return "the weights may depend on it, which are restored"
    if kind == "layer" or is_used_later(type(model), keras.Model, name):
        return ""
    if any(isinstance(one, float) and same(value, one) for layer in _layers(model) for one in vars(layer).values()):
        return ""
    return "only the constructor uses it, whose weights are restored"


def _layers(owner: Any) -> Iterator[Any]:
    for layer in host.inner_layers(owner):
        yield layer
        yield from _layers(layer)
