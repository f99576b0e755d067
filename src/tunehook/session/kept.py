"""The model that a trial keeps: as it was at the measurement whose value is the trial's.

A training improves often, and a file is needed only where it ends, and where a later attempt goes on from. So a model
is held in memory, and written there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tunehook.record import (
    Events,
    Recorders,
    Saved,
    check_place,
    digest_of,
    journal_of,
    make_folder,
    models_of,
    sync_path,
)
from tunehook.session.checkpoints import Found
from tunehook.trial import JournalError, Trial

_NEW = ".new-"  # with which a name begins until the file is whole


@dataclass(frozen=True)
class Held:
    """A model in memory, as it was at a measurement.

    Attributes:
        suffix: With which its file ends, such as ``.keras``.
        write: Writes the file.
    """

    suffix: str
    write: Callable[[Path], object]


@dataclass(frozen=True)
class Kept:
    """The file of a model that a trial has kept.

    Attributes:
        path: The file.
        trial: The trial.
        is_ours: Whether this user has written it, so that reading it may run code.
    """

    path: Path
    trial: Trial
    is_ours: bool


class Loaded(BaseException):
    """Leaves a training function that was called for its model, which has the weights that were kept.

    Args:
        model: The model.
    """

    def __init__(self, model: object) -> None:
        super().__init__()
        self.model = model


class KeptModels:
    """The models that one trial keeps, each in a file that is whole or not there.

    Args:
        trial: The trial.
        recorders: Its journal, which has the digest of each file before the file is there.
    """

    def __init__(self, trial: Trial, recorders: Recorders) -> None:
        self._trial, self._recorders = trial, recorders
        self._held: dict[int, Held] = {}
        self._counts: Collection[int] | None = None  # the steps whose model may be the trial's
        self._was_told = False

    @property
    def _folder(self) -> Path:
        return models_of(self._trial.folder)

    def hold(self, held: Held, *, step: int, counts: Collection[int]) -> None:
        """Hold the model of a measurement that was just made.

        Args:
            held: The model.
            step: The measurement.
            counts: The measurements whose model may be the trial's as of now, this one among them.
        """
        self._held = {**{one: model for one, model in self._held.items() if one in counts}, step: held}
        self._counts = counts

    def write(self) -> None:
        """Write what is held; where that fails a line says so, and it is tried again at the next time."""
        for step, held in [*self._held.items()]:
            try:
                self._write(self._folder / f"step-{step:04d}{held.suffix}", held.write)
            except (OSError, JournalError) as error:  # no room, which may come back
                self._tell(f"it could not be written: {error}")
            except Exception as error:  # noqa: BLE001 - such as a model that has no configuration; it ends no training
                self.drop(f"it could not be written: {error!r}")
            else:
                self._held.pop(step)

    def _write(self, path: Path, write: Callable[[Path], object]) -> None:
        journal, study = self._recorders.journal, self._trial.folder.parent
        if journal is None:
            return
        make_folder(path.parent, below=study)
        new = path.with_name(_NEW + path.name)
        new.unlink(missing_ok=True)
        try:
            write(new)
            sync_path(new)
            journal.saved(path.name, digest_of(new))  # before its name, so that none is without
            new.replace(check_place(path, below=study))
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        sync_path(path.parent)

    def take_over(self, found: Found) -> None:
        """Take over what the earlier attempt had kept up to the checkpoint that the trial goes on from."""
        journal, old = self._recorders.journal, self._folder.with_name(found.progress.trial_name)
        if journal is None or old == self._folder:  # before a pause, in this very folder
            return
        saved = Events.of_key(journal_of(self._trial.folder.with_name(old.name)), self._trial.key).all(Saved)
        try:
            for path in files_of(old, below=self._trial.folder.parent):
                is_whole = (path.name, digest_of(path)) in [(one.name, one.digest) for one in saved]
                if is_whole and step_of(path) <= found.progress.step:
                    self._write(self._folder / path.name, lambda new, path=path: _link(path, new))  # type: ignore[misc]
        except (OSError, JournalError) as error:
            self._tell(f"that of {old.name} could not be taken over: {error}")

    def prune(self) -> None:
        """Remove the models of measurements that count no more, now that no later attempt needs them."""
        if self._counts is not None:
            prune(self._trial.folder, self._counts)

    def drop(self, why: str) -> None:
        """Hold none, and say why in a line."""
        self._held = {}
        self._tell(why)

    def _tell(self, why: str) -> None:
        if not self._was_told:
            self._was_told = True
            self._recorders.tell(f"the model of {self._trial.name} is not kept: {why}")


def files_of(folder: Path, *, below: Path) -> list[Path]:
    """The models in a trial's folder of models, in the order of their measurements; what is behind a link is none."""
    try:
        found = [path for path in check_place(folder, below=below).iterdir() if step_of(path)]
    except OSError:
        return []
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The measurement whose model a file is, 0 for another file."""
    name = re.fullmatch(r"step-(\d{4,18})\.\w+", path.name)
    return 0 if name is None else int(name[1])


def prune(trial_folder: Path, counts: Collection[int | None]) -> None:
    """Remove the models of a trial but those of some measurements, and what a killed process has begun to write."""
    folder = models_of(trial_folder)
    files = [path for path in files_of(folder, below=trial_folder.parent) if step_of(path) not in counts]
    for path in [*files, *([*folder.glob(f"{_NEW}*")] if not folder.is_symlink() else [])]:
        with contextlib.suppress(OSError):
            path.unlink()
    with contextlib.suppress(OSError):  # others are in there
        folder.rmdir()


def _link(path: Path, new: Path) -> None:
    """Give a file, which is never written again, a second name; a copy where the file system knows no such names."""
    try:
        os.link(path, new, follow_symlinks=False)
    except OSError:
        shutil.copyfile(path, new, follow_symlinks=False)


class _Wanted:
    """The one instance is the class itself."""

    model: Kept | None = None


@contextlib.contextmanager
def wanting(model: Kept) -> Iterator[None]:
    """Call the training function inside up to its fit, for its model, which gets the weights that were kept."""
    _Wanted.model = model
    try:
        yield
    finally:
        _Wanted.model = None


def wanted() -> Kept | None:
    """The model for which the training function is called; ``None`` where it is to train."""
    return _Wanted.model
