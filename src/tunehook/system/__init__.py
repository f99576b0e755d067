"""The ground: signals, random numbers, the terminal, the words of other libraries. It knows nothing of trials."""

from typing import TYPE_CHECKING

from tunehook.system.descendants import (
    END_NOW,
    PATIENCE,
    Orphans,
    end_with_parent,
    guarded,
    hear_of_ends,
    take_orphans,
)
from tunehook.system.foreign import DISTRIBUTION, MODULE, OPTIMIZE, RESULTS, STUDY, TRIAL, takes, unknown_attribute
from tunehook.system.garbage import in_one_go
from tunehook.system.lazy import lazily
from tunehook.system.machine import has_own_ids, is_alive, lives, place, shares_ids, this_process, versions
from tunehook.system.optuna import (
    all_trials,
    attributes_of,
    cached,
    contains,
    end_trial,
    fixed_values,
    frozen_study,
    given_values,
    metric_names,
    note_report,
    quiet,
    reports_of,
    retried_number,
    running_trial,
    study_id,
    suggest,
    trial_id,
    uncached,
    watched,
    with_cache,
    with_reports,
)
from tunehook.system.randomness import (
    generator_states,
    is_generator,
    kept_generators,
    kept_random,
    random_state,
    restore_generators,
    restore_random,
)
from tunehook.system.secrets import hidden, is_secret_name
from tunehook.system.signals import Notice, Terminated, handling, terminate
from tunehook.system.stored import (
    NoFileError,
    StoredError,
    from_json,
    open_regular,
    read_lines,
    read_whole,
)
from tunehook.system.terminal import (
    Forgiving,
    flush_output,
    is_terminal,
    make_visible,
    standard_handlers,
    written_above,
)
from tunehook.system.threads import in_thread
from tunehook.system.words import (
    clock,
    did_you_mean,
    encodable,
    first_line,
    html_table,
    joined,
    last_line,
    near,
    printable,
    short,
    shortened,
    shown,
    told_values,
)

if TYPE_CHECKING:
    from tunehook.system.optuna import FrozenStudy as FrozenStudy
    from tunehook.system.table import Row as Row
    from tunehook.system.table import make_table as make_table
    from tunehook.system.yaml_text import read_yaml as read_yaml

__all__ = [
    "DISTRIBUTION", "END_NOW", "MODULE", "OPTIMIZE", "PATIENCE", "RESULTS", "STUDY", "TRIAL", "Forgiving",
    "NoFileError", "Notice", "Orphans", "Row", "StoredError", "Terminated", "all_trials", "attributes_of", "cached",
    "clock", "contains", "did_you_mean", "encodable", "end_trial", "end_with_parent", "first_line", "fixed_values",
    "flush_output", "from_json", "frozen_study", "generator_states", "given_values", "guarded", "handling",
    "has_own_ids", "hear_of_ends", "hidden", "html_table", "in_one_go", "in_thread", "is_alive", "is_generator",
    "is_secret_name", "is_terminal", "joined", "kept_generators", "kept_random", "last_line", "lazily", "lives",
    "make_table", "make_visible", "metric_names", "near", "note_report", "open_regular", "place", "printable", "quiet",
    "random_state", "read_lines", "read_whole", "read_yaml", "reports_of", "restore_generators", "restore_random",
    "retried_number", "running_trial", "shares_ids", "short", "shortened", "shown", "standard_handlers", "study_id",
    "suggest", "take_orphans", "takes", "terminate", "this_process", "told_values", "trial_id", "uncached",
    "unknown_attribute", "versions", "watched", "with_cache", "with_reports", "written_above",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "Row": "table",
        "make_table": "table",
        "read_yaml": "yaml_text",
    },
)
