"""Snapshots: statistics against NumPy in float64, samples against their bound, and the record."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays
from numpy.typing import NDArray

from tunehook.snapshot import arrays as snapshot_arrays
from tunehook.snapshot.merge import merge
from tunehook.snapshot.take import Snapshots
from tunehook.snapshot.torch_arrays import TorchReader
from tunehook.snapshot.values import BINS, Snapshot, TensorStats, bin_edges, variation_bound

TYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]


def total_variation(one: TensorStats, other: TensorStats) -> float:
    """The total variation between two histograms over the same bins, from 0 (equal) to 1 (apart)."""
    a, b = sum(one.counts), sum(other.counts)
    return 0.5 * sum(abs(x / a - y / b) for x, y in zip(one.counts, other.counts, strict=True))


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


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("of", ["numpy", "torch"])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("scale", [1e-44, 1e-38, 1e-30, 1e-25, 1.0, 1e25, 1e30, 3e38])
def test_norms_neither_underflow_nor_overflow(scale: float, exact: bool, of: str, size: int) -> None:
    """All of float32, where its own squares are 0 or infinite; the updates too."""
    array = np.full(size, scale, np.float32)
    array[::2] *= -1
    taken = Snapshots(exact=exact)
    arrays: dict[str, Any] = {"x": torch.from_numpy(array.copy()) if of == "torch" else array.copy()}
    first = taken.take(0, arrays)
    arrays["x"][:] = 0
    second = taken.take(1, arrays)
    expected = float(abs(array[0])) * math.sqrt(size)
    assert math.isclose(first.parameters["x"].norm, expected, rel_tol=1e-5)
    assert math.isclose(first.parameters["x"].std, float(abs(array[0])), rel_tol=1e-5)
    assert math.isclose(first.model.norm, expected, rel_tol=1e-5)
    assert math.isclose(second.parameters["x"].update or 0, expected, rel_tol=1e-5)


def test_norms_of_float64_span_its_range() -> None:
    """Also where the square of a float64 is 0 or infinite."""
    for scale in (5e-324, 1e-200, 1e200, 1e308):
        assert (
            math.isclose(stats(np.array([scale, 0.0, -scale])).norm, scale * math.sqrt(2), rel_tol=1e-9)
            or scale < 1e-300
        )
    assert stats(np.array([5e-324])).norm == 5e-324


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x.t(),
        lambda x: x[::2],
        lambda x: x[:, 3:],
        lambda x: x.expand(2, *x.shape),
        lambda x: x[None, :, :, None].contiguous(memory_format=torch.channels_last),
        lambda x: torch.nn.Parameter(x),
        lambda x: x.t()[3:7],
    ],
)
def test_any_layout(view: Callable[[torch.Tensor], torch.Tensor], exact: bool) -> None:
    """Views with gaps, transposed, expanded, channels last."""
    x = view(torch.randn(300, 200))
    found, whole = stats(x, exact=exact), x.detach().double().numpy()
    assert (found.size, found.min, found.max) == (whole.size, whole.min(), whole.max())
    assert math.isclose(found.norm, float(np.linalg.norm(whole.ravel())), rel_tol=1e-5 if exact else 0.03)


def test_a_transposed_tensor_is_not_copied() -> None:
    """It is read in the order of its memory, in which it has no gaps."""
    x = torch.randn(300, 200)
    for view in (x, x.t(), x.view(3, 100, 200).permute(2, 0, 1)):
        assert TorchReader()._flat(view)[0].data_ptr() == x.data_ptr()
    assert TorchReader()._flat(x[:, 1:])[0].data_ptr() != x.data_ptr()


def test_tied_weights_count_once() -> None:
    """Under their first name; the other names are told. Equal tensors and empty ones are not tied."""
    weight, empty = torch.ones(10, 2), torch.empty(0)
    arrays = {"embed": weight, "head": weight, "same": weight.clone(), "e": empty, "f": empty, "part": weight[:5]}
    taken = Snapshots().take(0, arrays, {"embed": weight, "head": weight})
    assert list(taken.parameters) == ["embed", "same", "e", "f", "part"]
    assert taken.tied == {"head": "embed"}
    assert taken.model.size == 50
    assert list(taken.gradients) == ["embed"]
    arrays = {"a": (one := np.ones(4)), "b": one[:], "c": one[::2]}  # type: ignore[dict-item]
    assert Snapshots().take(0, arrays).tied == {"b": "a"}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("rows", [4, 5000])
def test_sparse_gradients(rows: int, exact: bool) -> None:
    """Of an embedding, with a word twice: as if they were dense."""
    embedding = torch.nn.Embedding(10_000, 20, sparse=True)
    words = torch.cat([torch.arange(rows), torch.tensor([1])])
    embedding(words).pow(2).sum().backward()
    gradient = embedding.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    taken = Snapshots(exact=exact).take(0, {"w": embedding.weight}, {"w": gradient})
    found, whole = taken.gradients["w"], gradient.to_dense().double().numpy()
    assert (found.size, found.min, found.max) == (whole.size, whole.min(), whole.max())
    assert math.isclose(found.norm, float(np.linalg.norm(whole)), rel_tol=1e-5 if exact else 0.05)
    assert math.isclose(found.zeros, float(np.mean(whole == 0)), rel_tol=1e-3)
    apart = np.abs(histogram(whole, found) / whole.size - np.array(found.counts) / sum(found.counts)).sum() / 2
    assert apart <= (1e-4 if exact else variation_bound(2**14))


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("exact", [True, False])
def test_odd_tensors(exact: bool) -> None:
    """Frozen, empty, of one element, of a layer that saw no batch, sparse without values, in rows, of odd types."""
    frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    arrays = {
        "frozen": frozen, "empty": torch.empty(0, 5), "one": torch.tensor(-2.0), "bool": torch.tensor([True, False]),
        "lazy": torch.nn.LazyLinear(3).weight, "none": torch.zeros(4, 4).to_sparse(),
        "rows": torch.eye(4).to_sparse_csr(), "complex": torch.tensor([3 + 4j]),
        "float8": torch.ones(20_000).to(torch.float8_e4m3fn), "half": torch.full((20_000,), 6e4).half(),
        "wide": torch.full((20_000,), 3_000_000_000).to(torch.uint32), "signed": torch.full((20_000,), 1j).conj().imag,
    }  # fmt: skip
    taken = Snapshots(exact=exact).take(0, arrays, {"frozen": None})
    found = {
        name: (one.size, one.min, one.max, round(one.norm, 3)) for name, one in taken.parameters.items() if one.norm
    }
    assert found == {
        "frozen": (3, 1.0, 1.0, 1.732), "one": (1, -2.0, -2.0, 2.0), "bool": (2, 0.0, 1.0, 1.0),
        "rows": (16, 0.0, 1.0, 2.0), "complex": (2, 3.0, 4.0, 5.0), "float8": (20_000, 1.0, 1.0, 141.421),
        "half": (20_000, 60_000.0, 60_000.0, 8485281.374), "wide": (20_000, 3e9, 3e9, 424264068711.929),
        "signed": (20_000, -1.0, -1.0, 141.421),
    }  # fmt: skip
    assert taken.parameters["none"].zeros == 1.0
    assert taken.gradients == {}
    assert taken.model_gradient is None
    assert Snapshots().take(0, {}).model.size == 0


def test_a_model_of_nothing() -> None:
    """A merge of nothing is nothing."""
    nothing = merge([])
    assert (nothing.size, nothing.norm, nothing.counts) == (0, 0.0, (0,) * BINS)
    assert math.isnan(nothing.mean)


@given(
    st.lists(np_arrays(np.float64, st.integers(0, 30), elements=st.floats(-1e3, 1e3) | st.just(math.nan)), max_size=6)
)
def test_a_merge_equals_the_whole(tensors: list[NDArray[Any]]) -> None:
    """Moments, norm, extremes and counts of tensors together are those of one tensor with all elements."""
    taken = Snapshots(exact=True).take(0, {str(index): array for index, array in enumerate(tensors)})
    check(taken.model, np.concatenate([*tensors, np.empty(0)]))


def test_merged_histograms_are_near_the_whole() -> None:
    """Exact ones differ by what is within bins only; sampled ones weigh tensors by their size."""
    drawn = np.random.default_rng(2)
    arrays = {str(i): drawn.normal(i - 3, 2.0**-i, 20_000 * (i + 1)).astype(np.float32) for i in range(6)}
    arrays["ones"] = np.ones(5000, np.float32)
    whole = np.concatenate(list(arrays.values()))
    for exact, bound in ((True, 0.02), (False, 0.05)):
        model = Snapshots(exact=exact).take(0, arrays).model
        assert total_variation(model, stats(whole, exact=True)) < bound
    assert sum(model.counts) == 6 * 2**14 + 5000


def test_samples_are_within_the_bound_for_layers() -> None:
    """Blocks of neighbours in weights whose rows and columns differ, as trained ones do."""
    drawn = np.random.default_rng(3)
    rows, columns = np.exp(drawn.normal(size=(768, 1))), np.exp(drawn.normal(size=(1, 1024)))
    layers = {"plain": drawn.normal(size=(768, 1024)), "rows": rows * drawn.normal(size=(768, 1024)),
              "columns": columns * drawn.normal(size=(768, 1024)), "convolution": drawn.laplace(size=(256, 256, 3, 3)),
              "pruned": drawn.normal(size=(768, 1024)) * (drawn.random((768, 1024)) < 0.1)}  # fmt: skip
    for name, layer in layers.items():
        array = layer.astype(np.float32)
        found = stats(array)
        assert total_variation(found, stats(array, exact=True)) <= variation_bound(2**14), name
        assert math.isclose(found.norm, float(np.linalg.norm(array)), rel_tol=0.05), name


@pytest.mark.parametrize(("seen", "risk", "bound"), [(16384, 1e-6, 0.0515), (1024, 0.5, 0.1424), (1, 0.5, 1.0)])
def test_the_bound(seen: int, risk: float, bound: float) -> None:
    """sqrt(63 / n) / 2 + sqrt(ln(1 / risk) / (2 n)), and 1 at most."""
    assert math.isclose(variation_bound(seen, risk=risk), bound, abs_tol=1e-4)


@pytest.mark.parametrize(("seen", "risk"), [(0, 0.5), (10, 0.0), (10, 1.0)])
def test_no_bound(seen: int, risk: float) -> None:
    """Neither without elements nor without a probability."""
    with pytest.raises(ValueError, match=rf"needs seen >= 1 and 0 < risk < 1, not seen={seen}, risk={risk}\."):
        variation_bound(seen, risk=risk)


def test_the_record_is_compact_and_comes_back() -> None:
    """JSON without NaN tokens, less than 600 bytes a tensor; what comes back says the same."""
    arrays = {f"layer{i}.weight": torch.randn(400, 300) for i in range(10)}
    arrays["bad"] = torch.tensor([math.nan, math.inf, 1.0])
    arrays["gone"] = torch.tensor([math.nan])
    arrays["again"] = arrays["bad"]
    taken = Snapshots()
    taken.take(4, arrays)
    snapshot = taken.take(5, arrays, {"bad": torch.ones(3)})
    text = json.dumps(snapshot.as_json(), allow_nan=False, separators=(",", ":"))
    assert len(text) < 600 * 14
    back = Snapshot.from_json(json.loads(text))
    assert back.as_json() == snapshot.as_json()
    assert (back.step, back.since, back.tied, back.exact) == (5, 4, {"again": "bad"}, False)
    one, other = back.parameters["layer3.weight"], snapshot.parameters["layer3.weight"]
    assert one.counts == other.counts
    assert math.isclose(one.norm, other.norm, rel_tol=1e-8)
    assert one.ratio == 0.0
    assert math.isnan(back.parameters["gone"].mean)


def test_edges() -> None:
    """65 of them from the smallest to the largest, also around one value and over the whole of float64."""
    assert bin_edges(0.0, 64.0) == tuple(map(float, range(65)))
    for low, high in ((0.0, 0.0), (1e30, 1e30), (-5.0, -5.0), (-1.7e308, 1.7e308), (1.7e308, 1.7e308)):
        edges = np.array(bin_edges(low, high))
        assert len(edges) == 65
        assert np.all(np.isfinite(edges))
        assert np.all(np.diff(edges) > 0)
        assert edges[0] <= low <= high <= edges[-1]
    assert stats(np.full(7, 3.0)).counts == tuple(7 if index == 32 else 0 for index in range(BINS))


@pytest.mark.parametrize("exact", [True, False])
def test_updates_count_from_the_last_snapshot(exact: bool) -> None:
    """Ratios by tensor, layer and model; of large tensors from the sampled elements; the first has none."""
    arrays = {
        "fc.weight": torch.randn(300, 300),
        "fc.bias": torch.ones(300),
        "out.bias": torch.zeros(2),
        "e": torch.empty(0),
    }
    taken = Snapshots(exact=exact)
    first = taken.take(3, arrays)
    assert (first.since, first.ratios, first.model.ratio) == (None, {}, None)
    step = {"fc.weight": 0.01 * torch.randn(300, 300), "fc.bias": torch.full((300,), 0.25)}
    for name, change in step.items():
        arrays[name].add_(change)
    second = taken.take(7, arrays)
    assert second.since == 3
    for name, change in step.items():
        assert math.isclose(second.parameters[name].update or 0, float(change.norm()), rel_tol=0.03)
    weight = torch.cat([arrays[name].flatten() for name in step]).norm()
    moved = torch.cat([change.flatten() for change in step.values()]).norm()
    assert math.isclose(second.ratios["fc"], float(moved / weight), rel_tol=0.03)
    assert second.ratios["out"] == 0.0
    arrays["out.bias"].fill_(1.0)
    assert taken.take(8, arrays).ratios == {"fc": 0.0, "out": 1.0}


def test_updates_of_one_step() -> None:
    """From the snapshot before; another layout, type or a NaN leaves it unknown."""
    arrays = {"w": torch.ones(40_000), "b": torch.ones(4)}
    taken = Snapshots()
    taken.take(9, arrays)
    arrays["w"] += 1
    snapshot = taken.take(10, arrays)
    assert (snapshot.since, snapshot.ratios) == (9, {"w": 0.5, "b": 0.0})
    arrays["w"] = arrays["w"].double()
    arrays["b"] = torch.tensor([1.0, math.nan, 1.0, 1.0])
    assert taken.take(11, arrays).ratios == {}
    taken.reset()
    assert taken.take(12, arrays).since is None


def test_snapshots_hold_no_copy_of_the_model() -> None:
    """At most the sample of each tensor is kept."""
    taken = Snapshots()
    taken.take(0, {"w": torch.randn(1_000_000), "b": torch.randn(10)})
    assert sum(kept.size for _, kept in taken._kept.values()) == 2**14 + 10


def test_global_random_numbers_are_left_alone() -> None:
    """A snapshot changes nothing in the training."""
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    Snapshots().take(0, {"w": torch.ones(100_000)})
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]


def test_names_choose() -> None:
    """Patterns, of parameters and their gradients; one that fits nothing is an error with the names that exist."""
    arrays = {"fc.weight": torch.ones(2), "fc.bias": torch.ones(2), "out.bias": torch.ones(2)}
    taken = Snapshots(["*.bias"]).take(0, arrays, arrays)
    assert list(taken.parameters) == list(taken.gradients) == ["fc.bias", "out.bias"]
    with pytest.raises(ValueError, match=r"'fx\.\*' of names fits no parameter\. There are: fc\.weight, fc\.bias, out"):
        Snapshots(["fc.*", "fx.*"]).take(0, arrays)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"names": "*.bias"},
            r"names is a list of patterns such as \['\*\.weight'\], or None for all, not '\*\.bias'\.",
        ),
        ({"names": []}, r"names is a list of patterns .* not \[\]\."),
        ({"sample": 15}, r"sample is a number of elements from 16, not 15\."),
        ({"sample": True}, r"sample is a number of elements from 16, not True\."),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    """They are refused when they are given."""
    with pytest.raises(ValueError, match=message):
        Snapshots(**options)


@pytest.mark.parametrize("thing", [None, [1.0, 2.0], "w", 3.0])
def test_only_arrays(thing: object) -> None:
    """Other things are refused with what is read."""
    with pytest.raises(TypeError, match=f"of torch, JAX, TensorFlow and NumPy, not {type(thing).__name__}"):
        Snapshots().take(0, {"w": thing})


class Away(TorchReader):
    """Counts transfers from a device that has no values: whatever needs one there fails."""

    def __init__(self) -> None:
        super().__init__()
        self.transfers = 0

    def _transfer(self, tensor: Any) -> Any:
        self.transfers += 1
        return torch.zeros(tensor.shape, dtype=tensor.dtype)


def test_one_transfer_from_an_accelerator() -> None:
    """On torch's meta device nothing can be waited for, as on a GPU nothing is: samples and extremes come together."""
    reader = Away()
    types = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.bool]
    arrays = [torch.empty(size, dtype=kind, device="meta") for kind in types for size in (0, 1, 7, 100, 50_001)]
    looks = reader.look([*arrays, torch.empty(300, 200, device="meta").t()], 2**14)
    assert reader.transfers == 1
    assert [look.size for look in looks] == [*[0, 1, 7, 100, 50_001] * len(types), 60_000]
    assert all(look.sample.size == min(look.size, 2**14) for look in looks)


