"""What this process works on: the trial in progress, its ranks, and whether it only imports a script."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from tunehook.inject import knowing
from tunehook.session.isolation import apart
from tunehook.session.session import TrialSession
from tunehook.system import handling, in_one_go, terminate
from tunehook.trial import StudyError, Trial, TrialError


class _Active:
    """What this process works on: the trial in progress, and how its ranks speak to each other."""

    session: TrialSession | None = None
    # Set while this process runs the trainings that another one, its rank 0, leads.
    follows: bool = False
    # Set while this process imports a training function, and with it perhaps the whole script.
    imports: bool = False
    # Set by an adapter in a training of several ranks: sends a value from rank 0 to all and returns it.
    broadcast: Callable[[Any], Any] | None = None
    # What adapters put around each trial of this process.
    surroundings: ClassVar[list[Callable[[], AbstractContextManager[None]]]] = []


def active() -> TrialSession | None:
    """The session of the trial that this process is working on, ``None`` where there is none."""
    return _Active.session


def left_to_parent(trial: Trial) -> bool:
    """Leave a trial to the parent, where this process was forked in its training; returns whether that is so."""
    session = _Active.session
    if session is None or session.trial.key != trial.key or not session.is_forked:
        return False
    session.tell_forked()
    return True


def check_alone() -> None:
    """Check that a training of one rank is not led by another process, whose values it would never get.

    Raises:
        TrialError: This process follows a rank 0.
    """
    if _Active.follows:
        raise TrialError(
            "This process looks like a rank above 0 (RANK, LOCAL_RANK or SLURM_PROCID is set), so study.optimize waits "
            "for rank 0; but its training runs alone and would use no trial's values.\n"
            "  For a training of several ranks set devices and strategy in the Trainer; for trials side by side unset "
            "these variables, so that each process asks for itself."
        )


def check_ranks(count: int) -> None:
    """Check, before a training starts its ranks, that they may be so many.

    Raises:
        StudyError: They are several, and the training is only looked at.
    """
    if count > 1 and _Active.session is not None and _Active.session.is_alone:
        raise several_ranks(_Active.session.trial.study)


def several_ranks(study: str) -> StudyError:
    """The error for several ranks where a training is only looked at: one would leave, and the others wait for it."""
    return StudyError(
        f"Study '{study}' cannot read the values of a training of several ranks.\n"
        "  Call study.enqueue_defaults once with a training of one device, or name the values: study.enqueue({...})."
    )


def is_following() -> bool:
    """Whether this process runs the trainings that another one, its rank 0, leads."""
    return _Active.follows


@contextlib.contextmanager
def following() -> Iterator[None]:
    """Run trainings whose values come from rank 0."""
    _Active.follows = True
    try:
        yield
    finally:
        _Active.follows = False


def set_broadcast(broadcast: Callable[[Any], Any] | None) -> None:
    """Let the study's loop speak to the other ranks of the training, which run the same loop."""
    _Active.broadcast = broadcast


def broadcast() -> Callable[[Any], Any] | None:
    """How rank 0 speaks to the other ranks, ``None`` in a training of one."""
    return _Active.broadcast


@contextlib.contextmanager
def activate(session: TrialSession, *, is_next: bool = False) -> Iterator[TrialSession]:
    """Make a session the active one for the callbacks inside.

    Args:
        session: The session.
        is_next: Whether the training function is called already, and has trained an earlier trial. Defaults to False.
    """
    check_idle()
    _Active.session = session
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(knowing(session.trial, may_return=session.may_return, is_next=is_next))
            stack.enter_context(apart(session.trial, lambda: session.outcome.exit_code if session.outcome else 1))
            for make in _Active.surroundings:
                stack.enter_context(make())
            yield session
    finally:
        _Active.session = None


def surround(make: Callable[[], AbstractContextManager[None]]) -> None:
    """Put something around each trial of this process, so that one trial leaves no trace in the next.

    Args:
        make: Makes a context manager, which is entered before the training function is called.
    """
    if make not in _Active.surroundings:
        _Active.surroundings.append(make)


@contextlib.contextmanager
def sigterm_raised() -> Iterator[None]:
    """Turn SIGTERM into `Terminated` inside, where nobody handles it and signals arrive: in the main thread."""
    is_free = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with handling(terminate, *([signal.SIGTERM] if is_free else [])):
        yield


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import a training function; what it would train or ask by being imported is refused."""
    _Active.imports = True
    try:
        with in_one_go():
            yield
    finally:
        _Active.imports = False


def check_not_importing() -> None:
    """Check that a script is not run again only to get at its training function.

    Raises:
        TrialError: It is.
    """
    if _Active.imports:
        raise TrialError(
            "The script tunes as soon as it is imported, but each trial process has to import it for its training "
            "function.\n"
            "  Put the part that starts the study under `if __name__ == '__main__':`, as for multiprocessing."
        )


def check_idle() -> None:
    """Check that this process is not in the middle of a trial, nor imports a script for one.

    Raises:
        TrialError: It is.
    """
    check_not_importing()
    if _Active.session is not None and not _Active.session.is_over:
        if _Active.session.ends_with_fit:
            raise TrialError(
                f"study.optimize is called by a script that is run again for trial {_Active.session.trial.number} of "
                f"study '{_Active.session.trial.study}', which a TuneCallback(study) has asked for.\n"
                "  Keep one of them: study.optimize(train, trials=...) with TuneCallback() in the fit of train, or a "
                "script with TuneCallback(study) alone, which trains one trial each time that it is started."
            )
        raise TrialError(
            f"Trial {_Active.session.trial.number} of study '{_Active.session.trial.study}' is still open in this "
            "process; a trial cannot start another one inside.\n  End it first, or run the inner study by itself."
        )
