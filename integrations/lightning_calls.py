"""The constructor calls of Lightning's objects: which of them take values of a trial, and whether that was right."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.utils.data import DataLoader

from tunehook.inject import Slot
from tunehook.inject.arguments import Arguments
from tunehook.inject.calls import Call, Trace, trace_in_progress
from tunehook.patches import Hear, hear_calls, is_under_construction

Kind = Literal["model", "data", "trainer", "callback", "loader", "network", "optimizer", "scheduler"]

NAMESPACES = ("lightning.pytorch", "pytorch_lightning")
SCHEDULERS: tuple[type, ...] = tuple(
    {getattr(lr_scheduler, "LRScheduler", None) or lr_scheduler._LRScheduler, lr_scheduler.ReduceLROnPlateau}  # noqa: SLF001
)
_LIGHTNING: dict[str, Kind] = {
    "LightningModule": "model", "LightningDataModule": "data", "Trainer": "trainer", "Callback": "callback",
}  # fmt: skip
_TORCH: dict[type, Kind] = {
    nn.Module: "network", DataLoader: "loader", Optimizer: "optimizer", **dict.fromkeys(SCHEDULERS, "scheduler"),
}  # fmt: skip
_heard: set[type] = set()
# What their own modules are made with is not typed in by anybody.
_NOT_THE_USERS = ("torch.", "torchmetrics.", "lightning.", "pytorch_lightning.", "lightning_fabric.")
_HIDDEN: dict[Kind, set[str]] = {
    "optimizer": {"params", "defaults"},
    "scheduler": {"optimizer", "last_epoch", "verbose"},
    "loader": {"dataset"},
    "trainer": {"callbacks"},
}


def base_of(cls: type) -> tuple[type, Kind] | tuple[None, None]:
    """The framework's class that a class derives from, and what its objects are; ``None`` where they are no site."""
    for base in cls.__mro__:
        kind = _LIGHTNING.get(base.__name__) if base.__module__.startswith(NAMESPACES) else _TORCH.get(base)
        if kind == "network" and not _is_the_users(cls):
            return None, None
        if kind is not None:
            return base, kind
    return None, None


def hear_sites(hear: Hear) -> None:
    """Hear of the constructor calls that take values of a trial, besides those that are recorded at all times.

    Args:
        hear: Hears of them.
    """
    namespaces: list[Any] = [sys.modules.get(name) for name in NAMESPACES]
    for root in (*_TORCH, *(one.Callback for one in namespaces if hasattr(one, "Callback"))):
        if root not in _heard:  # classes that come later are heard as they are made
            _heard.add(root)
            hear_calls(root, hear, of=_is_the_users if root is nn.Module else None)


def _is_the_users(cls: type) -> bool:
    is_of_keras = any(base.__module__.startswith("keras.") for base in cls.__mro__)  # its layers are torch's on torch
    return not is_of_keras and not f"{cls.__module__}.".startswith(_NOT_THE_USERS)