def test_a_snapshot_is_one_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters and gradients come together."""
    reader = Away()
    monkeypatch.setitem(snapshot_arrays._readers, torch.Tensor, reader)
    arrays = {f"w{size}": torch.empty(size, device="meta") for size in (3, 100, 50_001)}
    snapshot = Snapshots().take(0, arrays, dict(arrays))
    assert reader.transfers == 1
    assert [stats.size for stats in snapshot.gradients.values()] == [3, 100, 50_001]


@pytest.mark.parametrize(
    "kind", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int32, torch.uint8]
)
def test_what_comes_from_an_accelerator_is_what_is_there(kind: torch.dtype) -> None:
    """The same looks as on the CPU, by way of the bytes of all tensors; NaN and infinities take a second transfer."""
    reader = TorchReader()
    arrays = [torch.randn(size).mul(50).abs().to(kind) for size in (3, 20_000, 1, 0, 40_000)]
    if kind.is_floating_point:
        arrays[1][5], arrays[1][7], arrays[4][9] = math.nan, math.inf, -math.inf
    here = reader.look(arrays, 2**14)
    there = reader._look_away([reader._flat(array) for array in arrays], 2**14)
    for one, other in zip(here, there, strict=True):
        assert np.array_equal(one.sample, other.sample, equal_nan=True)
        assert (one.size, one.low, one.high, one.nan, one.inf) == (
            other.size,
            other.low,
            other.high,
            other.nan,
            other.inf,
        )


@pytest.mark.parametrize("exact", [True, False])
@given(st.floats(-6, 6), st.sampled_from([1, 2, 4, 9, 32, 75, 128, 256]), st.sampled_from([-1, 1]), st.integers(0, 99))
def test_elements_that_differ_in_their_last_bits(
    exact: bool, exponent: float, steps: int, sign: int, seed: int
) -> None:
    """Such as scales of layers that have hardly moved from where they began."""
    begin = np.float32(10**exponent)
    places = np.random.default_rng(seed).integers(0, steps + 1, 20_000)
    array = (sign * (begin + places * np.spacing(begin))).astype(np.float32)
    found, whole = stats(array, exact=exact), array.astype(np.float64)
    assert sum(found.counts) == (20_000 if exact else 2**14)
    assert math.isclose(found.mean, whole.mean(), rel_tol=1e-6)
    if exact:
        counts, _ = np.histogram(whole, np.linspace(whole.min(), whole.max(), 65))
        assert np.abs(np.array(found.counts) - counts).sum() <= 0.02 * 20_000
        assert math.isclose(found.std, whole.std(), rel_tol=1e-3)


@pytest.mark.parametrize("of", ["numpy", "torch"])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("mean", "std", "outlier"),
    [(1.0, 0.01, 1.0), (1.0, 1e-5, 0.9), (-1000.0, 1.0, -1000.0), (0.01, 0.01, 50.0), (0.0, 1.0, 0.0)],
)
def test_little_cancels(mean: float, std: float, outlier: float, exact: bool, of: str) -> None:
    """The deviation of elements that are far from zero, in the scales of layer norms, or with one far away."""
    array = np.random.default_rng(4).normal(mean, std, 200_000).astype(np.float32)
    array[77] = outlier
    found = stats(torch.from_numpy(array) if of == "torch" else array, exact=exact)
    whole = array.astype(np.float64)
    if exact or outlier == mean:
        assert math.isclose(found.std, whole.std(), rel_tol=2e-4 if exact else 0.02)
    assert math.isclose(found.mean, whole.mean(), rel_tol=1e-5, abs_tol=whole.std() * (1e-3 if exact else 0.03))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_local_part_of_a_tensor_that_is_spread_over_processes() -> None:
    """Nothing waits for other processes, since those may take no snapshot."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor

    distributed: Any = torch.distributed
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        spread = DTensor.from_local(torch.arange(6.0), init_device_mesh("cpu", (1,)))
        found = stats(spread)
    finally:
        distributed.destroy_process_group()
    assert (found.size, found.max) == (6, 5.0)
