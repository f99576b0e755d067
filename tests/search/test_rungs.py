"""Which trials pause at rungs, and which go on."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from tunehook.search.rungs import Climb, foremost, goes_on, left_behind, rungs_by, rungs_of
from tunehook.trial import Budget

MANY = 300


@pytest.mark.parametrize(
    ("budget", "rungs"),
    [
        (Budget(52), (9, 22)),
        (Budget(100), (17, 41)),
        (Budget(10), (3, 5)),
        (Budget(4), (3,)),  # the second one would be the first
        (Budget(3), ()),
        (Budget(1), ()),
        (Budget(None), ()),
        (Budget(10, 4.0), (12, 20)),  # at the ends of epochs
        (Budget(20, 0.5), (2, 5)),
        (Budget(6, (6 + 1e-6) / 6), (3, 4)),  # as Keras counts
    ],
)
def test_rungs(budget: Budget, rungs: tuple[int, ...]) -> None:
    """A sixth of the epochs, never before the third, and the geometric mean of that and the end."""
    assert rungs_of(budget) == rungs


def test_rungs_of_successive_halving() -> None:
    """Each is three times the one before; Hyperband's brackets leave out the first ones, by shares of 9, 4.5 and 3."""
    assert rungs_by("pause", Budget(52), 5) == (0, (9, 22))
    assert rungs_by("asha", Budget(52), 5) == (0, (9, 27))
    assert rungs_by("asha", Budget(3), 5) == rungs_by("hyperband", Budget(None), 5) == (0, ())
    assert rungs_by("asha", Budget(10, 4.0), 5) == (0, (12, 36))
    found = [rungs_by("hyperband", Budget(52), trial) for trial in range(330)]
    assert {*found} == {(0, (9, 27)), (1, (27,)), (2, ())}
    shares = [sum(bracket == one for bracket, _ in found) for one in range(3)]
    assert shares == pytest.approx([180, 90, 60], abs=3)
    assert sum(bracket == 0 for bracket, _ in found[:11]) == pytest.approx(6, abs=1)


def test_brackets_are_apart() -> None:
    """Each has a best third of its own, now and at the end."""
    climbs = [Climb(number, (0.1 * number,), waits=True, bracket=number % 2) for number in range(6)]
    assert goes_on(climbs, "min") == 0
    gone = [dataclasses.replace(one, waits=one.trial != 0) for one in climbs]
    assert goes_on(gone, "min") == 1
    assert goes_on([one for one in gone if one.trial != 5], "min") is None
    assert left_behind(climbs, 3, "min") == []


W = True  # waits


@pytest.mark.parametrize(
    ("climbs", "now", "at_the_end"),
    [
        ([], None, None),
        ([((0.1,), W)], None, 0),
        ([((0.1,), W), ((0.2,), W)], None, 0),
        ([((0.3,), W), ((0.1,), W), ((0.2,), W)], 1, 1),
        ([((0.1,), W), ((0.1,), W), ((0.2,), W)], 0, 0),  # of equals the first
        ([((0.3,), W), ((0.1, 0.1), False), ((0.2,), W)], None, None),  # the best one trains, or has ended
        ([((0.3,), W), ((0.1, 0.1), W), ((0.2,), W)], None, 1),
        ([((0.3,), W), ((0.1,), False), ((0.2,), W)], None, None),  # it trains to the second rung
        ([((0.2, 0.2), False), ((0.3,), W), ((0.4,), W), ((0.1,), W)], None, 3),  # one of four has gone on already
        ([*[((0.1, 0.1 * one), W) for one in range(3)], ((0.05,), W)], 0, 3),  # the highest rung first, or last
    ],
)
def test_who_goes_on(climbs: list[tuple[tuple[float, ...], bool]], now: int | None, at_the_end: int | None) -> None:
    """The first of the best third that waits; at the end the third is rounded up."""
    there = [Climb(number, values, waits) for number, (values, waits) in enumerate(climbs)]
    for mode, sign in (("min", 1), ("max", -1)):
        turned = [dataclasses.replace(one, values=tuple(sign * value for value in one.values)) for one in there]
        assert goes_on(turned, mode) == now  # type: ignore[arg-type]
        assert goes_on(turned, mode, is_closing=True) == at_the_end  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(MANY))
