"""Whether runs are recorded online, and why."""

from __future__ import annotations

import os

import wandb

from tunehook.integrations.wandb.sdk import has_key
from tunehook.integrations.wandb.service import leave_dead_service


def find_mode(asked: str | None = None) -> tuple[str, str]:
    """The mode of our own runs and why, found without a question and without the network.

    Args:
        asked: The mode that was asked for, ``None`` for that of the environment and W&B's settings.
    """
    if asked is not None:
        return asked, "as asked for"
    if from_environment := os.environ.get("WANDB_MODE"):
        return from_environment, "WANDB_MODE"
    try:
        leave_dead_service()
        settings = wandb.setup().settings
    except Exception as error:  # noqa: BLE001 - no service; the run tells what it cannot do
        return "offline", f"W&B does not start: {error}"
    if settings.mode != "online":
        return settings.mode, "W&B's settings"
    if has_key(settings):
        return "online", "an API key is configured"
    return "offline", "no API key is configured; `wandb login` before the study, or `wandb sync` after it"
