"""The record of trials in Weights & Biases, online or offline.

The SDK is imported with the recorder only: trainings without one are kept apart too, with a W&B of any version.
"""

from typing import TYPE_CHECKING

from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.integrations.wandb.past import past_trials as past_trials
    from tunehook.integrations.wandb.recorder import WandbRecorder as WandbRecorder

__all__ = ["WandbRecorder", "past_trials"]

__getattr__ = lazily(__name__, {"WandbRecorder": "recorder", "past_trials": "past"})
