"""Settings of a Lightning Trainer that can still be changed when fit begins, and those that cannot."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from tunehook.errors import InjectionError
from tunehook.inject import Slot
from tunehook.inject.calls import trace_in_progress
from tunehook.integrations import lightning_record as record
from tunehook.integrations.lightning_construct import lightning_base, namespace_of

_TOO_LATE = ("accelerator", "devices", "num_nodes", "precision", "strategy")
_AUTOMATIC = ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")


class TrainerSettings:
    """The slots of a trainer.

    Args:
        trainer: A Trainer in callback.setup.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._set: dict[str, Any] = {}

    def slots(self) -> list[Slot]:
        """One slot for each setting; those that are decided when the Trainer is made only raise."""
        trace = trace_in_progress()
        call = None if trace is None else trace.of(self._trainer)
        made = [
            self._slot("max_epochs", self._check_limit, int),
            self._slot("max_steps", self._check_limit, int),
            self._slot("accumulate_grad_batches", self._check_accumulation, int),
            self._slot("gradient_clip_val", self._check_clip, float | None),
            self._slot("gradient_clip_algorithm", self._check_algorithm, str),
        ]
        if call is not None:  # all arguments of the Trainer, for they are put in where it is made
            own = call.in_force()
            taken = {slot.path for slot in made}
            return made + [
                Slot(f"trainer.{name}", get=functools.partial(own.get, name), set=_nothing, rank=1, listed=False)
                for name in own if f"trainer.{name}" not in taken
            ]  # fmt: skip
        return made + [
            Slot(
                f"trainer.{name}",
                get=functools.partial(self._get, name),
                set=functools.partial(_too_late, name),
                rank=1,
                listed=False,
            )
            for name in _TOO_LATE
        ]

    def _slot(self, name: str, check: Callable[[str, Any], None], kind: object) -> Slot:
        def set_(value: Any) -> None:
            check(name, value)
            self._put(name, value)

        return Slot(f"trainer.{name}", get=functools.partial(self._get, name), set=set_, rank=1, type=kind)

    def _get(self, name: str) -> Any:
        value = getattr(self._trainer, "num_devices" if name == "devices" else name, None)
        return getattr(value, "value", value)  # the algorithm is an enumeration

    def _put(self, name: str, value: Any) -> None:
        self._set[name] = value
        if name == "max_epochs":
            self._trainer.fit_loop.max_epochs = value  # the trainer's own have no setters
        elif name == "max_steps":
            self._trainer.fit_loop.epoch_loop.max_steps = value
            if value != -1 and "max_epochs" not in self._set and self._is_epochs_default():
                self._trainer.fit_loop.max_epochs = -1  # as fit does, had the steps been known when it began
        elif name == "gradient_clip_algorithm":
            enums = sys.modules[f"{namespace_of(type(self._trainer))}.utilities.enums"]
            self._trainer.gradient_clip_algorithm = enums.GradClipAlgorithmType(value)
        else:
            setattr(self._trainer, name, value)

    def _is_epochs_default(self) -> bool:
        """Whether the script gave the Trainer no number of epochs."""
        call = record.recorded(self._trainer)
        if call is None:
            return False
        given = inspect.signature(lightning_base(type(self._trainer))).bind(*call["args"], **call["kwargs"])
        return given.arguments.get("max_epochs") is None

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


def _nothing(_value: Any) -> None:
    """Set nothing: the Trainer was made with the value."""


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(name: str, value: Any, holds: bool, rule: str) -> None:
    if not holds:
        raise InjectionError(f"trainer.{name} is {value!r}, but it takes {rule}.\n  Use a distribution that gives one.")


def _too_late(name: str, value: Any) -> None:
    raise InjectionError(
        f"trainer.{name} = {value!r} cannot be injected: it is decided when the Trainer is made, before callbacks "
        "run.\n"
        f"  Take it out of the space and give it to Trainer({name}=...) yourself."
    )
