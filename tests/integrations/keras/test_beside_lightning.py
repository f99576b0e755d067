"""Both adapters in one process, where the layers of Keras are modules of torch."""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np
import pytest

import tunehook as th
from keras_projects import QUIET
from tunehook.inject import trace_in_progress
from tunehook.integrations.keras import TuneCallback
from tunehook.integrations.keras.arguments import KerasArguments

pytestmark = QUIET


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the layers of Keras are torch's modules on torch only")
def test_a_class_of_keras_beside_lightning() -> None:
    """A script may use both: what is made of Keras is Keras's, also of a class that is defined in the trial."""
    importlib.import_module("tunehook.integrations.lightning")
    widths = []

    def train() -> None:
        class Net(keras.Model):  # type: ignore[misc]
            def __init__(self, hidden: int = 4, **kwargs: Any) -> None:
                super().__init__(**kwargs)
                self.first, self.last = keras.layers.Dense(hidden), keras.layers.Dense(1)

            def call(self, x: Any) -> Any:
                return self.last(self.first(x))

        model = Net()
        model.compile("sgd", "mse")
        x = np.ones((8, 4))
        model.fit(x, x[:, :1], verbose=0, callbacks=[TuneCallback()])
        trace = trace_in_progress()
        assert trace is not None
        assert isinstance(getattr(trace.of(model), "arguments", None), KerasArguments)
        widths.append(model.first.units)

    study = th.Study("both", {"hidden": th.Int(5, 9)}, metric="loss", mode="min", search="random")
    study.optimize(train, trials=2, progress=False)
    assert widths == [trial.params["hidden"] for trial in study.trials]
