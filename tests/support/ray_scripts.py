"""Training functions for tests on a Ray cluster, whose processes import them."""

from __future__ import annotations

import hashlib
import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import launch_scripts as scripts
from tunehook.session.in_progress import active


def wait_for_go() -> None:
    """Report until a file says that the test has done its work, and then three times more."""
    session = scripts.training()
    go = session.trial.folder.parent / "go"
    deadline = time.monotonic() + 60
    while not go.exists() and time.monotonic() < deadline:
        session.report(session.step + 1, {"v": session.trial.params["x"]})
        time.sleep(0.05)
    for _ in range(3):
        session.report(session.step + 1, {"v": session.trial.params["x"], "last": 1.0})


def leave_files() -> None:
    """Say what is seen of the study's folder; the first attempt is killed, the second one leaves a file behind."""
    session = scripts.training()
    seen = len(list(session.trial.folder.parent.glob("*/journal.jsonl")))
    session.report(1, {"v": session.trial.params["x"], "seen": seen, "nan": float("nan")})
    if session.trial.attempt == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    session.log({"beside": 0.1 + 0.2})
    (session.trial.folder / "weights.bin").write_bytes(b"1")
    session.report(2, {"v": session.trial.params["x"]})


def train_lightning() -> None:
    """Two epochs of a small Lightning module with dropout, on images of digits; its weights' bits lie in a file."""
    import lightning as L
    import torch
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from tunehook.integrations.lightning import TuneCallback

    class Net(L.LightningModule):
        def __init__(self, hidden: int = 8, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 10))

        def training_step(self, batch: Any, _: int) -> Any:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])

    warnings.simplefilter("ignore")
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images[:256] / 16, dtype=torch.float32), torch.tensor(labels[:256]))
    L.seed_everything(3)
    net = Net()
    trainer = L.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[TuneCallback()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(net, DataLoader(data, 32, shuffle=True), DataLoader(data, 64))
    session = active()
    assert session is not None
    weights = net.state_dict()
    bits = hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()
    (Path(session.trial.folder) / "bits").write_text(bits)
