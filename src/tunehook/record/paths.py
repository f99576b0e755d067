"""The one owner of every file name below a study's folder, and the one way to such a file: never through a link.

No link is followed below a study's folder, to read, write, remove or upload: whoever can write there would have us do
so elsewhere. The folder itself may be reached through links, and is looked up each time it is used, since two machines
may reach it by different ones.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tunehook.system import NoFileError, open_regular

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# The hyphen is on purpose: a folder called `tunehook` in the working directory would shadow an editable install.
ROOT = Path("tunehook-studies")

# What systems say of a link that is not to be followed: Linux and macOS, FreeBSD, NetBSD.
_IS_LINK = {errno.ELOOP, errno.EMLINK, getattr(errno, "EFTYPE", errno.ELOOP)}


_is_junction = getattr(os.path, "isjunction", lambda _: False)  # a link of Windows; Python 3.11 does not know it


class LinkError(OSError):
    """A file or folder is a link, lies behind one, or is elsewhere: it is not used."""


@dataclass(frozen=True)
class StudyPaths:
    """File names of one study.

    Args:
        folder: The study's folder, ``tunehook-studies/<study>`` by default.
    """

    folder: Path

    @property
    def database(self) -> Path:
        """The SQLite file of a study with the default storage."""
        return self.folder / "study.db"

    @property
    def databases(self) -> list[Path]:
        """That file, and those that SQLite keeps beside it."""
        return [self.folder / f"study.db{end}" for end in ("", "-wal", "-shm", "-journal")]

    @property
    def description(self) -> Path:
        """Which study the folder belongs to, what it searches, and the lock of whoever opens it."""
        return self.folder / "study.json"

    @property
    def waiting(self) -> Path:
        """The values that wait to be asked for, whose trials have no journal yet."""
        return self.folder / "waiting.jsonl"

    @property
    def shown(self) -> Path:
        """What recorders have shown of the study as a whole, and the lock of whoever shows it."""
        return self.folder / "shown.json"

    @property
    def workspaces(self) -> Path:
        """Which dashboards were saved for the study, and where."""
        return self.folder / "workspaces.json"

    def trial(self, number: int) -> Path:
        """The folder of one trial."""
        return self.folder / f"trial-{number:04d}"

    def output(self, number: int) -> Path:
        """What a trial printed and did not show on the terminal, in a process of its own all."""
        return output_of(self.trial(number))

    def checkpoint(self, number: int) -> Path:
        """The folder of the copy of a trial's model, while it is the best."""
        return self.trial(number) / "checkpoint"

    @property
    def models(self) -> Path:
        """The models that trials have kept, in a folder for each."""
        return self.folder / "models"

    def journal(self, number: int) -> Path:
        """The journal of one trial."""
        return journal_of(self.trial(number))


def journal_of(trial_folder: Path) -> Path:
    """The journal in a trial's folder."""
    return trial_folder / "journal.jsonl"


def output_of(trial_folder: Path) -> Path:
    """The output in a trial's folder."""
    return trial_folder / "output.txt"


def checkpoints_of(trial_folder: Path, key: str) -> Path:
    """The folder of what a trial and its later attempts go on from, by their key."""
    return trial_folder.parent / "checkpoints" / key


def models_of(trial_folder: Path) -> Path:
    """The folder of the models that a trial keeps."""
    return StudyPaths(trial_folder.parent).models / trial_folder.name


def plans_of(trial_folder: Path) -> Path:
    """Which constructor calls of the training function take which values, for all processes of the study."""
    return trial_folder.parent / "plans.json"


def runs_of(trial_folder: Path) -> Path:
    """Which trial each run of the trainings' own loggers belongs to, for all processes of the study."""
    return trial_folder.parent / "runs.jsonl"


def check_place(path: Path, *, below: Path) -> Path:
    """Check that a path is where its name says, with no link on its way.

    Args:
        path: A file or folder, which need not exist.
        below: The folder that it is in, such as the study's, however that one is reached.

    Returns:
        The path.

    Raises:
        LinkError: It is a link, lies behind one, or is elsewhere.
    """
    if not path.is_relative_to(below) or ".." in path.relative_to(below).parts:
        raise LinkError(f"{path} is not in {below}")
    here = below
    for part in path.relative_to(below).parts:
        here /= part
        if here.is_symlink() or _is_junction(here):
            raise LinkError(f"{here} is a link, and links below {below} are not followed")
    return path


def open_file(path: Path, mode: str, *, below: Path) -> IO[Any]:
    """Open a file, as `open` does with UTF-8, but not through a link, nor what is no file, such as a pipe.

    Raises:
        LinkError: It is a link, lies behind one, or is no file.
        OSError: It cannot be opened.
    """
    check_place(path, below=below)
    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=_open)


def lock_file(file: IO[Any]) -> bool:
    """Lock an open file until it is closed, without waiting; whether it is locked. A process that dies lets go of it.

    A file system without locks keeps no one from it.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # so some network file systems say it
        return False
    except OSError:
        return True
    return True


def make_folder(path: Path, *, below: Path) -> None:
    """Make a folder, and those above it, where they are missing.

    Raises:
        LinkError: It is a link, lies behind one, or is elsewhere.
        OSError: It cannot be made.
    """
    check_place(path, below=below).mkdir(parents=True, exist_ok=True)


def sync_path(path: Path) -> None:
    """Let the disk have a file, or what a folder lists where the system can do so, so that it outlives the machine.

    Raises:
        OSError: The disk cannot take the file.
    """
    is_folder = path.is_dir()
    with contextlib.suppress(*[OSError] * is_folder):  # Windows opens no folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove(path: Path, *, below: Path) -> None:
    """Remove a folder with all that is in it, as far as that is possible; what is or lies behind a link stays."""
    with contextlib.suppress(LinkError):
        if check_place(path, below=below) != below:
            shutil.rmtree(path, ignore_errors=True)


def files_in(path: Path) -> list[Path]:
    """The files of a folder and of those in it, or the path itself where it is a file.

    Raises:
        LinkError: A link is among them, or something that is neither file nor folder.
        OSError: It is gone, or cannot be read.
    """
    files, todo = [], [path]
    while todo:
        here = todo.pop()
        mode = here.lstat().st_mode
        if stat.S_ISDIR(mode):
            todo += sorted(here.iterdir(), reverse=True)
        elif stat.S_ISREG(mode):
            files.append(here)
        else:
            raise LinkError(f"{here} is {'a link' if stat.S_ISLNK(mode) else 'no file'}, which is not followed")
    return files


def copy(path: Path, place: Path) -> None:
    """Copy a file, or a folder with all that is in it.

    Args:
        path: What is copied; no link is followed.
        place: What the copy is called; there is nothing yet.

    Raises:
        LinkError: A link is among it.
        OSError: It cannot be copied.
    """
    files_in(path)
    if path.is_dir():
        shutil.copytree(path, place, symlinks=True)
    else:
        shutil.copy2(path, place, follow_symlinks=False)
    files_in(place)  # what has become a link meanwhile was copied as one


def _open(path: str, flags: int) -> int:
    try:
        return open_regular(path, flags | getattr(os, "O_NOFOLLOW", 0))
    except NoFileError:
        raise LinkError(f"{path} is no file") from None
    except OSError as error:
        if error.errno in _IS_LINK:
            raise LinkError(f"{path} is a link, which is not followed") from None
        raise
