"""The run that the user's training has, wherever it is held: found, made one trial's own, and completed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import wandb
from wandb import Run

from tunehook.integrations.wandb.apart import take
from tunehook.integrations.wandb.logger import LoggerRun, is_keras_callback, is_wandb_logger
from tunehook.integrations.wandb.owners import INSIDE, OWNERS, Holding, NotYoursError, Training, refusal
from tunehook.integrations.wandb.sdk import is_named, is_of_this_process, settings_of
from tunehook.trial import Trial


@dataclass(frozen=True)
class Defaults:
    """What a shared run gets where its user gave nothing."""

    id: str
    name: str
    group: str
    tags: tuple[str, ...]
    job_type: str = "trial"


class UsersRun(Holding, Protocol):
    """A run of the user's code, by what holds it."""

    def plan_id(self, default: str) -> str | None:
        """The id of a run that is not made yet, by default the given one; ``None`` if it is made."""

    def take(self) -> Run | None:
        """The run, made now if need be; ``None`` if there is none."""

    def finalize(self, exit_code: int) -> None:
        """Write what the holder writes at the end."""

    def release(self, run: Run) -> None:
        """Let the holder go on after its run is finished, where it can."""

    def resumed(self) -> Run | None:
        """The run in which a released holder has gone on, if it has."""


@dataclass(frozen=True)
class OpenRun:
    """The global ``wandb.run``, to which ``wandb.log`` and W&B's callbacks for Keras write.

    Attributes:
        callback: The name of the Keras callback that writes to it, ``None`` without one.
    """

    callback: str | None = None

    @property
    def holder(self) -> str:
        """What holds the run, for messages."""
        return self.callback or Training.holder

    @property
    def way_out(self) -> str:
        """How each trial gets a run of its own."""
        return INSIDE if self.callback is None else f"{INSIDE}, before {self.callback} is made"

    def plan_id(self, default: str) -> str | None:
        """Nothing: the run is made by the user."""
        return None

    def take(self) -> Run | None:
        """The run that is open."""
        return wandb.run

    def finalize(self, exit_code: int) -> None:
        """Nothing: W&B's callbacks write as they go."""

    def release(self, run: Run) -> None:
        """Nothing: ``wandb.run`` is ``None`` as soon as its run is finished, and ``wandb.log`` raises."""

    def resumed(self) -> Run | None:
        """Never."""
        return None


def find_run(loggers: Sequence[object], around: str | None) -> UsersRun | None:
    """The run that the user's training has, else ``None``.

    A ``WandbLogger`` of Lightning and W&B's callbacks for Keras are told by the names of their classes. Without one, it
    is the open ``wandb.run``, unless it is a run around the study, another trial's, or one of a parent process.

    Args:
        loggers: The loggers that the user gave to the framework.
        around: The id of the run around the study.
    """
    for logger in loggers:
        if is_wandb_logger(logger):
            return LoggerRun(logger)
        if is_keras_callback(logger):
            return OpenRun(type(logger).__name__)
    run = wandb.run
    if run is None or run.id == around or not is_of_this_process(run) or OWNERS.is_held(run):
        return None
    return OpenRun()


def share_run(users: UsersRun, trial: Trial, defaults: Defaults) -> Run:
    """The user's run, made this trial's own.

    Raises:
        NotYoursError: If the run belongs to another trial or is finished, or if there is none.
    """
    if (planned := users.plan_id(defaults.id)) is not None:
        OWNERS.check(planned, trial, users)
    run = users.take()
    if run is None:
        raise NotYoursError(refusal(trial, users, "finds no open W&B run"))
    OWNERS.claim(run, trial, users)
    take(run, trial)
    if not run.disabled:
        _complete(run, defaults)
    return run


def _complete(run: Run, defaults: Defaults) -> None:
    """Set what the user did not give.

    The run is made before a callback hears of the training, and wandb has no setter for group and job type: they are
    set as ``run.tags = ...`` does it. Later records of a run complete its first one, online and offline.
    """
    settings = settings_of(run)
    settings.run_group = settings.run_group or defaults.group
    settings.run_job_type = settings.run_job_type or defaults.job_type
    if not is_named(run):
        settings.run_name = defaults.name
    run.tags = settings.run_tags or defaults.tags
