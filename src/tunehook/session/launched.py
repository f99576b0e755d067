"""What those who launch trials do with a session: they hand it to a process that trains, which adopts it."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path

from tunehook.record import Journal
from tunehook.session.keeper import Judge
from tunehook.session.session import TrialSession


def hand_over(session: TrialSession) -> TrialSession:
    """A copy for the process that trains, which adopts it; this one stays with whoever asked, to recover."""
    theirs = copy.copy(session)
    theirs.keeper = session.keeper.without_judge()
    return theirs


def adopt(session: TrialSession, judge: Judge, *, place: str = "", folder: Path | None = None) -> None:
    """Train a trial that another process began, in this one.

    Args:
        session: The copy from `hand_over`.
        judge: The way to the one who decides.
        place: Where a cluster runs this process, which it ends where the one that began the trial is gone.
        folder: The trial's folder on this machine, whose lines the judge carries to where the study is. Defaults to
            None: the machine sees the trial's own folder.
    """
    session.pid, session.keeper.judge = os.getpid(), judge
    session.is_adopted, session.ends_with_fit = True, False
    continuation, recorders = session.keeper.continuation, session.keeper.recorders
    if folder is not None:
        session.trial = continuation.trial = dataclasses.replace(session.trial, folder=folder)
        recorders.journal = Journal(folder)
    if recorders.journal is not None and place:
        recorders.journal.task(place)
    elif recorders.journal is not None:
        recorders.journal.process()
    if folder is not None:
        continuation.drop("this machine does not see the study's folder")
        if continuation.models is not None:
            continuation.models.drop("this machine does not see the study's folder")
            continuation.models = None


def settle(session: TrialSession) -> None:
    """Wait, after the end, until the recorders that go on writing beside the training have written all."""
    session.keeper.recorders.wait()
