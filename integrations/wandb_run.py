"""The W&B run of one trial while it is open: its id, what is written into it, and how it ends."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb import Run
from wandb.errors import UsageError

from tunehook.integrations import wandb_logger, wandb_values
from tunehook.trial import Outcome, Trial

AXIS = "trial/step"
SHARED_PREFIX = "trial/"

_log = logging.getLogger("tunehook")


@dataclass
class TrialRun:
    """A run that belongs to a trial, from its open to its finish.

    Attributes:
        run: W&B's run.
        trial: The trial.
        config: The configuration as plain values.
        logger: The user's ``WandbLogger`` whose run it is; ``None`` for a run of our own.
        exit_code: The code with which it was finished, ``None`` while it is open.
    """

    run: Run
    trial: Trial
    config: dict[str, Any]
    logger: Any = None
    exit_code: int | None = None
    _defined: set[str] = field(default_factory=set)
    _is_lost: bool = False

    def write_config(self) -> None:
        """Write the configuration over whatever the run holds."""
        self.run.config.update(self.config, allow_val_change=True)  # type: ignore[no-untyped-call]

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log a row, unless the user's code has finished the run, which is told once."""
        if self._is_lost:
            return
        try:
            self._log_row(step, metrics)
        except UsageError as error:
            # wandb.init() in the user's code returns the latest open run, ours too, and may finish it.
            self._is_lost = True
            _log.warning("The W&B run of %s keeps nothing from step %s on: %s", self.trial.name, step, error)

    def finish(self, outcome: Outcome) -> None:
        """Write the summary and finish the run, whatever happens; a shared one with its checkpoints."""
        self.exit_code = outcome.exit_code
        try:
            self._sum_up(outcome)
            if self.logger is not None:
                # Logs the checkpoints of log_model=True now: the trainer's own call comes after the run is finished.
                self.logger.finalize("success" if outcome.exit_code == 0 else "failed")
        finally:
            self.run.finish(exit_code=outcome.exit_code)
            if self.logger is not None:
                wandb_logger.release_run(self.logger, self.run)

    def finish_resumed(self) -> Run | None:
        """Finish the run that the logger resumed after the trial, as by ``trainer.test``; ``None`` if it did not."""
        run = wandb_logger.resumed_run(self.logger)
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

    def _log_row(self, step: int, metrics: Mapping[str, float]) -> None:
        prefix = "" if self.logger is None else SHARED_PREFIX
        row = {prefix + name: value for name, value in metrics.items()}
        for name in row.keys() - self._defined:
            # By its exact name: a WandbLogger's "*" would stamp the row with a stale trainer/global_step.
            self.run.define_metric(name, step_metric=AXIS)
            self._defined.add(name)
        self.run.log({**row, AXIS: step})

    def _sum_up(self, outcome: Outcome) -> None:
        try:
            # Lightning logs the values of `save_hyperparameters` after Callback.setup, over the sampled ones.
            self.write_config()
            self.run.summary.update(wandb_values.describe_outcome(self.trial, outcome))
        except UsageError as error:
            _log.warning("The W&B run of %s lacks its outcome (%s): %s", self.trial.name, outcome.state, error)


def run_id(trial: Trial) -> str:
    """The id of the trial's own run; it follows from study and trial, and later attempts have the same."""
    study = re.sub(r"[^A-Za-z0-9_-]+", "-", trial.study)[:80].strip("-")
    return f"{study or 'study'}-{trial.key or trial.name}"
