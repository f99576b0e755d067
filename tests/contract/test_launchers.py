"""What every way of running trials owes, here and in processes; tests of Ray have it on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from launchers import Contract, interrupted_at_first


class TestHere(Contract):
    """One after the other in this process."""

    is_elsewhere = False
    interrupted: ClassVar[Callable[[], None]] = staticmethod(interrupted_at_first)


class TestProcesses(Contract):
    """Two side by side, each in a process of its own."""

    options: ClassVar[dict[str, Any]] = {"workers": 2}
