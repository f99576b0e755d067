"""What a callback sees of a trial: its values, the decisions about it, and how it ended."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tunehook.system import TRIAL, html_table, short, unknown_attribute
from tunehook.trial import formats
from tunehook.trial.lineage import Lineage
from tunehook.trial.objective import COUNTED, Mode, State

GO_ON = "go on"


@dataclass(frozen=True)
class Trial:
    """One set of hyperparameters to train with.

    Attributes:
        study: Name of the study.
        number: Number of the trial within the study, from 0.
        params: The sampled values by the names of the space.
        folder: Where the trial's record lies.
        metric: Name of the metric that is tuned; empty where someone else searches, whom the training tells itself.
        mode: ``"min"`` or ``"max"``.
        attempt: How many times these values were begun before: 0 unless the trial is asked again.
        key: Names the trial and its later attempts on every machine, such as ``0007-1b2c3d4e``: the number of the first
            attempt, and a digest of the study's name and the time at which it was asked for.
        study_id: Tells the study from others of its name; empty for a trial of someone else's search.
        pauses: How often it was paused before; it goes on from its checkpoint.
        lineage: Where it stands in a population, ``None`` in other searches.
        others: Further metrics, with their modes, where a study has several.
        limits: The lowest and the highest value that a metric may have, by its name; ``None`` for no limit.
    """

    study: str
    number: int
    params: Mapping[str, Any]
    folder: Path
    metric: str
    mode: Mode
    attempt: int = 0
    key: str = ""
    study_id: str = ""
    pauses: int = 0
    lineage: Lineage | None = None
    others: Mapping[str, Mode] = field(default_factory=dict)
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    if not TYPE_CHECKING:  # where every attribute would exist then

        def __getattr__(self, name: str) -> NoReturn:
            """Say what the attributes of other libraries are called here."""
            raise unknown_attribute("a trial", name, TRIAL, dir(type(self)))

    def _repr_html_(self) -> str:
        rows = [(name, repr(value)) for name, value in self.params.items()]
        return html_table(f"trial {self.number} of study {self.study}", rows)

    @property
    def name(self) -> str:
        """The trial's name on disk and on dashboards, such as ``trial-0007``."""
        return f"trial-{self.number:04d}"

    @property
    def is_again(self) -> bool:
        """Whether these values have trained before, so that a checkpoint and records of them may be there."""
        return self.attempt > 0 or self.pauses > 0


def key_of(study: str, number: int, asked: datetime | None) -> str:
    """The key of a first attempt; the time tells apart studies of one name."""
    return f"{number:04d}-{hashlib.sha256(f'{study}/{number}/{asked}'.encode()).hexdigest()[:8]}"


def is_key(text: object) -> bool:
    """Whether a text is one that `key_of` makes."""
    return isinstance(text, str) and re.fullmatch(r"[0-9]{4,18}-[0-9a-f]{8}", text) is not None


def number_of(key: str) -> int:
    """The number of the first attempt, by its key."""
    return int(key.partition("-")[0])


@dataclass(frozen=True)
class Budget:
    """How long a trial may train, so that stopping rules can follow from it.

    Attributes:
        epochs: Number of epochs, ``None`` where the framework does not know it beforehand.
        reports_per_epoch: How often the metric is measured in an epoch; below 1 where several epochs lie between
            two measurements.
    """

    epochs: int | None = None
    reports_per_epoch: float = 1.0

    @property
    def reports(self) -> int | None:
        """Number of reports in a whole trial, at least 1; ``None`` where the epochs are not known."""
        return None if self.epochs is None else max(1, int(self.epochs * self.reports_per_epoch))


