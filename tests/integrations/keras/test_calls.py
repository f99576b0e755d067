"""Inside a study a value goes into the call that makes its object, so that all a script derives from it follows."""

from __future__ import annotations

import importlib
import os
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tunehook as th
from keras_projects import (
    BACKEND,
    EAGER,
    ONCE,
    QUIET,
    SEED,
    X,
    Y,
    assert_same,
    begin,
    call_of_fit,
    compile_model,
    state,
    study,
)
from tunehook.inject import trace
from tunehook.inject.known import known_trial
from tunehook.integrations.keras import TuneCallback
from tunehook.trial.errors import InjectionError
from waiting import PATIENCE
from warm import python

pytestmark = QUIET

Script = Callable[..., Any]
"""Trains with these callbacks and with values that are typed in; returns the model or models that count."""

CASES: list[Any] = []


def exact(values: dict[str, Any], *marks: Any, **names: str) -> Callable[[Script], Script]:
    """Note a script that equals itself with the values typed in.

    Args:
        values: Those of the trial, by the arguments of the script.
        marks: Marks of the test.
        names: The names in the space, where they are others.
    """

    def note(script: Script) -> Script:
        name = f"{script.__name__}-{'-'.join(values)}"
        space = {names.get(each, each): value for each, value in values.items()}
        CASES.append(pytest.param(script, space, values, id=name, marks=[*marks]))
        return script

    return note


def fit(model: Any, callbacks: Any, *, epochs: int = 2, optimizer: Any = None, **options: Any) -> Any:
    """Compile where an optimizer is given, and train."""
    if optimizer is not None or not model.compiled:
        compile_model(model, optimizer or keras.optimizers.Adam(0.01))
    return model.fit(X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=[*callbacks], **options)


def graph(*stack: Any, cls: type = keras.Model) -> Any:
    """A functional model of layers one after the other."""
    inputs = x = keras.Input((4,))
    for layer in stack:
        x = layer(x)
    return cls(inputs, layers.Dense(1, name="out")(x))


# ---------------------------------------------------------------------- what follows from an object


