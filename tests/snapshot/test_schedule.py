"""The schedule of snapshots, against a clock that is set by hand."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunehook.snapshot.schedule import Schedule


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Its time."""
        return self.now


def train(schedule: Schedule, clock: Clock, *, steps: int, step: float, cost: float) -> list[int]:
    """The steps at which a training takes snapshots, at the start and the end included."""
    taken = []

    def take(number: int) -> None:
        with schedule.measure(number):
            clock.now += cost
        taken.append(number)

    for number in range(steps + 1):
        if schedule.is_due(number):
            take(number)
        if number < steps:
            clock.now += step
    if schedule.is_due_at_end(steps):
        take(steps)
    return taken


@pytest.mark.parametrize(
    ("every", "steps", "due"),
    [
        (1, 3, [0, 1, 2, 3]),
        (2, 5, [0, 2, 4, 5]),
        (5, 4, [0, 4]),
        (4, 4, [0, 4]),
        ("epoch", 4, [0, 4]),
        (1, 0, [0]),
    ],
)
def test_every_n_steps(every: Any, steps: int, due: list[int]) -> None:
    """At the start, every n steps whatever they cost, and once at the end."""
    clock = Clock()
    assert train(Schedule(every, clock=clock), clock, steps=steps, step=1.0, cost=100.0) == due


def test_every_epoch() -> None:
    """At the start, and where an epoch ends; not twice at one step."""
    schedule = Schedule("epoch", clock=Clock())
    taken = []
    for step, is_end in [(0, False), (1, False), (2, True), (2, True), (3, False), (4, True)]:
        if schedule.is_due(step, is_epoch_end=is_end):
            schedule.spent(step, 1.0)
            taken.append(step)
    assert taken == [0, 2, 4]
    assert not schedule.is_due_at_end(4)
    assert schedule.is_due_at_end(5)


@pytest.mark.parametrize(
    ("cost", "step", "steps", "due"),
    [
        (1.0, 1.0, 99, [0, 99]),  # 99 s pay for less than one
        (1.0, 1.0, 100, [0, 100]),
        (1.0, 1.0, 450, [0, 100, 200, 300, 400, 450]),
        (1.0, 50.0, 8, [0, 2, 4, 6, 8]),
        (1000.0, 1.0, 50, [0, 50]),
        (0.0, 1.0, 10, list(range(11))),
    ],
)
def test_the_budget(cost: float, step: float, steps: int, due: list[int]) -> None:
    """One second every 100 trained ones, beside those at the start and the end."""
    clock = Clock()
    assert train(Schedule(clock=clock), clock, steps=steps, step=step, cost=cost) == due


@given(
    budget=st.floats(0.001, 0.5), costs=st.lists(st.floats(1e-4, 10), min_size=1, max_size=30),
    step=st.floats(1e-3, 100), steps=st.integers(1, 300),
)  # fmt: skip
def test_the_budget_is_kept(budget: float, costs: list[float], step: float, steps: int) -> None:
    """But for the start and what the last snapshot cost more than the one before, whatever each costs."""
    clock = Clock()
    schedule = Schedule(budget=budget, clock=clock)
    trained = spent = 0.0
    taken: list[float] = []
    for number in range(steps):
        if schedule.is_due(number):
            cost = costs[len(taken) % len(costs)]
            with schedule.measure(number):
                clock.now += cost
            if taken:
                spent += cost
                assert spent - max(0.0, cost - taken[-1]) <= budget * trained * (1 + 1e-6) + 1e-6
            taken.append(cost)
        clock.now += step
        trained += step


def test_the_share_is_used() -> None:
    """A training whose snapshots cost the same spends nearly all of its share, as long as they are not many."""
    clock = Clock()
    taken = train(Schedule(budget=0.05, clock=clock), clock, steps=10_000, step=0.1, cost=2.0)
    assert 0.045 <= (len(taken) - 2) * 2.0 / 1000 <= 0.05


def test_the_record_grows_slowly() -> None:
    """Cheap snapshots come ever more rarely: some hundreds in a day."""
    clock = Clock()
    taken = train(Schedule(clock=clock), clock, steps=86_400, step=1.0, cost=0.001)
    assert len(taken) < 120 * math.log10(86_400) + 5
    assert taken[:20] == list(range(20))


def test_a_dear_snapshot_is_paid_for() -> None:
    """After one that costs more than expected, the next one waits until both fit; after cheap ones one is soon due.

    The first at 0; (0 + 1) / 0.1 + 1 = 11; (1 + 1) / 0.1 + 2 = 22; (6 + 5) / 0.1 + 7 = 117; (7 + 1) / 0.1 + 8 = 88 is
    over, and a fiftieth after 118 is 120.4.
    """
    clock = Clock()
    schedule = Schedule(budget=0.1, clock=clock)
    due = []
    for step, cost in enumerate([1.0, 1.0, 5.0, 1.0, 1.0]):
        while not schedule.is_due(step):
            clock.now += 1
        due.append(clock.now - 1000)
        with schedule.measure(step):
            clock.now += cost
    assert due == [0, 11, 22, 117, 121]


def test_asking_changes_nothing() -> None:
    """However often, before and after; a time can be given instead of read."""
    schedule = Schedule(clock=Clock())
    assert [schedule.is_due(0) for _ in range(3)] == [True] * 3
    schedule.spent(0, 1.0)
    before = dict(vars(schedule))
    assert [schedule.is_due(5, now) for now in (1000.0, 1099.9, 1102.0, 1001.0)] == [False, False, True, False]
    assert vars(schedule) == before


def test_an_error_inside_is_paid_for() -> None:
    """A snapshot that fails took its time as well, and is not tried again at once."""
    clock = Clock()
    schedule = Schedule(clock=clock)
    assert schedule.is_due(0)
    with contextlib.suppress(KeyError), schedule.measure(0):
        clock.now += 1
        raise KeyError
    clock.now += 50
    assert not schedule.is_due(1)


@pytest.mark.parametrize("every", [0, -1, 2.0, True, "step", "epochs"])
def test_wrong_every(every: Any) -> None:
    """Refused with what is possible."""
    with pytest.raises(ValueError, match=rf"every is a number of steps from 1, 'epoch' or None .* not {every!r}\."):
        Schedule(every)


@pytest.mark.parametrize("budget", [0, 1, -0.1, 1.5, True, "1 %", float("nan")])
def test_wrong_budget(budget: Any) -> None:
    """Refused with what is possible."""
    with pytest.raises(
        ValueError, match=r"budget is a share of the training time between 0 and 1, such as 0\.01, not "
    ):
        Schedule(budget=budget)
