"""Models of a class of the user's own, constructed again in place with other arguments, as if typed in."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras.src import tree
from keras.src.utils.rng_utils import get_random_seed

from tunehook.errors import InjectionError
from tunehook.inject import same, show
from tunehook.inject.arguments import Arguments, signature_of
from tunehook.integrations import keras_compiled as compiled
from tunehook.integrations import keras_config as config
from tunehook.integrations import keras_record as record
from tunehook.integrations.keras_layer import MADE_BY_NEW, Changes, first_line, kept_weights, put_back, same_bits
from tunehook.integrations.keras_seeds import made_again
from tunehook.patches import stands_for
from tunehook.randomness import same_part, same_random

_SIMPLE = (int, float, complex, str, bytes, type(None))
_OF_KERAS = (keras.Layer, keras.Variable, keras.random.SeedGenerator, keras.metrics.Metric)
_TOO_EARLY = "it was constructed before tunehook.integrations.keras was imported"


class UserModel(Arguments):
    """A model whose constructor is the user's: its arguments, and the settings of the layers that it makes.

    Args:
        model: The model.

    Attributes:
        why_not: Why the constructor cannot be called again, ``""`` where it can.
        closed: Why a layer's settings cannot be changed, by its name.
    """

    def __init__(self, model: Any) -> None:
        cls = type(model)
        super().__init__(cls, next(base for base in cls.__mro__ if record.is_plain(base)))
        self.model, self.name = model, cls.__name__
        self.why_not = ""
        self.closed: dict[str, str] = {}
        self._before: tuple[dict[str, Any], dict[str, Any], dict[str, int]] | None = None
        self._load()

    def _load(self) -> None:
        self._call: Mapping[str, Any] | None = vars(self.model).get(record.KEY)
        self.bound = self.signature.bind_partial()
        if self._call is None:
            self.why_not = _TOO_EARLY
            return
        try:
            self.bound = self.signature.bind(*self._call["args"], **self._call["kwargs"])
        except TypeError:  # a metaclass or factory hands on other arguments
            self.why_not = "its constructor was not called with the arguments of its class"

    def values(self) -> dict[str, Any]:
        """The present arguments by name, defaults included; none where the constructor cannot be called again."""
        given = {} if self.why_not else super().values()
        return {name: value for name, value in given.items() if name not in ("name", "dtype", "trainable")}

    def layers(self) -> dict[str, Any]:
        """The layers that its constructor makes, by name, those in layers of the user's by path; Keras's own hide."""
        return {
            name: layer for name, layer in _named_layers(self.model) if not isinstance(layer, keras.layers.InputLayer)
        }

    def settings(self) -> dict[str, tuple[str, str, Any]]:
        """Name of the layer, path of the setting and present value, by ``<layer>.<setting>``."""
        found: dict[str, tuple[str, str, Any]] = {}
        for name, layer in ({} if self.why_not else self.layers()).items():
            try:
                rows = list(config.settings(config.read(layer)))
            except Exception as error:  # noqa: BLE001 - get_config is the user's code
                self.closed[name] = first_line(error)
                continue
            found |= {f"{name}.{path}": (name, path, value) for path, value in rows}
        return found

    def rebuild(self, new: Mapping[str, Any], changes: Mapping[str, Changes]) -> None:
        """Construct the model again in place, and compile it as before.

        Args:
            new: New arguments.
            changes: New settings by the name of the layer.

        Raises:
            InjectionError: It cannot be constructed again so that it equals the plain script. It is as before.
        """
        names = ", ".join([*(f"model.{name}" for name in new), *(f"layer.{name}" for name in changes)])
        before, now, counted = dict(vars(self.model)), record.randomness(), record.names()
        self._before = before, now, counted
        try:
            end = Rebuilt(self, new, changes, names).run()
        except BaseException:
            self.restore()
            raise
        made = record.names()
        record.restore_names({name: max(counted.get(name, 0), made.get(name, 0)) for name in counted | made})
        record.restore_randomness({**now, **end})
        self._load()

    def restore(self) -> None:
        """Put everything back as it was before `rebuild`."""
        if self._before is not None:
            before, now, counted = self._before
            put_back(self.model, before)
            record.restore_randomness(now)
            record.restore_names(counted)
            self._before = None

    def settle(self) -> None:
        """Forget what was there before `rebuild`."""
        self._before = None

    @property
    def call(self) -> Mapping[str, Any]:
        """The recorded call."""
        assert self._call is not None, "checked by why_not"  # noqa: S101
        return self._call

    def check_compile(self, names: str) -> None:
        """Check that the model can be compiled again.

        Args:
            names: What is about to change, for the message.

        Raises:
            InjectionError: Its ``compile`` is the user's own.
        """
        owner = next(cls for cls in self.cls.__mro__ if "compile" in vars(cls))
        if not record.is_plain(owner):
            raise InjectionError(
                f"{names} cannot be changed: {owner.__name__} has a compile() of its own, so that a {self.name} cannot "
                "be compiled again as it was.\n"
                "  Move what compile() does into the constructor, or take the name out of the space."
            )


class Rebuilt:
    """One model, constructed again in place beside a control: the same call with the old values.

    Args:
        part: The model as a constructor call.
        new: Its new arguments.
        changes: New settings of its layers, by name.
        names: What changes, for messages.
    """

    def __init__(self, part: UserModel, new: Mapping[str, Any], changes: Mapping[str, Changes], names: str) -> None:
        self._part, self._new, self._changes, self._names = part, new, changes, names
        self._old = {name: value for name, value in part.values().items() if name in new}
        self._shapes = part.model.get_build_config() if part.model.built and part.model.weights else None
        # Whether it was built by a call, in which its weights are called after it.
        self._is_called = any(weight.path.startswith(f"{part.model.name}/") for weight in part.model.weights)
        self._now = record.randomness()

    def run(self) -> dict[str, Any]:
        """Construct, build and compile the model.

        Returns:
            The random state that the plain script would have now.
        """
        part, model = self._part, self._part.model
        if model.compiled:
            part.check_compile(self._names)
        control, old_end = self._throwaway({})
        self._check_unchanged(control)
        olds, flags = list(model.variables), _flags(model)
        arguments = dict(model._compile_config.config) if model.compiled else None  # noqa: SLF001 - no public way
        scaled = isinstance(getattr(model, "optimizer", None), keras.optimizers.LossScaleOptimizer)
        end = self._in_place()
        self._check_used(control, old_end, end)
        self._settle_flags(flags, control)
        self._settle_weights(olds, control)
        if arguments is not None:
            compiled.compile_again(model, arguments, scaled=scaled)
        return self._moved(old_end, end)

    # ------------------------------------------------------------------ construction

    def _throwaway(self, new: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Another object of the class, and the random state after its construction."""
        args, kwargs = self._part.arguments(new)
        return self._constructed(lambda: self._part.cls(*args, **kwargs))

    def _in_place(self) -> dict[str, Any]:
        part, model = self._part, self._part.model
        args, kwargs = part.arguments(self._new)
        call = {**part.call, "args": args, "kwargs": kwargs}
        edits = self._edits() if self._changes else contextlib.nullcontext()
        kept = {name: vars(model)[name] for name in MADE_BY_NEW if name in vars(model)} | {record.KEY: call}

        def again() -> Any:
            vars(model).clear()
            vars(model).update(kept)
            part.cls.__init__(model, *args, **kwargs)  # type: ignore[misc]
            return model

        with edits:
            return self._constructed(again)[1]

    def _constructed(self, make: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
        """Call a constructor in the surroundings of the first time, and build the model where it was built."""
        call, dtype = self._part.call, keras.config.dtype_policy()
        record.restore_randomness(call["random"])
        record.restore_names(call["names"])
        keras.config.set_dtype_policy(call["dtype"])
        try:
            made = make()
            if self._shapes:
                with made._open_name_scope() if self._is_called else contextlib.nullcontext():  # noqa: SLF001
                    made.build_from_config(self._shapes)
        except Exception as error:
            given = ", ".join(f"{name} = {value!r}" for name, value in self._new.items()) or "its own arguments"
            raise InjectionError(
                f"{self._part.name} cannot be constructed again with {given}: {first_line(error)}\n"
                "  Its constructor must not use up what it is given, and must take the values of the space."
            ) from error
        finally:
            keras.config.set_dtype_policy(dtype)
        return made, record.randomness()

    @contextlib.contextmanager
    def _edits(self) -> Iterator[None]:
        """Lead the constructors of the layers whose settings change; layers are told by the order of their making."""
        kinds = {type(layer) for name, layer in self._part.layers().items() if name in self._changes}
        made: list[Any] = []

        def note(layer: Any, _init: Any, args: Any, kwargs: Any) -> Any:
            made.append(layer)
            return args, kwargs

        with _led(kinds, note):
            control, _ = self._throwaway(self._new)
        names = {id(layer): name for name, layer in _named_layers(control)}
        order = [names.get(id(layer), "") for layer in made]
        absent = self._changes.keys() - set(order)
        if absent:
            raise InjectionError(
                f"layer.{min(absent)} does not exist any more with the other new values of {self._part.name}.\n"
                "  Take one of the names out of the space."
            )
        configs = {name: config.read(layer) for name, layer in _named_layers(control) if name in self._changes}
        count = iter(order)

        def lead(layer: Any, init: Any, args: Any, kwargs: Any) -> Any:
            name = next(count)
            if name not in self._changes:
                return args, kwargs
            args, kwargs = _with_settings(init, args, kwargs, configs[name], self._changes[name])
            given = signature_of(init).bind(None, *args, **kwargs).arguments
            record.note_settings(layer, {path: given[path] for path in self._changes[name] if path in given})
            return args, kwargs

        with _led(kinds, lead):
            yield

    # ------------------------------------------------------------------ checks

    def _check_unchanged(self, control: Any) -> None:
        """Check that the live model is what its constructor made, but for weights and flags."""
        live, made = _attributes(self._part.model), _attributes(control)
        differing = _differing(live, made)
        if differing:  # a constructor that is not deterministic (a clock, a unique name) differs from itself too
            again, _ = self._throwaway({})
            differing -= _differing(made, _attributes(again))
        if differing:
            used = [name for name, value in self._part.bound.arguments.items() if isinstance(value, Iterator)]
            if used:
                raise InjectionError(
                    f"{self._names} cannot be injected: {self._part.name} was given an iterator as '{used[0]}', "
                    "which is used up, so that it cannot be constructed again.\n  Give it a list."
                )
            names = sorted(_whole(differing))
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise InjectionError(
                f"{self._names} cannot be injected: {self._part.name} was changed after it was constructed ({shown}), "
                "and constructing it anew would lose that.\n"
                f"  Do it in {self._part.name}.__init__, or take the name out of the space."
            )

    def _check_used(self, control: Any, old_end: Mapping[str, Any], end: Mapping[str, Any]) -> None:
        """Check that every new argument made a difference."""
        live, made = _attributes(self._part.model), _attributes(control)
        own = _differing(live, made)
        for name, value in self._new.items():
            if any(same(value, live.get(path)) and same(self._old.get(name), made.get(path)) for path in own):
                continue
            if len(self._new) == 1 and not self._changes:
                without, other, full, full_end = control, old_end, self._part.model, end
            else:
                full, full_end = self._throwaway(self._new)
                without, other = self._throwaway({**self._new, name: self._old[name]})
            alike = not _differing(_attributes(full), _attributes(without)) and same_random(full_end, other)
            if alike and _same_objects(full, without) and _same_weights(full, without):
                raise InjectionError(
                    f"Nothing uses model.{name}: {self._part.name} is the same with {show(self._old[name])} and with "
                    f"{show(value)}.\n  Use the argument in {self._part.name}, or take it out of the space."
                )

    def _settle_flags(self, flags: Mapping[str, bool], control: Any) -> None:
        """Keep layers frozen that were frozen after construction."""
        made = _flags(control)
        layers = dict(_paths(self._part.model))
        for path in sorted(path for path in flags if flags[path] != made.get(path)):
            if path not in layers:
                raise InjectionError(
                    f"{self._names} cannot be injected: the layer {path} of {self._part.name} was frozen after it was "
                    "constructed, and does not exist with the new values.\n  Freeze it in the constructor."
                )
            layers[path].trainable = flags[path]

    def _settle_weights(self, olds: list[Any], control: Any) -> None:
        """Keep weights that were loaded or trained before."""
        news = self._part.model.variables
        places = kept_weights(olds, control.variables, news) if olds else []
        if places is None:
            raise InjectionError(
                f"{self._names} changes the shape of the weights of {self._part.name}, but they were loaded or trained "
                "before fit.\n"
                "  Such a hyperparameter can only be tuned from scratch: take it out of the space, or do not load."
            )
        for place in places:
            news[place].assign(olds[place].value)

    def _moved(self, old_end: Mapping[str, Any], end: Mapping[str, Any]) -> dict[str, Any]:
        """The random state now, moved by what the new arguments draw more or less, one generator at a time."""
        seed = get_random_seed()
        moved = dict(self._now)
        for part in self._now:
            if same_part(part, old_end, end):
                continue
            if same_part(part, self._now, old_end):
                moved[part] = end[part]
            elif seed is not None and not same_part(part, self._now, record.fresh_randomness(seed)):
                raise InjectionError(
                    f"{self._names}: the random state moved between the construction of {self._part.name} and fit by "
                    "code that cannot be replayed, so that the trial would not equal the same script with the value "
                    "typed in.\n"
                    f"  Construct {self._part.name} right before fit, or call keras.utils.set_random_seed again right "
                    "before it."
                )
        return moved


@contextlib.contextmanager
def _led(kinds: set[type], lead: Callable[[Any, Any, Any, Any], Any]) -> Iterator[None]:
    """Let ``lead`` change the arguments of every construction of some classes of layers."""
    with contextlib.ExitStack() as stack:
        for cls in kinds:
            stack.callback(_undo, cls, vars(cls).get("__init__"))
            cls.__init__ = _leading(cls, cls.__init__, lead)  # type: ignore[misc]
        yield


def _leading(cls: type, init: Any, lead: Callable[[Any, Any, Any, Any], Any]) -> Any:
    @stands_for(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes one
        if type(self) is cls:
            args, kwargs = lead(self, init, args, kwargs)
        init(self, *args, **kwargs)

    return __init__


def _undo(cls: Any, own: Any) -> None:
    if own is None:
        del cls.__init__
    else:
        cls.__init__ = own


def _with_settings(init: Any, args: Any, kwargs: Any, present: Mapping[str, Any], changes: Changes) -> Any:
    """The arguments of a layer's constructor with other settings."""
    signature = signature_of(init)
    bound = signature.bind(None, *args, **kwargs)
    rest = next((item.name for item in signature.parameters.values() if item.kind is item.VAR_KEYWORD), None)
    made = config.edited(present, changes)
    for key in {path.partition(".")[0] for path in changes}:
        value = made[key]
        if config.is_object(value):
            value = made_again(bound.arguments.get(key), value)
        if key in signature.parameters:
            bound.arguments[key] = value
        else:
            bound.arguments.setdefault(str(rest), {})[key] = value
    return bound.args[1:], bound.kwargs


def _named_layers(model: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for layer in model._flatten_layers(include_self=False, recursive=False):  # noqa: SLF001
        name = f"{prefix}{layer.name}"
        yield name, layer
        if not record.is_plain(type(layer)):
            yield from _named_layers(layer, f"{name}.")


def _paths(model: Any) -> Iterator[tuple[str, Any]]:
    """The model and all layers in it, by their names from the top; layers of one name are counted."""
    seen: dict[str, int] = {}

    def below(owner: Any, path: str) -> Iterator[tuple[str, Any]]:
        for layer in owner._flatten_layers(include_self=False, recursive=False):  # noqa: SLF001
            name = f"{path}{layer.name}"
            seen[name] = seen.get(name, 0) + 1
            yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), layer
            yield from below(layer, f"{name}.")

    yield "", model
    yield from below(model, "")


def _flags(model: Any) -> dict[str, bool]:
    return {path: layer._trainable for path, layer in _paths(model)}  # noqa: SLF001 - trainable asks the layers below


@functools.cache
def _managed() -> frozenset[str]:
    """Attributes that Keras itself sets on a compiled model."""
    with record.kept_names():
        plain = keras.Model()
        plain.compile("sgd", "mse")
    return frozenset(vars(plain)) | {"history", "name", "stop_predicting", "stop_evaluating"}


def _attributes(model: Any) -> dict[str, Any]:
    """What the constructor set, by path: simple values as they are, all else by its class."""
    found: dict[str, Any] = {}
    for path, layer in _paths(model):
        found[f"{path} (class)"] = type(layer).__name__
        for name, value in vars(layer).items():
            if name in _managed() or name == record.KEY:
                continue
            if isinstance(value, _SIMPLE) or _is_plain_row(value):
                found[f"{path}.{name}".lstrip(".")] = value
            elif not name.startswith("_") and not isinstance(value, keras.Variable):
                found[f"{path}.{name}".lstrip(".")] = type(value).__name__
        if record.is_plain(type(layer)) and layer is not model:
            with contextlib.suppress(Exception):
                found[f"{path} (config)"] = {
                    key: value for key, value in config.read(layer).items() if key not in ("name", "trainable", "dtype")
                }
    return found


def _same_objects(one: Any, other: Any) -> bool:
    """Whether what the user's classes hold beside layers is equal; what cannot say so counts as different."""
    ones, others = dict(_objects(one)), dict(_objects(other))
    return ones.keys() == others.keys() and all(_alike(ones[path], others[path]) for path in ones)


def _objects(model: Any) -> Iterator[tuple[str, Any]]:
    for path, layer in _paths(model):
        for name, value in {} if record.is_plain(type(layer)) else vars(layer).items():
            if name in _managed() or name == record.KEY:
                continue
            leaves = [leaf for leaf in tree.flatten(value) if not isinstance(leaf, _OF_KERAS)]
            yield f"{path}.{name}", leaves


def _is_plain_row(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, _SIMPLE) for item in value)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    return {path for path in one.keys() | other.keys() if path not in one or not _alike(one[path], other.get(path))}


def _whole(paths: set[str]) -> set[str]:
    """Paths of attributes; layers that are there or not count as one each."""
    layers = {path.removesuffix(" (class)") for path in paths if path.endswith(" (class)")}
    starts = tuple(f"{layer}{end}" for layer in layers for end in (".", " ("))
    found = layers | {path for path in paths if not path.startswith(starts)}
    told = {f"{path.rpartition('.')[0]} (config)" for path in found}
    return found - told


def _alike(one: Any, other: Any) -> bool:
    try:
        return bool(one == other or (one != one and other != other))
    except Exception:  # noqa: BLE001 - arrays refuse a single truth value, and other objects raise anything
        return False


def _same_weights(one: Any, other: Any) -> bool:
    ones, others = one.variables, other.variables
    return len(ones) == len(others) and all(map(same_bits, ones, others))
