"""Importing an adapter changes nothing that people see of the classes of other libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "faces.py"
BASES = ("core.module.LightningModule", "core.datamodule.LightningDataModule", "trainer.trainer.Trainer")
LIGHTNING = {f"{package}.{name}" for package in ("lightning.pytorch", "pytorch_lightning") for name in BASES}


def look(libraries: str, ours: str, classes: set[str], **variables: str) -> Any:
    """What the import changes, found in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, libraries, ours, ",".join(sorted(classes))],
        capture_output=True, text=True, check=True, env={**os.environ, **variables},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_importing_leaves_lightning_as_it_looks() -> None:
    """Signatures, help, sources, types and pickles of the six classes that are touched are as before."""
    others = {"pytorch_lightning.callbacks.early_stopping.EarlyStopping"}
    found = look("lightning.pytorch,pytorch_lightning", "tunehook.integrations.lightning", LIGHTNING | others)
    assert set(found["replaced"]) == LIGHTNING
    # The one thing that is seen is the hook by which Python tells of new subclasses; help lists it.
    assert {name for names in found["replaced"].values() for name in names} == {
        "__init__", "__init_subclass__", "fit",
    }  # fmt: skip
    assert found["differs"] == {name: [] for name in LIGHTNING | others}


@pytest.mark.slow
def test_importing_leaves_keras_as_it_looks() -> None:
    """The same for Keras's layers, models, optimizers and callbacks, and for the trainer that models inherit from."""
    touched = {
        "keras.src.layers.layer.Layer": ["__init__", "__init_subclass__", "add_weight"],
        "keras.src.models.model.Model": ["__init__", "__new__"],
        "keras.src.trainers.trainer.Trainer": ["compile"],
        "keras.src.backend.torch.trainer.TorchTrainer": ["fit"],
        "keras.src.optimizers.optimizer.Optimizer": ["__init_subclass__"],
        "keras.src.callbacks.callback.Callback": ["__init__", "__init_subclass__"],
        "keras.src.models.sequential.Sequential": ["__init__"],
        "keras.src.layers.core.dense.Dense": ["__init__"],
        "keras.src.optimizers.adam.Adam": ["__init__"],
    }
    found = look("keras", "tunehook.integrations.keras", set(touched), KERAS_BACKEND="torch")
    assert {name: found["replaced"].pop(name) for name in touched} == touched
    assert {each for names in found["replaced"].values() for each in names} == {"__init__", "__init_subclass__"}
    assert found["differs"] == {name: [] for name in touched}


@pytest.mark.slow
@pytest.mark.parametrize("ours", ["wandb", "ray"])
def test_importing_leaves_other_libraries_alone(ours: str) -> None:
    """The adapters of W&B and Ray replace nothing when they are imported."""
    libraries = {"wandb": "wandb,torch,lightning.pytorch", "ray": "ray,torch"}[ours]
    found = look(libraries, f"tunehook.integrations.{ours}", {"torch.nn.modules.module.Module"})
    assert found == {"replaced": {}, "differs": {"torch.nn.modules.module.Module": []}}
