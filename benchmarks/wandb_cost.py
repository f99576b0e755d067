"""What W&B costs a trial offline, and whether a thousand of them leave anything behind.

It prints the milliseconds that a training waits for W&B (open, reports and close together), and those of CPU time,
beside the same calls of the SDK without us, which take turns with ours; and the threads, open files, processes and
memory of this process before and after. Before each report the training takes the given milliseconds, which do not
count: our rows are written meanwhile, by a thread. By default it takes none, so all of them are waited for at the end.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import wandb

from tunehook.integrations.wandb import WandbRecorder
from tunehook.integrations.wandb.run import LEAN
from tunehook.trial.values import Outcome, Trial


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


Seconds = tuple[float, float]  # waited, and of CPU time


class Clock:
    """The seconds since it was made, without those of the training."""

    def __init__(self, training: float) -> None:
        self._training, self._began, self._cpu = training, time.perf_counter(), time.process_time()

    def train(self) -> None:
        """Let the training go on."""
        began = time.perf_counter()
        time.sleep(self._training)
        self._began += time.perf_counter() - began

    def read(self) -> Seconds:
        """Seconds waited, and of CPU time of all threads."""
        return time.perf_counter() - self._began, time.process_time() - self._cpu


def record_trial(recorder: WandbRecorder, folder: Path, number: int, reports: int, training: float) -> Seconds:
    """Record a trial; the seconds that it took."""
    trial = Trial("digits", number, {"lr": 0.1}, folder / f"trial-{number:04d}", "loss", "min", key=f"{number:04d}")
    clock = Clock(training)
    recorder.open(trial, {"optimizer.lr": 0.1})
    for step in range(reports):
        clock.train()
        recorder.report(step, {"loss": 1 / (step + 1)})
    recorder.close(Outcome("complete", "trained to its end", 0.1, reports))
    return clock.read()


def write_run(folder: Path, number: int, reports: int, training: float) -> Seconds:
    """The same with W&B's SDK alone."""
    settings = LEAN.model_copy()
    settings.silent = True
    clock = Clock(training)
    run = wandb.init(project="digits", mode="offline", reinit="create_new", id=f"plain-{number}", dir=folder,
                     config={"lr": 0.1}, settings=settings)  # fmt: skip
    run.define_metric("trial/step")
    run.define_metric("loss", step_metric="trial/step")
    for step in range(reports):
        clock.train()
        run.log({"loss": 1 / (step + 1), "trial/step": step})
    run.summary.update({"outcome": "complete"})
    run.finish()
    return clock.read()


def compare(
    folder: Path, trials: int, reports: int, training: float = 0.0, *, warm: int = 10
) -> tuple[list[Seconds], list[Seconds], Held, Held]:
    """Record trials offline with lean settings, and the same without us.

    Returns:
        Seconds of our trials and of the others, and what the process held after the first ones and at the end.
    """
    recorder = WandbRecorder("digits", mode="offline", lean=True, dir=folder)
    ours: list[Seconds] = []
    plain: list[Seconds] = []
    before = Held.now()
    for number in range(warm + trials):
        ours.append(record_trial(recorder, folder, number, reports, training))
        plain.append(write_run(folder, number, reports, training))
        if number == warm - 1:
            before = Held.now()
    return ours[warm:], plain[warm:], before, Held.now()


def main(trials: int, reports: int, milliseconds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        ours, plain, before, after = compare(Path(folder), trials, reports, milliseconds / 1000)
    print(f"{trials} trials of {reports} reports, {milliseconds} ms of training before each, offline and lean")
    for name, seconds in (("ours", ours), ("SDK alone", plain)):
        ms = sorted(1000 * waited for waited, _ in seconds)
        cpu = statistics.median(1000 * cpu for _, cpu in seconds)
        print(f"{name:10}{statistics.median(ms):6.1f} ms (best {ms[0]:.1f}, 95 % below {ms[int(0.95 * len(ms))]:.1f}), "
              f"{cpu:.1f} ms of CPU time")  # fmt: skip
    print(f"before: {before}\nafter:  {after}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/wandb_cost.py --trials 9")
    parser.add_argument("--trials", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--reports", type=int, default=10, help="how many a trial makes (default: 10)")
    parser.add_argument("--milliseconds", type=int, default=0, help="of training before each report (default: 0)")
    main(**vars(parser.parse_args()))
