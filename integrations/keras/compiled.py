"""The optimizer of a compiled Keras model: its settings, and those that it takes when it exists already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from tunehook.integrations.keras import config, host
from tunehook.trial import InjectionError


class Compiled:
    """What ``compile`` gave a model.

    Args:
        model: The model.

    Attributes:
        optimizer: The optimizer, without what scales the loss around it; ``None`` where there is none.
        why_not: Why the optimizer's settings cannot be changed, ``""`` where they can.
    """

    def __init__(self, model: Any) -> None:
        self.why_not = ""
        made: Any = getattr(model, "optimizer", None)
        self.optimizer: Any = made.inner_optimizer if isinstance(made, keras.optimizers.LossScaleOptimizer) else made
        self._config: Mapping[str, Any] = {}
        self._staged: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        if made is None:
            self.why_not = "the model has no optimizer; compile it before fit"
        elif not host.chooses(made):  # of several, each has its settings
            try:
                self._config = config.read(self.optimizer)
            except Exception as error:  # noqa: BLE001 - get_config may be the user's code
                self.why_not = f"its get_config() raises {type(error).__name__}: {error}"

    def settings(self) -> dict[str, Any]:
        """The optimizer's settings by path; a schedule's own as ``learning_rate.<setting>``."""
        found = dict(config.settings(self._config))
        if self.schedule:
            del found["learning_rate"]  # a number would replace the schedule
        return found

    @property
    def steps(self) -> int:
        """How many steps the optimizer has made."""
        return 0 if self.optimizer is None else int(keras.ops.convert_to_numpy(self.optimizer.iterations))

    @property
    def schedule(self) -> str:
        """The class of the schedule that gives the learning rate, ``""`` where it is a number."""
        given: Any = self._config.get("learning_rate")
        return str(given["class_name"]) if config.is_object(given) else ""

    def present(self, path: str) -> Any:
        """What a setting is now."""
        value = dict(config.settings(config.read(self.optimizer))).get(path)
        given = self._staged.get(path, value)
        return given if config.alike(given, value) else value  # as it was given: Keras keeps a rate as a 32-bit number

    def is_settable(self, path: str) -> bool:
        """Whether setting it now is the same as typing it in: an optimizer of Keras reads it when it is built only."""
        if not host.is_plain(type(self.optimizer)):
            return False
        return path == "learning_rate" or (path in vars(self.optimizer) and not self.optimizer.built)

    def stage(self, path: str, value: Any) -> None:
        """Note a new value of a setting, for `commit`."""
        self._staged[path] = value

    def commit(self) -> None:
        """Set all values that were noted.

        Raises:
            InjectionError: The optimizer has made steps with others.
            ValueError: It does not take them.
        """
        changes = {path: value for path, value in self._staged.items() if self.present(path) is not value}
        if not changes:
            return
        if self.steps:
            raise InjectionError(
                f"{', '.join(f'optimizer.{path}' for path in changes)} cannot be changed in this fit: the optimizer "
                f"has made {self.steps} steps with the old values.\n"
                "  Make and compile a new model for each trial."
            )
        type(self.optimizer).from_config({**self._config, **changes})  # says what is wrong with them
        for path, value in changes.items():
            self._before.setdefault(path, self._config[path])
            setattr(self.optimizer, path, value)

    def undo(self) -> None:
        """Give an optimizer that made no step its own values back."""
        while self._before:
            setattr(self.optimizer, *self._before.popitem())
