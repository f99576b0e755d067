"""What Optuna does whenever it opens a database, and tests need once in a process."""

from __future__ import annotations

import functools
from typing import Any

import optuna.storages._rdb.storage as rdb


def read_once() -> None:
    """Let Optuna read the revisions of its tables once: each time it runs ten files, longer than a trial here takes."""
    manager = rdb._VersionManager
    if not hasattr(manager._create_alembic_script, "__wrapped__"):
        manager._create_alembic_script = _shared(manager._create_alembic_script)  # type: ignore[method-assign]


def _shared(make: Any) -> Any:
    """All of them say the same."""
    made: list[Any] = []

    @functools.wraps(make)
    def shared(self: Any) -> Any:
        if not made:
            made.append(make(self))
        return made[0]

    return shared
