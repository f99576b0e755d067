"""Trials in processes of their own with real trainings: bit for bit those of one process, one W&B run each."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from accelerator import ACCELERATOR
from run_file import RunFile, read_runs
from tunehook.integrations.wandb import WandbRecorder
from tunehook.record.journal import read_journal
from tunehook.snapshot.values import Snapshot
from waiting import PATIENCE
from warm import python

pytestmark = pytest.mark.slow


def digest(weights: dict[str, Any]) -> str:
    """One text for all bits of a model."""
    return hashlib.sha256(b"".join(weights[name].cpu().numpy().tobytes() for name in sorted(weights))).hexdigest()


def train_lightning() -> None:
    """Three epochs of a small Lightning module, with dropout."""
    import lightning as L

    from tunehook.integrations.lightning import TuneCallback

    class Net(L.LightningModule):
        def __init__(self, hidden: int = 8, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(0.2), nn.Linear(hidden, 1))

        def training_step(self, batch: Any, _: int) -> Any:
            return self.net(batch[0]).pow(2).mean()

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("loss", self.net(batch[0]).pow(2).mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])

    warnings.simplefilter("ignore")
    L.seed_everything(3)
    data = TensorDataset(torch.randn(64, 4))
    net = Net()
    trainer = L.Trainer(
        max_epochs=3, accelerator=ACCELERATOR, callbacks=[TuneCallback()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(net, DataLoader(data, 16, shuffle=True), DataLoader(data, 32))
    print(f"\nbits {digest(dict(net.state_dict()))}")


def train_keras() -> None:
    """Two epochs of a small Keras model on torch."""
    import keras
    import numpy as np

    from tunehook.integrations.keras import TuneCallback

    warnings.simplefilter("ignore")
    keras.utils.set_random_seed(3)
    model = keras.Sequential([
        keras.Input((4,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dropout(0.2), keras.layers.Dense(1),
    ])  # fmt: skip
    model.compile(keras.optimizers.Adam(0.1), "mse")
    inputs = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    model.fit(inputs, inputs[:, :1], epochs=2, verbose=0, callbacks=[TuneCallback()])
    print(f"\nbits {hashlib.sha256(b''.join(weight.tobytes() for weight in model.get_weights())).hexdigest()}")


TRAIN = {"lightning": train_lightning, "keras": train_keras}


def bits(text: str) -> list[str]:
    """The digests that trainings printed."""
    return [line for line in text.splitlines() if line.startswith("bits ")]


def study(kind: str, folder: Path, **options: Any) -> th.Study:
    """Three trials of the learning rate and the width."""
    width = "hidden" if kind == "lightning" else "layer.hidden.units"
    space = {"lr": th.Float(1e-3, 1e-1, log=True), width: th.Int(4, 32)}
    return th.Study(kind, space, metric="loss", mode="min", search="random", seed=5, folder=folder / kind, **options)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], th.Study]:
    """A study of three trials, side by side in forked processes; those of Lightning have runs, with snapshots."""

    @functools.cache
    def made(kind: str) -> th.Study:
        folder, options = tmp_path_factory.mktemp(kind), {}
        if kind == "lightning":
            recorder = WandbRecorder("launch", mode="offline", dir=folder / "runs", lean=True, study_run=False)
            options = {"recorders": [recorder], "snapshots": th.SnapshotPlan(every="epoch")}
        opened = study(kind, folder, **options)
        opened.optimize(TRAIN[kind], trials=3, workers=2, progress=False)
        return opened

    return made


@pytest.mark.parametrize("kind", ["lightning", "keras"])
def test_a_trial_in_its_process_is_the_same_to_the_last_bit(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], there: Callable[[str], th.Study]
) -> None:
    """Weights and values of three trials, recorded in forked processes, and with nothing but the callback here."""
    here = study(kind, tmp_path)
    here.optimize(TRAIN[kind], trials=3, progress=False)
    mine = bits(capsys.readouterr().out)
    theirs = [line for number in range(3) for line in bits(there(kind).paths.output(number).read_text())]
    assert len(set(mine)) == 3
    assert theirs == mine
    assert [trial.value for trial in there(kind).trials] == [trial.value for trial in here.trials]


def runs_of(opened: th.Study) -> dict[int, RunFile]:
    """The run of each trial, by its number."""
    runs = read_runs(opened.paths.folder.parent / "runs")
    assert len(runs) == len(opened.trials)
    return {run.config["tunehook"]["trial"]: run for run in runs}


def test_one_run_for_each_trial(there: Callable[[str], th.Study]) -> None:
    """Runs that are written side by side by processes with a service each: whole, and with their own values."""
    runs = runs_of(there("lightning"))
    for trial in there("lightning").trials:
        run = runs[trial.number]
        assert {name: run.config[name] for name in trial.params} == trial.params
        assert run.steps == [1, 2, 3]
        assert run.summary["outcome"] == "complete"
        assert run.summary["best/loss"] == trial.value
        assert run.exit_code == 0


RANKS = """
import json, sys, warnings
from pathlib import Path
warnings.filterwarnings("ignore")
import lightning as L, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
import tunehook as th
from tunehook.integrations.lightning import TuneCallback


