"""Which values of a Lightning training can change in its middle, where the checkpoint of other values is restored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tunehook.inject import is_used_later, same
from tunehook.integrations.lightning.calls import base_of

_OF_TRAINER = ("accumulate_grad_batches", "gradient_clip_val")


def why_fixed(path: str, value: Any, module: Any, optimizers: Iterable[Any]) -> str:
    """Why a value has to stay as it is, ``""`` where the training goes on with a new one as if it were typed in.

    Args:
        path: The slot.
        value: What it holds.
        module: The LightningModule.
        optimizers: Its optimizers, before the first step.
    """
    kind, _, name = path.partition(".")
    own = name.rpartition(".")[2]
    if kind == "data":
        return ""
    if kind == "trainer":
        return "" if name in _OF_TRAINER else "the Trainer's plan of the whole training follows from it"
    if kind in ("scheduler", "callback"):
        return f"a {kind} goes on with what is in its checkpoint"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "optimizer":
        betas = isinstance(value, list | tuple) and all(isinstance(one, float) for one in value)
        return "" if is_number or betas else "what an optimizer keeps depends on it"
    if not isinstance(value, float):
        return "the weights may depend on it, which are restored"
    base, _ = base_of(type(module))
    if base is not None and is_used_later(type(module), base, own):
        return ""
    held = [one for part in module.modules() if part is not module for one in vars(part).values()]
    held += [one for optimizer in optimizers for group in optimizer.param_groups for one in group.values()]
    if any(isinstance(one, float) and same(value, one) for one in held):
        return ""
    return "only the constructor uses it, whose weights are restored"
