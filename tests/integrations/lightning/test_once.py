"""What Lightning says for each Trainer: once a study on the terminal, and the rest in the trials' output."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import tunehook as th
from lightning_projects import dataset
from screen import run_script
from tunehook.integrations.lightning import TuneCallback


def make_study(name: str = "s", **options: Any) -> th.Study:
    """A study over the width of a network."""
    return th.Study(name, {"width": th.Choice([2, 3, 4])}, metric="loss", mode="min", search="grid", **options)


def make_training(pl: Any, *, is_rich: bool) -> Any:
    """A training whose Trainer says all that it says by itself, and a line of the user's own."""

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, width: int = 1) -> None:
            super().__init__()
            self.width = width
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 1))

        def training_step(self, batch: Any, _: int) -> Any:
            loss = (self.layers(batch[0]) - batch[1]).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

        def train_dataloader(self) -> Any:
            return DataLoader(dataset(), batch_size=2 * self.width)

    callbacks, loggers = (importlib.import_module(f"{pl.__name__}.{name}") for name in ("callbacks", "loggers"))
    rank_zero = importlib.import_module(f"{pl.__name__}.utilities.rank_zero")
    summary = callbacks.RichModelSummary if is_rich else callbacks.ModelSummary

    def train() -> None:
        rank_zero.rank_zero_info("a line of the user")
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=loggers.CSVLogger("."), enable_checkpointing=False,
                             enable_progress_bar=False, callbacks=[TuneCallback(), summary()])  # fmt: skip
        trainer.fit(Net())

    return train


@contextlib.contextmanager
def listening() -> Iterator[Path]:
    """A handler as Lightning has it, for standard error as it is in the test, and one that writes into a file."""
    file = Path("log.txt")
    made: list[logging.Handler] = [logging.StreamHandler(sys.stderr), logging.FileHandler(file)]
    # With both namespaces loaded, the one that was loaded last lends its logger to both.
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning")]
    for logger, handler in itertools.product(loggers, made):
        logger.addHandler(handler)
    yield file
    for logger, handler in itertools.product(loggers, made):
        logger.removeHandler(handler)
    made[1].close()
    assert not any(handler.filters for handler in made)


@pytest.mark.parametrize("is_rich", [False, True], ids=["plain", "rich"])
def test_it_is_said_once_and_kept(pl: Any, is_rich: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines, warnings with other numbers and summaries: the first is shown, the others are in their trial's output."""
    study = make_study()
    with warnings.catch_warnings(record=True) as told, listening() as file:
        warnings.simplefilter("always")
        before = warnings.showwarning
        study.optimize(make_training(pl, is_rich=is_rich), trials=3, progress=False)
        assert warnings.showwarning is before
    out, err = capsys.readouterr()
    assert err.count("GPU available: ") == 1
    assert err.count("`Trainer.fit` stopped: `max_epochs=1` reached.") == 1
    assert err.count("a line of the user") == 3
    assert (out if is_rich else err).count("Trainable params") == 1
    lightnings = [
        re.sub(r"\d+", "#", str(one.message)) for one in told if f"/{pl.__name__.split('.')[0]}/" in one.filename
    ]
    assert len(lightnings) == len(set(lightnings)) > 0
    assert sum("number of training batches" in text for text in lightnings) == 1
    assert file.read_text().count("GPU available: ") == 3  # a file of the user's has everything
    assert not study.paths.output(0).exists()
    batches = []
    for trial in study.trials[1:]:
        kept = study.paths.output(trial.number).read_text()
        assert kept.count("GPU available: ") == 1
        assert "a line of the user" not in kept
        assert "\x1b" not in kept
        width = trial.params["width"]
        assert re.search(rf"Trainable params\W+{5 * width + width + 1}\b|\b{5 * width + width + 1}\W+Trainable", kept)
        batches += re.findall(r"number of training batches \((\d+)\)", kept)
    assert len(set(batches)) == 2


def test_what_cannot_be_kept_is_shown(one: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the output cannot be written, as it is a link to another place, nothing is held back."""
    study = make_study()
    training = make_training(one, is_rich=False)
    elsewhere = Path("elsewhere.txt")

    def train() -> None:
        study.paths.output(len(study.trials) - 1).symlink_to(elsewhere.absolute())
        training()

    with warnings.catch_warnings(), listening():
        warnings.simplefilter("ignore")
        study.optimize(train, trials=2, progress=False)
    assert capsys.readouterr().err.count("GPU available: ") == 2
    assert not elsewhere.exists()


def test_each_study_hears_it(one: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Another study of the same process is told once, too."""
    with warnings.catch_warnings(), listening():
        warnings.simplefilter("ignore")
        for name in ("a", "b"):
            make_study(name).optimize(make_training(one, is_rich=False), trials=2, progress=False)
    assert capsys.readouterr().err.count("GPU available: ") == 2


@pytest.mark.slow
def test_a_lightning_study_in_a_terminal() -> None:
    """The screen has what Lightning says once, its lines whole, then a line a trial, and no table of ours."""
    screen, code = run_script("terminal_lightning.py", limit=120)
    assert code == 0
    text = screen.text
    assert sum(line.startswith("GPU available: ") for line in text) == 1
    assert sum(line.startswith("Total params: ") for line in text) == 1
    numbers = [number for number, line in enumerate(text) if re.match(r"\[\d/4\] trial \d: complete, loss ", line)]
    assert len(numbers) == 4
    assert text[numbers[-1] + 1 :][-5:][0] == "study lightning: 4 of 4 trials finished (4 complete)"
    assert not any("trial  state" in line or "┃ trial" in line for line in text)
    assert numbers[-1] - numbers[0] == 3
