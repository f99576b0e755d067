"""The W&B run of one trial while it is open: its id, what is written into it, and how it ends.

A trial stopped on its web page is pruned: interrupted values would be asked again, and the person did not mean that.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb import Run

from tunehook.integrations.wandb import shared as wandb_shared
from tunehook.integrations.wandb import values as wandb_values
from tunehook.integrations.wandb.shield import current_service
from tunehook.snapshot import Snapshot
from tunehook.trial import Outcome, Trial

AXIS = "trial/step"
SHARED_PREFIX = "trial/"
# In a row of a run: what W&B writes there itself, and our axis. It drops a value without a name.
TAKEN = frozenset({"", "_step", "_runtime", "_timestamp", "_wandb", AXIS})

_log = logging.getLogger("tunehook")
# The names of metrics, as a run would have them, about which this process has said that they are taken.
_told: set[str] = set()


@dataclass
class TrialRun:
    """A run that belongs to a trial, from its open to its finish.

    Attributes:
        run: W&B's run.
        trial: The trial.
        config: The configuration as plain values.
        users: What holds the run in the user's code; ``None`` for a run of our own.
        exit_code: The code with which it was finished, ``None`` while it is open.
        failure: What the SDK raised, after which the run is left alone.
        service: The SDK's service, in which the run is.
        is_stuck: Whether its end did not come in time, so that no other call of it may be waited for.
        prefix: Stands before the names of metrics: ``trial/`` in a run that the user's code writes to, else nothing.
        steps: W&B's own steps of our rows in such a run.
    """

    run: Run
    trial: Trial
    config: dict[str, Any]
    users: wandb_shared.UsersRun | None = None
    exit_code: int | None = None
    failure: Exception | None = None
    service: object = field(default_factory=current_service)
    is_stuck: bool = False
    prefix: str = ""
    steps: list[int] = field(default_factory=list)
    _defined: set[str] = field(default_factory=set)
    _step: int = 0  # W&B's counter after our last row
    _is_joined: bool = False
    _has_user_logged: bool = False

    def __post_init__(self) -> None:
        self._step = self.run.starting_step
        if self.users is not None:
            self.prefix = SHARED_PREFIX

    def write_config(self) -> None:
        """Write the configuration over whatever the run holds."""
        self.run.config.update(self.config, allow_val_change=True)  # type: ignore[no-untyped-call]

    def log(self, step: int, row: Mapping[str, float] | Snapshot) -> None:
        """Log a row."""
        self._reopen()
        self._log_row(step, row)

    def finish(self, outcome: Outcome) -> None:
        """Write the summary and finish the run, whatever happens; a shared one with what its holder writes last."""
        self.exit_code = outcome.exit_code
        opened = self.run
        try:
            self.sum_up(outcome)
            if self.users is not None:
                self.users.finalize(outcome.exit_code)
        finally:
            wandb_shared.let_go(opened)
            self.run.finish(exit_code=outcome.exit_code)
            if self.users is not None:
                self.users.release(self.run)
        if self.users is not None and (why := wandb_shared.find_refusal(self.run)) is not None:
            folder = Path(self.run.dir).parent
            raise RuntimeError(f"W&B has not all of the run {self.run.id!r} ({why}). Upload it: wandb sync {folder}")

    def finish_resumed(self) -> Run | None:
        """Finish the run in which its holder went on after the trial, as by ``trainer.test``, if it did."""
        run = None if self.users is None else self.users.resumed()
        if run is not None:
            self.run = run
            self.write_config()  # Lightning logs the values of `save_hyperparameters` at each entry
            run.finish(exit_code=self.exit_code)
        return run

    def address(self) -> str | None:
        """The web address, or the folder of an offline run; ``None`` if W&B is disabled."""
        if self.run.disabled:
            return None
        # Not run.sync_dir, which is younger than the oldest wandb we support.
        return str(Path(self.run.dir).parent) if self.run.offline else self.run.url

    def _reopen(self) -> None:
        """Go on in the run where the user's code has finished it, as by `wandb.finish()`.

        Not found by an error: a call that asks the SDK's service for an answer, such as `step`, never returns then.
        """
        if wandb_shared.is_finished(self.run):
            wandb_shared.let_go(self.run)
            self.run = wandb_shared.reopen_run(self.run)
            self._step, self._is_joined = self.run.starting_step, False
            self._defined.clear()

    def _log_row(self, step: int, given: Mapping[str, float] | Snapshot) -> None:
        prefix = self.prefix
        values = wandb_values.describe_snapshot(given) if isinstance(given, Snapshot) else given
        row: dict[str, Any] = {prefix + wandb_values.make_text(name): value for name, value in values.items()}
        for name in TAKEN & row.keys():
            del row[name]
            _tell_taken(name, prefix)
        # By its exact name: a WandbLogger's "*" would stamp the row with a stale trainer/global_step.
        name_all = wandb_values.names_of if prefix else wandb_values.patterns_of
        names = {each for name, value in row.items() for each in name_all(name, value)}
        for name in names - self._defined:
            self._defined.add(name)
            if isinstance(given, Snapshot):
                wandb_shared.define_axis(self.run, name, prefix + wandb_values.SNAPSHOT_AXIS, summary="none")
            else:
                wandb_shared.define_axis(self.run, name, AXIS)
        row[AXIS] = step
        if self.users is None or self.run.disabled:
            if self.prefix:
                self.steps.append(self.run.step)
            self.run.log(row)
        else:
            self._log_beside(row)

    def _log_beside(self, row: dict[str, Any]) -> None:
        """Log a row so that W&B drops none of the user's, which it does with a ``step=`` below its counter.

        A row of our own moves the counter on. So where the user's code gives steps, or has logged nothing yet, our
        values join the row that is open, and leave it open; it is closed only where it holds values of ours already.
        """
        at = self.run.step  # asks the service
        is_moved = at != self._step
        if self._is_joined and not is_moved:
            self.run.log({}, commit=True)
            at += 1
        self._has_user_logged = self._has_user_logged or is_moved
        self._is_joined = not self._has_user_logged or wandb_shared.gives_steps(self.run)
        self.steps.append(at)
        self.run.log(row, commit=not self._is_joined)
        self._step = self.run.step

    def sum_up(self, outcome: Outcome) -> None:
        """Write the configuration once more, with the outcome, by which W&B groups; and the summary."""
        self.config = {**self.config, wandb_values.OURS: {**self.config[wandb_values.OURS], "outcome": outcome.state}}
        self._reopen()
        # Lightning logs the values of `save_hyperparameters` after Callback.setup, over the sampled ones.
        self.write_config()
        self.run.summary.update(wandb_values.describe_outcome(self.trial, outcome))


def _tell_taken(name: str, prefix: str) -> None:
    if name not in _told:
        _told.add(name)
        _log.warning(
            "W&B does not record the metric %r: the name %r is taken in its runs. "
            "The journal keeps it; rename it for W&B.",
            name.removeprefix(prefix),
            name,
        )


def run_id(trial: Trial) -> str:
    """The id of the trial's own run; it follows from study and trial, and later attempts have the same."""
    study = re.sub(r"[^A-Za-z0-9_-]+", "-", trial.study)[:80].strip("-")
    return f"{study or 'study'}-{trial.key or trial.name}"
