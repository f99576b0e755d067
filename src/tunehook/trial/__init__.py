"""A trial as plain values: what it is, how it ends, and the errors of this package."""

from tunehook.trial.ends import (
    MISUSE,
    Objective,
    describe,
    holds_numbers,
    injecting,
    is_misuse,
    objective_value,
    returned_value,
    told_apart,
)
from tunehook.trial.errors import (
    InjectionError,
    JournalError,
    StorageAway,
    StudyError,
    StudyFinished,
    StudyFull,
    TrialError,
)
from tunehook.trial.values import (
    Budget,
    Decision,
    FinishedTrial,
    Mode,
    Outcome,
    Standing,
    State,
    Trial,
    best_of,
    is_better,
    is_key,
    key_of,
)

__all__ = [
    "Budget", "Decision", "FinishedTrial", "InjectionError", "JournalError", "MISUSE", "Mode", "Objective", "Outcome",
    "Standing", "State", "StorageAway", "StudyError", "StudyFinished", "StudyFull", "Trial", "TrialError", "best_of",
    "describe", "holds_numbers", "injecting", "is_better", "is_key", "is_misuse", "key_of", "objective_value",
    "returned_value", "told_apart",
]  # fmt: skip
