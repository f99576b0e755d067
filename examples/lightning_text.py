"""Which part of SciPy is a sentence of its manual about? A text classifier with PyTorch Lightning."""

import itertools

import lightning as L
import torch
from scipy_text import AREAS, TRAIN, VAL, VOCABULARY, Rows, encode
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback


class Sentences(L.LightningDataModule):
    def __init__(self, sequence_length: int = 16, batch_size: int = 64) -> None:
        super().__init__()
        self.sequence_length, self.batch_size = sequence_length, batch_size

    def dataset(self, rows: Rows) -> TensorDataset:
        return TensorDataset(*map(torch.from_numpy, encode(rows, self.sequence_length)))

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.dataset(TRAIN), self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.dataset(VAL), 512)


class Classifier(L.LightningModule):
    def __init__(self, embedding: int = 32, layers: int = 1, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1 + len(VOCABULARY), embedding, padding_idx=0)
        sizes = [embedding, *[width] * layers]
        blocks = [nn.Sequential(nn.Conv1d(*pair, 3, padding=1), nn.ReLU()) for pair in itertools.pairwise(sizes)]
        self.layers, self.head = nn.Sequential(*blocks), nn.Linear(width, len(AREAS))

    def forward(self, codes: Tensor) -> Tensor:
        features = self.layers(self.embedding(codes).mT)
        scores: Tensor = self.head(features.amax(dim=2))  # the strongest answer to each filter
        return scores

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def train() -> Classifier:
    L.seed_everything(0)
    model = Classifier()
    trainer = L.Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, callbacks=[TuneCallback()])
    trainer.fit(model, Sentences())
    return model


study = th.Study(
    "lightning-text",
    {
        "sequence_length": th.Choice([4, 8, 16, 32]),
        "embedding": th.Int(4, 64, log=True),
        "layers": th.Int(1, 3),
        "lr": th.Float(3e-4, 3e-2, log=True),
    },
    metric="val_acc",
    mode="max",
    stopper="median",
)

if __name__ == "__main__":
    study.optimize(train, trials=20)
    print(study.best.params, study.best.value)
