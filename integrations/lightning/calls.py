"""The constructor calls of Lightning's objects: which of them take values of a trial, and what a fit's objects take."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from torch import nn
from torch.utils.data import DataLoader

from tunehook.adapter import hear_calls, hear_own_calls, is_under_construction
from tunehook.inject import MADE_BY, UNKNOWN, Arguments, Call, Slot, Trace, trace_in_progress
from tunehook.integrations.lightning import constructors, host
from tunehook.integrations.lightning.hooks import LOADER_HOOKS, code_of, is_in_hook, place_in_hook, place_of_hook
from tunehook.integrations.lightning.namespaces import NAMESPACES, loaded

Kind = Literal["model", "data", "trainer", "callback", "loader", "network", "optimizer", "scheduler"]

_LIGHTNING: dict[str, Kind] = {
    "LightningModule": "model", "LightningDataModule": "data", "Trainer": "trainer", "Callback": "callback",
}  # fmt: skip
_TORCH: dict[type, Kind] = {
    nn.Module: "network", DataLoader: "loader",
    **{root: role for role, roots in constructors.ROOTS.items() for root in roots},
}  # fmt: skip
_heard: set[type] = set()
# What their own modules are made with is not typed in by anybody.
_NOT_THE_USERS = ("torch.", "torchmetrics.", "lightning.", "pytorch_lightning.", "lightning_fabric.")
_HIDDEN: dict[str, set[str]] = {**constructors.HIDDEN, "loader": {"dataset"}, "trainer": {"callbacks"}}


def base_of(cls: type) -> tuple[type, Kind] | tuple[None, None]:
    """The framework's class that a class derives from, and what its objects are; ``None`` where they are no site."""
    for base in cls.__mro__:
        kind = _LIGHTNING.get(base.__name__) if base.__module__.startswith(NAMESPACES) else _TORCH.get(base)
        if kind == "network" and not _is_the_users(cls):
            return None, None
        if kind is not None:
            return base, kind
    return None, None


def hear_all() -> None:
    """Hear of all constructor calls that take values of a trial; called where one begins.

    It acts on the namespaces that are loaded (``lightning.pytorch``, ``pytorch_lightning``) and imports none.
    """
    for namespace in loaded():
        if hasattr(namespace, "Trainer"):  # not while it is being imported
            for root in (namespace.LightningModule, namespace.LightningDataModule, namespace.Callback):
                hear_calls(root, put_in)
            hear_own_calls(namespace.Trainer, put_in)
    for root in _TORCH:
        if root not in _heard:  # classes that come later are heard as they are made
            _heard.add(root)
            hear_calls(root, put_in, of=_is_the_users if root is nn.Module else None, then=constructors.count)
    hear_loaders()


def hear_loaders() -> None:
    """Hear again of loaders that are made: Lightning leaves the constructors of their classes as functions in a fit."""
    hear_calls(DataLoader, put_in, where=_is_in_hook)


def _is_in_hook() -> bool:
    """Whether a hook of ours runs in a trial: Keras's adapter may hear of loaders too, and knows no hooks."""
    return trace_in_progress() is not None and is_in_hook()


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
    if trace is None and not constructors.is_editing():
        return args, kwargs
    base, kind = base_of(type(made))
    if base is None or kind is None or (kind == "network" and is_under_construction(nn.Module, but=made)):
        return args, kwargs
    try:
        arguments = _unbound(type(made), base, kind)
        arguments.bind(args, kwargs)
    except (TypeError, ValueError):  # the constructor will say what is wrong; or it is written in C
        return args, kwargs
    new = {} if trace is None else _taken(trace, made, arguments, base, kind)
    new |= constructors.values_for(made, arguments)
    return arguments.arguments(new) if new else (args, kwargs)


