"""Snapshots on the real Trainer: whose gradients they hold, and which fits and ranks take them."""

from __future__ import annotations

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tunehook as th
from accelerator import ACCELERATOR
from tunehook.integrations.lightning import TuneCallback
from tunehook.snapshot.values import Snapshot

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data, few workers, missing loggers ...


@pytest.fixture
def pl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lightning, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("lightning.pytorch")


def make_net(pl: Any, **hooks: Any) -> Any:
    """A net whose two layers share a weight, with a frozen one between them; ``hooks`` replace its methods."""

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__()
            self.lr = lr
            self.first, self.frozen, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.last.weight = self.first.weight
            self.frozen.requires_grad_(requires_grad=False)
            self.seen: dict[int, float] = {}

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss: Tensor = self.last(self.frozen(self.first(batch[0]).tanh())).pow(2).mean()
            return loss

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self.log("val_loss", self.training_step(batch, batch_idx))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD([each for each in self.parameters() if each.requires_grad], lr=self.lr)

        def optimizer_step(self, *given: Any, **named: Any) -> None:
            super().optimizer_step(*given, **named)
            self.see(self.trainer.global_step + 1)  # Lightning counts it when this returns

        def see(self, step: int) -> None:
            grads = [each.grad.double().flatten() for each in self.parameters() if each.grad is not None]
            self.seen[step] = float(torch.cat(grads).norm())

    for name, hook in hooks.items():
        setattr(Net, name, hook)
    return Net


def loader() -> DataLoader[Any]:
    """Forty fixed samples in five batches."""
    return DataLoader(TensorDataset(torch.randn(40, 4, generator=torch.Generator().manual_seed(0))), batch_size=8)


def fit(pl: Any, callback: Any, net: Any = None, **settings: Any) -> Any:
    """Train two epochs; returns the trained module."""
    torch.manual_seed(3)
    module = (net or make_net(pl))()
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        **{"max_epochs": 2, "accelerator": ACCELERATOR, "logger": False, **quiet, **settings}, callbacks=[callback]
    )
    trainer.fit(module, loader(), loader())
    return module


def a_study(snapshots: th.SnapshotPlan | bool = True) -> th.Study:
    """A study that sets the learning rate."""
    return th.Study("look", {"optimizer.lr": 0.1}, metric="val_loss", mode="min", search="random", snapshots=snapshots)


def taken(study: str = "look", number: int = 0) -> list[Snapshot]:
    """The snapshots in the journal of a trial."""
    lines = Path(f"tunehook-studies/{study}/trial-{number:04d}/journal.jsonl").read_text().splitlines()
    return [Snapshot.from_json(event["snapshot"]) for event in map(json.loads, lines) if event["event"] == "snapshot"]


