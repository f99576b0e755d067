"""One trial after the other in this process."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable

from tunehook.launch.failures import Raised
from tunehook.launch.leader import Leader, Running
from tunehook.launch.led import Led
from tunehook.launch.one import train_one
from tunehook.launch.progress import Progress
from tunehook.launch.ranks import announce
from tunehook.launch.request import Request
from tunehook.session import TrialSession, broadcast
from tunehook.trial import StudyError


class Local(Leader[Running]):
    """Leads a study whose trials train here; see `Leader`. Ctrl-C and SIGTERM are the training's own.

    Args:
        study: The study.
        train: The training.
        request: What was asked for.
    """

    is_elsewhere = False
    _is_training = threading.Lock()  # held while a study is led here: a process trains one trial at a time

    def __init__(self, study: Led, train: Callable[[], object], request: Request) -> None:
        super().__init__(study, request)
        self._train = train
        self._watcher: Progress | None = None

    def run(self, table: Progress | None = None) -> None:
        """See `Leader`; the session tells the table.

        Raises:
            StudyError: Another thread leads a study in this process.
        """
        if not self._is_training.acquire(blocking=False):
            raise StudyError(
                f"Study '{self._study.name}' cannot train here: another thread of this process is in a study.optimize, "
                "and one process trains one trial at a time.\n"
                "  For trials side by side call study.optimize(train, workers=2) once."
            )
        try:
            self._watcher = table
            self._loop()
            announce(None)
            self._failures.close()
        finally:
            self._is_training.release()

    def _begin(self, session: TrialSession) -> None:
        """Train it to its end."""
        announce(session.trial)
        error = train_one(session, self._train, self._watcher)
        outcome = session.outcome
        assert outcome is not None  # noqa: S101 - it has ended
        if outcome.state == "interrupted" and not session.decision.stop:  # not one that another process took for lost
            raise error if error is not None else KeyboardInterrupt
        if error is not None and broadcast() is not None:  # the other ranks are gone
            raise error
        raised = None if error is None else Raised.of(error)
        if error is not None and not self._failures.is_final(outcome, raised):  # which is raised with its frames
            _free(error)
        one = Running("", session, told=outcome, is_done=True)
        self._show_end(one, outcome)
        self._judge(one, raised)
        _free_gpu()

    def _listen(self, seconds: float) -> None:
        """Nothing comes from elsewhere. Processes that wait for the same trial look at different times."""
        time.sleep(random.SystemRandom().uniform(0.5, 1.5) * seconds)

    def _signal(self, one: Running, number: int) -> None:
        """No trial runs beside this."""
        raise StudyError("A trial of this process has no process of its own that could be signalled.")


def _free_gpu() -> None:
    """Free what the last trial has on a GPU: its objects hold each other until Python looks for such, which is late."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()


def _free(error: BaseException) -> None:
    """Let go of what the frames of an error hold, and of those that it was raised from: the model's memory."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        traceback.clear_frames(link.__traceback__)
        chain.append(link)
        link = link.__cause__ or link.__context__
