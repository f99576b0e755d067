"""The one owner of every file name below a study's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# The hyphen is on purpose: a folder called `tunehook` in the working directory would shadow an editable install.
ROOT = Path("tunehook-studies")


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
        """What a trial printed in a process of its own."""
        return self.trial(number) / "output.txt"

    def checkpoint(self, number: int) -> Path:
        """The folder of the copy of a trial's model, while it is the best."""
        return self.trial(number) / "checkpoint"

    def journal(self, number: int) -> Path:
        """The journal of one trial."""
        return journal_of(self.trial(number))


def journal_of(trial_folder: Path) -> Path:
    """The journal in a trial's folder."""
    return trial_folder / "journal.jsonl"


def checkpoints_of(trial_folder: Path, key: str) -> Path:
    """The folder of what a trial and its later attempts go on from, by their key."""
    return trial_folder.parent / "checkpoints" / key


def runs_of(trial_folder: Path) -> Path:
    """Which trial each run of the trainings' own loggers belongs to, for all processes of the study."""
    return trial_folder.parent / "runs.jsonl"
