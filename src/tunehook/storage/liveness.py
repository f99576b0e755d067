"""Who holds a running trial, and whether that process lives, as far as can be known from here."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunehook.record import host
from tunehook.storage.attributes import TOKEN, stored_owner
from tunehook.system import trial_id

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tunehook.storage.heartbeat import Pulse

# Seconds until a trial that nobody has put his name on is lost.
_NAMELESS = 60.0


def holder_of(
    frozen: FrozenTrial, processes: Sequence[Mapping[str, Any]], pulse: Pulse | None
) -> tuple[Literal["live", "lost", "unknown"], str]:
    """Whether the process of a running trial lives, and what happened to it.

    Args:
        frozen: The trial as the storage has it.
        processes: What its journal says of its processes, where it lies on this machine.
        pulse: Who watches the signs of life in the storage, where it has any.
    """
    here = [event for event in processes if event["host"] == host()]
    if here and len(here) == len(processes):
        # The one that asked, and the one that trains.
        if any(is_alive(event["pid"], since=event["time"]) for event in (here[0], here[-1])):
            return "live", ""
        return "lost", f"its process {here[-1]['pid']} was killed"
    owner = stored_owner(frozen)
    if owner is not None and owner["host"] == host() and not processes:  # before its journal began
        if is_alive(owner["pid"], since=owner["time"]):
            return "live", ""
        return "lost", f"its process {owner['pid']} was killed as it began"
    if TOKEN not in frozen.user_attrs:  # asked for past this class
        return "unknown", ""
    if pulse is not None:
        if not pulse.is_lost(trial_id(frozen)):
            return "live", ""
        where = f" on {owner['host']}" if owner is not None else ""
        return "lost", f"its process{where} gave no sign of life"
    if owner is None and frozen.datetime_start is not None:
        age = (datetime.now() - frozen.datetime_start).total_seconds()
        return ("lost", "its process was killed as it began") if age > _NAMELESS else ("live", "")
    return "unknown", ""


def is_alive(pid: int, *, since: float) -> bool:
    """Whether the process that had this id at a time (seconds since 1970) still runs on this machine."""
    if sys.platform == "win32":
        return True  # there os.kill(pid, 0) would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # Behind the name, which may have spaces and parentheses, stand fields 3 (the state) to 22 (the start).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return True
    # A zombie is a process that ended; a later start is another process under a used id.
    return fields[0] != "Z" and time.time() - age <= since + 1.0
