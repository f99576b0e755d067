"""Growth of resident memory over 200 trials in one process, beside that over 200 bare fits in another one."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FITS, SETTLED, PART = 200, 40, 20


def measure(kind: str) -> None:
    """In a process of its own: print the resident memory after each fit, in MiB."""
    import optuna
    import psutil
    from digits import fit

    import tunehook as th
    from tunehook.integrations.lightning import TuneCallback

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    process = psutil.Process()
    grown: list[float] = []
    space = {"lr": th.Float(1e-3, 1e-2), "hidden": th.Int(32, 64), "batch_size": th.Choice([450, 675])}
    study = th.Study("memory", space, metric="val_acc", mode="max", search="random", seed=0)

    def one() -> None:
        fit(TuneCallback(), epochs=1) if kind == "tuned" else fit(epochs=1, hidden=48, batch_size=450)
        if len(grown) % 10 == 0:  # garbage in cycles waits longer the more a process holds, and would pass for growth
            gc.collect()
        grown.append(process.memory_info().rss / 2**20)

    if kind == "tuned":
        study.optimize(one, trials=FITS, progress=False)
    else:
        for _ in range(FITS):
            one()
    print(json.dumps(grown))


def growth(kind: str) -> float:
    """MiB between the 40th fit, when pools and caches are full, and the last.

    By the lower quartile of equal parts: what is held on to for each fit grows in all of them, and what is taken once,
    such as by a table that doubles or by a thread that had to wait, in some.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--kind", kind]
        said = subprocess.check_output(command, cwd=folder, text=True)
    grown = json.loads(said.splitlines()[-1])
    print(f"{kind:8}{grown[SETTLED]:9.1f} MiB after {SETTLED} fits, {grown[-1]:9.1f} after {FITS}")
    parts = [grown[at + PART - 1] - grown[at] for at in range(SETTLED, FITS, PART)]
    return float(statistics.quantiles(parts, n=4)[0] * len(parts))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/memory.py")
    parser.add_argument("--kind", choices=["bare", "tuned"], help="measure one variant in this process")
    given = parser.parse_args()
    if given.kind:
        measure(given.kind)
    else:
        bare, tuned = growth("bare"), growth("tuned")
        print(f"growth: bare {bare:.1f} MiB, tuned {tuned:.1f} MiB")
