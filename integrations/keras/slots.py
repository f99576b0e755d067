"""Where hyperparameters live in Keras objects: the slots of one fit, and the checks that they took effect."""

from __future__ import annotations

import dis
import functools
import inspect
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from tunehook.adapter import hear_configurations
from tunehook.inject import Injection, Slot, Trace, is_read, same, show
from tunehook.integrations.keras import config, host
from tunehook.integrations.keras.arguments import KerasArguments, MethodArguments
from tunehook.integrations.keras.compiled import Compiled
from tunehook.integrations.keras.live import why_fixed
from tunehook.integrations.keras.places import Objects, Place, Setting, flat, other_optimizers
from tunehook.trial import InjectionError

_OF_FIT = ("batch_size", "epochs")


class KerasSlots:
    """The slots of one fit.

    The callback makes one when ``fit`` is called, lets it `confirm`, puts its values in and calls `open`;
    `check_schedules` in the first ``on_epoch_begin``, `check_stepped` at the end of that epoch; `finish` whenever the
    fit ends.

    Args:
        model: The model.
        call: The arguments of ``fit``, which are changed in place.
        trace: What the training function has made; ``None`` where its trial is known in the fit only.

    Attributes:
        slots: All slots.
        notes: Lines for error messages on slots that cannot be listed one by one.
        places: Where the values of slots were typed in, by path.

    Example:
        >>> slots = KerasSlots(model, inspect.signature(model.fit).bind(x, y, epochs=3))
        >>> injection = Injection({"epochs": 32}, slots.slots, notes=slots.notes, find=slots.find)
        >>> injection.apply()
    """

    def __init__(self, model: Any, call: inspect.BoundArguments, trace: Trace | None = None) -> None:
        self.model = model
        self._trace = trace
        self._compiled = Compiled(model)
        self._live = self._compiled.settings()
        found = Objects(trace, model, self._compiled, flat(call.arguments.get("callbacks")))
        settings = self._settings = {setting.path: setting for setting in found.settings()}
        self.places: dict[str, Place] = {path: one.place for path, one in settings.items() if one.place is not None}
        self._counts = Counter(self.places.values())
        self._fit = FitCall(call, trace)
        self._paths: list[str] = []  # of the trial's values
        self.slots = [*map(self._slot, settings.values()), *self._fit.slots()]
        self.notes = self._notes()
        self._left_out: set[str] = set()
        if trace is not None:
            own = trace.take(self._fit, MethodArguments(type(model), call, _OF_FIT), lambda *_: {})
            own.is_of_fit = True
            self.places |= {f"fit.{name}": (own, name) for name in _OF_FIT} | self._fit.places

    def confirm(self) -> None:
        """See that the trial's values went into the calls that made the objects of the first fit.

        Raises:
            Again: They did not.
            InjectionError: A value has the wrong type.
        """
        if self._trace is not None:
            places = {path: [place] for path, place in self.places.items()}
            self._left_out = self._trace.enter_fit(self.slots, places, find=self.find, hear=hear_configurations)

    def left_out(self) -> set[str]:
        """The names of the space that a later fit of a trial leaves to its script."""
        return self._left_out

    def find(self, path: str) -> Slot | None:
        """The learning rate by the name that other frameworks give it."""
        rate = "optimizer.learning_rate"
        if path not in ("lr", "optimizer.lr") or any(slot.short == "lr" for slot in self.slots):
            return None
        return next((slot for slot in self.slots if slot.path == rate), None)

    def why_fixed(self, path: str, value: Any) -> str:
        """Why a value cannot change in the middle of a training, ``""`` where it can."""
        return why_fixed(path, value, self.model)

    @property
    def steps(self) -> int:
        """How many steps the optimizer has made."""
        return self._compiled.steps

    def undo(self) -> None:
        """Take all values back out of an optimizer that made no step with them."""
        self._compiled.undo()

    def finish(self) -> None:
        """Undo what was for this fit only. May be called more than once."""
        self._fit.undo()

    # ------------------------------------------------------------------ checks

    def open(self, injection: Injection) -> None:
        """Check that the constructor of a model reads the arguments into which values were typed.

        Args:
            injection: The values that were put in.

        Raises:
            InjectionError: It does not.
        """
        self._paths = [*injection.paths]
        for path, value in injection.paths.items():
            setting = self._settings.get(path)
            if self._trace is not None and setting is not None and not config.alike(setting.value, value):
                self._trace.tell_set(path, value, setting.value)
        for path in self._paths:
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

    def check_schedules(self, callbacks: Sequence[Any]) -> None:
        """Check that no schedule among the callbacks sets a learning rate that knows nothing of the injected one.

        Args:
            callbacks: The callbacks of the fit.

        Raises:
            InjectionError: One does.
        """
        if "optimizer.learning_rate" not in self._paths:
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
        for start, one in other_optimizers(self.model):
            idle = [path for path in self._paths if path.startswith(f"{start}.")]
            if idle and not one.built:
                raise InjectionError(
                    f"Nothing uses {', '.join(idle)}: {type(one).__name__} was given no variable in the first epoch.\n"
                    "  Let it train some, or take the name out of the space."
                )
        taken = [path for path in self._paths if path.startswith("optimizer.")]
        is_late = getattr(self.model.optimizer, "gradient_accumulation_steps", None) or isinstance(
            self.model.optimizer, keras.optimizers.LossScaleOptimizer
        )  # whose first step may come later
        if not taken or is_late:
            return
        host.sync(self.model)
        if self.steps == 0:
            others = [f"'{path}.learning_rate'" for path, _ in other_optimizers(self.model)]
            raise InjectionError(
                f"Nothing uses {', '.join(taken)}: the optimizer that {type(self.model).__name__} was compiled with "
                f"({type(self.model.optimizer).__name__}) has made no step in the first epoch.\n"
                + (f"  Tune the one that trains, such as {others[0]}, " if others else "  Let it train, ")
                + "or take the name out of the space."
            )

    # ------------------------------------------------------------------ the slots

    def _slot(self, setting: Setting) -> Slot:
        """One slot. Those are set together that lead to one argument, such as a regularizer's of two layers."""
        path, place = setting.path, setting.place
        name = path.removeprefix("optimizer.")
        is_late = place is None and self._is_live(path) and self._compiled.is_settable(name)
        return Slot(
            path,
            get=functools.partial(self._present, setting),
            set=functools.partial(self._compiled.stage, name) if is_late else _refusing(setting),
            commit=self._compiled.commit if is_late else None,
            early=is_late,
            rank=setting.rank,
            type=setting.type,
            listed=setting.is_listed,
            alias=setting.alias,
            place="" if place else setting.owner,
            joint=f"{id(place[0])}.{place[1]}" if place is not None and self._counts[place] > 1 else "",
        )

    def _is_live(self, path: str) -> bool:
        return path.startswith("optimizer.") and path.removeprefix("optimizer.") in self._live

    def _present(self, setting: Setting) -> Any:
        """The value of a slot now: as it was given, unless something has set the optimizer since."""
        value = setting.value
        if self._is_live(setting.path):
            value = self._compiled.present(setting.path.removeprefix("optimizer."))
            if value != setting.value:
                return value
        if setting.place is None:
            return value
        return value if _was_set_since(setting) else _given(setting)

    def _notes(self) -> list[str]:
        found = []
        if not host.is_plain(type(self.model)) and (self._trace is None or self._trace.of(self.model) is None):
            found.append(
                f"model.<argument>: not possible, {type(self.model).__name__} was made before this trial was known"
            )
        if self._compiled.why_not:
            found.append(f"optimizer.<setting>: not possible, {self._compiled.why_not}")
        if self._compiled.schedule:
            found.append(
                f"optimizer.learning_rate: not possible, {self._compiled.schedule} gives it, whose settings are above"
            )
        if host.is_plain(type(self.model)):
            found.append("the number of layers: not possible, but as an argument of a model class of yours")
        found.append("compile.<argument>, such as compile.loss; callback.<class>.<argument> of a callback")
        return [*found, "any other setting of the optimizer or of a layer, such as kernel_initializer"]