@exact({"units": 6}, units="hidden.units")
@exact({"units": 6, "rate": 0.4, "lr": 0.05, "epochs": 3}, units="layer.hidden.units")
def derived(callbacks: Any, units: int = 4, rate: float = 0.0, lr: float = 0.01, epochs: int = 2) -> Any:
    """A layer is half as wide as the one before, dropout may begin from 0, a schedule is as long as a layer is wide."""
    inputs = keras.Input((4,))
    x = layers.Dropout(rate)(layers.Dense(units, name="hidden")(inputs))
    gate = layers.Dense(x.shape[-1], activation="sigmoid", name="gate")(x)
    x = layers.Dense(x.shape[-1] // 2)(layers.Multiply()([x, gate]))
    model = keras.Model(inputs, layers.Dense(1)(x))
    steps = keras.optimizers.schedules.CosineDecay(0.02, decay_steps=model.get_layer("hidden").units)
    fit(model, callbacks, epochs=epochs, optimizer=keras.optimizers.Adam(lr))
    return model, fit(model, [], epochs=1, optimizer=keras.optimizers.SGD(steps)).model


@exact({"units": 6, "rate": 0.4}, units="hidden.units", rate="rate")
def touched(callbacks: Any, units: int = 4, rate: float = 0.1) -> Any:
    """Before fit the model is evaluated, its weights are set, and a second one is made of its layers."""
    hidden, drop = layers.Dense(units, name="hidden"), layers.Dropout(rate)
    model = graph(hidden, drop)
    features = keras.Model(model.inputs, drop.output)
    compile_model(model, keras.optimizers.Adam(0.01))
    model.evaluate(X, Y, verbose=0)
    hidden.set_weights([weight + 1 for weight in hidden.get_weights()])
    fit(model, callbacks)
    assert features.predict(X, verbose=0).shape == (12, units if known_trial() is None else 6)
    return model


class Drop(layers.Layer):  # type: ignore[misc] # Keras has no types
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(7)

    def call(self, x: Any) -> Any:
        return keras.random.dropout(x, self.rate, seed=self.seed_generator)


class Own(keras.Model):  # type: ignore[misc] # Keras has no types
    def __init__(self, width: int = 5, rate: float = 0.5) -> None:
        super().__init__()
        self.hidden, self.drop, self.out = layers.Dense(width), Drop(rate), layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.out(self.drop(self.hidden(x)))


@exact({"rate": 0.25, "width": 7}, rate="drop.rate")
@exact({"rate": 0.25, "width": 7}, *ONCE, width="model.width", rate="model.rate")
@exact({"width": 7, "rate": 0.25}, *ONCE, width="Own.width", rate="Drop.rate")
def own_layer(callbacks: Any, width: int = 5, rate: float = 0.5) -> Any:
    """A layer without a get_config() of its own, in a model class; what Keras tells of it is the value."""
    model = Own(width, rate)
    fit(model, callbacks)
    assert model.drop.get_config()["rate"] == model.drop.rate
    return model


@exact({"width": 7}, width="own.width")
def class_behind(callbacks: Any, width: int = 5) -> Any:
    """A model class is a layer of another model."""
    model = graph(layers.Dense(3), Own(width))
    fit(model, callbacks)
    return model


class Auto(keras.Model):  # type: ignore[misc] # Keras has no types
    def __init__(self, encoder: Any = None, code: int = 3, rate: float = 0.1) -> None:
        super().__init__()
        own = [layers.Dense(5), layers.Dense(code, name="code"), layers.Dropout(rate)]
        self.encoder = encoder or keras.Sequential(own, name="encoder")
        self.decoder = layers.Dense(1, name="decoder")

    def call(self, x: Any) -> Any:
        return self.decoder(self.encoder(x))


@exact({"code": 2, "rate": 0.4}, code="encoder.code.units", rate="rate")
@exact({"code": 2}, *ONCE, code="code")
def submodel(callbacks: Any, code: int = 3, rate: float = 0.1) -> Any:
    """A model that a model class makes."""
    model = Auto(code=code, rate=rate)
    fit(model, callbacks)
    return model


@exact({"units": 2}, units="encoder.code.units")
def model_that_is_given(callbacks: Any, units: int = 3) -> Any:
    """A model that is an argument of a model class."""
    model = Auto(keras.Sequential([layers.Dense(units, name="code")], name="encoder"))
    fit(model, callbacks)
    return model


class Block(layers.Layer):  # type: ignore[misc] # Keras has no types
    def __init__(self, units: int, depth: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.units, self.depth = units, depth
        self.blocks = [layers.Dense(units) for _ in range(depth)]

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


@exact({"units": 6, "depth": 3}, units="block.units", depth="depth")
@exact({"first": 5}, *ONCE, first="first.units")
def layers_in_a_list(callbacks: Any, first: int = 4, units: int = 3, depth: int = 2) -> Any:
    """A layer that keeps layers in a list, and what stands before it."""
    model = graph(layers.Dense(first, name="first"), Block(units, depth, name="block"))
    fit(model, callbacks)
    return model


class Stepping(keras.Model):  # type: ignore[misc] # Keras has no types
    pass


class Passing(keras.Model):  # type: ignore[misc] # Keras has no types
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.extra = keras.metrics.Mean(name="extra")


@exact({"units": 6, "rate": 0.4}, units="hidden.units")
def functional_subclasses(callbacks: Any, units: int = 4, rate: float = 0.1) -> Any:
    """Subclasses of models that are given inputs and outputs, twice each, since Keras changes such classes."""
    model = None
    for cls in (Stepping, Stepping, Passing):
        model = graph(layers.Dense(units, name="hidden"), layers.Dropout(rate, name="drop"), cls=cls)
    fit(model, callbacks)
    return model


class Chain(keras.Sequential):  # type: ignore[misc] # Keras has no types
    pass


@exact({"units": 6, "rate": 0.4}, units="hidden.units")
def sequential_subclass(callbacks: Any, units: int = 4, rate: float = 0.1) -> Any:
    """A subclass of Sequential that is given its layers."""
    stack = [layers.Dense(units, name="hidden"), layers.Dropout(rate), layers.Dense(1)]
    model = Chain([keras.Input((4,)), *stack])
    fit(model, callbacks)
    return model


class Wide(layers.Dense):  # type: ignore[misc] # Keras has no types
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


@exact({"units": 6, "use_bias": False}, *ONCE, units="hidden.units", use_bias="hidden.use_bias")
def passed_on(callbacks: Any, units: int = 4, use_bias: bool = True) -> Any:
    """A layer that passes its arguments on, which are given by their names."""
    model = graph(Wide(units=units, use_bias=use_bias, name="hidden"))
    fit(model, callbacks)
    return model


@exact({"units": 5}, *ONCE, units="each.layer.inner.units")
def layer_in_a_model_in_a_wrapper(callbacks: Any, units: int = 3) -> Any:
    """A wrapper around a model."""
    inner = keras.Sequential([layers.Dense(units, name="inner"), layers.Dropout(0.2)])
    model = graph(layers.Reshape((2, 2)), layers.TimeDistributed(inner, name="each"), layers.Flatten())
    fit(model, callbacks)
    return model


@exact({"batch_size": 3}, *ONCE)
def as_long_as_its_loader(callbacks: Any, batch_size: int = 4) -> Any:
    """A schedule as long as the training, which follows from a loader of torch; another one keeps its own size."""
    data = importlib.import_module("torch.utils.data")
    rows = data.TensorDataset(importlib.import_module("torch").from_numpy(np.hstack([X, Y])))
    held = data.DataLoader(rows, 4)
    loader = data.DataLoader(rows, batch_size, collate_fn=_pairs)
    model = graph(layers.Dense(3))
    compile_model(model, keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 2 * len(loader))))
    model.fit(loader, epochs=2, verbose=0, shuffle=False, callbacks=[*callbacks])
    assert held.batch_size == 4
    return model


