"""The optimizer of a compiled Keras model, whose settings are changed as if typed in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tunehook.inject import InjectionError
from tunehook.integrations import keras_config as config
from tunehook.integrations.keras_graph import first_line


class Compiled:
    """What ``compile`` gave a model.

    Args:
        model: The model.

    Attributes:
        why_not: Why the optimizer's settings cannot be changed, ``""`` where they can.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.why_not = ""
        made: Any = getattr(model, "optimizer", None)
        self._optimizer: Any = made.inner_optimizer if isinstance(made, keras.optimizers.LossScaleOptimizer) else made
        try:
            self._config = {} if made is None else dict(self._optimizer.get_config())
        except Exception as error:  # noqa: BLE001 - get_config may be the user's code
            self._config = {}
            self.why_not = f"its get_config() raises {first_line(error)}"
        if made is None:
            self.why_not = "the model has no optimizer"

    def settings(self) -> dict[str, Any]:
        """The optimizer's settings by path; a schedule's own as ``learning_rate.<setting>``."""
        found = dict(config.settings(self._config))
        if "learning_rate" in found and config.is_object(self._config["learning_rate"]):
            del found["learning_rate"]  # a number would replace the schedule
        return found

    def present(self, path: str) -> Any:
        """What a setting is now."""
        return dict(config.settings(self._optimizer.get_config())).get(path)

    @contextlib.contextmanager
    def changed(self, changes: Mapping[str, Any]) -> Iterator[None]:
        """Give the optimizer other settings once the body has succeeded; it stays the same object.

        Raises:
            InjectionError: Before the body: the optimizer does not take the new settings.
        """
        made = self._made(changes) if changes else self._optimizer
        yield
        state = vars(made)
        if made is not self._optimizer:
            vars(self._optimizer).clear()
            vars(self._optimizer).update(state)

    def _made(self, changes: Mapping[str, Any]) -> Any:
        kind = type(self._optimizer)
        try:
            return kind.from_config(config.edited(self._config, changes))
        except Exception as error:
            given = ", ".join(f"optimizer.{path} = {value!r}" for path, value in changes.items())
            raise InjectionError(
                f"The optimizer {kind.__name__} cannot be constructed again with {given}: {first_line(error)}\n"
                "  Give values that it takes, and an optimizer of your own a get_config() that returns all arguments "
                "of its constructor."
            ) from error

    def check_fresh(self, names: str) -> None:
        """Check that the optimizer has made no step yet.

        Args:
            names: What is about to change, for the message.

        Raises:
            InjectionError: It has: these steps were made with the old values.
        """
        steps = 0 if self._optimizer is None else int(keras.ops.convert_to_numpy(self._optimizer.iterations))
        if steps:
            raise InjectionError(
                f"{names} cannot be changed in this fit: the model was trained before, its optimizer has made {steps} "
                "steps with the old values, and on TensorFlow and JAX the compiled step would go on with them.\n"
                "  Make and compile the model anew for each trial, inside the training function; for a further fit "
                "with other values compile it again before."
            )


def same_number(wanted: Any, present: Any) -> bool:
    """Whether two numbers are the same in the precision in which Keras keeps a learning rate."""
    if isinstance(wanted, bool) or isinstance(present, bool):
        return wanted is present
    if isinstance(wanted, int | float) and isinstance(present, int | float):
        return bool(np.float32(wanted) == np.float32(present))
    return bool(wanted == present)


def compile_again(model: Any, arguments: Mapping[str, Any], *, scaled: bool) -> None:
    """Compile a model that was constructed again.

    Args:
        model: The model.
        arguments: What it was compiled with.
        scaled: Whether its optimizer was wrapped to scale the loss.
    """
    keras.Model.compile(model, **{"auto_scale_loss": scaled, **arguments})
