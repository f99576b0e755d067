"""Which processes of this machine live.

A process is known by its id, the boot of the machine and the clock tick at which it started. The wall clock is not
used, since it may be set while a training runs. Linux gives these in ``/proc``; elsewhere an id that is in use counts
as alive. In a container ids are its own: what another one calls by an id cannot be looked up, though both may have the
same name and the same folders.
(``psutil`` would know more there, but its ``create_time`` moves with the wall clock on Linux, where trainings run.)
"""

from __future__ import annotations

import functools
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PACKAGES = (
    "tunehook", "optuna", "numpy", "torch", "lightning", "pytorch_lightning", "keras", "tensorflow", "jax", "wandb",
)  # fmt: skip
_WHOLE_MACHINE = str(0xEFFFFFFC)  # the PID namespace outside of all containers: PROC_PID_INIT_INO of Linux


def this_process() -> dict[str, Any]:
    """What names this process: its id, the time now, and where they are known its start and its PID namespace.

    The start is the boot of the machine and the tick since then.
    """
    found, space = _stat(os.getpid()), _space()
    named = {"pid": os.getpid(), "time": round(time.time(), 3)}
    started = {} if found is None else {"start": found[1]}
    return {**named, **started, **({} if space is None else {"space": space})}


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that a training depends on, as far as this process has loaded them."""
    loaded = {name: getattr(sys.modules.get(name), "__version__", None) for name in _PACKAGES}
    known = {name: str(version) for name, version in loaded.items() if isinstance(version, str)}
    return {"python": platform.python_version(), **known}


def shares_ids(space: str | None, start: str | None = None) -> bool:
    """Whether a process of this machine's name can be looked up here; one of which nobody says more is taken for ours.

    The number of a container's space may be that of a container on another machine, whose boot is another one. Outside
    of containers the number is the same everywhere, so another boot of a machine of this name is an earlier one.

    Args:
        space: Its space of ids (a PID namespace).
        start: Its start, from `this_process`.
    """
    if space is None:
        return True
    boot = "" if start is None else start.partition("/")[0]
    return space == _space() and (space == _WHOLE_MACHINE or not boot or not _boot() or boot == _boot())


def place() -> str:
    """What tells this machine, or this container, from others of its name; empty outside of containers."""
    return f"{_boot()}/{_space()}" if has_own_ids() else ""


def has_own_ids() -> bool:
    """Whether this process is in a container that has ids of its own."""
    return _space() not in (None, _WHOLE_MACHINE)


def lives(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine lives, by what `this_process` said of it."""
    return is_alive(process["pid"], since=process["time"], start=process.get("start"))


def is_alive(pid: int, *, since: float, start: str | None = None) -> bool:
    """Whether a process still runs on this machine.

    Args:
        pid: Its id.
        since: When it had that id, in seconds since 1970; what counts where its start is not known.
        start: Its start, from `this_process`.
    """
    if sys.platform == "win32":
        return True  # there os.kill(pid, 0) would end the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    found = _stat(pid)
    if found is None:
        return True
    state, started, age = found
    if state == "Z":  # a process that has ended
        return False
    # A later start is another process under a used id.
    return started == start if start is not None else time.time() - age <= since + 1.0


def _stat(pid: int) -> tuple[str, str, float] | None:
    """The state of a process, the boot and tick of its start, and its age in seconds; ``None`` where nobody says so."""
    try:
        # Behind the name, which may have spaces and parentheses, stand fields 3 (the state) to 22 (the start).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return fields[0], f"{_boot()}/{fields[19]}", age


def _space() -> str | None:
    """The PID namespace of this process; ``None`` where there are none."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return None


@functools.cache
def _boot() -> str:
    """The boot of this machine; empty where nobody says it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
