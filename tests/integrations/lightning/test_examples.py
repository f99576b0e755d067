"""The examples of Lightning are tuned as they stand, on a small budget; Keras's have their tests beside its adapter."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tunehook as th

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Lightning and W&B: they are a user's scripts
]


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("lightning_text.py", {"sequence_length": "data", "embedding": "model", "layers": "model", "lr": "optimizer"}),
        ("gan.py", {"optimizer.0.lr": "", "optimizer.1.lr": "", "latent": "model", "hidden": "model"}),
        ("k_fold.py", {"hidden": "model", "dropout": "model", "lr": "optimizer"}),
        ("lightning_cli/train.py", {"model.hidden": "", "optimizer.lr": "", "max_epochs": "trainer"}),
    ],
)
def test_an_example_is_tuned(name: str, places: dict[str, str]) -> None:
    """A trial trains to its end, and its values are where the objects of the example have them."""
    example = runpy.run_path(str(EXAMPLES / name), run_name="example")
    study: th.Study = example["study"]
    study.optimize(example["train"], trials=1, progress=False)
    effective = study.effective(0)
    for hyperparameter, place in places.items():
        path = f"{place}.{hyperparameter}" if place else hyperparameter
        assert effective[path] == study.best.params[hyperparameter]


def test_the_phases_have_learning_rates_of_their_own() -> None:
    """Each fit makes its optimizer with the value that is named for it."""
    example = runpy.run_path(str(EXAMPLES / "two_phases.py"), run_name="example")
    space = {"fit.0.optimizer.lr": 0.03, "fit.1.optimizer.lr": 0.0007, "fit.1.max_epochs": 1}
    study, made = th.Study("phases", space, metric="val_acc", mode="max"), []
    study.optimize(lambda: made.append(example["train"]()), trials=1, progress=False)
    (adam,) = made[-1].trainer.optimizers
    assert (adam.defaults["lr"], made[-1].trainer.max_epochs) == (0.0007, 1)


def test_the_hydra_application_is_tuned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its study lies beside Hydra's own folders, and the values are in the objects that Hydra has made."""
    monkeypatch.setattr(sys, "argv", ["train.py", "tune.trials=1"])
    runpy.run_path(str(EXAMPLES / "hydra_app" / "train.py"), run_name="__main__")
    study = th.Study.open("hydra", folder=tmp_path / "tunehook-studies" / "hydra")
    effective = study.effective(0)
    assert effective["model.net.hidden"] == study.best.params["hidden"]
    assert effective["data.batch_size"] == study.best.params["batch_size"]


def test_several_processes_train_one_model() -> None:
    """With DDP the study has two complete trials, not four."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, EXAMPLES / "ddp.py"], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert th.Study.open("ddp").counts() == {"complete": 2}


def test_the_notebook_runs() -> None:
    """Its cells run one after the other; the last one has a model with the best width."""
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102 - our own cells
    assert names["study"].finished == 3
    assert names["model"].net[0].out_features == names["study"].best.params["hidden"]
