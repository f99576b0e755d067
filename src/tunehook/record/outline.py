"""What is recorded of the values in force: short, plain, and without secrets."""

from __future__ import annotations

import itertools
import os
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

from tunehook.record.journal import plain
from tunehook.system import hidden, is_secret_name, shown

# Written in place of a secret.
LEFT_OUT = "<left out: secret>"

_DEEP, _MANY = 8, 1000  # levels and entries of containers that `outline` keeps
_BITS = 1000  # of an integer that is kept; Python shows none of more than some 14,000
_SHORT = reprlib.Repr()
_SHORT.maxother = 200


def names_of_secrets(names: Collection[str]) -> frozenset[str]:
    """The user's own names of secrets.

    Raises:
        TypeError: They are no list of names.
    """
    if isinstance(names, str) or not all(isinstance(one, str) and one for one in names):
        raise TypeError(f"secrets is a list of names, such as ['my_field']; got {shown(names)}.")
    return frozenset(names)


def outlines(held: Mapping[str, Any], *, searched: Collection[str], secrets: Collection[str]) -> dict[str, Any]:
    """What `outline` gives of values by slot path, with `LEFT_OUT` in place of what looks like a secret.

    A secret is known by its name, at any depth of containers (``password``, ``api_key``, ``hf_token``; not
    ``num_tokens`` or ``pad_token``), by its type, such as pydantic's ``SecretStr``, or as the password of a URL.

    Args:
        held: The values.
        searched: The paths whose values the search gives, which are recorded as they are.
        secrets: Names of further secrets: paths, or names of arguments or entries.
    """
    return {
        path: outline(value)
        if path in searched
        else LEFT_OUT
        if path in secrets or any(_is_secret(part, value, secrets) for part in path.split("."))
        else outline(value, secrets=secrets)
        for path, value in held.items()
    }


def outline(
    value: Any, *, depth: int = 0, room: list[int] | None = None, secrets: Collection[str] | None = None
) -> Any:
    """What `plain` gives, in short, for whatever a slot may hold: nothing raises, and nothing takes long.

    Args:
        value: Anything. Of containers the first thousand entries in all are kept, down to eight levels; of arrays their
            type, shape and kind of number; of other objects a short ``repr``.
        depth: How deep in containers the value lies.
        room: How many entries may still be kept, in a list so that all levels count it down.
        secrets: Names of the user's own whose values are left out, as is what looks like a secret; ``None`` where
            everything is kept.
    """
    room = [_MANY] if room is None else room
    if isinstance(value, str):
        return value if secrets is None else hidden(value, mask=LEFT_OUT)
    if value is None or isinstance(value, bool | float):
        return plain(value)
    try:
        if isinstance(value, int) and value.bit_length() <= _BITS:
            return value
        if isinstance(value, os.PathLike):
            return outline(str(value), secrets=secrets)
        if isinstance(value, Mapping | list | tuple | set | frozenset) and depth < _DEEP:
            few = [*itertools.islice(value, max(room[0], 0))]
            room[0] -= len(few)
            more = [f"... and {len(value) - len(few)} more"] if len(few) < len(value) else []
            if isinstance(value, Mapping):
                found = {
                    str(key): LEFT_OUT
                    if secrets is not None and _is_secret(str(key), value[key], secrets)
                    else outline(value[key], depth=depth + 1, room=room, secrets=secrets)
                    for key in few
                }
                return found | dict.fromkeys(more, "")
            return [outline(item, depth=depth + 1, room=room, secrets=secrets) for item in few] + more
        if secrets is not None and hasattr(value, "get_secret_value"):
            return LEFT_OUT
        if (shape := getattr(value, "shape", None)) is not None and hasattr(value, "dtype"):
            return (
                outline(value.item(), depth=_DEEP)
                if shape == ()
                else f"{type(value).__name__} {tuple(shape)}, {value.dtype}"
            )
        return outline(_SHORT.repr(value), secrets=secrets)
    except Exception:  # noqa: BLE001 - code of the value, such as an array without values, may raise anything
        return f"a {type(value).__name__}"


def _is_secret(name: str, value: Any, secrets: Collection[str]) -> bool:
    return name in secrets or is_secret_name(name, value)
