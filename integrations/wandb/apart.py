"""One trial, one run: what trainings open of W&B by themselves, kept apart with or without a recorder.

The SDK is not imported here, only looked at where the user's code has loaded it: it may be of any version.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunehook.integrations.wandb.logger import LoggerRun, is_keras_callback, is_wandb_logger
from tunehook.integrations.wandb.owners import INSIDE, OWNERS, Holding, Training, refusal
from tunehook.integrations.wandb.sdk import (
    current_run,
    is_finished,
    is_in_sweep,
    list_runs,
    open_runs,
    set_current_run,
    was_returned,
)
from tunehook.trial import Trial, TrialError

_log = logging.getLogger("tunehook")


@dataclass(frozen=True)
class _Met:
    """A run that is open in this process.

    Attributes:
        run: The run.
        key: The key of the trial that has it, ``None`` for one that was open before a trial began.
        was_returned: Whether ``wandb.init`` had returned it once more by then.
    """

    run: Any
    key: str | None
    was_returned: bool


@dataclass(frozen=True)
class _Use:
    """A run that a training has.

    Attributes:
        run: The run.
        holder: What holds it, for messages.
        way_out: How each trial gets a run of its own.
        is_written: Whether the holder writes to it; else it is only the open ``wandb.run``.
    """

    run: Any
    holder: str
    way_out: str
    is_written: bool


@dataclass(frozen=True)
class Before:
    """What was open before a trial.

    Attributes:
        runs: The runs.
        current: ``wandb.run``.
    """

    runs: Sequence[Any] = ()
    current: Any = None


_IN_SWEEP = "in a W&B sweep give the study a WandbRecorder, and the training no run of W&B"

_met: list[_Met] = []
# The loggers of the trial in progress.
_loggers: list[LoggerRun] = []


def set_aside() -> Before:
    """Let ``wandb.init`` open a run of its own in a trial, also where one is open already, which stays ``wandb.run``.

    Not within a sweep, whose only run that is.

    Returns:
        What is open, for `finish_runs`.
    """
    before = Before(open_runs(), current_run())
    _met[:] = [_Met(run, None, was_returned(run)) for run in before.runs]
    _loggers.clear()
    if before.runs and not is_in_sweep():
        list_runs([])
    return before


def claim_runs(trial: Trial, loggers: Sequence[object]) -> None:
    """Note that the runs of a training are this trial's.

    Args:
        trial: The trial.
        loggers: The loggers or callbacks that the user gave to the framework.

    Raises:
        TrialError: One of them is another trial's, or was open before the trial began.
    """
    _loggers[:] = [LoggerRun(logger) for logger in loggers if is_wandb_logger(logger)]
    for use in _uses(loggers):
        met = next((met for met in _met if met.run is use.run), None)
        if met is not None and _is_around(met, use, trial):
            continue
        if met is not None and met.key is None:
            problem = f"holds the W&B run {use.run.id!r}, which was open before the trial"
            raise TrialError(refusal(trial, use, problem))
        _claim(use.run.id, trial, use)
        take(use.run, trial)


def take(run: Any, trial: Trial) -> None:
    """Note that an open run is the trial's."""
    _met[:] = [met for met in _met if met.run is not run and not is_finished(met.run)]
    _met.append(_Met(run, trial.key, was_returned(run)))


def finish_runs(before: Before, trial: Trial | None, exit_code: int) -> None:
    """Finish what a training has opened and left open.

    Args:
        before: What was open before it.
        trial: The trial; ``None`` on a rank that only follows.
        exit_code: How it ended.

    Raises:
        TrialError: A run that was opened in the middle of it is another trial's.
    """
    opened = [run for run in open_runs() if not any(run is other for other in before.runs)]
    try:
        for run in opened:
            _finish(run, exit_code)
    finally:
        _put_back(before)
    if trial is not None and exit_code == 0:
        for run in opened:
            _claim(run.id, trial, Training())


def _uses(loggers: Sequence[object]) -> Iterator[_Use]:
    """The runs of a training: those that a logger or callback writes to, else the open ``wandb.run``."""
    current, found = current_run(), False
    for logger in loggers:
        if is_wandb_logger(logger):
            run, way_out = LoggerRun(logger).resumed(), LoggerRun.way_out
        elif is_keras_callback(logger):
            run, way_out = current, INSIDE
        else:
            continue
        found = True
        if run is not None and not run.disabled:
            yield _Use(run, type(logger).__name__, _way_out(way_out), is_written=True)
    if current is not None and not current.disabled and not found:
        yield _Use(current, Training.holder, _way_out(INSIDE), is_written=False)


def _is_around(met: _Met, use: _Use, trial: Trial) -> bool:
    """Whether an open run stays what it was before the trial: nobody asked for it in the training."""
    return not use.is_written and met.key != trial.key and met.was_returned == was_returned(use.run)


def _way_out(way_out: str) -> str:
    return _IN_SWEEP if is_in_sweep() else way_out


def _claim(run_id: str, trial: Trial, holding: Holding) -> None:
    if (problem := OWNERS.claim_first(run_id, trial)) is not None:
        raise TrialError(refusal(trial, holding, problem))


def _finish(run: Any, exit_code: int) -> None:
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:  # noqa: BLE001 - the trial has ended
        _log.warning("The W&B run %r of a training could not be finished: %r", run.id, error)
    for logger in [logger for logger in _loggers if logger.resumed() is run]:
        logger.release(run)


def _put_back(before: Before) -> None:
    """Open is again what was open before a training, unless that has finished it."""
    left = [run for run in before.runs if not is_finished(run)]
    if left:
        list_runs([*left, *(run for run in open_runs() if run not in left)])
    if before.current in left and current_run() is None:
        set_current_run(before.current)
