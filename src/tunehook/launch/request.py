"""What `Study.optimize` was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """How many trials are to be trained, for how long, and in what processes; see `Study.optimize`.

    Attributes:
        trials: How many finished trials the study shall have, ``None`` for no limit.
        timeout: Seconds after which no further trial begins, ``None`` for no limit.
        workers: How many trials run side by side, each in a process of its own; ``None`` for one after the other, here,
            or for what a launcher has room for.
        gpus_per_trial: GPUs for each of these processes; a number below 1 is a share of one.
        retries: How often the values of an interrupted trial are asked again, ``None`` for the default.
        report_timeout: Seconds without a report after which such a process is killed, ``None`` for no limit.

    Raises:
        ValueError: An argument is none of the above.
    """

    trials: int | None = None
    timeout: float | None = None
    workers: int | None = None
    gpus_per_trial: float = 0
    retries: int | None = None
    report_timeout: float | None = None

    def __post_init__(self) -> None:
        if self.trials is not None and not _is_integer(self.trials, 1):
            raise ValueError(f"trials is an integer above 0, or None; got {self.trials!r}.")
        for name, least in (("workers", 1), ("retries", 0)):
            number = getattr(self, name)
            if number is not None and not _is_integer(number, least):
                raise ValueError(f"{name} is an integer from {least}; got {number!r}.")
        gpus = self.gpus_per_trial
        if not (_is_integer(gpus, 0) or (_is_positive(gpus) and gpus < 1)):
            raise ValueError(f"gpus_per_trial is an integer from 0, or a share of one GPU such as 0.5; got {gpus!r}.")
        for name in ("timeout", "report_timeout"):
            seconds = getattr(self, name)
            if seconds is not None and not _is_positive(seconds):
                raise ValueError(f"{name} is a number of seconds above 0, or None; got {seconds!r}.")


def _is_integer(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