def _given(setting: Setting) -> Any:
    """What the call that made an object was given for a setting of it."""
    if setting.place is None:
        return setting.value
    call, argument = setting.place
    return call.given.get(argument, setting.value)


def _was_set_since(setting: Setting) -> bool:
    """Whether an object has the script's own value again, as load_model() gives an optimizer the saved rate.

    One that the script makes of the trial's, such as half of it, is neither.
    """
    if setting.place is None or not setting.is_read:
        return False
    call, argument = setting.place
    own = call.present.get(argument)
    return config.differ(_given(setting), setting.value) and not config.differ(own, setting.value)


def _refusing(setting: Setting) -> Any:
    """The setter of a setting whose object was not made with it, and says so; of others there is none."""
    was_set = _was_set_since(setting)
    if not setting.is_made or (setting.place is not None and not was_set):
        return None
    name = setting.path.rpartition(".")[2]

    def refuse(value: Any) -> None:
        if was_set:
            present = show(float(f"{setting.value:.6g}") if isinstance(setting.value, float) else setting.value)
            raise InjectionError(
                f"{setting.path} = {show(value)} has no effect: something set it to {present} after {setting.owner} "
                "was made, as load_model() does with what was saved.\n"
                f"  Set it there, to th.value({name!r}, {present}); or take the name out of the space."
            )
        if not same(value, setting.value):
            raise InjectionError(
                f"{setting.path} = {show(value)} cannot be put in: {setting.owner} was not given it by its name.\n"
                f"  Pass {name}=... there, in the training function; or take the name out of the space."
            )

    return refuse


class FitCall:
    """The arguments of one call of ``fit``.

    Args:
        call: The arguments, which are changed in place.
        trace: What the training function has made.

    Attributes:
        places: Where the batch size of a loader was typed in, by path.
    """

    def __init__(self, call: inspect.BoundArguments, trace: Trace | None) -> None:
        self._call = call
        self._size: int | None = None  # of a loader, before it was changed
        made = None if trace is None or not _is_loader(self._data) else trace.of(self._data)
        is_typed = made is not None and made.in_force().get("batch_size") == self._data.batch_size
        self.places: dict[str, Place] = {"fit.batch_size": (made, "batch_size")} if made and is_typed else {}

    def slots(self) -> list[Slot]:
        """``fit.batch_size`` and ``fit.epochs``."""
        return [
            Slot(
                "fit.batch_size",
                get=self._batch_size,
                set=None if self.places else self._set_batch_size,
                early=_is_loader(self._data),
                rank=1,
                type=int,
            ),
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
        return host.are_arrays(self._data, self._call.arguments.get("y"))

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
                f"  Read it where the batches are made: th.value('batch_size', {value}). Or pass arrays or a torch "
                "DataLoader with a batch size."
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
