"""Population-based training as a rule: whose interval comes next, and with what values."""

from __future__ import annotations

import random
from typing import Any

import pytest

import tunehook as th
from tunehook.search.pbt import Member, Next, Replay, explore, next_interval, perturbed

P4 = th.PBT(population=4, quantile=0.25)


def generation(number: int, values: list[float | None], **options: Any) -> list[Member]:
    """A generation that has ended, one member a value."""
    first = number * len(values)
    return [Member(first + at, at, number, {"x": at}, value=value, **options) for at, value in enumerate(values)]


def places(config: th.PBT, made: list[Member], mode: Any = "max") -> list[tuple[int, int, int | None, bool]]:
    """The intervals of a generation, in the order in which they are asked for."""
    found: list[tuple[int, int, int | None, bool]] = []
    while isinstance(one := next_interval(config, mode, made, seed=1), Next):
        parent = None if one.parent is None else one.parent.number
        found.append((one.member, one.generation, parent, one.is_copy))
        made = [*made, Member(len(made), one.member, one.generation, state="open")]
    return found


@pytest.mark.parametrize(
    ("made", "mode", "expected"),
    [
        ([], "max", [(m, 0, None, False) for m in range(4)]),
        (generation(0, [3, 1, 4, 2]), "max", [(0, 1, 0, False), (1, 1, 2, True), (2, 1, 2, False), (3, 1, 3, False)]),
        (generation(0, [3, 1, 4, 2]), "min", [(0, 1, 0, False), (1, 1, 1, False), (2, 1, 1, True), (3, 1, 3, False)]),
        (generation(0, [3, None, None, 2]), "max", [(0, 1, 0, False), (1, 1, 0, True), (2, 1, 0, True),
                                                    (3, 1, 3, False)]),
        (generation(0, [1, 1, 1, 1]), "max", [(0, 1, 0, False), (1, 1, 1, False), (2, 1, 2, False), (3, 1, 0, True)]),
        (generation(0, [None] * 4), "max", []),
        (generation(0, [3, 1, 4, 2], goes_on=False), "max", []),
    ],
    ids=["the first", "max", "min", "diverged ones copy", "equal ones", "none is left", "trained to its end"],
)  # fmt: skip
def test_the_weak_copy_the_strong(made: list[Member], mode: str, expected: Any) -> None:
    """The weakest quarter goes on with the training of the strongest, all others with their own."""
    assert places(P4, made, mode) == expected


def test_a_generation_waits_for_the_one_before() -> None:
    """No interval is asked for while one of the generation before it runs; one that failed is asked for once more."""
    made = generation(0, [3, 1, 4])
    running = [*made, Member(3, 3, 0, state="open")]
    failed = [*made, Member(3, 3, 0, state="void")]

    assert next_interval(P4, "max", running, seed=1) == "wait"
    assert next_interval(P4, "max", failed, seed=1) == Next(3, 0, None, False, 1)
    assert next_interval(P4, "max", generation(0, [1, 2, 3, 4], goes_on=False), seed=1) == "end"


@pytest.mark.parametrize(
    ("d", "value", "factor", "expected"),
    [
        (th.Float(0, 1), 0.5, 0.8, 0.4),
        (th.Float(0, 1), 0.9, 1.2, 1.0),
        (th.Float(1e-4, 1e-1, log=True), 1e-4, 0.8, 1e-4),
        (th.Float(0, 0.5, step=0.1), 0.1, 1.2, 0.2),
        (th.Float(0, 0.5, step=0.1), 0.5, 1.2, 0.5),
        (th.Float(0, 0.5, step=0.1), 0.0, 1.2, 0.0),
        (th.Int(1, 100), 2, 1.2, 3),
        (th.Int(1, 100), 50, 0.8, 40),
        (th.Int(1, 1_000_000, log=True), 10, 1.2, 12),
        (th.Int(1, 1_000_000, log=True), 500_000, 0.8, 400_000),
        (th.Int(1, 1_000_000, log=True), 1, 0.8, 1),
        (th.Int(-100_000, 100_000), -50_000, 1.2, -60_000),
        (th.Choice([64, 8, 16, 32]), 16, 1.2, 32),
        (th.Choice([64, 8, 16, 32]), 16, 0.8, 8),
        (th.Choice([64, 8, 16, 32]), 64, 1.2, 64),
        (th.Choice(["adam", "sgd"]), "sgd", 1.2, "sgd"),
        (th.Choice([True, False]), True, 1.2, True),
        (th.Normal(0, 1), 1.0, 0.5, 0.5),
        (th.Float(-1, 1), -0.5, 1.2, -0.6),
        (th.Int(-9, 9), -3, 1.1, -4),
    ],
)
def test_values_change_a_little(d: Any, value: Any, factor: float, expected: Any) -> None:
    """A number is multiplied and stays within its distribution; levels move by one at least; other choices stay."""
    changed = perturbed(d, value, factor)

    assert changed == pytest.approx(expected)
    assert type(changed) is type(expected)
    d.encode(changed)


