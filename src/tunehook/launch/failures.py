"""Whether any further trial makes sense after those that have ended."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Any

from tunehook.launch.led import Led
from tunehook.system import last_line
from tunehook.trial import MISUSE, JournalError, Outcome, StorageError, StudyError, TrialError, is_misuse

# So many interruptions in a row, with no other end between them, are no accident.
_INTERRUPTIONS = 30


@dataclass(frozen=True)
class Raised:
    """What a training raised, as a value that travels from its process to the one that asks.

    Attributes:
        text: What it says.
        traceback: Where it was raised.
        kind: Its class, where every trial would end so; else ``None``.
        error: The error itself, in the process that it was raised in.
    """

    text: str
    traceback: str = field(default="", repr=False)
    kind: type[Exception] | None = None
    error: BaseException | None = field(default=None, compare=False)

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        """What was raised here."""
        kind = next((kind for kind in (*MISUSE, JournalError, StorageError) if isinstance(error, kind)), None)
        return cls(str(error), "".join(traceback.format_exception(error)), kind, error)

    def again(self) -> BaseException | None:
        """The error to raise where every trial would end so."""
        return self.kind(self.text) if self.error is None and self.kind is not None else self.error

    def __getstate__(self) -> dict[str, Any]:
        """An error may hold anything, and stays where it is."""
        return {**self.__dict__, "error": None}


class Failures:
    """Judges the ends of the trials of one call of `Study.optimize`.

    Args:
        study: The study.
    """

    def __init__(self, study: Led) -> None:
        self._study = study
        self._failures: list[tuple[Outcome, BaseException | None]] = []  # in a row
        self._interruptions = self._ran = 0

    def count(self) -> None:
        """A trial has ended."""
        self._ran += 1

    def judge(self, outcome: Outcome, raised: Raised | None, *, is_done: bool) -> None:
        """Raise where no further trial makes sense.

        Args:
            outcome: How a trial ended.
            raised: What its training raised, ``None`` for nothing.
            is_done: Whether the training returned.
        """
        self._interruptions = self._interruptions + 1 if outcome.state == "interrupted" else 0
        if self._interruptions >= _INTERRUPTIONS:
            raise StudyError(
                f"{self._interruptions} trials in a row were interrupted, so study '{self._study.name}' stops; the "
                f"last: {outcome.reason}."
            )
        if raised is not None and self.is_final(outcome, raised) and (again := raised.again()):
            raise again
        if outcome.state != "failed":
            if outcome.state != "interrupted":
                self._failures.clear()
            return
        if raised is None and outcome.traceback is None and is_done:  # nothing was raised, and nothing was measured
            raise TrialError(outcome.reason)
        self._failures.append((outcome, None if raised is None else raised.error))
        if len(self._failures) >= self._study.max_failures:
            raise self._stopped()

    @staticmethod
    def is_final(outcome: Outcome, raised: Raised | None) -> bool:
        """Whether every trial would end so.

        Args:
            outcome: How one ended.
            raised: What its training raised, ``None`` for nothing.
        """
        return raised is not None and (raised.kind is not None or is_misuse(outcome))

    def close(self) -> None:
        """Raise where all trials failed, fewer than `Study.max_failures`."""
        if self._failures and len(self._failures) == self._ran:
            raise self._stopped()

    def _stopped(self) -> StudyError:
        first, cause = self._failures[0]
        many = "The only trial" if len(self._failures) == 1 else f"{len(self._failures)} trials in a row"
        if cause is not None:  # with its traceback
            told = f"{cause!r}.\n"
        else:
            told = f"{first.reason}\n" + (f"{first.traceback.rstrip()}\n" if first.traceback else "")
        error = StudyError(
            f"{many} failed, so study '{self._study.name}' stops; the first error: {told}"
            "  Mend the training and start the script again: the study goes on where it was."
        )
        error.__cause__ = cause
        return error


def not_importable(raised: Raised) -> Exception:
    """The error for a training function that cannot be loaded in another process.

    Args:
        raised: What was raised there.
    """
    if raised.kind is not None:
        return raised.kind(raised.text)
    text = raised.traceback or raised.text
    return StudyError(
        f"The training function cannot be loaded in another process: {last_line(text)}\n{text.rstrip()}\n"
        "  What the function needs must be importable there, or defined inside it."
    )
