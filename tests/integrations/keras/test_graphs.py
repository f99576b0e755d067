"""Graphs of every shape, and layers of every sort: a changed setting reaches all that follows from it."""

# ruff: noqa: D103 - the scripts are described by their names
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_projects import BACKEND, ONCE, QUIET, X, Y, assert_same, call_of_fit, compile_model, plain, tuned

pytestmark = QUIET

CASES: list[Any] = []
TOKENS = np.random.default_rng(0).integers(0, 5, size=(12, 4)).astype("int32")


def case(values: Mapping[str, Any], *, anywhere: bool = False, **typed: Any) -> Callable[[Any], Any]:
    """Note a script with the values that are injected and what is typed in instead.

    Args:
        values: Values by their names in the space.
        anywhere: Whether it runs on each backend; elsewhere than on torch a training takes a second.
        **typed: The same values as arguments of the script.
    """

    def note(script: Any) -> Any:
        CASES.append(pytest.param(script, values, typed, id=script.__name__, marks=[] if anywhere else ONCE))
        return script

    return note


def done(inputs: Any, outputs: Any, **fit: Any) -> tuple[Any, dict[str, Any]]:
    """A compiled Functional model and its call of ``fit``."""
    model = keras.Model(inputs, outputs)
    compile_model(model, keras.optimizers.Adam(0.01), run_eagerly=BACKEND == "tensorflow")  # JAX is slow with loops
    return model, call_of_fit(**fit)


def end(x: Any) -> Any:
    """Layers behind a changed one, with random numbers of their own."""
    return layers.Dense(1)(layers.Dropout(0.3)(layers.Dense(3)(x)))


def pairs() -> tuple[Any, Any]:
    """An input and its reshaped form, a sequence of two."""
    inputs = keras.Input((4,))
    return inputs, layers.Reshape((2, 2))(inputs)


# ---------------------------------------------------------------------- shapes of graphs


@case({"layer.left.units": 7}, anywhere=True, units=7)
def several_inputs(units: int = 5) -> Any:
    one, two = keras.Input((4,), name="one"), keras.Input((2,), name="two")
    both = layers.Concatenate()([layers.Dense(units, name="left")(one), layers.Dense(3, name="right")(two)])
    return done([one, two], end(both), x=[X, X[:, :2]])


@case({"layer.both.units": 7}, units=7)
def shared_layer(units: int = 5) -> Any:
    one, two = keras.Input((4,)), keras.Input((4,))
    both = layers.Dense(units, name="both")
    return done([one, two], end(layers.Add()([layers.Dropout(0.2)(both(one)), both(two)])), x=[X, X])


@case({"layer.inner.first.units": 7, "layer.behind.units": 6}, units=7, behind=6)
def nested_functional(units: int = 5, behind: int = 4) -> Any:
    within = keras.Input((4,))
    inner = keras.Model(within, layers.Dropout(0.2)(layers.Dense(units, name="first")(within)), name="inner")
    inputs = keras.Input((4,))
    return done(inputs, end(layers.Dense(behind, name="behind")(inner(inputs))))


@case({"layer.inner.first.units": 7}, units=7)
def nested_sequential(units: int = 5) -> Any:
    inner = keras.Sequential([layers.Dense(units, name="first"), layers.Dropout(0.3)], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(1)])
    compile_model(model, keras.optimizers.Adam(0.01))
    return model, call_of_fit()


@case({"layer.first.units": 4}, units=4)
def named_outputs(units: int = 3) -> Any:
    inputs = keras.Input((4,))
    x = layers.Dense(units, name="first")(inputs)
    return done(inputs, {"p": layers.Dense(1, name="p")(x), "q": layers.Dense(1, name="q")(x)}, y={"p": Y, "q": Y})


@case({"layer.first.units": 8}, units=8)
def bare_operations(units: int = 4) -> Any:
    inputs = keras.Input((4,))
    x = layers.Lambda(lambda tensor: tensor * 2)(layers.Dense(units, name="first")(inputs))
    return done(inputs, end(ops.relu(x * 3 + 1)))


@case({"layer.first.units": 8}, units=8)
def shape_of_its_input(units: int = 4) -> Any:
    inputs = keras.Input((4,))
    x = layers.Permute((2, 1))(layers.Reshape((2, -1))(layers.Dense(units, name="first")(inputs)))
    return done(inputs, end(layers.GlobalAveragePooling1D()(x)))


