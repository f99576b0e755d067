"""What W&B costs a trial offline, and whether a thousand of them leave anything behind.

    python benchmarks/wandb_cost.py [trials] [reports]

It prints the milliseconds that open, reports and close take together, beside the same calls of the SDK without us,
which take turns with ours; and the threads, open files, processes and memory of this process before and after.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import wandb

from tunehook.integrations.wandb import WandbRecorder
from tunehook.integrations.wandb_shared import LEAN
from tunehook.trial import Outcome, Trial


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    threads: int
    files: int
    processes: int
    megabytes: float

    @classmethod
    def now(cls) -> Held:
        process = psutil.Process()
        children = process.children(recursive=True)
        memory = sum(one.memory_info().rss for one in (process, *children))
        return cls(threading.active_count(), process.num_fds(), len(children), memory / 2**20)


def record_trial(recorder: WandbRecorder, folder: Path, number: int, reports: int) -> float:
    """Record a trial; the seconds that it took."""
    trial = Trial("digits", number, {"lr": 0.1}, folder / f"trial-{number:04d}", "loss", "min", key=f"{number:04d}")
    began = time.perf_counter()
    recorder.open(trial, {"optimizer.lr": 0.1})
    for step in range(reports):
        recorder.report(step, {"loss": 1 / (step + 1)})
    recorder.close(Outcome("complete", "trained to its end", 0.1, reports))
    return time.perf_counter() - began


def write_run(folder: Path, number: int, reports: int) -> float:
    """The same with W&B's SDK alone."""
    settings = LEAN.model_copy()
    settings.silent = True
    began = time.perf_counter()
    run = wandb.init(project="digits", mode="offline", reinit="create_new", id=f"plain-{number}", dir=folder,
                     config={"lr": 0.1}, settings=settings)  # fmt: skip
    run.define_metric("trial/step")
    run.define_metric("loss", step_metric="trial/step")
    for step in range(reports):
        run.log({"loss": 1 / (step + 1), "trial/step": step})
    run.summary.update({"outcome": "complete"})
    run.finish()
    return time.perf_counter() - began


def compare(folder: Path, trials: int, reports: int, *, warm: int = 10) -> tuple[list[float], list[float], Held, Held]:
    """Record trials offline with lean settings, and the same without us.

    Returns:
        Seconds of our trials and of the others, and what the process held after the first ones and at the end.
    """
    recorder = WandbRecorder("digits", mode="offline", lean=True, dir=folder)
    ours: list[float] = []
    plain: list[float] = []
    before = Held.now()
    for number in range(warm + trials):
        ours.append(record_trial(recorder, folder, number, reports))
        plain.append(write_run(folder, number, reports))
        if number == warm - 1:
            before = Held.now()
    return ours[warm:], plain[warm:], before, Held.now()


def main(trials: int = 1000, reports: int = 10) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        ours, plain, before, after = compare(Path(folder), trials, reports)
    for name, seconds in (("ours", ours), ("SDK alone", plain)):
        ms = sorted(1000 * one for one in seconds)
        print(f"{name}: {trials} trials of {reports} reports, offline and lean: median {statistics.median(ms):.1f} ms, "
              f"95 % below {ms[int(0.95 * len(ms))]:.1f} ms")  # fmt: skip
    print(f"before: {before}\nafter:  {after}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
