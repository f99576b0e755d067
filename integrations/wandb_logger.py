"""Sharing the run of the user's Lightning ``WandbLogger``: whose run it is, and how it is given back.

Lightning is never imported here, and its logger offers no public way to most of this: its private attributes are the
same from Lightning 2.1 to 2.6, which the tests hold on both ends.
"""
# ruff: noqa: SLF001

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wandb import Run
from wandb.errors import UsageError

from tunehook.trial import Trial

# Which trial a run of this process belongs to. Shared by all recorders: two studies can meet in one WandbLogger.
_owners: dict[str, tuple[str, str, int]] = {}


@dataclass(frozen=True)
class Defaults:
    """What a shared run gets where its user gave nothing."""

    id: str
    name: str
    group: str
    tags: tuple[str, ...]
    job_type: str = "trial"


def find_logger(loggers: Sequence[object]) -> Any:
    """The first Lightning ``WandbLogger`` of either namespace, told by the names of its classes; else ``None``."""
    return next((logger for logger in loggers if _is_wandb_logger(logger)), None)


def share_run(logger: Any, trial: Trial, defaults: Defaults) -> Run:
    """The logger's run, made this trial's own.

    Raises:
        ValueError: If the run belongs to another trial or is finished.
    """
    if logger._experiment is None:
        wanted = logger._wandb_init
        wanted["id"] = wanted.get("id") or defaults.id  # goes to wandb.init, with resume="allow" in every WandbLogger
        _refuse_others(wanted["id"], trial, _owners.get(wanted["id"]))
    run: Run = logger.experiment
    claim_run(run, trial)
    # Lightning makes the experiment before any Callback.setup, and wandb has no setter for group and job type: they
    # are set as `run.tags = ...` does it. Later records of a run complete its first one, online and offline.
    settings = run._settings
    settings.run_group = settings.run_group or defaults.group
    settings.run_job_type = settings.run_job_type or defaults.job_type
    if not (logger._wandb_init.get("name") or os.environ.get("WANDB_NAME")):
        settings.run_name = defaults.name
    run.tags = settings.run_tags or defaults.tags
    return run


def claim_run(run: Run, trial: Trial) -> None:
    """Note that the run is this trial's.

    Raises:
        ValueError: If it belongs to another trial or is finished.
    """
    told = dict(run.config).get("tunehook")  # by the server, if the run was resumed
    _refuse_others(run.id, trial, _owners.get(run.id) or (told and (told["key"], told["study"], told["trial"])))
    try:
        run.define_metric("trial/step")
    except UsageError as error:
        raise ValueError(_not_yours(run.id, trial, "is finished already")) from error
    _owners[run.id] = (trial.key, trial.study, trial.number)


def release_run(logger: Any, run: Run) -> None:
    """Let the logger resume its finished run if it is used once more, as by ``trainer.test`` after the fit.

    Without this Lightning would log into a finished run, which raises. ``create_new`` keeps the resumed run from
    becoming ``wandb.run``, which the next trial's logger would adopt.
    """
    again = {"id": run.id, "project": run.project, "entity": run.entity or None}
    logger._wandb_init.update(again, resume="allow", reinit="create_new")
    logger._id, logger._experiment = run.id, None


def resumed_run(logger: Any) -> Run | None:
    """The run that a released logger has resumed, if it has."""
    run: Run | None = logger._experiment
    return run


def forget_runs(loggers: Sequence[object], runs: Sequence[Run]) -> None:
    """Let loggers that adopted a run of an earlier trial make their own.

    ``wandb.init`` returns the latest open run, also one of ``create_new``, and Lightning calls it before a callback
    can close what an earlier trial left open.
    """
    for logger in loggers:
        if _is_wandb_logger(logger) and any(resumed_run(logger) is run for run in runs):
            vars(logger)["_experiment"] = None


def _is_wandb_logger(logger: object) -> bool:
    return any(
        parent.__name__ == "WandbLogger" and parent.__module__.split(".")[0] in ("lightning", "pytorch_lightning")
        for parent in type(logger).__mro__
    )


def _refuse_others(run_id: str, trial: Trial, owner: tuple[str, str, int] | None) -> None:
    if owner and owner[0] != trial.key:  # an attempt has the key of the first one
        raise ValueError(_not_yours(run_id, trial, f"belongs to trial-{owner[2]:04d} of study {owner[1]!r}"))


def _not_yours(run_id: str, trial: Trial, why: str) -> str:
    return (
        f"The WandbLogger of {trial.name} of study {trial.study!r} holds the W&B run {run_id!r}, which {why}. "
        "Every trial needs a run of its own: make the WandbLogger inside the training function, without a fixed id."
    )