def _pairs(rows: list[Any]) -> tuple[Any, Any]:
    """A batch of inputs and targets."""
    whole = np.stack([np.asarray(row) for (row,) in rows])
    return whole[:, :4], whole[:, 4:]


# ---------------------------------------------------------------------- objects that are arguments


@exact(
    {"l2": 0.3, "scale": 0.5, "other": 0.2},
    l2="kernel_regularizer.l2",
    scale="kernel_initializer.scale",
    other="b.bias_regularizer.l2",
)
def parts(callbacks: Any, l2: float = 0.01, scale: float = 1.0, other: float = 0.01) -> Any:
    """A regularizer that two layers share, an initializer, and a regularizer that goes by its name."""
    shared = keras.regularizers.L2(l2)
    scaled = keras.initializers.VarianceScaling(scale)
    named: Any = "l2" if other == 0.01 else keras.regularizers.L2(other)
    first = layers.Dense(4, kernel_regularizer=shared, kernel_initializer=scaled, name="a")
    model = graph(first, layers.Dense(3, kernel_regularizer=shared, bias_regularizer=named, name="b"))
    fit(model, callbacks)
    return model


OUTSIDE = keras.regularizers.L2(0.01)


@exact({"l2": 0.3, "units": 3}, l2="both.layer.kernel_regularizer.l2", units="both.layer.units")
def wrapped(callbacks: Any, l2: float = 0.01, units: int = 2) -> Any:
    """A layer in a wrapper that copies it, and a regularizer that was made outside of the training function."""
    inner = layers.GRU(units, kernel_regularizer=OUTSIDE if l2 == 0.01 else keras.regularizers.L2(l2))
    model = graph(layers.Reshape((2, 2)), layers.Bidirectional(inner, name="both"))
    fit(model, callbacks)
    return model


@exact({"rate": 0.2, "peak": 0.05}, rate="optimizer.learning_rate.decay_rate", peak="initial_learning_rate")
def scheduled(callbacks: Any, peak: float = 0.1, rate: float = 0.5) -> Any:
    """Settings of a schedule."""
    model = graph()
    steps = keras.optimizers.schedules.ExponentialDecay(peak, 5, rate)
    fit(model, callbacks, optimizer=keras.optimizers.SGD(steps))
    return model


@exact({"lr": 0.05}, *ONCE, lr="lr")
def optimizer_by_name(callbacks: Any, lr: float = 0.001) -> Any:
    """Keras makes the optimizer, so that there is no call of the script's."""
    model = graph()
    fit(model, callbacks, optimizer="adam" if lr == 0.001 else keras.optimizers.Adam(lr))
    return model


@exact({"loss": "mae", "optimizer": "sgd", "patience": 1}, *ONCE, patience="EarlyStopping.patience")
def compiled(callbacks: Any, loss: str = "mse", optimizer: str = "adam", patience: int = 9) -> Any:
    """Arguments of compile, and of another callback."""
    model = graph()
    model.compile(optimizer, loss, run_eagerly=EAGER)
    stop = keras.callbacks.EarlyStopping("loss", patience=patience, min_delta=9.0)
    assert fit(model, [stop, *callbacks], epochs=5).epoch in ([0, 1], [0, 1, 2, 3, 4])
    return model


