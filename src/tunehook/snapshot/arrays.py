"""Arrays of torch, JAX, TensorFlow and NumPy, and who reads them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tunehook.snapshot.look import BLOCK, Array, Look, blocks_of, host, look_at
from tunehook.snapshot.torch_arrays import TorchReader


class Reader(Protocol):
    """Reads the arrays of one framework."""

    def identity(self, array: Any) -> object:
        """Equal for two arrays that are one in memory; ``None`` where there is nothing to be equal."""

    def look(self, arrays: Sequence[Any], limit: int) -> list[Look]:
        """Read arrays: small ones as they are, of large ones a sample, and their extremes over all elements."""

    def flat(self, array: Any) -> tuple[Array, int]:
        """All elements on the host, and the number of zeros that a sparse array stores nowhere."""


def reader_of(array: Any) -> Reader:
    """Who can read an array; a framework that is not loaded is not loaded for this.

    Raises:
        TypeError: It is no array.
    """
    kind = type(array)
    if kind not in _readers:
        _readers[kind] = _find_reader(array)
    return _readers[kind]


_readers: dict[type, Reader] = {}


def _find_reader(array: Any) -> Reader:
    torch, jax, tensorflow = (sys.modules.get(name) for name in ("torch", "jax", "tensorflow"))
    if torch is not None and isinstance(array, torch.Tensor):
        return _torch_reader()
    if jax is not None and isinstance(array, jax.Array):
        return JaxReader()
    if tensorflow is not None and (
        tensorflow.is_tensor(array) or isinstance(array, tensorflow.Variable | tensorflow.IndexedSlices)
    ):
        return TensorFlowReader()
    if isinstance(array, np.ndarray | np.generic):
        return NumpyReader()
    raise TypeError(
        f"A snapshot reads arrays of torch, JAX, TensorFlow and NumPy, not {type(array).__name__}.\n"
        "  Give the tensors themselves, such as dict(model.named_parameters())."
    )


@functools.cache
def _torch_reader() -> TorchReader:
    return TorchReader()


class NumpyReader:
    """Reads NumPy's arrays, with the types of ml_dtypes."""

    def identity(self, array: Any) -> object:
        """Equal for views of the same elements."""
        return (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype) if array.size else None

    def look(self, arrays: Sequence[Any], limit: int) -> list[Look]:
        """One after the other."""
        return [look_at(*self.flat(array), limit) for array in arrays]

    def flat(self, array: Any) -> tuple[Array, int]:
        """In the order of the memory, without a copy where there is no gap."""
        flat = np.asarray(array).ravel(order="K")
        return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat, 0


class JaxReader(NumpyReader):
    """Reads JAX's arrays; on a CPU they are NumPy's, without a copy."""

    def identity(self, array: Any) -> object:
        """JAX's arrays are one where the object is one."""
        return ("jax", id(array))

    def look(self, arrays: Sequence[Any], limit: int) -> list[Look]:
        """On an accelerator samples and extremes are computed there, and brought here together."""
        if all(device.platform == "cpu" for array in arrays for device in array.devices()):
            return super().look(arrays, limit)
        jax = sys.modules["jax"]
        return look_on_device(arrays, limit, JaxDevice(jax.numpy, jax.device_get))


class TensorFlowReader(NumpyReader):
    """Reads TensorFlow's tensors, variables and sparse gradients (`tf.IndexedSlices`, which are made dense)."""

    def identity(self, array: Any) -> object:
        """They are one where the object is one."""
        return ("tensorflow", id(array))

    def flat(self, array: Any) -> tuple[Array, int]:
        """Without a copy on a CPU."""
        return super().flat(_tensor(array).numpy())

    def look(self, arrays: Sequence[Any], limit: int) -> list[Look]:
        """On an accelerator samples and extremes are computed there."""
        tensors = [_tensor(array) for array in arrays]
        if all("CPU" in tensor.device for tensor in tensors):
            return super().look(tensors, limit)
        return look_on_device(tensors, limit, TensorFlowDevice(sys.modules["tensorflow"]))


def _tensor(array: Any) -> Any:
    tensorflow = sys.modules["tensorflow"]
    if isinstance(array, tensorflow.Variable):  # its own numpy() copies
        return array.read_value()
    return tensorflow.convert_to_tensor(array) if isinstance(array, tensorflow.IndexedSlices) else array


