"""Draw the table that a study shows on a terminal: ``python picture.py STUDY_FOLDER FILE.svg COMMAND``."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from rich.console import Console
from rich.text import Text

import tunehook as th
from tunehook.system import Row, make_table

WIDTH = 78


def main() -> None:
    """Read a study, and write its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    study = th.Study.open(asked.folder.name, folder=asked.folder)
    best, took = study.best, [one.duration.total_seconds() for one in study.optuna.trials if one.duration]
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text(f"$ {' '.join(asked.command)}\n", style="bold"))
    rows = [
        Row(trial.number, trial.outcome.state, trial.params, trial.value, trial.outcome.step,
            f"{seconds:.1f}", is_best=trial.number == best.number)
        for trial, seconds in zip(study.trials, took, strict=True)
    ]  # fmt: skip
    console.print(make_table(f"study {study.name}", rows, study.space.names, study.metric, width=WIDTH))
    console.print(Text(f"best {study.metric} {best.value:.4g}, trial {best.number}"))
    asked.file.write_text(console.export_svg(title=asked.command[-1]), encoding="utf-8")


if __name__ == "__main__":
    main()
