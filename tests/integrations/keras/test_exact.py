"""Bit for bit: what a tuned fit trains is what the plain script trains with the same values typed in."""

from __future__ import annotations

import functools
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_projects import (
    BACKEND,
    EAGER,
    GRAPHS,
    KINDS,
    ONCE,
    OWN,
    QUIET,
    X,
    Y,
    assert_same,
    bits,
    call_of_fit,
    compile_model,
    plain,
    project,
    state,
    tuned,
)

pytestmark = QUIET

SETTINGS: dict[str, tuple[str, Any]] = {
    "units": ("layer.first.units", 7),
    "rate": ("layer.drop.rate", 0.25),
    "l2": ("layer.first.kernel_regularizer.l2", 0.3),
    "activation": ("layer.first.activation", "tanh"),
    "initializer": ("layer.first.kernel_initializer", "he_normal"),
}


def compare(script: Any, values: Mapping[str, Any], typed: Mapping[str, Any], **fixed: Any) -> Any:
    """Check that the tuned script equals the plain one, whose model is returned."""
    expected = plain(script, **fixed, **typed)
    assert_same(tuned(script, values, **fixed), expected)
    return expected


# ---------------------------------------------------------------------- layers and constructors


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.skipif(BACKEND != "torch", reason="elsewhere all settings at once are tested")
def test_setting_of_a_layer(kind: str, name: str) -> None:
    """A setting of a layer trains the same as if it were typed in, whatever the model."""
    path, value = SETTINGS[name]
    trained = compare(functools.partial(project, kind), {path: value}, {name: value})
    assert state(plain(functools.partial(project, kind))) != state(trained)


@pytest.mark.parametrize("kind", KINDS)
def test_all_settings_at_once(kind: str) -> None:
    """Values of layers, optimizer and fit together train the same as if they were typed in."""

    def script(
        speed: float = 0.01, decay: float = 0.1, batch_size: int = 4, epochs: int = 2, **typed: Any
    ) -> tuple[Any, dict[str, Any]]:
        fit = {"batch_size": batch_size, "epochs": epochs}
        return project(kind, optimizer=lambda: keras.optimizers.AdamW(speed, weight_decay=decay), fit=fit, **typed)

    typed = {name: value for name, (_, value) in SETTINGS.items()}
    values = dict(SETTINGS.values())
    values |= {"learning_rate": 0.05, "weight_decay": 0.02, "batch_size": 3, "epochs": 3}
    compare(script, values, {**typed, "speed": 0.05, "decay": 0.02, "batch_size": 3, "epochs": 3})


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"units": 7}, marks=ONCE),
        pytest.param({"model.rate": 0.25}, marks=ONCE),
        {"model.units": 7, "l2": 0.3, "model.activation": "tanh"},
    ],
)
@pytest.mark.parametrize("kind", OWN)
def test_argument_of_a_model(kind: str, values: dict[str, Any]) -> None:
    """An argument of the model's constructor trains the same as if it were typed in."""
    typed = {name.removeprefix("model."): value for name, value in values.items()}
    compare(functools.partial(project, kind), values, typed)


