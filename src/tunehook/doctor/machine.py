"""The machine: cores, GPUs, and the memory that processes share."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tunehook.doctor.finding import Finding
from tunehook.doctor.packages import installed
from tunehook.system import first_line

_PATIENCE = 20.0  # seconds for nvidia-smi, which waits for a driver that hangs
_SHARED = Path("/dev/shm")  # noqa: S108 - it is looked at
_LITTLE = 2**30  # bytes of it below which batches of loaders soon have no room


def look_at_machine() -> Iterator[Finding]:
    """What trials compute with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("machine", "ok", f"{cores} cores")
    yield from _gpus()
    if _SHARED.is_dir() and (room := shutil.disk_usage(_SHARED).total) < _LITTLE:
        yield Finding("machine", "note", f"{_SHARED} has {room / 2**20:.0f} MiB for the batches of loaders' workers, "
                      "which die with a bus error where it is full",
                      "start the container with more, such as `docker run --shm-size=8g`")  # fmt: skip


def _gpus() -> Iterator[Finding]:
    given, tool = os.environ.get("CUDA_VISIBLE_DEVICES"), shutil.which("nvidia-smi")
    if tool is None:
        yield Finding("machine", "ok", "no GPU of NVIDIA: there is no nvidia-smi")
        return
    try:
        done = subprocess.run(  # noqa: S603 - fixed
            [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"], capture_output=True, text=True,
            timeout=_PATIENCE, check=False,
        )  # fmt: skip
        said, is_well = done.stdout, done.returncode == 0
        why = first_line(done.stdout + done.stderr) or f"exit code {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        said, is_well, why = "", False, first_line(error)
    if not is_well:
        yield Finding("machine", "harm", f"the GPUs do not answer: nvidia-smi says {why!r}",
                      "restart the driver, or the container with its GPUs (`docker run --gpus all`)")  # fmt: skip
        return
    names = [line.strip() for line in said.splitlines() if line.strip()]
    yield from (Finding("machine", "ok", f"GPU {number}: {name}") for number, name in enumerate(names))
    if not [one for one in (given or "all").split(",") if one.strip() not in ("", "-1")] or given == "":
        yield Finding("machine", "note", f"CUDA_VISIBLE_DEVICES is {given!r}, which hides all GPUs",
                      "unset CUDA_VISIBLE_DEVICES")  # fmt: skip
    if names and (torch := installed("torch") or "").endswith("+cpu"):
        yield Finding("machine", "note", f"torch {torch} is built for CPUs only, so it uses no GPU",
                      "install torch for CUDA, as https://pytorch.org/get-started says")  # fmt: skip
