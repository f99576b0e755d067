"""What the script of a trial has read of its values itself, which are put in nowhere else."""

from __future__ import annotations

from typing import Any

from tunehook.inject import names_read_too_early, note_injected, unread_values
from tunehook.trial import InjectionError, Trial


def check_reads(trial: Trial) -> None:
    """Check that the script has read the values of this trial and of no other.

    Raises:
        InjectionError: It has read one before the trial was known.
    """
    early = names_read_too_early(trial)
    if early:
        raise InjectionError(
            f"th.value({early[0]!r}, ...) was read before this trial was known, so it did not return its value.\n"
            "  Call study.optimize(train, ...), which knows the trial before it calls train."
        )


def unread(trial: Trial) -> dict[str, Any]:
    """The values that the script has not read; they are put in from now on.

    Raises:
        InjectionError: It has read one before the trial was known.
    """
    check_reads(trial)
    values = unread_values(trial)
    note_injected(trial, set(values))
    return values
