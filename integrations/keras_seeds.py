"""The seeds of layers, drawn again where they were drawn first."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras.src.saving.serialization_lib import SafeModeScope

from tunehook.integrations import keras_config as config
from tunehook.integrations import keras_record as record

# Seeds that no one draws: Keras's own are below 1e9.
PLACEHOLDERS = 2_000_000_000
# Where Keras keeps layers and seed generators a second time, and its graph.
_KEPT_TWICE = frozenset(
    {"_tracker", "_layers", "_seed_generators", "_metrics", "_modules", "_inbound_nodes", "_outbound_nodes"}
)


class Seeds:
    """The seeds of a layer, in the order in which they are drawn.

    Args:
        known: The seeds of the old layer by where they lie.
        draw: Draws one where the old layer had none.
    """

    def __init__(self, known: Mapping[str, int], draw: Callable[[], int]) -> None:
        self._known, self._draw = known, draw
        self._drawn = self._given = 0
        self._order: dict[int, int] = {}
        self.probe: Any = None

    def placeholder(self) -> int:
        """A number that tells later where it was used."""
        self._drawn += 1
        return PLACEHOLDERS + self._drawn - 1

    def learn(self, probe: Any) -> None:
        """Find the seed of the old layer for each one that the probe drew."""
        self.probe = probe
        for path, each in seeded(probe):
            number = seed_of(each) - PLACEHOLDERS
            if 0 <= number < self._drawn and path in self._known:
                self._order[number] = self._known[path]

    def next(self) -> int:
        """The seed that is drawn next."""
        self._given += 1
        return self._order.get(self._given - 1) or self._draw()


def made_again(old: Any, described: Mapping[str, Any]) -> Any:
    """An object as its configuration describes it, with the seeds that the old one had, or with none of its own."""
    custom = {} if old is None else {kind.__name__: kind for kind in config.classes(old)}
    if isinstance(old, keras.Layer):
        described = {**described, "config": {**described["config"], "name": old.name}}

    def make(draw: Callable[[], int]) -> Any:
        with record.kept_names(), record.drawing(draw), keras.saving.custom_object_scope(custom), SafeModeScope(False):
            return keras.saving.deserialize_keras_object(described)

    seeds = Seeds({path: seed_of(each) for path, each in seeded(old)}, lambda: random.randint(1, 10**9))  # noqa: S311
    seeds.learn(make(seeds.placeholder))
    return make(seeds.next)


def seeded(owner: Any, path: str = "", seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, Any]]:
    """Initializers and seed generators of a layer and the layers in it, by where they lie."""
    if id(owner) in seen:
        return
    seen |= {id(owner)}
    if isinstance(owner, keras.random.SeedGenerator):
        yield path, owner
    elif isinstance(owner, keras.initializers.Initializer):
        seed = getattr(owner, "seed", None)
        if isinstance(seed, keras.random.SeedGenerator):
            yield f"{path}.seed", seed
        elif isinstance(seed, int):
            yield path, owner
    elif isinstance(owner, keras.Variable):
        yield from seeded(record.initializer(owner), f"{path}/initializer", seen)
    elif isinstance(owner, keras.Model) and record.is_plain(type(owner)):
        for index, layer in enumerate(owner.layers):
            yield from seeded(layer, f"{path}/{index}", seen)
    elif isinstance(owner, keras.layers.Layer):
        held = {**vars(owner), **vars(owner).get("_modules", {})}  # where torch keeps layers in layers
        for name in held.keys() - _KEPT_TWICE:
            yield from seeded(held[name], f"{path}.{name}", seen)
    elif isinstance(owner, list | tuple | dict):
        for key, item in owner.items() if isinstance(owner, dict) else enumerate(owner):
            yield from seeded(item, f"{path}[{key}]", seen)


def seed_of(each: Any) -> int:
    """The seed of an initializer or a seed generator."""
    if isinstance(each, keras.random.SeedGenerator):
        return int(keras.ops.convert_to_numpy(each.state.value)[0])
    return int(each.seed)
