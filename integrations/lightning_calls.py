"""The constructor calls of Lightning's objects: which values of a trial go into them, and whether that was right."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

from tunehook.arguments import Arguments
from tunehook.calls import Call, Trace, trace_in_progress

Kind = Literal["model", "data", "trainer"]

_KINDS: dict[str, Kind] = {"LightningModule": "model", "LightningDataModule": "data", "Trainer": "trainer"}
NAMESPACES = ("lightning.pytorch", "pytorch_lightning")


def base_of(cls: type) -> type | None:
    """The LightningModule, LightningDataModule or Trainer that a class derives from, ``None`` where there is none."""
    return next(
        (base for base in cls.__mro__ if base.__name__ in _KINDS and base.__module__.startswith(NAMESPACES)), None
    )


def put_in(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a constructor call that begins, with the values of the trial that belong into it.

    Args:
        made: The object that is being made.
        args: Its positional arguments, as typed in.
        kwargs: Its keyword arguments.
    """
    trace, base = trace_in_progress(), base_of(type(made))
    if trace is None or base is None:
        return args, kwargs
    kind = _KINDS[base.__name__]
    arguments = Arguments(base if kind == "trainer" else type(made), object if kind == "trainer" else base)
    try:
        arguments.bound = arguments.signature.bind(*args, **kwargs)
    except TypeError:  # the constructor will say what is wrong
        return args, kwargs
    trace.take(made, arguments, _guess)
    call = trace.of(made)
    return trace.edited(call) if call is not None and call.edits else (args, kwargs)


def kind_of(call: Call) -> Kind:
    """What a call makes."""
    base = base_of(call.arguments.cls)
    return _KINDS[base.__name__] if base is not None else "model"


def _guess(call: Call, trace: Trace) -> Mapping[str, str]:
    """What may belong into a call: the names that are arguments of it. A Trainer's come after those of others."""
    kind, own = kind_of(call), call.arguments.values()
    taken: set[str] = set()
    if kind == "trainer":
        taken = {name for other in trace.calls if kind_of(other) != "trainer" for name in other.arguments.values()}
    found = {name.removeprefix(f"{kind}."): name for name in trace.values}
    return {path: name for path, name in found.items() if path in own and (path != name or name not in taken)}


def fit_objects(fit: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """The module and the datamodule of a call of ``Trainer.fit``; ``None`` where it has none, or is wrong.

    Args:
        fit: The method's signature.
        args: Its positional arguments, the Trainer among them.
        kwargs: Its keyword arguments.
    """
    try:
        given = fit.bind(*args, **kwargs).arguments
    except TypeError:
        return None, None
    module = given.get("model")
    loaders = given.get("train_dataloaders")
    base = base_of(type(loaders))
    data = loaders if base is not None and _KINDS[base.__name__] == "data" else given.get("datamodule")
    return getattr(module, "_orig_mod", module), data  # of a compiled module, the module