@exact({"low": 0.2}, *ONCE, low="optimizer.0.learning_rate")
def several_optimizers(callbacks: Any, low: float = 0.1) -> Any:
    """A MultiOptimizer tells its optimizers apart by number."""
    model = graph(layers.Dense(3, name="hidden"))
    kinds = keras.optimizers
    choice = kinds.OptimizerMap(kinds.SGD(0.05), {"hidden/.*": kinds.SGD(low)})
    fit(model, callbacks, optimizer=kinds.MultiOptimizer(choice))
    return model


@exact({"units": 6, "lr": 0.05}, units="block_1.units")
def one_of_a_loop(callbacks: Any, units: int = 3, lr: float = 0.01) -> Any:
    """One layer of those that one line makes, by its name, in each of two models."""
    made = []
    for _ in range(2):
        made.append(graph(*(layers.Dense(units if one == 1 else 3, name=f"block_{one}") for one in range(3))))
        fit(made[-1], callbacks, epochs=1, optimizer=keras.optimizers.Adam(lr))
    return made


@exact({"lr": 0.05}, *ONCE)
def set_before_fit(callbacks: Any, lr: float = 0.01) -> Any:
    """What the script makes of a value before fit stays."""
    model = graph()
    compile_model(model, keras.optimizers.Adam(lr))
    model.optimizer.learning_rate = float(model.optimizer.learning_rate) / 2
    fit(model, callbacks)
    return model


@exact({"units": 6, "rate": 0.4}, units="hidden.units")
def cloned(callbacks: Any, units: int = 4, rate: float = 0.1) -> Any:
    """The model is a copy of another one, with its weights: the value comes from there."""
    base = graph(layers.Dense(units, name="hidden"), layers.Dropout(rate))
    model = keras.models.clone_model(base)
    model.set_weights(base.get_weights())
    fit(model, callbacks)
    return model


# ---------------------------------------------------------------------- several fits, several models


@exact({"lr": 0.05, "units": 6, "rate": 0.4}, units="top.units", rate="rate")
def fine_tuned(callbacks: Any, lr: float = 0.01, units: int = 3, rate: float = 0.1) -> Any:
    """A frozen base, then all of it with a tenth of the rate."""
    base = keras.Sequential([keras.Input((4,)), layers.Dense(5)], name="base")
    base.trainable = False
    model = graph(base, layers.Dense(units, name="top"), layers.Dropout(rate))
    fit(model, callbacks, optimizer=keras.optimizers.Adam(lr))
    base.trainable = True
    smaller = float(model.optimizer.learning_rate) / 10
    fit(model, callbacks, epochs=1, optimizer=keras.optimizers.Adam(smaller))
    return model


@exact({"epochs": 3, "lr": 0.05}, *ONCE)
def longer(callbacks: Any, epochs: int = 2, lr: float = 0.01) -> Any:
    """A second fit goes on for as many epochs as it says itself."""
    model = graph()
    first = fit(model, callbacks, epochs=epochs, optimizer=keras.optimizers.Adam(lr))
    fit(model, callbacks, initial_epoch=len(first.epoch), epochs=6)
    return model


@exact({"units": 5, "rate": 0.3, "lr": 0.05}, units="dense.units")
def folds(callbacks: Any, units: int = 3, rate: float = 0.1, lr: float = 0.01, clears: bool = False) -> Any:
    """Each fold makes its model; Keras counts the names of layers on."""
    made = []
    for _ in range(2):
        if clears:
            keras.utils.clear_session()
        stack = [keras.Input((4,)), layers.Dense(units), layers.Dropout(rate), layers.Dense(1)]
        made.append(keras.Sequential(stack))
        fit(made[-1], callbacks, epochs=1, optimizer=keras.optimizers.Adam(lr))
    return made


@exact({"units": 5, "rate": 0.3, "lr": 0.05}, *ONCE, units="dense.units")
def cleared_folds(callbacks: Any, **typed: Any) -> Any:
    """The session is cleared before each fold."""
    return folds(callbacks, clears=True, **typed)


