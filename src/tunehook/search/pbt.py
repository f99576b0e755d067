"""Population-based training as a pure rule: whose interval comes next, from whose weights, and with what values.

Each trial is one interval of the training of one member, which begins with the checkpoint of another trial, its parent
(Li et al., 2019, arXiv:1902.01894). So any number of workers trains the population, also one. A generation begins when
the one before has ended: the population is the same whoever trains it, and how many do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tunehook.space import Distribution, Space, SpaceError
from tunehook.trial import Mode


@dataclass(frozen=True, kw_only=True)
class PBT:
    """Population-based training (Jaderberg et al., 2017, arXiv:1711.09846): ``Study(..., search=PBT(population=8))``.

    The members of a population train side by side. After each interval the weakest ones copy the weights and the state
    of the optimizer of one of the strongest, and go on with values of its that are changed a little. So the values
    change while a model trains. A trial is one interval of one member.

    Args:
        population: How many members there are, at least 2. Defaults to 8. A multiple of the workers wastes no time.
        interval: Epochs between two changes. Defaults to 1.
        perturb: The factors of a change: a number is multiplied by one of them, a whole or stepped one or a numeric
            choice moves to the next value at least, other choices stay. Defaults to 0.8 and 1.2, as in the paper.
        resample: With which probability a value is drawn from the space instead. Defaults to 0.25.
        quantile: The share of members that copy, and of those that are copied; above 0 and at most 0.5, and at least
            one member. Defaults to 0.25.

    Raises:
        ValueError: An argument is none of the above.

    Example:
        >>> PBT(population=4, interval=2).strong
        1
    """

    population: int = 8
    interval: int = 1
    perturb: Sequence[float] = (0.8, 1.2)
    resample: float = 0.25
    quantile: float = 0.25

    def __post_init__(self) -> None:
        for name, least in (("population", 2), ("interval", 1)):
            given = getattr(self, name)
            if not isinstance(given, int) or isinstance(given, bool) or given < least:
                raise ValueError(f"{name} is a whole number, at least {least}; got {given!r}.")
        factors = self.perturb
        if (
            isinstance(factors, str)
            or not isinstance(factors, Sequence)
            or not factors
            or not all(_is_number(one) and one > 0 for one in factors)
        ):
            raise ValueError(f"perturb is a list of factors above 0, such as (0.8, 1.2); got {factors!r}.")
        if not _is_number(self.resample) or not 0 <= self.resample <= 1:
            raise ValueError(f"resample is a probability, from 0 to 1; got {self.resample!r}.")
        if not _is_number(self.quantile) or not 0 < self.quantile <= 0.5:
            raise ValueError(f"quantile is a share above 0 and at most 0.5; got {self.quantile!r}.")
        object.__setattr__(self, "perturb", tuple(factors))

    @property
    def strong(self) -> int:
        """How many members are copied, and how many copy."""
        return max(1, int(self.population * self.quantile))


@dataclass(frozen=True, kw_only=True)
class Replay(PBT):
    """A population of one, whose values in each interval are given: the schedule of a member is trained once more.

    Args:
        schedule: The values of each interval.
    """

    population: int = 1
    schedule: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        """Nothing to check: it is made from a population that was trained."""


@dataclass(frozen=True)
class Member:
    """A trial of a population, as far as the next ones follow from it.

    Attributes:
        number: Its number in the study.
        member: Which member of the population it trains.
        generation: Which interval.
        params: Its values.
        state: ``"open"`` while it runs or waits, ``"ended"``, or ``"void"`` where it failed, so that its place is free.
        value: What it came to; ``None`` for the worst, such as one that diverged.
        goes_on: Whether its training can be gone on with.
    """

    number: int
    member: int
    generation: int
    params: Mapping[str, Any] = field(default_factory=dict)
    state: Literal["open", "ended", "void"] = "ended"
    value: float | None = None
    goes_on: bool = True


@dataclass(frozen=True)
class Next:
    """The next interval.

    Attributes:
        member: Of which member.
        generation: Which one.
        parent: The trial whose training it goes on with, ``None`` in generation 0.
        is_copy: Whether that is another member, so that the values are changed.
        voids: How often it was begun and failed.
    """

    member: int
    generation: int
    parent: Member | None
    is_copy: bool
    voids: int


def next_interval(config: PBT, mode: Mode, made: Sequence[Member], *, seed: int) -> Next | Literal["wait", "end"]:
    """Which interval comes next.

    Args:
        config: The population.
        mode: ``"min"`` or ``"max"``.
        made: Its trials.
        seed: Of whom the weak ones copy follows from it.

    Returns:
        The interval; ``"wait"`` where the running ones have to end first, ``"end"`` where all members have.
    """
    generation = 0
    before: Mapping[int, tuple[Member | None, bool]] = dict.fromkeys(range(config.population), (None, False))
    last = len(config.schedule) if isinstance(config, Replay) else math.inf
    while before and generation < last:
        here = [one for one in made if one.generation == generation]
        taken = {one.member: one for one in here if one.state != "void"}
        for member, (parent, is_copy) in before.items():
            if member not in taken:
                voids = sum(one.state == "void" and one.member == member for one in here)
                return Next(member, generation, parent, is_copy, voids)
        if any(one.state == "open" for one in taken.values()):
            return "wait"
        before = _parents(config, mode, list(taken.values()), seed=seed)
        generation += 1
    return "end"


def _parents(config: PBT, mode: Mode, ended: Sequence[Member], *, seed: int) -> dict[int, tuple[Member, bool]]:
    """With whose training each member goes on after a generation, and whether it is another's."""

    def loss(one: Member) -> float:
        value = math.inf if one.value is None or math.isnan(one.value) else one.value
        return -value if mode == "max" and math.isfinite(value) else value

    ranked = sorted(ended, key=lambda one: (loss(one), one.member))
    alive = [one for one in ranked if one.goes_on and one.value is not None]
    strong = [one for one in ranked[: config.strong] if one in alive] or alive[:1]
    weak = [one for one in ranked[-config.strong :] if one not in strong]
    found: dict[int, tuple[Member, bool]] = {}
    for one in sorted(ended, key=lambda one: one.member):
        if strong and (one in weak or one.value is None):
            draw = random.Random(f"{seed}/{one.generation}/{one.member}")  # noqa: S311 - a search, no secret
            found[one.member] = draw.choice(strong), True
        elif one in alive:
            found[one.member] = one, False
    return found


