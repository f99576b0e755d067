"""Which snapshots of a model's parameters a study takes, and when; and who takes them in one trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tunehook.snapshot.schedule import Schedule

if TYPE_CHECKING:
    from tunehook.snapshot.take import Snapshots

# Parameters by name, and those of their gradients that there are.
Arrays = tuple[Mapping[str, Any], Mapping[str, Any] | None]


@dataclass(frozen=True)
class SnapshotPlan:
    """Which snapshots of a model's parameters and gradients are taken, and when.

    One is taken at the start of each fit and one at its end; between them, at the ends of epochs, as many as fit into a
    share of the training time.

    Attributes:
        names: Which parameters, as patterns such as ``["encoder.*", "*.bias"]``; all of them by default.
        exact: Whether to compute everything from all elements, and not from a sample. Defaults to False.
        sample: Elements of a tensor in its sample, at least 16. Defaults to 16384.
        every: ``n`` for a snapshot every n optimizer steps, ``"epoch"`` for one at the end of each epoch, ``None``
            (default) for the budget.
        budget: Share of the training time that may go into snapshots, between 0 and 1. Defaults to 0.01; ignored with
            ``every``.

    Raises:
        TypeError: ``names`` holds something else than texts, or ``exact`` is not a bool.
        ValueError: A value is none of these.

    Example:
        >>> SnapshotPlan(["*.weight"], every=100).every
        100
    """

    names: Sequence[str] | None = None
    exact: bool = False
    sample: int = 2**14
    every: int | Literal["epoch"] | None = None
    budget: float = 0.01

    def __post_init__(self) -> None:
        if not isinstance(self.exact, bool):
            raise TypeError(f"exact is True or False, not {self.exact!r}.")
        taker = Taker(self)
        if self.names is not None or self.sample != 2**14:  # the default one loads nothing until a snapshot is taken
            taker.load()
        if self.names is not None:
            if not all(isinstance(name, str) for name in self.names):
                raise TypeError(f"names is a list of patterns such as ['*.weight'], not {self.names!r}.")
            object.__setattr__(self, "names", tuple(self.names))


def plan_of(snapshots: SnapshotPlan | bool) -> SnapshotPlan | None:
    """What is meant by a plan, by True (the default one) and by False.

    Raises:
        TypeError: It is none of these.
    """
    if isinstance(snapshots, bool):
        return SnapshotPlan() if snapshots else None
    if not isinstance(snapshots, SnapshotPlan):
        raise TypeError(f"snapshots is True, False, or a plan such as SnapshotPlan(every=100); got {snapshots!r}.")
    return snapshots


class Taker:
    """Takes the snapshots of one trial.

    Args:
        plan: What to take, and when.
    """

    def __init__(self, plan: SnapshotPlan) -> None:
        self._plan = plan
        self._schedule = Schedule(plan.every, budget=plan.budget)
        self._snapshots: Snapshots | None = None

    @property
    def counts_steps(self) -> bool:
        """Whether one may be due at any step, and not only where an epoch ends."""
        return isinstance(self._plan.every, int)

    def restart(self) -> None:
        """Another fit begins, maybe of another model: it has a start of its own, and no update since the last fit."""
        self._schedule.reset()
        self._snapshots = None

    def load(self) -> Snapshots:
        """Load what computes, with NumPy, when it is first needed."""
        if self._snapshots is None:
            from tunehook.snapshot.take import Snapshots

            self._snapshots = Snapshots(self._plan.names, exact=self._plan.exact, sample=self._plan.sample)
        return self._snapshots

    def is_due(self, step: int, *, is_epoch_end: bool, is_end: bool) -> bool:
        """Whether to take one at a step."""
        return self._schedule.is_due_at_end(step) if is_end else self._schedule.is_due(step, is_epoch_end=is_epoch_end)

    @contextmanager
    def measure(self, step: int) -> Iterator[None]:
        """Take the time of a snapshot, and of all that is done with it, inside."""
        with self._schedule.measure(step):
            yield