EVERY: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ({"accumulate_grad_batches": 2}, [0, 1, 2, 3, 4, 5, 6]),
    ({"gradient_clip_val": 0.01}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ({"precision": "bf16-mixed"}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ({"precision": "16-mixed"}, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ({"max_steps": 7}, [0, 1, 2, 3, 4, 5, 6, 7]),
]


@pytest.mark.parametrize(("settings", "steps"), EVERY, ids=lambda item: str(item) if isinstance(item, dict) else "")
def test_gradients_are_those_of_the_step(pl: Any, settings: dict[str, Any], steps: list[int]) -> None:
    """Accumulated, clipped and without the scale of the loss: what the optimizer saw."""
    if settings.get("precision") == "16-mixed":
        plugin = importorskip_scaler()
        settings = {"plugins": [plugin]}
    module = fit(pl, TuneCallback(a_study(th.SnapshotPlan(every=1))), **settings)
    found = taken()
    assert [snapshot.step for snapshot in found] == steps
    assert found[0].model_gradient is None
    norms = {snapshot.step: snapshot.model_gradient.norm for snapshot in found[1:] if snapshot.model_gradient}
    assert norms == pytest.approx(module.seen, rel=1e-5)


def importorskip_scaler() -> Any:
    """Mixed precision with a scaled loss, on a CPU."""
    plugins: Any = importlib.import_module("lightning.pytorch.plugins")
    made = getattr(plugins, "MixedPrecision", None) or plugins.MixedPrecisionPlugin  # as Lightning 2.1 calls it
    return made("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))


def test_gradients_that_stay_scaled_are_left_out(pl: Any) -> None:
    """A fused optimizer unscales a copy."""

    def fused(self: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD([each for each in self.parameters() if each.requires_grad], lr=0.1, fused=True)

    net = make_net(pl, configure_optimizers=fused)
    fit(pl, TuneCallback(th.Study("look", {"trainer.max_epochs": 2}, metric="val_loss", mode="min", search="random",
                                  snapshots=th.SnapshotPlan(every=1))), net,
        plugins=[importorskip_scaler()])  # fmt: skip
    assert [(snapshot.step, snapshot.model_gradient) for snapshot in taken()] == [(step, None) for step in range(11)]


def test_the_last_one_has_gradients_though_a_validation_drops_them(pl: Any) -> None:
    """By default it is taken after the last batch, before Lightning validates and drops them."""
    module = fit(pl, TuneCallback(a_study()))
    first, last = taken()[0], taken()[-1]
    assert (first.step, last.step) == (0, 10)
    assert last.model_gradient is not None
    assert last.model_gradient.norm == pytest.approx(module.seen[10], rel=1e-5)


def test_tied_and_frozen_parameters(pl: Any) -> None:
    """A shared weight is there once, with its other name; a frozen one has neither gradient nor update."""
    fit(pl, TuneCallback(a_study()))
    last = taken()[-1]
    assert list(last.parameters) == ["first.weight", "first.bias", "frozen.weight", "frozen.bias", "last.bias"]
    assert last.tied == {"last.weight": "first.weight"}
    assert list(last.gradients) == ["first.weight", "first.bias", "last.bias"]
    assert last.ratios["frozen"] == 0.0
    assert last.ratios["first"] > 0.0


def test_each_fit_of_a_trial_stands_alone(pl: Any) -> None:
    """Folds of one trial: each has a start and an end, and no update reaches from one model to another."""

    def train() -> None:
        for _ in range(2):
            fit(pl, TuneCallback(), num_sanity_val_steps=0)

    a_study(th.SnapshotPlan(every=100)).optimize(train, trials=1, progress=False)
    assert [(snapshot.step, snapshot.since) for snapshot in taken()] == [(0, None), (10, 0), (0, None), (10, 0)]


def test_manual_optimization(pl: Any) -> None:
    """Steps are the Trainer's, gradients what the script left."""

    def step(self: Any, batch: list[Tensor], batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.last(batch[0]).pow(2).mean())
        optimizer.step()
        self.see(self.trainer.global_step)

    def validate(self: Any, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.last(batch[0]).pow(2).mean())

    net = make_net(pl, training_step=step, validation_step=validate, automatic_optimization=False)
    module = fit(pl, TuneCallback(a_study(th.SnapshotPlan(every=2))), net)
    assert [snapshot.step for snapshot in taken()] == [0, 2, 4, 6, 8, 10]
    assert [snapshot.model_gradient.norm for snapshot in taken()[1:] if snapshot.model_gradient] == pytest.approx(
        [module.seen[step] for step in (2, 4, 6, 8, 10)], rel=1e-5
    )


def test_an_optuna_trial_takes_them_where_it_is_told(pl: Any) -> None:
    """As a study does."""
    study = optuna.create_study(study_name="theirs")
    for number, options in enumerate([{"snapshots": False}, {"snapshots": True}, {}]):
        trial = study.ask({"optimizer.lr": optuna.distributions.FloatDistribution(0.1, 0.2)})
        fit(pl, TuneCallback(trial, metric="val_loss", **options))
        assert [snapshot.step for snapshot in taken("theirs", number)][:1] == [0] * bool(options.get("snapshots", True))
    for snapshots in (False, True):
        with pytest.raises(ValueError, match="snapshots= go with an Optuna trial only"):
            TuneCallback(a_study(), snapshots=snapshots)
