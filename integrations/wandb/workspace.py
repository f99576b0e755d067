"""The dashboard of a study on W&B, as code: a saved workspace over the runs of its trials and its own.

It is the border to wandb-workspaces too, whose saved views cannot be found again in a public way.
"""
# ruff: noqa: SLF001 - this is the border

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws
except ImportError as error:
    if (error.name or "").partition(".")[0] not in ("wandb_workspaces", "wandb"):
        raise
    raise ModuleNotFoundError(
        "The dashboard on W&B needs the package wandb-workspaces: pip install 'tunehook[workspace]'",
        name="wandb_workspaces",
    ) from error

import wandb
from wandb_workspaces import expr

from tunehook.integrations.wandb.journal import runs_in
from tunehook.integrations.wandb.line import reason_of
from tunehook.integrations.wandb.run import SHARED_PREFIX
from tunehook.integrations.wandb.sdk import has_key
from tunehook.integrations.wandb.service import leave_dead_service
from tunehook.integrations.wandb.values import slashed
from tunehook.record import Begin, StudyPaths, Taken, open_file, read_events
from tunehook.system import StoredError, from_json, read_whole

# A workspace gets slow with more charts; the others are a click away on W&B.
CHARTS = 24
# From this ratio of the largest to the smallest value on, an axis is logarithmic.
DECADES = 100.0


class WorkspaceError(RuntimeError):
    """The dashboard cannot be made."""


@dataclass(frozen=True)
class Recorded:
    """What the journals of a study say about its runs.

    Attributes:
        params: The values of each hyperparameter that were tried.
        metrics: The names by which the runs of the trials have the tuned metric.
        tensors: The names of parameters and gradients of which there are snapshots, by kind.
    """

    study: str
    metric: str
    mode: str
    project: str | None
    entity: str | None
    group: str
    params: Mapping[str, list[Any]]
    metrics: tuple[str, ...]
    tensors: Mapping[str, list[str]]


def save(folder: Path, *, project: str | None, entity: str | None) -> str:
    """Save the dashboard of a study, over the one that was saved for it before.

    Args:
        folder: The study's folder.
        project: The W&B project. Default: that of the latest trial.
        entity: The user or team. Default: that of the latest trial, else the account's own.

    Returns:
        The address.

    Raises:
        WorkspaceError: No trial of the study was recorded with W&B, nobody is logged in, or W&B refuses.
    """
    recorded = read_study(folder)
    project, entity = project or recorded.project, entity or recorded.entity
    leave_dead_service()
    if not has_key(wandb.setup().settings):
        raise WorkspaceError("Nobody is logged in to W&B, where the dashboard is kept.\n  Log in: wandb login.")
    try:
        entity = entity or wandb.Api().default_entity
        workspace = make_workspace(recorded, str(project), str(entity))
        with _saved(StudyPaths(folder).workspaces, f"{entity}/{project}") as known:
            _save(workspace, known)
        return str(workspace.url)
    except Exception as error:
        raise WorkspaceError(
            f"W&B does not keep the dashboard of study {recorded.study}: {reason_of(error)}.\n"
            "  Check --project and --entity, `wandb login`, and WANDB_BASE_URL."
        ) from error


def read_study(folder: Path) -> Recorded:
    """What the journals say.

    Raises:
        WorkspaceError: There are no trials, or none was recorded with W&B.
    """
    begun: Begin | None = None
    run: Mapping[str, Any] = {}
    params: dict[str, list[Any]] = {}
    metrics: dict[str, None] = {}
    tensors: dict[str, dict[str, None]] = {"parameters": {}, "gradients": {}}
    for path in sorted(folder.glob("trial-*/journal.jsonl")):
        for event in read_events(path):
            if isinstance(event, Begin):
                begun = event
                for name, value in event.params.items():
                    params.setdefault(name, []).append(value)
            elif begun is not None and (runs := runs_in([event])):
                run = runs[0]
                metrics[(SHARED_PREFIX if run["is_shared"] else "") + begun.metric] = None
            elif isinstance(event, Taken):
                for kind, names in tensors.items():
                    names.update(dict.fromkeys(event.names(kind)))
    if begun is None:
        raise WorkspaceError(f"There is no study in {folder}: it has no journals of trials.")
    if not run:
        raise WorkspaceError(
            f"No trial of study {begun.study} was recorded with W&B, so there is nothing to show.\n"
            "  Study(..., recorders=[WandbRecorder('my-project')]) records the next ones."
        )
    return Recorded(
        begun.study, begun.metric, begun.mode, run.get("project"), run.get("entity"),
        run.get("group") or begun.study, params, tuple(metrics),
        {kind: list(names) for kind, names in tensors.items()},
    )  # fmt: skip


