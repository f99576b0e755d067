"""Where studies are kept: the folder and its disk, the storage, and the studies in it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tunehook.doctor.finding import Finding
from tunehook.record import ROOT, lock_file
from tunehook.report import studies_in
from tunehook.storage import from_environment, names_in
from tunehook.system import hidden
from tunehook.trial import StudyError

_ROOM = 2**30  # free bytes below which a study with snapshots and checkpoints may soon have none
# File systems of other machines, by their names in /proc: SQLite's log has to be on the machine that writes.
_AWAY = ("nfs", "cifs", "smb", "lustre", "gpfs", "ceph", "beegfs", "glusterfs", "afs", "fuse.sshfs", "fuse.s3fs")


def look_at_folder(folder: Path) -> Iterator[Finding]:
    """Whether the studies' folder can be written to and locked, and how much room is there."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    try:
        holds = _try(there)
    except OSError as error:
        yield Finding("folder", "harm", f"nothing can be written in {there}: {error.strerror or error}",
                      "start where you may write, or give another place: Study(..., folder=...)")  # fmt: skip
        return
    room = shutil.disk_usage(there).free
    told = f"{there} can be written to, and has {room / 2**30:.1f} GiB free"
    yield Finding("folder", "ok", told) if room >= _ROOM else Finding("folder", "note", told, "make room")
    if not holds:
        yield Finding("folder", "harm", f"files in {there} cannot be locked, so two processes may open a study at once",
                      "let one process work on a study, or give another place: Study(..., folder=...)")  # fmt: skip
    if (kind := kind_of(there)).startswith(_AWAY):
        yield Finding("folder", "note", f"{there} is on another machine's file system ({kind}), where an SQLite file "
                      "serves one machine at a time only",
                      "for several give a database server: Study(..., storage='postgresql://...')")  # fmt: skip


def look_at_storage(folder: Path, given: str | None) -> Iterator[Finding]:
    """Whether the storage answers, and whether each study of the folder can be read."""
    url = given or from_environment()
    if url is None:
        yield Finding("storage", "ok", f"a file in each study's folder, by SQLite {sqlite3.sqlite_version}")
    else:
        place = hidden(url, url=url)
        try:
            many = len(names_in(url))
        except (StudyError, ImportError) as error:
            text, _, mend = str(error).partition("\n")
            yield Finding("storage", "harm", text, mend.strip())
        else:
            yield Finding("storage", "ok", f"{place} answers, and has {many} studies")
    there = studies_in(folder)
    if not there and folder == ROOT:
        yield Finding("storage", "ok", f"there is no study in {folder} yet")
    elif not there:
        yield Finding("storage", "note", f"there is no study in {folder}",
                      f"give the folder that has the folders of studies, as {ROOT} does")  # fmt: skip
    for found in there:
        text, _, mend = found.get("error", "").partition("\n")
        is_well = "error" not in found
        yield Finding("storage", "ok" if is_well else "harm", found["told"] if is_well else text, mend.strip())


def _try(folder: Path) -> bool:
    """Write a file, and have it locked; whether the lock keeps another one out.

    Raises:
        OSError: It cannot be written.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".tunehook-") as file:
        file.write(b"1")
        file.flush()
        with open(file.name, "rb") as other:  # noqa: PTH123 - of the same place
            return lock_file(file) and not lock_file(other)


def kind_of(place: Path) -> str:
    """The name of the file system that a place is on; empty where nobody says so."""
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    mounts = [(fields[1].replace("\\040", " "), fields[2]) for line in lines if len(fields := line.split()) > 2]
    above = [(mount, kind) for mount, kind in mounts if place.is_relative_to(mount)]
    return max(above, key=lambda one: len(one[0]), default=("", ""))[1]
