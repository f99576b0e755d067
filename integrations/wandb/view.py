"""What the run of a study shows: the table of its trials, the best so far, what matters, and the best trial's model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wandb
from wandb import Run

from tunehook.integrations.wandb.run import define_axis, id_of_study
from tunehook.integrations.wandb.values import OURS, make_plain, slashed
from tunehook.record import files_in
from tunehook.space import Space
from tunehook.study import Study, find_importance
from tunehook.trial import FinishedTrial, Mode, is_better

AXIS = "study/trials"


@dataclass(frozen=True)
class View:
    """What a study looked like at a moment: plain values, so that another thread can read them.

    Attributes:
        key: Tells the study from others of its name.
        ended: The trials that have ended, in the order of their ends; paused ones may yet go on, and are none of them.
        paused: The trials that are paused.
        frozen: All trials as Optuna has them.
        best: The best complete trial.
        slots: The effective configuration of the best trial.
        others: Further metrics, with their modes.
        front: With several metrics, the complete trials that no other one beats.
    """

    name: str
    metric: str
    mode: Mode
    key: str
    space: Space
    ended: Sequence[FinishedTrial]
    frozen: Sequence[Any]
    best: FinishedTrial | None
    slots: Mapping[str, Any]
    others: Mapping[str, Mode] = field(default_factory=dict)
    front: Sequence[FinishedTrial] = ()
    paused: Sequence[FinishedTrial] = ()

    @property
    def run_id(self) -> str:
        """The id of the study's run."""
        return f"{id_of_study(self.name)}-study-{self.key}"


@dataclass(frozen=True)
class Model:
    """A copy of what the training of a trial has kept of its model.

    Attributes:
        trial: The trial.
        path: A file or a folder.
    """

    trial: FinishedTrial
    path: Path


def look_at(study: Study) -> View:
    """Read a study."""
    ended, standing = study.ended, study.standing()
    best = standing.best
    slots = {} if best is None else study.effective(best.number)
    paused = [one for one in ended if one.outcome.state == "paused"]
    return View(
        study.name, study.metric, study.mode, study.key, study.space,
        [one for one in ended if one not in paused], study.raw_trials, best, slots, study.others,
        standing.front, paused,
    )  # fmt: skip


def fill(run: Run, view: View, first: int) -> Exception | None:
    """Write what a study looks like.

    Args:
        run: Its run, one row for each trial that has ended.
        view: The study.
        first: How many rows the run has already.

    Returns:
        Why the table and the chart are missing, for which the SDK asks the server; ``None`` where they are there.
    """
    run.define_metric(AXIS)
    others = [f"value/{name}" for name in view.others]
    for name in (f"best/{view.metric}", f"value/{view.metric}", *others, "importance/*"):
        define_axis(run, name, AXIS)
    rows = list(_rows(view))
    shares: dict[str, float] = {}
    if first < len(rows):
        shares = find_importance(view.frozen, view.mode, view.space)
        rows[-1] |= {f"importance/{slashed(name)}": share for name, share in shares.items()}
    problem = _log_rows(run, rows[first:], _charts(view, shares))
    best = view.best
    states = [trial.outcome.state for trial in (*view.ended, *view.paused)]
    summary: dict[str, Any] = {f"trials/{state}": states.count(state) for state in dict.fromkeys(states)}
    config: dict[str, Any] = {"study": view.name, "metric": view.metric, "mode": view.mode}
    if view.others:
        config["others"] = dict(view.others)
        config["front"] = [
            {"trial": one.number, "params": make_plain(one.params),
             "values": dict(zip((view.metric, *view.others), one.values, strict=False))} for one in view.front
        ]  # fmt: skip
        summary["front/trials"] = len(view.front)
    if best is not None:
        summary |= {f"best/{view.metric}": best.value, "best/trial": best.number}
        params = make_plain(best.params)
        summary |= {f"best/params/{slashed(name)}": value for name, value in params.items()}
        config["best"] = {"trial": best.number, "params": params, "slots": make_plain(view.slots)}
    run.config.update({OURS: config}, allow_val_change=True)  # type: ignore[no-untyped-call]
    run.summary.update(summary)
    return problem


def log_model(run: Run, view: View, model: Model) -> None:
    """Log the checkpoint of the best trial; W&B takes the alias from the version that had it before."""
    metadata = {
        "trial": model.trial.number,
        view.metric: model.trial.value,
        "params": make_plain(model.trial.params),
    }
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", view.name)[:100]
    artifact = wandb.Artifact(name, type="model", metadata=metadata)
    files_in(model.path)  # W&B would follow links
    if model.path.is_dir():
        artifact.add_dir(str(model.path), name=model.path.name)
    else:
        artifact.add_file(str(model.path))
    run.log_artifact(artifact, aliases=["best", f"trial-{model.trial.number:04d}"])


def _log_rows(run: Run, rows: Sequence[dict[str, Any]], charts: Mapping[str, Any]) -> Exception | None:
    """Log rows, the last of them with the charts, so that the run has a row for each trial and no other."""
    for row in rows[:-1]:
        run.log(row)
    problem = None
    for row in rows[-1:]:
        try:
            run.log({**row, **charts})
        except Exception as error:  # noqa: BLE001 - nothing of the row was logged
            problem = error
            run.log(row)
    return problem


def _rows(view: View) -> Iterator[dict[str, Any]]:
    """A row for each trial that has ended: its value, and the best up to it."""
    best: float | None = None
    for count, trial in enumerate(view.ended, start=1):
        row: dict[str, Any] = {AXIS: count, "study/trial": trial.number}
        if trial.value is not None and math.isfinite(trial.value):
            row[f"value/{view.metric}"] = trial.value
            row |= dict(zip((f"value/{name}" for name in view.others), trial.values[1:], strict=False))
            if not view.others and trial.outcome.state == "complete" and is_better(trial.value, best, view.mode):
                best = trial.value
        if best is not None:
            row[f"best/{view.metric}"] = best
        yield row


def _charts(view: View, shares: Mapping[str, float]) -> dict[str, Any]:
    columns: list[str | int] = ["number", "state", view.metric, *view.others, "reason", *view.space.names]
    table = wandb.Table(columns=columns, allow_mixed_types=True)
    for trial in (*view.ended, *view.paused):
        params = [_cell(trial.params.get(name)) for name in view.space.names]
        others = [dict(zip(view.others, trial.values[1:], strict=False)).get(name) for name in view.others]
        table.add_data(trial.number, trial.outcome.state, _cell(trial.value), *others, trial.outcome.reason, *params)
    charts: dict[str, Any] = {"study/table": table}
    if shares:
        bars = wandb.Table(columns=["hyperparameter", "importance"], data=[list(item) for item in shares.items()])
        charts["study/importance"] = wandb.plot.bar(bars, "hyperparameter", "importance", title="Importance")
    return charts


def _cell(value: Any) -> Any:
    plain = make_plain(value)
    return json.dumps(plain) if isinstance(plain, list | dict) else plain
