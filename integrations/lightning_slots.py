"""Where hyperparameters live in Lightning objects: the slots of a fit, and the checks that they took effect."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunehook.errors import InjectionError, TrialError
from tunehook.inject import Injection, Slot, show
from tunehook.inject.calls import Trace, is_read, trace_in_progress
from tunehook.integrations import lightning_compare as compare
from tunehook.integrations.lightning_calls import Sites
from tunehook.integrations.lightning_construct import Construction
from tunehook.integrations.lightning_loaders import LoaderSize
from tunehook.integrations.lightning_made import MadeObjects
from tunehook.integrations.lightning_rebuild import Rebuilder
from tunehook.integrations.lightning_record import hear_all, hear_loaders, install_recorders, kept_random
from tunehook.integrations.lightning_settings import TrainerSettings

__all__ = ["LightningSlots", "confirm", "hear_all", "hear_loaders", "install_recorders"]


class LightningSlots:
    """The slots of one fit.

    A callback makes one in ``setup``, applies its values and calls `open`; `check_made` in ``on_fit_start``;
    `check_restored` and `check_loaders` in ``on_train_start``; `check_used` after the first training batch; `finish`
    whenever the fit ends.

    Args:
        trainer: The Trainer.
        module: The LightningModule that it fits.
        callback: The callback itself, so that those that stand before it are known.

    Attributes:
        slots: All slots.
        notes: Lines for error messages on slots that cannot be listed one by one.

    Example:
        >>> slots = LightningSlots(trainer, module, callback)
        >>> injection = Injection({"lr": 0.1}, slots.slots, notes=slots.notes, find=slots.find)
        >>> injection.apply()
    """

    def __init__(self, trainer: Any, module: Any, callback: object | None = None) -> None:
        self._trainer = trainer
        self._module = module
        self._rebuilder = Rebuilder(trainer, module, callback)
        self._settings = TrainerSettings(trainer)
        self._made = MadeObjects(trainer, module)
        self._loaders = [
            LoaderSize(trainer.fit_loop, "data.batch_size"),
            LoaderSize(trainer.fit_loop.epoch_loop.val_loop, "data.val_batch_size"),
        ]
        self._reads: list[Reads] = []
        trace, data = trace_in_progress(), next((part.made for part in self._parts if part.kind == "data"), None)
        passed = [size.passed for size in self._loaders]
        self._sites = None if trace is None else Sites(trace, trainer, module, data, passed)
        self.slots = self._all_slots()
        self.notes = [f"{part.kind}.<argument>: not possible, {part.why_not}" for part in self._parts if part.why_not]
        self.notes += self._sites.notes if self._sites is not None else []
        self.notes += [self._made.optimizers.note(), self._made.schedulers.note()]

    @property
    def _parts(self) -> list[Construction]:
        return self._rebuilder.parts

    def _all_slots(self) -> list[Slot]:
        parts = sorted(self._parts, key=lambda part: part.kind != "model")
        found = [self._argument(part, name) for part in parts for name in (*part.values(), *part.missing)]
        taken = {slot.path for slot in found}
        found += [size.slot() for size in self._loaders if size.exists and size.slot().path not in taken]
        found += self._settings.slots() + (self._sites.slots if self._sites is not None else [])
        return found + self._made.optimizers.slots() + self._made.schedulers.slots()

    def _argument(self, part: Construction, name: str) -> Slot:
        both = all(name in each.values() for each in self._parts) and len(self._parts) > 1
        return Slot(
            f"{part.kind}.{name}",
            get=functools.partial(self._rebuilder.get, part, name),
            set=functools.partial(self._rebuilder.set, part, name),
            commit=self._commit,
            rank=part.rank(name),
            alias=f"{part.name}.{name}",
            place=self._place(part.made),
            joint=f"argument:{name}" if both else "",  # Lightning's logger refuses different values of one name
            type=part.type_of(name),
        )

    @staticmethod
    def _place(made: object) -> str:
        trace = trace_in_progress()
        call = None if trace is None else trace.of(made)
        return "" if call is None else call.name

    def _commit(self) -> None:
        self._rebuilder.commit()
        watched = [applied.part for applied in self._rebuilder.applied.values()]
        watched += [part for part in self._parts if self._rebuilder.is_typed_in(part)]
        self._reads = [Reads(part.made) for part in watched]

    def left_out(self) -> set[str]:
        """The names of the space that a later fit of a trial leaves to its script."""
        trace = trace_in_progress()
        if trace is None or self._sites is None:
            return set()
        return trace.names_left_out(self.slots, self._sites.places, find=self.find)

    def find(self, path: str) -> Slot | None:
        """A slot that is not listed: an optimizer's or scheduler's by number, such as ``optimizer.1.lr``."""
        return self._made.find(path)

    def open(self) -> None:
        """Begin to edit the constructor calls of optimizers and schedulers."""
        self._made.open()

    def close(self) -> None:
        """Stop it. May be called at any time and more than once."""
        self._made.close()

    def finish(self) -> None:
        """Undo everything that was for this fit only. May be called at any time and more than once."""
        self.close()
        for size in self._loaders:
            size.undo()
        for reads in self._reads:
            reads.stop()

    def check_made(self, injection: Injection | None) -> None:
        """Check in ``on_fit_start`` that the values for optimizers and schedulers were taken up.

        Args:
            injection: The values that were put in.

        Raises:
            InjectionError: They were not, or something overwrote them, or a setting of the trainer has no effect; or a
                short name that a callback took fits a scheduler as well.
        """
        self.close()
        self._settings.check_automatic(self._module)
        self._made.check_made()
        if injection is None:
            return
        self._made.check_in_vain({path: v for path, v in injection.paths.items() if path.startswith("model.")})
        for path, name in injection.names.items():
            if path.startswith("callback.") and "." not in name and self._made.has_scheduler_with(name):
                raise InjectionError(
                    f"The hyperparameter '{name}' could go to {path} and scheduler.{name}.\n"
                    f"  Write the full path in the space, for example '{path}'."
                )

    def check_restored(self, injected: Iterable[Any]) -> None:
        """Check in ``on_train_start`` that no checkpoint restored an old setting over an injected one.

        Args:
            injected: All injected values.

        Raises:
            InjectionError: One did.
        """
        self._made.check_restored(list(injected))

    def count_steps(self) -> None:
        """Begin to see, in ``on_train_start``, whether optimizers with injected values make a step."""
        self._made.count_steps()

    def check_stepped(self) -> None:
        """Check at the end of the first epoch that they did.

        Raises:
            InjectionError: One did not.
        """
        self._made.check_stepped()

    def check_loaders(self) -> None:
        """Check in ``on_train_start`` that the loaders have the injected batch sizes.

        Raises:
            InjectionError: One has not.
        """
        for size in self._loaders:
            size.check()
        for applied in self._rebuilder.applied.values():
            if "batch_size" in applied.new:
                path = f"{applied.part.kind}.batch_size"
                self._loaders[0].check_passed(path, applied.old.get("batch_size"), applied.new["batch_size"])

    def check_used(self) -> None:
        """Check after the first training batch that every new constructor argument made a difference.

        Raises:
            InjectionError: An argument is stored nowhere, changes nothing, and was not read from ``hparams``.
        """
        reads = {id(each.made): each.stop() for each in self._reads}
        self._check_read(reads)
        for applied in self._rebuilder.applied.values():
            seen = applied.used | reads.get(id(applied.part.made), set())
            with kept_random():
                dead = [name for name in applied.new if seen.isdisjoint(_readings(name)) and applied.is_dead(name)]
            if dead:
                paths = ", ".join(f"{applied.part.kind}.{name}" for name in dead)
                raise InjectionError(
                    f"Nothing uses {paths}: {applied.part.name} is the same with {show(applied.old[dead[0]])} and with "
                    f"{show(applied.new[dead[0]])}, and did not read it from hparams in the first batch.\n"
                    f"  Use the argument in {applied.part.name}, or take it out of the space."
                )

    def _check_read(self, reads: Mapping[int, set[str]]) -> None:
        """Check that of the arguments a value was typed into, each is read by one of the objects that take it."""
        given = [(part, name) for part in self._parts if self._rebuilder.is_typed_in(part)
                 for name in self._rebuilder.staged(part)]  # fmt: skip
        alive = {
            name for part, name in given
            if not _readings(name).isdisjoint(reads.get(id(part.made), set()))
            or is_read(part.cls, part.base, name.partition(".")[0])
        }  # fmt: skip
        dead = [(part, name) for part, name in given if name not in alive]
        if dead:
            part = dead[0][0]
            raise InjectionError(
                f"Nothing uses {', '.join(f'{part.kind}.{name}' for part, name in dead)}: no line of the constructor "
                f"of {part.name} reads it, and it was not read from hparams in the first batch.\n"
                f"  Use the argument in {part.name}, or take it out of the space."
            )


def confirm(trainer: Any, module: Any, data: Any, *loaders: Any) -> None:
    """See, where a fit is called, that the trial's values went into the calls that made its objects.

    Args:
        trainer: The Trainer.
        module: The LightningModule that it will fit.
        data: Its datamodule, ``None`` where there is none.
        loaders: The train and the validation loaders that it is given.

    Raises:
        Again: They did not.
        InjectionError: A value has the wrong type.
        TrialError: A callback has been in the fit of another trial.
    """
    trace = trace_in_progress()
    if trace is None or module is None:
        return
    if trace.is_due:
        _confirm(trace, trainer, module, data, loaders)
        _check_state(trace, trainer.callbacks)
    trace.begin_fit()


_first_states: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()  # of callbacks made outside of trials


def _check_state(trace: Trace, callbacks: Iterable[Any]) -> None:
    """Check that no callback carries what it has seen from one trial to the next.

    Raises:
        TrialError: One was made outside of the training function, and is not as it was then.
    """
    for one in callbacks:
        if trace.of(one) is None:
            state = repr(one.state_dict())
            if _first_states.setdefault(one, state) != state:
                name = type(one).__name__
                raise TrialError(
                    f"{name} has been in the fit of another trial, and goes on from there: {state}.\n"
                    f"  Make it in the training function: train is called for each trial, and so is {name}(...)."
                )


def _confirm(trace: Trace, trainer: Any, module: Any, data: Any, loaders: Sequence[Any]) -> None:
    parts = [Construction(module, "model")]
    if data is not None:
        parts.append(Construction(data, "data"))
    made = MadeObjects(trainer, module)
    sites = Sites(trace, trainer, module, data, loaders)
    slots = [
        Slot(f"{part.kind}.{name}", get=_nothing, set=_nothing, type=part.type_of(name), rank=part.rank(name),
             alias=f"{part.name}.{name}",
             joint=f"argument:{name}" if all(name in each.values() for each in parts) and len(parts) > 1 else "")
        for part in parts for name in (*part.values(), *part.missing)
    ]  # fmt: skip
    taken = {slot.path for slot in slots}
    slots += [Slot(path, get=_nothing, set=_nothing, rank=1) for path in ("data.batch_size", "data.val_batch_size")
              if path not in taken]  # fmt: skip
    slots += TrainerSettings(trainer).slots() + sites.slots + made.optimizers.slots() + made.schedulers.slots()
    trace.confirm(slots, sites.places, find=made.find, used=sites.used)


def _nothing(*_: Any) -> None:
    """Get and set nothing: these slots only say what a name means."""


def _readings(name: str) -> set[str]:
    """Keys of hparams by which an argument may be read: of ``config.lr`` all of it, ``config`` and ``lr``."""
    return {name, *name.split(".")}


class Reads:
    """Notes which saved hyperparameters of an object are read.

    Args:
        made: The object; its ``hparams`` are watched until `stop`.
    """

    def __init__(self, made: Any) -> None:
        self.made = made
        self.names: set[str] = set()
        self._saved: Any = vars(made).get("_hparams")
        self._original = type(self._saved)
        if isinstance(self._saved, dict):
            # object.__setattr__, for a dict with attributes would take "__class__" for a key
            object.__setattr__(self._saved, "__class__", _watching(self._original, self.names))
        else:
            self.names |= set(compare.hparams(made))  # a configuration object of another library: any may be read

    def stop(self) -> set[str]:
        """Stop watching; may be called more than once.

        Returns:
            The names that were read.
        """
        if type(self._saved) is not self._original:
            object.__setattr__(self._saved, "__class__", self._original)
        return self.names


def _watching(original: type, names: set[str]) -> type:
    """A subclass of a dict class that notes the keys that are read."""

    def one(method: str) -> Any:
        def read(self: Any, key: Any, *rest: Any) -> Any:
            names.add(key)
            return getattr(super(watching, self), method)(key, *rest)

        return read

    def every(method: str) -> Any:
        def read(self: Any) -> Any:
            names.update(dict.keys(self))
            return getattr(super(watching, self), method)()

        return read

    def reduce(self: Any, protocol: Any) -> Any:
        return original, (dict(dict.items(self)),)

    body = {
        **{method: one(method) for method in ("__getitem__", "get", "pop", "__getattr__") if hasattr(original, method)},
        **{method: every(method) for method in ("__iter__", "keys", "values", "items", "copy")},
        "__reduce_ex__": reduce,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }
    watching: type = type(original.__name__, (original,), body)
    return watching
