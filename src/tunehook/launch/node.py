"""The node process: asks the study, hands trials to processes of their own, takes their reports, and decides."""

from __future__ import annotations

import contextlib
import logging
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from tunehook.launch.channel import Gate
from tunehook.launch.child import Work
from tunehook.launch.function import Function, pickled
from tunehook.launch.process import Fresh, Starter, Warm, can_fork, cores, devices
from tunehook.launch.spare import Spare, Spares
from tunehook.launch.verdict import KILL, Verdicts, not_importable
from tunehook.progress import Progress
from tunehook.session import Terminated, TrialSession
from tunehook.storage import StorageAway, StudyError
from tunehook.study import Study, StudyFinished
from tunehook.trial import Decision, Outcome, State

log = logging.getLogger("tunehook")

# Seconds between looks at what nobody announces: limits of time, processes without a warm parent, the table.
_PULSE = 0.2
_PULSE_FRESH = 0.02
_PAUSE = 1.0  # while other processes run the last trials
# Seconds that a process may live on after its trial, such as to upload to W&B.
_LINGER = 120.0
# Seconds that trials have to end in good order where the study ends with an error, and processes that hung up.
_GRACE = 10.0
# After so many seconds in which nobody was listened to, no process is blamed for its silence.
_DEAF = 3.0
# Where the study was asked to end, a storage is waited for no longer than up to a rest of so many seconds.
_HICCUP = 0.5
_LAST_WORDS = 1.0  # seconds in which what a process said before it ended comes in
_RECORDERS = ("A recorder of the study", "Let it open files and connections in open(), not in its constructor.")


@dataclass
class _Running:
    """A trial process.

    Attributes:
        token: Names it on its way here.
        session: The session that stays here, to recover the trial where the process is gone.
        devices: The GPUs that it has.
        connection: The way to it, once it has said hello.
        inbox: What it said while the storage was away.
        is_owed: Whether it waits for the answer to a report.
        pid: Its id, once it has said hello.
        told: How the trial ended, once that is known.
        is_done: Whether the training function has returned.
        heard: When it began, or reported last.
        hung_up: When it closed its connection.
        why: Why it was killed from here.
    """

    token: str
    session: TrialSession
    devices: list[str]
    connection: Connection | None = None
    inbox: deque[tuple[Any, ...]] = field(default_factory=deque)
    is_owed: bool = False
    pid: int | None = None
    told: Outcome | None = None
    is_done: bool = False
    heard: float = field(default_factory=time.monotonic)
    hung_up: float | None = None
    why: str = ""


