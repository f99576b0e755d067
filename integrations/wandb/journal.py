"""What the journals of a trial say about its W&B run: which run it is, and the rows that belong into it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunehook.record import (
    Event,
    Journal,
    Report,
    RunNote,
    files_in,
    has,
    is_flag,
    is_path,
    is_text,
    is_texts,
    is_wholes,
    join,
    maybe,
    open_file,
    read_attempts,
)
from tunehook.snapshot import Snapshot
from tunehook.trial import JournalError, Trial

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


_RUN = {
    "id": is_text, "is_shared": is_flag, "dir": maybe(is_path), "tags": maybe(is_texts), "steps": maybe(is_wholes),
    **dict.fromkeys(("project", "entity", "group", "name"), maybe(is_text)),
}  # fmt: skip


def runs_in(events: Iterable[Event]) -> list[Mapping[str, Any]]:
    """What these events say of W&B runs, as `note_run` has written it."""
    told = [event.run for event in events if isinstance(event, RunNote) and event.recorder == "wandb"]
    return [run for run in told if has(run, _RUN)]


def rows_of(attempts: Iterable[Iterable[Event]]) -> list[Row]:
    """The rows of attempts of a trial, as its run has them: each step once."""
    return [
        (event.step, dict(event.metrics) if isinstance(event, Report) else event.snapshot)
        for event in join(attempts).all
    ]


def runs_before(trial: Trial) -> set[str]:
    """The ids of the runs that the earlier attempts of a trial had."""
    return {run["id"] for events in read_attempts(trial) for run in runs_in(events)}


def rows_before(trial: Trial) -> list[Row]:
    """The rows that the earlier attempts of a trial have made."""
    return rows_of(read_attempts(trial))


def rows_until_now(trial: Trial) -> list[Row]:
    """The rows of a trial, with those of its earlier attempts."""
    return rows_of(read_attempts(trial, with_itself=True))


def mark_synced(folder: Path, run_id: str) -> None:
    """Let `wandb sync` pass over the offline folder of a run, as it does with those that it has uploaded."""
    file = folder / f"run-{run_id}.wandb"
    with contextlib.suppress(OSError):  # it is another run's, or a link
        if folder.name.endswith(f"-{run_id}") and files_in(file):
            open_file(file.with_suffix(".wandb.synced"), "ab", below=folder).close()
