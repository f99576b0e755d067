"""The journal of a trial on disk, which is the truth: writing it, and reading it back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tunehook.record.checks import is_event
from tunehook.record.paths import LinkError, files_in, journal_of, make_folder, open_file, sync_path
from tunehook.system import StoredError, from_json, read_lines, shares_ids, this_process, versions
from tunehook.trial import Decision, JournalError, Outcome, Trial

log = logging.getLogger("tunehook")

_SEAL = b', "crc": "00000000"}'  # with which a line ends
_MARK = _SEAL[:-10]
_SYNC_EVERY = 1.0  # seconds: more often, no report alone makes the training wait for the disk


class Journal:
    """The durable record of one trial: one JSON object a line.

    A line outlives this process as soon as it is written. It outlives the machine too when `end`, `saved` or `problem`
    returns; reports do so once a second, so that an epoch of milliseconds does not wait for the disk: after a power
    failure the trial is trained again in any case, from a checkpoint whose reports are on the disk.

    Every line has ``time`` (seconds since 1970) and ``event``: ``begin`` (values, process, host), ``process`` (the one
    that trains, where another one began the trial), ``task`` (the same on a cluster), ``config`` (what is in force),
    ``recorder`` (the record beside this one), ``continue`` (from the checkpoint of an earlier attempt, whose reports up
    to there follow), ``report`` (step and metrics), ``saved`` (a checkpoint, with the digest of its files),
    ``snapshot`` (statistics of the parameters), ``decision`` (a stop and its reason), ``end`` (the outcome). NaN and
    infinities are written as the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, so that every line is JSON. The
    last field is ``crc``, the CRC-32 of what stands before it in eight hexadecimal digits.

    A journal that is removed while it is written, or in whose place another one was put, is written again, as a whole
    where it is open, and told.

    Args:
        folder: The trial's folder; it is made where it does not exist.
        trial: The trial, where it has begun. Defaults to None, not known.

    Raises:
        JournalError: The folder or the file cannot be written.
    """

    def __init__(self, folder: Path, *, trial: Trial | None = None) -> None:
        self.path = journal_of(folder)
        self._file: IO[bytes] | None = None
        self._begun = trial if trial is not None and self.path.is_file() else None
        self._is_listed = False  # its name, in the folder, on the disk
        self._synced = time.monotonic()

    def begin(self, trial: Trial, *, is_given: bool = False) -> None:
        """Write that this process begins the trial, and close the file: the session opens it again.

        Args:
            trial: The trial.
            is_given: Whether its values were given, and not proposed by the search. Defaults to False.
        """
        self._begin(trial, **({"is_given": True} if is_given else {}))
        self.close()

    def _begin(self, trial: Trial, **more: Any) -> None:
        if trial.study_id:
            more["study_id"] = trial.study_id
        if trial.lineage is not None:
            more["lineage"] = trial.lineage.describe()
        if trial.others:
            more["others"] = dict(trial.others)
        self._write("begin", trial=trial.number, study=trial.study, key=trial.key, attempt=trial.attempt,
                    params=dict(trial.params), metric=trial.metric, mode=trial.mode, host=host(),
                    **this_process(), **more, is_urgent=False)  # fmt: skip

    def process(self) -> None:
        """Write that this process trains the trial, which another one began."""
        self._write("process", host=host(), **this_process(), is_urgent=False)

    def task(self, place: str) -> None:
        """Write that this process trains the trial on a cluster, which ends it where the one that began it is gone."""
        self._write("task", host=host(), **this_process(), place=place)

    def carry(self, lines: bytes) -> None:
        """Write whole lines of this journal that were written on a machine which does not see its folder."""
        self._put(lines, is_urgent=True)

    def config(self, effective: Mapping[str, Any], *, records: Sequence[str] = ()) -> None:
        """Write the effective configuration by slot path, where other recorders keep the trial, and what trains it."""
        self._write("config", effective=dict(effective), records=list(records), versions=versions(), is_urgent=False)

    def recorder(self, name: str, run: Mapping[str, Any], *, places: Sequence[str] = ()) -> None:
        """Write by which name a recorder keeps the trial, and where, for those who look after the process is gone."""
        self._write("recorder", recorder=name, run=dict(run), records=list(places), is_urgent=False)

    def synced(self, rows: int) -> None:
        """Write that another recorder was found to have so many reports, and the end of the trial."""
        self._write("synced", rows=rows)

    def goes_on(self, *, trial: int, attempt: int, step: int, reports: int) -> None:
        """Write from which trial, an earlier attempt, this one goes on, after which step; its reports come next."""
        self._write("continue", trial=trial, attempt=attempt, step=step, reports=reports, is_urgent=False)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of one step."""
        is_due = time.monotonic() - self._synced >= _SYNC_EVERY
        self._write("report", step=step, metrics=dict(metrics), is_urgent=is_due)

    def snapshot(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the statistics of the parameters, after the measurement of a step, as `Snapshot.as_json` gives them."""
        self._write("snapshot", step=step, snapshot=dict(values), is_urgent=False, is_plain=True)

    def decision(self, step: int, decision: Decision) -> None:
        """Write that the trial is stopped, and why."""
        self._write("decision", step=step, stop=decision.stop, state=decision.state, reason=decision.reason,
                    is_urgent=False)  # fmt: skip

    def checkpoint(self, path: Path) -> None:
        """Write where the training has kept its model, with what tells whether the file is changed later.

        Raises:
            LinkError: It is or holds a link; links on the way to it are followed now, and not later.
        """
        path = path.parent.resolve() / path.name
        size, changed = stamp(path)
        self._write("checkpoint", path=str(path), size=size, changed=changed, is_urgent=False)

    def saved(self, name: str, digest: str) -> None:
        """Write that a checkpoint to go on from is saved under a name, and what `digest_of` says of its files."""
        self._write("saved", name=name, digest=digest)

    def problem(self, text: str) -> None:
        """Write that something beside the training went wrong, such as a recorder."""
        self._write("problem", text=text)

    def end(self, outcome: Outcome) -> None:
        """Write how the trial ended, and close the file."""
        more: dict[str, Any] = {"values": outcome.values} if outcome.values else {}
        self._write("end", state=outcome.state, reason=outcome.reason, value=outcome.value, step=outcome.step,
                    traceback=outcome.traceback, **more)  # fmt: skip
        self.close()

    def close(self) -> None:
        """Close the file; the next event opens it again."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # a line that could not be written was told, and is in its buffer still
                file.close()

    def _write(self, event: str, *, is_urgent: bool = True, is_plain: bool = False, **fields: Any) -> None:
        """Hand a line to the system, which keeps it if this process dies; an urgent one also if the machine does."""
        fields = fields if is_plain else plain(fields)
        line = json.dumps({"time": round(time.time(), 3), "event": event, **fields}, allow_nan=False, default=plain)
        self._put(sealed(line.encode()) + b"\n", is_urgent=is_urgent)

    def _put(self, lines: bytes, *, is_urgent: bool) -> None:
        begun = self._begun
        if self._file is None and begun is not None and not self.path.is_file():
            self._begun = None
            self._tell_removed()
            self._begin(begun)
            self._begun = begun
        try:
            if self._file is None:
                self._file = _append(self.path)
            self._file.write(lines)
            self._file.flush()
            if not _is_at(self.path, self._file):
                self._write_again(self._file)
            if is_urgent:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
                if not self._is_listed:
                    sync_path(self.path.parent)
                    sync_path(self.path.parent.parent)
                    self._is_listed = True
        except OSError as error:
            self.close()  # the next event ends the torn line first
            way_out = (
                "Remove what is there" if isinstance(error, LinkError) else "Make room or make the folder writable"
            )
            raise JournalError(
                f"The journal {self.path} cannot be written: {error.strerror or error}.\n"
                f"  {way_out}, or give the study another folder: Study(..., folder=...)."
            ) from error

    def _write_again(self, removed: IO[bytes]) -> None:
        """Write the lines of a file that was removed, and that is open here alone, where it was."""
        self._tell_removed()
        removed.seek(0)
        lines = removed.read()
        self._file = _append(self.path)
        removed.close()
        self._file.write(lines)
        self._file.flush()
        self._is_listed = False

    def _tell_removed(self) -> None:
        log.warning("The journal %s was removed while its trial runs: it is written again.", self.path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}


def stamp(path: Path) -> tuple[int, int]:
    """The size of a file or folder in bytes, and when it was changed last, in nanoseconds.

    Raises:
        LinkError: A link is among it.
        OSError: It is gone.
    """
    files = [file.lstat() for file in files_in(path)]
    return sum(file.st_size for file in files), max((file.st_mtime_ns for file in files), default=0)


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file.fileno()))
    except OSError:
        return False


