"""The model that a trial keeps: as it was at the measurement whose value is the trial's.

A training improves often, and a file is needed only where it ends, and where a later attempt goes on from. So a model
is held in memory, and written there.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

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


# A model in memory, as it was at a measurement: writes the file whose name begins so, and says what it is called.
Held: TypeAlias = Callable[[Path], Path]


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
                self._write(f"step-{step:04d}", held)
            except (OSError, JournalError) as error:  # no room, which may come back
                self._tell(f"it could not be written: {error}")
            except Exception as error:  # noqa: BLE001 - such as a model that has no configuration; it ends no training
                self.drop(f"it could not be written: {error!r}")
            else:
                self._held.pop(step)

    def _write(self, name: str, held: Held) -> None:
        journal, study = self._recorders.journal, self._trial.folder.parent
        if journal is None:
            return
        make_folder(self._folder, below=study)
        self._clear(name)  # of a process that was killed, or a link that someone has put there
        try:
            new = held(self._folder / (_NEW + name))
            path = new.with_name(new.name.removeprefix(_NEW))
            sync_path(new)
            journal.saved(path.name, digest_of(new))  # before its name, so that none is without
            new.replace(check_place(path, below=study))
        except BaseException:
            self._clear(name)
            raise
        sync_path(self._folder)

    def _clear(self, name: str) -> None:
        for half in self._folder.glob(f"{_NEW}{name}*"):
            half.unlink()

    def take_over(self, found: Found) -> None:
        """Take over what the earlier attempt had kept up to the checkpoint that the trial goes on from."""
        journal, old = self._recorders.journal, self._folder.with_name(found.progress.trial_name)
        if journal is None or old == self._folder:  # before a pause, in this very folder
            return
        saved = Events.of_key(journal_of(self._trial.folder.with_name(old.name)), self._trial.key).all(Saved)
        whole = {(one.name, one.digest) for one in saved}
        for path in files_of(old, below=self._trial.folder.parent):
            if step_of(path) <= found.progress.step:
                try:
                    self._write(path.name.partition(".")[0], functools.partial(_link, path, whole))
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
    name = re.fullmatch(r"step-(\d{4,18})(\.\w+)+", path.name)
    return 0 if name is None else int(name[1])


def prune(trial_folder: Path, counts: Collection[int | None]) -> None:
    """Remove the models of a trial but those of some measurements, and what a killed process has begun to write."""
    folder = models_of(trial_folder)
    with contextlib.suppress(OSError):
        for path in check_place(folder, below=trial_folder.parent).iterdir():
            if path.name.startswith(_NEW) or step_of(path) not in (0, *counts):
                with contextlib.suppress(OSError):
                    path.unlink()
        folder.rmdir()  # unless others are in there


def _link(path: Path, whole: Collection[tuple[str, str]], begun: Path) -> Path:
    """Give a file, which is never written again, a second name; a copy where the file system knows no such names.

    Args:
        path: The file.
        whole: The names of those that were written, with their digests.
        begun: How the second name begins.

    Raises:
        OSError: It is none of them, or cannot be copied.
    """
    new = begun.with_suffix("".join(path.suffixes))
    try:
        os.link(path, new, follow_symlinks=False)
    except OSError:
        shutil.copyfile(path, new, follow_symlinks=False)
    if (path.name, digest_of(new)) not in whole:  # of the new one, since the other may be another one by now
        raise OSError(f"{path.name} is not the file that was written")
    return new


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