class Configured(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class whose constructor takes configurations and a number of layers."""

    def __init__(self, config: dict[str, Any], more: Namespace, layers: int = 1, **rest: Any) -> None:
        super().__init__()
        units = config["encoder"]["units"]
        self.blocks = [keras.layers.Dense(units, activation=rest["activation"]) for _ in range(layers)]
        self.drop = keras.layers.Dropout(more.rate)
        self.head = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = self.drop(block(x))
        return self.head(x)


@pytest.mark.parametrize(
    ("values", "typed"),
    [
        ({"config.encoder.units": 7}, {"units": 7}),
        ({"more.rate": 0.5}, {"rate": 0.5}),
        ({"rate": 0.5}, {"rate": 0.5}),
        ({"model.activation": "relu"}, {"activation": "relu"}),
        ({"model.layers": 3}, {"depth": 3}),
        ({"model.more.rate": 0.0, "model.layers": 2, "units": 4}, {"rate": 0.0, "depth": 2, "units": 4}),
    ],
)
@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_configuration_of_a_model(values: dict[str, Any], typed: dict[str, Any]) -> None:
    """Entries of dicts and namespaces, ``**kwargs`` and the number of layers train the same as if typed in."""

    def script(units: int = 3, rate: float = 0.2, activation: str = "tanh", depth: int = 1) -> Any:
        model = Configured({"encoder": {"units": units}}, Namespace(rate=rate), layers=depth, activation=activation)
        compile_model(model, "adam")
        return model, call_of_fit()

    compare(script, values, typed)


@pytest.mark.parametrize("kind", ["subclassed", *(pytest.param(kind, marks=ONCE) for kind in GRAPHS)])
def test_dropout_that_begins(kind: str) -> None:
    """Dropout from 0 on draws a seed, and so do the layers behind it, other ones than without."""

    def script(rate: float = 0.0) -> Any:
        return project(kind, rate=rate)

    compare(script, {"drop.rate": 0.25}, {"rate": 0.25})


class Seeded(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class with a number too large for 32-bit floats."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.head = layers.Dense(1, kernel_initializer=keras.initializers.GlorotUniform(seed=seed))

    def call(self, x: Any) -> Any:
        return self.head(x)


def test_large_numbers_are_told_apart() -> None:
    """Two integers that are one 32-bit float are two values."""

    def script(seed: int = 2**24) -> Any:
        model = Seeded(seed)
        compile_model(model, "sgd")
        return model, call_of_fit()

    trained = compare(script, {"seed": 2**24 + 1}, {"seed": 2**24 + 1})
    assert state(trained) != state(plain(script))


class Noisy(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class that draws from every global generator when it is constructed."""

    def __init__(self, units: int = 3) -> None:
        super().__init__()
        self.noise = [float(ops.convert_to_numpy(keras.random.uniform(()))), float(np.random.rand())]
        self.layer = layers.Dense(units)
        self.drop = layers.Dropout(0.3)
        self.head = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.head(self.drop(self.layer(x))) * (self.noise[0] + self.noise[1])


def test_a_model_that_draws_from_global_generators() -> None:
    """What a constructor draws from Keras's and NumPy's own generators is drawn again."""

    def script(units: int = 3) -> Any:
        keras.random.uniform(())
        model = Noisy(units)
        compile_model(model, "sgd")
        return model, call_of_fit()

    compare(script, {"units": 5}, {"units": 5})


class Made(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class whose layers are given objects."""

    def __init__(self, units: int = 3, scale: float = 1.0, rate: float = 0.1) -> None:
        super().__init__()
        self.fold = layers.Reshape((2, 2))
        initializer = keras.initializers.VarianceScaling(scale)
        self.first = layers.Dense(3, kernel_initializer=initializer, name="first")
        self.both = layers.Bidirectional(layers.GRU(units, dropout=rate), name="both")
        self.drop = layers.Dropout(0.3)
        self.head = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.head(self.drop(self.both(self.first(self.fold(x)))))


@pytest.mark.parametrize(
    ("values", "typed"),
    [
        ({"layer.first.kernel_initializer.scale": 0.5}, {"scale": 0.5}),
        ({"layer.both.layer.units": 5}, {"units": 5}),
        ({"layer.both.layer.units": 5, "scale": 0.5, "model.rate": 0.4}, {"units": 5, "scale": 0.5, "rate": 0.4}),
    ],
)
@pytest.mark.parametrize("called", [False, True])
@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_objects_in_layers_of_a_model(values: dict[str, Any], typed: dict[str, Any], called: bool) -> None:
    """Settings of initializers and layers that are given to layers keep the seeds of those."""

    def script(**given: Any) -> Any:
        model = Made(**given)
        if called:
            model(X[:1])
        compile_model(model, "sgd")
        return model, call_of_fit()

    compare(script, values, typed)


# ---------------------------------------------------------------------- models that are not fresh


def build(model: Any) -> None:
    """Weights exist before fit; a class that cannot build by itself is called."""
    if getattr(model.build, "_is_default", False):
        model(X[:1])
    else:
        model.build((None, 4))


def call(model: Any) -> None:
    """The model was called before fit."""
    model(X[:2])


def predict(model: Any) -> None:
    """The model was compiled for predictions before fit."""
    build(model)
    model.predict(X, batch_size=4, verbose=0)


def freeze(model: Any) -> None:
    """A layer is frozen, and another one that was built before."""
    build(model)
    model.get_layer("second").trainable = False
    model.get_layer("norm").trainable = False


def freeze_changed(model: Any) -> None:
    """The layer that changes is frozen itself."""
    build(model)
    model.get_layer("first").trainable = False


def load(model: Any) -> None:
    """Weights of a layer whose shape does not change are loaded."""
    build(model)
    layer = model.get_layer("last")
    layer.set_weights([weight + 1 for weight in layer.get_weights()])


def load_all(model: Any) -> None:
    """All weights are loaded."""
    build(model)
    model.set_weights([weight + 0.5 for weight in model.get_weights()])


STATES: dict[Callable[[Any], None], dict[str, tuple[str, Any]]] = {
    build: {"units": ("layer.first.units", 7)},
    call: {"units": ("layer.first.units", 7)},
    predict: {"l2": ("layer.first.kernel_regularizer.l2", 0.3)},
    freeze: {"units": ("layer.first.units", 7)},
    freeze_changed: {"l2": ("layer.first.kernel_regularizer.l2", 0.3)},
    load: {"rate": ("layer.drop.rate", 0.25)},
    load_all: {"l2": ("layer.first.kernel_regularizer.l2", 0.3), "rate": ("layer.drop.rate", 0.25)},
}


@pytest.mark.parametrize("prepare", STATES, ids=lambda prepare: prepare.__name__)
@pytest.mark.parametrize(
    "kind", ["functional", *(pytest.param(kind, marks=ONCE) for kind in KINDS if kind != "functional")]
)
def test_model_that_is_not_fresh(kind: str, prepare: Callable[[Any], None]) -> None:
    """Models that were built, called, frozen or loaded before fit train the same as if the value were typed in."""
    values = dict(STATES[prepare].values())
    typed = {name: value for name, (_, value) in STATES[prepare].items()}
    compare(functools.partial(project, kind, prepare=prepare), values, typed)


@pytest.mark.parametrize("kind", GRAPHS[::2])
def test_transfer_learning_with_another_head(kind: str) -> None:
    """Loaded weights in front of a layer whose shape changes stay, frozen or not."""

    def prepare(model: Any) -> None:
        build(model)
        body = model.get_layer("first")
        body.set_weights([weight + 1 for weight in body.get_weights()])
        body.trainable = False

    def script(units: int = 3) -> Any:
        body = layers.Dense(4, name="first")
        made: Any = [keras.Input((4,)), body, layers.Dropout(0.2), layers.Dense(units, name="head"), layers.Dense(1)]
        model = keras.Sequential(made)
        if kind == "functional":
            inputs = keras.Input((4,))
            x = body(inputs)
            model = keras.Model(inputs, layers.Dense(1)(layers.Dense(units, name="head")(layers.Dropout(0.2)(x))))
        prepare(model)
        compile_model(model, "adam")
        return model, call_of_fit()

    compare(script, {"layer.head.units": 6}, {"units": 6})


class Headed(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class that is given a pretrained model."""

    def __init__(self, body: Any, units: int = 3) -> None:
        super().__init__()
        self.body = body
        self.hidden = layers.Dense(units)
        self.head = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.head(self.hidden(self.body(x)))


def test_pretrained_model_as_an_argument() -> None:
    """A model that a constructor is given keeps its weights, and stays frozen."""

    def script(units: int = 3) -> Any:
        body = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dropout(0.3)])
        body.set_weights([weight * 2 for weight in body.get_weights()])
        body.trainable = False
        model = Headed(body, units)
        compile_model(model, "adam")
        return model, call_of_fit()

    compare(script, {"units": 6}, {"units": 6})


