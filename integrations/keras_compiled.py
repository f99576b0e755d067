"""The optimizer of a compiled Keras model, whose settings are changed as if typed in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from tunehook.errors import InjectionError
from tunehook.inject import same
from tunehook.integrations import keras_config as config
from tunehook.integrations.keras_layer import first_line, put_back

_EXCLUDED = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")


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
            self._config = {} if made is None else config.read(self._optimizer)
        except Exception as error:  # noqa: BLE001 - get_config may be the user's code
            self._config = {}
            self.why_not = f"its get_config() raises {first_line(error)}"
        if hasattr(made, "_inner_optimizers"):
            self._config = {}
            self.why_not = (
                f"{type(made).__name__} holds several; their settings, such as optimizer.0.learning_rate, can be tuned "
                "where study.optimize calls the function that makes them"
            )
        if made is None:
            self.why_not = "the model has no optimizer; compile it before fit"

    def settings(self) -> dict[str, Any]:
        """The optimizer's settings by path; a schedule's own as ``learning_rate.<setting>``."""
        found = dict(config.settings(self._config))
        if self.schedule:
            del found["learning_rate"]  # a number would replace the schedule
        return found

    @property
    def optimizer(self) -> Any:
        """The optimizer, without what scales the loss around it; ``None`` where there is none."""
        return self._optimizer

    @property
    def steps(self) -> int:
        """How many steps the optimizer has made."""
        return 0 if self._optimizer is None else int(keras.ops.convert_to_numpy(self._optimizer.iterations))

    @property
    def schedule(self) -> str:
        """The class of the schedule that gives the learning rate, ``""`` where it is a number."""
        given: Any = self._config.get("learning_rate")
        return str(given["class_name"]) if config.is_object(given) else ""

    def present(self, path: str) -> Any:
        """What a setting is now."""
        return dict(config.settings(config.read(self._optimizer))).get(path)

    @contextlib.contextmanager
    def changed(self, changes: Mapping[str, Any], *, is_rebuilt: bool) -> Iterator[None]:
        """Give the optimizer other settings once the body has succeeded; it stays the same object.

        Args:
            changes: New settings by path.
            is_rebuilt: Whether the body makes weights of the model anew.

        Raises:
            InjectionError: Before the body: the optimizer does not take the new settings, or knows weights by object.
        """
        made = self._optimizer
        if changes or (is_rebuilt and getattr(made, "built", False)):
            made = self._made(changes)
            self._keep_excluded(made, is_rebuilt=is_rebuilt)
        yield
        if made is not self._optimizer:
            state = vars(made)
            vars(self._optimizer).clear()
            vars(self._optimizer).update(state)

    def holding(self) -> Callable[[], None]:
        """What puts the optimizer back as it is now."""
        held = [(each, dict(vars(each))) for each in (self._optimizer, getattr(self.model, "optimizer", None)) if each]

        def put_back_all() -> None:
            for each, state in held:
                put_back(each, state)

        return put_back_all

    def _made(self, changes: Mapping[str, Any]) -> Any:
        """The optimizer with other settings."""
        self._check_described()
        try:
            return self._from_config(config.edited(self._config, changes))
        except Exception as error:
            given = ", ".join(f"optimizer.{path} = {value!r}" for path, value in changes.items()) or "its own settings"
            raise InjectionError(
                f"The optimizer {type(self._optimizer).__name__} cannot be constructed again with {given}: "
                f"{first_line(error)}\n"
                "  Give values that it takes, and an optimizer of your own a get_config() that returns all arguments "
                "of its constructor."
            ) from error

    def _from_config(self, settings: Mapping[str, Any]) -> Any:
        own = {kind.__name__: kind for kind in config.classes(self._optimizer)}
        with keras.saving.custom_object_scope(own):
            return type(self._optimizer).from_config(dict(settings))

    def _check_described(self) -> None:
        """Check that the optimizer's own configuration makes what it is now."""
        try:
            ours, others = vars(self._optimizer), vars(self._from_config(self._config))
        except Exception:  # noqa: BLE001 - told with the new settings
            return
        lost = [
            name
            for name, value in ours.items()
            if not name.startswith("_")
            and name not in ("built", "name")
            and isinstance(value, int | float | str | None)
            and not same(value, others.get(name))
        ]
        if lost:
            raise InjectionError(
                f"The optimizer {type(self._optimizer).__name__} cannot be constructed again: its get_config() does "
                f"not tell {', '.join(sorted(lost))}, which would be lost.\n"
                "  Return all arguments of its constructor in get_config(), and set nothing on it afterwards; or take "
                "the name out of the space."
            )

    def _keep_excluded(self, made: Any, *, is_rebuilt: bool) -> None:
        """Keep what ``exclude_from_weight_decay`` was told, which no configuration holds."""
        held = vars(self._optimizer)
        if is_rebuilt and held.get("_exclude_from_weight_decay"):
            raise InjectionError(
                "exclude_from_weight_decay(var_list=...) names weights that are made anew with the new values.\n"
                "  Name them by exclude_from_weight_decay(var_names=[...]), or take the names of layers and of the "
                "model out of the space."
            )
        vars(made).update({name: held[name] for name in _EXCLUDED if name in held})

    def check_fresh(self, names: str) -> None:
        """Check that the optimizer has made no step yet.

        Args:
            names: What is about to change, for the message.

        Raises:
            InjectionError: It has: these steps were made with the old values.
        """
        steps = self.steps
        if steps:
            raise InjectionError(
                f"{names} cannot be changed in this fit: the model was trained before, its optimizer has made {steps} "
                "steps with the old values, and on TensorFlow and JAX the compiled step would go on with them.\n"
                "  Make and compile the model anew for each trial, inside the training function; for a further fit "
                "with other values compile it again before."
            )


def compile_again(model: Any, arguments: Mapping[str, Any], *, scaled: bool) -> None:
    """Compile a model that was constructed again.

    Args:
        model: The model.
        arguments: What it was compiled with.
        scaled: Whether its optimizer was wrapped to scale the loss.
    """
    keras.Model.compile(model, **{"auto_scale_loss": scaled, **arguments})
