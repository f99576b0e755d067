"""A study whose disk becomes full in the middle of a trial, as a script: ``python full_disk.py <folder> <what>``.

The folder is a disk of its own, and small. What lies on it is ``journals``, the ``database`` or ``both``; the other one
lies here. The study is told to go on when there is room again, and one line of JSON says what happened. With
``opening`` studies are opened on a disk that is almost full, with more room each time.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import optuna

import launch_scripts as scripts
import tunehook as th
from tunehook.record.journal import read_journal
from tunehook.storage.sqlite import sqlite
from tunehook.trial.errors import JournalError, StudyError


def filler() -> Path:
    """The file that takes all the room."""
    return Path(sys.argv[1], "filler")


def fill() -> None:
    """Take all the room."""
    with filler().open("wb", buffering=0) as file:
        for size in (2**16, 2**10, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def train() -> None:
    """Five reports; the first training of x = 2 finds the disk full behind its second one."""
    session = scripts.training()
    for step in range(1, 6):
        more = {f"a metric with a long name, {number}": 0.0 for number in range(200)}  # no room left in the last block
        session.report(step, {"v": session.trial.params["x"], **more})
        if step == 2 and session.trial.params["x"] == 2 and session.trial.attempt == 0:
            fill()


def study(what: str) -> th.Study:
    """A grid over five values."""
    disk = Path(sys.argv[1])
    options: dict[str, Any] = {} if what != "database" else {"storage": sqlite(disk / "study.db")}
    if what == "journals":
        options["storage"] = sqlite(Path("elsewhere.db"))
    return scripts.study(Path("study") if what == "database" else disk / "study", range(5), **options)


def open_with(room: int) -> str:
    """Open a study with so many bytes free, and again with more; what the first one said."""
    error, disk = "", Path(sys.argv[1])
    free = os.statvfs(disk)
    filler().write_bytes(bytes(free.f_bavail * free.f_frsize - room))
    try:
        study("both").trials  # noqa: B018 - opens it
    except StudyError as raised:
        error = str(raised)
    filler().unlink()
    opened = study("both")
    opened.tell(opened.ask(), th.Outcome("complete", value=1.0))
    del opened
    gc.collect()  # closes the database, whose room would not be free else
    shutil.rmtree(disk / "study")
    return error


def main() -> None:
    """Tune, make room, and tune again."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.basicConfig(level=logging.WARNING)
    what, error = sys.argv[2], ""
    if what == "opening":
        print(json.dumps([open_with(room) for room in range(0, 400_000, 20_480)]), flush=True)
        return
    try:
        study(what).optimize(train, workers=1, progress=False)
    except (StudyError, JournalError) as raised:
        error = f"{type(raised).__name__}: {raised}"
    filler().unlink()
    before = {trial.number: trial.value for trial in study(what).trials if trial.outcome.state == "complete"}
    opened = study(what)
    opened.optimize(train, workers=1, progress=False)
    told = {
        "error": error,
        "before": before,
        "after": {trial.number: trial.value for trial in opened.trials if trial.outcome.state == "complete"},
        "counts": opened.counts(),
        "reasons": [trial.outcome.reason for trial in opened.trials if trial.outcome.state != "complete"],
        "done": sorted(trial.params["x"] for trial in opened.trials if trial.outcome.state == "complete"),
        "ends": [
            [event["event"] for event in read_journal(path)].count("end")
            for path in sorted(opened.paths.folder.glob("*/journal.jsonl"))
        ],
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
