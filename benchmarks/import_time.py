"""What ``import tunehook`` costs beside Python's own start, and what it loads."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

FRAMEWORKS = ["torch", "lightning", "pytorch_lightning", "keras", "tensorflow", "jax", "wandb", "optuna", "numpy"]
VARIANTS = {
    "python": "pass",
    "import tunehook": "import tunehook",
    "import tunehook, then Study": "import tunehook; tunehook.Study",
    "import optuna": "import optuna",
}


def start(code: str) -> float:
    """Seconds of a fresh process."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def main(rounds: int) -> None:
    """Take turns, and print milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, code in VARIANTS.items():
            times[name].append(start(code) * 1e3)
    base = statistics.median(times["python"])
    for name, row in times.items():
        print(f"{name:32}{statistics.median(row):8.1f} ms ({statistics.median(row) - base:+.1f} ms)")
    code = f"import sys, tunehook; print([name for name in {FRAMEWORKS!r} if name in sys.modules])"
    print("loaded by import tunehook:", subprocess.check_output([sys.executable, "-c", code], text=True).strip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/import_time.py")
    parser.add_argument("--rounds", type=int, default=30, help="how often each variant runs (default: 30)")
    main(parser.parse_args().rounds)
