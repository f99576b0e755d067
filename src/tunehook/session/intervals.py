"""Where the interval of a member of a population ends, and the training is set aside for the next one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tunehook.session.session import TrialSession
from tunehook.trial import INTERVAL_ENDS, Decision, TrialError


def ends_interval(session: TrialSession, epochs: int) -> bool:
    """Whether the trial's interval ends after so many epochs of the training, those of its parents included."""
    lineage = session.trial.lineage
    return lineage is not None and epochs >= lineage.end and not session.decision.stop


def set_aside(session: TrialSession, write: Callable[[Path], None]) -> None:
    """Keep the training for the intervals that come after, and end the trial.

    Args:
        session: The session.
        write: Writes the files of a checkpoint into a folder.

    Raises:
        TrialError: The interval has measured nothing.
        JournalError: There is no room.
    """
    lineage = session.trial.lineage
    assert lineage is not None, "it ends an interval"  # noqa: S101
    if session.is_unmeasured:
        raise TrialError(
            f"An interval of {lineage.interval} epochs ended before '{session.trial.metric}' was measured.\n"
            "  Measure it more often, or give longer intervals: search=th.PBT(interval=...)."
        )
    session.continuation.is_needed = True
    session.keep_checkpoint(write)
    reason = f"{INTERVAL_ENDS}: interval {lineage.generation + 1} of member {lineage.member}"
    decision = Decision(True, reason, "complete")
    if session.keeper.journal is not None:
        session.keeper.journal.decision(session.step, decision)
    session.follow(session.step, decision)
