"""The processes of one training: rank 0 asks and decides, and what fails on one of them fails on all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from tunehook.adapter.source import Source
from tunehook.session import TrialSession, check_alone, set_broadcast
from tunehook.system import first_line
from tunehook.trial import InjectionError, TrialError

Value = TypeVar("Value")


class Ranks(Protocol):
    """How the processes of a training speak to each other."""

    @property
    def count(self) -> int:
        """How many they are."""

    @property
    def number(self) -> int:
        """Which of them this one is, from 0."""

    def agree(self, value: Value) -> Value:
        """What rank 0 says."""

    def gather(self, value: Value) -> list[Value]:
        """What each rank says, by rank."""


class Alone:
    """A training of one process."""

    count, number = 1, 0

    def agree(self, value: Value) -> Value:
        """What it says."""
        return value

    def gather(self, value: Value) -> list[Value]:
        """What it says."""
        return [value]


def together(ranks: Ranks, action: Callable[[], object]) -> None:
    """Do something on all ranks; where it fails on one, it fails on all, with that one's message.

    Raises:
        InjectionError: It failed on another rank.
        Exception: What it raised on this one.
    """
    if ranks.count == 1:
        action()
        return
    error: Exception | None = None
    try:
        action()
    except Exception as raised:  # noqa: BLE001 - told to the other ranks first, then raised
        error = raised
    texts = ranks.gather(None if error is None else str(error))
    if error is not None:
        raise error
    for rank, text in enumerate(texts):
        if text is not None:
            raise InjectionError(f"rank {rank}: {text}")


def problem_on(ranks: Ranks, action: Callable[[], object]) -> str:
    """Do something on all ranks; what went wrong on the first one where it did, an empty text where on none."""
    problem = ""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - told in a line by the caller, who goes on without it
        problem = f"{type(error).__name__}: {first_line(error)}"
    return next((said for said in ranks.gather(problem) if said), "")


def claim_session(source: Source, last: TrialSession | None, ranks: Ranks) -> TrialSession | None:
    """The session of the trial that a fit trains: rank 0 asks, and the others get the trial.

    Args:
        source: Where the trial comes from.
        last: The session of the last fit.
        ranks: The processes of the training.

    Raises:
        TrialError: Rank 0 got none, for the reason that it tells; or this process follows another training's rank 0.
    """
    if ranks.count == 1:
        set_broadcast(None)
        if not source.asks:
            check_alone()
        return source.claim(last)
    set_broadcast(ranks.agree)
    session: TrialSession | None = None
    error: Exception | None = None
    if ranks.number == 0:
        try:
            session = source.claim(last)
        except Exception as raised:  # noqa: BLE001 - told to the other ranks first, then raised
            error = raised
    asked = None if session is None else session.trial
    trial, text = ranks.agree((asked, None if error is None else f"rank 0: {error}"))
    if text is not None:
        raise error or TrialError(text)
    return session if session is not None or trial is None else TrialSession(trial)
