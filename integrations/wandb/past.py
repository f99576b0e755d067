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
from tunehook.integrations.wandb.offline import offline_runs
from tunehook.integrations.wandb.values import OURS
from tunehook.record import is_number
from tunehook.study import KnownTrial, Study
from tunehook.trial import StudyError, objective_value

_TIMEOUT = 60  # seconds that a request may take
_SAMPLES = 10_000  # of a longer history W&B gives so many rows


def past_trials(project: str | Path, study: Study, *, filters: Mapping[str, Any] | None = None) -> list[KnownTrial]:
    """The finished runs of a project that have the study's metric, with their values of the names of its space.

    The value is that which counts in the study: of a run that tunehook recorded as a complete trial the one in its
    summary, of any other run that of its whole history, by the study's objective.

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
        found = [
            _known(run.config, run.summary, partial(list, run.rows), run.id, study) for run in offline_runs(project)
        ]
    else:
        found = _of_project(project, study, filters or {})
    return [one for one in found if one is not None]


def _of_project(project: str, study: Study, filters: Mapping[str, Any]) -> list[KnownTrial | None]:
    def history(run: Any) -> Iterable[Mapping[str, Any]]:
        rows: Iterable[Mapping[str, Any]] = run.history(keys=[study.metric], samples=_SAMPLES, pandas=False)
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
    history: Callable[[], Iterable[Mapping[str, Any]]],
    name: str,
    study: Study,
) -> KnownTrial | None:
    """A run as a known trial; ``None`` where it is no whole training or has no value."""
    if isinstance(config.get(OURS), Mapping):  # of a trial, or of a whole study
        value = _number(summary.get(f"best/{study.metric}")) if summary.get("outcome") == "complete" else None
    else:
        value = _value(history(), study) if study.metric in summary else None
    if value is None:
        return None
    theirs = {key: one for key, one in config.items() if key not in (OURS, "_wandb")}
    params = {key: one for key, one in {**dict(flat(theirs.items())), **theirs}.items() if key in study.space.names}
    return KnownTrial(params, value, f"W&B run {name}")


def _value(history: Iterable[Mapping[str, Any]], study: Study) -> float | None:
    rows = [_number(row.get(study.metric)) for row in history]
    series = [(step, value) for step, value in enumerate(rows) if value is not None]
    counts = objective_value(series, study.mode, study.objective)
    return None if counts is None else counts[0]


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) and math.isfinite(value) else None