def digest_of(folder: Path) -> str:
    """The SHA-256 of what is in a folder: of the names and the contents of all files.

    Raises:
        LinkError: A link is among it.
        OSError: It cannot be read.
    """
    whole = hashlib.sha256()
    for path in files_in(folder):
        with open_file(path, "rb", below=folder) as file:
            content: Any = file
            whole.update(f"{path.relative_to(folder).as_posix()}\0".encode(errors="surrogateescape"))
            whole.update(hashlib.file_digest(content, "sha256").digest())
    return whole.hexdigest()


def _append(path: Path) -> IO[bytes]:
    """Open a journal for appending; a torn last line is closed first, so that it spoils no other."""
    study = path.parent.parent
    make_folder(path.parent, below=study)
    file = open_file(path, "ab+", below=study)
    if file.seek(0, os.SEEK_END) > 0:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
    return file


def sealed(line: bytes) -> bytes:
    """An object in JSON, with the checksum of its fields as the last one."""
    body = line[:-1]
    return body + _MARK + b'%08x"}' % zlib.crc32(body)


def unsealed(line: bytes) -> tuple[bytes, bool | None]:
    """A line without its checksum, and whether that is right; ``None`` where it has none, as of an earlier version."""
    body, seal = line[: -len(_SEAL)], line[-len(_SEAL) :]
    if not seal.startswith(_MARK):
        return line, None
    return body + b"}", seal == sealed(body + b"}")[-len(_SEAL) :]


