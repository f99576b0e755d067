"""What tuning adds to a trial: a digits fit of 5 epochs, bare, with tunehook, and with Optuna's own callback.

Every variant trains the same model with the same values (the space has one value for each name in effect: the sampled
ones are injected, so the batch size and the width are those of the bare fit).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import optuna
from digits import fit
from optuna.storages import InMemoryStorage
from optuna_integration import PyTorchLightningPruningCallback
from side_by_side import print_ratios, side_by_side

import tunehook as th
from tunehook.integrations.lightning import TuneCallback

# Sampled as usual, but so narrow that each trial does the work of the bare one.
SPACE = {
    "lr": th.Float(1e-3, 1.1e-3, log=True),
    "dropout": th.Float(0.1, 0.11),
    "hidden": th.Int(65, 66),
    "batch_size": th.Choice([32, 33]),
}


def tuned(
    name: str,
    storage: InMemoryStorage | None,
    *,
    stopper: optuna.pruners.BasePruner | None = None,
    snapshots: bool = True,
) -> th.Study:
    """A study with the default storage, or one in memory; the journal is always on, and snapshots are by default."""
    options: dict[str, Any] = {
        "search": "random", "stopper": stopper, "seed": 0, "storage": storage, "snapshots": snapshots,
    }  # fmt: skip
    return th.Study(name, SPACE, metric="val_acc", mode="max", **options)


def never_stops() -> optuna.pruners.BasePruner:
    """A rule that is asked at every report and never stops, so that every variant trains as long as the bare one."""
    return optuna.pruners.ThresholdPruner(lower=-1.0)


def with_study(study: th.Study) -> None:
    """One more trial, known before its objects are made."""

    def train() -> None:
        fit(TuneCallback())

    study.optimize(train, trials=study.finished + 1, progress=False)


def with_optuna(study: optuna.Study) -> None:
    """One trial as Optuna's documentation writes it."""

    def objective(trial: optuna.Trial) -> float:
        values: dict[str, Any] = {
            "lr": trial.suggest_float("lr", 1e-3, 1.1e-3, log=True),
            "dropout": trial.suggest_float("dropout", 0.1, 0.11),
            "hidden": trial.suggest_int("hidden", 65, 66),
            "batch_size": trial.suggest_categorical("batch_size", [32, 33]),
        }
        trainer = fit(PyTorchLightningPruningCallback(trial, monitor="val_acc"), **values)
        return float(trainer.callback_metrics["val_acc"])

    study.optimize(objective, n_trials=1)


def main(rounds: int) -> None:
    """Run the variants in turn."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.chdir(tempfile.mkdtemp())
    on_disk, in_memory = tuned("disk", None), tuned("memory", InMemoryStorage())
    blind = tuned("blind", None, snapshots=False)
    stoppable = tuned("stoppable", None, stopper=never_stops())
    peer = optuna.create_study(
        storage=f"sqlite:///{Path.cwd()}/peer.db", direction="maximize", sampler=optuna.samplers.RandomSampler(0),
        pruner=never_stops(),
    )  # fmt: skip
    values: dict[str, Any] = {"lr": 1.05e-3, "dropout": 0.105, "hidden": 65, "batch_size": 32}

    times = side_by_side(
        {
            "bare": lambda: fit(**values),
            "tunehook, SQLite and journal": lambda: with_study(on_disk),
            "the same, without snapshots": lambda: with_study(blind),
            "the same, a stopper asked at each report": lambda: with_study(stoppable),
            "tunehook, memory and journal": lambda: with_study(in_memory),
            "optuna + pruning callback, SQLite": lambda: with_optuna(peer),
        },
        rounds=rounds,
    )
    print_ratios(times, "bare")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/trial.py --rounds 40")
    parser.add_argument("--rounds", type=int, default=40, help="how often each variant runs (default: 40)")
    main(parser.parse_args().rounds)
