"""Snapshots: statistics against NumPy in float64, samples against their bound, and the record."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from numpy.typing import NDArray

from tunehook.snapshot import TensorStats, variation_bound
from tunehook.snapshot_take import Snapshots

TYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]


def stats(array: Any, **options: Any) -> TensorStats:
    """The statistics of one array."""
    return Snapshots(**options).take(0, {"x": array}).parameters["x"]


def wide(array: NDArray[Any]) -> NDArray[Any]:
    """The elements in float64."""
    with np.errstate(invalid="ignore"):  # ml_dtypes warns of NaN
        return array.astype(np.float64).ravel()


def peer(array: NDArray[Any]) -> dict[str, float]:
    """What NumPy says in float64 of the finite elements, scaled where float64 itself would overflow."""
    values = wide(array)
    finite = values[np.isfinite(values)]
    nothing = dict.fromkeys(("min", "max", "mean", "std", "zeros"), math.nan) | {"norm": 0.0}
    if not finite.size:
        return nothing
    top = float(np.abs(finite).max())
    unit = 2.0 ** max(-1000, min(1000, math.frexp(top)[1]))
    scaled = finite / unit
    return {
        "min": finite.min(), "max": finite.max(), "mean": scaled.mean() * unit, "std": scaled.std() * unit,
        "norm": float(np.linalg.norm(scaled)) * unit, "zeros": float(np.mean(finite == 0)),
    }  # fmt: skip


def check(found: TensorStats, array: NDArray[Any], *, rtol: float = 1e-9) -> None:
    """All statistics equal NumPy's."""
    values = wide(array)
    assert (found.size, found.nan, found.inf) == (values.size, np.isnan(values).sum(), np.isinf(values).sum())
    expected = peer(array)
    top = max(abs(expected["min"]), abs(expected["max"]))
    for name, value in expected.items():
        got = getattr(found, name)
        slack = rtol * top if name in ("mean", "std") else 0.0
        if math.isinf(got) and value > 1.797e308:  # a rounding beyond the largest number
            continue
        assert (
            (math.isnan(got) and math.isnan(value))
            or got == value
            or math.isclose(got, value, rel_tol=rtol, abs_tol=slack)
        ), name
    assert sum(found.counts) == found.finite


def histogram(array: NDArray[Any], found: TensorStats) -> NDArray[Any]:
    """NumPy's histogram between the same edges."""
    values = wide(array)
    return np.histogram(values[np.isfinite(values)], bins=np.array(found.edges))[0]


def numbers(name: str) -> st.SearchStrategy[NDArray[Any]]:
    """Arrays of a type, with all that floats have."""
    if name == "bfloat16":
        bits = np_arrays(np.uint16, st.integers(0, 40))
        return bits.map(lambda array: array.view(ml_dtypes.bfloat16))
    return np_arrays(np.dtype(name), st.integers(0, 40))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_exact_statistics_are_those_of_numpy(name: str, data: st.DataObject) -> None:
    """For every type, with NaN, infinities, denormals, huge, constant and empty arrays."""
    array = data.draw(numbers(name))
    check(stats(array, exact=True), array)
    check(stats(array), array, rtol=1e-5)


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "int32"])
@given(data=st.data())
def test_exact_bins_are_those_of_numpy(name: str, data: st.DataObject) -> None:
    """Between the same edges, wherever those differ."""
    array = data.draw(numbers(name))
    found = stats(array, exact=True)
    if found.min < found.max and np.all(np.diff(found.edges) > 0):
        assert found.counts == tuple(histogram(array, found))


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "int32", "uint8", "bool"])
@pytest.mark.parametrize("of", ["numpy", "torch"])
@pytest.mark.parametrize("exact", [True, False])
def test_large_arrays(name: str, of: str, exact: bool) -> None:
    """Arrays beyond the sample, of every type: exact to float32's rounding, or within the bound."""
    drawn = np.random.default_rng(0).normal(3, 20, 300_001)
    drawn[::7] = 0
    array = (drawn > 0 if name == "bool" else np.abs(drawn) if name == "uint8" else drawn).astype(
        ml_dtypes.bfloat16 if name == "bfloat16" else name
    )
    given: Any = array
    if of == "torch":
        given = torch.from_numpy(array.astype(np.float32) if name == "bfloat16" else array)
        given = given.bfloat16() if name == "bfloat16" else given
    found = stats(given, exact=exact)
    whole = array.astype(np.float64)
    assert (found.min, found.max, found.nan, found.inf) == (whole.min(), whole.max(), 0, 0)
    true = histogram(array, found) / whole.size
    seen = sum(found.counts)
    apart = 0.5 * np.abs(np.array(found.counts) / seen - true).sum()
    if exact:
        assert seen == whole.size
        assert apart <= 1e-4
        check(found, array, rtol=2e-5)
    else:
        assert seen == 2**14
        assert found.is_sampled
        assert apart <= variation_bound(seen)
        assert math.isclose(found.norm, float(np.linalg.norm(whole)), rel_tol=0.03)
        assert abs(found.zeros - np.mean(whole == 0)) < 0.02


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("of", ["numpy", "torch"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 77_777, 99_999, 100_000])
def test_one_bad_element_is_found_anywhere(place: int, bad: float, of: str, exact: bool) -> None:
    """In the sample or not, at the start or in the last odd elements, and it spoils nothing else."""
    array = np.random.default_rng(1).normal(size=100_001).astype(np.float32)
    array[place] = bad
    found = stats(torch.from_numpy(array) if of == "torch" else array, exact=exact)
    assert (found.nan, found.inf) == (int(math.isnan(bad)), int(math.isinf(bad)))
    good = array[np.isfinite(array)]
    assert (found.min, found.max) == (good.min(), good.max())
    assert math.isclose(found.norm, float(np.linalg.norm(good.astype(float))), rel_tol=1e-6 if exact else 0.03)


@pytest.mark.parametrize("exact", [True, False])
def test_bad_elements_are_counted(exact: bool) -> None:
    """Many, among them a tensor that has nothing else."""
    array = torch.randn(200_000)
    array[::3], array[1::3] = math.nan, -math.inf
    found = stats(array, exact=exact)
    assert (found.nan, found.inf, found.finite) == (66_667, 66_667, 66_666)
    nothing = stats(torch.full((200_000,), math.nan), exact=exact)
    assert (nothing.nan, nothing.inf, sum(nothing.counts)) == (200_000, 0, 0)
    assert nothing.norm == 0
    assert math.isnan(nothing.max)
