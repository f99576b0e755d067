"""Values that are asked again.

They are kept first: a process may be killed between the end of an interrupted trial and the next trial of its values.
So they are an attribute of the trial before its end is; whoever looks for lost trials asks what is missing, and of two
processes that do so at once, the trial with the lower number is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from tunehook.storage import (
    AGAIN,
    ATTEMPT,
    KEY,
    LINEAGE,
    Ledger,
    stored_again,
    stored_attempt,
    stored_key,
    stored_lineage,
)
from tunehook.study.terms import Terms
from tunehook.trial import Outcome, number_of

if TYPE_CHECKING:
    from optuna import Trial as AskedTrial
    from optuna.trial import FrozenTrial


class Again:
    """Asks the values of interrupted trials again, as often as the terms say.

    Args:
        ledger: The storage.
        terms: How often.
    """

    def __init__(self, ledger: Ledger, terms: Terms) -> None:
        self._ledger, self._terms = ledger, terms

    def is_last(self, attempt: int) -> bool:
        """Whether an attempt, counted from 0, is the last one."""
        return attempt + 1 >= self._terms.attempts

    def note(self, trial: AskedTrial | FrozenTrial, raw: Mapping[str, Any], attempt: int, key: str) -> None:
        """Keep what will be asked again before the end of a trial is told."""
        for name, value in self.asked(raw, attempt, key).items():
            self._ledger.note(trial, name, value)

    def asked(self, raw: Mapping[str, Any], attempt: int, key: str) -> dict[str, Any]:
        """The attribute of an interrupted trial that says what will be asked again; none where nothing will."""
        return {} if attempt >= self._terms.attempts else {AGAIN: {"values": dict(raw), **_named(key, attempt)}}

    def ask(self, raw: Mapping[str, Any], attempt: int, key: str) -> None:
        """Ask raw values again, unless they are asked already."""
        if attempt >= self._terms.attempts:
            return
        wanted = _named(key, attempt)
        if not any(wanted.items() <= frozen.user_attrs.items() for frozen in self._ledger.trials()):
            self._ledger.enqueue(raw, wanted | self._place(key))

    def ask_left_out(self, trials: Sequence[FrozenTrial]) -> None:
        """Ask again what a process was to ask that was killed as it told the end of a trial."""
        there = {(stored_key(frozen), stored_attempt(frozen)) for frozen in trials}
        for frozen in trials:
            again = stored_again(frozen)
            if again and frozen.state == TrialState.FAIL and (again[KEY], again[ATTEMPT]) not in there:
                named = _named(again[KEY], again[ATTEMPT]) | self._place(again[KEY])
                self._ledger.enqueue(again["values"], named)

    def _place(self, key: str) -> dict[str, Any]:
        """The attribute that says where a trial stands in a population; none in other searches."""
        first = number_of(key)
        place = next((stored_lineage(one) for one in self._ledger.trials() if one.number == first), None)
        return {} if place is None else {LINEAGE: place}

    def is_double(self, asked: AskedTrial) -> bool:
        """Whether two processes asked the same values again at the same moment; the second of the trials ends here."""
        key, attempt = stored_key(asked), stored_attempt(asked)
        if key is None or attempt is None:
            return False
        wanted = _named(key, attempt)
        first = next(one.number for one in self._ledger.trials() if wanted.items() <= one.user_attrs.items())
        if first == asked.number:
            return False
        outcome = Outcome("interrupted", f"its values are those of trial {first}")
        self._ledger.end(asked, outcome)
        return True


def _named(key: str, attempt: int) -> dict[str, Any]:
    """The attributes of a trial that is asked again."""
    return {ATTEMPT: attempt, KEY: key}
