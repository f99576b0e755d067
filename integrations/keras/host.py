"""What Keras itself keeps of its objects: the names that it has counted, its random numbers, and how they were made."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

_NAMES = "object_name_uids"  # where Keras counts the layers of each class, to name them


def is_plain(cls: type) -> bool:
    """Whether a class is Keras's own, without a constructor of the user's."""
    return cls.__module__.startswith("keras.")


def note_settings(made: Any, settings: Mapping[str, Any]) -> None:
    """Correct what Keras has noted of a constructor call, for ``get_config()``, before the values came into it."""
    noted = getattr(vars(made).get("_auto_config"), "config", None)
    if isinstance(noted, dict):
        noted.update({name: value for name, value in settings.items() if name in noted})


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


def taken() -> Callable[[], None]:
    """What puts Keras's own global state back as it is now, before a training function is called once more."""
    counts, dtype = names(), keras.config.dtype_policy()
    # Gives the numbers of keras.random without a seed.
    generator = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    state = None if generator is None else keras.ops.convert_to_numpy(generator.state.value).copy()

    def put_back() -> None:
        if generator is not None:
            generator.state.assign(state)
        global_state.set_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR, generator)
        restore_names(counts)
        keras.config.set_dtype_policy(dtype)

    return put_back


@contextlib.contextmanager
def as_new() -> Iterator[None]:
    """Let a script that is run again inside find Keras's own global state as in a new process."""
    put_back = taken()
    global_state.set_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR, None)
    restore_names({})
    keras.config.set_dtype_policy(keras.config.floatx())
    try:
        yield
    finally:
        put_back()
