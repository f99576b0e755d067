"""A control beside a live object: what was changed, loaded or frozen since it was constructed, and what is unused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Set
from types import MethodType
from typing import Any

import torch

from tunehook.errors import InjectionError
from tunehook.inject import same
from tunehook.integrations import lightning_compare as compare
from tunehook.integrations import lightning_record as record
from tunehook.integrations.lightning_construct import Construction

log = logging.getLogger("tunehook")

State = dict[str, Any]


class Before:
    """What a live object was before it is rebuilt.

    Args:
        made: The live object.
        control: What its constructor made of it.

    Attributes:
        weights: Parameters and buffers by name.
        forms: What they were given with `Module.to`; the control's are given it too.
        structure: Names of those that are otherwise of another type or order in memory.
        loaded: Copies of those that are not as constructed, for a module that was passed as an argument is
            initialized again in place.
        flags: What `compare.flags` says.
    """

    def __init__(self, made: Any, control: Any) -> None:
        self.weights, constructed = compare.weights(made), compare.weights(control)
        self.forms = compare.changed_forms(self.weights, constructed)
        compare.take_forms(self.forms, constructed)
        self.structure = compare.differing_forms(self.weights, constructed)
        changed = compare.differing_weights(self.weights, constructed)
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
        self.control, self.end = part.build({}, start)

    def fresh(self) -> Any:
        """Another object as the script made it."""
        return self.part.build(self.old, self._start)[0]

    def check_unchanged(self, structure: Set[str] = frozenset(), *, allow_set_up: bool) -> None:
        """Check that the live object is what its constructor made, but for weights and flags.

        Args:
            structure: What is known to have been changed.
            allow_set_up: Keep differences for `check_set_up`, for they may come from the datamodule's setup.
        """
        made = self.part.made
        live, control = compare.attributes(made), compare.attributes(self.control)
        differing = {path for path in compare.differing(live, control) if not _dropped(path, live)}
        # A method that was put on the object, as Lightning's command line does with configure_optimizers, is put there
        # again.
        self.carried = {path: live[path] for path in differing if _is_method_of(made, live.get(path))}
        differing -= self.carried.keys()
        structure = structure | compare.differing_shapes(compare.weights(made), compare.weights(self.control))
        if differing or structure:
            # A constructor that is not deterministic (a clock, a unique name) differs from itself too.
            again, _ = self.part.build({}, self._start)
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
        """Keep weights that were loaded or trained before, and types and orders in memory that were set.

        Args:
            before: The object before it was rebuilt.
            restored: Why weights of the old shapes are needed anyway, ``""`` where they are not.
        """
        control, made = compare.weights(self.control), compare.weights(self.part.made)
        if before.forms and (added := made.keys() - before.weights.keys()):
            raise InjectionError(
                f"{self._names()} adds {_first(added)}, and types or orders in memory of other weights were set before "
                "fit.\n"
                f"  Set them in {self.part.name}.__init__ or in a hook such as configure_model, so that all have them."
            )
        compare.take_forms(before.forms, made)
        reshaped = compare.differing_shapes(before.weights, made)
        if not self._random_known and (reshaped or compare.differing_weights(control, made)):
            raise InjectionError(
                f"{self._names()} changes the initial weights of {self.part.name}, whose random state is not known.\n"
                f"  Import tunehook.integrations.lightning before {self.part.name} is constructed."
            )
        if reshaped and (before.loaded or restored):
            why = restored or "weights were loaded or trained before fit"
            if not restored and threading.current_thread() is not threading.main_thread():
                raise InjectionError(
                    f"{self._names()} changes the shape of {_first(reshaped)}, and in a thread it cannot be told "
                    "whether weights were loaded before fit: all threads share their random numbers.\n"
                    "  Train one trial after the other (n_jobs=1), or in processes: study.optimize(train, workers=2)."
                )
            raise InjectionError(
                f"{self._names()} changes the shape of {_first(reshaped)}, but {why}.\n"
                "  Such a hyperparameter can only be tuned from scratch: take it out of the space, or do not load."
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
        """Note arguments that arrived in an attribute, and in which ones; the control has done its work then."""
        control, made = compare.attributes(self.control), compare.attributes(self.part.made)
        own = {path for path in compare.differing(control, made) if not path.startswith("hparams.")}
        for name, value in self.new.items():
            self.kept[name] = [
                path for path in own if same(value, made.get(path)) and same(self.old.get(name), control.get(path))
            ]
            if any(same(value, made.get(path)) for path in own):
                self.used.add(name)
        self.control = None  # a second model, which the fit shall not hold

    def is_dead(self, name: str) -> bool:
        """Whether the object comes out the same with the old value of one new argument; not where nobody can know."""
        try:
            return self._is_dead(name)
        except Exception as error:  # noqa: BLE001 - the objects have been used by now, and may not let themselves be copied
            log.debug("Whether %s.%s is used was not checked: %r", self.part.kind, name, error)
            return False

    def _is_dead(self, name: str) -> bool:
        everything, end = self.part.build({}, self._start)
        # A constructor that refuses the old value beside the new ones reads it.
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


def _is_method_of(made: Any, value: Any) -> bool:
    return isinstance(value, MethodType) and value.__self__ is made


def _dropped(path: str, live: Mapping[str, Any]) -> bool:
    # fit drops saved hyperparameters that cannot be pickled
    return path.startswith("hparams.") and path not in live


def _listed(module: Any) -> list[Any]:
    callbacks = module.configure_callbacks()
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _first(names: set[str]) -> str:
    ordered = sorted(names)
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]} and {len(ordered) - 1} more"