class Mean(layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer without weights that keeps what follows from the shape of its input."""

    def build(self, shape: Any) -> None:
        self.count = shape[-1]

    def call(self, x: Any) -> Any:
        return ops.sum(x, axis=-1, keepdims=True) / self.count


@case({"layer.first.units": 8}, units=8)
def shape_kept_by_a_layer(units: int = 4) -> Any:
    inputs = keras.Input((4,))
    return done(inputs, end(Mean()(layers.Dense(units, name="first")(inputs))))


# ---------------------------------------------------------------------- layers of Keras


@case({"layer.attention.num_heads": 3, "layer.attention.key_dim": 4}, anywhere=True, heads=3, size=4)
def attention(heads: int = 2, size: int = 2) -> Any:
    inputs, x = pairs()
    return done(
        inputs, end(layers.Flatten()(layers.MultiHeadAttention(heads, size, dropout=0.2, name="attention")(x, x)))
    )


@case({"layer.both.layer.units": 6}, anywhere=True, units=6)
def bidirectional(units: int = 3) -> Any:
    inputs, x = pairs()
    return done(inputs, end(layers.Bidirectional(layers.LSTM(units, dropout=0.2), name="both")(x)))


@case({"layer.both.layer.units": 6, "layer.both.backward_layer.units": 6}, units=6, back=6)
def bidirectional_of_two(units: int = 3, back: int = 3) -> Any:
    inputs, x = pairs()
    backward = layers.GRU(back, go_backwards=True)
    return done(inputs, end(layers.Bidirectional(layers.LSTM(units), backward_layer=backward, name="both")(x)))


@case({"layer.cell.cell.units": 4}, units=4)
def cell(units: int = 3) -> Any:
    inputs, x = pairs()
    return done(inputs, end(layers.RNN(layers.LSTMCell(units, dropout=0.2), name="cell")(x)))


@case({"layer.each.layer.units": 4}, units=4)
def time_distributed(units: int = 3) -> Any:
    inputs, x = pairs()
    return done(inputs, end(layers.Flatten()(layers.TimeDistributed(layers.Dense(units), name="each")(x))))


@case({"layer.first.units": 5}, units=5)
def wrapper_behind_a_changed_layer(units: int = 3) -> Any:
    inputs = keras.Input((4,))
    x = layers.Dense(units, name="first")(inputs)
    return done(inputs, end(layers.SpectralNormalization(layers.Dense(4))(x)))


@case({"layer.conv.filters": 4, "layer.conv.kernel_size": 3}, filters=4, size=3)
def convolution(filters: int = 3, size: int = 2) -> Any:
    inputs = keras.Input((4,))
    x = layers.Conv1D(filters, size, name="conv")(layers.Reshape((4, 1))(inputs))
    return done(inputs, end(layers.Flatten()(x)))


@case({"layer.words.output_dim": 5}, size=5)
def embedding(size: int = 3) -> Any:
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, size, mask_zero=True, name="words")(inputs)
    return done(inputs, end(layers.GRU(3)(x)), x=TOKENS)


@case({"layer.words.mask_zero": True}, masked=True)
def mask(masked: bool = False) -> Any:
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 3, mask_zero=masked, name="words")(inputs)
    return done(inputs, end(layers.GRU(3)(x)), x=TOKENS)


@case({"layer.first.units": 6}, units=6)
def statistics_before(units: int = 3) -> Any:
    normalize = layers.Normalization()
    normalize.adapt(X)
    inputs = keras.Input((4,))
    return done(inputs, end(layers.Dense(units, name="first")(normalize(inputs))))


@case({"layer.first.units": 6}, units=6)
def statistics_behind(units: int = 3) -> Any:
    normalize = layers.Normalization(axis=None)
    normalize.adapt(X * 3 + 1)
    inputs = keras.Input((4,))
    return done(inputs, end(normalize(layers.Dense(units, name="first")(inputs))))


@case({"layer.first.activation": "swish"}, activation="swish")
def name_of_a_function(activation: str = "relu") -> Any:
    inputs = keras.Input((4,))
    return done(inputs, end(layers.Dense(3, activation=activation, activity_regularizer="l2", name="first")(inputs)))


# ---------------------------------------------------------------------- what the user wrote


class Block(layers.Layer):  # type: ignore[misc] # Keras has no types
    """Layers in a layer, with a configuration."""

    def __init__(self, units: int, scale: float = 1.0, **rest: Any) -> None:
        super().__init__(**rest)
        self.units, self.scale = units, scale
        self.inner = layers.Dense(units)
        self.drop = layers.Dropout(0.3)

    def call(self, x: Any) -> Any:
        return self.drop(self.inner(x)) * self.scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "scale": self.scale}


@case({"layer.block.units": 6, "layer.block.scale": 2.5}, anywhere=True, units=6, scale=2.5)
def layers_in_a_layer(units: int = 3, scale: float = 1.0) -> Any:
    inputs = keras.Input((4,))
    return done(inputs, end(Block(units, scale, name="block")(layers.Dense(4)(inputs))))


class Simple(layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer with weights of its own and no get_config, whose constructor takes no name."""

    def __init__(self, units: int = 3) -> None:
        super().__init__()
        self.units = units

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_normal")
        self.bias = self.add_weight(shape=(self.units,), initializer="random_uniform", name="bias")

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.kernel) + self.bias


