"""A study as those see it who lead its trials, or tell who works on it."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol

from tunehook.record import Recorder, StudyPaths
from tunehook.space import Space
from tunehook.trial import Budget, Decision, Mode, Outcome, Standing, Trial

if TYPE_CHECKING:
    from tunehook.search import Method
    from tunehook.session import TrialSession
    from tunehook.storage import Ledger
    from tunehook.study.ask_tell import AskTell


class _Study(Protocol):
    """What a lead hands on of the study itself."""

    name: str
    metric: str
    others: dict[str, Mode]
    space: Space
    paths: StudyPaths
    recorders: list[Recorder]
    max_failures: int

    @property
    def finished(self) -> int:
        """How many trials count."""

    def ask(self) -> Trial:
        """Ask for a trial."""

    def session(self, trial: Trial) -> TrialSession:
        """The session that leads one trial."""

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Take the metric of one step."""

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take the end of a trial."""

    def standing(self) -> Standing:
        """How many trials there are by state, and the best one."""

    def records(self, number: int) -> list[str]:
        """Where the records of a trial are."""


class Lead:
    """A study as those see it who lead its trials, or tell who works on it; see `tunehook.launch.Led`.

    Args:
        study: The study.
        asks: Gives who asks and tells, which opens the storage.
        method: Who proposes values and stops trials.
        show: Lets the recorders that show a whole study look at it.
    """

    def __init__(
        self, study: _Study, asks: Callable[[], AskTell], method: Method, show: Callable[[bool], None]
    ) -> None:
        self._study, self._open, self._method, self._show = study, asks, method, show
        self.name, self.metric, self.others = study.name, study.metric, study.others
        self.space, self.paths, self.max_failures = study.space, study.paths, study.max_failures

    @property
    def _asks(self) -> AskTell:
        return self._open()

    @property
    def _ledger(self) -> Ledger:
        return self._asks.ledger

    # ------------------------------------------------------------------ the study's own

    @property
    def recorders(self) -> Sequence[Recorder]:
        """Recorders beside the journal."""
        return self._study.recorders

    @property
    def finished(self) -> int:
        """How many trials count."""
        return self._study.finished

    def ask(self) -> Trial:
        """See `Study.ask`."""
        return self._study.ask()

    def session(self, trial: Trial) -> TrialSession:
        """See `Study.session`."""
        return self._study.session(trial)

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """See `Study.report`."""
        return self._study.report(trial, step, value, budget)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """See `Study.tell`."""
        self._study.tell(trial, outcome)

    def standing(self) -> Standing:
        """How many trials there are by state, and the best one."""
        return self._study.standing()

    def records(self, number: int) -> list[str]:
        """Where the records of a trial are."""
        return self._study.records(number)

    def show(self, *, is_last: bool = False) -> None:
        """Let the recorders that show a whole study look at it; one that fails is told once and left out.

        Args:
            is_last: Whether this process works on no further trial for now.
        """
        self._show(is_last)

    # ------------------------------------------------------------------ what is to be done

    @property
    def judges(self) -> bool:
        """Whether reports are judged, so that a training has to wait for the answer."""
        return self._method.judges

    @property
    def is_grid(self) -> bool:
        """Whether the search is the exact grid."""
        return self._method.is_grid

    @property
    def ends_by_itself(self) -> bool:
        """Whether there is a last trial: of a grid, or where every member of a population is trained."""
        return self._method.ends_by_itself

    @property
    def has_waiting(self) -> bool:
        """Whether there are values to ask again."""
        return self._ledger.has_waiting

    @property
    def has_promotions(self) -> bool:
        """Whether paused trials are to go on before the study is done, though it has as many trials as wanted."""
        return self._asks.pausing.has_promotions

    @property
    def goes_on(self) -> bool:
        """Whether a paused trial is to go on where no new one begins any more."""
        return self._asks.pausing.next(is_closing=True) is not None

    @property
    def wanted(self) -> int | None:
        """How many trials the study shall have, as `optimize` was asked last; ``None`` where it was not said."""
        return self._ledger.notes.wanted

    def note_plan(self) -> None:
        """Keep in the storage how many trials are wanted and who leads, for those who look at the study."""
        self._ledger.notes.note_plan()

    # ------------------------------------------------------------------ who works on it

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

    def resting(self, rest: Callable[[float], bool]) -> AbstractContextManager[None]:
        """Pass the time in which the storage is away otherwise than by sleep.

        Args:
            rest: Passes so many seconds, and answers whether to wait on; called in any thread that waits.
        """
        return self._ledger.resting(rest)