def test_bad_settings_are_errors() -> None:
    """Each argument is checked, with what is possible."""
    for bad, said in [
        ({"population": 1}, "population is a whole number, at least 2; got 1."),
        ({"interval": 0.5}, "interval is a whole number, at least 1; got 0.5."),
        ({"perturb": (0, 2)}, r"perturb is a list of factors above 0, such as \(0.8, 1.2\); got \(0, 2\)."),
        ({"resample": 2}, "resample is a probability, from 0 to 1; got 2."),
        ({"quantile": 0.7}, "quantile is a share above 0 and at most 0.5; got 0.7."),
    ]:
        with pytest.raises(ValueError, match=f"^{said}$"):
            th.PBT(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="so it takes no stopper; got stopper='median'"):
        th.Study("s", {"x": th.Float(0, 1)}, metric="m", mode="max", search="pbt", stopper="median")


def test_a_schedule_is_trained_once_more() -> None:
    """A replay is one member, and as many intervals as its schedule has."""
    replay = Replay(schedule=[{"x": 1}, {"x": 2}])

    assert places(replay, []) == [(0, 0, None, False)]
    assert places(replay, generation(0, [1])) == [(0, 1, 0, False)]
    assert next_interval(replay, "max", [*generation(0, [1]), *generation(1, [1])], seed=1) == "end"


@pytest.mark.parametrize("seed", range(5))
def test_the_toy_of_the_paper(seed: int) -> None:
    """Figure 2 of Jaderberg et al. (2017): two members reach 1.2 together, of which each alone comes to 0.4.

    What is to be found is 1.2 - a^2 - b^2, and a member follows the gradient of 1.2 - h0 a^2 - h1 b^2.
    """
    space = th.Space({"h0": th.Float(0, 1), "h1": th.Float(0, 1)})
    config = th.PBT(population=2, quantile=0.5)
    first = [{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0}]
    draw = random.Random(seed)

    def train(weights: tuple[float, float], params: dict[str, float]) -> tuple[float, float]:
        a, b = weights
        for _ in range(4):
            a, b = a - 0.02 * 2 * params["h0"] * a, b - 0.02 * 2 * params["h1"] * b
        return a, b

    def value(weights: tuple[float, float]) -> float:
        return 1.2 - weights[0] ** 2 - weights[1] ** 2

    alone = []
    for params in first:
        weights = (0.9, 0.9)
        for _ in range(60):
            weights = train(weights, params)
        alone.append(value(weights))
    assert max(alone) < 0.4

    made: list[Member] = []
    kept: list[tuple[float, float]] = []
    while len(made) < 120:
        one = next_interval(config, "max", made, seed=seed)
        assert isinstance(one, Next)
        if one.parent is None:
            params, weights = first[one.member], (0.9, 0.9)
        else:
            params, weights = dict(one.parent.params), kept[one.parent.number]
            if one.is_copy:
                seed_of_one = f"{seed}/{len(made)}"
                params = explore(
                    space, params, lambda: {name: draw.random() for name in space}, config, seed=seed_of_one
                )
        kept.append(train(weights, params))
        made.append(Member(len(made), one.member, one.generation, params, value=value(kept[-1])))

    assert max(value(one) for one in kept) >= 1.19
