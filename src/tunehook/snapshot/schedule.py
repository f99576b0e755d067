"""When snapshots are due: within a share of the training time, or every n steps or epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

_SPREAD = 50


class Schedule:
    """Says when a snapshot is due, and learns what they cost.

    One is due at the start of a training and one at its end, whatever they cost. Between them, by default, as many as
    fit into a share of the training time: one is due when it costs, as the last one did, no more than what is left of
    that share. So that the record of a long training does not grow without end, one is due no sooner after the last one
    than a fiftieth of the time since the start: each tenfold of that time has 117 at most.

    Args:
        every: ``n`` for a snapshot every n steps, ``"epoch"`` for one at the end of each epoch, ``None`` (default) for
            the budget.
        budget: Share of the training time that may go into snapshots, between 0 and 1, 0.01 by default: the time since
            the start without the snapshots themselves. The two at start and end do not count. Ignored with ``every``.
        clock: Seconds that never go back.

    Raises:
        ValueError: ``every`` is neither of these, or ``budget`` is not between 0 and 1.

    Example:
        >>> seconds = iter([0.0, 0.0, 2.0, 50.0, 250.0])
        >>> schedule = Schedule(clock=lambda: next(seconds))
        >>> schedule.is_due(0)
        True
        >>> with schedule.measure(0):
        ...     pass  # it takes from 0 to 2 seconds
        >>> schedule.is_due(10), schedule.is_due(20)
        (False, True)
    """

    def __init__(
        self,
        every: int | Literal["epoch"] | None = None,
        *,
        budget: float = 0.01,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if every is not None and every != "epoch" and not (type(every) is int and every >= 1):
            raise ValueError(f"every is a number of steps from 1, 'epoch' or None for the budget, not {every!r}.")
        if isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 < budget < 1:
            raise ValueError(f"budget is a share of the training time between 0 and 1, such as 0.01, not {budget!r}.")
        self.every, self.budget, self._clock = every, budget, clock
        self.reset()

    def reset(self) -> None:
        """Forget everything: another training starts."""
        self._began: float | None = None
        self._step: int | None = None  # of the last snapshot
        self._time = 0.0  # seconds from the start to its end
        self._cost = 0.0
        self._all_costs = 0.0  # seconds of all snapshots
        self._counted = 0.0  # seconds of those that count against the budget
        self._due = 0.0  # no clock below this makes one due

    def is_due(self, step: int, now: float | None = None, *, is_epoch_end: bool = False) -> bool:
        """Whether a snapshot is due at a step; asking changes nothing but when the first call starts the clock.

        Args:
            step: Number of the step, in whatever unit the training counts.
            now: Seconds on the clock, which is read by default.
            is_epoch_end: Whether an epoch ends at this step.
        """
        if self._step is None:
            if self._began is None:
                self._began = self._clock() if now is None else now
            return True
        if step == self._step:
            return False
        if self.every is None:
            return (self._clock() if now is None else now) >= self._due
        return is_epoch_end if self.every == "epoch" else step - self._step >= self.every

    def is_due_at_end(self, step: int) -> bool:
        """Whether one is due at the end of the training: unless the last one was taken at the same step."""
        return step != self._step

    @contextmanager
    def measure(self, step: int) -> Iterator[None]:
        """Take the time of a snapshot, and of all that is done with it, inside."""
        start = self._clock()
        try:
            yield
        finally:
            end = self._clock()
            self.spent(step, end - start, end)

    def spent(self, step: int, seconds: float, now: float | None = None) -> None:
        """Learn what a snapshot cost.

        Args:
            step: Its step.
            seconds: How long it took.
            now: Seconds on the clock when it was done; the clock is read by default.
        """
        now = self._clock() if now is None else now
        if self._began is None:
            self._began = now - seconds
        if self._step is not None:
            self._counted += seconds
        self._step, self._cost, self._time = step, seconds, now - self._began
        self._all_costs += seconds
        self._plan(self._began)

    def _plan(self, began: float) -> None:
        """Set the time at which the share has room for the next one: (time - all costs) * budget = counted + cost."""
        room = (self._counted + self._cost) / self.budget + self._all_costs
        self._due = began + max(room, self._time * (1 + 1 / _SPREAD))
