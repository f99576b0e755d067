"""What runs on a Ray cluster: the actor of a study, and the task that trains one trial and speaks to it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pickle
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray

from tunehook.launch import Raised, announce, leading, train_one
from tunehook.launch.node import put_state
from tunehook.record import Begin, Events, Journal, host, journal_of
from tunehook.session import TrialSession, adopt, importing, settle
from tunehook.system import Terminated, flush_output, handling, terminate
from tunehook.trial import Budget, Decision, JournalError, Outcome, Trial

# The answer to a trial that is not waited for any more, such as on a node that was cut off.
GIVEN_UP = "given up"


@dataclasses.dataclass(frozen=True)
class Lines:
    """Lines of a journal on their way to the study's folder, which their machine does not see.

    Attributes:
        first: How many bytes were written before them.
        data: The lines.
    """

    first: int
    data: bytes


@dataclasses.dataclass(frozen=True)
class Message:
    """What a trial says.

    Attributes:
        token: Names the trial.
        kind: ``"hello"``, ``"report"`` or ``"tell"``.
        what: What belongs to that.
        lines: New lines of its journal, where they have to be carried.
    """

    token: str
    kind: str
    what: tuple[Any, ...]
    lines: Lines | None = None


@dataclasses.dataclass(frozen=True)
class Order:
    """What a task is to train.

    Attributes:
        token: Names the trial on its way.
        trial: The trial.
        session: Its session, pickled.
        folder: The working directory of the process that asks.
        arguments: Its ``sys.argv``.
        path: Its ``sys.path``.
        state: What its libraries keep for a whole process.
    """

    token: str
    trial: Trial
    session: bytes = dataclasses.field(repr=False)
    folder: str
    arguments: list[str]
    path: list[str] = dataclasses.field(repr=False)
    state: bytes = dataclasses.field(default=b"", repr=False)


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a task returns.

    Attributes:
        raised: What the training raised.
        problem: What was raised instead, where the training function could not be loaded.
        lines: The last lines of the journal, where they have to be carried.
    """

    raised: Raised | None = None
    problem: Raised | None = None
    lines: Lines | None = None


class StudyActor:
    """Stands between the trials of a study, wherever they run, and the process that asks and decides.

    A trial says something and waits for the answer; the process that asks takes all that was said, and brings the
    answers when it comes for more.
    """

    def __init__(self) -> None:
        self._said: list[tuple[int, Message]] = []
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._has_come = asyncio.Event()

    async def say(self, message: Message) -> Any:
        """Hand on what a trial says; returns the answer."""
        number = self._number = self._number + 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._said.append((number, message))
        self._has_come.set()
        try:
            return await answer
        finally:
            del self._answers[number]

    async def exchange(self, answers: Mapping[int, Any]) -> list[tuple[int, Message]]:
        """Bring answers, and wait for what is said next."""
        for number, answer in answers.items():
            if number in self._answers:
                self._answers[number].set_result(answer)
        await self._has_come.wait()
        self._has_come.clear()
        said, self._said = self._said, []
        return said


class Mirror:
    """The record of a trial on a machine that does not see the study's folder: a folder of its own.

    It holds what the study's folder has of the trial, earlier attempts included, for recorders that look there.

    Args:
        trial: The trial.
        journals: Journals by the names of their folders.
    """

    def __init__(self, trial: Trial, journals: Mapping[str, bytes]) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="tunehook-"))
        self.folder = self._root / trial.name
        for name, data in {trial.name: b"", **journals}.items():
            path = journal_of(self._root / name)
            path.parent.mkdir()
            path.write_bytes(data)
        self._path = journal_of(self.folder)
        self._base = self._path.stat().st_size

    def lines(self, *, first: int) -> Lines:
        """The whole lines that were written here, but for so many bytes."""
        with self._path.open("rb") as file:
            file.seek(self._base + first)
            data = file.read()
        return Lines(first, data[: data.rfind(b"\n") + 1])

    def close(self, *, first: int) -> Lines:
        """The last lines; the folder goes, unless it holds what the study's folder will not have."""
        others = [path for path in self._root.rglob("*") if path.is_file() and path.name != self._path.name]
        if others:
            with contextlib.suppress(JournalError):
                journal = Journal(self.folder)
                journal.problem(
                    f"{len(others)} files of the trial stay on {host()} in {self.folder}, since that machine does not "
                    "see the study's folder"
                )
                journal.close()
        lines = self.lines(first=first)
        if not others:
            shutil.rmtree(self._root, ignore_errors=True)
        return lines


