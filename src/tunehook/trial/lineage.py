"""The place of a trial in its population: each of its trials is one interval of the training of a member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lineage:
    """The place of a trial in a population.

    Attributes:
        member: Which member of the population, from 0.
        generation: Which interval of its training, from 0.
        interval: Epochs of an interval.
        parent: Number of the trial whose training it goes on with, ``None`` in generation 0.
        key: The key of that trial, empty in generation 0.
        names: The hyperparameters that change from interval to interval.
    """

    member: int
    generation: int
    interval: int
    parent: int | None = None
    key: str = ""
    names: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        """After how many epochs of the training its interval ends."""
        return (self.generation + 1) * self.interval

    def describe(self) -> dict[str, Any]:
        """Plain values for a record."""
        place = {"member": self.member, "generation": self.generation, "interval": self.interval}
        return {**place, "parent": self.parent}


INTERVAL_ENDS = "its interval ended"  # how the reason of such a trial begins, whose training may be gone on with
