"""One Lightning object as a constructor call that can be made again with other arguments."""

from __future__ import annotations

import contextlib
import copy
import inspect
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import nn

from tunehook.errors import InjectionError
from tunehook.inject.arguments import NAMED, Arguments
from tunehook.integrations import lightning_compare as compare
from tunehook.integrations import lightning_record as record
from tunehook.integrations.lightning_calls import base_of

Kind = Literal["model", "data"]

_INSTANTIATOR = "_instantiator"  # the key by which Lightning's command line marks its hyperparameters


class Construction(Arguments):
    """The constructor call of a LightningModule or LightningDataModule.

    Args:
        made: The live object.
        kind: ``"model"`` or ``"data"``, the first part of slot paths.

    Attributes:
        why_not: Why the call cannot be made again, ``""`` where it can.
        missing: Required arguments that are not known, because hyperparameters were saved without them.
    """

    def __init__(self, made: Any, kind: Kind) -> None:
        self.made = made
        self.kind = kind
        super().__init__(type(made), lightning_base(type(made)))
        self.name = self.cls.__name__
        self.why_not = ""
        self.missing: list[str] = []
        self._load()

    def _load(self) -> None:
        self.call = record.recorded(self.made)
        if self.call is not None:
            self.bound = self.signature.bind(*self.call["args"], **self.call["kwargs"])
        elif compare.hparams(self.made):
            self.bound = self._from_hparams()
        else:
            self.bound = self.signature.bind_partial()
            if self.parameters:
                self.why_not = (
                    f"{self.name} was constructed before tunehook.integrations.lightning was imported, and does not "
                    "call save_hyperparameters()"
                )

    def _from_hparams(self) -> inspect.BoundArguments:
        """Take the arguments from ``hparams``, by the rules of ``load_from_checkpoint``."""
        saved = {name: value for name, value in compare.hparams(self.made).items() if name != _INSTANTIATOR}
        whole = vars(self.made).get("_hparams_name")
        own = self.signature.parameters
        if whole in own and own[whole].kind is not inspect.Parameter.VAR_KEYWORD:
            saved = {whole: self.made.hparams}
        if self.rest is None:
            saved = {name: value for name, value in saved.items() if name in own}
        required = [name for name, item in own.items() if item.default is item.empty and item.kind in NAMED]
        self.missing = [name for name in required if name not in saved]
        return self.signature.bind_partial(**saved)

    @property
    def random(self) -> Mapping[str, Any] | None:
        """The random state that the call began with; ``None`` where only hyperparameters are known."""
        return None if self.call is None else self.call["random"]

    def values(self) -> dict[str, Any]:
        """The present arguments by name, defaults included; none where the call cannot be made again."""
        return {} if self.why_not else super().values()

    def build(self, new: Mapping[str, Any], start: record.State) -> tuple[Any, dict[str, Any]]:
        """Construct another object, with copies of the arguments that a constructor may change.

        Args:
            new: Arguments that replace the present ones.
            start: The random state to begin with.

        Returns:
            The object and the random state afterwards.

        Raises:
            InjectionError: The constructor raises, though it did not when the script called it, or its arguments cannot
                be copied.
        """
        args, kwargs = self.arguments(new)
        with self._surroundings(new):
            try:
                copies = [_own(arg) for arg in args], {name: _own(arg) for name, arg in kwargs.items()}
                record.restore_random(start)
                made = self.cls(*copies[0], **copies[1])
            except Exception as error:
                raise InjectionError(
                    f"{self.name} cannot be constructed again with its own arguments: {type(error).__name__}: "
                    f"{error}\n"
                    "  Its constructor must not use up what it is given; or take its hyperparameters out of the space."
                ) from error
            return made, record.random_state()

    def rebuild(self, new: Mapping[str, Any], start: record.State) -> dict[str, Any]:
        """Run the constructor again on the live object.

        Args:
            new: Arguments that replace the present ones.
            start: The random state to begin with.

        Returns:
            The random state afterwards.
        """
        args, kwargs = self.arguments(new)
        before = dict(vars(self.made))
        with self._surroundings(new):
            vars(self.made).clear()
            record.restore_random(start)
            known = {"order": -1, "random": None} if self.random is None else _pick(self.call, "order", "seed")
            vars(self.made)[record.KEY] = record.new_call(args, kwargs, **known)
            self.cls.__init__(self.made, *args, **kwargs)  # type: ignore[misc]
            end = record.random_state()
        self._keep_managed(before)
        self._load()
        return end

    def _keep_managed(self, before: Mapping[str, Any]) -> None:
        """Carry over what Lightning set on the object since it was constructed."""
        live = vars(self.made)
        kept = compare.MANAGED - {"_param_requires_grad_state", "_metric_attributes"}
        if before.get("_compiler_ctx") is not None:
            kept |= compare.COMPILED
        live.update({name: before[name] for name in kept if name in before})
        saved = before.get("_hparams")
        if isinstance(saved, dict) and isinstance(live.get("_hparams"), dict):
            for name in live["_hparams"].keys() - saved.keys():  # what cannot be pickled is dropped when fit begins
                dict.__delitem__(live["_hparams"], name)

    @contextlib.contextmanager
    def _surroundings(self, new: Mapping[str, Any]) -> Iterator[None]:
        """What stood around the call: the default type and device, and hyperparameters given by a command line."""
        call = self.call or {}
        dtype, device = torch.get_default_dtype(), torch.empty(0).device
        with contextlib.ExitStack() as stack:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(call.get("dtype", dtype))
            if call.get("device", device) != device:
                stack.enter_context(call["device"])
            stack.enter_context(self._given_hparams(new))
            yield

    def _given_hparams(self, new: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
        saved = dict(compare.hparams(self.made))
        if _INSTANTIATOR not in saved:
            return contextlib.nullcontext()
        mixin = sys.modules[f"{self.base.__module__.split('.core.')[0]}.core.mixins.hparams_mixin"]
        instantiator = saved.pop(_INSTANTIATOR)
        context: contextlib.AbstractContextManager[None] = mixin._given_hyperparameters_context(  # noqa: SLF001
            {**saved, **new}, instantiator
        )
        return context

    def check_complete(self) -> None:
        """Raise where a required argument is not known."""
        if self.missing:
            names = ", ".join(self.missing)
            raise InjectionError(
                f"{self.name} cannot be constructed again: its argument {names} is not among its saved "
                "hyperparameters.\n"
                f"  Import tunehook.integrations.lightning before {self.name} is constructed, or do not ignore {names} "
                "in save_hyperparameters()."
            )


def lightning_base(cls: type) -> type:
    """The LightningModule, LightningDataModule or Trainer that a class derives from.

    Raises:
        InjectionError: There is none.
    """
    base, kind = base_of(cls)
    if base is None or kind not in ("model", "data", "trainer"):
        raise InjectionError(f"{cls.__name__} is not a class of Lightning.")
    return base


def namespace_of(cls: type) -> str:
    """The namespace of a Lightning class: ``lightning.pytorch`` or ``pytorch_lightning``."""
    module = lightning_base(cls).__module__
    return next(name for name in record.NAMESPACES if module.startswith(name))


def _pick(call: Mapping[str, Any] | None, *names: str) -> dict[str, Any]:
    return {name: call[name] for name in names} if call is not None else {}


def _own(value: Any) -> Any:
    """A copy of what a constructor may change: modules and containers; everything else by reference."""
    if isinstance(value, nn.Module):
        # A module that keeps what it computed last, as some losses do: torch copies no tensor that has a history.
        kept = [held for each in value.modules() for held in vars(each).values() if isinstance(held, torch.Tensor)]
        return copy.deepcopy(value, {id(held): held.detach().clone() for held in kept if not held.is_leaf})
    if type(value) in (list, tuple, set):
        return type(value)(_own(item) for item in value)
    if type(value) is dict:
        return {key: _own(item) for key, item in value.items()}
    return copy.copy(value) if isinstance(value, dict | list | set) else value
