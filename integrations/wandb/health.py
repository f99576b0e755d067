"""What `tunehook doctor` says of W&B. Nothing is sent, nobody is asked, and no key is shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tunehook.doctor import Finding
from tunehook.system import hidden

_MODES = ("online", "offline", "shared", "disabled", "dryrun", "run")  # the last two are older names


def look_at_wandb() -> Iterator[Finding]:
    """The mode in which runs are recorded, the key, the server, and the folder of the runs."""
    given = os.environ.get("WANDB_MODE")
    if given and given not in _MODES:
        yield Finding("wandb", "harm", f"WANDB_MODE is {given!r}, which W&B does not know",
                      f"unset it, or give one of {', '.join(_MODES[:4])}")  # fmt: skip
        return
    try:
        from tunehook.integrations.wandb.mode import find_mode
    except ImportError as error:  # the SDK is broken, or another package has its name
        yield Finding("wandb", "harm", f"wandb cannot be imported: {error}", "pip install --force-reinstall wandb")
        return
    mode, why = find_mode()
    server = os.environ.get("WANDB_BASE_URL")
    where = f" to {hidden(server, url=server)}" if server and mode == "online" else ""
    is_kept_here = mode in ("offline", "dryrun")
    yield Finding("wandb", "note" if mode != "online" else "ok", f"runs are recorded {mode}{where}: {why}",
                  "`tunehook sync` uploads them later" if is_kept_here else "")  # fmt: skip
    folder = Path(os.environ.get("WANDB_DIR") or ".").absolute()
    if not os.access(folder, os.W_OK):
        yield Finding("wandb", "note", f"{folder} cannot be written to, so W&B keeps its runs in a temporary folder",
                      "set WANDB_DIR to a folder that exists and that you may write to")  # fmt: skip
