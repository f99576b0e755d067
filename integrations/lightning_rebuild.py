"""Putting new constructor arguments into a live LightningModule and LightningDataModule, as if typed in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FrameType, SimpleNamespace
from typing import Any

import torch
from torch import nn

from tunehook.errors import InjectionError
from tunehook.inject import same, show, tell_late
from tunehook.inject.calls import trace_in_progress
from tunehook.integrations import lightning_compare as compare
from tunehook.integrations import lightning_record as record
from tunehook.integrations.lightning_construct import Construction, Kind, namespace_of
from tunehook.integrations.lightning_control import Applied, Before
from tunehook.integrations.lightning_replay import Replay, State


class Rebuilder:
    """Rebuilds the objects of a fit with new arguments.

    Args:
        trainer: The trainer, in callback.setup.
        module: The LightningModule that it fits.
        callback: Our callback, so that those before it are known; ``None`` where it is not among them.
    """

    def __init__(self, trainer: Any, module: Any, callback: object | None) -> None:
        self._trainer = trainer
        self._callback = callback
        self.model = Construction(module, "model")
        data = getattr(trainer, "datamodule", None)
        self.data = None if data is None else Construction(data, "data")
        self._staged: dict[Kind, dict[str, Any]] = {"model": {}, "data": {}}
        self._witnesses: dict[str, dict[str, Any]] = {}
        self._trace = trace_in_progress()
        self.applied: dict[Kind, Applied] = {}

    @property
    def parts(self) -> list[Construction]:
        """The constructions in the order in which they were made; those of unknown order first."""
        found = [self.model] if self.data is None else [self.model, self.data]
        return sorted(found, key=lambda part: -1 if part.call is None else int(part.call["order"]))

    def is_typed_in(self, part: Construction) -> bool:
        """Whether the values went into the call that made an object, so that nothing of it is put in now."""
        return self._trace is not None and self._trace.of(part.made) is not None

    def staged(self, part: Construction) -> list[str]:
        """The arguments that have a value of the trial."""
        return list(self._staged[part.kind])

    def get(self, part: Construction, name: str) -> Any:
        """The present value of an argument; what another piece of code put in its place since it was injected."""
        for path, value in self._witnesses.get(f"{part.kind}.{name}", {}).items():
            present = _present(part.made, path)
            if not same(value, present):
                return present
        return part.values().get(name)

    def set(self, part: Construction, name: str, value: Any) -> None:
        """Note a value for `commit`."""
        self._staged[part.kind][name] = value

    def commit(self) -> None:
        """Rebuild what has new arguments; nothing is done where all values are the present ones.

        Raises:
            InjectionError: The objects cannot be rebuilt so that the fit equals the plain script. They are as before.
        """
        changes = {
            part.kind: {} if self.is_typed_in(part) else part.changed(self._staged[part.kind]) for part in self.parts
        }
        before = {part.kind: dict(vars(part.made)) for part in self.parts}
        now, seed = record.random_state(), torch.initial_seed()
        try:
            if any(changes.values()):
                self._rebuild(changes, now, seed)
            else:
                self._check_drift()
                record.restore_random(now)
        except BaseException:
            for part in self.parts:
                vars(part.made).clear()
                vars(part.made).update(before[part.kind])
            record.restore_random(now)
            raise
        self._remember()

    def _rebuild(self, changes: Mapping[Kind, Mapping[str, Any]], now: State, seed: int) -> None:
        names = ", ".join(f"{kind}.{name}" for kind, new in changes.items() for name in new)
        tell_late(names)
        replay = Replay(now, seed, names)
        for part in self.parts:
            new = changes[part.kind]
            start = replay.start(part)
            if new or self._draws_elsewhere(part, start):
                self._replace(part, new, start, replay)
            else:
                replay.skip(part, start)
        self._set_up_data(replay)

    @staticmethod
    def _draws_elsewhere(part: Construction, start: State) -> bool:
        """Whether a construction draws random numbers, and would from another state than it did."""
        if part.random is None or record.same_random(start, part.random):
            return False
        _, end = part.build({}, part.random)
        return not record.same_random(part.random, end)

    def _replace(self, part: Construction, new: Mapping[str, Any], start: State, replay: Replay | None) -> None:
        part.check_complete()
        applied = Applied(part, new, part.random or start)
        if part.kind == "model":
            self._check_copies(part)
        before = Before(part.made, applied.control)
        applied.check_unchanged(before.structure, allow_set_up=part.kind == "data")
        try:
            end = part.rebuild(new, start)
        except Exception as error:
            raise InjectionError(
                f"{part.name} cannot be constructed with {_given(part, new)}: {type(error).__name__}: {error}\n"
                "  Leave such values out of the space."
            ) from error
        if replay is not None:
            replay.advance(part, applied.end, end)
        self.applied[part.kind] = applied
        vars(part.made).update(applied.carried)
        if part.kind == "model":
            self._reattach(part.made)
            applied.settle_weights(before, restored=self._restores_weights())
            applied.settle_flags(before)
            applied.check_callbacks()
        applied.note_used()

    def _reattach(self, module: Any) -> None:
        module.trainer = self._trainer
        for each in module.modules():
            if hasattr(each, "_device") and "_fabric" in vars(each):  # as Lightning did before setup
                each._device = self._trainer.strategy.root_device  # noqa: SLF001

    def _restores_weights(self) -> str:
        """Why weights of the old shapes are needed, ``""`` where they are not."""
        if _fit_checkpoint(self._trainer):
            return "fit restores a checkpoint"
        if hasattr(self._trainer.strategy.launcher, "_start_method"):  # processes: the parent loads the weights
            return "the strategy trains in other processes and loads the weights back into the model of this one"
        return ""

    def _check_copies(self, part: Construction) -> None:
        """Refuse to rebuild a model that an earlier callback has copied or holds a part of."""
        shapes = [_shapes(module) for module in part.made.modules()]
        for callback in self._trainer.callbacks:
            if callback is self._callback:
                return
            held = [
                value for value in vars(callback).values() if isinstance(value, nn.Module) and value is not part.made
            ]
            if any(_shapes(value) and _shapes(value) in shapes for value in held):
                raise InjectionError(
                    f"{type(callback).__name__} copied the model before its hyperparameters were injected.\n"
                    "  Put TuneCallback first in Trainer(callbacks=[...])."
                )

    def _set_up_data(self, replay: Replay) -> None:
        part = self.data
        if part is None or not (replay.shifted or "data" in self.applied):
            record.restore_random(replay.end())
            return
        before, consumed = self._before_set_up(part, replay)
        if "data" not in self.applied and consumed:
            self._replace(part, {}, dict(part.random or before), None)
        if "data" not in self.applied:
            record.restore_random(replay.end(before))
            return
        record.restore_random(replay.end(before))
        constructed = compare.attributes(part.made)
        namespace = namespace_of(type(self._trainer))
        self._trainer._data_connector.prepare_data()  # noqa: SLF001 - the one place that knows which rank prepares
        call = sys.modules[f"{namespace}.trainer.call"]
        call._call_lightning_datamodule_hook(self._trainer, "setup", stage=self._trainer.state.fn)  # noqa: SLF001
        self.applied["data"].check_set_up(constructed)

    def _before_set_up(self, part: Construction, replay: Replay) -> tuple[State, bool]:
        """The random state in which prepare_data and setup began, and whether they draw random numbers."""
        for candidate in replay.candidates():
            if record.same_random(replay.now, candidate):
                return candidate, False
        known = not (part.why_not or part.missing)
        for candidate in replay.candidates() if known else []:
            end = self._rehearse(part, candidate)
            if record.same_random(replay.now, end):
                return candidate, True
            if record.same_random(candidate, end):
                return replay.now, False
        replay.lost(f"prepare_data or setup of {part.name}")
        return replay.now, False

    def _rehearse(self, part: Construction, start: State) -> State:
        applied = self.applied.get("data")
        rehearsal = part.build({}, part.random or start)[0] if applied is None else applied.fresh()
        rehearsal.trainer = self._trainer
        record.restore_random(start)
        try:
            if self._trainer.local_rank == 0:
                rehearsal.prepare_data()
            rehearsal.setup(stage=self._trainer.state.fn)
        except Exception as error:
            raise InjectionError(
                f"{part.name} cannot be set up again: {type(error).__name__}: {error}\n"
                "  Its setup must not rely on what was done to it from outside; or give random_split a generator of "
                "its own, so that setup need not run again."
            ) from error
        return record.random_state()

    def _check_drift(self) -> None:
        """Where no value is new: check that the attribute which an argument is kept in was not changed by hand."""
        for part in self.parts:
            for name, value in self._staged[part.kind].items() if not self.is_typed_in(part) else ():
                held = [
                    _present(part.made, path)
                    for path in (name, f"hparams.{name}")
                    if _present(part.made, path) is not _NOTHING
                ]
                if any(isinstance(one, int | float | str) and not same(value, one) for one in held):
                    part.check_complete()
                    applied = Applied(part, {name: value}, part.random or record.random_state())
                    applied.check_unchanged(allow_set_up=part.kind == "data")

    def _remember(self) -> None:
        """Note where the injected values lie, so that a change by someone else is seen."""
        for part in self.parts:
            known = self.applied[part.kind].kept if part.kind in self.applied else {}
            for name, value in self._staged[part.kind].items():
                paths = {*known.get(name, ()), name, f"hparams.{name}"}
                self._witnesses[f"{part.kind}.{name}"] = {
                    path: value for path in sorted(paths) if same(value, _present(part.made, path))
                }


_NOTHING = object()


def _present(made: Any, path: str) -> Any:
    """What lies at a path of `compare.attributes` now."""
    if path.startswith("hparams."):
        return _present(SimpleNamespace(**compare.hparams(made)), path.removeprefix("hparams."))
    owner = made
    for name in path.split("."):
        owner = _held(owner, name)
    return owner


def _held(owner: Any, name: str) -> Any:
    if isinstance(owner, Mapping):
        return owner.get(name, _NOTHING)
    held = getattr(owner, "__dict__", {})
    return held.get(name, held.get("_modules", {}).get(name, _NOTHING))


def _shapes(module: nn.Module) -> list[Any]:
    return [compare.shape_of(parameter) for parameter in module.parameters()]


def _given(part: Construction, new: Mapping[str, Any]) -> str:
    return ", ".join(f"{part.kind}.{name} = {show(value)}" for name, value in new.items()) or "its own arguments"


def _fit_checkpoint(trainer: Any) -> Any:
    """The checkpoint that this fit restores; Lightning keeps it in a local variable until after setup."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_name == "_run" and frame.f_locals.get("self") is trainer:
            return frame.f_locals.get("ckpt_path")
        frame = frame.f_back
    return None
