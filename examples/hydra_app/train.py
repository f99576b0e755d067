"""A Hydra project: its configuration makes the model, and the study tries other values in the same places.

    python train.py                        a study
    python train.py tune.trials=0          one training

The second one has the configuration's own values.
"""

import hydra
import lightning as L
import torch
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback


class Net(L.LightningModule):
    def __init__(self, net: nn.Module, lr: float) -> None:
        super().__init__()
        self.net, self.lr = net, lr

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class Perceptron(nn.Sequential):
    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10))


def train(config: DictConfig) -> L.LightningModule:
    L.seed_everything(config.seed)
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16).float(), torch.tensor(y)
    model: L.LightningModule = hydra.utils.instantiate(config.model)
    trainer = L.Trainer(**config.trainer, callbacks=[TuneCallback()])
    trainer.fit(
        model,
        DataLoader(TensorDataset(x[:1300], y[:1300]), config.batch_size, shuffle=True),
        DataLoader(TensorDataset(x[1300:], y[1300:]), 256),
    )
    return model


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    if not config.tune.trials:
        train(config)
        return
    space = {
        "lr": th.Float(1e-4, 1e-1, log=True),
        "hidden": th.Int(16, 256, log=True),
        "dropout": th.Float(0, 0.5),
        "batch_size": th.Choice([32, 64, 128]),
    }
    study = th.Study("hydra", space, metric="val_acc", mode="max", folder=config.tune.folder)
    study.optimize(lambda: train(config), trials=config.tune.trials)
    print(study.best.params, study.best.value)


if __name__ == "__main__":
    main()
