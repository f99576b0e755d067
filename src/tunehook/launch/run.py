"""Where a study is optimized: here, or by a launcher's processes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from tunehook.launch.leader import Launcher, Leader
from tunehook.launch.led import Led
from tunehook.launch.local import Local
from tunehook.launch.progress import Progress
from tunehook.launch.ranks import follow, leading
from tunehook.launch.request import Request
from tunehook.session import check_idle


def optimize(
    study: Led, train: Callable[[], object], request: Request, *, progress: bool, launcher: Launcher | None = None
) -> None:
    """Train trials until there are enough, as the process that asks or as one of its ranks.

    Args:
        study: The study.
        train: The training, with a callback that uses the active trial.
        request: What was asked for.
        progress: Whether to show how the trials go.
        launcher: Where trial processes run, ``None`` for this machine.
    """
    check_idle()  # before anything is asked for, shown or sent
    with leading(study.name) as leads:
        if not leads:
            follow(train)
            return
        with contextlib.ExitStack() as stack:
            stack.callback(study.show, is_last=True)
            leader = stack.enter_context(_leader(study, train, request, launcher))
            study.note_plan()  # opens the storage, while the node's processes import what they need
            table = stack.enter_context(_table(study, request, leader)) if progress else None
            leader.run(table)


def _leader(study: Led, train: Callable[[], object], request: Request, launcher: Launcher | None) -> Leader[Any]:
    if launcher is not None:
        return launcher.leader(study, train, request)
    if request.workers is None:
        return Local(study, train, request)
    from tunehook.launch.node import Node

    return Node(study, train, request)


def _table(study: Led, request: Request, leader: Leader[Any]) -> Progress:
    total = study.space.grid_size() if request.trials is None and study.is_grid else request.trials
    return Progress(study, total=total, is_live=leader.is_elsewhere)


def check_arguments(study: Led, train: object, request: Request, launcher: Launcher | None = None) -> None:
    """Check what `Study.optimize` was given together, before any work.

    Raises:
        ValueError, TypeError: What is wrong, and what is possible.
    """
    if request.trials is None and request.timeout is None and not study.ends_by_itself:
        raise ValueError("Say how long to search: study.optimize(train, trials=30) or timeout=3600 (seconds).")
    if launcher is not None and (isinstance(launcher, type) or not hasattr(launcher, "leader")):
        raise TypeError(f"launcher is an instance of a launcher, such as RayLauncher(num_cpus=4); got {launcher!r}.")
    needs_processes = request.gpus_per_trial or request.report_timeout is not None
    if request.workers is None and launcher is None and needs_processes:
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
