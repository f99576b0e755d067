"""One trial after the other in this process."""

from __future__ import annotations

import gc
import logging
import random
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from tunehook.launch.led import Led
from tunehook.launch.one import train_one
from tunehook.launch.progress import Progress
from tunehook.launch.ranks import announce
from tunehook.session import TrialSession, broadcast
from tunehook.trial import MISUSE, StudyError, StudyFinished, StudyFull, TrialError, is_misuse

log = logging.getLogger("tunehook")


def lead(study: Led, train: Callable[[], object], *, trials: int | None, end: float, table: Progress | None) -> None:
    """Train one trial after the other, until there are enough.

    Args:
        study: The study.
        train: The training.
        trials: How many finished trials it shall have, ``None`` for no limit.
        end: When no further trial begins, by the monotonic clock.
        table: Shows how the trials go.
    """
    failures: list[BaseException] = []  # in a row
    ran = 0
    while (session := _next(study, trials, end)) is not None:
        announce(session.trial)
        error = train_one(session, train, table)
        ran += 1
        if session.outcome is not None and session.outcome.state != "failed":
            failures.clear()
        elif error is not None:
            failures.append(error)
        _raise_if_over(study, session, error, failures)
        _free_gpu()
    announce(None)
    if failures and len(failures) == ran:  # fewer than max_failures, but nothing was found
        raise _stopped(study, failures)


def _next(study: Led, trials: int | None, end: float) -> TrialSession | None:
    """Ask for a trial, ``None`` where there are enough; waits while the last ones run in other processes.

    One of those may be lost, and its values are asked again then.
    """
    is_told = is_over = False
    # Counted again each time: other processes may work on the same study.
    while (trials is None or study.finished < trials) and time.monotonic() < end:
        try:
            if not is_over or study.has_waiting:
                return study.session(study.ask())
        except StudyFull:
            pass
        except StudyFinished:
            is_over = True
        study.reclaim()
        others = study.waits_for()
        if is_over and not others and not study.has_waiting:
            return None
        if others and not is_told:
            is_told = True
            log.info("Waiting for trials that other processes are running: %s.", ", ".join(map(str, others)))
        time.sleep(random.SystemRandom().uniform(0.5, 1.5) if others else 0.0)
    return None


def _free_gpu() -> None:
    """Free what the last trial has on a GPU: its objects hold each other until Python looks for such, which is late."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()


def _raise_if_over(
    study: Led, session: TrialSession, error: BaseException | None, failures: Sequence[BaseException]
) -> None:
    """Raise where no further trial makes sense."""
    outcome = session.outcome
    assert outcome is not None  # noqa: S101 - it has ended
    if outcome.state == "interrupted" and not session.decision.stop:  # not one that another process took for lost
        raise error if error is not None else KeyboardInterrupt
    if error is None:
        if outcome.state == "failed":  # nothing was raised, and nothing was measured
            raise TrialError(outcome.reason)
        return
    if isinstance(error, MISUSE) or is_misuse(outcome) or broadcast() is not None:
        raise error  # the same in every trial; or the other ranks are gone
    _free(error)
    if len(failures) >= study.max_failures:
        raise _stopped(study, failures)


def _stopped(study: Led, failures: Sequence[BaseException]) -> StudyError:
    many = "The only trial failed" if len(failures) == 1 else f"{len(failures)} trials in a row failed"
    error = StudyError(
        f"{many}, so study '{study.name}' stops; the first error: {failures[0]!r}.\n"
        "  Mend the training and start the script again: the study goes on where it was."
    )
    error.__cause__ = failures[0]
    return error


def _free(error: BaseException) -> None:
    """Let go of what the frames of an error hold, and of those that it was raised from: the model's memory."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        traceback.clear_frames(link.__traceback__)
        chain.append(link)
        link = link.__cause__ or link.__context__
