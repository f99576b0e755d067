"""A study whose trials' first attempts are killed, for tests of checkpoints; CHECKPOINT_TRAINING says how, as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tunehook as th
from accelerator import ACCELERATOR
from tunehook.integrations.wandb import WandbRecorder
from tunehook.record import Events, Journal, Report
from tunehook.session.checkpoints import Checkpoints
from tunehook.session.in_progress import active

warnings.simplefilter("ignore")

OPTIONS: dict[str, Any] = {
    "kind": "lightning",
    "looks": False,  # at the best model, and trains nothing
    "workers": None,
    "trials": 1,
    "devices": 1,
    "mode": None,  # of W&B
    "saves": [2],  # after which measurements a checkpoint is kept
    "dies_in": None,  # in which epoch, from 0, the process kills itself
    "dies_saving": None,  # after which measurement it does so while it writes a checkpoint, half of which is written
    **json.loads(os.environ.get("CHECKPOINT_TRAINING", "{}")),
}
EPOCHS = 6
HALF = 2


def is_first() -> bool:
    """Whether this is the first attempt of a trial."""
    session = active()
    return session is not None and session.trial.attempt == 0


def die(epoch: int, batch: int) -> None:
    """Kill the process in the middle of its epoch."""
    if is_first() and (epoch, batch) == (OPTIONS["dies_in"], 2):
        os.kill(os.getpid(), signal.SIGKILL)


def is_due(self: Checkpoints, size: int) -> bool:
    """A checkpoint after some measurements."""
    session = active()
    assert size > 0, self.folder
    return session is not None and session.step in OPTIONS["saves"]


whole_save = Checkpoints.save


def save(self: Checkpoints, write: Callable[[Path], None], *, step: int, reports: int, journal: Journal) -> None:
    """Die in the middle of it, if that is wanted."""

    def half(folder: Path) -> None:
        write(folder)
        for file in folder.iterdir():
            os.truncate(file, file.stat().st_size // HALF)
        os.kill(os.getpid(), signal.SIGKILL)

    is_last = is_first() and step == OPTIONS["dies_saving"]
    whole_save(self, half if is_last else write, step=step, reports=reports, journal=journal)


Checkpoints.is_due = is_due  # type: ignore[method-assign]
Checkpoints.save = save  # type: ignore[method-assign]


def tell(values: Any, weights: list[Any], rank: int = 0) -> None:
    """Write what the training came to on a rank, and where its random numbers are."""
    bits = hashlib.sha256(b"".join(np.asarray(one).tobytes() for one in [*weights, torch.rand(3)])).hexdigest()
    with Path(f"bits-{rank}.jsonl").open("a") as file:
        print(json.dumps([values, bits]), file=file)


def train_lightning() -> None:
    """Shuffled batches, dropout, a schedule, and metrics at several moments."""
    import lightning as L
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from tunehook.integrations.lightning import TuneCallback

    class Net(L.LightningModule):
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))

        def on_train_start(self) -> None:
            torch.manual_seed(5 + self.global_rank)

        def training_step(self, batch: Any, index: int) -> Any:
            die(self.current_epoch, index)
            loss = (self.net(batch[0]) - batch[0][:, :1]).pow(2).mean()
            self.log("train", loss, on_epoch=True, on_step=False)
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("loss", (self.net(batch[0]) - batch[0][:, :1]).pow(2).mean(), sync_dist=OPTIONS["devices"] > 1)

        def configure_optimizers(self) -> Any:
            made = torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])
            return [made], [torch.optim.lr_scheduler.StepLR(made, 2)]

    L.seed_everything(3)
    data = TensorDataset(torch.randn(64 * OPTIONS["devices"], 4))
    net = Net()
    trainer = L.Trainer(
        max_epochs=EPOCHS, accelerator=ACCELERATOR if OPTIONS["devices"] == 1 else "cpu", devices=OPTIONS["devices"],
        callbacks=[TuneCallback()], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(net, DataLoader(data, 16, shuffle=True), DataLoader(data, 32))
    tell(net.hparams["lr"], list(net.state_dict().values()), trainer.global_rank)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def measure_lightning(model: Any) -> float:
    """What the training would measure of a model."""
    import lightning as L
    from torch.utils.data import DataLoader, TensorDataset

    L.seed_everything(3)
    data = DataLoader(TensorDataset(torch.randn(64 * OPTIONS["devices"], 4)), 32)
    trainer = L.Trainer(accelerator=ACCELERATOR, logger=False, enable_progress_bar=False, devices=1)
    return float(trainer.validate(model, data, verbose=False)[0]["loss"])


INPUTS = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


def measure_keras(model: Any) -> float:
    """What the training would measure of a model."""
    return float(model.evaluate(INPUTS, INPUTS[:, :1], batch_size=16, verbose=0))


def train_keras() -> None:
    """Shuffled batches, dropout, and a callback that remembers."""
    import keras

    from tunehook.integrations.keras import TuneCallback

    class Die(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            die(self.epoch, batch)

    keras.utils.set_random_seed(3)
    model = keras.Sequential([
        keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.2), keras.layers.Dense(1),
    ])  # fmt: skip
    model.compile(keras.optimizers.Adam(0.1), "mse")
    slower = keras.callbacks.ReduceLROnPlateau("loss", patience=1)
    model.fit(
        INPUTS, INPUTS[:, :1], batch_size=16, epochs=EPOCHS, verbose=0, validation_data=(INPUTS, INPUTS[:, :1]),
        callbacks=[Die(), slower, TuneCallback()],
    )  # fmt: skip
    rate = model.optimizer.learning_rate.value.cpu().detach()
    tell(float(rate), [*model.get_weights(), rate])


def look(study: th.Study) -> None:
    """The best model, in this process: what it measures now, and what its trial measured."""
    assert study.best.outcome.step == 1, "by the attempt that was killed"
    kind = OPTIONS["kind"]
    models = [study.best_model(TRAIN[kind]), *([study.best_model()] if kind == "keras" else [])]
    reports = Events.of_latest(study.paths.journal(study.best.number)).all(Report)
    (measured,) = {
        one.metrics[name] for one in reports for name in ("val_loss", "loss")
        if one.step == 1 and (name == "val_loss" or kind == "lightning") and name in one.metrics
    }  # fmt: skip
    measure = {"lightning": measure_lightning, "keras": measure_keras}[kind]
    print(json.dumps([*map(measure, models), measured]))


TRAIN = {"lightning": train_lightning, "keras": train_keras}

if __name__ == "__main__":
    recorders = []
    if OPTIONS["mode"]:
        recorders = [WandbRecorder("p", mode=OPTIONS["mode"], lean=True, study_run=False, dir=Path.cwd())]
    study = th.Study(
        "s", {"lr": th.Choice([0.02, 0.05][: OPTIONS["trials"]])}, metric="loss", mode="max", search="grid",
        recorders=recorders, folder="studies", keep="best",
    )  # fmt: skip
    if OPTIONS["looks"]:
        look(study)
        sys.exit()
    study.optimize(TRAIN[OPTIONS["kind"]], workers=OPTIONS["workers"], retries=2, progress=False)
    complete = [trial for trial in study.optuna.trials if trial.state.name == "COMPLETE"]
    found = {str(trial.params["lr"]): [trial.intermediate_values, trial.value] for trial in complete}
    print(json.dumps({"found": found, "counts": study.counts()}))
