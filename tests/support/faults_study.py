"""A study of three trials with three reports each, as a script: ``python faults_study.py <workers> [wandb]``.

The workers are 0 for none; with ``wandb`` each trial is kept as a run too, offline, beside the study's folder. What it
trains to its end it adds to ``trained``, beside it too.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import optuna

import launch_scripts as scripts
import tunehook as th

VALUES = 3
FOLDER = Path("root", "study")


def say(line: str) -> None:
    """Add a line in one piece."""
    file = os.open("trained", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, line.encode() + b"\n")
    os.close(file)


def train() -> None:
    """Three reports."""
    session = scripts.training()
    value = session.trial.params["x"]
    for step in range(1, 4):
        session.report(step, {"v": value})
    say(f"trained {value}")


def study() -> th.Study:
    """A grid over the values."""
    return scripts.study(FOLDER.absolute(), range(VALUES))


def main(workers: int, *, is_recorded: bool = False) -> None:
    """Tune."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.basicConfig(level=logging.WARNING)
    options: dict[str, Any] = {"workers": workers} if workers else {}
    opened = study()
    if is_recorded:
        from tunehook.integrations.wandb import WandbRecorder

        opened.recorders.append(WandbRecorder("faults", mode="offline", lean=True, study_run=False))
    opened.optimize(train, progress=False, **options)


if __name__ == "__main__":
    if (warm := sys.modules.get("faults_warm")) is not None:
        warm.prepare()
    main(int(sys.argv[1]), is_recorded=sys.argv[2:] == ["wandb"])
