"""The record of trials in Weights & Biases, online or offline."""

from tunehook.integrations.wandb.recorder import WandbRecorder

__all__ = ["WandbRecorder"]
