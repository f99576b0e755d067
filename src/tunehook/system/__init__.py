"""The ground: signals, random numbers, the terminal, the words of other libraries. It knows nothing of trials."""

from typing import TYPE_CHECKING

from tunehook.system.descendants import END_NOW, PATIENCE, Orphans, end_with_parent, guarded, take_orphans
from tunehook.system.foreign import DISTRIBUTION, MODULE, OPTIMIZE, RESULTS, STUDY, TRIAL, takes, unknown_attribute
from tunehook.system.lazy import lazily
from tunehook.system.machine import has_own_ids, is_alive, lives, shares_ids, this_process
from tunehook.system.optuna import (
    all_trials,
    attributes_of,
    cached,
    contains,
    end_trial,
    fixed_values,
    given_values,
    quiet,
    reports_of,
    retried_number,
    running_trial,
    study_id,
    trial_id,
    uncached,
    with_reports,
)
from tunehook.system.randomness import (
    find_generators,
    generator_states,
    kept_random,
    random_state,
    restore_generators,
    restore_random,
)
from tunehook.system.signals import Notice, Terminated, handling, terminate
from tunehook.system.terminal import flush_output, is_terminal, make_visible, standard_handlers, written_above
from tunehook.system.words import clock, did_you_mean, first_line, joined, last_line, near, short, told_values

if TYPE_CHECKING:
    from tunehook.system.optuna import FrozenStudy as FrozenStudy
    from tunehook.system.table import Row as Row
    from tunehook.system.table import make_table as make_table
    from tunehook.system.table import shortened as shortened

__all__ = [
    "DISTRIBUTION", "END_NOW", "MODULE", "Notice", "OPTIMIZE", "Orphans", "PATIENCE", "RESULTS", "Row", "STUDY",
    "TRIAL", "Terminated", "all_trials", "attributes_of", "cached", "clock", "contains", "did_you_mean",
    "end_trial", "end_with_parent", "find_generators", "first_line", "fixed_values", "flush_output",
    "generator_states", "given_values", "guarded", "handling", "has_own_ids", "is_alive", "is_terminal", "joined",
    "kept_random", "last_line", "lazily", "lives", "make_table", "make_visible", "near", "quiet", "random_state",
    "reports_of", "restore_generators", "restore_random", "retried_number", "running_trial", "shares_ids", "short",
    "shortened", "standard_handlers", "study_id", "take_orphans", "takes", "terminate", "this_process",
    "told_values", "trial_id", "uncached", "unknown_attribute", "with_reports", "written_above",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "Row": "table",
        "make_table": "table",
        "shortened": "table",
    },
)
