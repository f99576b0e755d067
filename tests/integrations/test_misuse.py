"""What can only fail again ends a study at once, with our message; our own checks are never the training's failure."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import tunehook as th
from lightning_projects import NAMESPACES, dataset, trainer
from tunehook.inject.slot import same, show
from tunehook.integrations.keras import TuneCallback as KerasCallback
from tunehook.integrations.lightning import TuneCallback
from tunehook.trial.errors import InjectionError, StudyError, TrialError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks: small data, few workers


class KeepingLoss(nn.Module):
    """A loss that keeps its last value, which torch does not copy."""

    def forward(self, left: Any, right: Any) -> Any:
        self.last = nn.functional.mse_loss(left, right)
        return self.last


class Unready(Mapping[str, Any]):
    """A configuration with a value that is missing, and says so when it is read."""

    def __getitem__(self, name: str) -> Any:
        if name == "path":
            raise ValueError("Missing mandatory value: path")
        return {"width": 3}[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("width", "path"))

    def __len__(self) -> int:
        return 2


class Odd:
    """An object that answers no question about itself."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no answer")

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copy")


def network(pl: Any) -> Any:
    """A module that is given an object, and has a layer whose shape is known at its first batch only."""

    class Net(pl.LightningModule):  # type: ignore[misc]
        def __init__(self, given: Any = None, hidden: int = 3, lr: float = 0.1) -> None:
            super().__init__()
            self.given, self.lr = given, lr
            self.net = nn.Sequential(nn.LazyLinear(hidden), nn.Linear(hidden, 1))

        def training_step(self, batch: Any, _index: int) -> Any:
            loss = self.given if isinstance(self.given, KeepingLoss) else nn.functional.mse_loss
            return loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", self.training_step(batch, index))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    return Net


@pytest.fixture(params=NAMESPACES)
def pl(request: pytest.FixtureRequest) -> Any:
    """A Lightning namespace."""
    return importlib.import_module(request.param)


def a_study(space: Mapping[str, Any], **options: Any) -> th.Study:
    """A study of the validation loss."""
    return th.Study("misuse", space, metric="val_loss", mode="min", search="random", **options)


@pytest.mark.parametrize("make", [KeepingLoss, Unready, Odd, lambda: iter([1])])
@pytest.mark.parametrize("knows", ["before", "in fit"])
def test_objects_that_train_well_train_tuned(pl: Any, make: Any, knows: str) -> None:
    """Whatever a module is given, a check of ours that cannot be made ends no training."""
    study = a_study({"lr" if knows == "before" else "optimizer.lr": 0.05})
    net = network(pl)

    def train(*callbacks: Any) -> None:
        trainer(pl, *callbacks).fit(net(make()), DataLoader(dataset(), 10), DataLoader(dataset(), 10))

    if knows == "before":
        study.optimize(lambda: train(TuneCallback()), trials=1, progress=False)
    else:
        train(TuneCallback(study))
    assert [trial.outcome.state for trial in study.trials] == ["complete"]


def test_values_in_messages_and_comparisons() -> None:
    """What has no words is shown by its class, and what cannot be compared is equal to itself alone."""
    odd = Odd()
    assert show(odd) == "<Odd>"
    assert show("a\n  b") == "'a\\n b'"
    assert same(odd, odd)
    assert not same(odd, Odd())


def test_a_setting_that_the_framework_refuses_ends_the_study(pl: Any) -> None:
    """At once, with the value and the framework's words, and no trial is used up by it."""
    study = a_study({"accumulate_grad_batches": 2})
    net = network(pl)

    def train() -> None:
        other = pl.callbacks.GradientAccumulationScheduler({0: 1})
        trainer(pl, other, TuneCallback()).fit(net(), DataLoader(dataset(), 10), DataLoader(dataset(), 10))

    with pytest.raises((InjectionError, TrialError)) as caught:
        study.optimize(train, trials=3, progress=False)
    assert "accumulate_grad_batches" in str(caught.value)
    assert [trial.outcome.state for trial in study.trials] == ["failed"]
    assert study.finished == 0


def test_an_error_of_the_users_own_is_a_failure(pl: Any) -> None:
    """It is tried again with other values, as often as max_failures says."""
    study = a_study({"lr": th.Float(0.01, 0.1)}, max_failures=2)

    class Broken(network(pl)):  # type: ignore[misc]
        def training_step(self, batch: Any, _index: int) -> Any:
            raise ValueError("`lr` is mine")

    def train() -> None:
        trainer(pl, TuneCallback()).fit(Broken(), DataLoader(dataset(), 10), DataLoader(dataset(), 10))

    with pytest.raises(th.StudyError, match="2 trials in a row failed"):
        study.optimize(train, trials=3, progress=False)
    assert [trial.outcome.state for trial in study.trials] == ["failed", "failed"]


def test_a_function_that_takes_an_argument() -> None:
    """It is told before any trial is asked for."""

    def train(trial: object) -> None:
        pass

    study = a_study({"lr": 0.05})
    message = (
        r"^train is called without arguments, but train\(trial: 'object'\) -> 'None' needs some \(missing a required "
        r"argument: 'trial'\).\n  Write def train\(\): ..., with TuneCallback\(\) in its fit; th.current\(\) is the "
        r"trial, th.value\('lr', 0.1\) one value.$"
    )
    with pytest.raises(TypeError, match=message):
        study.optimize(train, trials=3)  # type: ignore[arg-type]
    assert study.trials == []


@keras.saving.register_keras_serializable("misuse")
class Scale(keras.layers.Layer):  # type: ignore[misc]
    """A layer that needs an argument, and has no get_config."""

    def __init__(self, by: Any, **rest: Any) -> None:
        super().__init__(**rest)
        self.by = by

    def build(self, shape: Any) -> None:
        self.weight = self.add_weight((shape[-1], 2))

    def call(self, rows: Any) -> Any:
        return keras.ops.matmul(rows, self.weight) * float(self.by.item())


def test_a_layer_without_a_configuration() -> None:
    """It is no obstacle to a value of another layer."""
    rows = np.ones((8, 3), "float32")

    def train(units: int = 3) -> Any:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(units, name="first"), Scale(np.array(2.0), name="scale"), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((3,)), *layers])
        model.compile("sgd", "mse")
        model.fit(rows, rows[:, :1], verbose=0, callbacks=[KerasCallback()])
        return model

    made: list[Any] = []
    study = th.Study("misuse", {"first.units": 6}, metric="loss", mode="min", search="random")
    study.optimize(lambda: made.append(train()), trials=1, progress=False)
    expected = train(units=6).get_weights()
    assert all(map(np.array_equal, made[-1].get_weights(), expected))


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_the_own_values_of_a_training_of_several_ranks(one: Any, strategy: str) -> None:
    """They are refused before the ranks start, which would wait for the one that has seen its values."""

    def train() -> None:
        made = trainer(one, TuneCallback(), accelerator="cpu", devices=2, strategy=strategy)
        made.fit(network(one)(), DataLoader(dataset(), 8))

    study = th.Study("ranks", {"lr": th.Float(0.01, 1)}, metric="loss", mode="min", search="random")
    with pytest.raises(StudyError, match="cannot read the values of a training of several ranks"):
        study.enqueue_defaults(train)
    assert not study.lead.has_waiting
