"""What `Study.optimize` was asked for, as far as asking and telling depend on it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Literal

Keep = Literal["best", "all"]

# How often the values of an interrupted trial are asked again before they are given up.
ATTEMPTS = 3


@dataclass
class Terms:
    """What `Study.optimize` was asked for.

    Attributes:
        attempts: How often values are begun that are interrupted each time.
        may_return: Whether the training may return the value of its trial.
        limit: How many trials the study shall have; ``None`` without a limit, and outside of `optimize`.
        deadline: When no further trial begins, in seconds of `time.monotonic`.
        keep: Whose models are kept.
        keeps_checkpoints: Whether a trial that is asked again goes on from its last checkpoint.
        counted: Numbers of the trials of this process that were counted against the limit.
    """

    attempts: int = ATTEMPTS
    keep: Keep | None = None
    may_return: bool = False
    limit: int | None = None
    deadline: float = math.inf
    keeps_checkpoints: bool = False
    counted: set[int] = field(default_factory=set)

    def begin(self, trials: int | None, retries: int | None, timeout: float | None = None) -> None:
        """Take what `optimize` is asked for now."""
        self.attempts = ATTEMPTS if retries is None else retries + 1
        self.keeps_checkpoints = bool(retries)
        self.limit, self.counted = trials, set()
        self.deadline = math.inf if timeout is None else time.monotonic() + timeout

    def end(self) -> None:
        """What holds for trials that are asked for outside of `optimize`."""
        self.limit, self.deadline, self.keeps_checkpoints = None, math.inf, False

    @property
    def is_over(self) -> bool:
        """Whether no further trial begins, since the time is up."""
        return time.monotonic() >= self.deadline
