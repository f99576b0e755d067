"""Where hyperparameters live in Keras objects: the slots of one fit, and the checks that they took effect."""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras.src.trainers.data_adapters import array_data_adapter

from tunehook.errors import InjectionError
from tunehook.inject import Slot, resolve, tell_late
from tunehook.inject.calls import Call, Trace, is_read
from tunehook.integrations import keras_config as config
from tunehook.integrations import keras_record as record
from tunehook.integrations.keras_arguments import KerasArguments, MethodArguments
from tunehook.integrations.keras_compiled import Compiled
from tunehook.integrations.keras_graph import Graph
from tunehook.integrations.keras_model import UserModel
from tunehook.integrations.keras_places import Place, Typed, flat, other_optimizers

_OF_FIT = ("batch_size", "epochs")


class KerasSlots:
    """The slots of one fit.

    The callback makes one when ``fit`` is called, lets it `confirm`, and applies its values; `check_schedules` in the
    first ``on_epoch_begin``, `check_stepped` at the end of that epoch; `finish` whenever the fit ends.

    Args:
        model: The model.
        call: The arguments of ``fit``, which are changed in place.
        trace: What the training function has made; ``None`` where its trial is known in the fit only.

    Attributes:
        slots: All slots.
        notes: Lines for error messages on slots that cannot be listed one by one.
        places: Where the values of slots were typed in, by path; those of all others are put in by the fit.

    Example:
        >>> slots = KerasSlots(model, inspect.signature(model.fit).bind(x, y, epochs=3))
        >>> injection = Injection({"units": 32}, slots.slots, notes=slots.notes, find=slots.find)
        >>> injection.apply()
    """

    def __init__(self, model: Any, call: inspect.BoundArguments, trace: Trace | None = None) -> None:
        self.model = model
        self.places: dict[str, Place] = {}
        self._trace = trace
        self._typed = None if trace is None else Typed(trace, model, flat(call.arguments.get("callbacks")))
        self._fit = FitCall(call)
        self._compiled = Compiled(model)
        self._user = None if record.is_plain(type(model)) else UserModel(model)
        self._layers: Graph | UserModel = Graph(model) if self._user is None else self._user
        self._staged: dict[str, Any] = {}
        self._undo: list[Callable[[], None]] = []
        self._made: dict[str, Any] = {}  # what Keras made of injected values, as it shows them
        self._where = {f"layer.{path}": row for path, row in self._layers.settings().items()}
        self.slots = [*self._arguments(), *self._optimizer(), *self._layer_settings()]
        self.slots = self._joined([*self.slots, *self._known_from_calls(), *self._fit.slots()])
        self.notes = self._notes()
        if trace is not None:
            trace.take(self._fit, MethodArguments(type(model), call, _OF_FIT), lambda *_: {})
            self.places |= {f"fit.{name}": (self._fit_call, name) for name in _OF_FIT}

    @property
    def _fit_call(self) -> Call:
        assert self._trace is not None, "asked for where there is one"  # noqa: S101
        call = self._trace.of(self._fit)
        assert call is not None, "it was taken"  # noqa: S101
        return call

    def confirm(self) -> None:
        """See that the trial's values went into the calls that made the objects of the first fit.

        Raises:
            Again: They did not.
            InjectionError: A value has the wrong type.
        """
        if self._trace is None:
            return
        if not self._trace.is_confirmed:
            for name in self._trace.values:
                for slot in self._meant(name):
                    if slot.path.startswith("fit."):  # whose values are put in now, into this call
                        self._fit_call.edits[slot.path.removeprefix("fit.")] = name
            self._trace.confirm(self.slots, self._sites(), find=self.find)
        self._trace.begin_fit()

    def _meant(self, name: str) -> list[Slot]:
        with contextlib.suppress(InjectionError):  # told when the values are put in
            return resolve(name, self.slots, find=self.find)
        return []

    def left_out(self) -> set[str]:
        """The names of the space that a later fit of a trial leaves to its script."""
        return set() if self._trace is None else self._trace.names_left_out(self.slots, self._sites(), find=self.find)

    def _sites(self) -> dict[str, list[Place]]:
        return {path: [place] for path, place in self.places.items()}

    def find(self, path: str) -> Slot | None:
        """The learning rate by the name that other frameworks give it."""
        rate = "optimizer.learning_rate"
        if path not in ("lr", "optimizer.lr") or any(slot.short == "lr" for slot in self.slots):
            return None
        return next((slot for slot in self.slots if slot.path == rate), None)

    @property
    def steps(self) -> int:
        """How many steps the optimizer has made."""
        return self._compiled.steps

    def check_schedules(self, callbacks: Sequence[Any]) -> None:
        """Check that no schedule among the callbacks sets a learning rate that knows nothing of the injected one.

        Args:
            callbacks: The callbacks of the fit.

        Raises:
            InjectionError: One does.
        """
        if "optimizer.learning_rate" not in self._staged:
            return
        for other in callbacks:
            if isinstance(other, keras.callbacks.LearningRateScheduler) and not _takes_rate(other.schedule):
                raise InjectionError(
                    "optimizer.learning_rate has no effect: LearningRateScheduler sets the learning rate in every "
                    "epoch by a schedule that uses the epoch only.\n"
                    "  Let it take the present rate too, schedule(epoch, lr), and return a multiple of it; or take the "
                    "name out of the space."
                )

    def check_stepped(self) -> None:
        """Check at the end of the first epoch that the optimizer which takes a value is the one that trains.

        Raises:
            InjectionError: It has made no step.
        """
        taken = [path for path in self._staged if path.startswith("optimizer.")]
        is_late = getattr(self.model.optimizer, "gradient_accumulation_steps", None) or isinstance(
            self.model.optimizer, keras.optimizers.LossScaleOptimizer
        )  # whose first step may come later
        if not taken or is_late:
            return
        if hasattr(self.model, "jax_state_sync"):  # JAX keeps the variables elsewhere during an epoch
            self.model.jax_state_sync()
        if self.steps == 0:
            others = [f"'{path}.learning_rate'" for path, _ in other_optimizers(self.model) if self._typed is not None]
            raise InjectionError(
                f"Nothing uses {', '.join(taken)}: the optimizer that {type(self.model).__name__} was compiled with "
                f"({type(self.model.optimizer).__name__}) has made no step in the first epoch.\n"
                + (f"  Tune the one that trains, such as {others[0]}, " if others else "  Let it train, ")
                + "or take the name out of the space."
            )

    def undo(self) -> None:
        """Take all values back out of a model that made no step with them. May be called more than once."""
        while self._undo:
            self._undo.pop()()
            self.model.train_function = self.model.test_function = self.model.predict_function = None

    def settle(self) -> None:
        """Forget what was there before, with its weights: the model has made steps, and there is no way back."""
        self._undo.clear()
        self._layers.settle()

    def finish(self) -> None:
        """Undo what was for this fit only. May be called more than once."""
        self._fit.undo()

    # ------------------------------------------------------------------ the slots

    def _arguments(self) -> list[Slot]:
        if self._user is None:
            return []
        user = self._user
        return [
            self._slot(
                f"model.{name}", functools.partial(self._argument, name), user.type_of(name), rank=user.rank(name)
            )
            for name in user.values()
        ]

    def _optimizer(self) -> list[Slot]:
        return [
            self._slot(
                f"optimizer.{path}",
                functools.partial(self._compiled.present, path),
                _number(value),
                rank=1,
                listed=config.is_shown(path, value),
            )
            for path, value in self._compiled.settings().items()
        ]

    def _layer_settings(self) -> list[Slot]:
        return [
            self._slot(
                path,
                functools.partial(self._setting, path),
                _number(value),
                rank=1,
                listed=config.is_shown(path, value),
            )
            for path, (_, _, value) in self._where.items()
        ]

    def _known_from_calls(self) -> list[Slot]:
        """Those that nobody but a call knows of, such as settings of layers in layers."""
        typed, taken = self._typed, {slot.path for slot in self.slots}
        if typed is None:
            return []
        found = []
        for path, place, rank in typed.more():
            if path not in taken:
                self.places[path] = place
                value = typed.present(place)
                kind = place[0].arguments.type_of(place[1]) if path.startswith("model.") else _number(value)
                is_listed = rank < 2 and (rank == 0 or config.is_shown(path, value))
                get = functools.partial(typed.present, place)
                found.append(self._slot(path, get, kind, rank=rank, listed=is_listed))
        return found

    def _joined(self, slots: list[Slot]) -> list[Slot]:
        """The slots; those are set together that lead to one argument, such as a regularizer's of two layers."""
        counts: dict[Place, int] = {}
        for place in self.places.values():
            counts[place] = counts.get(place, 0) + 1
        shared = {path: place for path, place in self.places.items() if counts[place] > 1}
        return [
            dataclasses.replace(slot, joint=f"{id(shared[slot.path][0])}.{shared[slot.path][1]}")
            if slot.path in shared
            else slot
            for slot in slots
        ]

    def _place(self, path: str) -> Place | None:
        owner, _, rest = path.partition(".")
        if self._typed is None:
            return None
        if owner == "model":
            return self._typed.argument(rest)
        if owner == "optimizer":
            return self._typed.optimizer(self._compiled.optimizer, rest)
        return self._typed.layer(rest, self._where[path][2])

    def _slot(self, path: str, get: Callable[[], Any], kind: object, *, rank: int = 0, listed: bool = True) -> Slot:
        place = self.places.get(path) or self._place(path)
        if place is not None:
            self.places[path] = place
        return Slot(
            path,
            get=functools.partial(self._present, path, get),
            set=functools.partial(self._staged.__setitem__, path),
            commit=self._commit,
            rank=rank,
            type=kind,
            listed=listed,
        )

    def _notes(self) -> list[str]:
        found = []
        is_typed = self._typed is not None and self._typed.knows_model
        if self._user is not None and self._user.why_not and not is_typed:
            found.append(f"model.<argument>, layer.<name>.<setting>: not possible, {self._user.why_not}")
        made = {path.rpartition(".")[0] for path in self.places}
        closed = {name: why for name, why in self._layers.closed.items() if f"layer.{name}" not in made}
        found += [f"layer.{name}.<setting>: not possible, {why}" for name, why in closed.items()]
        if self._compiled.why_not and "optimizer.0" not in made:
            found.append(f"optimizer.<setting>: not possible, {self._compiled.why_not}")
        if self._compiled.schedule:
            found.append(
                f"optimizer.learning_rate: not possible, {self._compiled.schedule} gives it, whose settings are above"
            )
        if self._user is None:
            found.append("the number of layers: not possible, but as an argument of a model class of yours")
        if is_typed:
            found.append("compile.<argument>, such as compile.loss; callback.<class>.<argument> of a callback")
        return [*found, "any other setting of the optimizer or of a layer, such as kernel_initializer"]

    # ------------------------------------------------------------------ values

    def _present(self, path: str, read: Callable[[], Any]) -> Any:
        """The value of a slot now; an injected one as it was given, where Keras keeps it rounded or as an object."""
        present = read()
        return self._staged[path] if path in self._made and self._made[path] == present else present

    def _argument(self, name: str) -> Any:
        return None if self._user is None else self._user.values().get(name)

    def _setting(self, path: str) -> Any:
        """A setting of a layer; those that nobody changes are read once."""
        if path in self._staged and path not in self.places:
            self._where |= {f"layer.{name}": row for name, row in self._layers.settings().items()}
        return self._where[path][2]

    def _commit(self) -> None:
        """Put all staged values into effect; nothing is done where all are the present ones."""
        slots = {slot.path: slot for slot in self.slots}
        self._check_read()
        changed = {
            path: value
            for path, value in self._staged.items()
            if path not in self.places and not config.alike(value, slots[path].get())
        }
        self._made = {path: slots[path].get() for path in self._staged if path not in changed}
        arguments = {path.removeprefix("model."): value for path, value in changed.items() if path.startswith("model.")}
        optimizer = {
            path.removeprefix("optimizer."): value for path, value in changed.items() if path.startswith("optimizer.")
        }
        layers: dict[str, dict[str, Any]] = {}
        for path, value in changed.items():
            if path in self._where:
                name, setting, _ = self._where[path]
                layers.setdefault(name, {})[setting] = value
        if not changed:
            return
        if (arguments or layers) and self._user is not None and self._typed is not None and self._typed.knows_model:
            raise InjectionError(
                f"{', '.join(changed)} cannot be injected: {self._user.name} was made by the training function, and "
                "what it was given for that was made elsewhere.\n"
                "  Make it inside the training function, or take the name out of the space."
            )
        before = {path: slots[path].get() for path in changed}
        self._compiled.check_fresh(", ".join(changed))
        is_rebuilt = bool(arguments or layers)
        if is_rebuilt:
            tell_late(", ".join(changed))
        self._undo = [self._layers.restore, self._compiled.holding()]
        with self._compiled.changed(optimizer, is_rebuilt=is_rebuilt), contextlib.ExitStack() as stack:
            if isinstance(self._layers, Graph):
                stack.push(self._restore)
                self._layers.rebuild(layers)
            elif arguments or layers:
                self._layers.rebuild(arguments, layers)
        for path, value in changed.items():
            present = slots[path].get()
            if isinstance(present, config.ObjectName) or config.alike(value, present) or present != before[path]:
                self._made[path] = present  # in the form that Keras gives it
        # What was compiled for a predict or evaluate before fit holds the old layers.
        self.model.train_function = self.model.test_function = self.model.predict_function = None

    def _check_read(self) -> None:
        """Check that the constructor of a model reads the arguments into which values were typed."""
        for path in self._staged:
            if not path.startswith("model.") or path not in self.places:
                continue
            call, name = self.places[path]
            own = call.arguments
            name = name.partition(".")[0]
            is_own = isinstance(own, KerasArguments) and own.kind == "model" and name in own.parameters
            if is_own and not is_read(own.cls, own.base, name):
                raise InjectionError(
                    f"Nothing uses {path}: no line of the constructor of {own.cls.__name__} reads it.\n"
                    f"  Use the argument in {own.cls.__name__}, or take it out of the space."
                )

    def _restore(self, kind: object, *_rest: object) -> None:
        if kind is not None and isinstance(self._layers, Graph):
            self._layers.restore()


