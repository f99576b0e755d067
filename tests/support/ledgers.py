"""Ledgers over a storage in memory, for the parts of a study by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.storages import InMemoryStorage

import tunehook as th
from tunehook.record import StudyPaths
from tunehook.search import Method
from tunehook.storage.ledger import Ledger

SPACE = th.Space({"x": th.Float(0, 1)})


def make_ledger(storage: Any = None, *, search: Any = "random", space: th.Space = SPACE) -> Ledger:
    """A ledger of the study 'digits'."""
    return Ledger(
        "digits", space, metric="acc", mode="max", objective="best", paths=StudyPaths(Path("digits").absolute()),
        given=storage or InMemoryStorage(), method=Method(search, None, space, seed=1),
    )  # fmt: skip