class RayJudge:
    """The way to the study, which the process that asks holds; where it has given the trial up, the process ends.

    Args:
        actor: The study's actor.
        token: Names the trial.
    """

    def __init__(self, actor: Any, token: str) -> None:
        self._actor, self._token = actor, token
        self.mirror: Mirror | None = None
        self.carried = 0

    def hello(self, trial: Trial) -> None:
        """Say that the trial begins here, and whether this machine sees its folder."""
        sees = any(
            begin.key == trial.key and begin.attempt == trial.attempt for begin in Events.of_trial(trial).all(Begin)
        )
        journals = self._say("hello", os.getpid(), host(), sees)
        if not sees:
            self.mirror = Mirror(trial, journals)

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Ask; where nobody is there any more, this training has no purpose."""
        decision: Decision = self._say("report", step, value, budget)
        return decision

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Tell the end; where nobody is there any more, the next one who opens the study finds the trial lost."""
        with contextlib.suppress(Terminated):
            self._say("tell", outcome)

    def _say(self, kind: str, *what: Any) -> Any:
        lines = None if self.mirror is None else self.mirror.lines(first=self.carried)
        try:
            answer = ray.get(self._actor.say.remote(Message(self._token, kind, what, lines)))
        except ray.exceptions.RayError as error:
            raise Terminated(128 + signal.SIGTERM) from error
        if answer == GIVEN_UP:  # and asked again, so that nothing may be written here any more
            os._exit(1)
        if isinstance(answer, BaseException):
            raise answer
        if lines is not None:
            self.carried = lines.first + len(lines.data)
        return answer


def train_trial(actor: Any, order: Order, function: bytes) -> Ended:
    """Train one trial in this process.

    Args:
        actor: The study's actor.
        order: What to train.
        function: The training function, pickled.
    """
    trial, judge = order.trial, RayJudge(actor, order.token)
    judge.hello(trial)
    mirror = judge.mirror
    # Ray sends SIGTERM where the process that asks is gone, and has a handler of its own; it cancels a task by SIGINT.
    with handling(terminate, signal.SIGTERM, signal.SIGINT):
        try:
            with importing():
                _enter(order)
                put_state(order.state)
                session: TrialSession = pickle.loads(order.session)  # noqa: S301 - from the process that asks
                train = pickle.loads(function)  # noqa: S301 - as above
        except Terminated:
            return Ended(Raised("SIGTERM"))
        except Exception as raised:  # noqa: BLE001 - told to the process that asks, which ends the study
            return Ended(problem=Raised.of(raised))
        adopt(session, judge, place=f"Ray node {_node()}", folder=None if mirror is None else mirror.folder)
        with leading(trial.study, leads=True):
            error = train_one(session, train)
            announce(None)
    settle(session)
    flush_output()
    lines = None if mirror is None else mirror.close(first=judge.carried)
    return Ended(None if error is None else Raised.of(error), lines=lines)


def _enter(order: Order) -> None:
    """Take over arguments, path and working directory, as far as they exist here and Ray was not given others."""
    sys.argv = list(order.arguments)
    sys.path += [place for place in order.path if place not in sys.path and Path(place).exists()]
    given = ray.get_runtime_context().runtime_env or {}
    if "working_dir" not in given and Path(order.folder).is_dir():
        os.chdir(order.folder)


def _node() -> str:
    return str(ray.get_runtime_context().get_node_id())
