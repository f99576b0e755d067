"""Several trials in one process, kept apart: what one training opens by itself does not reach into the next."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tunehook.extensions import KEEPERS, load
from tunehook.trial import Trial

_before: dict[Any, Any] = {}  # by keeper, what was open before the trial


@contextlib.contextmanager
def apart(trial: Trial | None, exit_code: Callable[[], int]) -> Iterator[None]:
    """Put aside what is open, and finish what the training inside opens.

    Args:
        trial: The trial; ``None`` on a rank that only follows.
        exit_code: Tells how the training has ended.

    Raises:
        TrialError: What it opened belongs to another trial.
    """
    _before.clear()
    _before.update({keeper: keeper.set_aside() for keeper in _keepers()})
    try:
        yield
    finally:
        for keeper in _keepers():
            keeper.finish_runs(_before.get(keeper) or keeper.Before(), trial, exit_code())


def begin_again() -> None:
    """Finish what a training function has opened that is left and called once more."""
    for keeper in _keepers():
        keeper.finish_runs(_before.get(keeper) or keeper.Before(), None, 0)
        _before[keeper] = keeper.set_aside()


def claim_runs(trial: Trial, loggers: Sequence[object]) -> None:
    """Check, before the first step, that what the training writes to is the trial's alone.

    Args:
        trial: The trial.
        loggers: The loggers or callbacks that the user gave to the framework.

    Raises:
        TrialError: It is not.
    """
    for keeper in _keepers():
        keeper.claim_runs(trial, loggers)


def _keepers() -> list[Any]:
    return [load(name) for package, name in KEEPERS.items() if package in sys.modules]
