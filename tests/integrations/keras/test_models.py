"""Kept models of Keras: classes that Keras does not know, and callbacks that measure other weights."""

from __future__ import annotations

from typing import Any

import keras
import pytest

import keras_projects as projects
import tunehook as th
from keras_projects import ONCE, QUIET, X, Y
from tunehook.integrations.keras import TuneCallback

pytestmark = [QUIET, *ONCE]


class Mine(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer of the user's own, with an argument that no file can hold."""

    def __init__(self, factor: Any = None) -> None:
        super().__init__()
        self.factor = factor

    def call(self, rows: Any) -> Any:
        return rows if self.factor is None else self.factor() * rows


def trained(*callbacks: Any, layer: Any = None) -> tuple[th.Study, Any]:
    """A study of one trial, whose training has these callbacks."""

    def train() -> None:
        projects.begin()
        inner = keras.layers.Dense(3) if layer is None else layer()
        model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5), "mse")
        model.fit(X, Y, epochs=3, validation_data=(X, Y), verbose=0, callbacks=[*callbacks, TuneCallback()])

    study = projects.study({"optimizer.learning_rate": 0.05}, metric="val_loss", keep="best")
    study.optimize(train, trials=1, progress=False)
    return study, train


def test_a_class_of_the_users_own() -> None:
    """The training makes it; the file alone cannot, and the error says what to do."""
    study, train = trained(layer=lambda: Mine(lambda: 2.0))
    with pytest.raises(
        th.StudyError, match=r"it has weights alone, since .*\n  Give the training .* study\.best_model"
    ):
        study.best_model()
    assert study.best_model(train).evaluate(X, Y, verbose=0) == study.best.value
    study, train = trained(layer=Mine)
    with pytest.raises(
        th.StudyError, match=r"Could not locate class 'Mine'.*\n  Give the training .* study\.best_model"
    ):
        study.best_model()
    assert study.best_model(train).evaluate(X, Y, verbose=0) == study.best.value


def test_averaged_weights(caplog: pytest.LogCaptureFixture) -> None:
    """The averages that were measured are kept where the epoch ends with them, and nothing where it does not."""
    study, _ = trained(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    assert study.best_model().evaluate(X, Y, verbose=0) == study.best.value
    study, _ = trained(keras.callbacks.SwapEMAWeights())
    assert "the model of trial-0000 is not kept: ValueError: SwapEMAWeights measures other weights" in caplog.text
    assert study.counts() == {"complete": 1}
    with pytest.raises(th.StudyError, match="none was kept"):
        study.model_path()


def test_a_disk_that_is_full(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The weights alone are no way out: there is no model, and a line says why."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    study, _ = trained()
    assert "the model of trial-0000 is not kept: it could not be written: [Errno 28] No space left" in caplog.text
    assert [*study.paths.models.rglob("*step*")] == []
