"""What the constructor of a study checks, before anything is opened."""

from __future__ import annotations

import re

from tunehook.system import hidden


def check_study(
    name: object, *, metric: object, mode: object, objective: object, storage: object, max_failures: object
) -> None:
    """Check the arguments of a study that need no other room.

    Raises:
        ValueError, TypeError: One of them is none that a study takes.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise ValueError(
            "A study's name has letters, digits, '_', '.' and '-' only, since it names a folder; "
            f"got {hidden(repr(name))}."
        )
    if not isinstance(metric, str) or not metric:
        raise ValueError(f"metric is the name of a logged metric, such as 'val_acc'; got {metric!r}.")
    if mode not in ("min", "max"):
        raise ValueError(f"mode is 'min' or 'max'; got {mode!r}.")
    if objective not in ("best", "last") and not _is_positive(objective):
        raise ValueError(
            f"objective is 'best', 'last', or k > 0 for the mean of the last k reports; got {objective!r}."
        )
    if storage is not None and not isinstance(storage, str) and not hasattr(storage, "create_new_study"):
        raise TypeError(
            f"storage is a URL, such as 'sqlite:///study.db', or an Optuna storage; got {hidden(repr(storage))}.\n"
            "  Leave it out for an SQLite file in the study's folder."
        )
    if not _is_positive(max_failures):
        raise ValueError(f"max_failures is an integer above 0; got {max_failures!r}.")


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
