"""The global random number generators of Python, NumPy and torch, as far as they are in use.

Before a GPU is used its random state is a seed: torch seeds it when it is first used, so a constructor that does so
begins again from there. A state that has not moved is not put back, since cuDNN would then draw again.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

State = Mapping[str, Any]
"""The states of the generators, by the names ``python``, ``numpy``, ``torch`` and ``cuda``.

That of ``cuda`` is a list with the state of each GPU, or, before torch uses one, the seed that they will begin with.
"""


def random_state() -> dict[str, Any]:
    """The state of every generator that is in use; a framework that is not loaded is not loaded for this."""
    state: dict[str, Any] = {"python": random.getstate()}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):  # not while torch is being imported
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            state["cuda"] = torch.cuda.get_rng_state_all()
        elif torch.backends.cuda.is_built():
            state["cuda"] = torch.initial_seed()
    if numpy is not None:
        state["numpy"] = numpy.random.get_state()
    return state


def restore_random(state: State) -> None:
    """Put the generators back; those that were not in use when the state was taken are left alone."""
    random.setstate(state["python"])
    if "torch" in state:
        sys.modules["torch"].set_rng_state(state["torch"])
    if "numpy" in state:
        sys.modules["numpy"].random.set_state(state["numpy"])
    if "cuda" in state:
        _restore_gpus(state["cuda"])


def _restore_gpus(state: Any) -> None:
    """Put the generators of GPUs back where they have moved: to do so forgets how far cuDNN's dropout is."""
    cuda = sys.modules["torch"].cuda
    is_used = cuda.is_initialized()
    if isinstance(state, int):
        state = _begun(state) if is_used else []
    for index, one in enumerate(state[: cuda.device_count()]):
        if not is_used or not one.equal(cuda.get_rng_state(index)):
            cuda.set_rng_state(one, index)


def _begun(seed: int) -> list[Any]:
    """The states of the generators of GPUs right after they were seeded."""
    torch = sys.modules["torch"]
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [torch.Generator(device).manual_seed(seed).get_state() for device in devices]


@contextmanager
def kept_random() -> Iterator[None]:
    """Leave no trace in the generators."""
    state = random_state()
    try:
        yield
    finally:
        restore_random(state)


def generator_states(owners: Iterable[object]) -> list[Any]:
    """The states of the generators that objects hold as attributes, each once, in the order in which they are found.

    Args:
        owners: Such as datasets, samplers and callbacks; what has no attributes has none.
    """
    return [_GENERATORS[_kind_of(one)][0](one) for one in _held_by(owners)]


def restore_generators(owners: Iterable[object], states: Sequence[Any]) -> None:
    """Put them back.

    Raises:
        ValueError: They are not as many as the states.
    """
    generators = _held_by(owners)
    if len(generators) != len(states):
        raise ValueError(f"{len(states)} generators of the training's own were kept, and it has {len(generators)}")
    for one, state in zip(generators, states, strict=True):
        _GENERATORS[_kind_of(one)][1](one, state)


def is_generator(value: object) -> bool:
    """Whether a value is a generator of Python, NumPy, torch, TensorFlow or Keras."""
    return bool(_kind_of(value))


def kept_generators(generators: Iterable[Any]) -> Callable[[], None]:
    """What puts generators back as they are now.

    Args:
        generators: Each a generator as `is_generator` tells.
    """
    states = list[tuple[Any, Callable[[Any, Any], object], Any]]()
    for one in generators:
        take, put = _GENERATORS[_kind_of(one)]
        with suppress(Exception):  # what is on a device that failed, or of a fit of JAX's that did, draws no more
            states.append((one, put, take(one)))

    def put_back() -> None:
        for one, put, state in states:
            put(one, state)

    return put_back


def _held_by(owners: Iterable[object]) -> list[Any]:
    found: dict[int, Any] = {}
    for owner in owners:
        for value in getattr(owner, "__dict__", {}).values():
            if _kind_of(value):
                found[id(value)] = value
    return list(found.values())


# How the state of a generator is taken and put back.
_GENERATORS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], object]]] = {
    "random.Random": (lambda one: one.getstate(), lambda one, state: one.setstate(state)),
    "numpy.RandomState": (lambda one: one.get_state(), lambda one, state: one.set_state(state)),
    "numpy.Generator": (
        lambda one: one.bit_generator.state,
        lambda one, state: setattr(one.bit_generator, "state", state),
    ),
    "torch.Generator": (lambda one: one.get_state(), lambda one, state: one.set_state(state)),
    "tensorflow.Generator": (lambda one: one.state.numpy(), lambda one, state: one.state.assign(state)),
    "keras.SeedGenerator": (lambda one: one.state.numpy().copy(), lambda one, state: one.state.assign(state)),
}


def _kind_of(value: object) -> str:
    """The name of the kind of generator that a value is, an empty text where it is none."""
    if isinstance(value, random.Random):
        return "random.Random"
    kind = type(value)
    home = kind.__module__.partition(".")[0]
    return f"{home}.{kind.__name__}" if f"{home}.{kind.__name__}" in _GENERATORS else ""
