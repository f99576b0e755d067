"""The border to Keras and TensorFlow: what they keep to themselves of names, random numbers, layers and calls.

What a checkpoint needs is in `resume`.

Each function says for which versions it was written.
"""
# ruff: noqa: SLF001 - this is the border

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.random import seed_generator
from keras.src.trainers.data_adapters import array_data_adapter
from keras.src.utils.naming import to_snake_case

_NAMES = "object_name_uids"  # where Keras counts the layers of each class, to name them


def is_plain(cls: type) -> bool:
    """Whether a class is Keras's own, without a constructor of the user's. Keras 3.15."""
    return cls.__module__.startswith("keras.")


def note_settings(made: Any, settings: Mapping[str, Any]) -> None:
    """Correct what Keras has noted of a constructor call, for ``get_config()``, before the values came into it.

    Keras 3.15.
    """
    noted = getattr(vars(made).get("_auto_config"), "config", None)
    if isinstance(noted, dict):
        noted.update({name: value for name, value in settings.items() if name in noted})


def names() -> dict[str, int]:
    """How many objects of each class Keras has named up to now. Keras 3.15."""
    return dict(global_state.get_global_attribute(_NAMES) or {})


def next_name(cls: type) -> str:
    """What Keras will call the next layer of a class that is given no name. Keras 3.15."""
    prefix = to_snake_case(cls.__name__)
    count = names().get(prefix, 0)
    return f"{prefix}_{count}" if count else prefix


def restore_names(counts: Mapping[str, int]) -> None:
    """Let Keras count names from there on. Keras 3.15."""
    counter = global_state.get_global_attribute(_NAMES)
    if counter is None:  # nothing was counted since the session was cleared
        counter = collections.defaultdict(int)
        global_state.set_global_attribute(_NAMES, counter)
    counter.clear()
    counter.update(counts)


def taken() -> Callable[[], None]:
    """What puts Keras's own global state back as it is now, before a training function is called once more.

    Keras 3.15.
    """
    counts, dtype = names(), keras.config.dtype_policy()
    # Gives the numbers of keras.random without a seed.
    generator = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    state = None if generator is None else keras.ops.convert_to_numpy(generator.state.value).copy()
    put_back_tensorflow = _taken_of_tensorflow()

    def put_back() -> None:
        put_back_tensorflow()
        if generator is not None:
            generator.state.assign(state)
        global_state.set_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR, generator)
        restore_names(counts)
        keras.config.set_dtype_policy(dtype)

    return put_back


def _taken_of_tensorflow() -> Callable[[], None]:
    """The same for the seeds that TensorFlow gives its operations, which data sets shuffle by on any backend.

    TensorFlow 2.21.
    """
    context: Any = _context()
    seed, dice = getattr(context, "_seed", None), getattr(context, "_rng", None)  # which is there once it was seeded
    state = None if dice is None else dice.getstate()
    operations: Any = sys.modules.get("tensorflow.python.ops.stateful_random_ops")
    generator = getattr(operations, "global_generator", None)
    numbers = None if generator is None else generator.state.numpy()

    def put_back() -> None:
        if (context := _context()) is None:
            return
        context._set_global_seed(seed)  # an operation that has drawn begins again
        if state is not None:
            context._rng.setstate(state)
        operations = sys.modules.get("tensorflow.python.ops.stateful_random_ops")
        if operations is not None:
            vars(operations)["global_generator"] = generator
        if generator is not None:
            generator.state.assign(numbers)

    return put_back


def _context() -> Any:
    """What TensorFlow keeps of this process, ``None`` where it is not loaded."""
    module: Any = sys.modules.get("tensorflow.python.eager.context")
    return None if module is None else module.context()


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


def sync(model: Any) -> None:
    """Put the present numbers into the variables of a model, which JAX keeps elsewhere during an epoch. Keras 3.15."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()


def inner_layers(layer: Any) -> list[Any]:
    """The layers right inside a layer or a model class. Keras 3.15."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def inner_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers among which a ``MultiOptimizer`` chooses, as far as it says. Keras 3.15."""
    if not chooses(optimizer):
        return []
    choose = getattr(optimizer, "_optimizer_map", None)
    cells = [cell.cell_contents for cell in getattr(choose, "__closure__", None) or ()]
    held = [*optimizer._inner_optimizers, *cells]  # before it is built its own list may be empty
    return list({id(one): one for one in held if isinstance(one, keras.optimizers.Optimizer)}.values())


def chooses(optimizer: Any) -> bool:
    """Whether an optimizer is several, as a ``MultiOptimizer`` is. Keras 3.15."""
    return hasattr(optimizer, "_inner_optimizers")


def are_arrays(x: Any, y: Any) -> bool:
    """Whether ``fit`` makes the batches of its data, which are arrays. Keras 3.15."""
    return bool(array_data_adapter.can_convert_arrays((x, y)))


def printer() -> Any:
    """The module whose ``print_msg`` writes the progress bar; ``None`` where there is no such function. Keras 3.15."""
    found = getattr(sys.modules[keras.utils.Progbar.__module__], "io_utils", None)
    return found if hasattr(found, "print_msg") else None
