"""A run of the user's that a trial shares: written to between the user's own rows, and finished with its holder.

Unlike a run of our own it is not written by the thread alone: it is the user's, whose own calls wait for W&B as they
always did. Ours are made by the thread too, but a row is waited for up to 20 ms, since it belongs between the user's
rows. These are between ours, so ours are not counted: where the run fails, W&B's step of each goes into the journal,
and which of them W&B has follows from the step that it would go on with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wandb import Run

from tunehook.integrations.wandb.journal import note_run, runs_before
from tunehook.integrations.wandb.line import CALL
from tunehook.integrations.wandb.owners import OWNERS
from tunehook.integrations.wandb.run import SHARED_PREFIX, TrialRun, find_refusal
from tunehook.integrations.wandb.sdk import current_run, gives_steps, set_current_run
from tunehook.integrations.wandb.service import current_service, restart_service
from tunehook.integrations.wandb.users import UsersRun
from tunehook.integrations.wandb.writer import Writer
from tunehook.snapshot import Snapshot
from tunehook.trial import Outcome, Trial

# Seconds that a row is waited for, so that it lies between the user's rows as it was logged.
TURN = 0.02


@dataclass
class _Joined(TrialRun):
    """A run in which rows of the user's lie between ours."""

    prefix: str = SHARED_PREFIX
    _step: int = 0  # W&B's counter after our last row
    _is_joined: bool = False
    _has_user_logged: bool = False

    def __post_init__(self) -> None:
        self._step = self.run.starting_step

    def _reopen(self) -> None:
        before = self.run
        super()._reopen()
        if self.run is not before:
            self._step, self._is_joined = self.run.starting_step, False

    def _write(self, row: dict[str, Any]) -> None:
        """Log a row so that W&B drops none of the user's, which it does with a ``step=`` below its counter.

        A row of our own moves the counter on. So where the user's code gives steps, or has logged nothing yet, our
        values join the row that is open, and leave it open; it is closed only where it holds values of ours already.
        """
        if self.run.disabled:
            super()._write(row)
            return
        at = self.run.step  # asks the service
        is_moved = at != self._step
        if self._is_joined and not is_moved:
            self.run.log({}, commit=True)
            at += 1
        self._has_user_logged = self._has_user_logged or is_moved
        self._is_joined = not self._has_user_logged or gives_steps(self.run)
        self.steps.append(at)
        self.run.log(row, commit=not self._is_joined)
        self._step = self.run.step


class SharedRun:
    """The run of one trial that the user's training has.

    Args:
        run: W&B's run, made the trial's own.
        trial: The trial.
        config: The configuration as plain values.
        users: What holds the run in the user's code.
        writer: The thread that calls the SDK.
        finish_timeout: Seconds that its end is waited for.
    """

    is_shared = True
    stop_reason = None  # its web page stops what the user's code makes of it

    def __init__(
        self, run: Run, trial: Trial, config: dict[str, Any], users: UsersRun, writer: Writer, finish_timeout: float
    ) -> None:
        self.trial = trial
        self._open = _Joined(run, trial, config)
        self._users, self._writer, self._finish_timeout = users, writer, finish_timeout
        self._place = self._open.address()
        self._service = current_service()
        self._failure: Exception | None = None  # of the SDK, after which the run is left alone
        self._is_stuck = False  # its end did not come in time, so no other call of it may be waited for
        self._exit_code: int | None = None

    @property
    def run(self) -> Run:
        """W&B's run."""
        return self._open.run

    def open(self) -> None:
        """Write the configuration into it."""
        self._note()
        self._open.write_config()

    def log(self, step: int, row: Mapping[str, float] | Snapshot) -> None:
        """Log a row.

        Raises:
            Exception: Whatever the SDK has raised; the run is left alone from here on.
        """
        self._writer.call(functools.partial(self._try, self._open.log, step, row), limit=CALL, wait=TURN)
        self._tell_failure()

    def finish(self, outcome: Outcome) -> None:
        """Write the summary and finish the run, and wait for that.

        Raises:
            TimeoutError: It did not finish in time.
            Exception: Whatever the SDK has raised.
        """
        self._tell_failure()
        job = functools.partial(self._try, self._end, outcome)
        if not self._writer.call(job, limit=self._finish_timeout + CALL, wait=self._finish_timeout):
            self._is_stuck = True
            self._abandon()
            self._note_gap()
            raise TimeoutError(f"The W&B run {self.run.id!r} did not finish in {self._finish_timeout:g} s.")
        self._tell_failure()

    def finish_resumed(self) -> Run | None:
        """Finish the run in which its holder went on after the trial, as by ``trainer.test``, if it did."""
        if self._failure is not None or self._is_stuck or (run := self._users.resumed()) is None:
            return None
        self._open.run = run
        self._open.write_config()  # Lightning logs the values of `save_hyperparameters` at each entry
        run.finish(exit_code=self._exit_code)
        return run

    def has_reports(self, taken: int, made: int) -> int:
        """How many reports of a trial that goes on it has: those up to the checkpoint, none where it is a new one.

        An old one gets those behind the checkpoint once more, since no journal says what it has.
        """
        return taken if self.run.id in runs_before(self.trial) else -1

    def address(self) -> str | None:
        """The web address or the folder of the run."""
        return self._place

    def _tell_failure(self) -> None:
        if self._failure is not None:
            self._note_gap()
            raise self._failure

    def _note(self, steps: list[int] | None = None) -> None:
        place = {"project": self.run.project, "entity": self.run.entity}
        note_run(self.trial, self.run.id, place, is_shared=True, steps=steps)

    def _note_gap(self) -> None:
        """Note which rows were handed over, so that the others can be uploaded."""
        if not (self.run.offline or self.run.disabled):
            self._note(self._open.steps)

    def _abandon(self) -> None:
        """Let the next ``wandb.init`` open a run of its own, where this one hangs in its end."""
        if current_run() is self.run:
            set_current_run(None)

    # ------------------------------------------------------------------ in the writer's thread

    def _try(self, call: Callable[..., None], *values: Any) -> None:
        """Call the SDK; its failure may come too late for the report that waits for it."""
        if self._failure is not None:
            return
        try:
            call(*values)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is no business of the training
            self._failure = error
            OWNERS.let_go(self.run)
            if restart_service(self._service):  # so that the next wandb.init starts one where that one is gone
                self._abandon()

    def _end(self, outcome: Outcome) -> None:
        """Finish the run with what its holder writes last, and let the holder go on."""
        self._exit_code = outcome.exit_code
        opened = self.run
        try:
            self._open.sum_up(outcome)
            self._users.finalize(outcome.exit_code)
        finally:
            OWNERS.let_go(opened)
            self.run.finish(exit_code=outcome.exit_code)
            self._users.release(self.run)
        if (why := find_refusal(self.run)) is not None:
            folder = Path(self.run.dir).parent
            raise RuntimeError(f"W&B has not all of the run {self.run.id!r} ({why}). Upload it: wandb sync {folder}")