def put_in(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a constructor call that begins, with the values of the trial that belong into it.

    Args:
        made: The object that is being made.
        args: Its positional arguments, as typed in.
        kwargs: Its keyword arguments.
    """
    trace = trace_in_progress()
    if trace is None:
        return args, kwargs
    base, kind = base_of(type(made))
    if base is None or kind is None or (kind == "network" and is_under_construction(nn.Module, but=made)):
        return args, kwargs
    is_users = kind in ("model", "data", "network", "callback") and base is not type(made)
    cls = base if kind == "trainer" else type(made)
    arguments = Arguments(cls, base if is_users else object)
    try:
        arguments.bound = arguments.signature.bind(*args, **kwargs)
    except (TypeError, ValueError):  # the constructor will say what is wrong; or it is written in C
        return args, kwargs
    call = trace.take(made, arguments, _guess)
    return arguments.arguments(call.given) if call.given else (args, kwargs)


def kind_of(call: Call) -> Kind:
    """What a call makes."""
    return cast("Kind", base_of(call.arguments.cls)[1])


def _guess(call: Call, trace: Trace) -> Mapping[str, str]:
    """What may belong into a call: the names that are arguments of it. A Trainer's come after those of others."""
    kind, own = kind_of(call), call.present
    cls = call.arguments.cls.__name__
    found = {name.removeprefix(f"{cls}."): name for name in trace.values if name.startswith(f"{cls}.")}
    if kind in ("model", "data", "trainer"):
        taken: set[str] = set()
        if kind == "trainer":
            makers = [other for other in trace.calls if kind_of(other) in ("model", "data")]
            taken = {name for other in makers for name in other.present}
        plain = {name.removeprefix(f"{kind}."): name for name in trace.values}
        found |= {path: name for path, name in plain.items() if path != name or name not in taken}
    return {path: name for path, name in found.items() if path in own}


# ------------------------------------------------------------------ what a fit is made of


def fit_objects(fit: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Any, Any, Any]:
    """The module, the datamodule and the loaders of a call of ``Trainer.fit``; ``None`` where it has none, or is wrong.

    Args:
        fit: The method's signature.
        args: Its positional arguments, the Trainer among them.
        kwargs: Its keyword arguments.
    """
    try:
        given = fit.bind(*args, **kwargs).arguments
    except TypeError:
        return None, None, None, None
    module = given.get("model")
    loaders = given.get("train_dataloaders")
    is_data = base_of(type(loaders))[1] == "data"
    data = loaders if is_data else given.get("datamodule")
    # of a compiled module, the module
    return getattr(module, "_orig_mod", module), data, None if is_data else loaders, given.get("val_dataloaders")


class Sites:
    """The calls that made what a fit uses: where the value of each slot was typed in.

    Args:
        trace: What traces the training function.
        trainer: The Trainer of the fit.
        module: Its LightningModule.
        data: Its datamodule, ``None`` where it has none.
        loaders: Its train and its validation loaders, where they were passed to it.

    Attributes:
        slots: Those of arguments besides the module's, the datamodule's and the Trainer's own, such as
            ``model.net.width``, ``callback.EarlyStopping.patience`` and, of what the fit does not use,
            ``Teacher.width``.
        places: For all slots, the calls and the arguments.
        used: The calls that made what the fit uses.
        notes: What each of them takes that is in no list of slots, a line each.
    """

    def __init__(self, trace: Trace, trainer: Any, module: Any, data: Any, loaders: Sequence[Any] = ()) -> None:
        self._trace = trace
        self._seen: set[Call] = set()
        self.slots: list[Slot] = []
        self.notes: list[str] = []
        self.places: dict[str, list[tuple[Call, str]]] = {}
        for made, kind in ((module, "model"), (data, "data"), (trainer, "trainer")):
            if (call := trace.of(made)) is not None:
                self._seen.add(call)
                self.places |= {f"{kind}.{name}": [(call, name)] for name in call.present}
                self._add_nested(kind, call)
        for name, given in zip(("data.batch_size", "data.val_batch_size"), loaders, strict=False):
            calls = [trace.of(one) for one in loaders_in(given)]
            if calls and name not in self.places:
                self.places[name] = [(call, "batch_size") for call in calls if call is not None]
        self._add_callbacks(trainer)
        self.used = frozenset(self._seen) | {call for sites in self.places.values() for call, _ in sites}
        self._add_others()

    def _add_nested(self, path: str, call: Call, depth: int = 0) -> None:
        """Add the slots of what was given to a call and was made by a call of its own."""
        for name, value in call.arguments.bound.arguments.items():
            given = value if name == call.arguments.rest and isinstance(value, dict) else {name: value}
            for key, each in given.items():
                many = list(enumerate(each)) if isinstance(each, list | tuple) else [(None, each)]
                for number, one in many:
                    inner = self._trace.of(one)
                    if inner is None or kind_of(inner) in ("model", "callback") or depth > 5:
                        continue
                    below = f"{path}.{key}" if number is None else f"{path}.{key}.{number}"
                    self._add(below, inner, rank=1)
                    self._add_nested(below, inner, depth + 1)

    def _add_callbacks(self, trainer: Any) -> None:
        counts: dict[str, Iterator[int]] = {}
        for one in trainer.callbacks:
            call = self._trace.of(one)
            if call is None or _is_ours(call):
                continue
            name = type(one).__name__
            number = next(counts.setdefault(name, itertools.count()))
            self._add(f"callback.{name}.{number}" if number else f"callback.{name}", call, rank=2)

    def _add_others(self) -> None:
        """Add, by their classes, the calls of what the fit does not use, as far as anybody can see."""
        others: dict[str, list[Call]] = {}
        for call in self._trace.calls:
            if call not in self._seen and call.is_typed_in and not _is_ours(call):
                others.setdefault(call.arguments.cls.__name__, []).append(call)
        for name, calls in others.items():
            for call in calls:
                self._add(name, call, rank=4)

    def _add(self, path: str, call: Call, *, rank: int) -> None:
        self._seen.add(call)
        hidden = _HIDDEN.get(kind_of(call), ())
        names = [name for name in call.present if name.partition(".")[0] not in hidden]
        if rank > 1 and names:
            self.notes.append(f"{path}.<argument> ({call.name}): {', '.join(names[:12])}")
        for name in names:
            full = f"{path}.{name}"
            if full not in self.places:
                self.slots.append(Slot(
                    full, get=functools.partial(_in_force, call, name), set=_nothing,
                    rank=max(rank, call.arguments.rank(name)),
                    type=call.arguments.type_of(name), alias=f"{call.arguments.cls.__name__}.{name}",
                    listed=rank == 1, place=call.name,
                ))  # fmt: skip
            self.places.setdefault(full, []).append((call, name))


def loaders_in(source: Any) -> Iterator[Any]:
    """The torch DataLoaders in a loader, a CombinedLoader, or nested lists, tuples and dicts of them."""
    if isinstance(source, DataLoader):
        yield source
    elif hasattr(source, "flattened"):
        yield from loaders_in(list(source.flattened))
    elif isinstance(source, dict | list | tuple):
        for item in cast("Iterable[Any]", source.values() if isinstance(source, dict) else source):
            yield from loaders_in(item)


def _is_ours(call: Call) -> bool:
    return call.arguments.cls.__module__.startswith("tunehook.")


def _in_force(call: Call, name: str) -> Any:
    return call.in_force().get(name)


def _nothing(_value: Any) -> None:
    """Set nothing: the value went into the call."""
