"""The finished runs of a W&B project as trials that are known, for a study to begin with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

try:
    import wandb
except ImportError as error:
    if error.name != "wandb":
        raise
    raise ModuleNotFoundError(
        "Reading W&B runs needs the package wandb: pip install 'tunehook[wandb]'", name="wandb"
    ) from error

from tunehook.integrations.wandb.agent import flat
from tunehook.integrations.wandb.offline import OfflineRun, offline_runs
from tunehook.integrations.wandb.values import OURS
from tunehook.record import is_number
from tunehook.study import KnownTrial, Study
from tunehook.trial import StudyError, objective_value, value_beside

_TIMEOUT = 60  # seconds that a request may take
_SAMPLES = 10_000  # of a longer history W&B gives so many rows


def past_trials(project: str | Path, study: Study, *, filters: Mapping[str, Any] | None = None) -> list[KnownTrial]:
    """The finished runs of a project that have the study's metric, with their values of the names of its space.

    The value is that which counts in the study: of a run that tunehook recorded as a complete trial the one in its
    summary, of any other run that of its whole history, by the study's objective. Further metrics have what they were
    there, or last before.

    Args:
        project: The project, as ``"team/digits"`` or ``"digits"``; or the folder of runs that were recorded offline, as
            ``Path("wandb")``.
        study: The study that begins with them.
        filters: Which runs of a project, as for ``wandb.Api().runs``, such as ``{"tags": "baseline"}``. Defaults to all
            that are finished.

    Returns:
        The runs, for `Study.add_trials` or `Study.enqueue_trials`, in the order in which they were made.

    Raises:
        StudyError: W&B cannot be reached or refuses, or there is no such project or folder.
        ValueError: There are filters for a folder.

    Example:
        >>> study.add_trials(past_trials("team/digits", study))  # doctest: +SKIP
    """
    if isinstance(project, Path):
        if filters is not None:
            raise ValueError(f"filters are W&B's, for a project; the runs in {project} are read as they are.")
        if not project.is_dir():
            raise StudyError(f"There is no folder {project}, in which W&B would have recorded runs offline.")
        found = [_known(run.config, run.summary, partial(_rows, run), run.id, study) for run in offline_runs(project)]
    else:
        found = _of_project(project, study, filters or {})
    return [one for one in found if one is not None]


def _rows(run: OfflineRun, _: str) -> list[dict[str, Any]]:
    return run.rows


def _of_project(project: str, study: Study, filters: Mapping[str, Any]) -> list[KnownTrial | None]:
    def history(run: Any, metric: str) -> Iterable[Mapping[str, Any]]:  # with two keys, W&B gives rows that have both
        rows: Iterable[Mapping[str, Any]] = run.history(keys=[metric], samples=_SAMPLES, pandas=False)
        return rows

    try:
        runs = wandb.Api(timeout=_TIMEOUT).runs(
            project, filters={"state": "finished", **filters}, order="+created_at", lazy=False
        )
        return [
            _known(dict(run.config), dict(run.summary), partial(history, run), "/".join(run.path), study)
            for run in runs
        ]
    except Exception as error:  # of the SDK, and of what is below it
        raise StudyError(
            f"The runs of the W&B project {project!r} cannot be read: {error}\n"
            "  Check its name, as in 'team/digits', and that you are logged in: wandb login."
        ) from error


def _known(
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    history: Callable[[str], Iterable[Mapping[str, Any]]],
    name: str,
    study: Study,
) -> KnownTrial | None:
    """A run as a known trial; ``None`` where it is no whole training or has no value."""
    if isinstance(config.get(OURS), Mapping):  # of a trial, or of a whole study
        whole = summary if summary.get("outcome") == "complete" else {}
        values = {name: _number(whole.get(f"best/{name}")) for name in (study.metric, *study.others)}
    else:
        values = _values(history, study) if study.metric in summary else {}
    value = values.pop(study.metric, None)
    if value is None:
        return None
    theirs = {key: one for key, one in config.items() if key not in (OURS, "_wandb")}
    params = {key: one for key, one in {**dict(flat(theirs.items())), **theirs}.items() if key in study.space.names}
    others = {name: one for name, one in values.items() if one is not None}
    return KnownTrial(params, value, f"W&B run {name}", others)


def _values(history: Callable[[str], Iterable[Mapping[str, Any]]], study: Study) -> dict[str, float | None]:
    """The values of a run that count, by metric."""
    counts = objective_value(_series(history(study.metric), study.metric), study.mode, study.objective)
    if counts is None:
        return {}
    value, step = counts
    others = {
        name: value_beside(_series(history(name), name), mode, study.objective, step)
        for name, mode in study.others.items()
    }
    return {study.metric: value, **others}


def _series(rows: Iterable[Mapping[str, Any]], metric: str) -> list[tuple[int, float]]:
    """The steps of W&B, and the finite values of a metric there."""
    steps = [(place, _number(row.get("_step")), _number(row.get(metric))) for place, row in enumerate(rows)]
    return [(place if step is None else int(step), value) for place, step, value in steps if value is not None]


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) and math.isfinite(value) else None
