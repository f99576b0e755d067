"""Whether anything uses an argument: what the code of a class reads, and which saved arguments are read."""

from __future__ import annotations

import dis
import inspect
import itertools
from collections.abc import Iterator
from types import CodeType
from typing import Any


def is_read(cls: type, base: type, name: str) -> bool:
    """Whether a constructor from a class down to the framework's loads an argument, as far as its code says."""
    keeps_rest = False  # whether one that takes it among others, in **kwargs, loads these
    for each in cls.__mro__:
        if each is base:
            return keeps_rest
        code = getattr(getattr(vars(each).get("__init__"), "__wrapped__", vars(each).get("__init__")), "__code__", None)
        if code is None:
            continue
        if name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
            return loads(code, name) > 0 or is_mentioned(cls, base, name, beside="hparams")
        if not code.co_flags & 0x08:  # it takes no **kwargs, so nobody hands the argument on
            return True
        rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04)]
        keeps_rest = keeps_rest or loads(code, rest) > 0
    return keeps_rest


def loads(code: CodeType, name: str) -> int:
    """How often a function loads a variable, functions inside it included; once where it may load any.

    Args:
        code: The function.
        name: The variable.
    """
    count = 0
    for each in dis.get_instructions(code):
        if isinstance(each.argval, CodeType):
            count += loads(each.argval, name)
        elif each.opname == "LOAD_GLOBAL" and each.argval in ("locals", "vars", "eval", "exec"):
            count += 1
        elif "LOAD_FAST" in each.opname or "DEREF" in each.opname:
            loaded = each.argval if isinstance(each.argval, tuple) else (each.argval,)  # two, from Python 3.13 on
            count += loaded.count(name)
    return count


def is_mentioned(cls: type, base: type, name: str, *, beside: str = "") -> bool:
    """Whether the code of a class, down to the framework's, has a name as an attribute or as a text.

    Args:
        cls: The class.
        base: The framework's class below it.
        name: The name.
        beside: Another name that the same function has to have, ``""`` for none.
    """
    return any(
        (name in code.co_names or name in code.co_consts) and (not beside or beside in code.co_names)
        for code in _methods(cls, base)
    )


def sets_attribute(cls: type, base: type, name: str) -> bool:
    """Whether a method of a class, down to the framework's, sets an attribute of a name, or assigns to what it holds.

    Args:
        cls: The class.
        base: The framework's class below it.
        name: The name.
    """
    return is_mentioned(cls, base, name, beside="assign") or any(
        each.opname == "STORE_ATTR" and each.argval == name
        for code in _methods(cls, base) for each in dis.get_instructions(code)
    )  # fmt: skip


def _methods(cls: type, base: type) -> Iterator[CodeType]:
    """The code of the methods of a class, down to the framework's, and of the functions inside them.

    Those that a class below has replaced, without calling them, are left out.
    """
    replaced: set[str] = set()
    for each in itertools.takewhile(lambda each: each is not base, cls.__mro__):
        for key, one in vars(each).items():
            method = getattr(inspect.unwrap(one), "__code__", None) if callable(one) else None
            if method is not None and key not in replaced:
                codes = [*_codes(method)]
                yield from codes
                names = {name for code in codes for name in code.co_names}
                if names.isdisjoint({"super", *(cls.__name__ for cls in each.__mro__[1:])}):
                    replaced.add(key)


def is_used_later(cls: type, base: type, name: str) -> bool:
    """Whether a method of a class, down to the framework's, has a name as an attribute or a text: not its constructor.

    Args:
        cls: The class.
        base: The framework's class below it.
        name: The name.
    """
    classes = itertools.takewhile(lambda each: each is not base, cls.__mro__)
    methods = [one for each in classes for key, one in vars(each).items() if callable(one) and key != "__init__"]
    codes = [getattr(inspect.unwrap(one), "__code__", None) for one in methods]
    return any(name in one.co_names or name in one.co_consts for code in codes if code for one in _codes(code))


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and that of the functions inside it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


class KeysRead:
    """Notes which keys of a dict are read.

    Args:
        saved: The dict, watched until `stop`. Of another mapping, such as a configuration object, any may be read;
            ``None`` for none.
    """

    def __init__(self, saved: Any) -> None:
        self._saved, self._original = saved, type(saved)
        self._names: set[str] = set()
        if isinstance(saved, dict):
            # object.__setattr__, for a dict with attributes would take "__class__" for a key
            object.__setattr__(saved, "__class__", _watching(self._original, self._names))
        else:
            self._names |= set(saved or ())

    def stop(self) -> set[str]:
        """Stop watching; may be called more than once.

        Returns:
            The keys that were read.
        """
        if type(self._saved) is not self._original:
            object.__setattr__(self._saved, "__class__", self._original)
        return self._names


def _watching(original: type, names: set[str]) -> type:
    """A subclass of a dict class that notes the keys that are read."""

    def one(method: str) -> Any:
        def read(self: Any, key: Any, *rest: Any) -> Any:
            names.add(key)
            return getattr(super(watching, self), method)(key, *rest)

        return read

    def every(method: str) -> Any:
        def read(self: Any) -> Any:
            names.update(dict.keys(self))
            return getattr(super(watching, self), method)()

        return read

    def reduce(self: Any, protocol: Any) -> Any:
        return original, (dict(dict.items(self)),)

    body = {
        **{method: one(method) for method in ("__getitem__", "get", "pop", "__getattr__") if hasattr(original, method)},
        **{method: every(method) for method in ("__iter__", "keys", "values", "items", "copy")},
        "__reduce_ex__": reduce,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }
    watching: type = type(original.__name__, (original,), body)
    return watching
