"""What is recorded of the values in force: short, plain, and without secrets."""

from __future__ import annotations

import contextlib
import itertools
import os
import reprlib
import types
from collections import deque
from collections.abc import Collection, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from tunehook.record.journal import plain
from tunehook.system import hidden, is_secret_name, shown

# Written in place of a secret.
LEFT_OUT = "<left out: secret>"

_DEEP, _MANY = 8, 1000  # levels and entries of containers that `outline` keeps
_BITS = 1000  # of an integer that is kept; Python shows none of more than some 14,000
_SEQUENCES = (list, tuple, set, frozenset, deque, KeysView, ValuesView, ItemsView)
_MARK = "\ue000"  # stands for a secret while others are looked for
_FEWEST = 6  # characters of a secret that is looked for in other values; a shorter one would be found in words


class _Short(reprlib.Repr):
    """A short ``repr``; what is left out of it is left out before it is cut off."""

    def __init__(self, secrets: Secrets | None, known: Collection[str] = ()) -> None:
        super().__init__()
        self.maxother, self._secrets, self._known = 200, secrets, known

    def repr_instance(self, x: Any, level: int) -> str:
        """That of an object: its own, without secrets."""
        if self._secrets is None:
            return super().repr_instance(x, level)
        text = self._secrets.without(repr(x), self._known)
        return text if len(text) <= self.maxother else f"{text[:95]}...{text[-95:]}"

    def repr_str(self, x: str, level: int) -> str:
        """That of a text."""
        return super().repr_str(x if self._secrets is None else self._secrets.without(x, self._known), level)


class Secrets:
    """What is left out of a record.

    Args:
        names: The user's own names of secrets.
        held: The values that are recorded, by slot path: a secret among them is left out of the others too, as of the
            ``repr`` of a client that holds it.
    """

    def __init__(self, names: Collection[str], held: Mapping[str, Any] | None = None) -> None:
        self._names, self._known = names, list[str]()
        for path, value in (held or {}).items():
            self._known += self.within(value, is_secret=self.names(path, value))

    def names(self, path: str, value: Any) -> bool:
        """Whether the name of a value says that it is a secret."""
        return path in self._names or any(
            part in self._names or is_secret_name(part, value) for part in path.split(".")
        )

    def without(self, text: str, more: Collection[str] = ()) -> str:
        """A text without the secrets in it."""
        for secret in sorted({*self._known, *more}, key=len, reverse=True):
            text = text.replace(secret, _MARK)
        return hidden(text, mask=LEFT_OUT, names=self._names).replace(_MARK, LEFT_OUT)

    def within(self, value: Any, *, is_secret: bool = False) -> list[str]:
        """The secrets that a value is, or has in its entries and attributes; nothing takes long."""
        found = list[str]()
        todo = [(value, is_secret, 0)]
        for _ in range(_MANY):
            if not todo:
                break
            one, is_one, depth = todo.pop()
            if isinstance(one, bytes):
                one = one.decode(errors="ignore")
            if isinstance(one, str):
                found += [one] if is_one and len(one) >= _FEWEST else []
            elif depth < _DEEP:
                todo += [
                    (item, is_one or (isinstance(name, str) and self.names(name, item)), depth + 1)
                    for name, item in _items(one)
                ]
        return found


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Entries, items or attributes with their names, the first of many."""
    with contextlib.suppress(Exception):  # code of the value may raise anything
        if isinstance(value, _SEQUENCES):
            yield from _named(itertools.islice(value, _MANY), value)
        elif not isinstance(value, type | types.ModuleType):
            slots = (name for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name))
            whole = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
            yield from ((name, whole[name]) for name in itertools.islice(whole, _MANY))
            yield from ((name, getattr(value, name)) for name in itertools.islice(slots, _MANY))


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _named(items: Iterable[Any], whole: Any) -> Iterator[tuple[str | None, Any]]:
    """Items with their names: fields of a named tuple, the first of a pair, an option such as ``--password``."""
    fields, is_pair, before = getattr(whole, "_fields", ()), isinstance(whole, tuple) and len(whole) == 2, None
    for index, item in enumerate(items):
        yield (fields[index] if index < len(fields) else before), item
        before = item.lstrip("-") if isinstance(item, str) and (is_pair or item.startswith("-")) else None


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
    left_out = Secrets(secrets, {path: value for path, value in held.items() if path not in searched})
    return {
        path: outline(value)
        if path in searched
        else LEFT_OUT
        if left_out.names(path, value)
        else outline(value, secrets=left_out)
        for path, value in held.items()
    }


def outline(value: Any, *, depth: int = 0, room: list[int] | None = None, secrets: Secrets | None = None) -> Any:
    """What `plain` gives, in short, for whatever a slot may hold: nothing raises, and nothing takes long.

    Args:
        value: Anything. Of containers the first thousand entries in all are kept, down to eight levels; of arrays their
            type, shape and kind of number; of other objects a short ``repr``.
        depth: How deep in containers the value lies.
        room: How many entries may still be kept, in a list so that all levels count it down.
        secrets: What is left out; ``None`` where everything is kept.
    """
    room = [_MANY] if room is None else room

    def as_text(text: str) -> str:
        return text if secrets is None else secrets.without(text)

    def one(name: str | None, item: Any) -> Any:
        if secrets is not None and name is not None and secrets.names(name, item):
            return LEFT_OUT
        return outline(item, depth=depth + 1, room=room, secrets=secrets)

    if isinstance(value, str):
        return as_text(value)
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
                found = {as_text(str(key)): one(str(key), value[key]) for key in few}
                return found | dict.fromkeys(more, "")
            return [one(name, item) for name, item in _named(few, value)] + more
        if secrets is not None and hasattr(value, "get_secret_value"):
            return LEFT_OUT
        if (shape := getattr(value, "shape", None)) is not None and hasattr(value, "dtype"):
            return (
                outline(value.item(), depth=_DEEP)
                if shape == ()
                else f"{type(value).__name__} {tuple(shape)}, {value.dtype}"
            )
        return _Short(secrets, () if secrets is None else secrets.within(value)).repr(value)
    except Exception:  # noqa: BLE001 - code of the value, such as an array without values, may raise anything
        return f"a {type(value).__name__}"