def test_a_whole_search(seed: int) -> None:
    """Whatever is measured and whoever is slow: shares are kept, nobody passes a better one, the end has a winner."""
    dice = random.Random(seed)
    rungs, trials, workers = dice.randint(1, 3), dice.randint(1, 30), dice.randint(1, 4)
    climbs: list[Climb] = []
    running: list[int] = []
    ended: list[int] = []
    went: dict[int, list[int]] = {rung: [] for rung in range(rungs)}  # who went on from a rung, in order
    while True:
        while len(running) < workers:
            is_closing = len(climbs) == trials
            chosen = goes_on(climbs, "min", is_closing=is_closing)
            if chosen is None and not is_closing:
                chosen = len(climbs)
                climbs.append(Climb(chosen, ()))
            if chosen is None:
                break
            if climbs[chosen].values:
                went[len(climbs[chosen].values) - 1].append(chosen)
                assert climbs[chosen].waits
            climbs[chosen] = dataclasses.replace(climbs[chosen], waits=False)
            running.append(chosen)
        if not running:
            break
        one = running.pop(dice.randrange(len(running)))
        if len(climbs[one].values) == rungs:
            ended.append(one)
        else:
            values = (*climbs[one].values, dice.choice([0.1, 0.2, 0.3, dice.random()]))
            climbs[one] = Climb(one, values, waits=True)
            for behind in left_behind(climbs, trials, "min"):
                climbs[behind] = dataclasses.replace(climbs[behind], waits=False, is_left=True)
    assert ended
    for rung in range(rungs):
        there = [one for one in climbs if len(one.values) > rung]
        assert len(set(went[rung])) == len(went[rung])
        best = sorted(one.values[rung] for one in there)[: math.ceil(len(there) / 3)]
        passed = [climbs[one].values[rung] for one in went[rung]]
        assert all(passed.count(value) >= best.count(value) for value in set(best)), "at the end the best have gone on"
    assert sorted(went[rungs - 1]) == sorted(ended)


def test_who_is_left_behind() -> None:
    """Of 24 trials at most ten go on from a rung, as of three, and of 36 half."""
    climbs = [Climb(number, (0.1 * number,), waits=number != 18) for number in range(21)]
    assert left_behind(climbs, 36, "min") == [19, 20]
    assert left_behind(climbs, 36, "max") == [2, 1, 0]
    assert left_behind(climbs, 45, "min") == []
    assert left_behind(climbs, 24, "min") == left_behind(climbs, 3, "min") == [*range(10, 18), 19, 20]


def test_few_go_on_among_the_first_and_half_later() -> None:
    """Of trials that get better and better: a third of twelve, not counting who is left behind; the best half of 31."""

    def climb(number: int, gone: int) -> Climb:
        return Climb(number, (-number, 0) if number < gone else (-number,), waits=number >= gone)

    first = [climb(number, 4) for number in range(12)]
    assert goes_on(first, "min") is None
    assert goes_on([*first[:3], Climb(3, (-3,), is_left=True), *first[4:]], "min") == 11
    later = [climb(number, 16) for number in range(31)]
    assert goes_on(later, "min") == 30
    assert goes_on([dataclasses.replace(one, waits=one.trial == 16) for one in later], "min") == 16
    assert goes_on([Climb(number, (-number,), number == 15) for number in range(31)], "min") is None


def test_successive_halving_keeps_to_thirds() -> None:
    """As published: whoever is among the best third goes on, however many have, and however many trials there are."""
    climbs = [Climb(0, (0.2, 0.2)), Climb(1, (0.3,), True), Climb(2, (0.1,), True)]
    assert goes_on(climbs, "min", rule="asha") == 2
    assert goes_on(climbs, "min") is None
    many = [Climb(number, (number,), number > 9) for number in range(31)]
    assert goes_on(many, "min") == 10
    assert goes_on(many, "min", rule="hyperband") is None
    assert left_behind(many, 31, "min", rule="asha") == [*range(11, 31)]
    assert left_behind(many, 31, "min") == [*range(16, 31)]


def test_who_is_foremost() -> None:
    """The best of those that wait at the highest rung."""
    climbs = [Climb(0, (0.3, 0.2), waits=True), Climb(1, (0.1,), waits=True), Climb(2, (0.2, 0.1))]
    assert foremost(climbs, "min") == 0
    assert foremost([climbs[1], Climb(3, (0.2,), waits=True)], "max") == 3
    assert foremost([climbs[2]], "min") is None
