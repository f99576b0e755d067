"""What the journals of a trial say about its W&B run: which run it is, and the rows that belong into it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunehook.paths import journal_of
from tunehook.record import Journal, JournalError, read_journal
from tunehook.snapshot import Snapshot
from tunehook.trial import Trial

# The step of a report and its metrics, or the step that a snapshot follows.
Row = tuple[int, dict[str, float] | Snapshot]


def note_run(
    trial: Trial,
    run_id: str,
    options: Mapping[str, Any],
    place: str | None = None,
    *,
    is_shared: bool = False,
    steps: Sequence[int] | None = None,
) -> None:
    """Write into the trial's journal which run it is, so that it can be uploaded when this process is gone.

    Args:
        trial: The trial.
        run_id: The id of the run.
        options: The arguments of ``wandb.init``.
        place: The address or the folder of the run, where it is known.
        is_shared: Whether the run is the training's own.
        steps: W&B's own steps of our rows in a shared run that failed, by which it is found how many W&B has.
    """
    kept = {name: options.get(name) for name in ("project", "entity", "group", "name", "tags")}
    # Known before the run's own folder is, which a process that is killed as its run begins cannot note any more.
    root = None if is_shared else str(Path(options.get("dir") or os.environ.get("WANDB_DIR") or ".").absolute())
    journal = Journal(trial.folder)
    with contextlib.suppress(JournalError):  # the session writes the same file, and tells that
        run = {"id": run_id, **kept, "dir": root, "is_shared": is_shared}
        if steps is not None:
            run["steps"] = list(steps)
        journal.recorder("wandb", run, places=[place] if place else [])
    journal.close()


def read_earlier(trial: Trial) -> list[Row]:
    """The rows of the trial's earlier attempts, which are trials of other numbers and the same key."""
    found: list[tuple[int, list[Row]]] = []
    if trial.attempt == 0:
        return []
    for folder in sorted(trial.folder.parent.glob("trial-*")):
        events = [*events_of(trial.key, read_journal(journal_of(folder)))]
        if events and (attempt := events[0].get("attempt", 0)) < trial.attempt:
            found.append((attempt, rows_of(events)))
    return [row for _, rows in sorted(found, key=lambda item: item[0]) for row in rows]


def events_of(key: str, events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events of the trial of this key, without those of another one that had the folder before."""
    mine = False
    for event in events:
        if event["event"] == "begin":
            mine = event.get("key", "") == key
        if mine:
            yield event


def rows_of(events: Iterable[dict[str, Any]]) -> list[Row]:
    """The reports and snapshots, each of which is a row of the run."""
    rows: list[Row] = []
    for event in events:
        if event["event"] == "report":
            rows.append((event["step"], {name: float(value) for name, value in event["metrics"].items()}))
        elif event["event"] == "snapshot":
            rows.append((event["step"], Snapshot.from_json(event["snapshot"])))
    return rows


def mark_synced(folder: Path) -> None:
    """Let `wandb sync` pass over an offline folder, as it does with those that it has uploaded."""
    for file in folder.glob("run-*.wandb"):
        file.with_suffix(".wandb.synced").touch()
