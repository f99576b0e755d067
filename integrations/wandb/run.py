"""An open run of the SDK that belongs to a trial: how it is begun, what is written into it, and how it ends."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb import Run, Settings
from wandb.errors import UsageError

from tunehook.integrations.wandb.owners import OWNERS
from tunehook.integrations.wandb.sdk import is_finished, settings_of
from tunehook.integrations.wandb.values import (
    OURS,
    SNAPSHOT_AXIS,
    describe_outcome,
    describe_snapshot,
    make_text,
    names_of,
    patterns_of,
)
from tunehook.snapshot import Snapshot
from tunehook.trial import Outcome, Trial

AXIS = "trial/step"
SHARED_PREFIX = "trial/"
# In a row of a run: what W&B writes there itself, and our axis. It drops a value without a name.
TAKEN = frozenset({"", "_step", "_runtime", "_timestamp", "_wandb", AXIS})

LEAN = Settings(
    x_save_requirements=False,
    x_disable_stats=True,
    x_disable_meta=True,
    x_disable_machine_info=True,
    console="off",
    disable_git=True,
    symlink=False,  # `latest-run` and two more, which every run would move
)

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
        prefix: Stands before the names of metrics: ``trial/`` in a run that the user's code writes to, else nothing.
        steps: W&B's own steps of our rows in such a run.
    """

    run: Run
    trial: Trial
    config: dict[str, Any]
    prefix: str = ""
    steps: list[int] = field(default_factory=list)
    _defined: set[str] = field(default_factory=set)

    def write_config(self) -> None:
        """Write the configuration over whatever the run holds."""
        self.run.config.update(self.config, allow_val_change=True)  # type: ignore[no-untyped-call]

    def log(self, step: int, row: Mapping[str, float] | Snapshot) -> None:
        """Log a row."""
        self._reopen()
        values = describe_snapshot(row) if isinstance(row, Snapshot) else row
        named = {self.prefix + make_text(name): value for name, value in values.items()}
        for name in TAKEN & named.keys():
            del named[name]
            _tell_taken(name, self.prefix)
        written, is_snapshot = len(self.steps), isinstance(row, Snapshot)
        try:
            self._put(named, step, is_snapshot=is_snapshot)
        except UsageError:
            if not is_finished(self.run):
                raise
            del self.steps[written:]  # the user's code has finished it at this very moment, and it took nothing
            self._reopen()
            self._put(named, step, is_snapshot=is_snapshot)

    def _put(self, named: dict[str, Any], step: int, *, is_snapshot: bool) -> None:
        self._define(named, is_snapshot=is_snapshot)
        self._write({**named, AXIS: step})

    def finish(self, outcome: Outcome) -> None:
        """Write the summary and finish the run, whatever happens."""
        opened = self.run
        try:
            self.sum_up(outcome)
        finally:
            OWNERS.let_go(opened)
            self.run.finish(exit_code=outcome.exit_code)

    def sum_up(self, outcome: Outcome) -> None:
        """Write the configuration once more, with the outcome, by which W&B groups; and the summary."""
        self.config = {**self.config, OURS: {**self.config[OURS], "outcome": outcome.state}}
        self._reopen()
        # Lightning logs the values of `save_hyperparameters` after Callback.setup, over the sampled ones.
        self.write_config()
        self.run.summary.update(describe_outcome(self.trial, outcome))

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
        if is_finished(self.run):
            OWNERS.let_go(self.run)
            self.run = _begin_again(self.run)
            self._defined.clear()

    def _define(self, row: Mapping[str, Any], *, is_snapshot: bool) -> None:
        # By its exact name: a WandbLogger's "*" would stamp the row with a stale trainer/global_step.
        name_all = names_of if self.prefix else patterns_of
        names = {each for name, value in row.items() for each in name_all(name, value)}
        for name in names - self._defined:
            self._defined.add(name)
            if is_snapshot:
                define_axis(self.run, name, self.prefix + SNAPSHOT_AXIS, summary="none")
            else:
                define_axis(self.run, name, AXIS)

    def _write(self, row: dict[str, Any]) -> None:
        if self.prefix:
            self.steps.append(self.run.step)
        self.run.log(row)


def make_settings(*, lean: bool = True, **given: Any) -> Settings:
    """The settings of a run of our own; each one more costs its beginning 0.1 ms.

    Args:
        lean: Leave out what makes its beginning slow.
        given: Further ones. Two of those that we use are not in the oldest wandb that we support.
    """
    known = {name: value for name, value in given.items() if name in Settings.model_fields}
    return (LEAN if lean else Settings()).model_copy(update={"silent": True, **known})


def define_axis(run: Run, name: str, axis: str, **options: Any) -> None:
    """Show a metric over another one; a name that W&B cannot define, such as ``recall@*k``, is shown over its steps."""
    with contextlib.suppress(wandb.Error):
        run.define_metric(name, step_metric=axis, **options)


def find_refusal(run: Run) -> str | None:
    """Why the server did not take all of a finished run, as where it refused the key in the middle.

    The SDK drops what is refused without an error, and says so in its log only.
    """
    if run.offline or run.disabled:
        return None
    with contextlib.suppress(OSError), Path(settings_of(run).log_internal).open(errors="replace") as log:
        for line in log:
            if found := re.search(r'filestream: fatal error: (?:filestream: )?(.+?)(?: url=|")', line):
                return found[1]
    return None


def run_id(trial: Trial) -> str:
    """The id of the trial's own run; it follows from study and trial, and later attempts have the same."""
    return f"{id_of_study(trial.study)}-{trial.key or trial.name}"


def id_of_study(name: str) -> str:
    """The name of a study as W&B takes it in an id."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:80].strip("-") or "study"


def _begin_again(run: Run) -> Run:
    """Go on in a run that the user's code has finished; offline it is a fragment of the same id."""
    past = settings_of(run)
    return OWNERS.begin(
        run.id,
        project=run.project,
        entity=run.entity or None,
        name=past.run_name,
        group=past.run_group,
        job_type=past.run_job_type,
        tags=past.run_tags,
        dir=past.root_dir,
        mode="offline" if run.offline else "online",
        resume="allow",
        settings=make_settings(),
    )


def _tell_taken(name: str, prefix: str) -> None:
    if name not in _told:
        _told.add(name)
        _log.warning(
            "W&B does not record the metric %r: the name %r is taken in its runs. "
            "The journal keeps it; rename it for W&B.",
            name.removeprefix(prefix),
            name,
        )