@pytest.mark.parametrize("kind", [*GRAPHS, "subclassed"])
@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_a_loaded_model(kind: str, tmp_path: Path) -> None:
    """A model that was saved and loaded trains the same as if the value were typed in."""
    made, _ = project(kind, prepare=build)
    made.save(tmp_path / "model.keras")

    def script(speed: float = 0.01, **_typed: Any) -> Any:
        model = keras.saving.load_model(tmp_path / "model.keras", compile=False, custom_objects={"Net": KINDS[kind]})
        compile_model(model, keras.optimizers.Adam(speed))
        return model, call_of_fit()

    compare(script, {"learning_rate": 0.1}, {"speed": 0.1})


# ---------------------------------------------------------------------- what a script does before fit


class Kept(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class that uses up what it is given, with a compile of its own."""

    def __init__(self, units: int = 3, widths: Any = ()) -> None:
        super().__init__()
        self.hidden = layers.Dense(units, name="hidden")
        self.more = [layers.Dense(width) for width in iter(widths)]
        self.head = layers.Dense(1)

    def call(self, x: Any) -> Any:
        x = self.hidden(x)
        for layer in self.more:
            x = layer(x)
        return self.head(x)

    def compile(self, rate: float = 0.1) -> None:
        super().compile(keras.optimizers.SGD(rate), "mse", run_eagerly=EAGER)


class Bare(layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer without get_config, whose arguments Keras cannot describe."""

    def __init__(self, units: int, helper: object) -> None:
        super().__init__(name="bare")
        self.inner = layers.Dense(units)

    def call(self, x: Any) -> Any:
        return self.inner(x)


class Silent(layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer whose get_config misses an argument."""

    def __init__(self, units: int, scale: float = 1.0, **rest: Any) -> None:
        super().__init__(**rest)
        self.scale, self.inner = scale, layers.Dense(units)

    def call(self, x: Any) -> Any:
        return self.inner(x) * self.scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


def stacked(*made: Any, optimizer: Any = None) -> tuple[Any, dict[str, Any]]:
    """A compiled Sequential model and its call of ``fit``."""
    model = keras.Sequential([keras.Input((4,)), *made])
    compile_model(model, optimizer or keras.optimizers.Adam(0.01))
    return model, call_of_fit()


def weights_are_set(units: int = 3) -> Any:
    """Of a layer whose shape changes, and of one behind it."""
    model, call = stacked(layers.Dense(units, name="hidden"), layers.Dense(1, name="out"))
    model.set_weights([weight + 1 for weight in model.get_weights()])
    model.layers[1].bias.assign([1.0])
    return model, call


def another_model_has_the_layer(units: int = 3) -> Any:
    """Both live on."""
    inputs = keras.Input((4,))
    x = layers.Dense(units, name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.other = [keras.Model(inputs, x, name="encoder")]
    compile_model(model, "adam")
    return model, call_of_fit()


def trained_before(units: int = 3, rate: float = 0.01) -> Any:
    """By a fit that is not tuned."""
    model, call = stacked(layers.Dense(units, name="hidden"), layers.Dense(1), optimizer=keras.optimizers.Adam(rate))
    model.fit(**call)
    return model, call


def changed_after_construction(units: int = 3) -> Any:
    """And given what can be used once, and compiled in a way of its own."""
    model = Kept(units, widths=iter([2, 2]))
    model.note, model.hidden.kernel_regularizer = "mine", keras.regularizers.L2(0.1)
    model.compile()
    return model, call_of_fit()


def without_a_configuration(units: int = 3, hidden: int = 2) -> Any:
    """Of two layers, one after the other."""
    return stacked(layers.Dense(hidden, name="hidden"), Bare(units, object()), Silent(2, 2.0), layers.Dense(1))


def known_to_the_optimizer(units: int = 3, decay: float = 0.5) -> Any:
    """A weight that the optimizer was told of."""
    model, call = stacked(
        layers.Dense(units, name="hidden"), layers.Dense(1), optimizer=keras.optimizers.AdamW(0.1, weight_decay=decay)
    )
    model.optimizer.exclude_from_weight_decay(var_list=[model.layers[0].bias])
    return model, call


@pytest.mark.parametrize(
    ("script", "values", "typed"),
    [
        (weights_are_set, {"layer.hidden.units": 5}, {"units": 5}),
        (another_model_has_the_layer, {"layer.hidden.units": 5}, {"units": 5}),
        (trained_before, {"layer.hidden.units": 5, "learning_rate": 0.1}, {"units": 5, "rate": 0.1}),
        (changed_after_construction, {"model.units": 5}, {"units": 5}),
        (without_a_configuration, {"layer.bare.units": 5, "hidden.units": 4}, {"units": 5, "hidden": 4}),
        (known_to_the_optimizer, {"layer.hidden.units": 5, "weight_decay": 0.1}, {"units": 5, "decay": 0.1}),
    ],
)
def test_what_a_script_does_before_fit(script: Any, values: dict[str, Any], typed: dict[str, Any]) -> None:
    """Whatever it is, the value was there before it."""
    compare(script, values, typed)


# ---------------------------------------------------------------------- optimizers


class Falling(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc] # Keras has no types
    """A schedule that Keras does not know."""

    def __init__(self, peak: float) -> None:
        self.peak = peak

    def __call__(self, step: Any) -> Any:
        return self.peak / (1 + ops.cast(step, "float32"))

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak}


def excluding(rate: float = 0.1) -> Any:
    """An optimizer that was told something after its construction."""
    made = keras.optimizers.AdamW(rate, weight_decay=0.5)
    made.exclude_from_weight_decay(var_names=["kernel"])
    return made


def decaying(rate: float = 0.1, steps: int = 2) -> Any:
    """An optimizer with a schedule of Keras's."""
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(rate, steps, 0.5))


OPTIMIZERS: list[Any] = [
    (keras.optimizers.Adam, {"learning_rate": 0.3}, {}),
    pytest.param(keras.optimizers.Adam, {"beta_1": 0.5, "optimizer.beta_2": 0.6, "epsilon": 0.1}, {}, marks=ONCE),
    (keras.optimizers.AdamW, {"weight_decay": 0.3}, {}),
    pytest.param(keras.optimizers.SGD, {"momentum": 0.5}, {}, marks=ONCE),
    pytest.param(
        keras.optimizers.SGD,
        {"optimizer.momentum": 0.5, "nesterov": True, "lr": 0.3},
        {"lr": "learning_rate"},
        marks=ONCE,
    ),
    pytest.param(keras.optimizers.SGD, {"clipnorm": 0.01}, {}, marks=ONCE),
    pytest.param(keras.optimizers.RMSprop, {"rho": 0.3, "use_ema": True, "ema_momentum": 0.5}, {}, marks=ONCE),
    pytest.param(keras.optimizers.SGD, {"gradient_accumulation_steps": 2}, {}, marks=ONCE),
    (
        decaying,
        {"initial_learning_rate": 0.3, "decay_steps": 5},
        {"initial_learning_rate": "rate", "decay_steps": "steps"},
    ),
    pytest.param(lambda peak=0.1: keras.optimizers.Adam(Falling(peak)), {"peak": 0.3}, {}, marks=ONCE),
    pytest.param(
        lambda b=0.9: keras.optimizers.Adam(Falling(0.1), beta_1=b), {"beta_1": 0.3}, {"beta_1": "b"}, marks=ONCE
    ),
    (excluding, {"learning_rate": 0.3}, {"learning_rate": "rate"}),
]


@pytest.mark.parametrize(("make", "values", "names"), OPTIMIZERS)
@pytest.mark.parametrize("kind", ["sequential", pytest.param("subclassed", marks=ONCE)])
def test_setting_of_an_optimizer(kind: str, make: Any, values: dict[str, Any], names: dict[str, str]) -> None:
    """A setting of the optimizer or of its schedule trains the same as if it were typed in."""

    def script(**typed: Any) -> Any:
        given = {names.get(name, name): value for name, value in typed.items()}
        return project(kind, optimizer=lambda: make(**given))

    typed = {name.removeprefix("optimizer."): value for name, value in values.items()}
    trained = compare(script, values, typed)
    if BACKEND == "torch":
        assert state(plain(script)) != state(trained)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind == "sequential" else ONCE) for kind in KINDS])
