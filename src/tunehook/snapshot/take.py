"""`Snapshots`: takes snapshots of named arrays, one after the other, and what was updated between them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunehook.snapshot.arrays import Reader, reader_of
from tunehook.snapshot.exact import exact_stats
from tunehook.snapshot.look import Array, Look
from tunehook.snapshot.merge import merge
from tunehook.snapshot.moments import layout_of, stats_of
from tunehook.snapshot.values import PatternError, Snapshot, TensorStats

SAMPLE = 2**14
_ALONE = 2**12  # elements from which a tensor's update is found by itself


class Snapshots:
    """Takes snapshots of a model's parameters and gradients.

    By default the histogram, the mean, the deviation, the norm and the share of zeros of a tensor come from a sample of
    at most 16384 of its elements: 1024 blocks of 16 neighbours in memory, one at random in each of 1024 equal parts of
    the tensor, at the same places in each snapshot. One full read finds the extremes, and any NaN or infinity, which
    are then counted exactly. Tensors that are no larger than the sample are exact. How far a sampled histogram may be
    from the exact one says `variation_bound`.

    The update of a parameter is the norm of the difference from the same elements as they were at the last snapshot,
    scaled up to the whole tensor: no second copy of the model is held, but of at most 16384 elements a tensor. It is
    the distance from there to here, not the length of the way. The ratio of update to weight divides it by the norm of
    the weights now. It is sampled with ``exact=True`` too.

    Arrays are those of torch, JAX, TensorFlow and NumPy, of any type of number and any layout. Of complex numbers both
    parts are elements. Zeros of sparse tensors count, stored or not. Layers that have not seen a batch, and whose shape
    is therefore not known, are empty. Of tensors that are spread over processes (`DTensor`), what is here counts.
    Nothing here draws from global random numbers.

    On a GPU all samples and extremes come in one transfer; a second one follows only where NaN or infinities are
    counted. With ``exact=True`` the elements are brought to the host.

    Args:
        names: Which parameters, as patterns such as ``["encoder.*", "*.bias"]``; all of them by default.
        exact: Whether to compute everything from all elements. Floats of 32 bits are computed with as such: sums are
            right to about six digits, and an element within a rounding of an edge may be counted in the bin beside.
        sample: Elements of a tensor in its sample, at least 16; 16384 by default.

    Raises:
        ValueError: ``names`` is empty, or ``sample`` is less than a block.

    Example:
        >>> import numpy as np
        >>> taken = Snapshots().take(0, {"fc.weight": np.array([[1.0, -2.0], [0.0, 2.0]]), "fc.bias": np.zeros(2)})
        >>> taken.model.norm, taken.model.max, taken.parameters["fc.weight"].zeros
        (3.0, 2.0, 0.25)
    """

    def __init__(self, names: Sequence[str] | None = None, *, exact: bool = False, sample: int = SAMPLE) -> None:
        if isinstance(names, str) or (names is not None and not names):
            raise ValueError(f"names is a list of patterns such as ['*.weight'], or None for all, not {names!r}.")
        if isinstance(sample, bool) or not isinstance(sample, int) or sample < 16:
            raise ValueError(f"sample is a number of elements from 16, not {sample!r}.")
        self.names, self.exact, self.sample = None if names is None else list(names), exact, sample
        self.reset()

    def reset(self) -> None:
        """Forget the elements of the last snapshot: another training starts."""
        self._kept: dict[str, tuple[object, Array]] = {}
        self._since: int | None = None

    def take(
        self,
        step: int,
        arrays: Mapping[str, Any],
        gradients: Mapping[str, Any] | None = None,
    ) -> Snapshot:
        """Take a snapshot.

        Args:
            step: The step, as the training counts.
            arrays: Parameters by name, of any shape.
            gradients: Their gradients by the same names; ``None`` for a gradient is the same as none.

        Raises:
            TypeError: Something is not an array.
            PatternError: A pattern of ``names`` fits no parameter.
        """
        chosen, tied = self._untied(self._chosen(arrays))
        slopes = {name: gradients[name] for name in chosen if gradients.get(name) is not None} if gradients else {}
        # All at once: from an accelerator in one transfer, and small ones together.
        members = [*chosen.values(), *slopes.values()]
        looks = _looks(members, self.sample)
        of_weights, since = dict(zip(chosen, looks, strict=False)), self._since
        self._find_updates(of_weights)
        self._keep(step, of_weights)
        stats = self._stats(members, looks)
        found, steep = stats[: len(chosen)], stats[len(chosen) :]
        return Snapshot(
            step=step, parameters=dict(zip(chosen, found, strict=True)), model=merge(found),
            gradients=dict(zip(slopes, steep, strict=True)), model_gradient=merge(steep) if steep else None,
            since=since, tied=tied, exact=self.exact,
        )  # fmt: skip

    def _stats(self, arrays: Sequence[Any], looks: Sequence[Look]) -> list[TensorStats]:
        """Statistics of arrays from looks at them, or from all elements."""
        if not self.exact:
            return stats_of(looks)
        is_small = [look.is_whole for look in looks]
        small = iter(stats_of([look for look, whole in zip(looks, is_small, strict=True) if whole], exact=True))
        return [
            next(small) if whole else exact_stats(look, reader_of(array).flat(array)[0])
            for array, look, whole in zip(arrays, looks, is_small, strict=True)
        ]

    def _chosen(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        if self.names is None:
            return dict(arrays)
        for pattern in self.names:
            if not fnmatch.filter(arrays, pattern):
                raise PatternError(
                    f"The pattern '{pattern}' of names fits no parameter. There are: {', '.join(arrays)}."
                )
        return {name: array for name, array in arrays.items()
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.names)}  # fmt: skip

    def _untied(self, arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Each array under its first name, and the other names."""
        firsts: dict[object, str] = {}
        chosen: dict[str, Any] = {}
        tied: dict[str, str] = {}
        for name, array in arrays.items():
            identity = reader_of(array).identity(array)
            first = name if identity is None else firsts.setdefault(identity, name)
            if first == name:
                chosen[name] = array
            else:
                tied[name] = first
        return chosen, tied

    def _keep(self, step: int, looks: Mapping[str, Look]) -> None:
        """Keep the elements of looks; those of whole arrays are the user's own, and change."""
        self._kept = {name: (look.layout, look.sample.copy() if look.is_whole else look.sample)
                      for name, look in looks.items() if look.layout is not None}  # fmt: skip
        self._since = step

    def _find_updates(self, looks: Mapping[str, Look]) -> None:
        """The norm of the difference of each tensor from what was kept, where the same elements are at hand."""
        found: list[tuple[Look, Array]] = []
        for name, look in looks.items():
            layout, before = self._kept.get(name, (None, None))
            if before is not None and layout == look.layout and before.dtype == look.sample.dtype and before.size:
                found.append((look, before))
        for (look, before), change in zip(
            found, distances([(look.sample, before) for look, before in found]), strict=True
        ):
            look.update = None if change is None else change * math.sqrt(look.size / before.size)


