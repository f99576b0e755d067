"""Tiny Keras projects, trained as plain scripts and tuned; what they trained is compared bit for bit."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import optuna
import pytest

import tunehook as th
from tunehook.integrations.keras import TuneCallback
from tunehook.trial.values import FinishedTrial

BACKEND = keras.backend.backend()
# Tracing or compiling takes a second for each model; what does not depend on it is tested without.
EAGER = BACKEND != "torch"
SEED = 3
# Keras 3.15 on torch makes arrays of tensors in a way that NumPy 2 is going to refuse.
QUIET = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")

# What the backend makes no difference to is tested on the fastest one.
ONCE = [pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")]

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
Y = X[:, :1] - X[:, 1:2]

Script = Callable[..., tuple[Any, dict[str, Any]]]
"""Makes a model, compiled, and the arguments of ``fit`` from values that are typed in."""

_numbers = itertools.count()


def begin() -> None:
    """What stands on top of a script: names and seeds as in a new process."""
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(SEED)


def plain(script: Script, **typed: Any) -> Any:
    """The model that the plain script trains, with these values typed in."""
    begin()
    model, call = script(**typed)
    model.fit(**call)
    return model


def study(values: Mapping[str, Any], *, metric: str = "loss", **options: Any) -> th.Study:
    """A study in memory of these values, which are fixed ones unless they are distributions."""
    given = {"search": "grid", "mode": "min", "storage": optuna.storages.InMemoryStorage(), **options}
    return th.Study(f"keras-{next(_numbers)}", values, metric=metric, **given)


def tuned(script: Script, values: Mapping[str, Any], **typed: Any) -> Any:
    """The model that the same script trains with the values in its calls, since the trial is known before it."""
    made: list[Any] = []

    def train() -> None:
        begin()
        model, call = script(**typed)
        made.append(model)
        model.fit(**with_callback(call, TuneCallback()))

    study(values).optimize(train, trials=1, progress=False)
    return made[-1]  # train may have been called twice


def with_callback(call: Mapping[str, Any], callback: Any) -> dict[str, Any]:
    """The arguments of a call of ``fit`` with one more callback."""
    return {**call, "callbacks": [*call.get("callbacks", []), callback]}


def state(model: Any) -> dict[str, Any]:
    """Everything that a training leaves in a model, as plain values."""
    optimizer = model.optimizer.variables if model.compiled and model.optimizer is not None else []
    return {
        "layers": [layer.name for layer in model._flatten_layers(include_self=False)],
        "names": [variable.path for variable in model.weights],
        "trainable": [variable.path for variable in model.trainable_weights],
        "variables": [bits(variable) for variable in model.variables],
        "optimizer": [bits(variable) for variable in optimizer],
    }


def bits(variable: Any) -> tuple[Any, ...]:
    """Shape, type and bytes of a variable."""
    array = keras.ops.convert_to_numpy(variable.value)
    return tuple(array.shape), str(array.dtype), array.tobytes()


def assert_same(one: Any, other: Any) -> None:
    """Two models are equal bit for bit, in all that training leaves, in order and by name."""
    ones, others = state(one), state(other)
    for part in ("layers", "names", "trainable"):
        assert ones[part] == others[part], part
    for part in ("variables", "optimizer"):
        assert [row[:2] for row in ones[part]] == [row[:2] for row in others[part]], part
        differing = [index for index, row in enumerate(ones[part]) if row != others[part][index]]
        assert not differing, (part, differing)


def only(given: th.Study) -> FinishedTrial:
    """The one trial of a study."""
    (trial,) = given.trials
    return trial


class Steps(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Counts batches."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.count += 1


# ---------------------------------------------------------------------- models of every kind, with the same settings


def stack(units: int, rate: float, l2: float, activation: Any, initializer: str) -> list[Any]:
    """The layers that all models below have."""
    return [
        keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=initializer,
            kernel_regularizer=keras.regularizers.L2(l2),
            name="first",
        ),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dropout(rate, name="drop"),
        keras.layers.Dense(3, activation="tanh", name="second"),
        keras.layers.Dropout(0.2, name="drop_again"),
        keras.layers.Dense(1, name="last"),
    ]


class Net(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class of the user's, as most of them are."""

    def __init__(self, units: int = 5, rate: float = 0.5, l2: float = 0.01, activation: str = "relu", **rest: Any):
        super().__init__()
        self.blocks = stack(units, rate, l2, activation, rest.get("initializer", "glorot_uniform"))

    def call(self, x: Any, training: bool = False) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


class Tower(keras.Sequential):  # type: ignore[misc] # Keras has no types
    """A class of the user's that is a Sequential."""

    def __init__(
        self,
        units: int = 5,
        rate: float = 0.5,
        l2: float = 0.01,
        activation: str = "relu",
        initializer: str = "glorot_uniform",
    ) -> None:
        super().__init__([keras.Input((4,)), *stack(units, rate, l2, activation, initializer)])


class Graphed(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class of the user's that is a Functional."""

    def __init__(
        self,
        units: int = 5,
        rate: float = 0.5,
        l2: float = 0.01,
        activation: str = "relu",
        initializer: str = "glorot_uniform",
    ) -> None:
        inputs = keras.Input((4,))
        super().__init__(inputs, chained(inputs, stack(units, rate, l2, activation, initializer)))
        self.units = units


def chained(x: Any, layers: list[Any]) -> Any:
    """The output of layers one after the other."""
    for layer in layers:
        x = layer(x)
    return x


def functional(**typed: Any) -> Any:
    """A Functional model of the same layers."""
    inputs = keras.Input((4,))
    return keras.Model(inputs, chained(inputs, stack(**typed)))


_DEFAULTS = {"units": 5, "rate": 0.5, "l2": 0.01, "activation": "relu", "initializer": "glorot_uniform"}

KINDS: dict[str, Callable[..., Any]] = {
    "sequential": lambda **typed: keras.Sequential([keras.Input((4,)), *stack(**typed)]),
    "deferred": lambda **typed: keras.Sequential(stack(**typed)),
    "functional": functional,
    "subclassed": Net,
    "own sequential": Tower,
    "own functional": Graphed,
}
GRAPHS = ["sequential", "deferred", "functional"]
OWN = ["subclassed", "own sequential", "own functional"]


def project(
    kind: str,
    *,
    prepare: Callable[[Any], None] = lambda model: None,
    optimizer: Callable[[], Any] = lambda: keras.optimizers.Adam(0.01),
    compiled: Mapping[str, Any] | None = None,
    fit: Mapping[str, Any] | None = None,
    **typed: Any,
) -> tuple[Any, dict[str, Any]]:
    """One of the models above in a script that compiles and trains it for two epochs, with shuffling."""
    model = KINDS[kind](**(_DEFAULTS | typed))
    prepare(model)
    compile_model(model, optimizer(), **(compiled or {}))
    return model, call_of_fit(**(fit or {}))


def compile_model(model: Any, optimizer: Any, **options: Any) -> None:
    """Compile as all projects do."""
    model.compile(optimizer, "mse", **{"run_eagerly": EAGER, **options})


def call_of_fit(**given: Any) -> dict[str, Any]:
    """The arguments of ``fit`` that all projects have."""
    return {"x": X, "y": Y, "batch_size": 4, "epochs": 2, "verbose": 0, **given}
