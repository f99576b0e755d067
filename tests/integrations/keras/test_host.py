"""The border to Keras: each function with the real library, so that a new release tells what it broke."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tunehook.integrations.keras import host

pytestmark = pytest.mark.filterwarnings("ignore")  # what Keras warns of when it makes an array of a tensor


def test_names() -> None:
    """Layers are counted by class, and counted again from where the counts are put back."""
    before = host.names()
    expected = host.next_name(keras.layers.Dense)
    assert keras.layers.Dense(1).name == expected
    assert keras.layers.Dense(1).name == f"{expected}_1"
    host.restore_names(before)
    assert keras.layers.Dense(1).name == expected


def test_global_state() -> None:
    """Names, the numbers of keras.random and the type policy go back, and start over inside."""
    keras.utils.set_random_seed(3)
    first = keras.ops.convert_to_numpy(keras.random.normal((2,)))
    put_back = host.taken()
    second = keras.ops.convert_to_numpy(keras.random.normal((2,)))
    with host.as_new():
        assert keras.layers.Dense(1).name == "dense"
    keras.config.set_dtype_policy("float16")
    put_back()
    assert keras.config.dtype_policy().name == "float32"
    assert np.array_equal(keras.ops.convert_to_numpy(keras.random.normal((2,))), second)
    assert not np.array_equal(first, second)


def test_what_keras_has_noted_of_a_call() -> None:
    """A configuration that Keras makes of the call of a constructor is corrected."""

    class Scale(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
        def __init__(self, factor: float = 1.0, **rest: Any) -> None:
            super().__init__(**rest)
            self.factor = factor

    made = Scale(factor=2.0)
    host.note_settings(made, {"factor": 3.0, "unknown": 1})
    assert made.get_config()["factor"] == 3.0
    assert "unknown" not in made.get_config()
    assert host.is_plain(keras.layers.Dense)
    assert not host.is_plain(Scale)


def test_layers_in_a_layer() -> None:
    """Those that it holds itself."""

    class Block(keras.layers.Layer):  # type: ignore[misc] # Keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = keras.layers.Dense(1), [keras.layers.Dense(2)]

    made = Block()
    assert host.inner_layers(made) == [made.one, *made.two]


def test_optimizers_in_an_optimizer() -> None:
    """Of one that trains with several, all of them; of others none."""
    kinds = keras.optimizers
    one, two = kinds.SGD(0.1), kinds.SGD(0.2)
    several = kinds.MultiOptimizer(kinds.OptimizerMap(one, {"hidden/.*": two}))
    assert host.chooses(several)
    assert sorted(map(id, host.inner_optimizers(several))) == sorted(map(id, (one, two)))
    assert (host.chooses(one), host.inner_optimizers(one)) == (False, [])


def test_data_and_the_progress_bar() -> None:
    """Whether ``fit`` makes the batches, and what prints how far it is."""
    x = np.zeros((4, 2), "float32")
    assert host.are_arrays(x, x)
    assert not host.are_arrays(iter([x]), None)
    assert callable(host.printer().print_msg)
