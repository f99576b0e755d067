"""What is remembered of Keras models: their constructor calls, those that are alive, and where seeds are drawn."""

from __future__ import annotations

import contextlib
import functools
import random
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

from tunehook.inject import InjectionError
from tunehook.randomness import random_state

KEY = "_tunehook_call"

# What the framework makes of keras.Model(inputs, outputs) and keras.Sequential(...); all else is a class of the user's.
_OWN = ("keras.",)
_NAMES = "object_name_uids"  # where Keras counts the layers of each class, to name them

alive: weakref.WeakSet[Any] = weakref.WeakSet()
"""Every model that was constructed since this module was imported."""


def install_recorder() -> None:
    """Record every construction of a ``keras.Model`` from now on; a second call does nothing."""
    original: Callable[..., Any] = keras.Model.__new__
    if hasattr(original, "original"):
        return

    @functools.wraps(original)
    def __new__(cls: type, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it becomes one
        made = original(cls, *args, **kwargs)
        alive.add(made)
        if not is_plain(type(made)):
            vars(made)[KEY] = {"args": args, "kwargs": kwargs, **surroundings()}
        return made

    __new__.original = original  # type: ignore[attr-defined]
    keras.Model.__new__ = staticmethod(__new__)


def is_plain(cls: type) -> bool:
    """Whether a class of models is Keras's own (Functional, Sequential), without a constructor of the user's."""
    return cls.__module__.startswith(_OWN)


def surroundings() -> dict[str, Any]:
    """What stands around a constructor call: random states, counted names, the default type."""
    return {"random": random_state(), "names": names(), "dtype": keras.config.dtype_policy()}


def names() -> dict[str, int]:
    """How many objects of each class Keras has named up to now."""
    return dict(global_state.get_global_attribute(_NAMES) or {})


def restore_names(counts: Mapping[str, int]) -> None:
    """Let Keras count names from there on."""
    counter = global_state.get_global_attribute(_NAMES)
    if counter is not None:
        counter.clear()
        counter.update(counts)


@contextlib.contextmanager
def kept_names() -> Iterator[None]:
    """Count nothing that is constructed inside."""
    before = names()
    try:
        yield
    finally:
        restore_names(before)


@contextlib.contextmanager
def drawing(draw: Callable[[], int]) -> Iterator[None]:
    """Let ``draw`` give the seeds of the initializers and layers that are made inside without one.

    Keras draws them in one place, from Python's random numbers.

    Raises:
        InjectionError: This version of Keras draws them otherwise.
    """
    before = getattr(seed_generator, "python_random", None)
    if before is not random:
        raise InjectionError(
            f"Keras {keras.__version__} draws its seeds in a way that tunehook does not know, so that layers cannot be "
            "rebuilt exactly.\n  Take the settings of layers out of the space, or use Keras 3.15."
        )
    seed_generator.python_random = SimpleNamespace(randint=lambda _low, _high: draw())
    try:
        yield
    finally:
        seed_generator.python_random = before
