"""LightningCLI with our callback in it, from flags and from YAML, alone and as the training function of a study."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import tunehook as th
from lightning_projects import NAMESPACES, dataset
from tunehook.integrations.lightning import TuneCallback

CALLBACK = "tunehook.integrations.lightning.TuneCallback"
QUIET = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
TYPED_IN = ["--model.hidden=6", "--model.lr=0.05", "--data.batch_size=10", "--trainer.max_epochs=2"]
SPACE = {"hidden": 6, "lr": 0.05, "batch_size": 10, "max_epochs": 2}


@pytest.fixture(params=NAMESPACES)
def project(request: pytest.FixtureRequest) -> Any:
    """A function that runs the command line of a small project and returns its weights."""
    pl: Any = importlib.import_module(request.param)
    cli: Any = importlib.import_module(f"{request.param}.cli")

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, hidden: int = 3, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(4, hidden), nn.Linear(hidden, 1))

        def training_step(self, batch: Any, _index: int) -> Any:
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", self.training_step(batch, index))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    class Data(pl.LightningDataModule):  # type: ignore[misc]
        def __init__(self, batch_size: int = 4) -> None:
            super().__init__()
            self.batch_size = batch_size

        def train_dataloader(self) -> Any:
            return DataLoader(dataset(), self.batch_size, shuffle=True)

        def val_dataloader(self) -> Any:
            return DataLoader(dataset(), 40)

    def run(*arguments: str) -> dict[str, Any]:
        quiet = [f"--trainer.{name}=false" for name in QUIET]
        ran = cli.LightningCLI(Net, Data, args=["fit", *quiet, *arguments], seed_everything_default=3,
                               save_config_callback=None)  # fmt: skip
        assert set(ran.model.hparams) - {"_instantiator"} == {"hidden", "lr"}
        return {name: weight.clone() for name, weight in ran.model.state_dict().items()}

    return run


def assert_same(weights: dict[str, Any], others: dict[str, Any]) -> None:
    """Equal to the last bit."""
    assert weights.keys() == others.keys()
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())


def given_by(how: str, folder: Path) -> list[str]:
    """The arguments that put our callback into the Trainer."""
    if how == "flags":
        return [f"--trainer.callbacks={CALLBACK}"]
    file = folder / "config.yaml"
    file.write_text(f"trainer:\n  callbacks:\n  - class_path: {CALLBACK}\n")
    return [f"--config={file}"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["flags", "yaml"])
def test_a_command_line_with_the_callback(project: Any, how: str, tmp_path: Path) -> None:
    """Alone it trains with what is typed in, in a study with the trial's values, bit for bit."""
    callback = given_by(how, tmp_path)
    typed_in = project(*TYPED_IN)
    assert typed_in["net.0.weight"].shape == (6, 4)
    assert_same(project(*callback, *TYPED_IN), typed_in)
    tuned = []
    study = th.Study("cli", SPACE, metric="val_loss", mode="min", search="random")
    study.optimize(lambda: tuned.append(project(*callback, "--trainer.max_epochs=1")), trials=1)
    assert_same(tuned[0], typed_in)
    assert study.best.params == SPACE


def test_the_callback_is_one_of_each_namespace() -> None:
    """Its class is a subclass of their Callback before it is made, and shows its own arguments."""
    for namespace in NAMESPACES:
        host = importlib.import_module(namespace).Callback
        assert issubclass(TuneCallback, host)
        assert isinstance(TuneCallback(), host)
    assert list(inspect.signature(TuneCallback).parameters) == ["source", "metric", "inject", "snapshots"]


class Body(nn.Sequential):
    """A network that a command line makes by itself and gives to the module."""

    def __init__(self, width: int = 3) -> None:
        super().__init__(nn.Linear(4, width), nn.Linear(width, 1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    ("name", "value", "typed_in"),
    [
        ("model.body.init_args.width", 6, ["--model.body.init_args.width=6"]),
        ("model.body.width", 6, ["--model.body.init_args.width=6"]),
        ("model.init_args.dropout", 0.4, ["--model.init_args.dropout=0.4"]),
        ("model.optimizer.lr", 0.05, ["--model.init_args.optimizer.init_args.lr=0.05"]),
        ("optimizer.lr", 0.05, ["--model.init_args.optimizer.init_args.lr=0.05"]),
    ],
)
def test_names_as_the_yaml_has_them(namespace: str, name: str, value: Any, typed_in: list[str]) -> None:
    """Classes of the module, of its network and of its optimizer are chosen by the command line."""
    pl: Any = importlib.import_module(namespace)
    cli: Any = importlib.import_module(f"{namespace}.cli")

    class Shaped(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, body: Body, optimizer: Any = torch.optim.SGD, dropout: float = 0.0) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net, self.optimizer = nn.Sequential(body, nn.Dropout(dropout)), optimizer

        def training_step(self, batch: Any, _index: int) -> Any:
            return nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", self.training_step(batch, index))

        def train_dataloader(self) -> Any:
            return DataLoader(dataset(), 8)

        def val_dataloader(self) -> Any:
            return DataLoader(dataset(), 40)

        def configure_optimizers(self) -> Any:
            return self.optimizer(self.parameters())

    Shaped.__init__.__annotations__ |= {"body": Body, "optimizer": cli.OptimizerCallable, "dropout": float}
    Shaped.__qualname__ = "Shaped"
    globals()["Shaped"] = Shaped  # the command line looks it up by its name
    own = ["--model=" + f"{__name__}.Shaped", "--model.init_args.body=" + f"{__name__}.Body"]
    own += ["--model.init_args.optimizer=torch.optim.SGD", "--model.init_args.optimizer.init_args.lr=0.1"]

    def run(*arguments: str) -> dict[str, Any]:
        quiet = [f"--trainer.{setting}=false" for setting in QUIET]
        ran = cli.LightningCLI(
            pl.LightningModule, args=["fit", *quiet, "--trainer.max_epochs=1", *own, *arguments],
            seed_everything_default=3, save_config_callback=None, subclass_mode_model=True,
        )  # fmt: skip
        weights: dict[str, Any] = ran.model.state_dict()
        # Lightning 2.1 saves the objects that the command line has made, and later ones what it makes them of.
        saved.append({
            key: repr(one) if isinstance(one, nn.Module) else one for key, one in ran.model.hparams.items()
        })  # fmt: skip
        return weights

    saved: list[dict[str, Any]] = []
    tuned = []

    def train() -> None:
        tuned.append(run(f"--trainer.callbacks={CALLBACK}"))

    th.Study("cli", {name: value}, metric="val_loss", mode="min").optimize(train, trials=1, progress=False)
    plain, wanted = run(), run(*typed_in)
    assert all(torch.equal(tuned[0][key], weight) for key, weight in wanted.items())
    assert name in ("model.optimizer.lr", "optimizer.lr") or saved[0] == saved[2] != saved[1]
    assert not all(
        plain[key].shape == weight.shape and torch.equal(plain[key], weight) for key, weight in wanted.items()
    )
