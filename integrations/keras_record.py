"""What is remembered of Keras models: their constructor calls, those that are alive, and where seeds are drawn."""

from __future__ import annotations

import collections
import contextlib
import random
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

from tunehook.errors import InjectionError
from tunehook.inject.arguments import signature_of
from tunehook.patches import stands_for
from tunehook.randomness import fresh_random, random_state, restore_random

KEY = "_tunehook_call"
_GENERATOR = "keras"
_INITIALIZER = "_tunehook_initializer"

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

    @stands_for(original)
    def __new__(cls: type, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it becomes one
        made = original(cls, *args, **kwargs)
        alive.add(made)
        if not is_plain(type(made)):
            vars(made)[KEY] = {"args": args, "kwargs": kwargs, **surroundings()}
        return made

    __new__.original = original  # type: ignore[attr-defined]
    keras.Model.__new__ = staticmethod(__new__)
    _note_initializers()


def _note_initializers() -> None:
    """Note what initializes each weight: Keras forgets what is named, as by ``add_weight(initializer="normal")``."""
    original = keras.Layer.add_weight
    signature = signature_of(original)

    @stands_for(original)
    def add_weight(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        given = bound.arguments.get("initializer")
        if isinstance(given, str):
            bound.arguments["initializer"] = given = keras.initializers.get(given)
        made = original(*bound.args, **bound.kwargs)
        if isinstance(given, keras.initializers.Initializer):
            vars(made)[_INITIALIZER] = given
        return made

    keras.Layer.add_weight = add_weight


def initializer(variable: Any) -> Any:
    """What initialized a weight, ``None`` where that was not noted."""
    return vars(variable).get(_INITIALIZER)


def note_settings(made: Any, settings: Mapping[str, Any]) -> None:
    """Correct what Keras has noted of a constructor call, for ``get_config()``, before the values came into it."""
    noted = getattr(vars(made).get("_auto_config"), "config", None)
    if isinstance(noted, dict):
        noted.update({name: value for name, value in settings.items() if name in noted})


def is_plain(cls: type) -> bool:
    """Whether a class of models is Keras's own (Functional, Sequential), without a constructor of the user's."""
    return cls.__module__.startswith(_OWN)


def randomness() -> dict[str, Any]:
    """The state of every random generator, and of the one that Keras keeps for ``keras.random`` without a seed."""
    generator = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    own = None if generator is None else tuple(keras.ops.convert_to_numpy(generator.state.value).tolist())
    return {**random_state(), _GENERATOR: own}


def restore_randomness(state: Mapping[str, Any]) -> None:
    """Put all random generators back."""
    restore_random(state)
    own = state[_GENERATOR]
    generator = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    if own is None:
        generator = None
    elif generator is None:
        with kept_names():
            generator = keras.random.SeedGenerator(0)
    if generator is not None:
        generator.state.assign(np.array(own).astype(generator.state.dtype))
    global_state.set_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR, generator)


def fresh_randomness(seed: int) -> dict[str, Any]:
    """The states right after ``keras.utils.set_random_seed``."""
    return {**fresh_random(seed), _GENERATOR: None}


def surroundings() -> dict[str, Any]:
    """What stands around a constructor call: random states, counted names, the default type."""
    return {"random": randomness(), "names": names(), "dtype": keras.config.dtype_policy()}


def names() -> dict[str, int]:
    """How many objects of each class Keras has named up to now."""
    return dict(global_state.get_global_attribute(_NAMES) or {})


def restore_names(counts: Mapping[str, int]) -> None:
    """Let Keras count names from there on."""
    counter = global_state.get_global_attribute(_NAMES)
    if counter is None:  # nothing was counted since the session was cleared
        counter = collections.defaultdict(int)
        global_state.set_global_attribute(_NAMES, counter)
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
def names_again(numbers: Mapping[str, Iterable[int]]) -> Iterator[None]:
    """Give what is constructed inside the numbers that it had, by the names of classes, and count nothing.

    Args:
        numbers: What Keras counted when it was constructed first; what it did not construct then is counted on.
    """
    before = global_state.get_global_attribute(_NAMES)
    global_state.set_global_attribute(_NAMES, _Again(before or {}, numbers))
    try:
        yield
    finally:
        global_state.set_global_attribute(_NAMES, before)


class _Again(collections.defaultdict[str, int]):
    """Keras's counter of names, with some numbers first."""

    def __init__(self, counts: Mapping[str, int], numbers: Mapping[str, Iterable[int]]) -> None:
        super().__init__(int, counts)
        self._first = {name: sorted(given) for name, given in numbers.items()}

    def __contains__(self, name: object) -> bool:
        first = self._first.get(str(name))
        return bool(first[0]) if first else super().__contains__(name)

    def __getitem__(self, name: str) -> int:
        first = self._first.get(name)
        return first[0] if first else super().__getitem__(name)

    def __setitem__(self, name: str, count: int) -> None:
        if self._first.get(name):
            self._first[name].pop(0)
        else:
            super().__setitem__(name, count)


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
