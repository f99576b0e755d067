"""Studies of the little project of `adapters`, their journals, and a recorder that keeps what it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tunehook as th
from adapters import Project
from tunehook.trial.values import Outcome, Trial

SPACE: dict[str, Any] = {"width": 6}


def a_study(space: Mapping[str, Any] = SPACE, **options: Any) -> th.Study:
    """A study that maximizes ``score``."""
    given: dict[str, Any] = {"metric": "score", "mode": "max", "search": "random", "seed": 0, **options}
    return th.Study(given.pop("name", "contract"), space, **given)


def events(study: th.Study, number: int = 0) -> list[dict[str, Any]]:
    """The journal of a trial."""
    return [json.loads(line) for line in Path(study.records(number)[0]).read_text().splitlines()]


def run(study: th.Study, project: Project, *, trials: int = 1, **script: Any) -> Any:
    """Train trials the usual way, and return what the last training counted."""
    counts = []

    def train() -> None:
        counts.append(project.fit(project.model(), project.callback(), **script))

    study.optimize(train, trials=trials, progress=False)
    return counts[-1]


class Kept:
    """A recorder that keeps what it is told."""

    def __init__(self, *, fails_at: int = 0) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._fails_at = fails_at

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        """Keep the configuration."""
        self.calls.append(("open", (trial.number, dict(trial.params), dict(config))))

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the row, or fail."""
        if step == self._fails_at:
            raise OSError("no space left")
        self.calls.append(("report", (step, dict(metrics))))

    def close(self, outcome: Outcome) -> None:
        """Keep the end."""
        self.calls.append(("close", outcome))

    def where(self) -> str | None:
        """Nowhere."""
        return None
