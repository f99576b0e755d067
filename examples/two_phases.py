"""Fine-tuning in two phases: a new head is trained on a frozen network, then the whole with a smaller learning rate.

The network has learned to tell the digits 0 to 4 apart. It is fine-tuned to tell 5 to 9 apart, with few images of them.
"""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback

x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x / 16).float(), torch.tensor(y)


def loader(digits: Tensor, rows: slice, *, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(x[digits][rows], y[digits][rows] % 5), 32, shuffle=shuffle)


class Net(L.LightningModule):
    def __init__(self, body: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.body, self.head = body, nn.Sequential(nn.Dropout(dropout), nn.Linear(64, 5))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("val_acc", (self.head(self.body(batch[0])).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([one for one in self.parameters() if one.requires_grad], lr=1e-2)


def body() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU())


def pretrain() -> dict[str, Tensor]:
    """What you would load from a file."""
    torch.manual_seed(0)
    known, head = body(), nn.Linear(64, 5)
    adam = torch.optim.Adam([*known.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(50):
        adam.zero_grad()
        loss: Tensor = nn.functional.cross_entropy(head(known(x[y < 5])), y[y < 5])
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
    return known.state_dict()


PRETRAINED = pretrain()


def train() -> Net:
    L.seed_everything(0)
    model = Net(body())
    model.body.load_state_dict(PRETRAINED)
    data = loader(y >= 5, slice(200), shuffle=True), loader(y >= 5, slice(200, None), shuffle=False)
    model.body.requires_grad_(False)
    L.Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, callbacks=[TuneCallback()]).fit(model, *data)
    model.body.requires_grad_(True)
    L.Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, callbacks=[TuneCallback()]).fit(model, *data)
    return model


study = th.Study(
    "two-phases",
    {
        "fit.0.optimizer.lr": th.Float(1e-3, 1e-1, log=True),
        "fit.1.optimizer.lr": th.Float(1e-5, 1e-2, log=True),
        "fit.1.max_epochs": th.Int(1, 5),
        "dropout": th.Float(0, 0.5),
    },
    metric="val_acc",
    mode="max",
)

if __name__ == "__main__":
    study.optimize(train, trials=20)
    print(study.best.params, study.best.value)
