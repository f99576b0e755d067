"""Make the figures of the page on hyperparameters, by training: ``python figures.py`` takes some minutes.

The images are scikit-learn's handwritten digits, the text is that of Python's own manual, which comes with Python.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import lightning as L
import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from tunehook.integrations.lightning import TuneCallback

FOLDER = Path(__file__).parents[1] / "images" / "learn"
QUIET: dict[str, Any] = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
    "accelerator": "cpu",
}  # fmt: skip
BLUE, ORANGE, GRAY = "#3f51b5", "#e8710a", "#888888"


# ------------------------------------------------------------------ what is trained


class Digits(L.LightningModule):
    """A perceptron that reads handwritten digits."""

    def __init__(self, layers: int = 1, hidden: int = 64) -> None:
        super().__init__()
        sizes = [64, *[hidden] * layers]
        blocks = [nn.Sequential(nn.Linear(*pair), nn.ReLU()) for pair in itertools.pairwise(sizes)]
        self.net = nn.Sequential(*blocks, nn.Linear(sizes[-1], 10))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Cross-entropy."""
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """Loss and accuracy."""
        scores = self.net(batch[0])
        self.log("val_loss", F.cross_entropy(scores, batch[1]))
        self.log("val_acc", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with a decay of the weights."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.0)


def digits() -> None:
    """Train on 400 of the digits, a tenth of them with a wrong label."""
    L.seed_everything(0, verbose=False)
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16).float(), torch.tensor(labels)
    noisy = y[:400].clone()
    noisy[::10] = (noisy[::10] + 3) % 10
    loaders = (
        DataLoader(TensorDataset(x[:400], noisy), 32, shuffle=True),
        DataLoader(TensorDataset(x[400:], y[400:]), 2048),
    )
    L.Trainer(max_epochs=20, callbacks=[TuneCallback()], **QUIET).fit(Digits(), *loaders)


