"""The node process: asks the study, hands trials to processes of their own, takes their reports, and decides.

While the storage is away, the node process listens: the rest between two tries of a call takes what the trial processes
say, answers reports that nobody judges, and heeds Ctrl-C. What was said is told in its order afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from tunehook.launch import (
    GRACE,
    KILL,
    LINGER,
    PULSE,
    PULSE_FRESH,
    RECORDERS,
    Leader,
    Led,
    Raised,
    Request,
    Running,
    not_importable,
)
from tunehook.launch.node.channel import Gate
from tunehook.launch.node.child import Work
from tunehook.launch.node.function import Function, pickled
from tunehook.launch.node.gpus import Gpus
from tunehook.launch.node.out_of_memory import OutOfMemory
from tunehook.launch.node.process import Fresh, Starter, Warm, can_fork, cores
from tunehook.launch.node.room import Room, starting
from tunehook.launch.node.standby import Spare, Spares
from tunehook.session import TrialSession, hand_over
from tunehook.system import hear_of_ends
from tunehook.trial import Decision, State, StudyError

log = logging.getLogger("tunehook")

_ENDS = (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT))  # ask a process to end
_LAST_WORDS = 1.0  # seconds in which what a process said before it ended comes in


@dataclass
class _Process(Running):
    """A trial process.

    Attributes:
        devices: The GPUs that it has.
        connection: The way to it, once it has said hello.
        inbox: What it said while the storage was away.
        is_owed: Whether it waits for the answer to a report.
        hung_up: When it closed its connection.
        killed: When it was killed from here.
    """

    devices: list[str] = field(default_factory=list)
    connection: Connection | None = None
    inbox: deque[tuple[Any, ...]] = field(default_factory=deque)
    is_owed: bool = False
    hung_up: float | None = None
    killed: float | None = None


class Node(Leader[_Process]):
    """Leads a study on this machine, with trials side by side; a context, in which trial processes can be started.

    Args:
        study: The study.
        train: The training.
        request: What was asked for.
    """

    def __init__(self, study: Led, train: Callable[[], object], request: Request) -> None:
        super().__init__(study, request)
        workers = self._places()
        self._gpus = Gpus(request.gpus_per_trial, workers)
        self._memory = OutOfMemory()
        pickled(study.recorders, *RECORDERS)
        self._function = Function.of(train)
        self._threads = max(1, cores() // workers)
        with starting():
            self._gate = Gate()
        self._strangers: list[Connection] = []
        self._warm: Warm | None = None
        self._fresh: Fresh | None = None
        self._spares = Spares(lambda token: self._start(token, []))
        self._room = Room()
        self._exits: deque[tuple[str, int]] = deque()

    def __enter__(self) -> Self:
        """Begin to import what the training needs, in a process of its own."""
        hear_of_ends()
        self._begin_to_import()
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        self._spares.close()
        if self._starter is not None:
            self._starter.close()
        self._gate.close()

    # ------------------------------------------------------------------ processes

    def _begin_to_import(self) -> None:
        if not self._gpus.each and can_fork():
            with starting():
                self._warm = Warm(self._gate.address, self._function, self._threads)

    def _open(self) -> None:
        """Find out whether trial processes can be forked, and say why where they cannot."""
        if self._warm is not None:
            why = self._hear_of(self._warm)
            if isinstance(why, Raised):
                raise not_importable(why)
            if not why:
                return
            self._warm.close()
            self._warm = None
        else:
            why = "forked processes with GPUs are not safe everywhere" if self._gpus.each else "this system cannot fork"
        log.warning("Each trial starts a fresh process, which imports everything again: %s.", why)
        self._fresh = Fresh(self._gate.address, self._function, self._threads)

    def _hear_of(self, warm: Warm) -> str | Raised:
        """Wait until the warm parent has imported everything, and take what keeps it from forking."""
        gone: float | None = None
        while not self._signals:
            sources: list[Any] = [self._gate, *self._strangers]
            found: list[Any] = wait(sources, PULSE)
            for connection in found:
                if connection is self._gate:
                    self._strangers += self._gate.take()
                    continue
                self._strangers.remove(connection)
                with contextlib.suppress(OSError, EOFError):
                    kind, problem = connection.recv()[:2]
                    if kind == "warm":
                        warm.connection = connection
                        return problem  # type: ignore[no-any-return] # as the warm parent sends it
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

    # ------------------------------------------------------------------ trials

    @property
    def _pulse(self) -> float:
        return PULSE if self._fresh is None else PULSE_FRESH

    def _wake(self) -> None:
        self._gate.wake()

    def _busy(self) -> list[_Process]:
        """The processes that take a place."""
        return [one for one in self._running.values() if not one.is_done or self._gpus.each]

    def _prepare(self, left: int) -> None:
        if self._warm is not None and not self._room.is_tight:  # a fork is cheap, and one that waits costs nothing
            self._spares.fill(min(left, self._places()))

    def _begin(self, session: TrialSession) -> None:
        given = self._gpus.take()
        spare = self._spares.take()
        one = _Process(secrets.token_hex(8) if spare is None else spare.token, session, devices=given)
        self._running[one.token] = one
        if spare is None:
            self._start(one.token, given)
        else:
            self._hand_over(one, spare)

    def _start(self, token: str, given: list[str]) -> None:
        starter = self._starter
        try:
            if starter is not None:
                starter.start(token, self._gpus.variables(given))
        except OSError as error:
            self._refuse(token, error)

    def _refuse(self, token: str, error: OSError) -> None:
        self._spares.drop(token)
        self._room.refuse(token, error, is_needed=token in self._running)

    def _listen(self, seconds: float) -> None:
        """Take what came, and wait for it."""
        if self._signals:
            self._give_up()
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
        self._exits += [] if self._starter is None else self._starter.ended()
        while self._exits:
            token, code = self._exits[0]  # it stays until it is taken, also where the study cannot be told meanwhile
            self._spares.drop(token)
            if token in self._running:
                self._take_exit(self._running[token], code)
            self._exits.popleft()

    def _hear_exits(self) -> None:
        """Take what the warm parent says: which of its processes have ended, and which it could not fork."""
        warm = self._warm
        if warm is None or warm.connection is None:
            return
        try:
            while warm.connection.poll():
                kind, token, what = warm.connection.recv()
                if kind == "refused":
                    self._refuse(token, what)
                else:
                    warm.note(token, what)
        except (OSError, EOFError):
            self._start_over()

    def _start_over(self) -> None:
        """The warm parent was killed, and the kernel has ended its children with it."""
        if self._warm is not None:
            self._warm.close()
        self._warm = None
        self._spares.close()
        for one in list(self._running.values()):
            self._drain(one)
            self._take_exit(one, -KILL)
        self._begin_to_import()
        self._open()

    def _greet(self, connection: Connection) -> None:
        """A trial process has come in."""
        self._strangers.remove(connection)
        try:
            _, token, pid = connection.recv()
            spare = Spare(token, connection, pid)
            self._room.found()
            if not self._spares.greet(spare):
                self._hand_over(self._running[token], spare)
        except (OSError, EOFError, KeyError, ValueError):
            connection.close()  # of a trial that was given up

    def _hand_over(self, one: _Process, process: Spare) -> None:
        """Give a process its trial."""
        one.connection, one.pid, one.heard = process.connection, process.pid, time.monotonic()
        trial = one.session.trial
        work = Work(hand_over(one.session), self._study.paths.output(trial.number), self._study.name)
        with contextlib.suppress(OSError):  # it is gone again; its exit tells
            process.connection.send_bytes(pickled(work, *RECORDERS))

    def _collect(self, seconds: float) -> None:
        """Take what comes from trial processes, for later. Where the study judges reports, a training waits there."""
        for one in [] if self._study.judges else list(self._running.values()):
            self._acknowledge(one, Decision())
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

    def _hear(self, one: _Process) -> None:
        """Take one message of a trial process, the one that came first."""
        message = one.inbox.popleft() if one.inbox else self._receive(one)
        if message is not None:
            self._take(one, message)

    def _receive(self, one: _Process) -> tuple[Any, ...] | None:
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

    def _take(self, one: _Process, message: tuple[Any, ...]) -> None:
        """Do what a message asks for."""
        kind, *what = message
        if kind == "report":
            self._acknowledge(one, self._take_report(one, *what))
        elif kind == "tell":
            is_known = False
            try:
                self._take_end(one, what[0])
                is_known = True
            finally:  # it has its record to close, also where the study cannot be told
                self._answer(one, is_known)
        elif kind == "done":
            one.is_done = True
            self._judge(one, what[0])
        elif kind == "broken":
            raise not_importable(what[0])

    def _answer(self, one: _Process, answer: object) -> None:
        if one.connection is not None:
            with contextlib.suppress(OSError):  # it is gone; its exit tells
                one.connection.send(answer)

    def _acknowledge(self, one: _Process, decision: Decision) -> None:
        """Answer the report of a process that waits for it."""
        if one.is_owed:
            one.is_owed, one.heard = False, time.monotonic()
            self._answer(one, decision)

    def _drain(self, one: _Process) -> None:
        """Take what a process said before it ended."""
        while one.inbox or (one.connection is not None and one.connection.poll()):
            self._hear(one)

    # ------------------------------------------------------------------ ends

    def _take_exit(self, one: _Process, code: int) -> None:
        """The process has ended; where it told nothing, the trial ends as what befell it."""
        self._drain(one)
        del self._running[one.token]
        self._gpus.give_back(one.devices)
        if one.connection is not None:
            one.connection.close()
        if one.told is None:
            by_us: tuple[str, State] = (one.why, "interrupted")
            befell = by_us if one.why else self._explain(one, code)
            self._take_loss(one, *befell)
        if not one.is_done:
            self._judge(one, None)

    def _give_up(self) -> None:
        """End the trials that still wait for a process: none is started any more."""
        for token in self._room.give_up():
            if (one := self._running.get(token)) is not None:
                one.why = one.why or "the study was stopped before its process could be started"
                self._take_exit(one, 0)

    def _explain(self, one: _Process, code: int) -> tuple[str, State]:
        """What befell a process that told nothing.

        Args:
            one: The process.
            code: Its exit code, negative for a signal.
        """
        who = "its process" if one.pid is None else f"its process {one.pid}"
        if code == -KILL and self._memory.has_killed():
            return f"out of memory: the kernel killed {who}", "infeasible"
        output = self._study.paths.output(one.session.trial.number)
        if code - 128 in _ENDS:  # it heard the signal where no trial could be told, and left as `Terminated` says
            code = 128 - code
        if code >= 0:
            return f"{who} ended with exit code {code} in the middle of the training; see {output}", "failed"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        if -code in (KILL, *_ENDS):
            return f"{who} was killed ({name})", "interrupted"
        return f"{who} crashed ({name}); see {output}", "failed"

    def _check_limits(self) -> None:
        self._memory.look()
        for token in [] if self._signals else self._room.due():
            if token in self._running:
                self._start(token, self._running[token].devices)
        if self._signals:
            self._leave()
        super()._check_limits()

    def _leave(self) -> None:
        """Let the study end without those that do not end when they are killed, as where they wait for a disk."""
        for one in list(self._running.values()):
            if one.killed is not None and time.monotonic() - one.killed > GRACE:
                log.warning("Process %s does not end, although it was killed; it is left behind.", one.pid)
                self._take_exit(one, -KILL)

    def _signal(self, one: _Process, number: int) -> None:
        if number == KILL and one.killed is None:
            one.killed = time.monotonic()
        if self._starter is not None:
            self._starter.signal(one.token, number)

    def _has_said_its_end(self, one: _Process) -> bool:
        is_gone = one.hung_up is not None
        return one.told is not None or is_gone or any(kind in ("tell", "done") for kind, *_ in one.inbox)

    def _forgive(self, one: _Process, now: float) -> None:
        super()._forgive(one, now)
        one.hung_up = None if one.hung_up is None else now

    def _overdue(self, one: _Process) -> str | None:
        """Why a process is to be killed: it says nothing, or does not end, for too long."""
        now = time.monotonic()
        if one.is_done:
            return "" if now - one.heard > LINGER else None
        if one.hung_up is not None and now - one.hung_up > GRACE:
            return "its process closed the connection and did not end"
        return super()._overdue(one)