@exact({"units": 6, "lr": 0.05}, units="hidden.units")
def taught(callbacks: Any, units: int = 4, lr: float = 0.01) -> Any:
    """A teacher with a layer of the same name is trained before, and keeps its own width and rate."""
    teacher = graph(layers.Dense(4, name="hidden"))
    fit(teacher, [], epochs=1, optimizer=keras.optimizers.SGD(0.1))
    model = graph(layers.Dense(units, name="hidden"))
    fit(model, callbacks, optimizer=keras.optimizers.Adam(lr))
    return teacher, model


@exact({"bins": 5}, pytest.mark.skipif(BACKEND != "tensorflow", reason="this layer is TensorFlow's"), bins="num_bins")
def adapted(callbacks: Any, bins: int = 3) -> Any:
    """A layer that has seen the data before fit."""
    bucket = layers.Discretization(num_bins=bins, output_mode="one_hot", name="bucket")
    bucket.adapt(X[:, :1])
    model = keras.Sequential([keras.Input((1,)), bucket, layers.Dense(1)])
    compile_model(model, keras.optimizers.Adam(0.01))
    model.fit(X[:, :1], Y, verbose=0, callbacks=[*callbacks])
    return model


@exact({"width": 3, "lr": 0.05}, *ONCE)
def read(callbacks: Any, width: int = 2, lr: float = 0.01) -> Any:
    """A value that the script reads goes nowhere else, though a constructor has an argument of its name."""
    model = Own(2 * th.value("width", width))
    fit(model, callbacks, optimizer=keras.optimizers.Adam(lr))
    return model


def models(made: Any) -> list[Any]:
    """The models that a script returns."""
    return list(made) if isinstance(made, list | tuple) else [made]


@pytest.mark.parametrize(("script", "space", "values"), CASES)
def test_a_script_equals_itself_with_the_values_typed_in(
    script: Script, space: dict[str, Any], values: dict[str, Any]
) -> None:
    """All weights, names and optimizers, in the first trial and in the second; the script's own values give others."""
    made: list[list[Any]] = []

    def train() -> None:
        keras.utils.set_random_seed(SEED)
        made.append(models(script([TuneCallback()])))

    begin()
    given = study(space, search="random")
    given.optimize(train, trials=2, progress=False)
    assert [trial.outcome.state for trial in given.trials] == ["complete"] * 2
    begin()
    expected = models(script([], **values))
    for tuned in made[-2:]:
        for one, other in zip(tuned, expected, strict=True):
            assert_same(one, other)
    begin()
    assert [state(one) for one in models(script([]))] != [state(one) for one in expected]


# ---------------------------------------------------------------------- how often train is called


@pytest.mark.parametrize(
    ("script", "space", "calls"),
    [
        (derived, {"layer.hidden.units": 6, "lr": 0.05, "epochs": 3}, 1),
        (own_layer, {"width": 6, "model.rate": 0.2}, 1),
        (folds, {"dense.units": 6, "learning_rate": 0.1}, 1),
        (touched, {"rate": 0.4, "hidden.units": 6}, 2),
        (taught, {"hidden.units": 6}, 2),
    ],
)
@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_train_is_called_once_more_only_where_a_value_belongs_elsewhere(
    script: Script, space: dict[str, Any], calls: int
) -> None:
    """Full names need no second call; a short one, and one that a teacher takes too, one in the first trial."""
    made: list[None] = []

    def train() -> None:
        made.append(None)
        script([TuneCallback()])

    study(space, search="random").optimize(train, trials=2, progress=False)
    assert len(made) == calls + 1


def _noise_of_tensorflow() -> list[Any]:
    """What a script draws of TensorFlow: by an operation of its own seed too, and in the order of a data set."""
    tensorflow = pytest.importorskip("tensorflow")
    data = tensorflow.data.Dataset.range(20).shuffle(20).as_numpy_iterator()
    drawn = [tensorflow.random.normal(()), tensorflow.random.normal((), seed=3)]
    generator = tensorflow.random.get_global_generator()
    return [*map(int, data), *map(float, drawn), float(generator.normal(()))]


