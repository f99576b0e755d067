"""A study of short trials that pause at rungs, as a script; each epoch that is trained is a line of ``trained.txt``."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import time
from pathlib import Path
from typing import Any

import optuna

import tunehook as th
from tunehook.adapter import Alone, Resume
from tunehook.inject.slot import Slot
from tunehook.record import journal, read_journal
from tunehook.session.in_progress import active
from tunehook.storage import heartbeat, ledger, liveness, retrying
from tunehook.trial import Budget

if host := os.environ.get("PAUSE_HOST"):  # as if on another machine
    for module in (journal, retrying, liveness, ledger):
        module.host = lambda: host  # type: ignore[attr-defined]
    heartbeat.INTERVAL, heartbeat.GRACE = 0.3, 2.0

EPOCHS = 12
RUNGS = (3, 6)
BUDGET = Budget(EPOCHS)


def train(budget: Budget = BUDGET, why_not: str = "") -> None:
    """Twelve epochs whose values follow from all before, with a checkpoint of what they came to.

    Args:
        budget: What the study is told of them.
        why_not: Why the training could not go on exactly.
    """
    session, place = active(), {"x": -1}
    assert session is not None
    session.begin([Slot("x", get=lambda: place["x"], set=lambda value: place.update(x=value))])
    session.ready()
    session.budget = budget
    resume = Resume(session, Alone(), why_not)
    resume.begin()
    found = resume.find()
    epoch, state = (0, 0.0) if found is None else json.loads((found / "state").read_text())
    resume.open(is_restored=found is not None)
    for step in range(epoch + 1, EPOCHS + 1):
        time.sleep(float(os.environ.get("PAUSE_SLEEP", "0")))
        state = 0.7 * state + ((place["x"] * 37) % 61) / step
        with (session.trial.folder.parent.parent / "trained.txt").open("a") as file:
            file.write(f"{place['x']} {step} {state!r}\n")
        session.report(step, {"v": state})
        if step < EPOCHS and resume.ends_interval(step):
            resume.set_aside(functools.partial(_write, step, state))
        if not session.decision.stop and step < EPOCHS and resume.is_due(1):
            resume.keep(functools.partial(_write, step, state))
        if session.decision.stop:
            break
    resume.close()


def _write(epoch: int, state: float, folder: Path) -> None:
    (folder / "state").write_text(json.dumps([epoch, state]))


def study(folder: str = "study", *, many: int = 60, **options: Any) -> th.Study:
    """A grid of so many values."""
    given: dict[str, Any] = {"search": "grid", "stopper": "pause", "objective": "last", **options}
    return th.Study(
        "pause", {"x": th.Int(0, many - 1)}, metric="v", mode="min", seed=3, folder=Path(folder).absolute(), **given
    )


def check(done: th.Study, many: int, *, wanted: int | None = None) -> None:
    """Every trial has come to where it stands by each epoch once, and the best have come further.

    Args:
        done: The study.
        many: How many trials it has.
        wanted: How many were wanted at first, of whom the worst were left behind. Defaults to all.
    """
    epochs, counts = trained(), done.counts()
    assert sum(counts.values()) == done.finished == many
    assert set(counts) <= {"complete", "paused", "pruned"}
    assert counts["complete"] >= 1
    for trial in done.trials:
        steps = epochs[trial.params["x"]]
        assert steps == [*range(1, len(steps) + 1)]
        assert len(steps) in ([EPOCHS] if trial.outcome.state == "complete" else RUNGS)
        events = [*read_journal(done.paths.journal(trial.number))]
        assert [event["step"] for event in events if event["event"] == "report"] == steps
        kinds = [event["event"] for event in events]
        assert kinds.count("begin") == kinds.count("end") - (trial.outcome.reason.endswith("left behind"))
    there = [sum(len(steps) > rung for steps in epochs.values()) for rung in RUNGS]
    assert there[0] >= math.ceil((wanted or many) / 3)
    assert there[1] >= math.ceil(math.ceil((wanted or many) / 3) / 3)
    assert not done.lead.goes_on


def checkpoints() -> list[str]:
    """The names of the trials that have one."""
    return sorted(path.parent.name for path in Path("study/checkpoints").glob("*/*-*"))


def trained() -> dict[int, list[int]]:
    """The epochs that were trained, by the value, in order; what is trained twice comes to the same."""
    epochs: dict[int, list[int]] = {}
    states: dict[tuple[str, str], str] = {}
    for line in Path("trained.txt").read_text().splitlines():
        x, step, state = line.split()
        assert states.setdefault((x, step), state) == state
        epochs.setdefault(int(x), []).append(int(step))
    return epochs


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.basicConfig(level=logging.WARNING)
    study(storage=os.environ.get("PAUSE_STORAGE")).optimize(train, workers=2, retries=60, progress=False)
