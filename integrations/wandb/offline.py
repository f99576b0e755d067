"""Runs that W&B's SDK has recorded offline, read from their files: records of protobuf in the log framing of LevelDB.

Only what a study begins with is read: configuration, history, summary, and whether the run has ended.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

from tunehook.system import StoredError, from_json, open_regular, read_whole

_MESSAGES: Any = wandb_internal_pb2  # protobuf makes its classes at run time, unseen by type checkers
_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, struct.Struct("<IHB")
_MOST, _DEEP = 2**30, 50  # bytes of a file, which holds no media, and parts of a key
_FULL, _FIRST, _LAST = 1, 2, 4  # whole records, and the first and last pieces of one

_log = logging.getLogger("tunehook")


@dataclass
class OfflineRun:
    """What the file of a run holds.

    Attributes:
        id: Its id.
        config: Its configuration.
        summary: Its summary.
        rows: Its history.
        exit_code: With what it ended; ``None`` where it has not.
    """

    id: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


def offline_runs(folder: Path) -> list[OfflineRun]:
    """The runs below a folder that ended well, in the order of their folders; a file that cannot be read is told."""
    found = []
    for path in sorted(folder.rglob("run-*.wandb")):
        try:
            found.append(_read(path))
        except Exception as error:  # noqa: BLE001 - whatever a damaged file does to protobuf and JSON
            _log.warning("%s cannot be read and is left out: %r", path, error)
    return [run for run in found if run.exit_code == 0]


def _read(path: Path) -> OfflineRun:
    run = OfflineRun()
    takers: dict[str, Callable[[Any], object]] = {
        "run": lambda record: _take_run(run, record.run),
        "config": lambda record: _update(run.config, record.config.update),
        "summary": lambda record: _update(run.summary, record.summary.update),
        "history": lambda record: run.rows.append(_update({}, record.history.item)),
        "exit": lambda record: setattr(run, "exit_code", record.exit.exit_code),
    }
    with open(path, "rb", opener=open_regular) as file:  # a pipe would be waited for
        data = read_whole(file, most=_MOST)
    for payload in _records(data):
        record = _MESSAGES.Record()
        record.ParseFromString(payload)
        take = takers.get(record.WhichOneof("record_type"))
        if take is not None:
            take(record)
    return run


def _take_run(run: OfflineRun, new: Any) -> None:
    run.id = new.run_id or run.id
    _update(run.config, new.config.update)


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of a log; one that is cut off at the end is left out."""
    at, parts = _FILE_HEADER, b""
    while at + _HEADER.size <= len(data):
        if (rest := _BLOCK - at % _BLOCK) < _HEADER.size:  # padding
            at += rest
            continue
        _, length, kind = _HEADER.unpack_from(data, at)
        begin = at + _HEADER.size
        if kind == 0 or begin + length > len(data):
            return
        piece = data[begin : begin + length]
        parts = piece if kind in (_FULL, _FIRST) else parts + piece
        if kind in (_FULL, _LAST):
            yield parts
        at = begin + length


def _update(target: dict[str, Any], items: Any) -> dict[str, Any]:
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        if len(above) > _DEEP:
            raise StoredError(f"a key has {len(above) + 1} parts")
        inner = target
        for key in above:
            inner = inner.setdefault(key, {})
        inner[last] = from_json(item.value_json)
    return target
