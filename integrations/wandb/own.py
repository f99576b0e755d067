"""A run of our own, begun, written and finished by the writer's thread, and begun again after a failure.

A row of the run is a report or a snapshot of the journal, in the same order over all attempts of the trial, each step
once: the n-th row is the n-th of these events. So what W&B has of a run is told by a number, and the rest is read from
the journals.

Rows are counted, not confirmed: a run of our own has one row for each ``report`` of the journals, in their order over
all attempts. The number that the server has says which are missing, after a resume, a killed service or an upload
later, and a second upload finds nothing to do.

Our runs are not in the SDK's list of open ones: ``wandb.init`` in a training would return the latest of them, which
``wandb.log`` does not know. Nor are they in the sweep of an agent, where the SDK drops their ids.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb import Run, Settings

from tunehook.integrations.wandb.journal import mark_synced, note_run, rows_before, rows_until_now
from tunehook.integrations.wandb.line import CALL, LONGEST, WRONG, Line, reason_of
from tunehook.integrations.wandb.owners import OWNERS, NotYoursError
from tunehook.integrations.wandb.run import TrialRun, find_refusal, make_settings, run_id
from tunehook.integrations.wandb.sdk import was_cut_off
from tunehook.integrations.wandb.service import end_service, leave_service, restart_service, use_service
from tunehook.snapshot import Snapshot
from tunehook.trial import Outcome, Trial

# So many rows wait for W&B at most; the journal has those beyond, and they are read from there.
ROWS = 10_000
# No further snapshot joins so many, since one of a large model takes a megabyte.
SNAPSHOTS = 200

_log = logging.getLogger("tunehook")


@dataclass(frozen=True)
class Wanted:
    """What a run of our own is made with.

    Attributes:
        options: The arguments of ``wandb.init``.
        config: The configuration as plain values.
        mode: ``"online"``, ``"offline"`` or another one of W&B's.
        lean: Whether a run leaves out what makes its beginning slow.
        init_timeout: Seconds until a run that cannot begin online is begun offline.
        finish_timeout: Seconds that the upload may take at the end of the run.
    """

    options: Mapping[str, Any]
    config: dict[str, Any]
    mode: Any
    lean: bool
    init_timeout: float
    finish_timeout: float


class OwnRun:
    """The run of one trial, driven from the thread that trains, without ever waiting for W&B.

    Args:
        trial: The trial.
        wanted: How its run is made.
        line: The way to W&B.
        started: Is called in the writer's thread when the SDK has its service, maybe a new one.
    """

    is_shared = False

    def __init__(self, trial: Trial, wanted: Wanted, line: Line, started: Callable[[], None]) -> None:
        self.trial, self.wanted = trial, wanted
        self.place: str | None = None
        self._line, self._writer, self._started = line, line.writer, started
        self._reported = 0
        self._is_full = False
        self._mode: Any = "offline" if line.is_down and wanted.mode == "online" else wanted.mode
        self._is_awaited = self._mode != "online"
        self._is_late = False
        # From here on the writer's own.
        self._open: TrialRun | None = None
        self._service: object = None
        self._sent = self._base = 0
        self._is_lost = self._is_stopped = False
        self._restarts = 5

    @property
    def run(self) -> Run | None:
        """The run of the SDK, ``None`` until it is begun."""
        return None if self._open is None else self._open.run

    @property
    def stop_reason(self) -> str | None:
        """Why the trial shall stop: someone pressed the Stop button of the run's web page."""
        return "stopped by hand on the W&B page of its run" if self._is_stopped else None

    def open(self) -> None:
        """Begin the run; offline, where no network is asked, it is waited for, so that its folder is known.

        Raises:
            NotYoursError: The run is another trial's.
        """
        note_run(self.trial, run_id(self.trial), self.wanted.options)
        limit = self.wanted.init_timeout + CALL
        if not self._is_awaited:
            self._writer.put(self._begin, limit=limit)
        else:
            self._is_late = not self._writer.call(self._begin, limit=limit, wait=min(self.wanted.init_timeout, LONGEST))

    def log(self, step: int, row: Mapping[str, float] | Snapshot) -> None:
        """Hand a row over; where too many wait, the writer reads the rest from the journal at the end."""
        number, self._reported = self._reported, self._reported + 1
        limit = SNAPSHOTS if isinstance(row, Snapshot) else ROWS
        self._is_full = self._is_full or len(self._writer) >= limit
        if not self._is_full:
            job = functools.partial(self._write, number, step, row)
            self._writer.put(job, limit=CALL, is_slow=True)

    def finish(self, outcome: Outcome) -> None:
        """Hand the end over. Offline it is waited for, since it takes milliseconds."""
        job = functools.partial(self._finish, outcome, self._reported)
        limit = self.wanted.finish_timeout + CALL
        self._writer.put(job, limit=limit)
        if self._is_awaited:
            self._writer.drain(min(self.wanted.finish_timeout, LONGEST))

    def finish_resumed(self) -> None:
        """Nothing: the user's code never writes to it."""

    def has_reports(self, taken: int, made: int) -> int:
        """How many reports of a trial that goes on it has: all that were made, since what it lacks is in journals."""
        return made

    def address(self) -> str | None:
        """The web address or the folder of the run, ``None`` until W&B has told it."""
        return self.place

    # ------------------------------------------------------------------ in the writer's thread

    def _begin(self) -> None:
        try:
            self._start()
        except NotYoursError:  # the user's to mend, where the opening waits for it
            self._lose("its run is another trial's")
            raise
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is no business of the training
            self._lose(error)
            return
        self._base = max(len(rows_before(self.trial)), self._first_row()) if self.trial.is_again else 0
        self._sent = min(self._first_row(), self._base) if self._mode == "online" else self._base

    def _write(self, number: int, step: int, row: Mapping[str, float] | Snapshot) -> None:
        if self._is_lost or self._open is None:
            return
        try:
            self._catch_up(number)
            if self._base + number >= self._sent:
                self._open.log(step, row)
                self._sent = self._base + number + 1
        except Exception as error:  # noqa: BLE001 - as above
            self._recover(error)

    def _finish(self, outcome: Outcome, reported: int) -> None:
        while not self._is_lost and self._open is not None:
            try:
                self._catch_up(reported)
                self._open.finish(outcome)
            except Exception as error:  # noqa: BLE001 - as above
                self._recover(error)
            else:
                break
        leave_service(self)
        if self._open is not None:
            run, self._open = self._open.run, None
            OWNERS.let_go(run)
            if was_cut_off(run):
                self._line.tell_down(f"{self.trial.name} was not uploaded in {self.wanted.finish_timeout:g} s")
            elif (why := find_refusal(run)) is not None:
                self._line.tell_refusal(self.trial, why)

    def _catch_up(self, number: int) -> None:
        """Write the rows before our row of this number that W&B does not have, from the journals."""
        missing = self._base + number - self._sent
        if missing <= 0 or self._open is None:
            return
        for step, row in rows_until_now(self.trial)[self._sent : self._base + number]:
            self._open.log(step, row)
        self._sent = self._base + number

    def _recover(self, error: Exception) -> None:
        """Go on after a failure of the SDK, where its service was killed: a few times, with a new service."""
        _log.debug("W&B failed in %s.", self.trial.name, exc_info=error)
        if self._open is not None:
            OWNERS.let_go(self._open.run)
            self._open = None
        if not restart_service(self._service) or self._restarts == 0:
            self._lose(error)
            return
        self._restarts -= 1
        before = self.place
        try:
            self._start()
        except Exception as again:  # noqa: BLE001 - as above
            self._lose(again)
            return
        if self._mode == "online":
            self._sent = min(self._sent, max(self._first_row(), 0))
        elif self._is_awaited and before not in (None, self.place):
            # What the dead service has written of its folder is not known, so all goes into the new one.
            self._sent = self._base
            mark_synced(Path(str(before)), run_id(self.trial))

    def _start(self) -> None:
        """Begin the run; again where the service was gone, offline where the server is."""
        while True:
            try:
                return self._init()
            except (NotYoursError, *WRONG):
                raise
            except Exception as error:
                if self._restarts > 0 and restart_service(self._service):
                    self._restarts -= 1
                elif self._mode == "online":
                    self._fall_back(error)
                else:
                    raise

    def _fall_back(self, error: Exception) -> None:
        self._line.tell_down(error)
        self._mode = "offline"
        end_service(self)  # it still holds the id of the run that failed to begin

    def _init(self) -> None:
        self._service = use_service(self)
        self._started()
        is_again = self.trial.is_again or self.place is not None
        run = OWNERS.begin(
            run_id(self.trial),
            **self.wanted.options,
            # An unconditional "allow" would cost each first attempt a request.
            resume="allow" if is_again else None,
            config=self.wanted.config,
            mode=self._mode,
            settings=self._settings(),
        )
        OWNERS.claim(run, self.trial)
        self._open = TrialRun(run, self.trial, self.wanted.config)
        self._note(self._open.address())

    def _settings(self) -> Settings:
        wanted = self.wanted
        limits: dict[str, Any] = {"init_timeout": wanted.init_timeout, "finish_timeout": wanted.finish_timeout}
        if self._mode != "online":
            return make_settings(lean=wanted.lean, **limits)

        def stop() -> None:  # a function: the SDK copies its settings with all that hangs on them
            self._is_stopped = True

        # The viewer is two look-ups of the user, up to 10 s where the server hangs.
        return make_settings(lean=wanted.lean, x_disable_viewer=True, stop_fn=stop, **limits)

    def _first_row(self) -> int:
        """How many rows W&B has."""
        return 0 if self._open is None else self._open.run.starting_step

    def _note(self, place: str | None) -> None:
        """Keep where the run lies; what is told after the opening has returned is written into the journal here."""
        is_news, self.place = place not in (None, self.place), place
        if is_news and (self._is_late or not self._is_awaited):
            note_run(self.trial, run_id(self.trial), self.wanted.options, place)

    def _lose(self, why: object) -> None:
        self._is_lost = True
        leave_service(self)
        self._line.tell_loss(self.trial, reason_of(why))
