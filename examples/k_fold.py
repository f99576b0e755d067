"""Cross-validation: a trial trains on each fold with the same values, and the mean over the folds counts."""

import lightning as L
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import scale
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback

x, y = load_wine(return_X_y=True)
DATA = TensorDataset(torch.tensor(scale(x)).float(), torch.tensor(y))
FOLDS = list(StratifiedKFold(3, shuffle=True, random_state=0).split(x, y))


class Net(L.LightningModule):
    def __init__(self, hidden: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 3))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def train() -> dict[str, float]:
    losses = []
    for train_rows, val_rows in FOLDS:
        L.seed_everything(0)
        trainer = L.Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, callbacks=[TuneCallback()])
        trainer.fit(
            Net(), DataLoader(Subset(DATA, train_rows), 32, shuffle=True), DataLoader(Subset(DATA, val_rows), 64)
        )
        losses.append(trainer.callback_metrics["val_loss"].item())
    return {"mean_loss": sum(losses) / len(losses)}  # what counts is what the function returns


study = th.Study(
    "k-fold",
    {"hidden": th.Int(4, 64, log=True), "dropout": th.Float(0, 0.5), "lr": th.Float(1e-3, 1e-1, log=True)},
    metric="mean_loss",
    mode="min",
)

if __name__ == "__main__":
    study.optimize(train, trials=20)
    print(study.best.params, study.best.value)