class Net(L.LightningModule):
    def __init__(self, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Linear(4, 1)

    def training_step(self, batch, index):
        return self.net(batch[0]).pow(2).mean()

    def on_train_epoch_end(self):
        self.log("loss", self.net(torch.ones(4)).detach().pow(2).mean(), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


def train():
    L.seed_everything(3)
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", callbacks=[TuneCallback()],
                        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    net = Net()
    trainer.fit(net, DataLoader(TensorDataset(torch.randn(32, 4)), 8))
    with open(f"seen-{trainer.global_rank}.jsonl", "a") as file:
        print(json.dumps([net.hparams.lr, net.net.weight.tolist()]), file=file)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    study = th.Study("ranks", {"lr": th.Choice([0.01, 0.02])}, metric="loss", mode="min", search="grid")
    study.optimize(train, workers=1, progress=False)
    print(json.dumps(study.counts()))
"""


def test_the_ranks_of_a_trial_process(tmp_path: Path) -> None:
    """Two ranks in a trial process of each trial: the second one follows the first, and asks nobody."""
    (tmp_path / "ranks.py").write_text(RANKS)
    done = subprocess.run([python(), "ranks.py"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"complete": 2}
    ranks = [
        [json.loads(line) for line in (tmp_path / f"seen-{rank}.jsonl").read_text().splitlines()] for rank in (0, 1)
    ]
    assert ranks[0] == ranks[1]
    assert [lr for lr, _ in ranks[0]] == [0.01, 0.02]


def test_snapshots_lie_in_the_run(there: Callable[[str], th.Study]) -> None:
    """Histograms of each parameter and gradient, on the axis of the optimizer's steps, and none in the summary."""
    opened = there("lightning")
    run = runs_of(opened)[0]
    assert run.column("snapshot/step") == [0, 4, 8, 12]
    assert run.column("loss") == [event["metrics"]["loss"] for event in told(opened) if event["event"] == "report"]
    taken = [Snapshot.from_json(event["snapshot"]) for event in told(opened) if event["event"] == "snapshot"]
    for kind, number in (("parameters", 4), ("gradients", 3)):
        histograms = run.column(f"{kind}/net/0/weight")
        assert [histogram["_type"] for histogram in histograms] == ["histogram"] * number
        kept = [getattr(snapshot, kind)["net.0.weight"] for snapshot in taken[-number:]]
        assert [tuple(histogram["values"]) for histogram in histograms] == [stats.counts for stats in kept]
        assert histograms[-1]["bins"] == pytest.approx(kept[-1].edges, rel=1e-6)
    assert run.column("snapshot/parameters/norm") == pytest.approx([one.model.norm for one in taken], rel=1e-6)
    assert run.axes["parameters/*"] == "snapshot/step"
    assert not [name for name in run.summary if name.startswith(("parameters", "gradients", "snapshot/", "ratio"))]


def told(opened: th.Study) -> list[dict[str, Any]]:
    """The journal of the first trial."""
    return list(read_journal(opened.paths.journal(0)))
