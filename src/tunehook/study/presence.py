"""Whose trials run: the processes that work on a study, and what is lost of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Container
from typing import TYPE_CHECKING, Literal

from tunehook.study.results import Results

if TYPE_CHECKING:
    from tunehook.storage import Ledger
    from tunehook.study.ask_tell import AskTell


class Presence(Results):
    """What a study has found, and who works on it."""

    @property
    @abstractmethod
    def _asks(self) -> AskTell:
        """Who asks and tells."""

    @property
    def _ledger(self) -> Ledger:
        return self._asks.ledger

    def reclaim(self) -> None:
        """Tell trials whose process is gone as interrupted, and so ask their values again.

        A process of this machine is looked for by its id; one of another machine is lost when it has given no sign of
        life for a minute, seen from here. Loops call this before they ask and while they wait; it does something every
        five seconds at most.
        """
        self._asks.lost.reclaim()

    def lost(self) -> dict[int, str]:
        """Numbers of the running trials whose process is known to be gone, and what happened to it; changes nothing."""
        return self._asks.holders.lost()

    def attendance(self, lost: Container[int]) -> Literal["live", "gone", "unknown"]:
        """Whether a process works on the study: one that runs a trial, or one that has asked for trials and lives.

        Unknown where no trial runs and the processes were on other machines: they may ask for more.

        Args:
            lost: Numbers of the running trials whose process is gone.
        """
        return self._asks.holders.attendance(lost)

    def waits_for(self) -> list[int]:
        """Numbers of the trials that other processes are running, as far as is known, lost ones until they are told."""
        return self._asks.holders.are_elsewhere()

    @property
    def has_waiting(self) -> bool:
        """Whether there are values to ask again."""
        return self._ledger.has_waiting

    @property
    def has_promotions(self) -> bool:
        """Whether paused trials are to go on before the study is done, though it has as many trials as wanted."""
        return self._asks.pausing.has_promotions
