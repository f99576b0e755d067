"""Importing an adapter changes nothing that people see of the classes of other libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "faces.py"
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
def test_a_trial_leaves_lightning_as_it_looks() -> None:
    """Signatures, help, sources, types and pickles of the classes whose constructors are heard are as before."""
    looked = LIGHTNING | {
        "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
        "torch.nn.modules.module.Module",
        "torch.optim.adam.Adam",
    }
    hearing = "tunehook.integrations.lightning.calls:hear_all"
    found = look("torch,lightning.pytorch,pytorch_lightning", hearing, looked)
    assert set(found["replaced"]) >= looked
    # The one thing that is seen is the hook by which Python tells of new subclasses; help lists it.
    assert {name for names in found["replaced"].values() for name in names} == {
        "__init__", "__init_subclass__", "fit",
    }  # fmt: skip
    assert found["differs"] == {name: [] for name in looked}


@pytest.mark.slow
def test_importing_touches_the_trainer_of_lightning_alone() -> None:
    """Its ``fit``; constructors are heard from the first trial on."""
    found = look("lightning.pytorch,pytorch_lightning", "tunehook.integrations.lightning", LIGHTNING)
    trainers = {name for name in LIGHTNING if name.endswith("Trainer")}
    assert found == {"replaced": {name: ["fit"] for name in trainers}, "differs": {name: [] for name in LIGHTNING}}


@pytest.mark.slow
def test_importing_leaves_keras_as_it_looks() -> None:
    """The same for Keras's layers, models, optimizers and callbacks, and for the trainer that models inherit from."""
    touched = {
        "keras.src.layers.layer.Layer": ["__init__", "__init_subclass__"],
        "keras.src.models.model.Model": ["__init__"],
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
