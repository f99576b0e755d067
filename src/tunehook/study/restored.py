"""What was brought up to date when a study was opened, and how it is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunehook.record import StudyPaths
from tunehook.storage import how_to_rebuild
from tunehook.trial import Outcome, Trial

log = logging.getLogger("tunehook")


@dataclass
class Restored:
    """What was brought up to date.

    Attributes:
        trials: Numbers of the trials that the storage got from their journals.
        ends: Numbers of the trials whose journals got their end from the storage.
        lost: Numbers of which nothing is left.
        overtaken: From which number on none was put in, since another process asked for a trial at the same time.
        outcomes: Ends from the journals, which are told when the folder is let go.
    """

    trials: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    overtaken: int | None = None
    outcomes: list[tuple[Trial, Outcome]] = field(default_factory=list)

    def tell(self, study: str, paths: StudyPaths) -> None:
        """Say what was done."""
        if self.trials:
            log.warning(
                "Study '%s': its storage was older than its journals, which have brought it up to date: trials %s.",
                study, listed(self.trials),
            )  # fmt: skip
        if self.lost:
            log.warning("Study '%s': nothing is left of trials %s.", study, listed(self.lost))
        if self.overtaken is not None:
            log.warning(
                "Study '%s': another process asked for a trial while the storage was brought up to date, so the trials "
                "of the journals from %d on were not put in.\n  End all processes of the study. %s",
                study, self.overtaken, how_to_rebuild(study, paths.folder),
            )  # fmt: skip
        if self.ends:
            log.warning(
                "Study '%s': the journals of trials %s lacked their ends, which the storage had.",
                study, listed(self.ends),
            )  # fmt: skip


def listed(numbers: Sequence[int]) -> str:
    """Numbers in short, such as ``3, 5 to 9``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join(" to ".join(map(str, run)) for run in runs)
