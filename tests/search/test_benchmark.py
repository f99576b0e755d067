"""The benchmark of searches counts as it says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from search import simulate, table
from search_problems import Curve, Table

import tunehook as th


class Known:
    """A problem whose curves rise to the number of the configuration; its regret is the distance from 10."""

    name = "known"
    space = th.Space({"x": th.Int(0, 10)})
    mode: Literal["min", "max"] = "max"
    epochs: int = 3
    marks: tuple[int, ...] = (2, 6, 9)

    def curve(self, config: Mapping[str, Any]) -> Curve:
        """A third of it, two thirds, all; an epoch of x takes x seconds."""
        return Curve(np.array([1, 2, 3]) / 3 * config["x"], np.full(3, float(config["x"])))

    def regret(self, value: float) -> float:
        """How much is missing."""
        return 10 - value


class Listed:
    """Proposes what is listed, and pauses one behind its first epoch."""

    def __init__(self, numbers: list[int], pause: int | None = None) -> None:
        self.left, self.pause = [*numbers], pause
        self.heard: list[tuple[object, int]] = []

    def ask(self, worker: int) -> tuple[object, Mapping[str, Any]] | None:
        """The next number, which is its own key."""
        if not self.left:
            return None
        number = self.left.pop(0)
        return number, {"x": number}

    def report(self, key: object, epoch: int, value: float) -> bool:
        """Stops the one that is paused."""
        self.heard.append((key, epoch))
        return not (key == self.pause and epoch == 1)


def test_one_worker_counts_epochs() -> None:
    """The incumbent is the best value seen, counted by what its configuration has in the end."""
    search = Listed([3, 9, 6])
    assert simulate(search, Known(), Known.marks, workers=1) == [7, 1, 1]
    assert search.heard == [(3, 1), (3, 2), (3, 3), (9, 1), (9, 2), (9, 3), (6, 1), (6, 2), (6, 3)]


def test_a_trial_that_was_set_aside_goes_on() -> None:
    """Its epochs are not paid again."""
    search = Listed([9, 3, 9], pause=9)
    simulate(search, Known(), (7,), workers=1)
    assert search.heard == [(9, 1), (3, 1), (3, 2), (3, 3), (9, 2), (9, 3)]


def test_workers_share_the_seconds() -> None:
    """Each is asked for when the one before it is done."""
    search = Listed([2, 3, 1])
    assert simulate(search, Known(), (1.9, 2.0, 9.0), workers=2) == pytest.approx([math.nan, 8, 7], nan_ok=True)
    assert search.heard == [(2, 1), (3, 1), (2, 2), (2, 3), (3, 2), (1, 1), (1, 2), (1, 3), (3, 3)]


def test_a_table_is_read_by_its_levels(tmp_path: Path) -> None:
    """The best configuration has regret 0, a median one 1."""
    values = np.arange(10.0**5).reshape((10,) * 5)
    np.savez(tmp_path / "tables.npz", allow_pickle=False, **{"hpobench/vehicle": values})
    problem = Table(tmp_path / "tables.npz", "hpobench/vehicle")
    config = dict.fromkeys(problem.space, 9)
    assert problem.curve(config).values.tolist() == [99_999]
    assert problem.regret(99_999) == 0
    assert problem.regret(49_999.5) == pytest.approx(1)


def test_standard_errors_hold_the_tasks_fixed() -> None:
    """Between tasks nothing counts, between seeds it does."""
    rows = [
        {"suite": "s", "contender": "c", "problem": task, "seed": seed, "workers": 1, "regrets": [base + seed],
         "marks": [1], "cpu_s": 0.0, "version": "v"}
        for task, base in (("a", 0.0), ("b", 100.0)) for seed in (0, 1)
    ]  # fmt: skip
    assert "| c | v | 2 x 2 | 50.500 ± 0.354 | 0.0 |" in table(rows, workers=1)
