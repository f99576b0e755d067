"""The ranks of a training: one process leads the study, those that a framework starts from it follow."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator

from tunehook.inject import handed_trial, knowing
from tunehook.launch.one import call, forget_plans, may_return, with_values
from tunehook.session import apart, broadcast, following, set_broadcast
from tunehook.trial import Trial

# Names the process that leads a study; the ranks that a framework starts from it inherit the variable.
_LEADER = "TUNEHOOK_LEADER"
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


@contextlib.contextmanager
def leading(name: str, *, leads: bool | None = None) -> Iterator[bool]:
    """Whether this process leads the study of a name; while it does, the processes that it starts know."""
    leads, before = not _is_follower(name) if leads is None else leads, os.environ.get(_LEADER)
    if leads:
        os.environ[_LEADER] = f"{os.getpid()}:{name}"
    set_broadcast(None)
    forget_plans(has_ranks_from_outside=is_one_of_several() and (leads or handed_trial() is None))
    try:
        yield leads
    finally:
        set_broadcast(None)
        os.environ.pop(_LEADER, None)
        if before is not None:
            os.environ[_LEADER] = before


def follow(train: Callable[[], object]) -> None:
    """Run the trainings that rank 0 begins; the callbacks get their values from it."""
    trial, goes_on = handed_trial(), True
    with following():
        while goes_on:
            with apart(None, lambda: 0), knowing(trial, may_return=may_return(train)):
                if (error := call(functools.partial(with_values, train, trial), lambda _: None)) is not None:
                    raise error
            channel = broadcast()
            trial = None if channel is None else channel(None)
            goes_on = trial is not None


def announce(trial: Trial | None) -> None:
    """Tell the ranks that follow which trial comes, if any; the first one, which starts them, they begin unasked."""
    channel = broadcast()
    if channel is not None:
        channel(trial)


def _is_follower(name: str) -> bool:
    leader, _, led = os.environ.get(_LEADER, "").partition(":")
    if leader:
        return leader != str(os.getpid()) and led == name
    return any(os.environ.get(rank, "0") != "0" for rank in _RANKS)


def is_one_of_several() -> bool:
    """Whether a launcher such as torchrun, srun or Lightning's has started this process as one rank of several."""
    has_rank = any(name in os.environ for name in _RANKS)
    return has_rank and any(os.environ.get(name, "1") != "1" for name in ("WORLD_SIZE", "SLURM_NTASKS"))