class Node:
    """Leads a study on this machine, with trials side by side; a context, in which trial processes can be started.

    Args:
        study: The study.
        train: The training.
        trials: How many finished trials the study shall have, ``None`` for no limit.
        end: When no further trial begins, on the monotonic clock.
        workers: How many trials run at once.
        gpus_per_trial: GPUs for each.
        report_timeout: Seconds without a report after which a trial's process is killed, ``None`` for no limit.
    """

    def __init__(
        self,
        study: Study,
        train: Callable[[], object],
        *,
        trials: int | None,
        end: float,
        workers: int,
        gpus_per_trial: int = 0,
        report_timeout: float | None = None,
    ) -> None:
        self._study, self._trials, self._end, self._workers = study, trials, end, workers
        self._gpus, self._limit = gpus_per_trial, report_timeout
        self._table: Progress | None = None
        self._free = devices() if gpus_per_trial else []
        if gpus_per_trial and len(self._free) < gpus_per_trial * workers:
            raise StudyError(
                f"{workers} workers with {gpus_per_trial} GPUs each need {workers * gpus_per_trial}, but there are "
                f"{len(self._free)}: {', '.join(self._free)}.\n  Take fewer workers or GPUs."
            )
        pickled(study.recorders, *_RECORDERS)
        self._function = Function.of(train)
        self._threads = max(1, cores() // workers)
        self._gate = Gate()
        self._running: dict[str, _Running] = {}
        self._strangers: list[Connection] = []
        self._warm: Warm | None = None
        self._fresh: Fresh | None = None
        self._spares = Spares(lambda token: self._start(token, []))
        self._is_exhausted = self._is_told = False
        self._finished, self._counted = 0, float("-inf")  # trials of the study, and when they were counted
        self._signals: list[int] = []
        self._heeded = 0  # of the signals
        self._asked_to_end = 0.0
        self._thread = threading.get_ident()
        self._checked = time.monotonic()
        self._verdicts = Verdicts(study)

    def __enter__(self) -> Self:
        """Begin to import what the training needs, in a process of its own."""
        self._begin_to_import()
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        self._spares.close()
        if self._starter is not None:
            self._starter.close()
        self._gate.close()

    def run(self, table: Progress | None = None) -> None:
        """Train until there are enough trials.

        Args:
            table: The live table.

        Raises:
            StudyError: Too many trials in a row failed, or no process can be started.
            InjectionError, TrialError: The script has to change.
            JournalError: A journal cannot be written, as where the disk is full.
            KeyboardInterrupt, Terminated: Ctrl-C or SIGTERM, once the running trials have ended.
        """
        self._table = table
        with self._signals_noted(), self._study.resting(self._rest):
            try:
                self._open()
                self._loop()
                self._wait_for_uploads()
            except BaseException as error:
                is_wanted = isinstance(error, StorageAway) and bool(self._signals)
                self._end_all(_GRACE)
                if not is_wanted:
                    raise
                log.warning("%s", error)
        if self._signals:
            raise KeyboardInterrupt if self._signals[0] == signal.SIGINT else Terminated(128 + self._signals[0])
        self._verdicts.close()

    # ------------------------------------------------------------------ processes

    def _begin_to_import(self) -> None:
        if not self._gpus and can_fork():
            self._warm = Warm(self._gate.address, self._function, self._threads)

    def _open(self) -> None:
        """Find out whether trial processes can be forked, and say why where they cannot."""
        if self._warm is not None:
            why = self._hear_of(self._warm)
            if why.startswith("!"):
                raise not_importable(why[1:])
            if not why:
                return
            self._warm.close()
            self._warm = None
        else:
            why = "forked processes with GPUs are not safe everywhere" if self._gpus else "this system cannot fork"
        log.warning("Each trial starts a fresh process, which imports everything anew: %s.", why)
        self._fresh = Fresh(self._gate.address, self._function, self._threads)

    def _hear_of(self, warm: Warm) -> str:
        """Wait until the warm parent has imported everything, and take what keeps it from forking."""
        gone: float | None = None
        while not self._signals:
            sources: list[Any] = [self._gate, *self._strangers]
            found: list[Any] = wait(sources, _PULSE)
            for connection in found:
                if connection is self._gate:
                    self._strangers += self._gate.take()
                    continue
                self._strangers.remove(connection)
                with contextlib.suppress(OSError, EOFError):
                    kind, problem = connection.recv()[:2]
                    if kind == "warm":
                        warm.connection = connection
                        return str(problem)
                connection.close()
            if warm.process.poll() is None:
                continue
            gone = gone or time.monotonic()
            if time.monotonic() - gone > _LAST_WORDS:
                raise StudyError(
                    f"The process that imports the training function ended with exit code {warm.process.returncode} "
                    "before it was ready.\n  What it printed stands above."
                )
        return ""

    @property
    def _starter(self) -> Starter | None:
        return self._warm or self._fresh

    # ------------------------------------------------------------------ the loop

    def _loop(self) -> None:
        while True:
            self._heed()
            self._fill()
            if not self._busy() and not self._waits():
                return
            self._listen(_PAUSE if not self._busy() else _PULSE if self._fresh is None else _PULSE_FRESH)
            self._check_limits()
            if self._table is not None:
                self._table.refresh()

    def _heed(self) -> None:
        """Stop as often as it was asked for."""
        if len(self._signals) > self._heeded:
            self._asked_to_end = self._asked_to_end or time.monotonic()
            self._heeded = len(self._signals)
            self._stop(by_force=self._heeded > 1)

    def _rest(self, seconds: float) -> bool:
        """While the storage is away, let the trainings go on, and heed Ctrl-C; answers whether to wait on.

        What the processes say is kept. Where the study judges reports, a training waits at its next one.
        """
        if threading.get_ident() != self._thread:  # a recorder that looks at the study
            time.sleep(seconds)
            return True
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._heed()
            if self._signals and self._is_rest_over(seconds):
                return False
            for one in [] if self._study.judges else list(self._running.values()):
                self._acknowledge(one, Decision())
            self._collect(min(left, _PULSE))
        return True

    def _is_rest_over(self, seconds: float) -> bool:
        """Whether those who were asked to end have done so, or had the time for it; their journals say how."""
        if len(self._signals) > 1:
            return True
        if seconds < _HICCUP:
            return False
        ends = ("tell", "done")
        waits = [
            one
            for one in self._running.values()
            if one.told is None and one.hung_up is None and not any(kind in ends for kind, *_ in one.inbox)
        ]
        return not waits or time.monotonic() - self._asked_to_end > _GRACE

    def _collect(self, seconds: float) -> None:
        """Take what comes from trial processes, for later."""
        connections = {one.connection: one for one in self._running.values() if one.connection is not None}
        sources: list[Any] = [self._gate, *self._strangers, *connections]
        for source in wait(sources, seconds):
            if source is self._gate:  # type: ignore[comparison-overlap]
                self._strangers += self._gate.take()
            elif source in connections:
                one = connections[source]
                if (message := self._receive(one)) is not None:
                    one.inbox.append(message)
            elif source in self._strangers:
                self._greet(source)

    def _busy(self) -> list[_Running]:
        """The processes that take a place."""
        return [one for one in self._running.values() if not one.is_done or self._gpus]

    def _waits(self) -> bool:
        """Whether the last trials run in other processes: where one is lost, its values are asked here."""
        is_over = self._trials is not None and self._study.finished >= self._trials
        if self._signals or is_over or time.monotonic() >= self._end:
            return False
        self._study.reclaim()
        self._is_exhausted = False
        others = self._study.waits_for()
        if others and not self._is_told:
            self._is_told = True
            log.info("Waiting for trials that other processes are running: %s.", ", ".join(map(str, others)))
        return bool(others) or self._study.has_waiting

    def _fill(self) -> None:
        """Begin trials as long as there is a place."""
        while not self._signals and not self._is_exhausted and time.monotonic() < self._end:
            busy = self._busy()
            left = self._left(busy)
            if len(busy) >= self._workers or left < 1:
                if self._warm is not None:  # a fork is cheap, and one that waits costs nothing
                    self._spares.fill(min(left, self._workers))
                return
            try:
                trial = self._study.ask()
            except StudyFinished:
                self._is_exhausted = True
                return
            given, self._free = self._free[: self._gpus], self._free[self._gpus :]
            session, spare = self._study.session(trial), self._spares.take()
            one = _Running(secrets.token_hex(8) if spare is None else spare.token, session, given)
            self._running[one.token] = one
            if self._table is not None:
                self._table.begin(trial)
            if spare is None:
                self._start(one.token, given)
            else:
                self._hand_over(one, spare)

    def _left(self, busy: list[_Running]) -> int:
        """How many trials are to be asked for beside those that run."""
        if self._trials is None:
            return self._workers
        now = time.monotonic()
        if now - self._counted > _PULSE:  # other processes may end trials, too
            self._finished, self._counted = self._study.finished, now
        return self._trials - self._finished - sum(one.told is None for one in busy)

    def _start(self, token: str, given: list[str]) -> None:
        starter = self._starter
        with contextlib.suppress(OSError):  # the warm parent is gone, which is heard of next
            if starter is not None:
                starter.start(token, {"CUDA_VISIBLE_DEVICES": ",".join(given)} if given else {})

    def _listen(self, seconds: float) -> None:
        """Take what came, and wait for it."""
        for one in list(self._running.values()):
            while one.inbox:
                self._take(one, one.inbox.popleft())
        connections = {one.connection: one for one in self._running.values() if one.connection is not None}
        parent = None if self._warm is None else self._warm.connection
        sources: list[Any] = [self._gate, *self._strangers, *connections]
        for source in wait(sources if parent is None else [*sources, parent], seconds):
            if source is self._gate:  # type: ignore[comparison-overlap]
                self._strangers += self._gate.take()
            elif source is parent:
                self._hear_exits()
            elif source in connections:
                self._hear(connections[source])
            elif source in self._strangers:
                self._greet(source)
        for token, code in [] if self._starter is None else self._starter.ended():
            self._spares.drop(token)
            if token in self._running:
                self._take_exit(self._running[token], code)

    def _hear_exits(self) -> None:
        """Take what the warm parent says: which of its processes have ended."""
        warm = self._warm
        if warm is None or warm.connection is None:
            return
        try:
            while warm.connection.poll():
                _, token, code = warm.connection.recv()
                warm.note(token, code)
        except (OSError, EOFError):
            self._begin_anew()

    def _begin_anew(self) -> None:
        """The warm parent was killed, and the kernel has ended its children with it."""
        if self._warm is not None:
            self._warm.close()
        self._warm = None
        self._spares.close()
        for one in list(self._running.values()):
            self._drain(one)
            self._take_exit(one, -int(KILL))
        self._begin_to_import()
        self._open()

    def _greet(self, connection: Connection) -> None:
        """A trial process has come in."""
        self._strangers.remove(connection)
        try:
            _, token, pid = connection.recv()
            spare = Spare(token, connection, pid)
            if not self._spares.greet(spare):
                self._hand_over(self._running[token], spare)
        except (OSError, EOFError, KeyError, ValueError):
            connection.close()  # of a trial that was given up

    def _hand_over(self, one: _Running, process: Spare) -> None:
        """Give a process its trial."""
        one.connection, one.pid, one.heard = process.connection, process.pid, time.monotonic()
        trial = one.session.trial
        work = Work(one.session.handed_over(), self._study.paths.output(trial.number), self._study.name)
        with contextlib.suppress(OSError):  # it is gone again; its exit tells
            process.connection.send_bytes(pickled(work, *_RECORDERS))

    def _hear(self, one: _Running) -> None:
        """Take one message of a trial process, the one that came first."""
        message = one.inbox.popleft() if one.inbox else self._receive(one)
        if message is not None:
            self._take(one, message)

    def _receive(self, one: _Running) -> tuple[Any, ...] | None:
        """The next message of a trial process, ``None`` where it has hung up."""
        if one.connection is None:
            return None
        try:
            message: tuple[Any, ...] = one.connection.recv()
        except (OSError, EOFError):
            one.connection.close()
            one.connection, one.hung_up = None, time.monotonic()
            return None
        one.heard = time.monotonic()
        one.is_owed = message[0] == "report"
        return message

    def _take(self, one: _Running, message: tuple[Any, ...]) -> None:
        """Do what a message asks for."""
        kind, *what = message
        trial = one.session.trial
        if kind == "report":
            answer = self._study.report(trial, *what)
            if self._table is not None:
                self._table.measure(trial.number, what[0], what[1])
            self._acknowledge(one, answer)
        elif kind == "tell":
            try:
                self._take_end(one, what[0])
            finally:  # it has its record to close, also where the study cannot be told
                self._answer(one, True)
        elif kind == "done":
            one.is_done = True
            self._judge(one, what[0])
        elif kind == "broken":
            raise not_importable(what[0])

    def _answer(self, one: _Running, answer: object) -> None:
        if one.connection is not None:
            with contextlib.suppress(OSError):  # it is gone; its exit tells
                one.connection.send(answer)

    def _acknowledge(self, one: _Running, decision: Decision) -> None:
        """Answer the report of a process that waits for it."""
        if one.is_owed:
            one.is_owed, one.heard = False, time.monotonic()
            self._answer(one, decision)

    def _drain(self, one: _Running) -> None:
        """Take what a process said before it ended."""
        while one.inbox or (one.connection is not None and one.connection.poll()):
            self._hear(one)

    # ------------------------------------------------------------------ ends

    def _take_end(self, one: _Running, outcome: Outcome) -> None:
        """The trial has ended."""
        if one.told is None:
            one.told = outcome
            self._study.tell(one.session.trial, outcome)
            self._show_end(one, outcome)

    def _show_end(self, one: _Running, outcome: Outcome) -> None:
        self._is_exhausted = False  # an interrupted trial is asked again
        self._counted = float("-inf")
        self._verdicts.count()
        if self._table is not None:
            self._table.finish(one.session.trial.number, outcome)

    def _take_exit(self, one: _Running, code: int) -> None:
        """The process has ended; where it told nothing, the trial ends as what befell it."""
        self._drain(one)
        del self._running[one.token]
        self._free += one.devices
        if one.connection is not None:
            one.connection.close()
        if one.told is None:
            by_us: tuple[str, State] = (one.why, "interrupted")
            reason, state = by_us if one.why else self._verdicts.explain(one.session.trial.number, one.pid, code)
            one.told = one.session.recover(reason, state=state)
            self._show_end(one, one.told)
        if not one.is_done:
            self._judge(one, None)

    def _judge(self, one: _Running, said: tuple[str, str] | None) -> None:
        """Raise where no further trial makes sense."""
        if one.told is not None and not self._signals:
            self._verdicts.judge(one.told, said, is_done=one.is_done)

    def _stop(self, *, by_force: bool) -> None:
        """Let the running trials end, in good order or now."""
        name = signal.Signals(self._signals[0]).name
        log.warning("%s: %s", "Ctrl-C" if name == "SIGINT" else name,
                    "the running trials are killed." if by_force else
                    "no new trials; the running ones end in good order. Once more ends them at once.")  # fmt: skip
        for one in list(self._running.values()):
            if by_force:
                one.why = one.why or "Ctrl-C"
            self._signal(one, int(KILL) if by_force else signal.SIGTERM)

    def _signal(self, one: _Running, number: int) -> None:
        if self._starter is not None and not one.is_done:
            self._starter.signal(one.token, number)

    def _check_limits(self) -> None:
        """Kill what says nothing for too long."""
        self._verdicts.memory.look()
        now = time.monotonic()
        was_deaf, self._checked = now - self._checked > _DEAF, now
        for one in list(self._running.values()):
            if was_deaf:  # the storage was away
                one.heard, one.hung_up = now, None if one.hung_up is None else now
            silent = now - one.heard
            if one.is_done:
                if silent > _LINGER:
                    self._kill(one, "")
            elif one.hung_up is not None and now - one.hung_up > _GRACE:
                self._kill(one, "its process closed the connection and did not end")
            elif self._limit is not None and silent > self._limit and one.pid is not None:
                self._kill(one, f"no report for {self._limit:g} s, so its process was killed")

    def _kill(self, one: _Running, why: str) -> None:
        one.why = one.why or why
        one.heard = time.monotonic()
        if self._starter is not None:
            self._starter.signal(one.token, int(KILL))

    def _end_all(self, seconds: float) -> None:
        """End what runs: in good order, then by force; every trial is told."""
        self._signals = self._signals or [signal.SIGTERM]
        self._heeded = many = len(self._signals)
        for one in self._running.values():
            with contextlib.suppress(Exception):  # the error that ends the study comes first, here and below
                self._signal(one, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while (
            any(not one.is_done for one in self._running.values())
            and time.monotonic() < deadline
            and len(self._signals) == many
        ):
            with contextlib.suppress(Exception):
                self._listen(_PULSE_FRESH)
        for one in list(self._running.values()):
            if one.told is None:
                one.why = one.why or "the study was stopped"
                with contextlib.suppress(Exception):
                    self._kill(one, one.why)
                    one.told = one.session.recover(one.why)

    def _wait_for_uploads(self) -> None:
        """Wait for processes that have done their trial, and still send its record away."""
        deadline = time.monotonic() + _LINGER
        while self._running and time.monotonic() < deadline and len(self._signals) < 2:
            self._listen(_PULSE_FRESH)

    @contextlib.contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """Note Ctrl-C and SIGTERM, where they arrive: in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _frame: object) -> None:
            self._signals.append(number)
            self._gate.wake()

        numbers = [signal.SIGINT, signal.SIGTERM]
        before = [signal.signal(number, note) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