@pytest.mark.skipif(BACKEND == "jax", reason="the others show it")
def test_a_second_call_begins_as_the_first_did() -> None:
    """Random states, counted names and the type of weights are as they were, in a script that sets no seed."""
    made: list[Any] = []
    outside = {"numpy": np.random.default_rng(5), "keras": keras.random.SeedGenerator(5)}

    def script(callbacks: Any, rate: float = 0.1) -> Any:
        noise = [random.random(), float(np.random.rand()), float(keras.random.uniform(()))]
        noise += [outside["numpy"].random(), float(keras.random.uniform((), seed=outside["keras"]))]
        noise += _noise_of_tensorflow() if BACKEND == "tensorflow" else []
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dropout(rate), layers.Dense(1)])
        keras.config.set_dtype_policy("float64")
        fit(model, callbacks)
        return model, noise

    def train() -> None:
        first, noise = script([TuneCallback()])
        made.append((first, noise))

    def start() -> None:
        begin()
        outside.update(numpy=np.random.default_rng(5), keras=keras.random.SeedGenerator(5))
        if BACKEND == "tensorflow":
            generators: Any = pytest.importorskip("tensorflow").random
            generators.set_global_generator(generators.Generator.from_seed(5))

    start()
    study({"rate": 0.4}).optimize(train, trials=1, progress=False)
    keras.config.set_dtype_policy("float32")
    start()
    model, noise = script([], 0.4)
    assert made[-1][1] == noise
    assert_same(made[-1][0], model)


# ---------------------------------------------------------------------- what is told


class Gan(keras.Model):  # type: ignore[misc] # Keras has no types
    """Trains with an optimizer of its own, beside the one that compile() makes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = layers.Dense(1)

    def compile(self, d_optimizer: Any) -> None:
        super().compile(loss="mse", run_eagerly=True)
        self.d_optimizer = d_optimizer

    def call(self, x: Any) -> Any:
        return self.net(x)

    def train_step(self, data: Any) -> Any:
        x, y = data
        loss = ((self(x) - y) ** 2).mean()
        self.zero_grad()
        loss.backward()
        weights = self.trainable_weights
        self.d_optimizer.apply([each.value.grad for each in weights], weights)
        return {"loss": loss}


def gan(callbacks: Any, lr: float = 0.1) -> Any:
    """A model with a compile() of its own."""
    model = Gan()
    model.compile(keras.optimizers.SGD(lr))
    model.fit(X, Y, verbose=0, callbacks=[*callbacks])
    return model


@pytest.mark.skipif(BACKEND != "torch", reason="its training step is torch's")
def test_an_optimizer_that_nobody_uses() -> None:
    """It is told at the end of the first epoch, with the name of the one that trains, which is exact."""
    begin()
    with pytest.raises(InjectionError) as told:
        study({"learning_rate": 0.5}).optimize(lambda: gan([TuneCallback()]), trials=1, progress=False)
    assert str(told.value) == (
        "Nothing uses optimizer.learning_rate: the optimizer that Gan was compiled with (RMSprop) has made no step in "
        "the first epoch.\n"
        "  Tune the one that trains, such as 'model.d_optimizer.learning_rate', or take the name out of the space."
    )
    made: list[Any] = []

    def train() -> None:
        keras.utils.set_random_seed(SEED)
        made.append(gan([TuneCallback()]))

    begin()
    study({"d_optimizer.learning_rate": 0.5}).optimize(train, trials=1, progress=False)
    begin()
    assert_same(made[-1], gan([], 0.5))


def test_an_optimizer_that_is_given_nothing() -> None:
    """One of several to which no variable goes: told at the end of the first epoch."""

    def train() -> None:
        chosen = keras.optimizers.OptimizerMap(keras.optimizers.Adam(0.01), {"elsewhere/.*": keras.optimizers.SGD(0.1)})
        fit(Own(), [TuneCallback()], optimizer=keras.optimizers.MultiOptimizer(chosen))

    begin()
    with pytest.raises(InjectionError) as told:
        study({"optimizer.0.learning_rate": 0.5}).optimize(train, trials=1, progress=False)
    assert str(told.value) == (
        "Nothing uses optimizer.0.learning_rate: SGD was given no variable in the first epoch.\n"
        "  Let it train some, or take the name out of the space."
    )


class Deaf(Own):
    def __init__(self, unused: int = 1) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("script", "space", "message"),
    [
        (
            lambda callbacks: fit(Deaf(), callbacks),
            {"unused": 2},
            (
                r"^Nothing uses model.unused: no line of the constructor of Deaf reads it.\n"
                r"  Use the argument in Deaf, or take it out of the space.$"
            ),
        ),
        (
            derived,
            {"layer.hidden.units": -1},
            (
                r"^Dense at test_calls.py:\d+ cannot be constructed with units = -1: ValueError: .*\n"
                r"  Leave such values out of the space.$"
            ),
        ),
        (
            several_optimizers,
            {"learning_rate": 0.5},
            (
                r"^The hyperparameter 'learning_rate' could go to optimizer.0.learning_rate and "
                r"optimizer.1.learning_rate.\n"
                r"  Write the full path in the space, for example 'optimizer.0.learning_rate'.$"
            ),
        ),
    ],
)
@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_refused(script: Script, space: dict[str, Any], message: str) -> None:
    """The search ends, with a message that says what is wrong and what to do."""
    begin()
    with pytest.raises(InjectionError, match=message):
        study(space).optimize(lambda: script([TuneCallback()]), trials=1, progress=False)


@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_a_loaded_model_beside_a_layer_of_its_name(tmp_path: Path) -> None:
    """The value goes into the model that is trained, not into the other one that looks like its original."""
    begin()
    path = tmp_path / "model.keras"
    graph(layers.Dense(3, name="hidden"), layers.Dropout(0.1, name="drop")).save(path)
    rates: list[tuple[float, float]] = []

    def train() -> None:
        decoy = graph(layers.Dense(3, name="hidden"), layers.Dropout(0.1, name="drop"))
        model = keras.models.load_model(path)
        fit(model, [TuneCallback()])
        rates.append((decoy.get_layer("drop").rate, model.get_layer("drop").rate))

    given = study({"drop.rate": 0.4})
    given.optimize(train, trials=1, progress=False)
    assert rates[-1] == (0.1, 0.4)


@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_a_value_that_is_overwritten_before_the_first_step() -> None:
    """What another callback sets back is told, though the value had been typed in."""

    class Slow(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
        def on_train_begin(self, logs: Any = None) -> None:
            self.model.optimizer.learning_rate = 0.125

    begin()
    message = "optimizer.learning_rate holds 0.125 instead of 0.5"
    with pytest.raises(InjectionError, match=message):
        study({"learning_rate": 0.5}).optimize(
            lambda: fit(graph(), [Slow(), TuneCallback()], optimizer=keras.optimizers.Adam(0.1)),
            trials=1,
            progress=False,
        )


LATE = """
import tunehook as th

