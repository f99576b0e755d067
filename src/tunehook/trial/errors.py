"""The errors of this package, with what they mean to whoever catches them."""

from __future__ import annotations


class InjectionError(ValueError):
    """A value cannot be set exactly, so the training would not be what its record says."""


class TrialError(RuntimeError):
    """The training does not do what tuning needs, such as logging the metric, so every trial would end this way."""


class JournalError(OSError):
    """The journal of a trial cannot be written."""


class StudyError(RuntimeError):
    """A study that cannot be opened, or cannot go on."""


class StorageError(StudyError):
    """The storage answered with an error, such as that of a full disk. What was measured is in the journals."""


class StorageAway(StudyError):  # noqa: N818 - tells what is the matter
    """The storage did not answer for longer than the study waits. What was measured is in the journals."""


class StudyFinished(StudyError):  # noqa: N818 - an end, not an error, for those who loop over ask()
    """There is nothing left to ask for: every combination of a grid has been handed out."""


class StudyFull(StudyFinished):
    """The last trials that were wanted are running in other processes; where one is lost, its place is free again."""
