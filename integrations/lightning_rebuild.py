"""Putting new constructor arguments into a live LightningModule and LightningDataModule, as if typed in."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import FrameType, MethodType
from typing import Any

import torch
from torch import nn

from tunehook.inject import InjectionError, same
from tunehook.integrations import lightning_compare as compare
from tunehook.integrations import lightning_record as record
from tunehook.integrations.lightning_construct import Construction, Kind, namespace_of

State = dict[str, Any]


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
        self.applied: dict[Kind, Applied] = {}

    @property
    def parts(self) -> list[Construction]:
        """The constructions in the order in which they were made; those of unknown order first."""
        found = [self.model] if self.data is None else [self.model, self.data]
        return sorted(found, key=lambda part: -1 if part.call is None else int(part.call["order"]))

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
        changes = {part.kind: part.changed(self._staged[part.kind]) for part in self.parts}
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
        applied.check_unchanged(allow_set_up=part.kind == "data")
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
        for candidate in replay.candidates():
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
        if self._trainer.local_rank == 0:
            rehearsal.prepare_data()
        rehearsal.setup(stage=self._trainer.state.fn)
        return record.random_state()

    def _check_drift(self) -> None:
        """Where no value is new: check that the attribute which an argument is kept in was not changed by hand."""
        for part in self.parts:
            for name, value in self._staged[part.kind].items():
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


class Before:
    """What a live object was before it is rebuilt.

    Args:
        made: The live object.
        control: What its constructor made of it.

    Attributes:
        weights: Parameters and buffers by name.
        loaded: Copies of those that are not as constructed, for a module that was passed as an argument is
            initialized again in place.
        flags: What `compare.flags` says.
    """

    def __init__(self, made: Any, control: Any) -> None:
        self.weights = compare.weights(made)
        changed = compare.differing_weights(self.weights, compare.weights(control))
        self.loaded = {name: self.weights[name].detach().clone() for name in changed & self.weights.keys()}
        self.flags = compare.flags(made)


class Applied:
    """A construction with new arguments beside its control: the same call with the old ones.

    Args:
        part: The construction, before it is rebuilt.
        new: Its new arguments.
        start: The random state for the control.
    """

    def __init__(self, part: Construction, new: Mapping[str, Any], start: State | Mapping[str, Any]) -> None:
        self.part = part
        self.new = dict(new)
        self.old = {name: value for name, value in part.values().items() if name in new}
        self.kept: dict[str, list[str]] = {}
        self.carried: dict[str, Any] = {}
        self.used: set[str] = set()
        self._random_known = part.random is not None
        self._start = start
        self._unexplained: set[str] = set()
        self.control, self.end = self._control()

    def _control(self) -> tuple[Any, State]:
        try:
            return self.part.build({}, self._start)
        except Exception as error:
            raise InjectionError(
                f"{self.part.name} cannot be constructed again with its own arguments: {type(error).__name__}: "
                f"{error}\n"
                "  Its constructor must not use up what it is given; or take its hyperparameters out of the space."
            ) from error

    def fresh(self) -> Any:
        """Another object as the script made it."""
        return self.part.build(self.old, self._start)[0]

    def check_unchanged(self, *, allow_set_up: bool) -> None:
        """Check that the live object is what its constructor made, but for weights and flags.

        Args:
            allow_set_up: Keep differences for `check_set_up`, for they may come from the datamodule's setup.
        """
        made = self.part.made
        live, control = compare.attributes(made), compare.attributes(self.control)
        differing = {path for path in compare.differing(live, control) if not _dropped(path, live)}
        # A method that was put on the object, as Lightning's command line does with configure_optimizers, is put there
        # again.
        self.carried = {path: live[path] for path in differing if _is_method_of(made, live.get(path))}
        differing -= self.carried.keys()
        structure = compare.differing_shapes(compare.weights(made), compare.weights(self.control))
        if differing or structure:
            # A constructor that is not deterministic (a clock, a unique name) differs from itself too.
            again, _ = self._control()
            differing -= compare.differing(control, compare.attributes(again))
            structure -= compare.differing_shapes(compare.weights(self.control), compare.weights(again))
        if allow_set_up:
            self._unexplained = differing
        elif differing or structure:
            raise self._changed(differing | structure)

    def check_set_up(self, constructed: compare.Attributes) -> None:
        """Check that whatever differed before was set by prepare_data or setup, once both ran again.

        Args:
            constructed: Attributes of the rebuilt datamodule before they ran.
        """
        set_up = compare.differing(constructed, compare.attributes(self.part.made), deep=True)
        if self._unexplained - set_up:
            raise self._changed(self._unexplained - set_up)

    def _changed(self, paths: Iterable[str]) -> InjectionError:
        names = sorted(paths)
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        what = ", ".join(f"{self.part.kind}.{name}" for name in self.new) or "Its hyperparameters"
        return InjectionError(
            f"{what} cannot be injected: {self.part.name} was changed after it was constructed ({shown}), and "
            "constructing it anew would lose that.\n"
            f"  Do it in {self.part.name}.__init__ or in a hook such as configure_model, or take the name out of the "
            "space."
        )

    def settle_weights(self, before: Before, *, restored: str) -> None:
        """Keep weights that were loaded or trained before.

        Args:
            before: The object before it was rebuilt.
            restored: Why weights of the old shapes are needed anyway, ``""`` where they are not.
        """
        control, made = compare.weights(self.control), compare.weights(self.part.made)
        reshaped = compare.differing_shapes(before.weights, made)
        if reshaped and (before.loaded or restored):
            why = restored or "weights were loaded or trained before fit"
            raise InjectionError(
                f"{self._names()} changes the shape of {_first(reshaped)}, but {why}.\n"
                "  Such a hyperparameter can only be tuned from scratch: take it out of the space, or do not load."
            )
        if not self._random_known and compare.differing_weights(control, made):
            raise InjectionError(
                f"{self._names()} changes the initial weights of {self.part.name}, whose random state is not known.\n"
                f"  Import tunehook.integrations.lightning before {self.part.name} is constructed."
            )
        with torch.no_grad():
            for name, tensor in before.loaded.items():
                made[name].copy_(tensor)

    def settle_flags(self, before: Before) -> None:
        """Keep frozen parameters and evaluation modes that were set after construction."""
        control = compare.flags(self.control)
        for path in sorted(compare.differing(before.flags, control)):
            if path not in compare.flags(self.part.made):
                raise self._changed([path])
            if path == "training" or path.endswith(".training"):
                owner = self.part.made.get_submodule(path[: -len("training")].rstrip("."))
                owner.training = before.flags[path]
            else:
                self.part.made.get_parameter(path).requires_grad_(before.flags[path])

    def check_callbacks(self) -> None:
        """Refuse arguments that lead to other callbacks, for these were made before."""
        made, control = self.part.made, self.control
        if type(made).configure_callbacks is self.part.base.configure_callbacks:  # type: ignore[attr-defined]
            return
        with record.kept_random():
            if not compare.alike(list(_listed(control)), list(_listed(made)), deep=True):
                raise InjectionError(
                    f"{self._names()} changes what {self.part.name}.configure_callbacks() returns, which Lightning "
                    "asked for before hyperparameters were injected.\n"
                    "  Give these callbacks to the Trainer, or take the name out of the space."
                )

    def note_used(self) -> None:
        """Note arguments that arrived in an attribute, and in which ones."""
        control, made = compare.attributes(self.control), compare.attributes(self.part.made)
        own = {path for path in compare.differing(control, made) if not path.startswith("hparams.")}
        for name, value in self.new.items():
            self.kept[name] = [
                path for path in own if same(value, made.get(path)) and same(self.old.get(name), control.get(path))
            ]
            if any(same(value, made.get(path)) for path in own):
                self.used.add(name)

    def is_dead(self, name: str) -> bool:
        """Whether the object comes out the same with the old value of one new argument."""
        everything, end = self.part.build({}, self._start)
        without, other = self.part.build({name: self.old[name]} if name in self.old else {}, self._start)
        one, two = compare.attributes(everything), compare.attributes(without)
        differing = {path for path in compare.differing(one, two, deep=True) if not path.startswith("hparams.")}
        return not (
            differing
            or compare.differing_weights(compare.weights(everything), compare.weights(without))
            or compare.differing(compare.flags(everything), compare.flags(without))
            or not record.same_random(end, other)
        )

    def _names(self) -> str:
        return ", ".join(f"{self.part.kind}.{name}" for name in self.new)


class Replay:
    """Traces the random state from construction to fit, as it was and as it would be with the new arguments.

    Args:
        now: The state in callback.setup.
        seed: What torch was seeded with last; restoring a state changes that too.
        names: The new arguments, for messages.
    """

    def __init__(self, now: State, seed: int, names: str) -> None:
        self.now = now
        self._seed = seed
        self._names = names
        self._where = ""
        self._old: State | None = None
        self._new: State | None = None
        self._unknown = False
        self._last: Construction | None = None

    @property
    def shifted(self) -> bool:
        """Whether the new arguments draw another number of random values, up to fit."""
        if self._old is not None and self._new is not None and not record.same_random(self._old, self._new):
            self._trace()
        return self._old is not None and self._new is not None and not record.same_random(self._old, self._new)

    def start(self, part: Construction) -> State:
        """Where the construction of a part begins with the new arguments."""
        begins = self.now if part.random is None else dict(part.random)
        seed = self._seed if part.call is None else int(part.call["seed"])
        return self._moved(begins, seed, f"the construction of {part.name}")

    def skip(self, part: Construction, start: State) -> None:
        """Leave a part as it is; from its end on nothing is shifted if it began where it did before."""
        self._where = part.name
        if self._old is not None and part.random is not None and record.same_random(start, part.random):
            self._last = part

    def _trace(self) -> None:
        """Find where the last part ended that was left alone; it is built again only if that matters."""
        if self._last is not None and self._last.random is not None:
            _, end = self._last.build({}, self._last.random)
            self._old = self._new = end
            self._last = None

    def advance(self, part: Construction, old: State, new: State) -> None:
        """Note where the construction of a part ended, with the old and with the new arguments."""
        self._where = part.name
        self._last = None
        self._old, self._new = old, new
        self._unknown = part.random is None

    def end(self, before: State | None = None) -> State:
        """The state that the plain script would have, where it was ``before`` (default: now)."""
        return self._moved(self.now if before is None else before, self._seed, "fit")

    def candidates(self) -> list[State]:
        """States that are explained: the end of the last construction, and freshly seeded ones."""
        self._trace()
        fresh = record.fresh_random(self._seed)
        last = self.now if self._old is None else self._old
        return [last, {**last, **fresh}, {**last, "torch": fresh["torch"]}]

    def lost(self, until: str) -> None:
        """Raise if the script is seeded: the state cannot be traced."""
        if record.is_seeded(self._seed):
            raise InjectionError(
                f"{self._names}: the random state moved between the construction of {self._where} and {until} by code "
                "that cannot be replayed, so that the trial would not equal the same script with the value typed in.\n"
                f"  Construct {self._where} right before trainer.fit, or call seed_everything again right before it."
            )

    def _moved(self, state: State, seed: int, until: str) -> State:
        """``state``, moved by what the new arguments draw more or less, one generator at a time."""
        if self._old is None or self._new is None or record.same_random(self._old, self._new):
            return state
        self._trace()
        fresh = record.fresh_random(seed)
        moved = dict(state)
        for name in state:
            if name not in self._new or record.same_part(name, self._old, self._new):
                continue
            if record.same_part(name, state, self._old) and not self._unknown:
                moved[name] = self._new[name]
            elif name not in fresh or not record.same_part(name, state, fresh):
                self.lost(until)
        return moved


_NOTHING = object()


def _present(made: Any, path: str) -> Any:
    """What lies at a path of `compare.attributes` now."""
    if path.startswith("hparams."):
        return compare.hparams(made).get(path.removeprefix("hparams."), _NOTHING)
    *owners, name = path.split(".")
    owner = made.get_submodule(".".join(owners)) if owners else made
    return vars(owner).get(name, _NOTHING)


def _is_method_of(made: Any, value: Any) -> bool:
    return isinstance(value, MethodType) and value.__self__ is made


def _dropped(path: str, live: Mapping[str, Any]) -> bool:
    # fit drops saved hyperparameters that cannot be pickled
    return path.startswith("hparams.") and path not in live


def _listed(module: Any) -> list[Any]:
    callbacks = module.configure_callbacks()
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _shapes(module: nn.Module) -> list[Any]:
    return [tuple(parameter.shape) for parameter in module.parameters()]


def _first(names: set[str]) -> str:
    ordered = sorted(names)
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} and {len(ordered) - 1} more"


def _given(part: Construction, new: Mapping[str, Any]) -> str:
    return ", ".join(f"{part.kind}.{name} = {value!r}" for name, value in new.items()) or "its own arguments"


def _fit_checkpoint(trainer: Any) -> Any:
    """The checkpoint that this fit restores; Lightning keeps it in a local variable until after setup."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_name == "_run" and frame.f_locals.get("self") is trainer:
            return frame.f_locals.get("ckpt_path")
        frame = frame.f_back
    return None
