"""Who holds a running trial, and whether that process lives, as far as can be known from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tunehook.record import Process, is_here
from tunehook.storage.attributes import TOKEN, stored_owner
from tunehook.system import lives, trial_id

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from tunehook.storage.heartbeat import Pulse


def holder_of(
    frozen: FrozenTrial, processes: Sequence[Process], pulse: Pulse | None
) -> tuple[Literal["live", "lost", "unknown"], str]:
    """Whether the process of a running trial lives, and what happened to it.

    Args:
        frozen: The trial as the storage has it.
        processes: What its journal says of its processes, where it lies on this machine.
        pulse: Who watches the signs of life in the storage, where it has any.
    """
    here = [one for one in processes if one.is_here]
    if here and len(here) == len(processes):
        # The one that asked, and the one that trains.
        if here[0].lives or here[-1].lives:
            return "live", ""
        return "lost", f"its process {here[-1].pid} was killed"
    owner = stored_owner(frozen)
    if owner is not None and is_here(owner) and not processes:  # before its journal began
        if lives(owner):
            return "live", ""
        return "lost", f"its process {owner['pid']} was killed as it began"
    if TOKEN not in frozen.user_attrs:  # asked for past this class
        return "unknown", ""
    if pulse is None:
        return ("live" if owner is None else "unknown"), ""
    if owner is not None and not pulse.watches(frozen):
        return "unknown", ""
    if not pulse.is_lost(trial_id(frozen)):
        return "live", ""
    if owner is None:
        return "lost", "its process was killed as it began"
    return "lost", f"its process on {owner['host']} gave no sign of life"