@dataclass(frozen=True)
class Decision:
    """The answer to a report: go on, stop or pause, and why.

    Attributes:
        stop: Whether training should end in good order now.
        reason: One sentence for people.
        state: How a trial that is stopped so ends: ``"pruned"`` or ``"infeasible"``; ``"paused"`` where it may go on
            later, from a checkpoint. A callback pauses between two epochs, and not at all where a training could not
            go on exactly.
    """

    stop: bool = False
    reason: str = GO_ON
    state: State = "pruned"


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: ``"complete"``, ``"pruned"`` (a stopping rule), ``"paused"`` (it may go on from its checkpoint),
            ``"infeasible"`` (out of memory, NaN, a broken constraint: the sampler learns to avoid it), ``"failed"``
            (the user's error), ``"interrupted"`` (Ctrl-C, preempted, killed: asked again) or ``"known"`` (from
            elsewhere, not trained here).
        reason: One sentence for people.
        value: The objective, ``None`` where nothing was measured.
        step: The step at which ``value`` was measured.
        traceback: The traceback of a failed trial.
        values: In a study with several metrics, the values of all of them; empty where one is not known.
    """

    state: State
    reason: str = ""
    value: float | None = None
    step: int | None = None
    traceback: str | None = None
    values: tuple[float, ...] = ()

    @property
    def exit_code(self) -> int:
        """What a process that ends so returns: 0 (complete, pruned, paused), 130 (interrupted, as for Ctrl-C) or 1."""
        return {"failed": 1, "infeasible": 1, "interrupted": 130}.get(self.state, 0)


@dataclass(frozen=True)
class FinishedTrial:
    """A trial as the study remembers it, finished or running.

    Attributes:
        number: Number of the trial within the study, from 0.
        params: The sampled values by the names of the space.
        value: The objective, ``None`` where nothing was measured.
        outcome: How it ended; state ``"running"`` while it trains.
        lineage: Where it stands in a population, ``None`` in other searches.
    """

    number: int
    params: Mapping[str, Any]
    value: float | None
    outcome: Outcome
    lineage: Lineage | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The values of all metrics of the study, in their order; empty where one is not known."""
        return self.outcome.values or (() if self.value is None else (self.value,))

    def as_yaml(self) -> str:
        """The values as YAML, a line for each."""
        return formats.as_yaml(self.params)

    def as_python(self) -> str:
        """The values as a dict in Python, a line for each."""
        return formats.as_python(self.params)

    def as_hydra(self) -> str:
        """The values as overrides for an application of Hydra, quoted for a shell: ``lr=0.01 hidden=64``."""
        return formats.as_hydra(self.params)

    def as_arguments(self) -> str:
        """The values as arguments of a command line, quoted for a shell: ``--lr=0.01 --hidden=64``."""
        return formats.as_arguments(self.params)

    def _repr_html_(self) -> str:
        told = f"{self.outcome.state}: {self.outcome.reason}" if self.outcome.reason else self.outcome.state
        rows = [("outcome", told), ("value", short(self.value, digits=6))]
        return html_table(f"trial {self.number}", [*rows, *((name, repr(one)) for name, one in self.params.items())])


@dataclass(frozen=True)
class Standing:
    """Where a study stands.

    Attributes:
        counts: Number of trials by state.
        best: The complete trial with the best value, ``None`` before the first, and with several metrics.
        front: With several metrics, the complete trials that no other one beats.
        running: The trials that run.
    """

    counts: dict[State, int]
    best: FinishedTrial | None
    front: tuple[FinishedTrial, ...] = ()
    running: tuple[FinishedTrial, ...] = ()

    @property
    def finished(self) -> int:
        """How many trials told the search something: complete, pruned, paused and infeasible ones."""
        return sum(self.counts.get(state, 0) for state in COUNTED)


def told_counts(counts: Mapping[State, int]) -> str:
    """How many trials there are of each state, for people."""
    return ", ".join(f"{many} {state}" for state, many in counts.items()) or "no trials"


def count_line(study: str, counts: Mapping[State, int], finished: int, total: int | None) -> str:
    """How many trials a study has, in a line.

    Args:
        study: Its name.
        counts: Number of trials by state.
        finished: How many count.
        total: How many there shall be, ``None`` where it is not known.
    """
    of = f" of {total}" if total is not None else ""
    counted = ", ".join(f"{number} {state}" for state, number in counts.items()) or "none"
    return f"study {study}: {finished}{of} trials finished ({counted})"
