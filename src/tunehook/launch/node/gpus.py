"""The GPUs of this machine: which trial gets which, whole ones or a share of one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tunehook.trial import StudyError

_SHARE = "TUNEHOOK_GPU_SHARE"  # what a trial process may take of the memory of its GPU
_JAX = 0.9  # of the share: what JAX takes at once, beside which the driver needs some


class Gpus:
    """Hands GPUs out, and takes them back.

    Args:
        each: How many a trial gets; below 1, its share of one, so that several trials train on one. 0 hands out none.
        workers: How many trials train at once.

    Raises:
        StudyError: There are too few.
    """

    def __init__(self, each: float, workers: int) -> None:
        self.each = each
        self._names = devices() if each else []
        # A GPU that is shared has as many places as shares.
        places = self._names * (int(1 / each + 1e-9) if 0 < each < 1 else 1)
        self._takes = max(1, int(each)) if each else 0
        if len(places) < self._takes * workers:
            most = len(places) // self._takes
            raise StudyError(
                f"{workers} workers with {each:g} GPUs each need {workers * each:g}, but there are {len(self._names)}: "
                f"{', '.join(self._names)}.\n  They are enough for {most} workers: take fewer, or fewer GPUs for each."
            )
        self._free = places

    def take(self) -> list[str]:
        """The GPUs of one more trial: of those that are shared the one with most room."""
        if 0 < self.each < 1:
            self._free.sort(key=self._free.copy().count, reverse=True)
        taken, self._free = self._free[: self._takes], self._free[self._takes :]
        return taken

    def give_back(self, taken: list[str]) -> None:
        """The process of the trial has ended."""
        self._free += taken

    def variables(self, taken: list[str]) -> dict[str, str]:
        """What the process of a trial finds in its environment; what the user has set stays as it is."""
        if not taken:
            return {}
        found = {"CUDA_VISIBLE_DEVICES": ",".join(taken)}
        if self.each < 1:
            share = f"{self.each:g}"
            defaults = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_JAX * self.each:g}", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
            found |= {_SHARE: share, **{name: os.environ.get(name, value) for name, value in defaults.items()}}
        return found


def limit_memory() -> None:
    """Keep torch to this process's share of its GPU; JAX and TensorFlow are told by the environment.

    More than the share is an error of torch, and no other trial's.
    """
    share, torch = os.environ.get(_SHARE), sys.modules.get("torch")
    if share is not None and torch is not None and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(float(share), 0)


def devices() -> list[str]:
    """The GPUs that trials may use, as ``CUDA_VISIBLE_DEVICES`` names them; found without loading a framework.

    Raises:
        StudyError: There is none.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        found = [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    else:
        tool = shutil.which("nvidia-smi")
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True).stdout if tool else ""  # noqa: S603 - fixed
        lines = listed.splitlines()
        found = [str(number) for number, _ in enumerate(line for line in lines if line.startswith("GPU"))]
    if not found:
        said = "nvidia-smi finds none" if given is None else f"CUDA_VISIBLE_DEVICES is {given!r}"
        raise StudyError(f"gpus_per_trial needs a GPU, but {said}.\n  Leave gpus_per_trial out to train on the CPU.")
    return found
