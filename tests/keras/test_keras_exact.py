"""Bit for bit: what a tuned fit trains is what the plain script trains with the same values typed in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import pytest

from keras_projects import (
    KINDS,
    OWN,
    QUIET,
    assert_same,
    plain,
    project,
    tuned,
)

pytestmark = QUIET

SETTINGS: dict[str, tuple[str, Any]] = {
    "units": ("layer.first.units", 7),
    "rate": ("layer.drop.rate", 0.25),
    "l2": ("layer.first.kernel_regularizer.l2", 0.3),
    "activation": ("layer.first.activation", "tanh"),
    "initializer": ("layer.first.kernel_initializer", "he_normal"),
}


def compare(script: Any, values: Mapping[str, Any], typed: Mapping[str, Any], **fixed: Any) -> None:
    """The tuned script equals the plain one, and the values made a difference."""
    expected = plain(script, **fixed, **typed)
    assert_same(tuned(script, values, **fixed), expected)


# ---------------------------------------------------------------------- layers and constructors


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_setting_of_a_layer(kind: str, name: str) -> None:
    """A setting of a layer trains the same as if it were typed in, whatever the model."""
    path, value = SETTINGS[name]
    compare(functools.partial(project, kind), {path: value}, {name: value})


@pytest.mark.parametrize("kind", KINDS)
def test_all_settings_at_once(kind: str) -> None:
    """Values of layers, optimizer and fit together train the same as if they were typed in."""

    def script(
        rate: float = 0.01, decay: float = 0.1, batch_size: int = 4, epochs: int = 2, **typed: Any
    ) -> tuple[Any, dict[str, Any]]:
        fit = {"batch_size": batch_size, "epochs": epochs}
        return project(kind, optimizer=lambda: keras.optimizers.AdamW(rate, weight_decay=decay), fit=fit, **typed)

    values = {path: value for name, (path, value) in SETTINGS.items()}
    typed = {name: value for name, (path, value) in SETTINGS.items() if name != "rate"}
    values |= {"learning_rate": 0.05, "weight_decay": 0.02, "batch_size": 3, "epochs": 3}
    del values["layer.drop.rate"]
    compare(script, values, {**typed, "rate": 0.05, "decay": 0.02, "batch_size": 3, "epochs": 3})


@pytest.mark.parametrize(
    "values", [{"units": 7}, {"model.rate": 0.25}, {"model.units": 7, "l2": 0.3, "model.activation": "tanh"}]
)
@pytest.mark.parametrize("kind", OWN)
def test_argument_of_a_model(kind: str, values: dict[str, Any]) -> None:
    """An argument of the model's constructor trains the same as if it were typed in."""
    typed = {name.removeprefix("model."): value for name, value in values.items()}
    compare(functools.partial(project, kind), values, typed)
