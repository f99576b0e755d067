"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Nothing to do; something to know; something by which trials fail, or are lost or wrong.
Level = Literal["ok", "note", "harm"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        about: What it is about: ``packages``, ``machine``, ``folder``, ``storage``, ``wandb`` or ``patches``.
        level: ``"ok"``, ``"note"`` for what one may want to know, ``"harm"`` where trials fail or are lost by it.
        text: What was found.
        mend: What to do about it; empty where nothing needs to be done.
    """

    about: str
    level: Level
    text: str
    mend: str = ""
