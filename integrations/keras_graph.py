"""Functional and Sequential models, whose layers are made anew in place with other settings, as if typed in."""

from __future__ import annotations

import contextlib
import functools
import gc
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
from keras.src import tree
from keras.src.saving.serialization_lib import SafeModeScope

from tunehook.inject import InjectionError
from tunehook.integrations import keras_config as config
from tunehook.integrations import keras_record as record

Changes = Mapping[str, Any]
"""New values by the path of a setting in a layer's configuration."""

# Seeds that no one draws: Keras's own are below 1e9.
_PLACEHOLDERS = 2_000_000_000
# Where Keras keeps layers and seed generators a second time, and its graph.
_KEPT_TWICE = frozenset(
    {"_tracker", "_layers", "_seed_generators", "_metrics", "_modules", "_inbound_nodes", "_outbound_nodes"}
)
# What a layer keeps when it is constructed again: what its __new__ bound to it, and its place in the graph.
MADE_BY_NEW = ("build", "quantize", "_auto_config", record.KEY)
_PLACE = ("_inbound_nodes", "_outbound_nodes")


class Graph:
    """The layers of a Functional or Sequential model.

    A layer whose settings change, or whose input changes its shape by that, is constructed again in place, with the
    seeds that it had; all others stay what they are. Models, layers and symbolic tensors stay the same objects.

    Args:
        model: The model.

    Attributes:
        why_not: Why a layer's settings cannot be changed, by its name.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.why_not: dict[str, str] = {}
        self._undo: list[Callable[[], None]] = []

    def settings(self) -> dict[str, tuple[str, str, Any]]:
        """Name of the layer, path of the setting and present value, by ``<layer>.<setting>``."""
        found: dict[str, tuple[str, str, Any]] = {}
        rows: Iterable[tuple[str, Any]]
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.InputLayer):
                continue
            if _is_graph(layer):
                inner = Graph(layer)
                rows = ((f"{name}.{path}", value) for name, path, value in inner.settings().values())
                self.why_not |= {f"{layer.name}.{name}": why for name, why in inner.why_not.items()}
            else:
                try:
                    rows = config.settings(layer.get_config())
                except Exception as error:  # noqa: BLE001 - get_config is the user's code
                    self.why_not[layer.name] = first_line(error)
                    continue
            for path, value in rows:
                found[f"{layer.name}.{path}"] = (layer.name, path, value)
        return found

    def rebuild(self, changes: Mapping[str, Changes]) -> None:
        """Put new settings into effect.

        Args:
            changes: New settings by the name of the layer.

        Raises:
            InjectionError: A layer cannot be constructed again, its weights were loaded or trained before and would
                change their shape, or another model uses it too. Call `restore` then.
        """
        todo = {id(self.model.get_layer(name)): dict(new) for name, new in changes.items()}
        self._check_shared(todo)
        graph = self._graph()
        if graph is None:
            for layer in self.model.layers:
                if id(layer) in todo:
                    self._renew(layer, todo[id(layer)], None)
        else:
            self._walk(graph, todo)
        for model in (self.model, graph):
            if hasattr(model, "_torch_params"):
                model._track_variables()  # noqa: SLF001 - as after every build

    def restore(self) -> None:
        """Put everything back as it was before `rebuild`."""
        while self._undo:
            self._undo.pop()()

    def _graph(self) -> Any:
        """The functional graph; ``None`` for a Sequential model that knows no shapes yet."""
        return self.model._functional if isinstance(self.model, keras.Sequential) else self.model  # noqa: SLF001

    def _walk(self, graph: Any, todo: Mapping[int, Changes]) -> None:
        """Go through the calls of the graph in order; where a layer or its input is new, so may be its output."""
        was: dict[int, Any] = {}  # old shapes of tensors that have another one now
        renewed: set[int] = set()
        depths = graph._nodes_by_depth  # noqa: SLF001 - as in Keras's own clone_model
        for node in (node for depth in sorted(depths, reverse=True) for node in depths[depth]):
            layer = node.operation
            is_new = id(layer) in todo or id(layer) in renewed
            is_reshaped = any(id(tensor) in was for tensor in node.input_tensors)
            if node.is_input or not (is_new or is_reshaped):
                continue
            call = node.arguments.args, node.arguments.kwargs
            if id(layer) not in renewed and (is_new or getattr(layer, "variables", None)):
                self._renew(layer, todo.get(id(layer), {}), _scratch(call, {}), _scratch(call, was))
                renewed.add(id(layer))
            outputs = tree.flatten(_outputs(layer, *_scratch(call, {})))
            for old, new in zip(node.outputs, outputs, strict=True):
                if old.shape != new.shape:
                    was[id(old)] = old.shape
                    self._undo.append(functools.partial(setattr, old, "_shape", old.shape))
                    old._shape = new.shape  # noqa: SLF001 - symbolic tensors stay the same objects

    def _renew(self, layer: Any, changes: Changes, call: Any, before: Any = None) -> None:
        if _is_graph(layer):
            inner: dict[str, dict[str, Any]] = {}
            graph = Graph(layer)
            for path, value in changes.items():
                name, setting, _ = graph.settings()[path]
                inner.setdefault(name, {})[setting] = value
            if not inner:  # its input has another shape, and its own Input says which one it takes
                raise _cannot_build(layer, "its input changes its shape, but its Input layer says another one")
            self._undo.append(graph.restore)
            graph.rebuild(inner)
            return
        self._undo.append(functools.partial(put_back, layer, dict(vars(layer))))
        Renewal(layer, changes, call, before).run()

    def _check_shared(self, todo: Mapping[int, Changes]) -> None:
        """Another live model would change with this one."""
        own = {id(layer) for layer in self.model._flatten_layers()}  # noqa: SLF001
        for again in (False, True):
            outer = [model for model in record.alive if id(model) not in own and self.model not in _layers(model)]
            inner = {
                id(getattr(model, "_functional", None)) for model in record.alive if isinstance(model, keras.Sequential)
            }
            shared = [(m, layer) for m in outer if id(m) not in inner for layer in _layers(m) if id(layer) in todo]
            if not shared:
                return
            if not again:
                gc.collect()  # models that nobody holds any more count for nothing
        other, layer = shared[0]
        raise InjectionError(
            f"Layer '{layer.name}' cannot be changed: another model, '{other.name}', uses it too.\n"
            "  Build the other model after fit, or take the name out of the space."
        )


class Renewal:
    """One layer, constructed again in place.

    Args:
        layer: The layer.
        changes: Its new settings.
        call: Arguments that it is called with from now on, ``None`` where they are not known yet.
        before: Arguments that it was called with.
    """

    def __init__(self, layer: Any, changes: Changes, call: Any, before: Any) -> None:
        self._layer, self._changes = layer, changes
        self._call: Any = call if layer.built else None
        self._before: Any = before if layer.built else None
        self._config = layer.get_config()
        self._own = _own_objects(layer, self._config)
        self._custom = {type(each).__name__: type(each) for each in _layers(layer)}
        self._known = {path: _seed(each) for path, each in _seeded(layer)}
        self._fresh = random.Random()  # noqa: S311 - draws what Keras would draw next, and leaves no trace
        self._fresh.setstate(random.getstate())

    def run(self) -> None:
        """Construct and build it, and keep weights that were loaded or trained before.

        Raises:
            InjectionError: That cannot be done.
        """
        layer = self._layer
        olds, held = layer.variables, dict(vars(layer))
        seeds = self._seeds(self._changes, self._call)
        with record.kept_names(), record.drawing(seeds.next):
            probe = seeds.probe
            with _constructed_in(layer, held | {"_auto_config": vars(probe).get("_auto_config")}):
                made = self._from_config(self._changes)
            if made is not layer:
                raise self._cannot("its from_config() makes another object first")
            vars(layer).update({name: held[name] for name in _PLACE})
            if self._call is not None:
                _outputs(layer, *self._call)
        self._settle_weights(olds)

    def _seeds(self, changes: Changes, call: Any) -> _Seeds:
        """Make a layer once to see which seed belongs where."""
        seeds = _Seeds(self._known, lambda: self._fresh.randint(1, 10**9))
        seeds.learn(self._throwaway(changes, call, seeds.placeholder))
        return seeds

    def _throwaway(self, changes: Changes, call: Any, draw: Callable[[], int]) -> Any:
        with record.kept_names(), record.drawing(draw):
            made = self._from_config(changes)
            if call is not None:
                _outputs(made, *call)
        return made

    def _from_config(self, changes: Changes) -> Any:
        own = {key: value for key, value in self._own.items() if not any(_top(path) == key for path in changes)}
        try:
            made = config.edited({**self._config, **dict.fromkeys(own)}, changes) | own
            with keras.saving.custom_object_scope(self._custom), SafeModeScope(False):
                return type(self._layer).from_config(made)
        except Exception as error:
            raise self._cannot(first_line(error)) from error

    def _cannot(self, why: str) -> InjectionError:
        layer = self._layer
        what = ", ".join(f"layer.{layer.name}.{path} = {value!r}" for path, value in self._changes.items())
        how = f" with {what}" if what else ""
        return InjectionError(
            f"Layer '{layer.name}' ({type(layer).__name__}) cannot be constructed again{how}: {why}\n"
            "  Give values that the layer takes, and the layer a get_config() that returns all arguments of its "
            "constructor; or take the name out of the space."
        )

    def _settle_weights(self, olds: Sequence[Any]) -> None:
        """What is not as the constructor made it was loaded or trained."""
        news = self._layer.variables
        if _shapes(olds) == _shapes(news) and all(map(same_bits, olds, news)):
            return
        control = self._seeds({}, self._before)
        made = self._throwaway({}, self._before, control.next).variables
        if len(made) == len(olds) and all(map(same_bits, olds, made)):
            return
        if _shapes(olds) != _shapes(news):
            what = ", ".join(f"layer.{self._layer.name}.{path}" for path in self._changes) or "A new value"
            raise InjectionError(
                f"{what} changes the shape of the weights of layer '{self._layer.name}' "
                f"({_shape_change(olds, news)}), but they were loaded or trained before fit.\n"
                "  Such a hyperparameter can only be tuned from scratch: take it out of the space, or do not load."
            )
        for old, new, fresh in zip(olds, news, made, strict=True):
            if not same_bits(old, fresh):
                new.assign(old.value)


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


class _Seeds:
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
        return _PLACEHOLDERS + self._drawn - 1

    def learn(self, probe: Any) -> None:
        """Find the seed of the old layer for each one that the probe drew."""
        self.probe = probe
        for path, each in _seeded(probe):
            number = _seed(each) - _PLACEHOLDERS
            if 0 <= number < self._drawn and path in self._known:
                self._order[number] = self._known[path]

    def next(self) -> int:
        """The seed that is drawn next."""
        self._given += 1
        return self._order.get(self._given - 1) or self._draw()


def _seeded(owner: Any, path: str = "", seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, Any]]:
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
    elif isinstance(owner, keras.Model) and record.is_plain(type(owner)):
        for index, layer in enumerate(owner.layers):
            yield from _seeded(layer, f"{path}/{index}", seen)
    elif isinstance(owner, keras.layers.Layer):
        held = {**vars(owner), **vars(owner).get("_modules", {})}  # where torch keeps layers in layers
        for name in held.keys() - _KEPT_TWICE:
            yield from _seeded(held[name], f"{path}.{name}", seen)
    elif isinstance(owner, list | tuple | dict):
        for key, item in owner.items() if isinstance(owner, dict) else enumerate(owner):
            yield from _seeded(item, f"{path}[{key}]", seen)


def _seed(each: Any) -> int:
    if isinstance(each, keras.random.SeedGenerator):
        return int(keras.ops.convert_to_numpy(each.state.value)[0])
    return int(each.seed)


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
        is_object = isinstance(value, Mapping) and "class_name" in value and hasattr(layer, key)
        if is_object and (value["class_name"] == "function" or not str(value.get("module")).startswith("keras")):
            found[key] = getattr(layer, key)
    return found


def _outputs(layer: Any, args: Any, kwargs: Any) -> Any:
    """What a layer gives for symbolic arguments; builds it, and leaves no trace in its graph."""
    calls = layer._inbound_nodes  # noqa: SLF001
    before = len(calls)
    try:
        return layer(*args, **kwargs)
    except InjectionError:
        raise
    except Exception as error:
        raise _cannot_build(layer, first_line(error)) from error
    finally:
        del calls[before:]


def _cannot_build(layer: Any, why: str) -> InjectionError:
    return InjectionError(
        f"The model cannot be built with the new settings: layer '{layer.name}': {why}\n"
        "  The same happens with these values typed in: narrow the space."
    )


def _scratch(call: Any, was: Mapping[int, Any]) -> Any:
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


def _is_graph(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and record.is_plain(type(layer))


def _layers(model: Any) -> list[Any]:
    """A model or layer with all layers in it."""
    return list(model._flatten_layers())  # noqa: SLF001


def _top(path: str) -> str:
    return path.partition(".")[0]


def _shapes(variables: Sequence[Any]) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in variables]


def _shape_change(olds: Sequence[Any], news: Sequence[Any]) -> str:
    changed = [(old, new) for old, new in zip(_shapes(olds), _shapes(news), strict=False) if old != new]
    return f"{changed[0][0]} to {changed[0][1]}" if changed else f"{len(olds)} weights to {len(news)}"


def first_line(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
