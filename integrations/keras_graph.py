"""Functional and Sequential models, whose layers are constructed again in place, as if other numbers were typed in."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
from keras.src import tree

from tunehook.errors import InjectionError
from tunehook.integrations import keras_config as config
from tunehook.integrations import keras_record as record
from tunehook.integrations.keras_layer import (
    Changes,
    Renewal,
    cannot_build,
    layers_of,
    outputs_of,
    put_back,
    scratch,
    why_no_config,
)


class Graph:
    """The layers of a Functional or Sequential model.

    A layer whose settings change, or whose input changes its shape by that, is constructed again in place, with the
    seeds that it had; all others stay what they are. Models, layers and symbolic tensors stay the same objects.

    Args:
        model: The model.
        path: What stands before the names of its layers, where it is a layer itself.

    Attributes:
        closed: Why a layer's settings cannot be changed, by its name.
    """

    def __init__(self, model: Any, path: str = "layer.") -> None:
        self.model, self._path = model, path
        self._given: dict[str, Any] = {}
        self.closed: dict[str, str] = {}
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
                self.closed |= {f"{layer.name}.{name}": why for name, why in inner.closed.items()}
            else:
                try:
                    rows = config.settings(config.read(layer))
                except Exception as error:  # noqa: BLE001 - get_config is the user's code
                    self.closed[layer.name] = why_no_config(error)
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
        self._given = {
            f"{self._path}{name}.{path}": value for name, new in changes.items() for path, value in new.items()
        }
        todo = {id(self.model.get_layer(name)): dict(new) for name, new in changes.items()}
        self._check_shared(todo)
        graph = self._graph()
        if graph is None:
            for layer in self.model.layers:
                if id(layer) in todo:
                    self._renew(layer, todo[id(layer)], None)
        else:
            self._walk(graph, todo)
        self._track()

    def restore(self) -> None:
        """Put everything back as it was before `rebuild`."""
        while self._undo:
            self._undo.pop()()
        self._track()

    def settle(self) -> None:
        """Forget what was there before `rebuild`."""
        self._undo.clear()

    def _track(self) -> None:
        """Let torch know the weights, as after every build."""
        for model in (self.model, self._graph()):
            if hasattr(model, "_torch_params"):
                model._track_variables()  # noqa: SLF001

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
            if id(layer) not in renewed and (is_new or _knows_shapes(layer)):
                self._renew(layer, todo.get(id(layer), {}), scratch(call, {}), scratch(call, was))
                renewed.add(id(layer))
            outputs = tree.flatten(outputs_of(layer, scratch(call, {}), self._given))
            for old, new in zip(node.outputs, outputs, strict=True):
                if old.shape != new.shape:
                    was[id(old)] = old.shape
                    self._undo.append(functools.partial(setattr, old, "_shape", old.shape))
                    old._shape = new.shape  # noqa: SLF001 - symbolic tensors stay the same objects

    def _renew(self, layer: Any, changes: Changes, call: Any, before: Any = None) -> None:
        if _is_graph(layer):
            inner: dict[str, dict[str, Any]] = {}
            graph = Graph(layer, f"{self._path}{layer.name}.")
            for path, value in changes.items():
                name, setting, _ = graph.settings()[path]
                inner.setdefault(name, {})[setting] = value
            if not inner:  # its input has another shape, and its own Input says which one it takes
                raise cannot_build(layer, "its input changes its shape, but its Input says another one", self._given)
            self._undo.append(graph.restore)
            graph.rebuild(inner)
            return
        self._undo.append(functools.partial(put_back, layer, dict(vars(layer))))
        Renewal(layer, changes, call, before, self._given).run()

    def _check_shared(self, todo: Mapping[int, Changes]) -> None:
        """Another live model would change with this one."""
        own = {id(layer) for layer in self.model._flatten_layers()}  # noqa: SLF001
        for again in (False, True):
            outer = [model for model in record.alive if id(model) not in own and self.model not in layers_of(model)]
            chains = [model for model in record.alive if isinstance(model, keras.Sequential)]
            inner = {id(graph) for model in chains for graph in _own(model)}
            shared = [(m, layer) for m in outer if id(m) not in inner for layer in layers_of(m) if id(layer) in todo]
            if not shared:
                return
            if not again:
                gc.collect()  # models that nobody holds any more count for nothing
        other, layer = shared[0]
        raise InjectionError(
            f"Layer '{layer.name}' cannot be changed: another model, '{other.name}', uses it too.\n"
            "  Build the other model after fit, or take the name out of the space."
        )


def _knows_shapes(layer: Any) -> bool:
    """Whether a layer keeps anything that follows from the shape of its input."""
    return isinstance(layer, keras.Layer) and bool(layer.variables or not getattr(layer.build, "_is_default", False))


def _is_graph(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and record.is_plain(type(layer))


def _own(model: Any) -> list[Any]:
    """The graphs that a Sequential model makes of itself, a new one each time that it is built, and all kept."""
    return [layer for layer in model._tracker.config["layers"][1] if layer not in model.layers]  # noqa: SLF001
