"""Keeping the record of a trial: the recorder protocol, and the journal on disk that is the truth."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tunehook.trial import Outcome, Trial


@runtime_checkable
class Recorder(Protocol):
    """Something that keeps a trial's record: `Journal` here, `WandbRecorder` in ``tunehook.integrations.wandb``.

    A study holds recorders and calls them on one rank only, from the thread that trains, in this order: `open` once,
    `report` any number of times, `close` once. One recorder serves one trial after the other.
    """

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        """Begin the record of a trial, before its first step.

        Args:
            trial: The trial, with its sampled values.
            config: The effective configuration by slot path: the sampled values and every other slot that exists.
            loggers: The loggers that the user gave to the framework, for a recorder that shares their run.
        """

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keep the metrics of one step; steps grow."""

    def close(self, outcome: Outcome) -> None:
        """End the record, whatever happened."""

    def where(self) -> str | None:
        """Where a person finds the record of the trial that was opened last: a path or an address."""
