"""Signs of life of running trials, in the storage itself, for processes on other machines.

Optuna's own heartbeat is one of its relational storages alone and runs under its ``optimize`` alone. This one is an
attribute of the trial, so that it goes through every storage, its gRPC proxy too. Whether it still changes is watched
by each process on its own clock: nothing depends on the clocks of two machines being equal.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from tunehook.system import has_own_ids, in_thread, trial_id

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

log = logging.getLogger("tunehook")

ALIVE = "tunehook:alive"  # the user attribute that changes while the process of a trial lives
INTERVAL = 15.0  # seconds between two signs
GRACE = 60.0  # seconds of silence after which a trial is lost


class Pulse:
    """Gives signs of life for the running trials of this process, and watches those of others.

    Args:
        storage: Where the trials are kept; its calls are not waited for.
        interval: Seconds between two signs. Defaults to 15.
        grace: Seconds of silence, as seen from here, after which a trial is lost. Defaults to 60.
        is_file: Whether it is a file, whose processes look each other up, and only those in containers, which have ids
            of their own, give signs. Defaults to False.

    Attributes:
        study_id: The study in the storage, once it is known.
        gives_signs: Whether this process gives them.
    """

    def __init__(
        self,
        storage: BaseStorage,
        *,
        interval: float | None = None,
        grace: float | None = None,
        is_file: bool = False,
    ) -> None:
        self._storage = storage
        self._interval, self._grace = interval or INTERVAL, grace or GRACE
        self._mine: set[int] = set()
        self._seen: dict[int, tuple[object, float]] = {}  # the last sign, and seconds of silence since
        self._looked: float | None = None
        self._lock = threading.Lock()
        self._beats = False
        self.study_id: int | None = None
        self._is_file, self.gives_signs = is_file, not is_file or has_own_ids()

    def add(self, trial: int) -> None:
        """Give signs for a trial from now on."""
        if not self.gives_signs:
            return
        with self._lock:
            self._mine.add(trial)
            if not self._beats:
                try:
                    in_thread(_run, weakref.ref(self), self._interval)
                except OSError as error:  # the next trial tries again
                    log.warning("No signs of life are given (%s): trials of this process may be taken for lost.",
                                error.strerror)  # fmt: skip
                else:
                    self._beats = True

    def remove(self, trial: int) -> None:
        """Give no further signs for a trial."""
        with self._lock:
            self._mine.discard(trial)

    def look(self, running: Iterable[FrozenTrial]) -> None:
        """Take note of which signs have changed.

        Args:
            running: All running trials of the study, as the storage has them now.
        """
        with self._lock:
            now = time.monotonic()
            # The storage may have been away in between, for those who give signs too: that silence says little.
            since = 0.0 if self._looked is None else min(now - self._looked, 2 * self._interval)
            self._looked = now
            for trial in running:
                sign = (trial.datetime_start, trial.user_attrs.get(ALIVE))
                before, silent = self._seen.get(trial_id(trial), (None, 0.0))
                self._seen[trial_id(trial)] = (sign, silent + since if sign == before else 0.0)

    def watches(self, frozen: FrozenTrial) -> bool:
        """Whether the process of a trial gives signs."""
        return not self._is_file or ALIVE in frozen.user_attrs

    def is_lost(self, trial: int) -> bool:
        """Whether a trial has given no sign for too long; False for one that was never looked at."""
        with self._lock:
            return trial not in self._mine and self._seen.get(trial, (None, 0.0))[1] > self._grace

    def beat(self) -> bool:
        """Give one sign for each trial of this process, and look at the others; False where there is none to give."""
        with self._lock:
            mine = set(self._mine)
            if not mine:
                self._beats = False
                return False
        for trial in mine:
            try:
                self._storage.set_trial_user_attr(trial, ALIVE, f"{os.getpid()} {time.time():.3f}")
            except (UpdateFinishedTrialError, KeyError):
                self.remove(trial)
            except Exception:  # noqa: BLE001 - the storage is away: the next sign may arrive
                break
        if self.study_id is not None:
            with contextlib.suppress(Exception):
                found = self._storage.get_all_trials(self.study_id, deepcopy=False, states=(TrialState.RUNNING,))
                self.look(found)
        return True


def _run(held: weakref.ref[Pulse], interval: float) -> None:
    """Give signs until there are none to give, or until nobody has the study any more, who could tell the end."""
    goes_on = True
    while goes_on:
        time.sleep(interval)
        pulse = held()
        goes_on = pulse is not None and pulse.beat()
        del pulse