def explore(
    space: Space, raw: Mapping[str, Any], fresh: Callable[[], Mapping[str, Any]], config: PBT, *, seed: str
) -> dict[str, Any]:
    """The raw values with which a copy goes on; those of the one that was copied where no others are allowed.

    What exists with another option only than before is drawn from the space, where that option is.

    Args:
        space: What is searched.
        raw: The raw values of the one that was copied.
        fresh: Draws a new raw value for each name, also for those that do not exist.
        config: How values are changed.
        seed: What is changed how follows from it.
    """
    draw, searched = random.Random(seed), space.searched  # noqa: S311 - a search, no secret
    for _ in range(_DRAWN):
        drawn = fresh()
        changes = {name: (draw.random() < config.resample, draw.choice(config.perturb)) for name in searched}

        def value_of(name: str, drawn: Mapping[str, Any] = drawn, changes: Mapping[str, Any] = changes) -> Any:
            (is_resampled, factor), d = changes[name], searched[name]
            if is_resampled or name not in raw:
                return drawn[name]
            return d.encode(perturbed(d, d.decode(raw[name]), factor))

        changed = space.walk(value_of)
        if space.allows(changed):
            return changed
    return dict(raw)


def perturbed(d: Distribution, value: Any, factor: float) -> Any:
    """A value multiplied by a factor, within its distribution; one of a list moves to the next value at least."""
    if not _is_number(value) or factor == 1:
        return value
    if (levels := _levels(d)) is not None:
        return _next_level(levels, value, factor)
    low, high = getattr(d, "low", -math.inf), getattr(d, "high", math.inf)
    wanted = min(max(value * factor, low), high)
    if isinstance(low, int) and isinstance(high, int):  # an Int with more values than are listed
        moved = max(round(wanted), value + 1) if value * factor > value else min(round(wanted), value - 1)
        return d.decode(min(max(moved, low), high)) if value else value
    try:
        return d.decode(d.encode(wanted))
    except SpaceError:  # beyond what a normal distribution gives, or between two steps
        return value


_LISTED = 10_000  # values of a distribution that are put in order
_DRAWN = 1_000  # changes that are tried until the condition of the space holds


def _levels(d: Distribution) -> list[Any] | None:
    """The values of a distribution in order; ``None`` where they are too many, or not all numbers."""
    if d.count is None or d.count > _LISTED:
        return None
    values = [d.value(index) for index in range(d.count)]
    return sorted(values) if all(map(_is_number, values)) else None


def _next_level(levels: list[Any], value: Any, factor: float) -> Any:
    at = levels.index(value)
    nearest = min(range(len(levels)), key=lambda index: abs(levels[index] - value * factor))
    if nearest == at and value != 0:
        is_up = (value * factor) > value
        nearest = min(max(at + (1 if is_up else -1), 0), len(levels) - 1)
    return levels[nearest]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