def distances(pairs: Sequence[tuple[Array, Array]]) -> list[float | None]:
    """`distance` of each two arrays; small ones are worked on together, since a call costs as much as they do."""
    small = [index for index, (one, _) in enumerate(pairs) if one.size < _ALONE and one.dtype == np.float32]
    found: dict[int, float | None] = {}
    if len(small) > 1:
        sides = [np.concatenate([pairs[index][side] for index in small]) for side in (0, 1)]
        with np.errstate(invalid="ignore", over="ignore"):
            change = sides[0] - sides[1]
            is_still = not change.any()
            change *= change
            squares = np.add.reduceat(change, layout_of(tuple(pairs[index][0].size for index in small))[1]).tolist()
        found = {index: math.sqrt(square) for index, square in zip(small, squares, strict=True)
                 if is_still or 1e-30 < square < 1e30}  # fmt: skip
    return [found[index] if index in found else distance(*pair) for index, pair in enumerate(pairs)]


def distance(one: Array, other: Array) -> float | None:
    """The L2 norm of the difference of two flat arrays; ``None`` where that is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        change = one - other
        square = float(np.einsum("i,i->", change, change))
        if 1e-30 < square < 1e30:
            return math.sqrt(square)
        if not change.any():
            return 0.0
        change = one.astype(np.float64) - other
        top = float(np.max(np.abs(change)))
    if not math.isfinite(top):
        return None
    change /= top
    return top * math.sqrt(float(np.einsum("i,i->", change, change)))


def _looks(arrays: Sequence[Any], limit: int) -> list[Look]:
    """Look at all arrays, those of one framework together."""
    readers: dict[type, tuple[Reader, list[int]]] = {}
    for index, array in enumerate(arrays):
        reader = reader_of(array)
        readers.setdefault(type(reader), (reader, []))[1].append(index)
    found: dict[int, Look] = {}
    for reader, members in readers.values():
        found.update(zip(members, reader.look([arrays[index] for index in members], limit), strict=True))
    return [found[index] for index in range(len(arrays))]
