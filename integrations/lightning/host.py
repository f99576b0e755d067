"""The border to Lightning and torch: what this adapter needs of them and has no public way to, but for `resume`.

Each function names the versions for which it was written.
"""
# ruff: noqa: SLF001 - this is the border

from __future__ import annotations

from typing import Any


def accumulates(trainer: Any) -> bool:
    """Whether the last batch made no step, so that its gradients are those of a part. Lightning 2.1 to 2.6."""
    return bool(trainer.fit_loop.epoch_loop._should_accumulate())


def unscales_itself(optimizer: Any) -> bool:
    """Whether an optimizer takes scaled gradients, as a fused one does. torch 2.1 to 2.9."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))
