"""The run of the user's Lightning ``WandbLogger``: how it is made, and how it is given back.

Lightning is never imported here, and its logger offers no public way to most of this: its private attributes are the
same from Lightning 2.1 to 2.6, which the tests hold on both ends.
"""
# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wandb import Run


@dataclass(frozen=True)
class LoggerRun:
    """The run of a ``WandbLogger``, which Lightning makes when it is first used, or takes from ``wandb.run``."""

    logger: Any
    holder: str = "WandbLogger"
    way_out: str = "make the WandbLogger inside the training function, without a fixed id"

    def plan_id(self, default: str) -> str | None:
        """The id of a run that is not made yet: the user's, else the given one, which the logger then uses."""
        if self.logger._experiment is not None:
            return None
        wanted = self.logger._wandb_init  # goes to wandb.init, with resume="allow" in every WandbLogger
        wanted["id"] = wanted.get("id") or default
        return str(wanted["id"])

    def take(self) -> Run | None:
        """The logger's run, made now if need be."""
        run: Run = self.logger.experiment
        return run

    def finalize(self, exit_code: int) -> None:
        """Log the checkpoints of ``log_model=True`` now: the trainer's own call comes after the run is finished."""
        self.logger.finalize("success" if exit_code == 0 else "failed")

    def release(self, run: Run) -> None:
        """Let the logger resume its finished run if it is used once more, as by ``trainer.test`` after the fit.

        Without this Lightning would log into a finished run, which raises. ``create_new`` keeps the resumed run from
        becoming ``wandb.run``, which the next trial's logger would adopt.
        """
        again = {"id": run.id, "project": run.project, "entity": run.entity or None}
        self.logger._wandb_init.update(again, resume="allow", reinit="create_new")
        self.logger._id, self.logger._experiment = run.id, None

    def resumed(self) -> Run | None:
        """The run that the released logger has resumed, if it has."""
        run: Run | None = self.logger._experiment
        return run


def is_wandb_logger(logger: object) -> bool:
    """Whether it is a Lightning ``WandbLogger`` of either namespace, told by the names of its classes."""
    return any(
        parent.__name__ == "WandbLogger" and parent.__module__.split(".")[0] in ("lightning", "pytorch_lightning")
        for parent in type(logger).__mro__
    )


def is_keras_callback(logger: object) -> bool:
    """Whether it is one of W&B's callbacks for Keras, whose module imports TensorFlow and so is never imported here."""
    return any(parent.__module__.startswith("wandb.integration.keras") for parent in type(logger).__mro__)


def forget_runs(loggers: Sequence[object], runs: Sequence[Run]) -> None:
    """Let loggers that adopted a run of an earlier trial make their own.

    ``wandb.init`` returns the latest open run, also one of ``create_new``, and Lightning calls it before a callback
    can close what an earlier trial left open.
    """
    for logger in loggers:
        if is_wandb_logger(logger) and any(LoggerRun(logger).resumed() is run for run in runs):
            vars(logger)["_experiment"] = None
