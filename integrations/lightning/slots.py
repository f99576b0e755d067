"""Where hyperparameters live in Lightning objects: the slots of a fit, and the checks that they took effect."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunehook.adapter import hear_configurations
from tunehook.inject import LAST, Find, Injection, KeysRead, Slot, Trace, is_read, resolve, same, trace_in_progress
from tunehook.integrations.lightning import host
from tunehook.integrations.lightning.calls import Sites, base_of
from tunehook.integrations.lightning.constructors import NotTakenError
from tunehook.integrations.lightning.live import why_fixed
from tunehook.integrations.lightning.loaders import LoaderSize
from tunehook.integrations.lightning.optimizers import MadeObjects
from tunehook.integrations.lightning.settings import TrainerSettings
from tunehook.trial import InjectionError, TrialError

_NOTHING = object()


class LightningSlots:
    """The slots of one fit.

    A callback makes one in ``setup``, applies its values and calls `open`; `check_made` in ``on_fit_start``;
    `check_restored` and `check_loaders` in ``on_train_start``; `check_used` after the first training batch; `finish`
    whenever the fit ends.

    Args:
        trainer: The Trainer.
        module: The LightningModule that it fits.
        sites: What its objects were made with, as it was known where the fit was called.

    Attributes:
        slots: All slots.
        notes: Lines for error messages on slots that cannot be listed one by one.

    Example:
        >>> slots = LightningSlots(trainer, module)
        >>> injection = Injection({"optimizer.lr": 0.1}, slots.slots, notes=slots.notes, find=slots.find)
        >>> injection.apply()
        >>> slots.open(injection)
    """

    def __init__(self, trainer: Any, module: Any, sites: Sites | None = None) -> None:
        self._module = module
        self._parts = {"model": module, "data": getattr(trainer, "datamodule", None)}
        self._sites = sites or Sites(trace_in_progress(), trainer, module, self._parts["data"])
        self._settings = _settings(trainer, self._sites)
        self._made = MadeObjects(trainer, module)
        self._loaders = _sizes(trainer)
        self._own = {slot.path: dataclasses.replace(slot, get=functools.partial(self._present, slot))
                     for slot in self._sites.own}  # fmt: skip
        self._values: dict[str, Any] = {}  # of own arguments, by path
        self._holders: dict[str, list[str]] = {}  # attributes that hold them
        self._reads: dict[str, KeysRead] = {}
        listed = _listed(self._sites, self._loaders, self._settings, self._made)
        self.slots = [self._own.get(slot.path, slot) for slot in listed]
        self.notes = [*self._sites.notes, self._made.optimizers.note(), self._made.schedulers.note()]

    def _present(self, slot: Slot) -> Any:
        """The value of an argument; what other code put in its place since it was injected."""
        kind, _, name = slot.path.partition(".")
        for holder in self._holders.get(slot.path, ()):
            present = _held(self._parts[kind], holder, name)
            if not same(self._values[slot.path], present):
                return present
        return slot.get()

    def left_out(self) -> set[str]:
        """The names of the space that a later fit of a trial leaves to its script."""
        return self._sites.left_out

    def find(self, path: str) -> Slot | None:
        """A slot that is not listed: an optimizer's or scheduler's by number, such as ``optimizer.1.lr``."""
        return self._made.find(path)

    def open(self, injection: Injection) -> None:
        """Watch what becomes of the values, and begin to edit the constructor calls of optimizers and schedulers.

        Args:
            injection: The values that were put in.
        """
        self._values = {path: value for path, value in injection.paths.items() if path in self._own}
        for path, value in self._values.items():
            kind, _, name = path.partition(".")
            held = {one: _held(self._parts[kind], one, name) for one in ("", "hparams")}
            self._holders[path] = [one for one, present in held.items() if same(value, present)]
            self._tell_set(path, value, [one for one in held.values() if isinstance(one, int | float | str)])
            if kind not in self._reads:
                self._reads[kind] = KeysRead(host.saved_hparams(self._parts[kind]))
        for size in self._loaders:
            size.check_called(self._sites.called_early)
        self._made.open()

    def _tell_set(self, path: str, value: Any, held: Sequence[Any]) -> None:
        trace, other = trace_in_progress(), [one for one in held if not same(value, one)]
        if trace is not None and other and self._sites.places.get(path):
            trace.tell_set(path, value, other[0])

    def close(self) -> None:
        """Stop to edit them. May be called at any time and more than once."""
        self._made.close()

    def finish(self) -> None:
        """Undo everything that was for this fit only. May be called at any time and more than once."""
        self.close()
        self._made.stop_counting()
        for size in self._loaders:
            size.undo()
        for reads in self._reads.values():
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
        try:
            self._made.check_made()
        except NotTakenError as error:
            name = "" if injection is None else injection.names.get(error.path, "")
            if name and "." not in name:  # it is no name of an optimizer's or scheduler's of this script
                others = [
                    slot for slot in self.slots
                    if not slot.path.startswith(("optimizer.", "scheduler.")) and slot.rank < LAST
                ]  # fmt: skip
                resolve(name, others, notes=[*self._sites.notes, *self._made.rows()])
            raise
        if injection is None:
            return
        self._made.check_in_vain({path: v for path, v in injection.paths.items() if path.startswith("model.")})
        for path, name in injection.names.items():
            if path.startswith("callback.") and "." not in name and self._made.has_scheduler_with(name):
                raise InjectionError(
                    f"The hyperparameter '{name}' could go to {path} and scheduler.{name}.\n"
                    f"  Write the full path in the space, for example '{path}'."
                )

    def why_fixed(self, path: str, value: Any) -> str:
        """Why a value cannot change in the middle of a training, ``""`` where it can."""
        return why_fixed(path, value, self._module, self._made.used)

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
        for path, value in self._values.items():
            for call, name in self._sites.places.get(path, ()) if path.endswith(".batch_size") else ():
                self._loaders[0].check_passed(path, call.present[name], value)

    def check_used(self) -> None:
        """Check after the first training batch that of the injected arguments each is used by an object that takes it.

        Raises:
            InjectionError: No line of a constructor reads it, and it was not read from ``hparams``.
        """
        reads = {kind: each.stop() for kind, each in self._reads.items()}
        given = [path.partition(".") for path in self._values]
        used = {name for kind, _, name in given if self._is_used(kind, name, reads[kind])}
        dead = [(kind, name) for kind, _, name in given if name not in used]
        if dead:
            owner = type(self._parts[dead[0][0]]).__name__
            others = [
                f"optimizer.{name}" for _, name in dead for each in self._made.optimizers.made if name in each.keys
            ]
            others += [slot.path for _, name in dead for slot in self.slots if slot.path == f"trainer.{name}"]
            instead = f", tune {' or '.join(dict.fromkeys(others))} instead" if others else ""
            raise InjectionError(
                f"Nothing uses {', '.join(f'{kind}.{name}' for kind, name in dead)}: no line of the constructor "
                f"of {owner} reads it, and it was not read from hparams in the first batch.\n"
                f"  Use the argument in {owner}{instead}, or take it out of the space."
            )

    def _is_used(self, kind: str, name: str, read: set[str]) -> bool:
        cls = type(self._parts[kind])
        base, _ = base_of(cls)
        return not _readings(name).isdisjoint(read) or base is None or is_read(cls, base, name.partition(".")[0])


def _sizes(trainer: Any, given: Sequence[Any] = (None, None)) -> list[LoaderSize]:
    """The batch sizes of a fit.

    Args:
        trainer: The Trainer.
        given: Before the fit has begun, where its train and its validation loaders will come from.
    """
    loops = trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop
    names = "data.batch_size", "data.val_batch_size"
    return [LoaderSize(loop, name, one) for loop, name, one in zip(loops, names, given, strict=True)]


def _settings(trainer: Any, sites: Sites) -> TrainerSettings:
    return TrainerSettings(trainer, has_epochs=sites.has_epochs, in_call=sites.in_trainer, is_later=sites.is_later)


def _listed(sites: Sites, sizes: Iterable[LoaderSize], settings: TrainerSettings, made: MadeObjects) -> list[Slot]:
    """All slots of a fit, in the order in which messages have them. Of two with one path the first counts."""
    found: dict[str, Slot] = {}
    of_loaders = [size.slot() for size in sizes if size.exists]
    of_made = made.optimizers.slots() + made.schedulers.slots()
    for slot in (*sites.own, *of_loaders, *settings.slots(), *sites.slots, *of_made):
        found.setdefault(slot.path, slot)
    return list(found.values())


def slots_of(trainer: Any, module: Any, data: Any, loaders: Sequence[Any]) -> tuple[Sites, list[Slot], Find]:
    """The slots of a fit that is called now, before it has begun.

    Args:
        trainer: The Trainer.
        module: The LightningModule that it will fit.
        data: Its datamodule, ``None`` where there is none.
        loaders: The train and the validation loaders that it is given, ``None`` where it is given none.

    Returns:
        What its objects were made with, the slots, and what finds those that are not listed.
    """
    sites = Sites(trace_in_progress(), trainer, module, data, loaders)
    made = MadeObjects(trainer, module)
    owner = module if data is None else data
    sizes = _sizes(trainer, [owner if one is None or data is not None else one for one in loaders])
    return sites, _listed(sites, sizes, _settings(trainer, sites), made), made.find


def confirm(trainer: Any, module: Any, data: Any, loaders: Sequence[Any]) -> Sites:
    """See, where a fit is called, that the trial's values went into the calls that made its objects.

    Args:
        trainer: The Trainer.
        module: The LightningModule that it will fit.
        data: Its datamodule, ``None`` where there is none.
        loaders: The train and the validation loaders that it is given.

    Returns:
        What its objects were made with.

    Raises:
        Again: They did not.
        InjectionError: A value has the wrong type.
        TrialError: A callback has been in the fit of another trial.
    """
    sites, slots, find = slots_of(trainer, module, data, loaders)
    trace = trace_in_progress()
    if trace is not None:
        _check_shared(trace, sites, slots)
        sites.left_out = trace.enter_fit(slots, sites.places, find=find, hear=hear_configurations, used=sites.used)
        if not sites.is_later:
            _check_state(trace, trainer.callbacks)
    return sites


def _check_shared(trace: Trace, sites: Sites, slots: Sequence[Slot]) -> None:
    """Check that a short name is no argument of the Trainer's too, to which the script has given the same value.

    Raises:
        InjectionError: One is, as where both are given ``args.max_epochs``. The Trainer would keep the script's value.
    """
    for name in trace.own_names():
        for of_trainer, key in sites.places.get(f"trainer.{name}", ()) if "." not in name else ():
            given = of_trainer.arguments.bound.arguments
            typed = of_trainer.present[key] if key in given or key in given.get("kwargs", ()) else _NOTHING
            for slot in resolve(name, slots):
                shared = [call for call, path in sites.places.get(slot.path, ()) if same(typed, call.present.get(path))]
                if not slot.path.startswith("trainer.") and shared:
                    raise InjectionError(
                        f"The hyperparameter '{name}' could go to {slot.path} and trainer.{name}, which the script "
                        f"gives one value, {typed!r}.\n"
                        f"  Write '*.{name}' in the space for both, or the full path of one."
                    )


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


def _held(made: Any, holder: str, path: str) -> Any:
    """What an object, or its saved hyperparameters, holds under the name of an argument or of an entry of one."""
    held: Any = made
    if holder:
        name, _, path = path.partition(".")
        held = hparams(made).get(name, _NOTHING)
    for name in filter(None, path.split(".")):
        held = (held if isinstance(held, Mapping) else host.held_by(held)).get(name, _NOTHING)
    return held


def hparams(made: object) -> Mapping[str, Any]:
    """The saved hyperparameters, read without asking for them, which would make them."""
    saved = host.saved_hparams(made) or {}
    return dict(dict.items(saved)) if isinstance(saved, dict) else dict(saved)


def _readings(name: str) -> set[str]:
    """Keys of hparams by which an argument may be read: of ``config.lr`` all of it, ``config`` and ``lr``."""
    return {name, *name.split(".")}
