"""Hooks that make loaders, ``train_dataloader`` and ``val_dataloader``: which of them runs, and where in it."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tunehook.inject import Arguments, Call, frames
from tunehook.integrations.lightning.namespaces import NAMESPACES

LOADER_HOOKS = {"data.batch_size": "train_dataloader", "data.val_batch_size": "val_dataloader"}
_OWNERS = ("LightningModule", "LightningDataModule")


def place_in_hook(arguments: Arguments) -> str:
    """What stands for the place of a loader that a hook makes: its size is typed in once, whoever calls the hook.

    Where a hook calls that of its base class, or of another datamodule, it is the outer one.

    Args:
        arguments: The loader's. One that makes its batches otherwise than by size has no such place.
    """
    if not _has_size(arguments):
        return ""
    found = [(frame.f_code, hook) for frame in frames() if (hook := _hook_of(frame))]
    alike = [code for code, hook in found if hook == found[0][1]]
    return _place_of(alike[-1]) if alike else ""


def is_in_hook() -> bool:
    """Whether such a hook runs."""
    return any(_hook_of(frame) for frame in frames())


def _has_size(arguments: Arguments) -> bool:
    """Whether a loader makes its batches by size."""
    given = arguments.values()
    return given.get("batch_size", 1) is not None and given.get("batch_sampler") is None


def _hook_of(frame: FrameType) -> str:
    """Which hook for loaders of a module or datamodule runs in a frame, an empty text for none."""
    names, more, _, held = inspect.getargvalues(frame)
    given = [held.get(name) for name in names] or held.get(more or "")
    owner = given[0] if isinstance(given, list | tuple) and given else None
    classes = type(owner).__mro__
    if not any(cls.__name__ in _OWNERS and cls.__module__.startswith(NAMESPACES) for cls in classes):
        return ""
    hooks = ((name, vars(own).get(name)) for own in (owner, *classes) for name in LOADER_HOOKS.values())
    return next((name for name, hook in hooks if code_of(hook) is frame.f_code), "")


def code_of(hook: Any) -> CodeType | None:
    """The code of a hook, ``None`` where it has none."""
    code: CodeType | None = getattr(inspect.unwrap(hook), "__code__", None)
    return code


def place_of_hook(owner: Any, hook: str) -> str:
    """What stands for the places of the loaders that a hook of an object makes; an empty text where that is no method.

    Nobody sees then whose hook is called, as of those of ``LightningDataModule.from_datasets``.
    """
    method = getattr(owner, hook)
    code = code_of(method)
    return "" if code is None or not inspect.ismethod(method) else _place_of(code)


def route_in_hook(call: Call) -> list[tuple[CodeType, int]]:
    """Where in its hook a call is made; an empty list if it is made in none."""
    inside = [number for number, (code, _) in enumerate(call.route, 1) if _place_of(code) == call.place]
    return [*call.route[: max(inside, default=0)]]


def _place_of(hook: CodeType) -> str:
    return f"{Path(hook.co_filename).name}:{hook.co_qualname}"
