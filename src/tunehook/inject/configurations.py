"""Configurations whose constructor derives more from a value: it goes in there, for a copy would not have that.

Such as a dataclass that fills in ``ff = 4 * dim`` where no ``ff`` is given: to a copy with another ``dim`` it is given.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import inspect
from collections.abc import Collection, Iterator
from types import CodeType
from typing import Any

from tunehook.inject.arguments import holds_values, is_table, signature_of
from tunehook.inject.call import Call
from tunehook.inject.reads import loads


def holders(call: Call, path: str) -> Iterator[tuple[Any, str]]:
    """The objects along the path of an argument's entry, from the outermost one, each with the key of the next one.

    Args:
        call: The call.
        path: The path, such as ``config.optim.lr``.
    """
    name, *keys = path.split(".")
    given: dict[str, Any] = call.arguments.bound.arguments
    held = given.get(name, given.get(call.arguments.rest or "", {}).get(name))
    for key in keys:
        yield held, key
        held = held[key] if is_table(held) else getattr(held, key, None)


def class_name(cls: type) -> str:
    """The name of a class in all processes, such as ``train:Config``; a class that is defined again keeps it."""
    return f"{cls.__module__.replace('__mp_main__', '__main__')}:{cls.__qualname__}"


def class_of_constructor(cls: type) -> type:
    """The class whose constructor makes the objects of another one: itself, or one that it inherits from."""
    return next(each for each in cls.__mro__ if "__init__" in vars(each))


def derives(made: Any, key: str) -> bool:
    """Whether an object's constructor makes more of an argument than an attribute, as far as its code says.

    Args:
        made: The object.
        key: The argument.
    """
    cls: Any = type(made)
    return holds_values(made) and _derives(cls, key)


@functools.lru_cache(maxsize=256)
def _derives(cls: Any, key: str) -> bool:
    if hasattr(cls, "__dataclass_fields__"):
        fields = {each.name for each in dataclasses.fields(cls) if each.init}
        is_hidden = fields != {*[*signature_of(cls.__init__).parameters][1:]}  # of those by which one is made
        return is_hidden or _stores(cls, "__post_init__", fields)
    if hasattr(cls, "__attrs_attrs__"):
        fields = {each.name for each in cls.__attrs_attrs__ if each.init}
        follows = any(getattr(each.default, "takes_self", False) for each in cls.__attrs_attrs__)
        return follows or _stores(cls, "__attrs_post_init__", fields)
    if hasattr(cls, "__pydantic_decorators__"):
        found = cls.__pydantic_decorators__
        return bool(found.model_validators or found.field_validators or "model_post_init" in vars(cls))
    codes = [*_codes(cls, "__init__")]
    count = sum(loads(code, key) for code in codes if key in code.co_varnames)
    return count > 1 or any(
        each.opname in ("LOAD_ATTR", "LOAD_METHOD") and each.argval == key
        for code in codes for each in dis.get_instructions(code)
    )  # fmt: skip


def _stores(cls: type, method: str, names: Collection[str]) -> bool:
    """Whether a method, or one that it calls, sets one of some attributes."""
    return any(
        (each.opname == "STORE_ATTR" or (each.opname == "LOAD_CONST" and "__setattr__" in code.co_names))
        and each.argval in names
        for code in _codes(cls, method) for each in dis.get_instructions(code)
    )  # fmt: skip


def _codes(cls: type, *methods: str) -> Iterator[CodeType]:
    """The code of some methods, and of those of the class that they call."""
    todo, seen = [*methods], {*methods}
    while todo:
        name = todo.pop()
        found = [inspect.unwrap(vars(each)[name]) for each in cls.__mro__ if name in vars(each)]
        for code in [one.__code__ for one in found if hasattr(one, "__code__")]:
            yield code
            todo += [each for each in code.co_names if each not in seen]
            seen.update(code.co_names)
