"""Where a study is optimized: here, or by a launcher's processes; and what `Study.optimize` was given."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable
from typing import Any

from tunehook.launch.leader import Launcher, Leader
from tunehook.launch.led import Led
from tunehook.launch.local import lead
from tunehook.launch.progress import Progress
from tunehook.launch.ranks import follow, leading
from tunehook.session import check_idle


def optimize(
    study: Led,
    train: Callable[[], object],
    *,
    trials: int | None,
    timeout: float | None,
    progress: bool,
    workers: int | None = None,
    gpus_per_trial: int = 0,
    report_timeout: float | None = None,
    launcher: Launcher | None = None,
) -> None:
    """Train trials until there are enough, as the process that asks or as one of its ranks.

    Args:
        study: The study.
        train: The training, with a callback that uses the active trial.
        trials: How many finished trials the study shall have, ``None`` for no limit.
        timeout: Seconds after which no further trial begins, ``None`` for no limit.
        progress: Whether to show how the trials go.
        workers: How many trials run side by side, each in a process of its own; ``None`` for one after the other, here.
        gpus_per_trial: GPUs for each of these processes.
        report_timeout: Seconds without a report after which such a process is killed, ``None`` for no limit.
        launcher: Where these processes run, ``None`` for this machine.
    """
    check_idle()  # before anything is asked for, shown or sent
    with leading(study.name) as leads:
        if not leads:
            follow(train)
            return
        end = time.monotonic() + (timeout or float("inf"))
        with contextlib.ExitStack() as stack:
            stack.callback(study.show, is_last=True)
            node: Leader[Any] | None = None
            if launcher is not None:
                node = stack.enter_context(launcher.leader(
                    study, train, trials=trials, end=end, workers=workers, gpus_per_trial=gpus_per_trial,
                    report_timeout=report_timeout,
                ))  # fmt: skip
            elif workers is not None:
                from tunehook.launch.node import Node

                node = stack.enter_context(Node(
                    study, train, trials=trials, end=end, workers=workers, gpus_per_trial=gpus_per_trial,
                    report_timeout=report_timeout,
                ))  # fmt: skip
            study.note_plan()  # opens the storage, while the node's processes import what they need
            table = stack.enter_context(_table(study, trials, is_live=node is not None)) if progress else None
            if node is None:
                lead(study, train, trials=trials, end=end, table=table)
            else:
                node.run(table)


def check_arguments(
    study: Led,
    train: object,
    *,
    trials: int | None,
    timeout: float | None,
    workers: int | None,
    gpus_per_trial: int,
    retries: int | None,
    report_timeout: float | None,
    launcher: Launcher | None = None,
) -> None:
    """Check what `Study.optimize` was given, before any work.

    Raises:
        ValueError, TypeError: What is wrong, and what is possible.
    """
    if trials is not None and (not isinstance(trials, int) or isinstance(trials, bool) or trials < 1):
        raise ValueError(f"trials is an integer above 0, or None; got {trials!r}.")
    if timeout is not None and (not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0):
        raise ValueError(f"timeout is a number of seconds above 0, or None; got {timeout!r}.")
    if trials is None and timeout is None and not study.is_grid:
        raise ValueError("Say how long to search: study.optimize(train, trials=30) or timeout=3600 (seconds).")
    for name, number, least in (
        ("workers", workers, 1),
        ("gpus_per_trial", gpus_per_trial, 0),
        ("retries", retries, 0),
    ):
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < least):
            raise ValueError(f"{name} is an integer from {least}; got {number!r}.")
    if report_timeout is not None and (isinstance(report_timeout, bool) or not report_timeout > 0):
        raise ValueError(f"report_timeout is a number of seconds above 0, or None; got {report_timeout!r}.")
    if launcher is not None and (isinstance(launcher, type) or not hasattr(launcher, "leader")):
        raise TypeError(f"launcher is an instance of a launcher, such as RayLauncher(num_cpus=4); got {launcher!r}.")
    if workers is None and launcher is None and (gpus_per_trial or report_timeout is not None):
        raise ValueError(
            "gpus_per_trial and report_timeout need a process for each trial: study.optimize(train, workers=1)."
        )
    _check_function(train)


def _check_function(train: object) -> None:
    """Check that the training can be called as it will be: without arguments."""
    way_out = (
        "def train(): ..., with TuneCallback() in its fit; th.current() is the trial, th.value('lr', 0.1) one value"
    )
    if not callable(train):
        hint = "\n  Pass the function itself: study.optimize(train, ...), not train()." if train is None else ""
        raise TypeError(f"train is a function of no arguments; got {train!r}.{hint}")
    try:
        signature = inspect.signature(train)
    except (TypeError, ValueError):  # some that are written in C have none
        return
    try:
        signature.bind()
    except TypeError as error:
        name = getattr(train, "__name__", type(train).__name__)
        raise TypeError(
            f"train is called without arguments, but {name}{signature} needs some ({error}).\n  Write {way_out}."
        ) from None


def _table(study: Led, trials: int | None, *, is_live: bool) -> Progress:
    total = study.space.grid_size() if trials is None and study.is_grid else trials
    return Progress(study, total=total, is_live=is_live)
