"""A study of three trials with three reports each, as a script: ``python faults_study.py <workers>``, 0 for none.

What it trains to its end, and which outcomes it has seen, it adds to ``trained`` beside the study's folder.
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


def main(workers: int) -> None:
    """Tune, and note what is complete then."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.basicConfig(level=logging.WARNING)
    options: dict[str, Any] = {"workers": workers} if workers else {}
    study().optimize(train, progress=False, **options)


if __name__ == "__main__":
    if (warm := sys.modules.get("faults_warm")) is not None:
        warm.prepare()
    main(int(sys.argv[1]))
