"""Whether a fit goes on from a checkpoint of an earlier attempt, and when it keeps one: the same in every framework.

How a training is written and restored is the adapter's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tunehook.adapter.ranks import Ranks
from tunehook.session import Found, TrialSession, ends_interval, set_aside
from tunehook.system import Notice


class Resume:
    """The checkpoints of one fit, on all ranks.

    An adapter asks `find` for one to restore, and says `start_over` where that fails; it calls `begin` before the first
    step and, where that says so, `open`; then between two epochs `begin_epoch`, `is_due` and `keep`; and `close`.

    Args:
        session: The session of the trial.
        ranks: The processes of the training.
        why_not: Why the fit could not go on exactly, an empty text where it can.

    Attributes:
        notice: SIGTERM, held back where an epoch ends soon.
    """

    def __init__(self, session: TrialSession, ranks: Ranks, why_not: str) -> None:
        self.notice = Notice()
        self._session, self._ranks = session, ranks
        self._found: Found | None = None
        why_not = "it has more than one fit" if session.fits else why_not
        self.is_kept, self._why_not = ranks.agree((session.continuation.checkpoints is not None, why_not))

    @property
    def is_exact(self) -> bool:
        """Whether checkpoints are kept and the fit could go on from one, as far as is known."""
        return self.is_kept and not self._why_not

    def drop(self, why: str) -> None:
        """Keep none from now on, and remove those that there are."""
        self.is_kept, self._why_not = False, ""
        self._session.continuation.drop(why)

    def find(self) -> Path | None:
        """The folder of the checkpoint to go on from, the same on all ranks; ``None`` where there is none."""
        self._found = self._session.continuation.find()
        return self._ranks.agree(None if self._found is None else self._found.folder)

    def start_over(self, problem: str) -> None:
        """Say that the checkpoint which was found cannot be restored; everything is as it was."""
        self._found = None
        if self._ranks.number == 0:
            self._session.continuation.start_over(f"its checkpoint cannot be restored: {problem}")

    def begin(self, why_not: str = "") -> bool:
        """Begin to train.

        Args:
            why_not: Why the fit could not go on exactly, as is known only now. Defaults to ``""``.

        Returns:
            Whether checkpoints are kept.
        """
        why_not = self._why_not or why_not
        if self.is_kept and why_not:
            self.drop(why_not)
        self._session.fits += 1
        return self.is_kept

    def open(self, *, is_restored: bool) -> None:
        """Listen for SIGTERM, where there is one process to hear it, and go on from what was restored, if anything."""
        if is_restored and self._found is not None and not self._found.is_parents:
            self._session.go_on(self._found)
        if (checkpoints := self._session.continuation.checkpoints) is not None:
            checkpoints.begin()
        if self._ranks.count == 1:
            self.notice.open()

    @property
    def is_parents(self) -> bool:
        """Whether the checkpoint that was found is another trial's, with whose training this one goes on."""
        return self._ranks.agree(self._found is not None and self._found.is_parents)

    def ends_interval(self, epochs: int) -> bool:
        """Whether a member of a population is set aside after so many epochs of its training."""
        return ends_interval(self._session, epochs)

    def set_aside(self, write: Callable[[Path], None]) -> None:
        """Keep the training for others to go on with, and end the trial.

        Args:
            write: Writes the files of a checkpoint into a folder, on rank 0.
        """
        set_aside(self._session, write)

    def is_due(self, size: int) -> bool:
        """Whether it is time for a checkpoint of so many bytes, as far as this rank knows; for a pause it always is."""
        checkpoints = self._session.continuation.checkpoints
        return checkpoints is not None and (self._session.pause is not None or checkpoints.is_due(size))

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Make a checkpoint inside, whose time counts for when the next one is due."""
        checkpoints = self._session.continuation.checkpoints
        with contextlib.nullcontext() if checkpoints is None else checkpoints.measure():
            yield

    def keep(self, write: Callable[[Path], None]) -> None:
        """Keep a checkpoint; one that fails is told in a line. With one that is kept, a trial that is to pause stops.

        Args:
            write: Writes its files into a folder, on rank 0.
        """
        self._session.keep_checkpoint(write)
        self.is_kept = self._ranks.agree(self._session.continuation.checkpoints is not None)
        if self._ranks.count > 1:
            self._session.follow(*self._ranks.agree((self._session.step, self._session.decision)))

    def close(self) -> None:
        """Undo what was for this fit only; may be called more than once."""
        self.notice.close()


def scaled(present: float, old: float, new: float) -> float:
    """A rate that began with one value and was changed since, as it would be had it begun with another one.

    Args:
        present: What it is now.
        old: With what it began.
        new: With what it shall have begun.
    """
    return new if present == old or old == 0 else present * new / old


def parts_of(loader: object) -> Iterator[object]:
    """A loader of data, and what it draws from."""
    todo, seen = [loader], set[int]()
    while todo:
        part = todo.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        todo += [getattr(part, name, None) for name in ("dataset", "sampler", "batch_sampler")]
