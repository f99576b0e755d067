"""What a trial in a process of its own costs, beside Ray Tune and beside the same trials in one process.

Trials of five epochs on scikit-learn's digits, in Lightning. Ray Tune is a peer that is measured if all of it is
installed: pip install 'ray[tune]'. Whole runs are timed, from the call to its return, start-up included; where two runs
of a variant differ in their number of trials only, the difference is the time of a trial alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import digits

import tunehook as th
from tunehook.inject.slot import Slot
from tunehook.integrations.lightning import TuneCallback
from tunehook.record.journal import read_journal
from tunehook.session.in_progress import active

SPACE = {"lr": th.Float(1e-4, 1e-1, log=True), "hidden": th.Int(16, 128)}


def train() -> None:
    """One training, tuned."""
    digits.fit(TuneCallback())


def nothing() -> None:
    """A trial that measures once."""
    session = active()
    if session is not None:
        place = {"x": 0.0}
        session.begin([Slot("x", get=lambda: place["x"], set=lambda value: place.update(x=value))])
        session.ready()
        session.report(1, {"val_acc": place["x"]})


def study(folder: str, space: dict[str, Any]) -> th.Study:
    """A random search."""
    return th.Study("launch", space, metric="val_acc", mode="max", search="random", seed=1, folder=Path(folder))


def tuned(
    run: Callable[[], object], trials: int, workers: int | None, space: dict[str, Any]
) -> tuple[float, list[float]]:
    """Seconds of a whole study, and from the end of each trial to the start of the one that took its place."""
    with tempfile.TemporaryDirectory() as folder:
        opened = study(folder, space)
        start = time.perf_counter()
        opened.optimize(run, trials=trials, workers=workers, progress=False)
        took = time.perf_counter() - start
        events = [event for number in range(trials) for event in read_journal(opened.paths.journal(number))]
    ends = sorted(event["time"] for event in events if event["event"] == "end")
    begins = sorted(event["time"] for event in events if event["event"] == "process")
    return took, [begin - end for begin, end in zip(begins[workers or 0 :], ends, strict=False)]


def ray_tune(trials: int, workers: int) -> float:
    """Seconds of Ray Tune with the same training, two trials at once."""
    from ray import tune

    def trainable(config: dict[str, Any]) -> None:
        sys.path.insert(0, str(Path(__file__).parent))
        import digits as project

        tune.report({"val_acc": project.fit(**config).callback_metrics["val_acc"].item()})

    start = time.perf_counter()
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"lr": tune.loguniform(1e-4, 1e-1), "hidden": tune.randint(16, 128)},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=workers),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    ).fit()
    return time.perf_counter() - start


def main(trials: int) -> None:
    """Measure and print."""
    rows: dict[str, float] = {}
    gaps: list[float] = []
    variants = {"one process, one after the other": None, "workers=1": 1, "workers=2": 2}
    for name, workers in variants.items():
        few, _ = tuned(train, 4, workers, SPACE)
        whole, waits = tuned(train, trials, workers, SPACE)
        rows[f"{name}, whole"] = whole / trials
        rows[f"{name}, each further trial"] = (whole - few) / (trials - 4)
        gaps = waits or gaps
    if all(importlib.util.find_spec(name) is not None for name in ("ray", "pyarrow", "tensorboardX")):  # ray[tune]
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        few, whole = ray_tune(4, 2), ray_tune(trials, 2)
        ray.shutdown()
        rows["Ray Tune, 2 at once, whole"] = whole / trials
        rows["Ray Tune, 2 at once, each further trial"] = (whole - few) / (trials - 4)
    print(f"{'':48}{'ms a trial':>12}")
    for name, seconds in rows.items():
        print(f"{name:48}{seconds * 1e3:12.0f}")
    one, two = rows["workers=1, each further trial"], rows["workers=2, each further trial"]
    print(f"throughput of two workers: {one / two:.2f} times that of one")
    print(f"from the end of a trial to the start of the next: median {statistics.median(gaps) * 1e3:.0f} ms")
    for ours, theirs in (("workers=2, whole", "Ray Tune, 2 at once, whole"),
                         ("workers=2, each further trial", "Ray Tune, 2 at once, each further trial")):  # fmt: skip
        if theirs in rows:
            print(f"{ours}: 1/{rows[theirs] / rows[ours]:.1f} of Ray Tune")
    empty, _ = tuned(nothing, 1000, 2, {"x": th.Float(0, 1)})
    print(f"1,000 empty trials, two workers: {empty:.1f} ms each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/launch.py --trials 20")
    parser.add_argument("--trials", type=int, default=20, help="how many a variant trains, more than 4 (default: 20)")
    main(parser.parse_args().trials)