def test_optimizer_that_was_built_before(kind: str) -> None:
    """An optimizer that knows the old weights already gets to know the new ones."""

    def script(**typed: Any) -> Any:
        model, given = project(kind, prepare=build, optimizer=lambda: keras.optimizers.SGD(0.1, momentum=0.5), **typed)
        model.optimizer.build(model.trainable_variables)
        return model, given

    compare(script, {"layer.first.units": 7}, {"units": 7})


def test_optimizer_by_name_whose_rate_was_set() -> None:
    """What was set on the optimizer between compile and fit stays, also where the model is constructed again."""

    def script(units: int = 5) -> Any:
        model, given = project("subclassed", optimizer=lambda: "adam", units=units)
        model.optimizer.learning_rate = 0.3
        return model, given

    compare(script, {"model.units": 7}, {"units": 7})


# ---------------------------------------------------------------------- precision, compilation


@pytest.fixture(params=["mixed_float16", *(pytest.param(name, marks=ONCE) for name in ("mixed_bfloat16", "bfloat16"))])
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    """A type in which layers compute."""
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("kind", ["functional", "subclassed"])
def test_precision(kind: str, precision: str) -> None:
    """In mixed precision, whose optimizer scales the loss, a value trains the same as if it were typed in."""

    def script(speed: float = 0.01, **typed: Any) -> Any:
        keras.config.set_dtype_policy(precision)
        return project(kind, optimizer=lambda: keras.optimizers.Adam(speed), **typed)

    compare(script, {"layer.first.units": 7, "learning_rate": 0.1}, {"units": 7, "speed": 0.1})


