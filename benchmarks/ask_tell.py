"""What it costs to ask for a trial, to report and to tell its end, in a study that has many trials already.

On the default storage, an SQLite file, with four hyperparameters. The peer is Optuna itself, with the same sampler on
a copy of the same file: its own storage, with neither journals nor places that are counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna

import tunehook as th
from tunehook.search.samplers import make_sampler
from tunehook.trial.values import Budget

SPACE = th.Space({name: th.Float(0, 1) for name in "abcd"})
DONE = th.Outcome("complete", "trained to its end", 0.5, 1)
MANY = 10_000
LIMIT = 0.1  # seconds that an ask and a tell may take together with "random"
# The columns of Optuna's tables that belong to a trial, as they are multiplied: by its number, or at random.
NOISE = "abs(random()) / 9223372036854775807.0"
TABLES = {
    "trials": "trial_id + n, number + n, study_id, state, datetime_start, datetime_complete",
    "trial_params": f"NULL, trial_id + n, param_name, {NOISE}, distribution_json",
    "trial_values": f"NULL, trial_id + n, objective, {NOISE}, value_type",
    "trial_intermediate_values": f"NULL, trial_id + n, step, {NOISE}, intermediate_value_type",
    "trial_user_attributes": "NULL, trial_id + n, key, value_json",
}


def open_study(folder: Path, search: str) -> th.Study:
    """A study with one trial, or as many as there are."""
    return th.Study("search", SPACE, metric="v", mode="min", search=search, seed=1, folder=folder)


def make_file(folder: Path, many: int) -> None:
    """A study with so many trials: the first one is trained, and multiplied in its file."""
    study = open_study(folder, "random")
    trial = study.ask()
    study.report(trial, 1, 0.5, Budget())
    study.tell(trial, DONE)
    count = "WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < ?)"
    with sqlite3.connect(folder / "study.db") as db:
        for table, columns in TABLES.items():
            query = f"INSERT INTO {table} {count} SELECT {columns} FROM {table}, more"  # noqa: S608 - of this file
            db.execute(query, (many - 1,))


def ours(folder: Path, search: str) -> Callable[[], Iterator[None]]:
    """A turn of a trial, which stops between its parts."""
    study = open_study(folder, search)
    study._terms.limit = 2 * MANY  # noqa: SLF001 - as within `optimize(trials=...)`, where places are counted

    def turn() -> Iterator[None]:
        trial = study.ask()
        yield
        study.report(trial, 1, 0.5, Budget())
        yield
        study.tell(trial, DONE)
        yield

    return turn


def optunas(folder: Path, search: str) -> Callable[[], Iterator[None]]:
    """The same with Optuna alone."""
    sampler, _ = make_sampler(search, SPACE, seed=1)
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db", sampler=sampler)

    def turn() -> Iterator[None]:
        trial = study.ask(SPACE.distributions())
        yield
        trial.report(0.5, 1)
        yield
        study.tell(trial, 0.5)
        yield

    return turn


def measure(turn: Callable[[], Iterator[None]], rounds: int) -> list[float]:
    """Seconds of each part, the median of some turns."""
    rows = []
    for _ in range(rounds + 1):
        row, start = [], time.perf_counter()
        for _ in turn():
            row.append(time.perf_counter() - start)
            start = time.perf_counter()
        rows.append(row)
    return [statistics.median(part) for part in zip(*rows[1:], strict=True)]  # the first turn reads all trials


def main() -> None:
    """Measure and print."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'ms, median':40}{'ask':>10}{'report':>10}{'tell':>10}")
    for search, rounds in (("random", 20), ("tpe", 5)):
        for many in (MANY // 10, MANY):
            with tempfile.TemporaryDirectory() as folder:
                mine, theirs = Path(folder, "ours"), Path(folder, "theirs")
                make_file(mine, many)
                shutil.copytree(mine, theirs)
                for name, turn in (("tunehook", ours(mine, search)), ("Optuna alone", optunas(theirs, search))):
                    parts = measure(turn, rounds)
                    print(
                        f"{f'{search}, {many:,} trials, {name}':40}" + "".join(f"{1e3 * part:10.1f}" for part in parts)
                    )
                    if (search, many, name) == ("random", MANY, "tunehook"):
                        took = parts[0] + parts[2]
    print(f"random, {MANY:,} trials: ask and tell take {1e3 * took:.0f} ms, of {1e3 * LIMIT:.0f} that they may")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/ask_tell.py").parse_args()
    main()
