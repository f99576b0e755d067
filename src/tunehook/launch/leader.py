"""Leading a study: when to ask for a trial, what its end means, and when to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from tunehook.extensions import LAUNCHERS, load
from tunehook.launch.failures import Failures, Raised
from tunehook.launch.led import Led
from tunehook.launch.progress import Progress
from tunehook.launch.request import Request
from tunehook.session import TrialSession
from tunehook.system import Terminated, handling
from tunehook.trial import Budget, Decision, Outcome, State, StorageAway, StudyFinished, StudyFull

log = logging.getLogger("tunehook")

KILL = int(getattr(signal, "SIGKILL", signal.SIGTERM))
# Seconds between looks at what nobody announces: limits of time, processes without a warm parent, the table.
PULSE = 0.2
PULSE_FRESH = 0.02
_SHARE = 0.05  # of the time that counting the trials may take; those with many reports are read slowly
_PAUSE = 1.0  # while other processes run the last trials
# Seconds that a process may live on after its trial, such as to upload to W&B.
LINGER = 120.0
# Seconds that trials have to end in good order where the study ends with an error, and processes that hung up.
GRACE = 10.0
# After so many seconds in which nobody was listened to, no process is blamed for its silence.
_DEAF = 3.0
# Where the study was asked to end, a storage is waited for no longer than up to a rest of so many seconds.
_HICCUP = 0.5
RECORDERS = ("A recorder of the study", "Let it open files and connections in open(), not in its constructor.")
VARIABLE = "TUNEHOOK_LAUNCHER"  # the launcher of studies that are given none


@dataclass
class Running:
    """A trial that has begun.

    Attributes:
        token: Names it on its way here.
        session: The session, of which one stays here to recover the trial where its process is gone.
        pid: The id of its process, once that has said hello.
        told: How the trial ended, once that is known.
        is_done: Whether the training function has returned.
        heard: When it began, or reported last.
        asked: When it was asked to end in good order.
        why: Why it was killed from here.
    """

    token: str
    session: TrialSession
    pid: int | None = None
    told: Outcome | None = None
    is_done: bool = False
    heard: float = field(default_factory=time.monotonic)
    asked: float | None = None
    why: str = ""


One = TypeVar("One", bound=Running)


class Launcher(Protocol):
    """Where trials run other than on this machine, such as `RayLauncher` in ``tunehook.integrations.ray``."""

    def leader(self, study: Led, train: Callable[[], object], request: Request) -> Leader[Any]:
        """Who leads the study there, as `Study.optimize` was asked to."""


class Leader(ABC, Generic[One]):
    """Leads a study; a context, in which its trials can be started.

    Args:
        study: The study.
        request: What was asked for.
    """

    is_elsewhere: ClassVar[bool] = True  # so that trials write nothing on this terminal

    def __init__(self, study: Led, request: Request) -> None:
        self._study, self._request = study, request
        self._end = time.monotonic() + (request.timeout or float("inf"))
        self._table: Progress | None = None
        self._running: dict[str, One] = {}
        self._refused: type[StudyFinished] | None = None  # why no trial could be asked for, until one ends
        self._is_told = False
        self._finished, self._recount = 0, float("-inf")  # trials of the study, and when they are counted next
        self._signals: list[int] = []
        self._heeded = 0  # of the signals
        self._asked_to_end = 0.0
        self._thread = threading.get_ident()
        self._checked = time.monotonic()
        self._failures = Failures(study)

    def __enter__(self) -> Self:
        """Begin to make ready what the trials need."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what is left."""

    def run(self, table: Progress | None = None) -> None:
        """Train until there are enough trials.

        Args:
            table: The live table.

        Raises:
            StudyError: Too many trials in a row failed, or no process can be started.
            InjectionError, TrialError: The script has to change.
            JournalError, StorageError: A journal or the storage cannot be written, as where the disk is full.
            KeyboardInterrupt, Terminated: Ctrl-C or SIGTERM, once the running trials have ended.
        """
        self._table = table
        with handling(self._note, signal.SIGINT, signal.SIGTERM), self._study.resting(self._rest):
            try:
                self._open()
                self._loop()
                self._wait_for_uploads()
            except BaseException as error:
                is_wanted = isinstance(error, StorageAway) and bool(self._signals)
                self._end_all(GRACE)
                if not is_wanted:
                    raise
                log.warning("%s", error)
        if self._signals:
            raise KeyboardInterrupt if self._signals[0] == signal.SIGINT else Terminated(128 + self._signals[0])
        self._failures.close()

    # ------------------------------------------------------------------ said by who runs them

    @abstractmethod
    def _begin(self, session: TrialSession) -> None:
        """Start a trial elsewhere, and note it among those that run."""

    @abstractmethod
    def _listen(self, seconds: float) -> None:
        """Take what came from the trials, and wait for it."""

    @abstractmethod
    def _signal(self, one: One, number: int) -> None:
        """Ask a trial to end in good order (SIGTERM), or end it with all that it started (SIGKILL)."""

    def _open(self) -> None:
        """Wait until trials can be started."""

    def _wake(self) -> None:
        """Wake who listens, from a signal handler."""

    def _collect(self, seconds: float) -> None:
        """Let this time pass while the storage is away; what comes from the trials may be kept for later."""
        time.sleep(seconds)

    def _has_said_its_end(self, one: One) -> bool:
        """Whether nothing more is to be waited for from a trial that was asked to end."""
        return one.told is not None

    def _forgive(self, one: One, now: float) -> None:
        """Take the silence of a trial for ours: nobody listened."""
        one.heard = now

    def _busy(self) -> list[One]:
        """Those that take a place."""
        return [one for one in self._running.values() if not one.is_done]

    def _places(self) -> int:
        """How many may run at once."""
        return self._request.workers or 1

    def _prepare(self, left: int) -> None:
        """Make ready for the next trials, as many as are left; called where there is no place, or none is left."""

    @property
    def _pulse(self) -> float:
        return PULSE

    def _overdue(self, one: One) -> str | None:
        """Why a trial is to be killed, ``None`` where it is not."""
        limit = self._request.report_timeout
        if one.is_done or one.pid is None or limit is None or time.monotonic() - one.heard <= limit:
            return None
        return f"no report for {limit:g} s, so its process was killed"

    # ------------------------------------------------------------------ the loop

    def _loop(self) -> None:
        while True:
            self._heed()
            self._fill()
            if self._busy():
                self._listen(self._pulse)
            elif not self._waits():
                return
            self._check_limits()
            if self._table is not None:
                self._table.refresh()

    def _check_limits(self) -> None:
        """Kill what says nothing for too long."""
        now = time.monotonic()
        was_deaf, self._checked = now - self._checked > _DEAF, now
        for one in list(self._running.values()):
            if was_deaf:  # the storage was away
                self._forgive(one, now)
            if (why := self._overdue(one)) is not None:
                self._kill(one, why)

    def _heed(self) -> None:
        """Stop as often as it was asked for."""
        if len(self._signals) > self._heeded:
            self._asked_to_end = self._asked_to_end or time.monotonic()
            self._heeded = len(self._signals)
            self._stop(by_force=self._heeded > 1)

    def _rest(self, seconds: float) -> bool:
        """While the storage is away, let the trainings go on, and heed Ctrl-C; answers whether to wait on."""
        if threading.get_ident() != self._thread:  # a recorder that looks at the study
            time.sleep(seconds)
            return True
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._heed()
            if self._signals and self._is_rest_over(seconds):
                return False
            self._collect(min(left, PULSE))
        return True

    def _is_rest_over(self, seconds: float) -> bool:
        """Whether those who were asked to end have done so, or had the time for it; their journals say how."""
        if len(self._signals) > 1:
            return True
        if seconds < _HICCUP:
            return False
        is_waiting = any(not self._has_said_its_end(one) for one in self._running.values())
        return not is_waiting or time.monotonic() - self._asked_to_end > GRACE

    def _waits(self) -> bool:
        """Wait while the last trials run in other processes: where one is lost, its values are asked here.

        Returns:
            Whether there may be a trial to ask for.
        """
        wanted = self._request.trials
        is_over = wanted is not None and self._study.finished >= wanted
        if self._signals or is_over or time.monotonic() >= self._end:
            return False
        self._study.reclaim()
        refused, self._refused = self._refused, None
        others = self._study.waits_for()
        if others and not self._is_told:
            self._is_told = True
            log.info("Waiting for trials that other processes are running: %s.", ", ".join(map(str, others)))
        if others or refused is StudyFull:
            self._listen(_PAUSE if others else self._pulse)
        # A study that was full has a free place again, where those who had it have ended and were not enough.
        return bool(others) or self._study.has_waiting or refused is StudyFull

    def _fill(self) -> None:
        """Begin trials as long as there is a place."""
        while not self._signals and self._refused is None:
            busy = self._busy()
            left = self._left(busy)
            if len(busy) >= self._places() or (left < 1 and not self._study.goes_on):
                self._prepare(left)
                return
            try:
                trial = self._study.ask()
            except StudyFinished as refused:
                self._refused = type(refused)
                return
            if self._table is not None:
                self._table.begin(trial)
            self._begin(self._study.session(trial))

    def _left(self, busy: list[One]) -> int:
        """How many trials are to be asked for beside those that run."""
        if time.monotonic() >= self._end:
            return 0
        if self._request.trials is None:
            return self._places()
        began = time.monotonic()
        if began > self._recount:  # other processes may end trials, too
            self._finished, ended = self._study.finished, time.monotonic()
            self._recount = ended + max(PULSE, (ended - began) / _SHARE)
        return self._request.trials - self._finished - sum(one.told is None for one in busy)

    def _take_report(self, one: One, step: int, value: float, budget: Budget) -> Decision:
        """A trial has measured; returns what is decided."""
        decision = self._study.report(one.session.trial, step, value, budget)
        if one.asked is not None and time.monotonic() - one.asked > GRACE:  # Python may ignore what a signal raises
            self._ask_to_end(one)
        if self._table is not None:
            self._table.measure(one.session.trial.number, step, value)
        return decision

    # ------------------------------------------------------------------ ends

    def _take_end(self, one: One, outcome: Outcome) -> None:
        """A trial has told its end."""
        if one.told is None:
            one.told = outcome
            self._study.tell(one.session.trial, outcome)
            self._show_end(one, outcome)

    def _take_loss(self, one: One, reason: str, state: State) -> None:
        """A process has ended; where it told nothing, the trial ends as what befell it."""
        if one.told is None:
            one.told = one.session.recover(reason, state=state)
            self._show_end(one, one.told)

    def _show_end(self, one: One, outcome: Outcome) -> None:
        self._refused = None  # an interrupted trial is asked again
        self._recount = float("-inf")
        self._failures.count()
        if self._table is not None:
            self._table.finish(one.session.trial.number, outcome)

    def _judge(self, one: One, raised: Raised | None) -> None:
        """Raise where no further trial makes sense.

        Args:
            one: A trial that has ended.
            raised: What the training raised, ``None`` for nothing.
        """
        if one.told is not None and not self._signals:
            self._failures.judge(one.told, raised, is_done=one.is_done)

    def _stop(self, *, by_force: bool) -> None:
        """Let the running trials end, in good order or now."""
        name = signal.Signals(self._signals[0]).name
        log.warning("%s: %s", "Ctrl-C" if name == "SIGINT" else name,
                    "the running trials are killed." if by_force else
                    "no new trials; the running ones end in good order. Once more ends them at once.")  # fmt: skip
        for one in [one for one in self._running.values() if not one.is_done]:
            if by_force:
                one.why = one.why or "Ctrl-C"
                self._signal(one, KILL)
            else:
                self._ask_to_end(one)

    def _ask_to_end(self, one: One) -> None:
        """Ask a trial to end in good order; one that still reports after a while has not heard, and is asked again."""
        one.asked = time.monotonic()
        self._signal(one, signal.SIGTERM)

    def _kill(self, one: One, why: str) -> None:
        one.why = one.why or why
        one.heard = time.monotonic()
        self._signal(one, KILL)

    def _end_all(self, seconds: float) -> None:
        """End what runs: in good order, then by force; every trial is told."""
        self._signals = self._signals or [signal.SIGTERM]
        self._heeded = many = len(self._signals)
        for one in [one for one in self._running.values() if not one.is_done]:
            with contextlib.suppress(Exception):  # the error that ends the study comes first, here and below
                self._signal(one, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while (
            any(not one.is_done for one in self._running.values())
            and time.monotonic() < deadline
            and len(self._signals) == many
        ):
            with contextlib.suppress(Exception):
                self._listen(PULSE_FRESH)
        for one in list(self._running.values()):
            if one.told is None:
                one.why = one.why or "the study was stopped"
                with contextlib.suppress(Exception):
                    self._kill(one, one.why)
                    one.told = one.session.recover(one.why)

    def _wait_for_uploads(self) -> None:
        """Wait for processes that have done their trial, and still send its record away."""
        deadline = time.monotonic() + LINGER
        while self._running and time.monotonic() < deadline and len(self._signals) < 2:
            self._listen(PULSE_FRESH)

    def _note(self, number: int, _frame: object) -> None:
        """Note Ctrl-C and SIGTERM, from a signal handler."""
        self._signals.append(number)
        self._wake()


def launcher_from_environment() -> Launcher | None:
    """The launcher that ``TUNEHOOK_LAUNCHER`` names, made without arguments; ``None`` where it names none.

    Raises:
        ValueError: There is no such launcher.
    """
    name = os.environ.get(VARIABLE, "").strip()
    if not name:
        return None
    if name not in LAUNCHERS:
        raise ValueError(f"The environment variable {VARIABLE} is one of {', '.join(LAUNCHERS)}; got {name!r}.")
    launcher: Launcher = load(LAUNCHERS[name])()
    return launcher
