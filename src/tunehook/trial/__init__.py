"""A trial as plain values: what it is, how it ends, and the errors of this package."""

from tunehook.trial.ends import (
    MISUSE,
    describe,
    holds_numbers,
    injecting,
    is_misuse,
    returned_value,
    told_apart,
)
from tunehook.trial.errors import (
    InjectionError,
    JournalError,
    StorageAway,
    StorageError,
    StudyError,
    StudyFinished,
    StudyFull,
    TrialError,
)
from tunehook.trial.formats import FORMATS
from tunehook.trial.front import hypervolume, pareto_front
from tunehook.trial.lineage import INTERVAL_ENDS, Lineage
from tunehook.trial.objective import (
    ASKED_AGAIN,
    COUNTED,
    Mode,
    Objective,
    State,
    best_of,
    direction_of,
    is_better,
    mode_of,
    objective_value,
    value_beside,
)
from tunehook.trial.values import (
    Budget,
    Decision,
    FinishedTrial,
    Outcome,
    Standing,
    Trial,
    count_line,
    is_key,
    key_of,
    number_of,
    told_counts,
)

__all__ = [
    "ASKED_AGAIN", "COUNTED", "FORMATS", "INTERVAL_ENDS", "MISUSE", "Budget", "Decision", "FinishedTrial",
    "InjectionError", "JournalError", "Lineage", "Mode", "Objective", "Outcome", "Standing", "State", "StorageAway",
    "StorageError", "StudyError", "StudyFinished", "StudyFull", "Trial", "TrialError", "best_of", "count_line",
    "describe", "direction_of", "holds_numbers", "hypervolume", "injecting", "is_better", "is_key", "is_misuse",
    "key_of", "mode_of", "number_of", "objective_value", "pareto_front", "returned_value", "told_apart", "told_counts",
    "value_beside",
]  # fmt: skip