@case({"layer.simple.units": 6}, anywhere=True, units=6)
def weights_in_a_layer(units: int = 3) -> Any:
    inputs = keras.Input((4,))
    return done(inputs, end(Simple(units)(inputs)))


class Constant(keras.initializers.Initializer):  # type: ignore[misc] # Keras has no types
    """An initializer that Keras does not know."""

    def __init__(self, number: float) -> None:
        self.number = number

    def __call__(self, shape: Any, dtype: Any = None, **_rest: Any) -> Any:
        return ops.ones(shape, dtype) * self.number

    def get_config(self) -> dict[str, Any]:
        return {"number": self.number}


@case({"layer.first.units": 4, "layer.first.bias_initializer.number": 0.4}, units=4, number=0.4)
def own_initializer(units: int = 3, number: float = 0.2) -> Any:
    inputs = keras.Input((4,))
    return done(inputs, end(layers.Dense(units, bias_initializer=Constant(number), name="first")(inputs)))


@case({"layer.first.units": 4}, units=4)
def functions(units: int = 3) -> Any:
    def initialize(shape: Any, dtype: Any = None) -> Any:
        return ops.ones(shape, dtype) * 0.1

    inputs = keras.Input((4,))
    first = layers.Dense(units, kernel_initializer=initialize, activation=lambda x: x * x, name="first")
    return done(inputs, end(first(inputs)))


@case({"layer.first.units": 4}, units=4)
def seeds_of_the_users(units: int = 3) -> Any:
    inputs = keras.Input((4,))
    x = layers.Dense(units, kernel_initializer=keras.initializers.HeNormal(seed=5), name="first")(inputs)
    return done(inputs, end(layers.Dropout(0.2, seed=7)(x)))


# ---------------------------------------------------------------------- what was frozen


@case({"layer.first.kernel_regularizer.l2": 0.3}, anywhere=True, l2=0.3)
def frozen_weight(l2: float = 0.1) -> Any:
    inputs = keras.Input((4,))
    first = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(l2), name="first")
    x = first(inputs)
    first.bias.trainable = False
    return done(inputs, end(x))


@case({"layer.block.scale": 0.3}, scale=0.3)
def frozen_part(scale: float = 0.1) -> Any:
    inputs = keras.Input((4,))
    block = Block(3, scale, name="block")
    x = block(inputs)
    block.inner.trainable = False
    return done(inputs, end(x))


@case({"layer.both.layer.dropout": 0.3}, rate=0.3)
def frozen_direction(rate: float = 0.1) -> Any:
    inputs, x = pairs()
    both = layers.Bidirectional(layers.LSTM(2, dropout=rate), name="both")
    x = both(x)
    both.forward_layer.trainable = False
    return done(inputs, end(x))


@pytest.mark.parametrize(("script", "values", "typed"), CASES)
def test_graph(script: Any, values: dict[str, Any], typed: dict[str, Any]) -> None:
    """The tuned script equals the one with the values typed in, and differs from the one with the old values."""
    expected = plain(script, **typed)
    assert_same(tuned(script, values), expected)
    if BACKEND != "torch":
        return
    with pytest.raises(AssertionError):
        assert_same(plain(script), expected)
