"""What is remembered of a Lightning object's construction: its arguments and the random state it started from."""

from __future__ import annotations

import itertools
import os
import pickle
import sys
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from tunehook.inject.calls import MADE_BY, RECORD, trace_in_progress
from tunehook.integrations.lightning_calls import NAMESPACES, base_of, hear_sites, put_in
from tunehook.patches import hear_calls, hear_own_calls
from tunehook.randomness import (
    State,
    fresh_random,
    kept_random,
    random_state,
    restore_random,
    same_part,
    same_random,
)

__all__ = [
    "State", "kept_random", "random_state", "restore_random", "same_part", "same_random",  # passed on
    "Call", "KEY", "NAMESPACES", "fresh_random", "hear_all", "hear_loaders",
    "install_recorders", "is_seeded", "new_call", "recorded",
]  # fmt: skip

KEY = RECORD

_ORDER = itertools.count()


class Call(dict[str, Any]):
    """A recorded constructor call: ``args``, ``kwargs``, ``random``, ``seed``, ``order``, ``dtype`` and ``device``.

    Copies of the object share it, because its arguments belong to the user. It pickles to a plain dict, so that a
    pickled model can be loaded where tunehook is not installed; to an empty one where an argument cannot be pickled.
    """

    def __copy__(self) -> Call:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Call:
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple[type, tuple[dict[str, Any]]]:
        plain = {name: value for name, value in self.items() if name != MADE_BY}
        try:
            pickle.Pickler(cast("Any", _Nowhere()), protocol).dump(plain)
        except Exception:  # noqa: BLE001 - pickling runs code of the arguments, which may raise anything
            plain = {}
        return dict, (plain,)


class _Nowhere:
    """A file that forgets what is written to it."""

    def write(self, data: bytes) -> int:
        return len(data)


def install_recorders() -> None:
    """Record every construction of a LightningModule, LightningDataModule or Trainer from now on.

    Acts on the namespaces that are loaded (``lightning.pytorch``, ``pytorch_lightning``) and imports none. May be
    called again, such as after another namespace was imported.
    """
    for namespace in NAMESPACES:
        loaded: Any = sys.modules.get(namespace)
        if hasattr(loaded, "Trainer"):  # not while it is being imported
            hear_calls(loaded.LightningModule, _record)
            hear_calls(loaded.LightningDataModule, _record)
            hear_own_calls(loaded.Trainer, _record)


def hear_all() -> None:
    """Hear of all constructor calls that take values of a trial; called where one begins."""
    install_recorders()
    hear_sites(_record)
    hear_loaders()


def hear_loaders() -> None:
    """Hear again of loaders that are made: Lightning leaves the constructors of their classes as functions in a fit."""
    hear_calls(DataLoader, _record)


def recorded(made: object) -> Mapping[str, Any] | None:
    """The recorded call of an object, ``None`` where there is none or it was lost in pickling."""
    return vars(made).get(KEY) or None


def new_call(args: tuple[Any, ...], kwargs: Mapping[str, Any], **known: Any) -> Call:
    """Note a constructor call that begins now.

    Args:
        args: Its positional arguments, kept by reference.
        kwargs: Its keyword arguments, kept by reference.
        known: Entries that are known better than the present state tells.
    """
    device = torch.empty(0).device  # that of an enclosing `with torch.device(...)`, which begins to use it
    return Call(
        {
            "args": args,
            "kwargs": dict(kwargs),
            "random": random_state(),
            "seed": torch.initial_seed(),
            "order": next(_ORDER),
            "dtype": torch.get_default_dtype(),
            "device": device,
            **known,
        }
    )


def _record(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = put_in(made, args, kwargs)
    if base_of(type(made))[1] not in ("model", "data", "trainer"):
        return args, kwargs
    # A class with a __new__ of its own may hand on other arguments than it was called with.
    if cast("Any", type(made)).__new__ is object.__new__:
        trace = trace_in_progress()
        vars(made)[KEY] = new_call(args, kwargs, **({} if trace is None else {MADE_BY: trace.of(made)}))
    return args, kwargs


def is_seeded(seed: int) -> bool:
    """Whether the script asked for reproducible numbers, judged by what torch was seeded with last.

    A process that was never seeded starts torch from 53 random bits; seeds that people choose fit in 32.
    """
    return "PL_GLOBAL_SEED" in os.environ or seed < 2**32
