"""What processes forget that are forked while a trial trains."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Parts(Protocol):
    """Something of one process."""

    def part(self) -> None:
        """This process was just forked from that one."""


_all: weakref.WeakSet[Parts] = weakref.WeakSet()


def part_when_forked(one: Parts) -> None:
    """Let it hear of each fork of this process, in the new one."""
    _all.add(one)


def _part_all() -> None:
    for one in list(_all):
        one.part()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_part_all)
