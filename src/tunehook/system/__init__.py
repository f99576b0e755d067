"""The ground: signals, random numbers, the terminal, the words of other libraries. It knows nothing of trials."""

from typing import TYPE_CHECKING

from tunehook.system.foreign import DISTRIBUTION, MODULE, OPTIMIZE, RESULTS, STUDY, TRIAL, takes, unknown_attribute
from tunehook.system.lazy import lazily
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
    from tunehook.system.table import Row as Row
    from tunehook.system.table import make_table as make_table
    from tunehook.system.table import shortened as shortened

__all__ = [
    "DISTRIBUTION", "MODULE", "Notice", "OPTIMIZE", "RESULTS", "Row", "STUDY", "TRIAL", "Terminated", "clock",
    "did_you_mean", "find_generators", "first_line", "flush_output", "generator_states", "handling", "is_terminal",
    "joined", "kept_random", "last_line", "lazily", "make_table", "make_visible", "near", "random_state",
    "restore_generators", "restore_random", "short", "shortened", "standard_handlers", "takes", "terminate",
    "told_values", "unknown_attribute", "written_above",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "Row": "table",
        "make_table": "table",
        "shortened": "table",
    },
)
