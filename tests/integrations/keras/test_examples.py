"""The examples run on the backend of this process."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

import tunehook as th
from tunehook.integrations.keras import TuneCallback

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, NumPy and W&B: they are a user's scripts


def example(name: str) -> dict[str, Any]:
    """The names that a script defines."""
    return runpy.run_path(str(EXAMPLES / name), run_name="example")


def test_the_digits_example_tunes_and_keeps_a_run() -> None:
    """Two trials of a random search are complete, and the best one's record is a journal and an offline run."""
    study = example("keras_digits.py")["tune"]("random", trials=2)
    assert study.finished == 2
    assert study.best.value > 0.5
    journal, run = study.records(study.best.number)
    assert Path(journal).is_file()
    assert list(Path(run).glob("*.wandb"))


def test_the_functional_example_is_tuned_with_nothing_but_the_callback() -> None:
    """Layers, regularizer, schedule and batch size of a model without arguments get the values of the trial."""
    train = example("keras_functional.py")["train"]
    space = {"conv.filters": 5, "hidden.units": 17, "l2": 0.5, "initial_learning_rate": 0.01, "batch_size": 64}
    study = th.Study("functional", space, metric="val_accuracy", mode="max", search="random")
    made: list[Any] = []
    study.optimize(lambda: made.append(train(TuneCallback())), trials=1, progress=False)
    (model,) = made[-1:]
    hidden = model.get_layer("hidden")
    assert (model.get_layer("conv").filters, hidden.units, hidden.kernel_regularizer.l2) == (5, 17, 0.5)
    assert model.optimizer.get_config()["learning_rate"]["config"]["initial_learning_rate"] == 0.01
    assert study.best.outcome.state == "complete"


def test_the_text_example_tunes_what_layers_and_the_script_have() -> None:
    """The sequences, the embedding and the number of layers of a functional model are those of the trial."""
    names = example("keras_text.py")
    space = {"sequence_length": 5, "embedding.output_dim": 6, "layers": 2, "learning_rate": 0.01}
    study = th.Study("text", space, metric="val_accuracy", mode="max", search="random")
    made: list[Any] = []
    study.optimize(lambda: made.append(names["train"]()), trials=1, progress=False)
    (model,) = made[-1:]
    assert model.input_shape == (None, 5)
    assert model.get_layer("embedding").output_dim == 6
    assert [layer.name for layer in model.layers if "filters" in layer.name] == ["filters_0", "filters_1"]
    assert study.best_value > 0.3  # of five packages
