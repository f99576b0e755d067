"""Claimed places: how many trials may run, where several processes come to a number together.

A place is claimed by asking: a process asks for its trial, then counts the finished and running ones, and gives its own
back where they are too many. Of those that do so at once, the last one to ask sees all others. Nothing of it needs a
lock, which storages do not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunehook.storage import Ledger, is_running, stored_owner
from tunehook.study.holders import Holders
from tunehook.study.terms import Terms
from tunehook.trial import StudyFull

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial


class Places:
    """Counts the trials that were wanted.

    Args:
        ledger: The storage.
        holders: Who runs the trials.
        terms: How many are wanted.
    """

    def __init__(self, ledger: Ledger, holders: Holders, terms: Terms) -> None:
        self._ledger, self._holders, self._terms = ledger, holders, terms

    def check(self, asked: AskedTrial | None = None) -> None:
        """Refuse to begin one more trial than was asked for, those that run elsewhere included.

        The number is never exceeded. A trial that was new counts those with a lower number only, so that not all give
        theirs back; one that had waited has a low number and counts all.

        Args:
            asked: The trial that was asked for, ``None`` before.

        Raises:
            StudyFull: There is no place; the trial was given back.
        """
        limit = self._terms.limit
        if limit is None:
            return
        if not self.are_full(asked):
            if asked is not None:
                self._terms.counted.add(asked.number)
            return
        if asked is not None:
            self._ledger.give_back(asked)
        raise StudyFull(
            f"The last of the {limit} trials of study '{self._ledger.name}' are running in other processes."
        )

    def are_full(self, asked: AskedTrial | None = None) -> bool:
        """Whether no new trial begins; see `check`."""
        return self._terms.limit is not None and self._taken(asked) >= self._terms.limit

    def _taken(self, asked: AskedTrial | None) -> int:
        """How many places are taken by trials that have ended, and by others that run."""
        trials = self._ledger.trials()
        has_waited = asked is not None and bool((stored_owner(asked) or {}).get("taken"))
        others = [
            frozen for frozen in trials
            if is_running(frozen)
            and (asked is None or frozen.number < asked.number or (has_waited and frozen.number != asked.number))
        ]  # fmt: skip
        gone = {
            frozen.number for frozen in others
            if frozen.number not in self._terms.counted and not self._holders.is_elsewhere(frozen)
        }  # fmt: skip
        taken = sum(map(self._ledger.has_ended, trials)) + len(others) - len(gone)
        if gone:  # one may have told its end and have gone since the trials were read
            taken += sum(frozen.number in gone and self._ledger.has_ended(frozen) for frozen in self._ledger.trials())
        return taken
