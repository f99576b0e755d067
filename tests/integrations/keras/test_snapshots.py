"""Snapshots in Keras's fit: steps, names and gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tunehook as th
from keras_projects import BACKEND, QUIET
from tunehook.integrations.keras import TuneCallback
from tunehook.snapshot.values import Snapshot

pytestmark = QUIET

X = np.random.RandomState(0).randn(40, 4).astype("float32")
Y = X[:, :1]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_model() -> Any:
    """Two layers."""
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="one"), keras.layers.Dense(1, name="two")])


def run(snapshots: th.SnapshotPlan | bool, *, model: Any = make_model, fits: int = 1, **compiled: Any) -> Any:
    """Train two epochs of five batches, so many times; returns the last model."""
    made = []

    def train() -> None:
        for _ in range(fits):
            made.append(model())
            optimizer = compiled.pop("optimizer", None) or keras.optimizers.SGD(0.1)
            made[-1].compile(optimizer, "mse", **compiled)
            made[-1].fit(X, Y, epochs=1, batch_size=8, verbose=0, shuffle=False, callbacks=[TuneCallback()])

    study = th.Study("look", {"fit.epochs": 2}, metric="loss", mode="min", search="random", snapshots=snapshots)
    study.optimize(train, trials=1, progress=False)
    return made[-1]


def taken() -> list[Snapshot]:
    """The snapshots in the journal."""
    lines = Path("tunehook-studies/look/trial-0000/journal.jsonl").read_text().splitlines()
    return [Snapshot.from_json(event["snapshot"]) for event in map(json.loads, lines) if event["event"] == "snapshot"]


def norm(model: Any) -> float:
    """Of all trainable weights."""
    weights = [keras.ops.convert_to_numpy(each).astype(float).ravel() for each in model.trainable_variables]
    return float(np.linalg.norm(np.concatenate(weights)))


CASES: list[tuple[dict[str, Any], dict[str, Any], list[int]]] = [
    ({}, {}, [0, 3, 6, 9, 10]),
    ({"gradient_accumulation_steps": 2}, {}, [0, 3, 5]),
    ({}, {"steps_per_execution": 2}, [0, 4, 7, 10]),
]


@pytest.mark.parametrize(("optimizer", "compiled", "steps"), CASES, ids=["plain", "accumulated", "several"])
def test_every_so_many_steps(optimizer: dict[str, Any], compiled: dict[str, Any], steps: list[int]) -> None:
    """Counted as the optimizer counts them, and of the weights of that step, which JAX keeps elsewhere."""
    if compiled and BACKEND == "torch":
        pytest.skip("torch makes one step at a time")
    model = run(th.SnapshotPlan(every=3, exact=True), optimizer=keras.optimizers.SGD(0.1, **optimizer), **compiled)
    found = taken()
    assert [snapshot.step for snapshot in found] == steps
    assert found[-1].model.norm == pytest.approx(norm(model), rel=1e-6)
    assert len({snapshot.model.norm for snapshot in found}) == len(steps)


def test_weights_of_a_step_are_not_stale() -> None:
    """After each batch they are those that a training of so many batches ends with."""
    run(th.SnapshotPlan(every=1, exact=True))
    norms = {snapshot.step: snapshot.model.norm for snapshot in taken()}
    for steps in (1, 3, 7):
        model = make_model()
        model.compile(keras.optimizers.SGD(0.1), "mse")
        rows = np.concatenate([X, X])[: steps * 8], np.concatenate([Y, Y])[: steps * 8]
        model.fit(*rows, batch_size=8, verbose=0, shuffle=False)
        assert norms[steps] == pytest.approx(norm(model), rel=1e-6)


def test_no_batch_hook_by_default() -> None:
    """Keras spends time on each hook that a callback has; so by default there is none, and steps cost nothing."""
    hooks = {name for name in dir(keras.callbacks.Callback) if "batch" in name}
    assert hooks
    for name in hooks - {"set_params"}:
        assert getattr(TuneCallback, name) is getattr(keras.callbacks.Callback, name)
    run(True)
    assert [taken()[0].step, taken()[-1].step] == [0, 10]


def test_layers_of_one_name() -> None:
    """None of them is lost."""

    class Twice(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
        def __init__(self) -> None:
            super().__init__(name="twice")
            self.one, self.two = keras.layers.Dense(4, name="same"), keras.layers.Dense(1, name="same")

        def call(self, rows: Any) -> Any:
            return self.two(self.one(rows))

    run(True, model=lambda: keras.Sequential([keras.Input((4,)), Twice()]))
    assert sorted(stats.size for stats in taken()[-1].parameters.values()) == [1, 4, 4, 16]


def test_each_fit_of_a_trial_stands_alone() -> None:
    """Folds of one trial: each has a start and an end, and no update reaches from one model to another."""
    run(th.SnapshotPlan(every=100), fits=2)
    assert [(snapshot.step, snapshot.since) for snapshot in taken()] == [(0, None), (10, 0), (0, None), (10, 0)]


@pytest.mark.skipif(BACKEND != "torch", reason="only torch keeps gradients")
@pytest.mark.parametrize("is_scaled", [False, True])
def test_gradients(is_scaled: bool) -> None:
    """Those of the last batch; where the loss is scaled they are left out, for their scale is not known."""
    optimizer = keras.optimizers.SGD(0.1)
    model = run(True, optimizer=keras.optimizers.LossScaleOptimizer(optimizer) if is_scaled else optimizer)
    first, last = taken()[0], taken()[-1]
    assert first.model_gradient is None
    if is_scaled:
        assert last.model_gradient is None
    else:
        grads = np.concatenate([each.value.grad.numpy().ravel() for each in model.trainable_variables])
        assert last.model_gradient is not None
        assert last.model_gradient.norm == pytest.approx(float(np.linalg.norm(grads)), rel=1e-6)


def test_a_model_with_optimizers_of_its_own() -> None:
    """Where the compiled optimizer makes no step, those that the model holds are counted."""
    if BACKEND != "torch":
        pytest.skip("a train_step in the way of one backend")
    import torch

    class Own(keras.Model):  # type: ignore[misc] # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.layer = keras.layers.Dense(1)
            self.theirs = keras.optimizers.SGD(0.1)

        def call(self, rows: Any) -> Any:
            return self.layer(rows)

        def train_step(self, data: Any) -> Any:
            self.zero_grad()
            loss = ((self(data[0]) - data[1]) ** 2).mean()
            loss.backward()
            with torch.no_grad():
                self.theirs.apply([each.value.grad for each in self.trainable_weights], self.trainable_weights)
            return {"loss": loss}

    run(True, model=Own)
    assert [taken()[0].step, taken()[-1].step] == [0, 10]
