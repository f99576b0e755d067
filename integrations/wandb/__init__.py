"""The record of trials in Weights & Biases, online or offline.

The SDK is imported with the recorder only: trainings without one are kept apart too, with a W&B of any version.
"""

from typing import TYPE_CHECKING

from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.integrations.wandb.recorder import WandbRecorder as WandbRecorder

__all__ = ["WandbRecorder"]

__getattr__ = lazily(__name__, {"WandbRecorder": "recorder"})
