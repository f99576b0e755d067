"""Scripts without a training function: a trial equals the script with the values typed in, though fit asks for it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import tunehook as th
from lightning_projects import NAMESPACES
from waiting import PATIENCE
from warm import python

pytestmark = pytest.mark.slow

SCRIPT = """
import importlib, json, sys, warnings
warnings.filterwarnings("ignore")
given = json.loads(sys.argv[1])
pl = importlib.import_module(given["namespace"])
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import tunehook as th
from tunehook.integrations.lightning import TuneCallback


class Net(pl.LightningModule):
    def __init__(self, hidden=4, lr=0.1, steps=10):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(0.3), nn.Linear(hidden, 1))

    def training_step(self, batch, index):
        return self.net(batch[0]).pow(2).mean()

    def validation_step(self, batch, index):
        self.log("val_loss", self.net(batch[0]).pow(2).mean())

    def configure_optimizers(self):
        made = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, weight_decay=given.get("decay", 0.0))
        cycle = torch.optim.lr_scheduler.OneCycleLR(made, self.hparams.lr, total_steps=self.hparams.steps)
        return {"optimizer": made, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


print("the script begins")
own = {"hidden": 4, "lr": 0.1, "batch_size": 8, "max_epochs": 2, **given.get("typed_in", {})}
callbacks = [TuneCallback()]
if "space" in given:
    study = th.Study("script", given["space"], metric="val_loss", mode="min", search="random")
    callbacks = [TuneCallback(study)]
for _ in range(given.get("fits", 1)):
    pl.seed_everything(3)
    rows = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(rows), batch_size=own["batch_size"], shuffle=True)
    trainer = pl.Trainer(
        max_epochs=own["max_epochs"], accelerator="cpu", callbacks=callbacks, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
    model = Net(th.value("width", own["hidden"]), own["lr"], steps=len(loader) * trainer.max_epochs)
    trainer.fit(model, loader, DataLoader(TensorDataset(rows), batch_size=40))
    torch.save(dict(model.state_dict()), given["out"])
print("the script ends")
"""


def run(how: str = "file", *, fails: bool = False, env: dict[str, str] | None = None, **given: Any) -> Any:
    """Run the script; returns its weights, and what it has said."""
    Path("script.py").write_text(SCRIPT)
    out = Path(f"{len(list(Path().glob('*.pt')))}.pt")
    options = json.dumps({"namespace": NAMESPACES[0], "out": str(out), **given})
    command = ["script.py", options] if how == "file" else ["-m", "script", options]
    done = subprocess.run(
        [python(), *command], capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, **(env or {})}
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return torch.load(out, weights_only=True) if out.exists() else {}, done.stdout + done.stderr


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Equal to the last bit."""
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


VALUES = {"hidden": 6, "lr": 0.05, "batch_size": 10, "max_epochs": 3}


@pytest.mark.parametrize(("namespace", "how"), [(NAMESPACES[0], "file"), (NAMESPACES[1], "module")])
def test_a_script_equals_itself_with_the_values_typed_in(namespace: str, how: str) -> None:
    """What it derives from a loader and a Trainer follows; each run of it adds a trial."""
    typed_in, _ = run(namespace=namespace, typed_in=VALUES)
    own, _ = run(namespace=namespace)
    for begins in (3, 2):  # in the first trial once more, since the batch size belongs into the call of a loader
        tuned, said = run(how, namespace=namespace, space=VALUES)
        assert_same(tuned, typed_in)
        assert (said.count("the script begins"), said.count("the script ends")) == (begins, 1)
    assert own["net.0.weight"].shape != typed_in["net.0.weight"].shape
    study = th.Study.open("script")
    assert [(trial.outcome.state, dict(trial.params)) for trial in study.trials] == [("complete", VALUES)] * 2


@pytest.mark.parametrize(
    "space", [{"batch_size": 10}, {"max_epochs": 3}, {"trainer.max_epochs": 3, "data.batch_size": 10}]
)
def test_what_fit_could_take_goes_into_the_calls_too(space: dict[str, Any]) -> None:
    """The number of steps comes from them."""
    typed_in, _ = run(typed_in={name.rpartition(".")[2]: value for name, value in space.items()})
    tuned, said = run(space=space)
    assert_same(tuned, typed_in)
    assert said.count("the script begins") == (2 if "max_epochs" in space else 3)  # a Trainer takes its name at once


def test_a_script_is_run_once_where_its_fit_can_take_all_values() -> None:
    """An optimizer is made in it."""
    typed_in, _ = run(decay=0.7)
    tuned, said = run(space={"optimizer.weight_decay": 0.7})
    assert_same(tuned, typed_in)
    assert said.count("the script begins") == 1


def test_a_script_that_reads_a_value() -> None:
    """It has it in the second run."""
    typed_in, _ = run(typed_in={"hidden": 6})
    tuned, _ = run(space={"width": 6})
    assert_same(tuned, typed_in)


def test_a_name_that_nothing_has() -> None:
    """The second run shows the values that the script has typed in."""
    _, said = run(space={"hiden": 6}, fails=True)
    assert "InjectionError: There is nothing called 'hiden' to inject. Did you mean 'hidden'?" in said
    assert "    model.hidden = 4  (Net at script.py:" in said
    assert [trial.outcome.state for trial in th.Study.open("script").trials] == ["failed"]
