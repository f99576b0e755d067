"""One trial, one run: what trainings open of W&B by themselves, kept apart with or without a recorder.

The SDK is not imported here, only looked at where the user's code has loaded it: it may be of any version.
"""
# ruff: noqa: SLF001 - which runs are open, and how they came about, has no public way

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunehook.integrations.wandb.logger import LoggerRun, is_keras_callback, is_wandb_logger
from tunehook.record import has, is_text, is_whole, make_folder, open_file, runs_of
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


_INSIDE = "call wandb.init inside the training function, without a fixed id"
_IN_SWEEP = "in a W&B sweep give the study a WandbRecorder, and the training no run of W&B"

_met: list[_Met] = []
# Whose a run is by its id, kept when it is finished, because an id can come back.
_owners: dict[str, Mapping[str, Any]] = {}
# The loggers of the trial in progress.
_loggers: list[LoggerRun] = []


def set_aside() -> Before:
    """Let ``wandb.init`` open a run of its own in a trial, also where one is open already, which stays ``wandb.run``.

    Not within a sweep, whose only run that is.

    Returns:
        What is open, for `finish_runs`.
    """
    before = Before(_open_runs(), _current_run())
    _met[:] = [_Met(run, None, _was_returned(run)) for run in before.runs]
    _loggers.clear()
    singleton = _singleton()
    if before.runs and singleton is not None and not singleton.settings.sweep_id:
        singleton._active_runs.clear()
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
            raise TrialError(refusal(trial, use.holder, problem, use.way_out))
        _check_owner(use.run.id, trial, use.holder, use.way_out)
        take(use.run, trial)


def take(run: Any, trial: Trial) -> None:
    """Note that an open run is the trial's."""
    _met[:] = [met for met in _met if met.run is not run and not _is_finished(met.run)]
    _met.append(_Met(run, trial.key, _was_returned(run)))


def finish_runs(before: Before, trial: Trial | None, exit_code: int) -> None:
    """Finish what a training has opened and left open.

    Args:
        before: What was open before it.
        trial: The trial; ``None`` on a rank that only follows.
        exit_code: How it ended.

    Raises:
        TrialError: A run that was opened in the middle of it is another trial's.
    """
    opened = [run for run in _open_runs() if not any(run is other for other in before.runs)]
    try:
        for run in opened:
            _finish(run, exit_code)
    finally:
        _put_back(before)
    if trial is not None and exit_code == 0:
        for run in opened:
            _check_owner(run.id, trial, "training", _INSIDE)


def refusal(trial: Trial, holder: str, problem: str, way_out: str) -> str:
    """Why a run cannot be a trial's, for people."""
    return (
        f"The {holder} of {trial.name} of study {trial.study!r} {problem}. "
        f"Every trial needs a run of its own: {way_out}."
    )


def _uses(loggers: Sequence[object]) -> Iterator[_Use]:
    """The runs of a training: those that a logger or callback writes to, else the open ``wandb.run``."""
    current, found = _current_run(), False
    for logger in loggers:
        if is_wandb_logger(logger):
            run, way_out = LoggerRun(logger).resumed(), LoggerRun.way_out
        elif is_keras_callback(logger):
            run, way_out = current, _INSIDE
        else:
            continue
        found = True
        if run is not None and not run.disabled:
            yield _Use(run, type(logger).__name__, _way_out(way_out), is_written=True)
    if current is not None and not current.disabled and not found:
        yield _Use(current, "training", _way_out(_INSIDE), is_written=False)


def _is_around(met: _Met, use: _Use, trial: Trial) -> bool:
    """Whether an open run stays what it was before the trial: nobody asked for it in the training."""
    return not use.is_written and met.key != trial.key and met.was_returned == _was_returned(use.run)


def _way_out(way_out: str) -> str:
    singleton = _singleton()
    return _IN_SWEEP if singleton is not None and singleton.settings.sweep_id else way_out


def _check_owner(run_id: str, trial: Trial, holder: str, way_out: str) -> None:
    mine = {"run": run_id, "key": trial.key, "study": trial.study, "trial": trial.number}
    owner = _owners.setdefault(run_id, mine)
    if owner["key"] == trial.key:
        owner = _first_claim(mine, trial)
    if owner["key"] != trial.key:
        whose = f"trial-{owner['trial']:04d} of study {owner['study']!r}"
        raise TrialError(refusal(trial, holder, f"holds the W&B run {run_id!r}, which belongs to {whose}", way_out))


def _first_claim(mine: Mapping[str, Any], trial: Trial) -> Mapping[str, Any]:
    """Whose a run is by what all processes of the study have written, this one now too."""
    path, study = runs_of(trial.folder), trial.folder.parent
    with contextlib.suppress(OSError, UnicodeDecodeError):  # a full disk; the trial's journal tells that
        make_folder(path.parent, below=study)
        with open_file(path, "a+", below=study) as file:
            file.seek(0)
            if mine["run"] not in (earlier := _claims(file)):
                file.write(json.dumps(mine) + "\n")
                file.flush()
                file.seek(0)
                earlier = _claims(file)
            return earlier.get(mine["run"], mine)
    return mine


def _claims(lines: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """The first claim of each run."""
    found: dict[str, Mapping[str, Any]] = {}
    for line in lines:
        with contextlib.suppress(ValueError):  # a line that a killed process has cut off
            claim = json.loads(line)
            if has(claim, {"run": is_text, "key": is_text, "study": is_text, "trial": is_whole}):
                found.setdefault(claim["run"], claim)
    return found


def _finish(run: Any, exit_code: int) -> None:
    try:
        run.finish(exit_code=exit_code)
    except Exception as error:  # noqa: BLE001 - the trial has ended
        _log.warning("The W&B run %r of a training could not be finished: %r", run.id, error)
    for logger in _loggers:
        if logger.logger._experiment is run:
            logger.release(run)


def _put_back(before: Before) -> None:
    """Open is again what was open before a training, unless that has finished it."""
    left = [run for run in before.runs if not _is_finished(run)]
    singleton = _singleton()
    if singleton is not None and left:
        singleton._active_runs[:] = [*left, *(run for run in _open_runs() if run not in left)]
    if before.current in left and _current_run() is None:
        sys.modules["wandb.sdk.wandb_init"]._set_global_run(before.current)


def _open_runs() -> list[Any]:
    singleton, current = _singleton(), _current_run()
    if singleton is None:
        return [] if current is None else [current]
    return list(singleton._active_runs)


def _current_run() -> Any:
    """The run that is ``wandb.run``, ``None`` where it is that of a parent process."""
    run = getattr(sys.modules["wandb"], "run", None)
    return run if run is not None and getattr(run, "_init_pid", os.getpid()) == os.getpid() else None


def _singleton() -> Any:
    """What the SDK holds in this process; ``None`` before its first run, and in versions without a list of runs."""
    found: Any = getattr(sys.modules.get("wandb.sdk.wandb_setup"), "_singleton", None)
    return found if hasattr(found, "_active_runs") and found._pid == os.getpid() else None


def _is_finished(run: Any) -> bool:
    return bool(getattr(run, "_is_finished", False))


def _was_returned(run: Any) -> bool:
    feature = getattr(getattr(run, "_telemetry_obj", None), "feature", None)
    return bool(getattr(feature, "init_return_run", False))