class Device(Protocol):
    """The few operations on an accelerator that a look needs; none but `fetch` waits for it."""

    def prepare(self, array: Any, rows: Array | None) -> Any:
        """The whole array, flat, or its blocks of 16; integers and numbers as they are."""

    def extremes(self, array: Any) -> tuple[Any, Any]:
        """The smallest and the largest element; one of the two is not finite where any element is not."""

    def faults(self, array: Any) -> tuple[Any, Any, Any, Any]:
        """How many elements are NaN, how many infinite, and the extremes of the finite ones."""

    def fetch(self, values: Any) -> Any:
        """The same nest of lists on the host, in NumPy's arrays."""


class JaxDevice:
    """JAX's operations, with ``jax.numpy`` and ``jax.device_get``."""

    def __init__(self, jnp: Any, fetch: Any) -> None:
        self._jnp, self.fetch = jnp, fetch

    def prepare(self, array: Any, rows: Array | None) -> Any:
        """Indexed on the device."""
        flat = array.reshape(-1)
        return flat if rows is None else flat[: flat.size // BLOCK * BLOCK].reshape(-1, BLOCK)[rows].reshape(-1)

    def extremes(self, array: Any) -> tuple[Any, Any]:
        """JAX carries NaN through."""
        return self._jnp.min(array), self._jnp.max(array)

    def faults(self, array: Any) -> tuple[Any, Any, Any, Any]:
        """Four passes, only where something was found."""
        jnp = self._jnp
        finite = jnp.isfinite(array)
        return (jnp.isnan(array).sum(), jnp.isinf(array).sum(), jnp.min(jnp.where(finite, array, jnp.inf)),
                jnp.max(jnp.where(finite, array, -jnp.inf)))  # fmt: skip


class TensorFlowDevice:
    """TensorFlow's operations."""

    def __init__(self, tensorflow: Any) -> None:
        self._tf = tensorflow

    def prepare(self, array: Any, rows: Array | None) -> Any:
        """Gathered on the device."""
        flat = self._tf.reshape(array, [-1])
        if rows is None:
            return flat
        size = int(flat.shape[0])
        blocks = self._tf.reshape(flat[: size // BLOCK * BLOCK], [-1, BLOCK])
        return self._tf.reshape(self._tf.gather(blocks, rows), [-1])

    def extremes(self, array: Any) -> tuple[Any, Any]:
        """What is not finite is carried into the largest by a sum, since a maximum may leave NaN out."""
        tf = self._tf
        if array.dtype == tf.bool:
            array = tf.cast(array, tf.uint8)
        low, high = tf.reduce_min(array), tf.reduce_max(array)
        return low, high + tf.reduce_sum(array - array) if array.dtype.is_floating else high

    def faults(self, array: Any) -> tuple[Any, Any, Any, Any]:
        """Four passes, only where something was found."""
        tf = self._tf
        finite = tf.math.is_finite(array)
        most = tf.constant(float("inf"), array.dtype)
        nan, inf = (tf.math.count_nonzero(found(array)) for found in (tf.math.is_nan, tf.math.is_inf))
        return (nan, inf, tf.reduce_min(tf.where(finite, array, most)), tf.reduce_max(tf.where(finite, array, -most)))

    def fetch(self, values: Any) -> Any:
        """One by one: TensorFlow has no operation for many."""
        if isinstance(values, list | tuple):
            return [self.fetch(value) for value in values]
        return values.numpy()


def look_on_device(arrays: Sequence[Any], limit: int, device: Device) -> list[Look]:
    """Compute samples and extremes there and fetch them together; a second time only those that are not finite."""
    sizes = [int(np.prod(array.shape)) for array in arrays]
    rows = [blocks_of(size, limit) if size > limit else None for size in sizes]
    samples = [device.prepare(array, chosen) for array, chosen in zip(arrays, rows, strict=True)]
    ends = [device.extremes(array) if size > limit else None for array, size in zip(arrays, sizes, strict=True)]
    samples, found = device.fetch([samples, [end for end in ends if end is not None]])
    pairs = iter(found)
    looks = []
    for size, sample, chosen in zip(sizes, samples, rows, strict=True):
        low, high = (None, None) if chosen is None else map(float, next(pairs))
        looks.append(Look(size, host(sample), low, high, layout=size))
    bad = [index for index, look in enumerate(looks) if not look.is_clean]
    if bad:
        for index, fault in zip(bad, device.fetch([device.faults(arrays[index]) for index in bad]), strict=True):
            looks[index].count_faults(*fault)
    return looks