COMPILED: list[dict[str, Any]] = [{"run_eagerly": False}, {"run_eagerly": True}]
if BACKEND != "torch":
    COMPILED = [{"run_eagerly": False}, {"run_eagerly": False, "jit_compile": True, "steps_per_execution": 2}]


@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("kind", ["sequential", "subclassed"])
def test_compilation(kind: str, compiled: dict[str, Any]) -> None:
    """However the step is compiled, a value trains the same as if it were typed in."""
    compare(
        functools.partial(project, kind, compiled=compiled, prepare=build),
        {"layer.first.units": 7, "layer.drop.rate": 0.1},
        {"units": 7, "rate": 0.1},
    )


# ---------------------------------------------------------------------- arguments of fit


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("given", [{}, {"batch_size": None}, {"y": [[number] for number in range(12)]}])
@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_batch_size_of_arrays(size: int, given: dict[str, Any]) -> None:
    """The batch size of arrays, given or not, is an argument of fit."""

    def script(**typed: Any) -> Any:
        y = {"y": np.array(given["y"], "float32")} if "y" in given else {}
        return project("sequential", fit={"validation_split": 0.25, **given, **y, **typed})

    compare(script, {"batch_size": size}, {"batch_size": size})


@pytest.mark.parametrize("shuffle", [True, False])
def test_batch_size_of_a_loader(shuffle: bool) -> None:
    """A DataLoader of torch is made with the new batch size."""
    data = pytest.importorskip("torch.utils.data", reason="a DataLoader is torch's")
    if BACKEND != "torch":
        pytest.skip("Keras takes a DataLoader on torch")
    torch = pytest.importorskip("torch")
    loaders: list[Any] = []

    def script(size: int = 4) -> Any:
        pairs = data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
        loaders.append(data.DataLoader(pairs, batch_size=size, shuffle=shuffle))
        return project("sequential", fit={"x": loaders[-1], "y": None, "batch_size": None, "shuffle": False})

    compare(script, {"fit.batch_size": 3}, {"size": 3})
    assert [loader.batch_size for loader in loaders] == [3, 4, 3]  # train is called twice


