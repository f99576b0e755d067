"""The model that a trial keeps, as a Keras file, with what its optimizer keeps; and the model back from it."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tunehook.session import Held, Kept
from tunehook.trial import StudyError, TrialError

SUFFIX, WEIGHTS = ".keras", ".weights.h5"
# What a file has besides the layers.
_OF_TRAINING = {"optimizer", "metrics", "compile_metrics"}


def hold(model: Any, callbacks: Iterable[Any] = ()) -> Held:
    """Hold a model as it is now, at the end of an epoch: its variables, and those of its optimizer.

    Args:
        model: The model.
        callbacks: Those of the fit.

    Raises:
        ValueError: The epoch has measured other weights.
    """
    if any(isinstance(one, keras.callbacks.SwapEMAWeights) and not one.swap_on_epoch for one in callbacks):
        raise ValueError(
            "SwapEMAWeights measures other weights than the model has at the end of the epoch; "
            "SwapEMAWeights(swap_on_epoch=True) lets it have them"
        )
    values = [(variable, value_of(variable)) for variable in variables_of(model)]

    def write(begun: Path) -> Path:
        now = [(variable, value_of(variable)) for variable in variables_of(model)]
        try:
            _assign(values)
            return _save(model, begun)
        finally:
            _assign(now)

    return write


def _save(model: Any, begun: Path) -> Path:
    """Save a model whole, or its weights alone where Keras cannot: a layer has arguments that no file holds."""
    path = begun.with_suffix(SUFFIX)
    try:
        model.save(path)
    except Exception as error:  # of the configurations that users write
        if isinstance(error, OSError) and error.errno is not None:  # no room, which may come back
            raise
        path.unlink(missing_ok=True)
        path = begun.with_suffix(WEIGHTS)
        model.save_weights(path)
    return path


def variables_of(model: Any) -> list[Any]:
    """All variables of a model and its optimizer, each once, up to date."""
    if hasattr(model, "jax_state_sync"):  # JAX keeps them elsewhere during an epoch
        model.jax_state_sync()
    optimizer = [] if model.optimizer is None else model.optimizer.variables
    return [*{id(one): one for one in (*model.variables, *optimizer)}.values()]


def value_of(variable: Any) -> Any:
    """A copy of the value of a variable."""
    return np.array(keras.ops.convert_to_numpy(variable.value))


def _assign(values: list[tuple[Any, Any]]) -> None:
    for variable, value in values:
        variable.assign(value)


def load(model: Any, kept: Kept) -> None:
    """Put the weights that were kept into a model that is built.

    Raises:
        TrialError: It is no Keras file.
        ValueError: Its weights are not those of the model.
    """
    if not kept.path.name.endswith((SUFFIX, WEIGHTS)):
        raise TrialError(f"Trial {kept.trial.number} kept {kept.path.name}, which is no Keras file.")
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model.load_weights(kept.path)
    with tempfile.TemporaryDirectory() as folder:
        now = Path(folder) / f"now{WEIGHTS}"
        model.save_weights(now)  # Keras passes over layers of the file that the model has not
        mine, theirs = dict(_weights(now)), dict(_weights(kept.path))
    if mine.keys() != theirs.keys():
        raise ValueError(f"it has {len(theirs)} weights, and the model {len(mine)}")
    if wrong := [name for name, value in mine.items() if value != theirs[name]]:
        raise ValueError(f"{', '.join(wrong[:3])} were not loaded")


def _weights(path: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The weights in a file of Keras, by their places."""
    found: list[tuple[str, tuple[Any, ...]]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.partition("/")[0] not in _OF_TRAINING:
            value = np.asarray(item)
            found.append((name, (value.shape, str(value.dtype), value.tobytes())))

    with contextlib.ExitStack() as opened:
        file: Any = path
        if path.suffix == SUFFIX:
            archive = opened.enter_context(zipfile.ZipFile(path))
            file = opened.enter_context(archive.open("model.weights.h5"))
        opened.enter_context(h5py.File(file)).visititems(visit)
    yield from found


def load_model(path: Path) -> Any:
    """The model in a Keras file.

    Raises:
        StudyError: It has classes that Keras does not know, or weights alone.
    """
    if path.suffix != SUFFIX:
        raise _not_alone(path, "it has weights alone, since a class was given what Keras cannot save")
    try:
        return keras.models.load_model(path)
    except (TypeError, ValueError) as error:
        raise _not_alone(path, str(error).partition(" Full object config")[0]) from error


def _not_alone(path: Path, why: str) -> StudyError:
    return StudyError(
        f"Keras cannot make the model from {path} alone: {why}\n"
        "  Give the training that makes it: study.best_model(train). It is called up to its fit, with the trial's "
        "values, and trains nothing.\n"
        "  Or register its classes: @keras.saving.register_keras_serializable()."
    )