def _taken(trace: Trace, made: Any, arguments: Arguments, base: type, kind: Kind) -> dict[str, Any]:
    """The values that belong into a call, by argument."""
    call = trace.take(made, arguments, _guess, place_in_hook(arguments) if kind == "loader" else "")
    if kind in ("model", "data", "trainer"):
        vars(made)[MADE_BY] = call.key
    if kind in ("model", "data") and not is_under_construction(base, but=made):
        _put_into_saved(call, trace, base)
    return {**call.given}


def _put_into_saved(call: Call, trace: Trace, base: type) -> None:
    """Put values into the hyperparameters that Lightning's command line gives an object that it makes, to save them."""
    saved = host.given_hyperparameters(base)
    if saved is None:
        return
    new = dict(call.given)
    for name, one in call.arguments.bound.arguments.items():
        inner = trace.of(one)
        new |= {f"{name}.{path}": value for path, value in inner.given.items()} if inner is not None else {}
    for path, value in new.items():
        saved.update(_with_entry(saved, path.split("."), value))


def _with_entry(saved: Any, keys: Sequence[str], value: Any) -> Any:
    """A copy of saved hyperparameters with one replaced; a class on a command line has its own below ``init_args``."""
    if not keys:
        return value
    if not isinstance(saved, dict):
        return saved
    key, *rest = keys
    if key not in saved and "init_args" in saved:
        return {**saved, "init_args": _with_entry(saved["init_args"], keys, value)}
    if rest and key not in saved:
        return saved
    return {**saved, key: _with_entry(saved.get(key), rest, value)}


def _unbound(cls: type, base: type, kind: Kind) -> Arguments:
    """What the constructor of a class takes."""
    is_users = kind in ("model", "data", "network", "callback")
    return Arguments(base if kind == "trainer" else cls, base if is_users else object)


def kind_of(call: Call) -> Kind | None:
    """What a call makes; ``None`` for a configuration."""
    return base_of(call.arguments.cls)[1]


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


def fit_objects(
    fit: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, Any, tuple[Any, Any]]:
    """The module, the datamodule and the loaders of a call of ``Trainer.fit``; ``None`` where it has none, or is wrong.

    Args:
        fit: The method's signature.
        args: Its positional arguments, the Trainer among them.
        kwargs: Its keyword arguments.
    """
    try:
        given = fit.bind(*args, **kwargs).arguments
    except TypeError:
        return None, None, (None, None)
    module = given.get("model")
    loaders = given.get("train_dataloaders")
    is_data = base_of(type(loaders))[1] == "data"
    data = loaders if is_data else given.get("datamodule")
    return host.of_compiled(module), data, (None if is_data else loaders, given.get("val_dataloaders"))


