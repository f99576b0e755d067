"""A study as it is looked at: one frozen picture, from which every figure and every page is made."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunehook.snapshot import Snapshot
from tunehook.space import Space
from tunehook.trial import Lineage, Mode, Outcome, State, is_better

# Logged with each report, and no metrics of their own.
COUNTERS = ("epoch", "global_step")

# What has the value of a training, if only of a part of one.
_MEASURED: tuple[State, ...] = ("complete", "pruned", "paused", "known")


@dataclass(frozen=True)
class Curve:
    """A metric over the reports of a trial.

    Attributes:
        steps: Numbers of the reports.
        values: The metric there; NaN and infinities too.
    """

    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class TrialView:
    """A trial as it is looked at.

    Attributes:
        number: Its number.
        params: Its values, the user's own.
        outcome: How it ended, or that it runs.
        began: When it was asked for, in seconds since 1970; ``None`` where that is not known.
        ended: When it ended; ``None`` while it runs.
        host: The machine that trains it; empty where its journal is not here.
        attempt: How often its values were begun before.
        is_given: Whether its values were enqueued, and not proposed by the search.
        curves: What was measured, by metric, the tuned one among them.
        epochs: How many epochs it has trained, ``None`` where nobody counted them.
        values: The objective of each metric, where the study has several.
        lineage: Where it stands in a population, ``None`` in other searches.
    """

    number: int
    params: Mapping[str, Any]
    outcome: Outcome
    began: float | None = None
    ended: float | None = None
    host: str = ""
    attempt: int = 0
    is_given: bool = False
    curves: Mapping[str, Curve] = field(default_factory=dict)
    epochs: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    lineage: Lineage | None = None

    @property
    def state(self) -> State:
        """How it ended, in a word."""
        return self.outcome.state

    @property
    def value(self) -> float | None:
        """Its objective, ``None`` where nothing finite was measured."""
        value = self.outcome.value
        return value if value is not None and math.isfinite(value) else None

    @property
    def seconds(self) -> float | None:
        """How long it took, ``None`` while it runs."""
        return None if self.began is None or self.ended is None else max(0.0, self.ended - self.began)


@dataclass(frozen=True)
class StudyView:
    """A study as it is looked at.

    Attributes:
        name: Its name.
        metric: The metric that is tuned.
        mode: ``"min"`` or ``"max"``.
        space: What is searched.
        trials: All trials in the order of their numbers.
        best: Number of the best complete trial, ``None`` before the first.
        importance: The share of each hyperparameter, the largest first; nothing where too few trials are complete.
        wanted: How many trials there shall be, ``None`` where nobody said.
        effective: What was in force in the best trial, by slot path.
        versions: What the best trial trained with, by package.
        records: Where the record of the best trial lies.
        snapshots: Of trials by their numbers, as far as they were asked for.
        others: Further metrics, with their modes.
        front: With several metrics, the numbers of the complete trials that no other one beats.
    """

    name: str
    metric: str
    mode: Mode
    space: Space
    trials: Sequence[TrialView]
    best: int | None = None
    importance: Mapping[str, float] = field(default_factory=dict)
    wanted: int | None = None
    effective: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    records: Sequence[str] = ()
    snapshots: Mapping[int, Sequence[Snapshot]] = field(default_factory=dict)
    others: Mapping[str, Mode] = field(default_factory=dict)
    front: Sequence[int] = ()

    @property
    def best_trial(self) -> TrialView | None:
        """The best complete trial."""
        return next((trial for trial in self.trials if trial.number == self.best), None)

    @property
    def front_trials(self) -> list[TrialView]:
        """The complete trials that no other one beats, where there are several metrics."""
        return [trial for trial in self.trials if trial.number in self.front]

    @property
    def measured(self) -> list[TrialView]:
        """The trials with a value that say something of their hyperparameters."""
        return [trial for trial in self.trials if trial.value is not None and trial.state in _MEASURED]

    @property
    def names(self) -> list[str]:
        """The searched names, the most important first, else in the order of the space.

        A hyperparameter that stands in several branches is searched in each of them: ``units[layer='dense']``.
        """
        names = list(self.space.searched)
        weight = {name: self.importance.get(self.space.name_of(name), 0.0) for name in names}
        return sorted(names, key=lambda name: -weight[name])

    @functools.cached_property
    def searched(self) -> Mapping[int, Mapping[str, Any]]:
        """By trial the values by those of `names` that it has: none of a branch that is not chosen."""
        if not self.space.has_branches:
            return {trial.number: trial.params for trial in self.trials}
        return {
            trial.number: {name: trial.params[self.space.name_of(name)] for name in self.space.encode(trial.params)}
            for trial in self.trials
        }

    @property
    def best_so_far(self) -> list[tuple[int, float]]:
        """Numbers and values of the complete trials that were the best when they came, in the order of the numbers.

        With several metrics no single trial is the best.
        """
        found: list[tuple[int, float]] = []
        for trial in () if self.others else self.trials:
            if trial.state == "complete" and is_better(trial.value, found[-1][1] if found else None, self.mode):
                found.append((trial.number, trial.value or 0.0))
        return found
