"""Who runs the trials of a study, as far as can be known from here. Nothing here writes."""

from __future__ import annotations

import os
from collections.abc import Container
from typing import TYPE_CHECKING, Literal

from tunehook.record import Process, is_here, read_processes
from tunehook.storage import Ledger, holder_of, is_running, stored_leader, stored_owner
from tunehook.system import lives

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

Holder = Literal["live", "lost", "unknown"]


class Holders:
    """Who runs the trials of a study.

    Args:
        ledger: The storage.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def of(self, frozen: FrozenTrial) -> tuple[Holder, str]:
        """Whether the process of a running trial lives, as far as can be known here, and what happened to it."""
        return holder_of(frozen, self._processes(frozen), self._ledger.pulse)

    def running(self) -> list[FrozenTrial]:
        """The running trials, once their signs of life were looked at."""
        running, pulse = self._ledger.running(), self._ledger.pulse
        if pulse is not None:
            pulse.look(running)
        return running

    def lost(self) -> dict[int, str]:
        """Numbers of the running trials whose process is known to be gone, and what happened to it."""
        held = {frozen.number: self.of(frozen) for frozen in self.running()}
        return {number: reason for number, (holder, reason) in held.items() if holder == "lost"}

    def are_elsewhere(self) -> list[int]:
        """Numbers of the trials that other processes are running, as far as is known, lost ones until they are told."""
        return [frozen.number for frozen in self._ledger.trials() if self.is_elsewhere(frozen, "live", "lost")]

    def is_elsewhere(self, frozen: FrozenTrial, *holders: Holder) -> bool:
        """Whether another process is known to run a trial, one that lives unless said otherwise."""
        if not is_running(frozen):
            return False
        owner = stored_owner(frozen) or {}
        is_mine = is_here(owner) and owner.get("pid") == os.getpid()
        return not is_mine and self.of(frozen)[0] in (holders or ("live",))

    def attendance(self, lost: Container[int]) -> Literal["live", "gone", "unknown"]:
        """Whether a process works on the study, but for those of the trials that are lost."""
        trials = self._ledger.trials()
        if any(is_running(frozen) and frozen.number not in lost for frozen in trials):
            return "live"
        owners = [stored_leader(self._ledger.study.user_attrs), *map(stored_owner, trials)]
        known = [owner for owner in owners if owner is not None]
        here = {owner["pid"]: owner for owner in known if is_here(owner)}
        if any(map(lives, here.values())):
            return "live"
        return "gone" if known and all(map(is_here, known)) else "unknown"

    def _processes(self, frozen: FrozenTrial) -> list[Process]:
        """What the journal says of the processes of a trial; it says so before the first measurement."""
        if not self._ledger.has_values(frozen):
            return []
        return read_processes(self._ledger.as_trial(frozen))
