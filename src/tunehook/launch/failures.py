"""What befell a trial process, and whether any further trial makes sense."""

from __future__ import annotations

import signal

from tunehook.launch.led import Led
from tunehook.launch.out_of_memory import OutOfMemory
from tunehook.trial import MISUSE, JournalError, Outcome, State, StudyError, TrialError

KILL = int(getattr(signal, "SIGKILL", signal.SIGTERM))
# So many interruptions in a row, with no other end between them, are no accident.
_INTERRUPTIONS = 30
# Every trial would end so.
_ERRORS = {kind.__name__: kind for kind in (*MISUSE, JournalError)}


class Verdicts:
    """Judges the ends of the trials of one call of `Study.optimize`.

    Args:
        study: The study.

    Attributes:
        memory: The watch over what the kernel kills, which has to look often.
    """

    def __init__(self, study: Led) -> None:
        self.memory = OutOfMemory()
        self._study = study
        self._failures: list[Outcome] = []  # in a row
        self._interruptions = self._ran = 0

    def count(self) -> None:
        """A trial has ended."""
        self._ran += 1

    def explain(self, number: int, pid: int | None, code: int) -> tuple[str, State]:
        """What befell a process that told nothing.

        Args:
            number: Its trial's number.
            pid: Its id, ``None`` where it never came in.
            code: Its exit code, negative for a signal.
        """
        who = "its process" if pid is None else f"its process {pid}"
        if code == -KILL and self.memory.has_killed():
            return f"out of memory: the kernel killed {who}", "infeasible"
        output = self._study.paths.output(number)
        if code >= 0:
            return f"{who} ended with exit code {code} in the middle of the training; see {output}", "failed"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        if -code in (KILL, signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
            return f"{who} was killed ({name})", "interrupted"
        return f"{who} crashed ({name}); see {output}", "failed"

    def judge(self, outcome: Outcome, said: tuple[str, str] | None, *, is_done: bool) -> None:
        """Raise where no further trial makes sense.

        Args:
            outcome: How a trial ended.
            said: Name and text of what its training raised, ``None`` for nothing.
            is_done: Whether the training returned.
        """
        self._interruptions = self._interruptions + 1 if outcome.state == "interrupted" else 0
        if self._interruptions >= _INTERRUPTIONS:
            raise StudyError(
                f"{self._interruptions} trials in a row were interrupted, so study '{self._study.name}' stops; the "
                f"last: {outcome.reason}."
            )
        if said is not None and said[0] in _ERRORS:
            raise _ERRORS[said[0]](said[1])
        if outcome.state != "failed":
            if outcome.state != "interrupted":
                self._failures.clear()
            return
        if said is None and outcome.traceback is None and is_done:  # nothing was raised, and nothing was measured
            raise TrialError(outcome.reason)
        self._failures.append(outcome)
        if len(self._failures) >= self._study.max_failures:
            raise self._stopped()

    def close(self) -> None:
        """Raise where all trials failed, fewer than `Study.max_failures`."""
        if self._failures and len(self._failures) == self._ran:
            raise self._stopped()

    def _stopped(self) -> StudyError:
        first = self._failures[0]
        many = "The only trial" if len(self._failures) == 1 else f"{len(self._failures)} trials in a row"
        return StudyError(
            f"{many} failed, so study '{self._study.name}' stops; the first error: {first.reason}\n"
            + (f"{first.traceback.rstrip()}\n" if first.traceback else "")
            + "  Mend the training and start the script again: the study goes on where it was."
        )


def not_importable(text: str) -> Exception:
    """The error for a training function that cannot be loaded in another process.

    Args:
        text: The traceback from there.
    """
    last = next((line for line in reversed(text.splitlines()) if line.strip()), text)
    for name, kind in _ERRORS.items():
        if f"{name}: " in text:
            return kind(text.rpartition(f"{name}: ")[2].strip())
    return StudyError(
        f"The training function cannot be loaded in another process: {last}\n{text.rstrip()}\n"
        "  What the function needs must be importable there, or defined inside it."
    )
