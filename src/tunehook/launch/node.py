"""The node process: asks the study, hands trials to processes of their own, takes their reports, and decides."""

from __future__ import annotations

import contextlib
import logging
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from tunehook.launch.channel import Gate
from tunehook.launch.child import Work
from tunehook.launch.function import Function, pickled
from tunehook.launch.lead import GRACE, KILL, LINGER, PULSE, PULSE_FRESH, RECORDERS, Leader, Running, not_importable
from tunehook.launch.process import Fresh, Starter, Warm, can_fork, cores, devices
from tunehook.launch.spare import Spare, Spares
from tunehook.session import TrialSession
from tunehook.storage import StudyError
from tunehook.study import Study
from tunehook.trial import State

log = logging.getLogger("tunehook")

_LAST_WORDS = 1.0  # seconds in which what a process said before it ended comes in


@dataclass
class _Process(Running):
    """A trial process.

    Attributes:
        devices: The GPUs that it has.
        connection: The way to it, once it has said hello.
        hung_up: When it closed its connection.
    """

    devices: list[str] = field(default_factory=list)
    connection: Connection | None = None
    hung_up: float | None = None


class Node(Leader[_Process]):
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
        super().__init__(study, trials=trials, end=end, workers=workers, report_timeout=report_timeout)
        self._gpus = gpus_per_trial
        self._free = devices() if gpus_per_trial else []
        if gpus_per_trial and len(self._free) < gpus_per_trial * workers:
            raise StudyError(
                f"{workers} workers with {gpus_per_trial} GPUs each need {workers * gpus_per_trial}, but there are "
                f"{len(self._free)}: {', '.join(self._free)}.\n  Take fewer workers or GPUs."
            )
        pickled(study.recorders, *RECORDERS)
        self._function = Function.of(train)
        self._threads = max(1, cores() // workers)
        self._gate = Gate()
        self._strangers: list[Connection] = []
        self._warm: Warm | None = None
        self._fresh: Fresh | None = None
        self._spares = Spares(lambda token: self._start(token, []))
        self._out_of_memory = _oom_kills()

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

    # ------------------------------------------------------------------ trials

    @property
    def _pulse(self) -> float:
        return PULSE if self._fresh is None else PULSE_FRESH

    def _wake(self) -> None:
        self._gate.wake()

    def _busy(self) -> list[_Process]:
        """The processes that take a place."""
        return [one for one in self._running.values() if not one.is_done or self._gpus]

    def _prepare(self, left: int) -> None:
        if self._warm is not None:  # a fork is cheap, and one that waits costs nothing
            self._spares.fill(min(left, self._workers))

    def _begin(self, session: TrialSession) -> None:
        given, self._free = self._free[: self._gpus], self._free[self._gpus :]
        spare = self._spares.take()
        one = _Process(secrets.token_hex(8) if spare is None else spare.token, session, devices=given)
        self._running[one.token] = one
        if spare is None:
            self._start(one.token, given)
        else:
            self._hand_over(one, spare)

    def _start(self, token: str, given: list[str]) -> None:
        starter = self._starter
        with contextlib.suppress(OSError):  # the warm parent is gone, which is heard of next
            if starter is not None:
                starter.start(token, {"CUDA_VISIBLE_DEVICES": ",".join(given)} if given else {})

    def _listen(self, seconds: float) -> None:
        """Take what came, and wait for it."""
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
            self._take_exit(one, -KILL)
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

    def _hand_over(self, one: _Process, process: Spare) -> None:
        """Give a process its trial."""
        one.connection, one.pid, one.heard = process.connection, process.pid, time.monotonic()
        trial = one.session.trial
        work = Work(one.session.handed_over(), self._study.paths.output(trial.number), self._study.name)
        with contextlib.suppress(OSError):  # it is gone again; its exit tells
            process.connection.send_bytes(pickled(work, *RECORDERS))

    def _hear(self, one: _Process) -> None:
        """Take one message of a trial process."""
        if one.connection is None:
            return
        try:
            kind, *what = one.connection.recv()
        except (OSError, EOFError):
            one.connection.close()
            one.connection, one.hung_up = None, time.monotonic()
            return
        one.heard = time.monotonic()
        if kind == "report":
            self._answer(one, self._take_report(one, *what))
        elif kind == "tell":
            self._take_end(one, what[0])
            self._answer(one, True)
        elif kind == "done":
            one.is_done = True
            self._judge(one, what[0])
        elif kind == "broken":
            raise not_importable(what[0])

    def _answer(self, one: _Process, answer: object) -> None:
        if one.connection is not None:
            with contextlib.suppress(OSError):  # it is gone; its exit tells
                one.connection.send(answer)

    def _drain(self, one: _Process) -> None:
        """Take what a process said before it ended."""
        while one.connection is not None and one.connection.poll():
            self._hear(one)

    # ------------------------------------------------------------------ ends

    def _take_exit(self, one: _Process, code: int) -> None:
        """The process has ended; where it told nothing, the trial ends as what befell it."""
        self._drain(one)
        del self._running[one.token]
        self._free += one.devices
        if one.connection is not None:
            one.connection.close()
        if one.told is None:
            self._take_loss(one, *self._explain(one, code))
        if not one.is_done:
            self._judge(one, None)

    def _explain(self, one: _Process, code: int) -> tuple[str, State]:
        """What befell a process that told nothing."""
        who = "its process" if one.pid is None else f"its process {one.pid}"
        if one.why:
            return one.why, "interrupted"
        kills, before = _oom_kills(), self._out_of_memory
        self._out_of_memory = kills
        if code == -KILL and kills > before:
            return f"out of memory: the kernel killed {who}", "infeasible"
        output = self._study.paths.output(one.session.trial.number)
        if code >= 0:
            return f"{who} ended with exit code {code} in the middle of the training; see {output}", "failed"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        if -code in (KILL, signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
            return f"{who} was killed ({name})", "interrupted"
        return f"{who} crashed ({name}); see {output}", "failed"

    def _signal(self, one: _Process, number: int) -> None:
        if self._starter is not None:
            self._starter.signal(one.token, number)

    def _overdue(self, one: _Process) -> str | None:
        """Why a process is to be killed: it says nothing, or does not end, for too long."""
        now = time.monotonic()
        if one.is_done:
            return "" if now - one.heard > LINGER else None
        if one.hung_up is not None and now - one.hung_up > GRACE:
            return "its process closed the connection and did not end"
        return super()._overdue(one)


def _oom_kills() -> int:
    """How many processes the kernel has killed since it started because memory ran out; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