class Reader(L.LightningModule):
    """Guesses the next letter of a text."""

    def __init__(self, letters: int, embedding: int = 16, layers: int = 1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(letters, embedding)
        self.memory = nn.GRU(embedding, 64, num_layers=layers, batch_first=True)
        self.out = nn.Linear(64, letters)

    def loss(self, rows: Tensor) -> Tensor:
        """Bits that the last letter of a row takes, by those before it."""
        states, _ = self.memory(self.embedding(rows[:, :-1]))
        return F.cross_entropy(self.out(states[:, -1]), rows[:, -1]) / torch.log(torch.tensor(2.0))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """The loss."""
        return self.loss(batch[0])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """The loss on text that was not seen."""
        self.log("val_bits", self.loss(batch[0]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def text() -> None:
    """Train on sequences of Python's manual."""
    L.seed_everything(0, verbose=False)
    whole = " ".join(" ".join(topics[name].split()) for name in sorted(topics)).lower()
    letters = sorted({*whole})
    codes = torch.tensor([letters.index(one) for one in whole])
    length = th.value("sequence_length", 16)
    ends = torch.arange(100, 180_000, 15)  # the letters to guess are the same, however many one sees before them
    rows = torch.stack([codes[end - length : end + 1] for end in ends])
    train = DataLoader(TensorDataset(rows[:10_000]), 64, shuffle=True)
    val = DataLoader(TensorDataset(rows[10_000:]), 2048)
    L.Trainer(max_epochs=4, callbacks=[TuneCallback()], **QUIET).fit(Reader(len(letters)), train, val)


# ------------------------------------------------------------------ studies and their figures


def study(
    name: str, train: Callable[[], None], space: Mapping[str, Any], trials: int | None = None, **options: Any
) -> th.Study:
    """Train all values, or as many trials as are asked for."""
    metric, mode = ("val_acc", "max") if train is digits else ("val_bits", "min")
    made = th.Study(
        name, space, **{"metric": metric, "mode": mode, "search": "grid", "snapshots": False, "seed": 0, **options}
    )
    made.optimize(train, trials=trials)
    return made


def curve(name: str, hyperparameter: str, made: th.Study, shown: str, *, log: bool) -> None:
    """The metric over the values."""
    pairs = sorted((trial.params[hyperparameter], trial.value) for trial in made.trials if trial.value is not None)
    values, metrics = zip(*pairs, strict=True)
    best = (max if made.mode == "max" else min)(range(len(pairs)), key=metrics.__getitem__)
    figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
    axes.plot(values, metrics, "o-", color=BLUE)
    axes.plot(values[best], metrics[best], "o", color=ORANGE, markersize=9)
    if log:
        axes.set_xscale("log", base=10 if values[0] < 1 else 2)
        if values[0] >= 1:
            axes.xaxis.set_major_formatter("{x:.0f}")
    else:
        axes.set_xticks(values)
    axes.set_xlabel(shown)
    axes.set_ylabel({"val_acc": "accuracy on new digits", "val_bits": "bits a letter (less is better)"}[made.metric])
    save(figure, name)


def save(figure: Any, name: str) -> None:
    """As a drawing that is the same for the same numbers."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None}, transparent=False)
    plt.close(figure)


def searches() -> None:
    """Sixteen trainings by grid, at random and by the Gaussian process: where they look, and the best so far."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
    after, progress = plt.subplots(figsize=(6, 2.8), layout="constrained")
    grids = {"grid": (th.Choice([1e-4, 1e-3, 1e-2, 1e-1]), th.Choice([1e-4, 1e-2, 1e-1, 1.0]))}
    free = (th.Float(1e-4, 1e-1, log=True), th.Float(1e-4, 1.0, log=True))
    for each, search, colour in zip(axes, ("grid", "random", "bayes"), (GRAY, BLUE, ORANGE), strict=True):
        rate, decay = grids.get(search, free)
        made = study(f"search-{search}", digits, {"lr": rate, "weight_decay": decay}, 16, search=search)
        points = [(trial.params["lr"], trial.params["weight_decay"], trial.value) for trial in made.trials]
        shown = each.scatter(*zip(*[(lr, wd) for lr, wd, _ in points], strict=True), c=[v for *_, v in points],
                             cmap="viridis", vmin=0.5, vmax=0.95, s=60)  # fmt: skip
        each.set(xscale="log", yscale="log", title=search, xlabel="learning rate")
        best = [max(value for *_, value in points[: count + 1]) for count in range(len(points))]
        progress.step(range(1, len(best) + 1), best, where="post", color=colour, label=search)
    axes[0].set_ylabel("weight decay")
    figure.colorbar(shown, ax=axes, label="accuracy")
    progress.set(xlabel="trainings", ylabel="best accuracy so far", ylim=(0.8, None))
    progress.legend()
    save(figure, "searches")
    save(after, "searches-progress")


def main() -> None:
    """Train, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python figures.py text")
    parser.add_argument("only", nargs="?", choices=["digits", "text", "searches"], help="one part. Default: all")
    only = parser.parse_args().only
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    random.seed(0)
    mpl.rcParams |= {"svg.hashsalt": "tunehook", "axes.grid": True, "grid.alpha": 0.3}
    mpl.rcParams |= {"axes.spines.top": False, "axes.spines.right": False}
    os.chdir(tempfile.mkdtemp())
    if only in (None, "digits"):
        for name, shown, values in (
            ("lr", "learning rate", [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0]),
            ("batch_size", "batch size", [1, 4, 16, 64, 200, 400]),
            ("layers", "hidden layers", [0, 1, 2, 3, 5, 8]),
            ("weight_decay", "weight decay", [1e-3, 1e-2, 1e-1, 1.0, 3.0, 10.0]),
        ):
            curve(name, name, study(name, digits, {name: th.Choice(values)}), shown, log=name != "layers")
    if only in (None, "text"):
        for name, shown, values in (
            ("embedding", "embedding size", [1, 2, 4, 8, 32, 128]),
            ("sequence_length", "sequence length", [1, 2, 4, 8, 16, 32, 64]),
            ("text_layers", "layers", [1, 2, 3, 4]),
        ):
            key = name.removeprefix("text_")
            curve(name, key, study(name, text, {key: th.Choice(values)}), shown, log=key != "layers")
    if only in (None, "searches"):
        searches()


if __name__ == "__main__":
    main()
