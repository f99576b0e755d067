"""Values from elsewhere, as far as a space takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunehook.space.distribution import SpaceError
from tunehook.space.space import Space


def fitting(space: Space, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that a space takes, and why it does not take the others, by name."""
    kept: dict[str, Any] = {}
    left_out = {name: "which is not in the space" for name in params if name not in space.names}
    for name in space.names:
        if name not in params:
            continue
        try:
            space.encode({**kept, name: params[name]})
        except SpaceError as error:
            left_out[name] = str(error).removeprefix(f"Hyperparameter '{name}': ")
        else:
            kept[name] = params[name]
    return kept, left_out
