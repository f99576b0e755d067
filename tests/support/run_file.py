"""A small reader of W&B's ``.wandb`` run files: records of protobuf in the log framing of LevelDB."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

from waiting import PATIENCE

BLOCK = 32768
FILE_HEADER = 7
CHUNK_HEADER = struct.Struct("<IHB")
MESSAGES: Any = wandb_internal_pb2  # protobuf makes its classes at run time, unseen by type checkers
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class RunFile:
    """What a run file holds; later records of the run complete earlier ones, as W&B's own sync does it."""

    path: Path
    id: str = ""
    started: float = 0.0
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    tags: tuple[str, ...] = ()
    resume: bool | None = None  # not in the files of wandb 0.28
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    artifact_files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def steps(self) -> list[int]:
        """The steps of the rows that are no snapshots, which have the step of the row before."""
        return steps_of(self.rows)

    def column(self, name: str) -> list[Any]:
        """The values of a metric, in the order in which they were logged."""
        return [row[name] for row in self.rows if name in row]


def steps_of(rows: list[dict[str, Any]]) -> list[int]:
    """The steps of the rows that are no snapshots."""
    reports = [row for row in rows if not any(name.endswith("snapshot/step") for name in row)]
    return [row["trial/step"] for row in reports if "trial/step" in row]


def read_runs(folder: Path, *, timeout: float = PATIENCE) -> list[RunFile]:
    """The runs below a folder, oldest first, each read once its exit record is there.

    Args:
        folder: The folder that ``WANDB_DIR`` named.
        timeout: Seconds to wait for an exit record, because ``run.finish()`` returns before the file is complete.
    """
    runs = [read_finished(path, timeout=timeout) for path in folder.rglob("*.wandb")]
    return sorted(runs, key=lambda run: run.started)


def read_finished(path: Path, *, timeout: float = PATIENCE) -> RunFile:
    """One run, read once its exit record is there.

    Raises:
        TimeoutError: If no exit record comes.
    """
    deadline = time.monotonic() + timeout
    while (run := read_run(path)).exit_code is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} has no exit record after {timeout} s.")
        time.sleep(0.01)
    return run


def read_run(path: Path) -> RunFile:
    """One run as far as it is written."""
    run = RunFile(path)
    for payload in read_records(path.read_bytes()):
        record = MESSAGES.Record()
        record.ParseFromString(payload)
        take = _TAKERS.get(record.WhichOneof("record_type"))
        if take is not None:
            take(run, record)
    return run


def read_records(data: bytes) -> Iterator[bytes]:
    """The whole records of a log; a record that is cut off at the end is left out."""
    position, parts = FILE_HEADER, b""
    while position + CHUNK_HEADER.size <= len(data):
        if BLOCK - position % BLOCK < CHUNK_HEADER.size:  # the rest of a block is padding
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = CHUNK_HEADER.unpack_from(data, position)
        begin = position + CHUNK_HEADER.size
        if kind == 0 or begin + length > len(data):
            return
        parts = data[begin : begin + length] if kind in (FULL, FIRST) else parts + data[begin : begin + length]
        if kind in (FULL, LAST):
            yield parts
        position = begin + length


def _take_run(run: RunFile, record: Any) -> None:
    new = record.run
    run.started = run.started or new.start_time.ToNanoseconds() / 1e9
    run.id, run.project = new.run_id or run.id, new.project or run.project
    run.name, run.group = new.display_name or run.name, new.run_group or run.group
    run.job_type, run.tags = new.job_type or run.job_type, tuple(new.tags) or run.tags
    run.resume = getattr(new, "resume", None)
    _update(run.config, new.config.update)


def _take_config(run: RunFile, record: Any) -> None:
    _update(run.config, record.config.update)


def _take_summary(run: RunFile, record: Any) -> None:
    _update(run.summary, record.summary.update)


def _take_row(run: RunFile, record: Any) -> None:
    row: dict[str, Any] = {}
    _update(row, record.history.item)
    run.rows.append({key: value for key, value in row.items() if not key.startswith("_")})


def _take_metric(run: RunFile, record: Any) -> None:
    run.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric


def _take_artifact(run: RunFile, record: Any) -> None:
    artifact = record.artifact
    run.artifacts.append(artifact.name)
    run.aliases[artifact.name] = list(artifact.aliases)
    run.artifact_files[artifact.name] = {
        entry.path: Path(entry.local_path).read_bytes()
        for entry in artifact.manifest.contents
        if Path(entry.local_path).is_file()
    }


def _take_files(run: RunFile, record: Any) -> None:
    run.files.extend(file.path for file in record.files.files)


def _take_exit(run: RunFile, record: Any) -> None:
    run.exit_code = record.exit.exit_code


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        inner = target
        for key in above:
            inner = inner.setdefault(key, {})
        inner[last] = json.loads(item.value_json)


_TAKERS = {
    "run": _take_run,
    "config": _take_config,
    "summary": _take_summary,
    "history": _take_row,
    "metric": _take_metric,
    "artifact": _take_artifact,
    "files": _take_files,
    "exit": _take_exit,
}