class Sites:
    """What the objects of a fit were made with: a slot for each argument, and the call in which its value is typed.

    A value can only go into the call. Where no training function is traced nobody knows the calls, and the slots are
    those of the classes.

    One that is pickled knows the values, and no longer the calls: for a process that is started for the fit.

    Args:
        trace: What traces the training function, ``None`` where nothing does.
        trainer: The Trainer of the fit.
        module: Its LightningModule.
        data: Its datamodule, ``None`` where it has none.
        loaders: Its train and its validation loaders, where they were passed to it.

    Attributes:
        own: The slots of the module's and the datamodule's arguments.
        slots: Those of the others, such as ``model.net.width``, ``trainer.precision``,
            ``callback.EarlyStopping.patience`` and, of what the fit does not use, ``Teacher.width``.
        places: For all slots, the calls and the arguments.
        used: The calls that made what the fit uses.
        notes: What each of them takes that is in no list of slots, a line each.
        called_early: The hooks for loaders that are no methods of their object, and were called before the fit.
        left_out: The names of the space that this fit, a later one of its trial, leaves to its script.
        has_epochs: Whether the script gave the Trainer a number of epochs; a fit that begins gives it one of its own.
        in_trainer: The arguments of the Trainer whose values went into its call.
        is_later: Whether the fit is not the first one of its trial.
    """

    def __init__(self, trace: Trace | None, trainer: Any, module: Any, data: Any, loaders: Sequence[Any] = ()) -> None:
        self._trace = trace
        self._seen: set[Call] = set()
        self.own: list[Slot] = []
        self.slots: list[Slot] = []
        self.notes: list[str] = []
        self.called_early: set[str] = set()
        self.places: dict[str, list[tuple[Call, str]]] = {}
        self.left_out: set[str] = set()
        self.has_epochs = trainer.max_epochs is not None
        self.is_later = trace is not None and trace.fits > 0
        self._add_own({kind: made for kind, made in (("model", module), ("data", data)) if made is not None})
        self._add("trainer", trainer, rank=1)
        call = self._call(trainer)
        self.in_trainer = set() if call is None else {*call.given}
        owner = module if data is None else data
        for (name, hook), given in zip(LOADER_HOOKS.items(), loaders, strict=False):
            if name not in self.places:
                calls = [self._of_hook(owner, hook)] if given is None else map(self._call, loaders_in(given))
                self.places[name] = [(call, "batch_size") for call in calls if call and "batch_size" in call.present]
        self._add_callbacks(trainer)
        if host.starts_processes(trainer):  # its processes see no calls
            self._add_held(module)
        self.used = frozenset(self._seen) | {call for sites in self.places.values() for call, _ in sites}
        self._add_others()

    def __getstate__(self) -> dict[str, Any]:
        kept = {"own": list(map(_without_call, self.own)), "slots": list(map(_without_call, self.slots))}
        return {**self.__dict__, **kept, "_trace": None, "_seen": set(), "places": {}, "used": frozenset()}

    def _call(self, made: Any) -> Call | None:
        return None if self._trace is None else self._trace.of(made)

    def _of_hook(self, owner: Any, hook: str) -> Call | None:
        """What stands for the calls that make loaders in a hook."""
        place = place_of_hook(owner, hook)
        if self._trace is None:
            return None
        if not place:
            code = code_of(getattr(owner, hook))
            is_early = any(code in dict(call.route) for call in self._trace.calls)
            self.called_early |= {hook} if is_early else set()
            return None
        arguments = Arguments(DataLoader, object)
        arguments.bound = arguments.signature.bind_partial()
        call = Call(arguments, place, 0, f"{type(owner).__name__}.{hook}", is_typed_in=True)
        call.edits = {} if self._trace.plan is None else self._trace.plan.of(call)
        return call

    def _add_own(self, parts: Mapping[str, Any]) -> None:
        for kind, made in parts.items():
            self._add(kind, made, rank=0)
        # Lightning's logger refuses different values of one name.
        names = [{slot.short for slot in self.own if slot.path.startswith(f"{kind}.")} for kind in parts]
        both = set.intersection(*names) if len(names) > 1 else set()
        self.own = [
            dataclasses.replace(slot, joint=f"argument:{slot.short}") if slot.short in both else slot
            for slot in self.own
        ]

    def _add_nested(self, path: str, call: Call, depth: int = 0) -> None:
        """Add the slots of what was given to a call and was made by a call of its own."""
        for name, value in call.arguments.bound.arguments.items():
            given = value if name == call.arguments.rest and isinstance(value, dict) else {name: value}
            for key, each in given.items():
                many = list(enumerate(each)) if isinstance(each, list | tuple) else [(None, each)]
                for number, one in many:
                    inner = self._call(one)
                    if inner is None or kind_of(inner) in (None, "model", "callback") or depth > 5:
                        continue
                    below = f"{path}.{key}" if number is None else f"{path}.{key}.{number}"
                    self._add(below, one, rank=1)
                    self._add_nested(below, inner, depth + 1)

    def _add_held(self, module: Any) -> None:
        """Add where the values of optimizers and schedulers are typed in that a module holds."""
        values = vars(module).values()
        held = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
        for role, kinds in constructors.ROOTS.items():
            made = [one for one in held if isinstance(one, kinds)]
            for number, one in enumerate(made):
                if (call := self._call(one)) is None:
                    continue
                for start in [f"{role}.{number}", role] if len(made) == 1 else [f"{role}.{number}"]:
                    self.places |= {f"{start}.{name}": [(call, name)] for name in call.present}

    def _add_callbacks(self, trainer: Any) -> None:
        counts: dict[str, Iterator[int]] = {}
        for one in trainer.callbacks:
            if _is_ours(type(one)):
                continue
            name = type(one).__name__
            number = next(counts.setdefault(name, itertools.count()))
            self._add(f"callback.{name}.{number}" if number else f"callback.{name}", one, rank=2)

    def _add_others(self) -> None:
        """Add, by their classes, the calls of what the fit does not use, as far as anybody can see."""
        others: dict[str, list[Call]] = {}
        for call in [] if self._trace is None else self._trace.calls:
            if (
                call not in self._seen
                and call.is_typed_in
                and kind_of(call) is not None
                and not _is_ours(call.arguments.cls)
            ):
                others.setdefault(call.arguments.cls.__name__, []).append(call)
        for name, calls in others.items():
            for call in calls:
                self._add_arguments(name, call.arguments, call, rank=4)

    def _add(self, path: str, made: Any, *, rank: int) -> None:
        call = self._call(made)
        base, kind = base_of(type(made))
        if call is not None:
            self._add_arguments(path, call.arguments, call, rank=rank)
        elif base is not None and kind is not None:
            self._add_arguments(path, _unbound(type(made), base, kind), None, rank=rank)
        if call is not None and path in ("model", "data", "trainer"):
            self._add_nested(path, call)

    def _add_arguments(self, path: str, arguments: Arguments, call: Call | None, *, rank: int) -> None:
        """Add a slot for each argument.

        Args:
            path: The first part of their paths.
            arguments: What the constructor takes.
            call: The call; ``None`` where it is not known, and nobody knows the values.
            rank: That of the slots.
        """
        base, kind = base_of(arguments.cls)
        hidden = _HIDDEN.get(kind, ()) if base is not None and kind is not None else ()
        known = arguments.parameters if call is None else call.present
        names = [name for name in known if name.partition(".")[0] not in hidden]
        if call is not None:
            self._seen.add(call)
        if rank > 1 and names and call is not None:
            note = f"{path}.<argument> ({call.name}): {', '.join(names[:12])}"
            self.notes += [note] if note not in self.notes else []
        slots = self.own if rank == 0 else self.slots
        for name in names:
            full = f"{path}.{name}"
            if full not in self.places:
                slots.append(Slot(
                    full, get=_unknown if call is None else functools.partial(_in_force, call, name), set=None,
                    rank=max(rank, arguments.rank(name)),
                    type=arguments.type_of(name), alias=f"{arguments.cls.__name__}.{name}",
                    listed=rank < 2 and path != "trainer",
                    place=arguments.cls.__name__ if call is None else call.name,
                    site="" if call is None else call.place,
                ))  # fmt: skip
            self.places.setdefault(full, []).extend([] if call is None else [(call, name)])


def loaders_in(source: Any) -> Iterator[Any]:
    """The torch DataLoaders in a loader, a CombinedLoader, or nested lists, tuples and dicts of them."""
    if isinstance(source, DataLoader):
        yield source
    elif hasattr(source, "flattened"):
        yield from loaders_in(list(source.flattened))
    elif isinstance(source, dict | list | tuple):
        for item in cast("Iterable[Any]", source.values() if isinstance(source, dict) else source):
            yield from loaders_in(item)


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith("tunehook.")


def _in_force(call: Call, name: str) -> Any:
    return call.in_force().get(name)


def _unknown() -> Any:
    """The value of an argument of a call that nobody has seen."""
    return UNKNOWN


def _without_call(slot: Slot) -> Slot:
    """A slot that can be pickled."""
    value = slot.get()
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return dataclasses.replace(slot, get=_unknown, type=None)
    return dataclasses.replace(slot, get=functools.partial(_itself, value), type=None)


def _itself(value: Any) -> Any:
    return value
