"""Checkpoints of a fit of Keras that may be interrupted: kept at the ends of epochs, and restored as Keras does it.

The weights, with all that optimizers keep, go through ``save_weights``, and ``fit`` is told the epoch to begin with, as
``BackupAndRestore`` has it. What that leaves out is kept beside: the states of the random generators and of the
callbacks.
"""
# ruff: noqa: SLF001 - the epoch to begin with, and the seeds of layers, have no public way

from __future__ import annotations

import datetime
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

from tunehook.adapter import Alone, Resume, parts_of, problem_on, scaled
from tunehook.integrations.keras import host
from tunehook.session import TrialSession
from tunehook.system import (
    generator_states,
    kept_random,
    random_state,
    restore_generators,
    restore_random,
)

_WEIGHTS = "model.weights.h5"
_REST = "rest.pickle"
# What Keras itself puts into a callback for each fit.
_NOT_KEPT = {"_model", "model", "params", "_tunehook_state"}
_NUMBERS = (bool, int, float, complex, np.ndarray, np.generic)
_PLAIN = (*_NUMBERS, str, bytes, type(None), Path, datetime.date, datetime.timedelta)


class FitCheckpoints:
    """Keeps checkpoints of one fit, and lets it go on from that of an earlier attempt.

    A callback that comes after all others calls `start` in ``on_train_begin``, `begin_epoch` and `end_epoch`, and
    `finish` with what ``fit`` returned.

    Args:
        session: The session of the trial.
        model: The model.
        arguments: The arguments of ``fit``.
        callbacks: The other callbacks of the fit.
    """

    def __init__(
        self, session: TrialSession, model: Any, arguments: Mapping[str, Any], callbacks: Sequence[Any]
    ) -> None:
        self._model, self._arguments, self._callbacks = model, arguments, callbacks
        self._states: list[dict[str, bytes]] = []
        self._epochs: list[tuple[int, dict[str, Any]]] = []
        self._has_first = False
        self._kept = 0  # how many epochs the history has from earlier attempts
        self._rate: float | None = None  # with which the optimizer was made
        has_own = any(isinstance(one, keras.callbacks.BackupAndRestore) for one in callbacks)
        self._resume = Resume(session, Alone(), "a BackupAndRestore of yours does it" if has_own else "")

    def start(self) -> None:
        """Go on, or begin; from here on a checkpoint is kept at the ends of epochs."""
        self._rate = self._read_rate()
        if self._resume.begin():
            self._states = [*map(_plain_state, self._callbacks)]
            folder = self._resume.find()
            self._resume.open(is_restored=folder is not None and self._restore(folder))

    def begin_epoch(self) -> None:
        """Let a later fit of the model begin with its own first epoch."""
        self._resume.notice.begin_epoch()
        self._forget_first()

    def _forget_first(self) -> None:
        if self._has_first:
            self._model._initial_epoch, self._has_first = None, False

    def end_epoch(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """Keep a checkpoint, where one is due and the training goes on; a SIGTERM that was held back ends it then."""
        notice, is_kept = self._resume.notice, self._resume.is_kept
        goes_on = epoch + 1 < int(self._arguments.get("epochs", 1)) and not self._model.stop_training
        if is_kept:
            self._epochs.append((epoch, dict(logs)))
        ends = self._resume.ends_interval(epoch + 1)
        if is_kept and goes_on and (ends or notice.is_given or self._resume.is_due(self._size())):
            random, keep = random_state(), self._resume.set_aside if ends else self._resume.keep
            with kept_random(), self._resume.measured():
                keep(lambda folder: self._write(folder, epoch + 1, random))
            if ends:
                self._model.stop_training = True
        if goes_on and notice.is_given:
            notice.pass_on()

    def close(self) -> None:
        """Undo what was for this fit only; may be called more than once."""
        self._resume.close()
        self._forget_first()

    def finish(self, history: Any) -> None:
        """Complete the history that ``fit`` returns with the epochs of earlier attempts."""
        if not self._kept or not isinstance(history, keras.callbacks.History):
            return
        before = self._epochs[: self._kept]
        if history.epoch[:1] == [before[0][0]]:  # a History of the user's, which has them
            return
        history.epoch[:0] = [epoch for epoch, _ in before]
        for name in {name for _, logs in before for name in logs}:
            history.history[name] = [logs[name] for _, logs in before if name in logs] + history.history.get(name, [])

    # ------------------------------------------------------------------ writing and reading

    def _write(self, folder: Path, epoch: int, random: Mapping[str, Any]) -> None:
        model = self._model
        host.sync(model)
        now = [*map(_plain_state, self._callbacks)]
        rest = {
            "epoch": epoch,
            "epochs": self._epochs,
            "made_by": _versions(),
            "rate": self._rate,
            "build": model.get_build_config(),
            "weights": len(model.weights),
            "variables": self._size_of_optimizer,
            "seeds": [value_of(state) for state in _seeds(model)],
            "global_seed": value_of(state) if (state := _global_seed()) is not None else None,
            "random": random,
            "generators": generator_states(self._owners()),
            "callbacks": [
                {name: value for name, value in state.items() if before.get(name) != value}
                for before, state in zip(self._states, now, strict=True)
            ],
        }
        (folder / _REST).write_bytes(pickle.dumps(rest))
        model.save_weights(folder / _WEIGHTS)

    def _restore(self, folder: Path) -> bool:
        """Restore everything; where that fails, leave everything as it was."""
        random, rest, before = random_state(), dict[str, Any](), list[tuple[Any, Any]]()
        problem = problem_on(Alone(), lambda: rest.update(self._load(folder, before)))
        if problem:
            for variable, value in before:
                variable.assign(value)
            restore_random(random)
            self._resume.start_over(problem)
            return False
        for callback, state in zip(self._callbacks, rest["callbacks"], strict=True):
            for name, value in state.items():
                setattr(callback, name, pickle.loads(value))  # noqa: S301 - our own file
        if rest["global_seed"] is not None:
            seed_generator.global_seed_generator().state.assign(rest["global_seed"])
        restore_random(rest["random"])
        self._epochs, self._kept = list(rest["epochs"]), len(rest["epochs"])
        self._model._initial_epoch, self._has_first = rest["epoch"], True
        return True

    def _load(self, folder: Path, before: list[tuple[Any, Any]]) -> dict[str, Any]:
        """Restore the model and the generators of the training's own.

        Args:
            folder: The checkpoint.
            before: Gets the variables with their values, before anything changes them.

        Returns:
            What is to be restored after them.

        Raises:
            ValueError: The checkpoint is another training's.
            OSError, UnpicklingError: It cannot be read.
        """
        model = self._model
        rest: dict[str, Any] = pickle.loads((folder / _REST).read_bytes())  # noqa: S301 - our own file
        if rest["made_by"] != _versions():
            raise ValueError(f"it was made by {rest['made_by']}")
        if rest["epoch"] >= int(self._arguments.get("epochs", 1)):
            raise ValueError(f"it was made after {rest['epoch']} epochs")
        if len(self._callbacks) != len(rest["callbacks"]):
            raise ValueError(f"it was made with {len(rest['callbacks'])} callbacks")
        _build(model, rest["build"], weights=rest["weights"])
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        before += [(variable, value_of(variable)) for variable in self._variables()]
        if rest["variables"] != self._size_of_optimizer:  # Keras would leave them all out, with a warning
            raise ValueError(f"its optimizer has {rest['variables']} variables, and this one {self._size_of_optimizer}")
        model.load_weights(folder / _WEIGHTS)
        old, new, present = rest["rate"], self._rate, self._read_rate()
        if self._resume.is_parents and new is not None and old is not None and present is not None and new != old:
            model.optimizer.learning_rate = scaled(present, old, new)
        for state, value in zip(_seeds(model), rest["seeds"], strict=True):
            state.assign(value)
        restore_generators(self._owners(), rest["generators"])
        return rest

    def _variables(self) -> list[Any]:
        """All that a checkpoint may change."""
        model = self._model
        optimizer = [] if model.optimizer is None else model.optimizer.variables
        return [*{id(one): one for one in (*model.variables, *optimizer, *_seeds(model))}.values()]

    def _read_rate(self) -> float | None:
        """The present learning rate; ``None`` where it follows from the number of steps alone."""
        optimizer = self._model.optimizer
        given = getattr(getattr(optimizer, "inner_optimizer", optimizer), "_learning_rate", None)
        return float(keras.ops.convert_to_numpy(given.value)) if isinstance(given, keras.Variable) else None

    @property
    def _size_of_optimizer(self) -> int:
        return 0 if self._model.optimizer is None else len(self._model.optimizer.variables)

    def _size(self) -> int:
        """Bytes of the weights and of what the optimizer keeps."""
        return sum(4 * int(np.prod(variable.shape)) for variable in self._variables())

    def _owners(self) -> list[object]:
        """What may hold generators of the training's own: the model, the callbacks and the data."""
        data = [self._arguments.get(name) for name in ("x", "validation_data")]
        return [self._model, *self._callbacks, *(part for one in data for part in parts_of(one))]


def _build(model: Any, config: dict[str, Any] | None, *, weights: int) -> None:
    """Build a model that its first batch would build, as classes on TensorFlow; Keras loads weights into no other.

    Raises:
        ValueError: It has not as many weights then as the one of the checkpoint.
    """
    if not model.built:
        with warnings.catch_warnings(), keras.name_scope(model.name, caller=model):
            warnings.simplefilter("ignore")  # where it cannot, which is told below
            model.build_from_config(config)
    if weights != len(model.weights):
        raise ValueError(f"its model has {weights} weights, and this one {len(model.weights)} before its first batch")
    model.built = True


def seed_generators(model: Any) -> Iterator[Any]:
    """The generators of the random numbers of its layers."""
    for layer in model._flatten_layers():
        yield from layer._seed_generators


def _seeds(model: Any) -> list[Any]:
    """The states of the seed generators, which ``save_weights`` leaves out."""
    return [generator.state for generator in seed_generators(model)]


def _global_seed() -> Any:
    """The state of Keras's own seed generator, ``None`` where it was not used yet."""
    generator = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state


def value_of(variable: Any) -> Any:
    """A copy of the present numbers of a variable."""
    return np.array(keras.ops.convert_to_numpy(variable.value))


def _versions() -> str:
    return f"Keras {keras.__version__} on {keras.backend.backend()}"


def _plain_state(callback: Any) -> dict[str, bytes]:
    """The plain attributes of a callback, pickled; those that a fit has changed tell how far it was."""
    held = vars(callback).items()
    return {name: pickle.dumps(value) for name, value in held if name not in _NOT_KEPT and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())
    if type(value) in (list, tuple, set, frozenset):
        return all(map(_is_plain, value))
    if isinstance(value, FunctionType | BuiltinFunctionType | type):  # by its name, such as keras.ops.less
        return _is_importable(value)
    return isinstance(value, _PLAIN)


def _is_importable(value: Callable[..., Any]) -> bool:
    try:
        pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True