def make_workspace(recorded: Recorded, project: str, entity: str) -> Any:
    """The workspace of a study: the search first, then the learning curves, then the snapshots."""
    sections = [
        ws.Section(name="Search", is_open=True, panels=_search_panels(recorded)),
        ws.Section(name="Learning curves", is_open=True, panels=list(_curves(recorded.metrics))),
    ]
    if any(recorded.tensors.values()):
        sections.append(ws.Section(name="Snapshots", panels=_snapshot_panels(recorded.tensors)))
    best = f"best/{recorded.metric}"
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"tunehook: {recorded.study}",
        sections=sections,
        runset_settings=ws.RunsetSettings(
            filters=[expr.Metric("Group") == recorded.group],
            order=[expr.Ordering(expr.Summary(best), ascending=recorded.mode == "min")],
            pinned_columns=["run:displayName", "summary:outcome", f"summary:{best}"],
        ),
    )


def _search_panels(recorded: Recorded) -> list[Any]:
    best = f"best/{recorded.metric}"
    columns = [_Column(name, log=_is_wide(values)) for name, values in recorded.params.items()]
    searched = [name for name, values in recorded.params.items() if any(value != values[0] for value in values)]
    panels = [
        wr.LinePlot(title="Best so far", x="study/trials", y=[best, f"value/{recorded.metric}"]),
        wr.ParallelCoordinatesPlot(
            title="Parallel coordinates",
            columns=[*columns, wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(best))],
        ),
        wr.ParameterImportancePlot(with_respect_to=best),
        wr.WeavePanelSummaryTable(table_name="study/table"),
    ]
    if searched:
        shares = [f"importance/{slashed(name)}" for name in searched]
        panels.insert(2, wr.BarPlot(title="Importance (PED-ANOVA)", metrics=shares))
    return panels


def _curves(metrics: Iterable[str]) -> Iterable[Any]:
    for metric in metrics:
        yield wr.LinePlot(title=metric, x="trial/step", y=[metric])
        yield wr.LinePlot(
            title=f"{metric} by outcome", x="trial/step", y=[metric], groupby=wr.Config("tunehook.outcome"),
            groupby_aggfunc="mean", groupby_rangefunc="minmax",
        )  # fmt: skip


def _snapshot_panels(tensors: Mapping[str, list[str]]) -> list[Any]:
    axis = "snapshot/step"
    kinds = [kind for kind, names in tensors.items() if names]
    panels = [
        wr.LinePlot(title=f"Norm of all {kind}", x=axis, y=[f"snapshot/{kind}/norm"], log_y=True) for kind in kinds
    ]
    panels.append(wr.LinePlot(title="Update to weight", x=axis, metric_regex="^ratio/", log_y=True))
    for kind in kinds:
        panels += [
            wr.LinePlot(title=f"{kind}/{name}", x=axis, y=[f"{kind}/{slashed(name)}"])
            for name in tensors[kind][:CHARTS]
        ]
    return panels


class _Column(wr.ParallelCoordinatesPlotColumn):  # type: ignore[misc,unused-ignore]
    """The axis of a hyperparameter. Its name is one key, also with dots, which `Config` takes for nesting.

    ``_to_model`` is private in wandb-workspaces 0.4.13, for which this was written.
    """

    def __init__(self, name: str, *, log: bool) -> None:
        super().__init__(metric=wr.Config(name), display_name=name, log=log or None)

    def _to_model(self) -> Any:
        model = super()._to_model()
        model.accessor = f"config:{self.metric.name}.value"
        return model


def _is_wide(values: Iterable[Any]) -> bool:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) >= DECADES


def _save(workspace: Any, known: dict[str, str]) -> None:
    """Save over the workspace that was saved before; a new one where that was deleted."""
    if known:
        _put_place(workspace, known)
        with contextlib.suppress(Exception):
            workspace.save()
            return
    workspace.save_as_new_view()
    known.update(_place_of(workspace))


def _place_of(workspace: Any) -> dict[str, str]:
    """Where a workspace is saved: ``_internal_name`` and ``_internal_id`` in wandb-workspaces 0.4.13."""
    return {"name": workspace._internal_name, "id": workspace._internal_id}


def _put_place(workspace: Any, place: Mapping[str, str]) -> None:
    """Let a workspace be saved over an earlier one, by the same private names."""
    workspace._internal_name, workspace._internal_id = place["name"], place["id"]


@contextlib.contextmanager
def _saved(path: Path, key: str) -> Iterator[dict[str, str]]:
    """What was saved before, to be changed."""
    all_known: dict[str, dict[str, str]] = {}
    with contextlib.suppress(FileNotFoundError, StoredError), open_file(path, "rb", below=path.parent) as file:
        found = from_json(read_whole(file))
        all_known = {key: one for key, one in found.items() if _is_saved(one)} if isinstance(found, dict) else {}
    yield all_known.setdefault(key, {})
    with open_file(path, "w", below=path.parent) as file:
        json.dump(all_known, file)


def _is_saved(known: Any) -> bool:
    """Whether it is what `_save` keeps."""
    return isinstance(known, dict) and all(isinstance(known.get(name), str) for name in ("name", "id"))
