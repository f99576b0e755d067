"""One layer, constructed again in place with other settings, as if typed in."""

from __future__ import annotations

import contextlib
import functools
import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras.src import tree
from keras.src.saving.serialization_lib import SafeModeScope
from keras.src.utils.naming import to_snake_case

from tunehook.errors import InjectionError
from tunehook.inject import same
from tunehook.inject.arguments import signature_of
from tunehook.integrations import keras_config as config
from tunehook.integrations import keras_record as record
from tunehook.integrations.keras_seeds import PLACEHOLDERS, Seeds, seed_of, seeded

Changes = Mapping[str, Any]
"""New values by the path of a setting in a layer's configuration."""

# What a layer keeps when it is constructed again: what its __new__ bound to it, and its place in the graph.
MADE_BY_NEW = ("build", "quantize", "_auto_config", record.KEY)
_SIMPLE = (int, float, complex, str, bytes, list, tuple, type(None))
_PLACE = ("_inbound_nodes", "_outbound_nodes")


class Renewal:
    """One layer, constructed again in place.

    Args:
        layer: The layer.
        changes: Its new settings.
        call: Arguments that it is called with from now on, ``None`` where they are not known yet.
        before: Arguments that it was called with.
        given: All new settings of the model by path, for messages.
    """

    def __init__(self, layer: Any, changes: Changes, call: Any, before: Any, given: Changes) -> None:
        self._layer, self._changes, self._given = layer, changes, given
        self._call: Any = call if layer.built else None
        self._before: Any = before if layer.built else None
        try:
            self._config = config.plain(config.read(layer))
        except Exception as error:
            raise self._cannot(why_no_config(error)) from error
        self._own = _own_objects(layer, self._config)
        self._custom = {kind.__name__: kind for each in layers_of(layer) for kind in config.classes(each)}
        self._follows: frozenset[str] = frozenset()
        self._known = {path: seed_of(each) for path, each in seeded(layer)}
        self._fresh = random.Random()  # noqa: S311 - draws what Keras would draw next, and leaves no trace
        self._fresh.setstate(random.getstate())

    def run(self) -> None:
        """Construct and build it, and keep weights that were loaded or trained before.

        Raises:
            InjectionError: That cannot be done.
        """
        layer = self._layer
        olds, held = layer.variables, dict(vars(layer))
        parts = layers_of(layer)
        self._follows = self._following()
        control = self._throwaway({}, self._before, self._seeds({}, self._before).next)
        self._check_described(control)
        flags = _flags(parts, olds, control)
        seeds = self._seeds(self._changes, self._call)
        settings = self._settings(self._changes)
        with record.names_again(_numbers(parts, layer)), record.drawing(seeds.next):
            probe = seeds.probe
            with _constructed_in(layer, held | {"_auto_config": vars(probe).get("_auto_config")}):
                made = self._construct(settings)
            if made is not layer:
                raise self._cannot("its from_config() makes another object first")
            for name in _PLACE:
                vars(layer)[name] = held[name]
                if hasattr(held[name], "tracker"):  # Keras tracks lists, and with the old weights
                    held[name].tracker = vars(layer)["_tracker"]
            layer.name = held["name"]
            if self._call is not None:
                vars(layer)["_parent_path"] = held["_parent_path"]  # its weights are called after it
                outputs_of(layer, self._call, self._given)
        self._settle_weights(olds, control.variables)
        self._settle_flags(flags)

    def _seeds(self, changes: Changes, call: Any) -> Seeds:
        """Make a layer once to see which seed belongs where."""
        seeds = Seeds(self._known, lambda: self._fresh.randint(1, 10**9))
        seeds.learn(self._throwaway(changes, call, seeds.placeholder))
        return seeds

    def _throwaway(self, changes: Changes, call: Any, draw: Callable[[], int]) -> Any:
        settings = self._settings(changes)
        with record.kept_names(), record.drawing(draw):
            made = self._construct(settings)
            if call is not None:
                outputs_of(made, call, self._given)
        return made

    def _settings(self, changes: Changes) -> dict[str, Any]:
        """The configuration with other settings, and with what follows from them."""
        tops = {_top(path) for path in changes}
        own = {key: value for key, value in self._own.items() if key not in tops}
        try:
            made = config.edited({**self._config, **dict.fromkeys(own)}, changes) | own
        except Exception as error:
            raise self._cannot(first_line(error)) from error
        made = {key: value for key, value in made.items() if key not in _not_taken(type(self._layer))}
        follows = self._follows - tops
        if follows:
            derived = self._derived(made, follows)
            made |= {key: config.renamed(derived.get(key), self._config[key]) for key in follows}
        return made

    def _derived(self, settings: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
        """The configuration that a layer has where some entries are not given."""
        with record.kept_names(), record.drawing(lambda: PLACEHOLDERS):
            made = self._construct({key: value for key, value in settings.items() if key not in keys})
        return config.plain(config.read(made))

    def _construct(self, settings: Mapping[str, Any]) -> Any:
        try:
            with keras.saving.custom_object_scope(self._custom), SafeModeScope(False):
                return type(self._layer).from_config(dict(settings))
        except Exception as error:
            raise self._cannot(first_line(error)) from error

    def _cannot(self, why: str) -> InjectionError:
        layer = self._layer
        return InjectionError(
            f"Layer '{layer.name}' ({type(layer).__name__}) cannot be constructed again with {_with(self._given)}: "
            f"{why}\n"
            "  Give values that the layer takes, and the layer a get_config() that returns all arguments of its "
            "constructor; or take the name out of the space."
        )

    def _following(self) -> frozenset[str]:
        """Entries of the configuration that were not given, but follow from others, as ``value_dim`` from ``key_dim``.

        They follow from the new values too.
        """
        given = _given(self._layer)
        names = [key for key in given if given[key] is None and self._config.get(key) is not None]
        if not names:
            return frozenset()
        try:
            made = self._derived(self._settings({}), names)
        except InjectionError:
            return frozenset()
        return frozenset(key for key in names if config.same_but_names(made.get(key), self._config[key]))

    def _check_described(self, control: Any) -> None:
        """Check that the layer is what its configuration says, in what its classes keep as simple values."""
        pairs = list(zip(layers_of(self._layer), layers_of(control), strict=False))
        lost = {name for live, made in pairs for name in _unlike(live, made)}
        if lost:
            raise InjectionError(
                f"Layer '{self._layer.name}' ({type(self._layer).__name__}) cannot be constructed again: its "
                f"get_config() does not tell {', '.join(sorted(lost))}, which would be lost.\n"
                "  Return all arguments of the constructor in get_config(), and set nothing on the layer afterwards; "
                "or take the name out of the space."
            )

    def _settle_flags(self, flags: tuple[dict[int, bool], dict[int, bool]]) -> None:
        """Keep frozen what was frozen in the layer, part by part."""
        for items, changed in zip((layers_of(self._layer), self._layer.variables), flags, strict=True):
            for place, flag in changed.items():
                if place >= len(items):
                    raise self._cannot("a part of it was frozen that does not exist any more")
                items[place].trainable = flag

    def _settle_weights(self, olds: Sequence[Any], made: Sequence[Any]) -> None:
        """What is not as the constructor made it was loaded or trained."""
        news = self._layer.variables
        places = kept_weights(olds, made, news)
        if places is None:
            raise InjectionError(
                f"{', '.join(self._given)} changes the shape of the weights of layer '{self._layer.name}' "
                f"({_shape_change(olds, news)}), but they were loaded or trained before fit.\n"
                "  Such a hyperparameter can only be tuned from scratch: take it out of the space, or do not load."
            )
        for place in places:
            news[place].assign(olds[place].value)
        for each in layers_of(self._layer):
            if isinstance(each, keras.layers.Normalization):
                each.finalize_state()  # it keeps what follows from its weights beside them


def _numbers(parts: Sequence[Any], layer: Any) -> dict[str, list[int]]:
    """The numbers in the names that Keras counted for the parts of a layer, by the name of their class."""
    found: dict[str, list[int]] = {}
    generators = [each for _, each in seeded(layer) if isinstance(each, keras.random.SeedGenerator)]
    for part in [*parts, *generators, *layer.variables]:
        name = to_snake_case(type(part).__name__)
        count = "0" if part.name == name else part.name.removeprefix(f"{name}_")
        if count.isdecimal() and (part is not layer or "name" not in config.read(layer)):
            found.setdefault(name, []).append(int(count))
    return found


def _flags(parts: Sequence[Any], weights: Sequence[Any], control: Any) -> tuple[dict[int, bool], dict[int, bool]]:
    """Which parts and weights of a layer were frozen or freed after it was constructed, by their places."""
    rows = (parts, layers_of(control)), (weights, control.variables)
    first, second = (
        {at: _flag(one) for at, (one, made) in enumerate(zip(*row, strict=False)) if _flag(one) != _flag(made)}
        for row in rows
    )
    return first, second


def _flag(owner: Any) -> bool:
    return bool(vars(owner).get("_trainable", True))  # trainable of a layer asks the layers below


def _given(layer: Any) -> Mapping[str, Any]:
    """The arguments of a layer's constructor, defaults included, as far as they are known."""
    recorded = getattr(layer, "_auto_config", None)
    if recorded is not None:
        return dict(recorded.config)
    parameters = signature_of(type(layer).__init__).parameters
    given = {name: item.default for name, item in parameters.items()}  # Keras records no call that is given layers
    if isinstance(layer, keras.layers.Bidirectional):
        names = (layer.forward_layer.name, layer.backward_layer.name)
        if names[0].removeprefix("forward_") != names[1].removeprefix("backward_"):
            given["backward_layer"] = layer.backward_layer
    return given


def _not_taken(cls: type) -> frozenset[str]:
    """What every configuration holds, but the constructor of a class does not take."""
    parameters = signature_of(cls.__init__).parameters  # type: ignore[misc]
    if any(item.kind is item.VAR_KEYWORD for item in parameters.values()) or "from_config" in vars(cls):
        return frozenset()
    return frozenset({"name", "trainable", "dtype"} - set(parameters))


@functools.cache
def _managed() -> frozenset[str]:
    """Attributes that Keras itself sets on every layer."""
    with record.kept_names():
        return frozenset(vars(keras.layers.Layer())) | {"name"}


def _unlike(live: Any, made: Any) -> Iterator[str]:
    """Names of simple attributes that two layers of one configuration do not share."""
    ours, others = vars(live), vars(made)
    for name in ours.keys() - _managed():
        if name.startswith("_self_"):  # TensorFlow's
            continue
        simple = isinstance(ours[name], _SIMPLE) and isinstance(others.get(name), _SIMPLE)
        is_own = record.is_plain(type(live))  # whose private attributes tell where it is, not what it is
        if not simple or (name.startswith("_") and (is_own or name not in others)):
            continue
        if not same(ours[name], others.get(name)):
            yield name


@contextlib.contextmanager
def _constructed_in(layer: Any, held: Mapping[str, Any]) -> Iterator[None]:
    """Let the next construction of the layer's class happen in the layer itself, once.

    Its ``from_config`` may do anything before it calls the constructor, so the constructor is led, not replaced.
    """
    cls: Any = type(layer)
    own = vars(cls).get("__new__")

    def __new__(kind: type, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - it becomes one
        stop()
        if kind is not cls:
            return cls.__new__(kind, *args, **kwargs)
        vars(layer).clear()
        vars(layer).update({name: held[name] for name in MADE_BY_NEW if held.get(name) is not None})
        return layer

    def stop() -> None:
        if vars(cls).get("__new__") is patch:
            if own is None:
                del cls.__new__
            else:
                cls.__new__ = own

    patch = staticmethod(__new__)
    cls.__new__ = patch
    try:
        yield
    finally:
        stop()


def kept_weights(olds: Sequence[Any], made: Sequence[Any], news: Sequence[Any]) -> list[int] | None:
    """Places of weights that are not as the constructor makes them, loaded or trained, and so go on.

    Args:
        olds: The weights of an object before it was constructed again.
        made: Those of another one with the same arguments.
        news: Those that it has now.

    Returns:
        The places; ``None`` where such weights have no place any more.
    """
    if len(olds) != len(made):
        return None
    places = [at for at, (old, other) in enumerate(zip(olds, made, strict=True)) if not same_bits(old, other)]
    is_same = _shapes(olds) == _shapes(news)
    # A model that was called before has used its generators, and keeps their seeds.
    is_used = len(olds) == len(news) and all(olds[at].path.endswith("seed_generator_state") for at in places)
    return places if is_same or is_used or not places else None


def same_bits(one: Any, other: Any) -> bool:
    """Whether two variables hold the same, bit for bit."""
    if tuple(one.shape) != tuple(other.shape):
        return False
    first, second = keras.ops.convert_to_numpy(one.value), keras.ops.convert_to_numpy(other.value)
    return bool(first.dtype == second.dtype and first.tobytes() == second.tobytes())


def _own_objects(layer: Any, present: Mapping[str, Any]) -> dict[str, Any]:
    """Functions and objects of the user's own, which Keras could not find by name: they are handed on as they are."""
    found = {}
    for key, value in present.items():
        if isinstance(value, bool | int | float | str | list | tuple | None) or not hasattr(layer, key):
            continue
        if not config.is_object(value) or not str(value.get("module")).startswith("keras"):
            found[key] = getattr(layer, key)
    return found


def _with(given: Changes) -> str:
    return ", ".join(f"{path} = {value!r}" for path, value in given.items())


def outputs_of(layer: Any, call: Any, given: Changes) -> Any:
    """What a layer gives for symbolic arguments; builds it, and leaves no trace in its graph."""
    args, kwargs = call
    calls = layer._inbound_nodes  # noqa: SLF001
    before = len(calls)
    try:
        return layer(*args, **kwargs)
    except InjectionError:
        raise
    except Exception as error:
        raise cannot_build(layer, first_line(error), given) from error
    finally:
        del calls[before:]


def cannot_build(layer: Any, why: str, given: Changes) -> InjectionError:
    """The error for a layer that refuses the input that new settings lead to."""
    return InjectionError(
        f"The model cannot be built with {_with(given)}, for layer '{layer.name}' says {why}\n"
        "  The same happens with these values typed in: narrow the space."
    )


def scratch(call: Any, was: Mapping[int, Any]) -> Any:
    """The arguments of a call with symbolic tensors that belong to no graph, some with the shape that they had."""

    def one(value: Any) -> Any:
        if isinstance(value, keras.KerasTensor):
            return keras.KerasTensor(was.get(id(value), value.shape), value.dtype)
        return value

    return tree.map_structure(one, call)


def put_back(owner: Any, state: Mapping[str, Any]) -> None:
    """Give an object the attributes that it had."""
    vars(owner).clear()
    vars(owner).update(state)


def layers_of(model: Any) -> list[Any]:
    """A model or layer with all layers in it."""
    return list(model._flatten_layers())  # noqa: SLF001


def _top(path: str) -> str:
    return path.partition(".")[0]


def _shapes(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in variables]


def _shape_change(olds: Sequence[Any], news: Sequence[Any]) -> str:
    changed = [(old, new) for old, new in zip(_shapes(olds), _shapes(news), strict=False) if old != new]
    return f"{changed[0][0]} to {changed[0][1]}" if changed else f"{len(olds)} weights to {len(news)}"


def why_no_config(error: Exception) -> str:
    """Why the configuration of a layer cannot be read, which is the user's code."""
    if isinstance(error, NotImplementedError):
        return "it has no get_config() that returns all arguments of its constructor"
    return f"its get_config() raises {first_line(error)}"


def first_line(error: BaseException) -> str:
    """An error in one line: what went wrong, without what Keras wraps around it."""
    while str(error).startswith("Error when deserializing class") and error.__context__ is not None:
        error = error.__context__
    wrapped = re.search(r"\x1b\[1m(.+?)\x1b\[0m", str(error), re.DOTALL)
    lines = (wrapped[1] if wrapped else str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
