"""Settings of a Lightning Trainer that can still be changed when fit begins."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection
from typing import Any

from tunehook.inject import Slot
from tunehook.integrations.lightning.calls import base_of
from tunehook.integrations.lightning.namespaces import NAMESPACES
from tunehook.trial import InjectionError

_AUTOMATIC = ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")


class TrainerSettings:
    """The slots of those settings.

    Args:
        trainer: The Trainer.
        has_epochs: Whether the script gave it a number of epochs.
        in_call: The arguments whose values went into the call that made it, so that nothing is left to set.
        is_later: Whether the fit is not the first one of its trial. The script may have set them since, to go on.
    """

    def __init__(
        self, trainer: Any, *, has_epochs: bool, in_call: Collection[str] = (), is_later: bool = False
    ) -> None:
        self._trainer = trainer
        self._has_epochs, self._in_call, self._is_later = has_epochs, in_call, is_later
        self._set: dict[str, Any] = {}

    def slots(self) -> list[Slot]:
        """One slot for each setting."""
        slots = [
            self._slot("max_epochs", self._check_limit, int),
            self._slot("max_steps", self._check_limit, int),
            self._slot("accumulate_grad_batches", self._check_accumulation, int),
            self._slot("gradient_clip_val", self._check_clip, float | None),
            self._slot("gradient_clip_algorithm", self._check_algorithm, str),
        ]
        return [slot for slot in slots if not (self._is_later and slot.short in self._in_call)]

    def _slot(self, name: str, check: Callable[[str, Any], None], kind: object) -> Slot:
        def set_(value: Any) -> None:
            check(name, value)
            self._put(name, value)

        return Slot(
            f"trainer.{name}", get=functools.partial(self._get, name), set=set_, rank=1, type=kind,
            alias=f"Trainer.{name}", early=True,
        )  # fmt: skip

    def _get(self, name: str) -> Any:
        value = getattr(self._trainer, name, None)
        return getattr(value, "value", value)  # the algorithm is an enumeration

    def _put(self, name: str, value: Any) -> None:
        self._set[name] = value
        if name in self._in_call:
            return
        if name == "max_epochs":
            self._trainer.fit_loop.max_epochs = value  # the trainer's own have no setters
        elif name == "max_steps":
            self._trainer.fit_loop.epoch_loop.max_steps = value
            if value != -1 and "max_epochs" not in self._set and not self._has_epochs:
                self._trainer.fit_loop.max_epochs = -1  # as fit does, had the steps been known when it began
        elif name == "gradient_clip_algorithm":
            module = getattr(base_of(type(self._trainer))[0], "__module__", "")
            enums = sys.modules[f"{next(filter(module.startswith, NAMESPACES))}.utilities.enums"]
            self._trainer.gradient_clip_algorithm = enums.GradClipAlgorithmType(value)
        else:
            setattr(self._trainer, name, value)

    def check_automatic(self, module: Any) -> None:
        """Check that settings which only automatic optimization heeds are not set for a manual one.

        Raises:
            InjectionError: They are. Lightning checked that before the values were injected.
        """
        names = [f"trainer.{name}" for name in _AUTOMATIC if name in self._set]
        if names and not module.automatic_optimization:
            raise InjectionError(
                f"{', '.join(names)} has no effect: {type(module).__name__} optimizes manually "
                "(automatic_optimization = False).\n"
                "  Make it an argument of the module's constructor and use it in training_step."
            )

    @staticmethod
    def _check_limit(name: str, value: Any) -> None:
        _require(name, value, _is_int(value) and value >= -1, "an integer from 0, or -1 for no limit")

    @staticmethod
    def _check_accumulation(name: str, value: Any) -> None:
        _require(name, value, _is_int(value) and value >= 1, "an integer from 1")

    @staticmethod
    def _check_clip(name: str, value: Any) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _require(name, value, value is None or (number and value >= 0), "a number from 0, or None for no clipping")

    @staticmethod
    def _check_algorithm(name: str, value: Any) -> None:
        _require(name, value, value in ("norm", "value"), "'norm' or 'value'")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(name: str, value: Any, holds: bool, rule: str) -> None:
    if not holds:
        raise InjectionError(f"trainer.{name} is {value!r}, but it takes {rule}.\n  Use a distribution that gives one.")