def read_journal(path: Path, *, tail: int | None = None, is_strict: bool = False) -> Iterator[dict[str, Any]]:
    """The events of a journal in order.

    A line that is damaged (the last one, where the process or the machine died while it was written; one that is not
    what its checksum says) is left out and told in one warning, and so is a line with other fields than this version
    knows of its event, and a journal that is a link or cannot be read. Events and further fields of a later version are
    given as they are. A journal that does not exist has no events.

    Args:
        path: The file.
        tail: Read so many bytes at its end only, from the first whole line on. Defaults to None, all of it.
        is_strict: Whether one that is a link or cannot be read is an error. Defaults to False, it is told.

    Raises:
        OSError: It is, where that is an error.
    """
    try:
        with open_file(path, "rb", below=path.parent.parent) as file:
            skipped = 0 if tail is None else max(0, file.seek(0, os.SEEK_END) - tail)
            file.seek(skipped)
            lines = [*read_lines(file)][1 if skipped else 0 :]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:  # a link, or nothing that this user may read
        if is_strict:
            raise
        log.warning("A journal is left out: %s.", error)
        return
    for number, line in enumerate(lines, start=1):
        which = f"line {number}" if not skipped else "a line near its end"
        if not line.strip():
            continue
        body, is_right = unsealed(line.rstrip())
        event: Any = None
        try:
            if is_right is not False:
                event = from_json(body)
        except StoredError:
            pass
        if is_event(event) and "crc" not in event:  # which stands elsewhere than it was written
            yield event
        elif is_right:
            log.warning("%s: %s is of a version of tunehook that this one does not know, and left out.",
                        path, which)  # fmt: skip
        else:
            log.warning("%s: %s is damaged and left out; the other lines are whole.", path, which)


def plain(value: Any) -> Any:
    """The same value in what JSON knows; other objects become their ``repr``, numbers beyond JSON their names."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # scalars of NumPy, torch, JAX
        return plain(value.item())
    return repr(value)


def is_here(process: Mapping[str, Any]) -> bool:
    """Whether the id of a process can be looked up here: it is one of this machine, and not of another container."""
    return process.get("host") == host() and shares_ids(process.get("space"), process.get("start"))


def host() -> str:
    """The name of this machine."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "unknown")