names = []

def train():
    import keras
    import numpy as np
    from tunehook.integrations.keras import TuneCallback

    stack = [keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dropout(0.1), keras.layers.Dense(1)]
    model = keras.Sequential(stack)
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    model.fit(x, x[:, :1], verbose=0, callbacks=[TuneCallback()])
    names.append([layer.name for layer in model.layers])

study = th.Study("late", {"dense.units": 5, "rate": 0.3}, metric="loss", mode="min", search="random")
study.optimize(train, trials=2, progress=False)
print(names)
"""


@pytest.mark.slow
def test_a_training_function_that_imports_the_adapter(tmp_path: Path) -> None:
    """Keras's names are as they were at the import in the second call of the function, and in the next trial."""
    ran = subprocess.run(
        [python(), "-c", LATE], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.splitlines()[-1] == str([["dense", "dropout", "dense_1"]] * 2)


@pytest.mark.parametrize(
    ("space", "typed"),
    [
        ({"fit.1.optimizer.learning_rate": 0.05}, {"rates": (0.1, 0.05)}),
        ({"learning_rate": 0.2, "fit.1.lr": 0.05, "fit.1.epochs": 2}, {"rates": (0.2, 0.05), "epochs": (1, 2)}),
        ({"fit.0.epochs": 2}, {"epochs": (2, 1)}),
    ],
)
def test_a_fit_by_its_number(space: dict[str, Any], typed: dict[str, Any]) -> None:
    """Fine-tuning after a first fit: its optimizer and its epochs, beside those of the first fit."""

    def script(rates: tuple[float, float] = (0.1, 0.01), epochs: tuple[int, int] = (1, 1), **more: Any) -> Any:
        begin()
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="h"), keras.layers.Dense(1)])
        compile_model(model, keras.optimizers.Adam(rates[0]))
        model.fit(**call_of_fit(epochs=epochs[0], **more))
        compile_model(model, keras.optimizers.Adam(rates[1]))
        model.fit(**call_of_fit(epochs=epochs[1], **more))
        return model

    made: list[Any] = []
    study(space).optimize(lambda: made.append(script(callbacks=[TuneCallback()])), trials=1, progress=False)
    assert_same(made[-1], script(**typed))