def test_epochs() -> None:
    """The number of epochs is an argument of fit, whatever the first one is."""

    def script(epochs: int = 2) -> Any:
        return project("sequential", fit={"epochs": epochs, "initial_epoch": 1})

    trained = compare(script, {"epochs": 4}, {"epochs": 4})
    assert trained.history.epoch == [1, 2, 3]


# ---------------------------------------------------------------------- what people do with a trained model


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind == "functional" else ONCE) for kind in KINDS])
def test_a_tuned_model_is_saved_and_looked_into(kind: str, tmp_path: Path) -> None:
    """Saved weights, loaded models, outputs of layers, evaluation and further training are as in the plain script."""
    script = functools.partial(project, kind, prepare=build)
    made, expected = tuned(script, {"layer.first.units": 7}), plain(script, units=7)
    for name, model in (("tuned", made), ("plain", expected)):
        model.save_weights(tmp_path / f"{name}.weights.h5")
    made.load_weights(tmp_path / "plain.weights.h5")
    assert [bits(weight) for weight in made.weights] == [bits(weight) for weight in expected.weights]
    if kind in GRAPHS:
        both = []
        for model in (made, expected):
            model.save(tmp_path / "model.keras")
            keras.utils.set_random_seed(1)
            both.append(keras.saving.load_model(tmp_path / "model.keras"))
        assert_same(*both)
        inner = [keras.Model(model.inputs, model.get_layer("norm").output) for model in (made, expected)]
        assert inner[0].predict(X, verbose=0).shape == (12, 7)
        assert inner[0].predict(X, verbose=0).tobytes() == inner[1].predict(X, verbose=0).tobytes()
    assert made.evaluate(X, Y, verbose=0) == expected.evaluate(X, Y, verbose=0)
    for model in (made, expected):
        keras.utils.set_random_seed(1)
        model.fit(**call_of_fit())
    assert_same(made, expected)
