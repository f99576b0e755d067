"""Which trials pause, and which of those go on: asynchronous successive halving with resume, as rules without IO.

A trial pauses at each rung, and the best of those that have come to a rung go on from there, the highest rung first (Li
et al., 2020, arXiv:1810.05934, algorithm 2). Only where none of them waits, a new trial begins. So an epoch is trained
once, and a trial whose first epochs were worse than they should be is not lost.

A search proposes ever better trials, so that nearly each new one is among the best third, and more than a third would
go on. With ``"pause"`` no more of the first trials do, as where promotions are delayed (Li et al., 2022,
arXiv:2201.06834), so that many are tried for a short time. Later the best half goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tunehook.search.samplers import ASHA, PAUSE, REDUCTION, reports_in, warm_up_epochs
from tunehook.trial import Budget, Mode

_KEPT = 10  # so many may go on from a rung, however few trials there will be
_FIRST = 30  # of so many trials no more than a third goes on from a rung, of more the best half
_HALF = 2


@dataclass(frozen=True)
class Climb:
    """How far a trial has come.

    Attributes:
        trial: Its number.
        values: What it had measured at each rung that it has reached, the first one first.
        waits: Whether it is paused, and may go on from where it is.
        bracket: Trials of one bracket are compared with each other. Defaults to 0.
        is_left: Whether it was left behind, so that it never goes on. Defaults to False.
    """

    trial: int
    values: tuple[float, ...]
    waits: bool = False
    bracket: int = 0
    is_left: bool = False


def rungs_of(budget: Budget) -> tuple[int, ...]:
    """After how many reports a trial pauses, rising.

    At a sixth of the epochs, where a named stopper begins to judge, and at the geometric mean of that and the end.
    There is none where the number of epochs is not known, or too small to save anything.

    Example:
        >>> rungs_of(Budget(epochs=52)), rungs_of(Budget(epochs=10)), rungs_of(Budget(epochs=3)), rungs_of(Budget())
        ((9, 22), (3, 5), (), ())
    """
    last = budget.reports
    if budget.epochs is None or last is None:
        return ()
    first = warm_up_epochs(budget)
    second = round(math.sqrt(first * budget.epochs))
    return tuple(sorted({rung for epochs in (first, second) if (rung := reports_in(epochs, budget)) < last}))


def rungs_by(rule: str, budget: Budget, trial: int) -> tuple[int, tuple[int, ...]]:
    """The bracket of a trial by a rule, and after how many reports it pauses, rising.

    Args:
        rule: ``"pause"`` (see `rungs_of`), ``"asha"`` (each rung is three times the one before), or ``"hyperband"``
            (the same, where some trials leave out the first rungs: Li et al., 2018, arXiv:1603.06560).
        budget: How long the trial trains.
        trial: Its number.

    Example:
        >>> rungs_by("asha", Budget(52), 0), rungs_by("hyperband", Budget(52), 1)
        ((0, (9, 27)), (1, (27,)))
    """
    if rule == PAUSE or not rungs_of(budget):
        return 0, rungs_of(budget)
    epochs, last = warm_up_epochs(budget), budget.reports or 0
    many = math.ceil(math.log((budget.epochs or 1) / epochs, REDUCTION))
    found = {reports_in(epochs * REDUCTION**one, budget) for one in range(many)}
    rungs = tuple(sorted(rung for rung in found if rung < last))
    bracket = 0 if rule == ASHA else _bracket(trial, len(rungs))
    return bracket, rungs[bracket:]


def _bracket(trial: int, rungs: int) -> int:
    """Which bracket of Hyperband a trial is in, from 0, which has all rungs, to the last one, which has none.

    A bracket with s rungs gets a share of 3^s / (s + 1) of the trials, so that all cost about the same.
    """
    shares = [REDUCTION**left / (left + 1) for left in range(rungs, -1, -1)]
    place = sum(shares) * (trial * (math.sqrt(5) - 1) / 2 % 1.0)  # spread evenly, whatever the number of trials
    return next(at for at in range(rungs + 1) if place < sum(shares[: at + 1]) or at == rungs)


def goes_on(climbs: Iterable[Climb], mode: Mode, *, rule: str = PAUSE, is_closing: bool = False) -> int | None:
    """The number of the trial that goes on next; ``None`` where none does, so that a new one begins.

    Args:
        climbs: The trials that have come to the first rung or further, in the order in which they began.
        mode: ``"min"`` or ``"max"``.
        rule: As for `rungs_by`. Defaults to ``"pause"``.
        is_closing: Whether no new trial begins any more. Then a third is rounded up, so that a study with few trials
            ends with at least one that is complete, and the lowest rung comes first, so that all who come to the next
            one are there before the best of them goes on.

    Example:
        >>> climbs = [Climb(0, (0.3,), True), Climb(1, (0.1,), True), Climb(2, (0.2,), True)]
        >>> goes_on(climbs, "min"), goes_on(climbs[:2], "min"), goes_on(climbs[:2], "min", is_closing=True)
        (1, None, 1)
    """
    for there in _brackets(climbs):
        rungs = range(max(len(one.values) for one in there))
        for rung in rungs if is_closing else reversed(rungs):
            order = _ordered(there, rung, mode)
            many = math.ceil(len(order) / REDUCTION) if is_closing else len(order) // _one_of(rule, len(there))
            gone = sum(len(one.values) > rung + 1 or not (one.waits or one.is_left) for one in order)
            if rule == PAUSE and not is_closing and len(there) <= _FIRST and gone >= many:
                continue
            for one in order[:many]:
                if one.waits and len(one.values) == rung + 1:
                    return one.trial
    return None


def foremost(climbs: Iterable[Climb], mode: Mode) -> int | None:
    """The number of the trial that waits at the highest rung, the best there; ``None`` where none waits.

    Args:
        climbs: As for `goes_on`.
        mode: ``"min"`` or ``"max"``.

    Example:
        >>> foremost([Climb(0, (0.3, 0.2), True), Climb(1, (0.1,), True), Climb(2, (0.2, 0.1))], "min")
        0
    """
    there = list(climbs)
    for rung in reversed(range(max((len(one.values) for one in there), default=0))):
        for one in _ordered(there, rung, mode):
            if one.waits and len(one.values) == rung + 1:
                return one.trial
    return None


def left_behind(climbs: Iterable[Climb], most: int, mode: Mode, *, rule: str = PAUSE) -> list[int]:
    """The numbers of paused trials that are not to go on any more: those behind the best share of all.

    The ten best are never among them, for a study that is tried with a few trials first.

    Args:
        climbs: As for `goes_on`.
        most: How many trials there will be at most, of which a third or the half goes on from a rung.
        mode: ``"min"`` or ``"max"``.
        rule: As for `goes_on`.
    """
    return [
        one.trial
        for there in _brackets(climbs)
        for rung in range(max(len(one.values) for one in there))
        for one in _ordered(there, rung, mode)[max(_KEPT, math.ceil(most / _one_of(rule, most))) :]
        if one.waits and len(one.values) == rung + 1
    ]


def _brackets(climbs: Iterable[Climb]) -> list[list[Climb]]:
    """Those that are compared with each other."""
    there = list(climbs)
    return [[one for one in there if one.bracket == bracket] for bracket in sorted({one.bracket for one in there})]


def _one_of(rule: str, begun: int) -> int:
    """Of how many trials at a rung one may go on, where so many have begun."""
    return _HALF if rule == PAUSE and begun > _FIRST else REDUCTION


def _ordered(climbs: Sequence[Climb], rung: int, mode: Mode) -> list[Climb]:
    """Those that have reached a rung, the best there first, of equals the earlier one."""
    sign = 1.0 if mode == "min" else -1.0
    return sorted((one for one in climbs if len(one.values) > rung), key=lambda one: sign * one.values[rung])