class Weighted(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class whose own ``compile()`` takes more than Keras's."""

    def __init__(self) -> None:
        super().__init__()
        self.head = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.head(x)

    def compile(self, optimizer: Any, *, weight: float = 0.5, **rest: Any) -> None:
        super().compile(optimizer, **rest)
        self.weight = weight

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> Any:
        return self.weight * keras.ops.mean((y - y_pred) ** 2)


@pytest.mark.parametrize("name", ["weight", "compile.weight"])
def test_an_argument_of_a_compile_of_the_users(name: str) -> None:
    """It goes into the call that the script makes, and not into the one that this makes of Keras's."""
    made: list[Any] = []

    def script(weight: float = 0.5, **more: Any) -> Any:
        begin()
        model = Weighted()
        model.compile(keras.optimizers.SGD(0.1), weight=weight, run_eagerly=EAGER)
        model.fit(**call_of_fit(**more))
        return model

    study({name: 0.9}).optimize(lambda: made.append(script(callbacks=[TuneCallback()])), trials=1, progress=False)
    assert made[-1].weight == 0.9
    assert_same(made[-1], script(0.9))


MIRRORED = """
import hashlib
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import keras
import numpy as np
import optuna
import tunehook as th
from tunehook.integrations.keras import TuneCallback

x = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")


def train(units=3, rate=0.1, size=8, callbacks=()):
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, name="h"), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(rate), "mse")
    model.fit(x, x[:, :1], batch_size=size, shuffle=False, verbose=0, callbacks=list(callbacks))
    weights = b"".join(one.tobytes() for one in model.get_weights())
    print(strategy.num_replicas_in_sync, len(weights), hashlib.sha256(weights).hexdigest())


train(7, 0.05, 4)
values = {"h.units": 7, "learning_rate": 0.05, "batch_size": 4}
study = th.Study(
    "mirrored", values, metric="loss", mode="min", search="random", storage=optuna.storages.InMemoryStorage()
)
study.optimize(lambda: train(callbacks=[TuneCallback()]), trials=1, progress=False)
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow")
def test_a_model_on_two_devices() -> None:
    """In the scope of a MirroredStrategy values go into calls as anywhere."""
    done = subprocess.run([python(), "-c", MIRRORED], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    plain, *tuned = done.stdout.splitlines()
    assert plain.startswith("2 ")
    assert set(tuned) == {plain}


def test_a_setting_that_the_script_sets_after_the_constructor(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts, as with the value typed in; where it is a number of its own the search is in vain: said, once."""
    monkeypatch.setattr(trace, "_told", set())
    rates: list[float] = []

    def train() -> None:
        begin()
        model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.01), "mse")
        model.optimizer.learning_rate = 0.003
        model.fit(X, Y, epochs=1, verbose=0, callbacks=[TuneCallback()])
        rates.append(float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)))

    with caplog.at_level("WARNING", logger="tunehook"):
        study({"learning_rate": th.Choice([0.02, 0.03])}, search="grid").optimize(train, progress=False)
    assert rates == [pytest.approx(0.003)] * 2
    (said,) = [record.getMessage() for record in caplog.records if record.name == "tunehook"]
    assert re.fullmatch(
        r"optimizer.learning_rate was made with the trial's value 0.0[23], and is 0.0030\d+ when the fit begins: "
        r"test_calls.py:\d+ sets it. To tune what it sets there: th.value\('learning_rate', ...\).",
        said,
    )


def test_a_variable_that_reaches_fit_by_its_place(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also through a function that hands it on: a line says that what is computed from it has the script's value."""
    monkeypatch.setattr(trace, "_told", set())

    def hand_on(model: Any, size: int, rounds: int) -> None:
        model.fit(X, Y, size, rounds, 0, callbacks=[TuneCallback()])

    def train() -> None:
        rounds, size = 2, 4
        steps = keras.optimizers.schedules.CosineDecay(0.02, decay_steps=rounds * 3)
        model = graph(layers.Dense(2))
        compile_model(model, keras.optimizers.SGD(steps))
        hand_on(model, size, rounds)

    study = th.Study("placed", {"epochs": 3, "batch_size": 6}, metric="loss", mode="min", search="random")
    with caplog.at_level("WARNING", logger="tunehook"):
        study.optimize(train, trials=1, progress=False)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "tunehook"]
    assert re.match(
        r"epochs of Functional at test_calls.py:\d+ takes the trial's value; the script passes rounds ", said
    )
