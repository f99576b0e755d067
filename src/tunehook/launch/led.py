"""What those who lead trials need of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from tunehook.record import Recorder, StudyPaths
from tunehook.session import Judge, TrialSession
from tunehook.space import Space
from tunehook.trial import Mode, Standing, Trial


class Shown(Protocol):
    """What a table of trials shows of a study."""

    name: str
    metric: str
    others: dict[str, Mode]
    space: Space

    def standing(self) -> Standing:
        """How many trials there are by state, and the best one."""

    def records(self, number: int) -> list[str]:
        """Where the records of a trial are."""


class Led(Shown, Judge, Protocol):
    """A study whose trials are led: whoever leads asks for them, trains them, and tells their end."""

    paths: StudyPaths
    max_failures: int

    @property
    def recorders(self) -> Sequence[Recorder]:
        """Recorders beside the journal."""

    @property
    def is_grid(self) -> bool:
        """Whether it ends by itself, when all combinations are trained."""

    @property
    def ends_by_itself(self) -> bool:
        """Whether there is a last trial: of a grid, or where every member of a population is trained."""

    @property
    def judges(self) -> bool:
        """Whether a stopper answers reports."""

    @property
    def finished(self) -> int:
        """How many trials count, those of other processes too."""

    @property
    def has_waiting(self) -> bool:
        """Whether values wait to be asked again."""

    @property
    def goes_on(self) -> bool:
        """Whether a paused trial is to go on where no new one begins any more."""

    def ask(self) -> Trial:
        """Ask for a trial, which is running from now on."""

    def session(self, trial: Trial) -> TrialSession:
        """The session that leads one trial."""

    def reclaim(self) -> None:
        """Ask the values of trials again whose process is gone."""

    def waits_for(self) -> list[int]:
        """Numbers of the trials that other processes are running."""

    def resting(self, rest: Callable[[float], bool]) -> AbstractContextManager[None]:
        """Wait for a storage that is away in a way of the leader's own."""

    def note_plan(self) -> None:
        """Keep in the storage how many trials are wanted and who leads."""

    def show(self, *, is_last: bool = False) -> None:
        """Let the recorders that show a whole study look at it."""
