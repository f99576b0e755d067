"""Arrays of torch, read where they are: sparse, frozen, in any layout and of any type, on a CPU or an accelerator."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

from tunehook.snapshot.look import BLOCK, Array, Look, blocks_of


class TorchReader:
    """Reads torch's tensors; torch is loaded, since there are some."""

    def __init__(self) -> None:
        self._torch: Any = sys.modules["torch"]
        self._rows: dict[tuple[int, int, Any], Any] = {}
        # NumPy knows these; the others become float32, which holds all their values, or float64.
        self._plain = {self._torch.float32, self._torch.float64}
        # Torch itself has few operations for these.
        self._rare = {getattr(self._torch, name, None) for name in ("uint16", "uint32", "uint64")}
        # Neither lazy nor spread over processes.
        self._usual = {self._torch.Tensor, self._torch.nn.Parameter}

    def identity(self, array: Any) -> object:
        """Equal for parameters that share their elements."""
        if self._is_usual(array) and (place := array.data_ptr()):
            return (place, array.shape, array.stride(), array.dtype, array.device)
        if array.layout is not self._torch.strided or self._is_lazy(array) or array.numel() == 0:
            return None
        return (array.data_ptr(), array.shape, array.stride(), array.dtype, array.device)

    def look(self, arrays: Sequence[Any], limit: int) -> list[Look]:
        """Those on accelerators are read there, and brought here together from each."""
        flats = [self._flat(array) for array in arrays]
        found: dict[int, Look] = {}
        for device in {flat.device for flat, _, _ in flats if not flat.is_cpu}:
            away = [index for index, (flat, _, _) in enumerate(flats) if flat.device == device]
            found.update(zip(away, self._look_away([flats[index] for index in away], limit), strict=True))
        return [found.get(index) or self._look(*flat, limit) for index, flat in enumerate(flats)]

    def flat(self, array: Any) -> tuple[Array, int]:
        """In the order of the memory; types that NumPy lacks are converted."""
        flat, implicit, _ = self._flat(array)
        return self.host(flat.cpu()), implicit

    def host(self, flat: Any) -> Array:
        """A flat tensor on the CPU as float32 or float64, without a copy where it is."""
        if flat.dtype not in self._plain:
            flat = flat.double() if flat.dtype.itemsize > 2 else flat.float()
        array: Array = flat.numpy()
        return array

    def _flat(self, array: Any) -> tuple[Any, int, object]:
        """All stored elements in the order of the memory, the number of zeros beside them, and what names the order."""
        if self._is_usual(array) and array.is_contiguous() and not self._is_odd(array):
            array = array.detach().view(-1)
            return array, 0, (array.numel(), None)
        torch = self._torch
        if self._is_lazy(array):  # a layer that has seen no batch yet
            return torch.empty(0), 0, None
        array, implicit = array.detach(), 0
        if hasattr(array, "to_local"):  # a part of it is here, and to ask for the rest would wait for other processes
            array = array.to_local()
        if array.layout is torch.sparse_coo:
            size = array.numel()
            array = array.coalesce().values()
            implicit = size - array.numel()
        elif array.layout is not torch.strided:
            array = array.to_dense()
        if array.is_complex():
            array = torch.view_as_real(array.resolve_conj())
        array = array.resolve_neg()
        if array.dtype in self._rare:
            array = array.double()
        if array.is_contiguous():
            return array.view(-1), implicit, None if implicit else (array.numel(), None)
        layout = (array.numel(), array.stride())
        if _has_no_gaps(array):
            return array.as_strided((array.numel(),), (1,)), implicit, layout
        return array.reshape(-1), implicit, layout

    def _look(self, flat: Any, implicit: int, layout: object, limit: int) -> Look:
        size = flat.numel()
        if size <= limit:
            return Look(size + implicit, self.host(flat), implicit=implicit, layout=layout)
        low, high = self._extremes(flat)
        sample = self._sample_here(flat, limit) if flat.dtype in self._plain else self.host(self._sample(flat, limit))
        look = Look(size + implicit, sample, low.item(), high.item(), implicit=implicit, layout=layout)
        if not look.is_clean:
            look.count_faults(*(value.item() for value in self._faults(flat)))
        return look

    def _sample(self, flat: Any, limit: int) -> Any:
        size = flat.numel()
        key = (size, limit, flat.device)
        if key not in self._rows:
            self._rows[key] = self._torch.from_numpy(blocks_of(size, limit)).to(flat.device, non_blocking=True)
        blocks = flat[: size // BLOCK * BLOCK].view(-1, BLOCK)
        return blocks.index_select(0, self._rows[key]).view(-1)

    def _sample_here(self, flat: Any, limit: int) -> Array:
        """The same in memory, where NumPy takes half the time."""
        size = flat.numel()
        sample: Array = flat.numpy()[: size // BLOCK * BLOCK].reshape(-1, BLOCK).take(_rows(size, limit), axis=0)
        return sample.reshape(-1)

    def _extremes(self, flat: Any) -> Any:
        """The one full read: NaN and infinities are carried through."""
        if flat.dtype.is_floating_point and flat.dtype.itemsize == 1:  # float8 has no such operation
            flat = flat.float()
        return self._torch.aminmax(flat)

    def _faults(self, flat: Any) -> tuple[Any, Any, Any, Any]:
        torch = self._torch
        if flat.dtype.itemsize == 1:
            flat = flat.float()
        finite = torch.isfinite(flat)
        return (torch.isnan(flat).sum(), torch.isinf(flat).sum(), torch.where(finite, flat, torch.inf).min(),
                torch.where(finite, flat, -torch.inf).max())  # fmt: skip

    def _look_away(self, flats: Sequence[tuple[Any, int, object]], limit: int) -> list[Look]:
        """Samples and extremes of all tensors in one transfer; in a second one the counts where something was found."""
        is_large = [flat.numel() > limit for flat, _, _ in flats]
        parts, ends = [], []
        for (flat, _, _), large in zip(flats, is_large, strict=True):
            parts.append(self._sample(flat, limit) if large else flat)
            if large:
                ends.append(self._torch.stack(list(self._extremes(flat))))
        arrays = self._fetch(parts + ends)
        found = iter(arrays[len(flats) :])
        looks = []
        for (flat, implicit, layout), sample, large in zip(flats, arrays, is_large, strict=False):
            low, high = map(float, next(found)) if large else (None, None)
            looks.append(Look(flat.numel() + implicit, sample, low, high, implicit=implicit, layout=layout))
        bad = [index for index, look in enumerate(looks) if not look.is_clean]
        if bad:
            faults = [self._faults(flats[index][0]) for index in bad]
            pairs = self._fetch([self._torch.stack(pair) for fault in faults for pair in (fault[:2], fault[2:])])
            for index, counts, extremes in zip(bad, pairs[::2], pairs[1::2], strict=True):
                looks[index].count_faults(*counts, *extremes)
        return looks

    def _fetch(self, parts: Sequence[Any]) -> list[Array]:
        """Flat tensors of an accelerator as arrays here, in one transfer of their bytes."""
        torch = self._torch
        if not parts:
            return []
        found = self._transfer(torch.cat([part.contiguous().view(torch.uint8) for part in parts]))
        pieces = found.split([part.numel() * part.dtype.itemsize for part in parts])
        return [self.host(piece.clone().view(part.dtype)) for piece, part in zip(pieces, parts, strict=True)]

    def _transfer(self, tensor: Any) -> Any:
        return tensor.cpu()

    def _is_usual(self, array: Any) -> bool:
        return type(array) in self._usual and array.layout is self._torch.strided

    def _is_odd(self, array: Any) -> bool:
        return array.is_complex() or array.is_neg() or array.dtype in self._rare

    def _is_lazy(self, array: Any) -> bool:
        return bool(self._torch.nn.parameter.is_lazy(array))


@functools.lru_cache(maxsize=256)
def _rows(size: int, limit: int) -> Array:
    return blocks_of(size, limit)


def _has_no_gaps(array: Any) -> bool:
    """Whether the elements fill their memory, each once, in some order of the dimensions, such as channels last."""
    expected = 1
    for stride, length in sorted(zip(array.stride(), array.shape, strict=True)):
        if length != 1:
            if stride != expected:
                return False
            expected *= length
    return True
