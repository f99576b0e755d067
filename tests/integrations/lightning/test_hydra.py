"""A script under ``@hydra.main``: its configuration and its objects, here and in trial processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NETS = """
import lightning as L, torch
from torch import nn


class Body(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1))


class Net(L.LightningModule):
    def __init__(self, body, lr=0.1):
        super().__init__()
        self.body, self.lr = body, lr

    def training_step(self, batch, index):
        return self.body(batch[0]).pow(2).mean()

    def validation_step(self, batch, index):
        self.log("val_loss", self.training_step(batch, index))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)
"""

JOB = """
import hydra, lightning as L, torch, tunehook as th
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, TensorDataset
from tunehook.integrations.lightning import TuneCallback


def fit(cfg, *callbacks):
    L.seed_everything(1, verbose=False)
    model = hydra.utils.instantiate(cfg.model)
    data = DataLoader(TensorDataset(torch.randn(16, 4)), cfg.batch_size, shuffle=True)
    L.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[*callbacks], default_root_dir=cfg.out, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    ).fit(model, data, data)
    return model.state_dict()


@hydra.main(version_base="1.3", config_path=None)
def main(given):
    model = {"_target_": "nets.Net", "lr": 0.1, "body": {"_target_": "nets.Body", "width": 4}}
    folder = "${hydra:runtime.output_dir}"  # Hydra keeps it for a whole process
    cfg = OmegaConf.create({"model": model, "batch_size": 4, "out": folder, "job": "${hydra:job.name}"})

    def train():
        assert cfg.job == "job"
        torch.save(fit(cfg, TuneCallback()), f"{cfg.out}/weights.pt")

    space = {"lr": 0.05, "Body.width": 6, "batch_size": 8}
    typed_in = OmegaConf.merge(cfg, {"model": {"lr": 0.05, "body": {"width": 6}}, "batch_size": 8})
    wanted = fit(typed_in)
    for options in ({}, {"workers": 1}):
        place = f"{cfg.out}/{len(options)}"
        study = th.Study("hydra", space, metric="val_loss", mode="min", search="random", folder=place)
        study.optimize(train, trials=1, progress=False, **options)
        tuned = torch.load(f"{cfg.out}/weights.pt")
        print("equal", [name for name, weight in wanted.items() if torch.equal(tuned[name], weight)] == [*wanted])


if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_a_trial_under_hydra_equals_the_configuration_with_the_values_typed_in(tmp_path: Path) -> None:
    """Objects that Hydra makes, an entry of the configuration, and its resolvers; bit for bit, with a worker too."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "job.py").write_text(JOB)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "job.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert [line for line in ran.stdout.splitlines() if line.startswith("equal")] == ["equal True", "equal True"]