def _number(value: Any) -> object:
    """The type of a setting that is a number now; all others may be several things."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int | float


class FitCall:
    """The arguments of one call of ``fit``.

    Args:
        call: The arguments, which are changed in place.
    """

    def __init__(self, call: inspect.BoundArguments) -> None:
        self._call = call
        self._size: int | None = None  # of a loader, before it was changed

    def slots(self) -> list[Slot]:
        """``fit.batch_size`` and ``fit.epochs``."""
        return [
            Slot("fit.batch_size", get=self._batch_size, set=self._set_batch_size, rank=1, type=int),
            Slot("fit.epochs", get=self._epochs, set=self._set_epochs, rank=1, type=int),
        ]

    def undo(self) -> None:
        """Give a loader its own batch size back."""
        if self._size is not None:
            _resize(self._data, self._size)
            self._size = None

    @property
    def _data(self) -> Any:
        return self._call.arguments.get("x")

    def _epochs(self) -> Any:
        return self._call.arguments.get("epochs", 1)

    def _set_epochs(self, value: int) -> None:
        if value < 1:
            raise InjectionError(f"fit.epochs is at least 1; got {value!r}.\n  Give the space a lower bound of 1.")
        self._call.arguments["epochs"] = value

    def _batch_size(self) -> Any:
        if _is_loader(self._data):
            return self._data.batch_size
        return self._call.arguments.get("batch_size") or (32 if self._is_arrays() else None)

    def _is_arrays(self) -> bool:
        given = (self._data, self._call.arguments.get("y"))
        return bool(array_data_adapter.can_convert_arrays(given))

    def _set_batch_size(self, value: int) -> None:
        if value < 1:
            raise InjectionError(f"fit.batch_size is at least 1; got {value!r}.\n  Give the space a lower bound of 1.")
        if self._is_arrays():
            self._call.arguments["batch_size"] = value
        elif _is_loader(self._data):
            self._size = self._data.batch_size
            _resize(self._data, value)
        else:
            raise InjectionError(
                f"fit.batch_size = {value} cannot be injected: x is a {type(self._data).__name__}, which makes its "
                "batches by itself.\n"
                "  Pass arrays or a torch DataLoader with a batch size, or take 'fit.batch_size' out of the space."
            )


def _is_loader(data: Any) -> bool:
    """Whether data is a loader of torch that batches by a number."""
    if not any(f"{cls.__module__}.{cls.__qualname__}".startswith("torch.utils.data.") for cls in type(data).__mro__):
        return False
    sampler = getattr(data, "batch_sampler", None)
    return type(sampler).__name__ == "BatchSampler" and type(sampler).__module__.startswith("torch.")


def _resize(loader: Any, size: int) -> None:
    loader.batch_sampler.batch_size = size
    object.__setattr__(loader, "batch_size", size)  # a DataLoader forbids to set it


def _takes_rate(schedule: Any) -> bool:
    """Whether a schedule of epoch and rate uses the rate."""
    try:
        inspect.signature(schedule).bind(0, 0.1)
    except TypeError:
        return False
    code = getattr(schedule, "__code__", None)
    if code is None or code.co_argcount < 2 or code.co_flags & inspect.CO_VARARGS:
        return True
    name = code.co_varnames[1]
    used = [item.argval for item in dis.get_instructions(code) if item.argval is not None]
    return any(name == each or (isinstance(each, tuple) and name in each) for each in used)
