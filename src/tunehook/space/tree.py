"""Where each hyperparameter of a space stands: at its top, or in the branch of an option that another one chooses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunehook.space.choices import Choice, Fixed
from tunehook.space.distribution import Distribution, SpaceError
from tunehook.system import shown

_DEEP = 20  # branches in branches


@dataclass(frozen=True, eq=False)
class Place:
    """Where a hyperparameter stands.

    Attributes:
        name: What it is called.
        raw: What Optuna calls it: the name, with the branch where the name stands in several.
        d: Its distribution.
        parent: The place of the choice in whose branch it stands, ``None`` at the top.
        option: The place of the option whose branch that is.
    """

    name: str
    raw: str
    d: Distribution
    parent: Place | None = None
    option: int = 0

    @property
    def is_fixed(self) -> bool:
        """Whether nothing is sampled."""
        return isinstance(self.d, Fixed)

    @property
    def choice(self) -> Choice:
        """Its distribution, as one that has branches."""
        assert isinstance(self.d, Choice)  # noqa: S101 - only choices have branches
        return self.d

    def is_chosen(self, raw: Mapping[str, Any]) -> bool:
        """Whether the option of its branch is chosen, where `raw` has the values of what is active."""
        parent = self.parent
        return parent is None or (parent.raw in raw and parent.choice.index(raw[parent.raw]) == self.option)

    @property
    def condition(self) -> str:
        """Where it exists, for people."""
        if self.parent is None:
            return "at the top"
        return f"where {self.parent.name} is {shown(self.parent.choice.options[self.option])}"

    @property
    def branches(self) -> dict[str, int]:
        """The options that must be chosen for it to exist, by the raw names of their choices."""
        return {} if self.parent is None else {**self.parent.branches, self.parent.raw: self.option}


def places_of(dimensions: Mapping[str, Distribution]) -> list[Place]:
    """The places of all hyperparameters, choices before what stands in their branches.

    Raises:
        SpaceError: A name stands twice where both may exist at once, or there are too many branches in branches.
    """
    counts: dict[str, int] = {}
    for name, _ in _names(dimensions, 0):
        counts[name] = counts.get(name, 0) + 1
    places = list(_placed(dimensions, None, 0, counts))
    _check_apart(places)
    return places


def _names(dimensions: Mapping[str, Distribution], depth: int) -> Iterator[tuple[str, Distribution]]:
    if depth > _DEEP:
        raise SpaceError(f"A space has up to {_DEEP} branches in branches, got more.")
    for name, d in dimensions.items():
        yield name, d
        for branch in _branches(d):
            yield from _names(branch, depth + 1)


def _placed(
    dimensions: Mapping[str, Distribution], parent: Place | None, option: int, counts: Mapping[str, int]
) -> Iterator[Place]:
    for name, d in dimensions.items():
        # Optuna takes one distribution for a name in a study.
        raw = name if counts[name] == 1 or parent is None else f"{name}[{parent.raw}={parent.choice.labels[option]!r}]"
        place = Place(name, raw, d, parent, option)
        yield place
        for at, branch in enumerate(_branches(d)):
            yield from _placed(branch, place, at, counts)


def _branches(d: Distribution) -> Sequence[Mapping[str, Distribution]]:
    return d.branches if isinstance(d, Choice) else ()


def _check_apart(places: Sequence[Place]) -> None:
    """Check that no two of one name may exist at once."""
    named: dict[str, list[Place]] = {}
    for place in places:
        named.setdefault(place.name, []).append(place)
    for one, other in itertools.chain.from_iterable(itertools.combinations(found, 2) for found in named.values()):
        mine, theirs = one.branches, other.branches
        if not any(theirs.get(choice, option) != option for choice, option in mine.items()):
            raise SpaceError(
                f"Hyperparameter '{one.name}' stands twice in the space, {one.condition} and {other.condition}, and "
                "both may exist at once: rename one of them, or take it out."
            )


def size_of(dimensions: Mapping[str, Distribution]) -> int:
    """The number of combinations of hyperparameters that have finitely many values."""
    size = 1
    for d in dimensions.values():
        size *= sum(map(size_of, _branches(d))) or d.count or 1
    return size


def point_of(dimensions: Mapping[str, Distribution], index: int) -> dict[str, Any]:
    """The combination at ``index``, from 0; the last name changes fastest."""
    found: list[dict[str, Any]] = []
    for name, d in reversed(list(dimensions.items())):
        index, digit = divmod(index, size_of({name: d}))
        option, inner = digit, dict[str, Any]()
        for at, branch in enumerate(_branches(d)):
            if digit < (size := size_of(branch)):
                option, inner = at, point_of(branch, digit)
                break
            digit -= size
        found.append({name: d.value(option), **inner})
    return {name: value for part in reversed(found) for name, value in part.items()}
