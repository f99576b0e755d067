"""Snapshots of the arrays of JAX and TensorFlow, of those that are installed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tunehook.snapshot.arrays import JaxDevice, JaxReader, TensorFlowDevice, TensorFlowReader, look_on_device, reader_of
from tunehook.snapshot.take import Snapshots

WHY = {
    "jax": "JAX is not installed: pip install jax",
    "tensorflow": "TensorFlow is not installed: use the environment of `make keras`, or pip install tensorflow",
}
KINDS = ["float32", "bfloat16", "float16", "int32", "bool"]


@pytest.fixture(params=["jax", "tensorflow"])
def framework(request: pytest.FixtureRequest) -> str:
    """One that is installed."""
    pytest.importorskip(request.param, reason=WHY[request.param])
    return str(request.param)


def array_of(framework: str, values: NDArray[Any], kind: str) -> Any:
    """Values as an array of a framework and of a type."""
    if framework == "jax":
        import jax.numpy as jnp

        return jnp.asarray(values).astype(kind)
    import tensorflow as tf

    return tf.cast(tf.constant(values), kind)


def drawn(size: int = 50_001) -> NDArray[Any]:
    """Numbers that are partly zero."""
    values = np.random.default_rng(0).normal(2, 30, size).astype(np.float32)
    values[::5] = 0
    return values


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 1, 100, 50_001])
def test_statistics_are_those_of_numpy(framework: str, size: int, kind: str, exact: bool) -> None:
    """Of every type, small and large."""
    array = array_of(framework, drawn(size), kind)
    found = Snapshots(exact=exact).take(0, {"x": array}).parameters["x"]
    whole = np.asarray(array).astype(np.float64)
    assert found.size == size
    if size:
        assert (found.min, found.max) == (whole.min(), whole.max())
        near = 1e-5 if exact or size < 2**14 else 0.05
        assert math.isclose(found.norm, float(np.linalg.norm(whole)), rel_tol=near)
        assert math.isclose(found.zeros, float(np.mean(whole == 0)), rel_tol=near, abs_tol=near / 10)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("place", [0, 33_333, 50_000])
def test_one_bad_element_is_found(framework: str, place: int, kind: str, exact: bool) -> None:
    """Anywhere, and counted."""
    values = drawn()
    for bad, counts in ((math.nan, (1, 0)), (math.inf, (0, 1)), (-math.inf, (0, 1))):
        values[place] = bad
        found = Snapshots(exact=exact).take(0, {"x": array_of(framework, values, kind)}).parameters["x"]
        assert (found.nan, found.inf) == counts
        assert math.isfinite(found.max)


@pytest.mark.parametrize("kind", KINDS)
def test_looks_on_an_accelerator(framework: str, kind: str) -> None:
    """The operations that serve GPUs and TPUs, run on the CPU: the same looks as NumPy has."""
    values = drawn()
    arrays = [array_of(framework, values, kind), array_of(framework, values[:100], kind)]
    if kind in ("float32", "bfloat16"):
        values[7], values[9], values[11] = math.nan, math.inf, -math.inf
        arrays.append(array_of(framework, values, kind))
    reader: JaxReader | TensorFlowReader = JaxReader() if framework == "jax" else TensorFlowReader()
    device: Any
    if framework == "jax":
        import jax

        device = JaxDevice(jax.numpy, jax.device_get)
    else:
        import tensorflow as tf

        device = TensorFlowDevice(tf)
    here, there = reader.look(arrays, 2**14), look_on_device(arrays, 2**14, device)
    for one, other in zip(here, there, strict=True):
        assert np.array_equal(one.sample, other.sample, equal_nan=True)
        assert (one.size, one.low, one.high, one.nan, one.inf) == (
            other.size,
            other.low,
            other.high,
            other.nan,
            other.inf,
        )


def test_updates(framework: str) -> None:
    """From one snapshot to the next, of arrays that are replaced."""
    taken = Snapshots()
    taken.take(0, {"w": array_of(framework, drawn(), "float32"), "b": array_of(framework, drawn(8), "float32")})
    found = taken.take(
        1, {"w": array_of(framework, 2 * drawn(), "float32"), "b": array_of(framework, drawn(8), "float32")}
    )
    assert math.isclose(found.ratios["w"], 0.5, rel_tol=1e-5)
    assert found.ratios["b"] == 0.0


def test_tied(framework: str) -> None:
    """One array under two names."""
    array = array_of(framework, drawn(10), "float32")
    assert Snapshots().take(0, {"a": array, "b": array, "c": array + 0}).tied == {"b": "a"}


def test_tensorflow_variables_and_sparse_gradients() -> None:
    """A variable is read as its value; a gradient of an embedding is one with zeros."""
    tf = pytest.importorskip("tensorflow", reason=WHY["tensorflow"])
    weights = tf.Variable(tf.ones((1000, 4)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.gather(weights, [1, 1, 5]))
    gradient = tape.gradient(loss, weights)
    assert isinstance(gradient, tf.IndexedSlices)
    taken = Snapshots().take(0, {"w": weights}, {"w": gradient})
    assert taken.parameters["w"].mean == 1.0
    found = taken.gradients["w"]
    assert (found.size, found.max, found.zeros) == (4000, 2.0, 0.998)
    assert math.isclose(found.norm, math.sqrt(20), rel_tol=1e-5)


def test_arrays_of_several_frameworks_in_one_snapshot() -> None:
    """Each is read by its own reader."""
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax", reason=WHY["jax"])
    arrays = {"t": torch.ones(2), "n": np.ones(3), "j": jax.numpy.ones(4)}
    assert {name: type(reader_of(array)).__name__ for name, array in arrays.items()} == {
        "t": "TorchReader", "n": "NumpyReader", "j": "JaxReader",
    }  # fmt: skip
    assert Snapshots().take(0, arrays).model.size == 9


@pytest.mark.parametrize(
    ("given", "loaded"),
    [("numpy.ones(100000)", []), ("__import__('torch').ones(100000)", ["torch"])],
)
def test_no_framework_is_loaded(given: str, loaded: list[str]) -> None:
    """Only that whose arrays are given; values and schedule load not even NumPy."""
    code = (
        "import sys, json\nfrom tunehook.snapshot import Snapshot\nfrom tunehook.snapshot import Schedule\n"
        "assert 'numpy' not in sys.modules\nimport numpy\nfrom tunehook.snapshot import Snapshots\n"
        f"for exact in (True, False): Snapshots(exact=exact).take(0, {{'x': {given}}})\n"
        "print(json.dumps([name for name in ('torch', 'jax', 'tensorflow', 'keras') if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == loaded
