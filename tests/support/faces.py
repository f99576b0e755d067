"""Run as a script: import libraries, then a module of tunehook, and print what has changed about their classes.

    python faces.py keras tunehook.integrations.keras keras.src.models.model.Model

Prints a JSON object: the attributes that were replaced in any class of these libraries, and what looks otherwise than
before of the classes that are named.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pickle
import pydoc
import re
import sys
from collections.abc import Callable
from typing import Any, cast


def classes(packages: set[str]) -> list[type]:
    """All classes of some packages that exist."""
    todo: list[type] = [object]
    seen: set[type] = {object}
    while todo:
        below: list[type] = cast("Any", type).__subclasses__(todo.pop())  # also those of type itself
        new = {each for each in below if each not in seen}
        seen |= new
        todo += new
    return [each for each in seen if isinstance(each.__module__, str) and each.__module__.split(".")[0] in packages]


def attempt(look: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """What a look finds, or its error."""
    try:
        return str(look(*arguments, **options))
    except Exception as error:  # noqa: BLE001 - such as for a class without a signature
        return repr(error)


def face(cls: Any) -> dict[str, str]:
    """What people and programs see of a class."""
    methods = [name for name, each in vars(cls).items() if callable(each)]
    plain: Any = pydoc.TextDoc()
    plain.bold = str
    shown = attempt(pydoc.render_doc, cls, renderer=plain)
    # The hook by which Python tells of new subclasses, and the heading above it where it is the only class method.
    shown = re.sub(r" \|  __init_subclass__\(.*\n( \|      .*\n)* \|  \n", "", shown)
    shown = re.sub(r" \|  Class methods [^\n]*:\n \|  \n \|  -+\n", "", shown)
    return {
        "name": f"{cls.__module__}.{cls.__qualname__}",
        "doc": str(cls.__doc__),
        "mro": str(cls.__mro__),
        "help": shown,
        "pickle": attempt(pickle.dumps, cls),
        "signature": attempt(inspect.signature, cls),
        "signatures": str({name: attempt(inspect.signature, getattr(cls, name)) for name in methods}),
        "specs": str({name: attempt(inspect.getfullargspec, getattr(cls, name)) for name in methods}),
        "sources": str({name: attempt(inspect.getsource, getattr(cls, name)) for name in methods}),
        "is function": str({name: inspect.isfunction(inspect.getattr_static(cls, name)) for name in methods}),
    }


def main(libraries: list[str], ours: str, looked_at: list[str]) -> None:
    """Import, compare and print."""
    for name in libraries:
        importlib.import_module(name)
    there = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in classes({one.split(".")[0] for one in libraries})}
    face_of = functools.partial(map, lambda name: face(there[name]))
    list(face_of(looked_at))  # a first look makes __annotations__
    faces = dict(zip(looked_at, face_of(looked_at), strict=True))
    before = {name: dict(vars(cls)) for name, cls in there.items()}
    module, _, function = ours.partition(":")
    imported = importlib.import_module(module)
    if function:
        getattr(imported, function)()
    replaced = {
        name: sorted(key for key, value in vars(cls).items() if before[name].get(key) is not value)
        for name, cls in there.items()
    }
    differs = {
        name: sorted(key for key, look in now.items() if faces[name][key] != look)
        for name, now in zip(looked_at, face_of(looked_at), strict=True)
    }
    print(json.dumps({"replaced": {name: keys for name, keys in replaced.items() if keys}, "differs": differs}))


if __name__ == "__main__":
    main(sys.argv[1].split(","), sys.argv[2], sys.argv[3].split(","))
