"""Putting a trial's values into objects: slots and names, arguments, the calls of a script, apply and read back."""

from tunehook.inject.arguments import LAST, NAMED, Arguments, signature_of
from tunehook.inject.call import MADE_BY, Call, frames
from tunehook.inject.calling import (
    call_traced,
    check_thread,
    do_ahead,
    hear_planned,
    keep,
    prepare_forks,
    trace_in_progress,
)
from tunehook.inject.configurations import class_name, class_of_constructor
from tunehook.inject.injection import IN_FUNCTION, Injection
from tunehook.inject.known import (
    Stopped,
    asked_values,
    asking,
    defaults_read,
    ending_early,
    finding_ranks,
    finds_ranks,
    handed_trial,
    knowing,
    known_trial,
    learn,
    leave_if_stopped,
    may_return_value,
    names_read,
    names_read_too_early,
    note_default,
    note_injected,
    note_read,
    note_stop,
    unread_asked,
    unread_values,
    was_injected,
    was_read,
)
from tunehook.inject.outside import forget_modules_that_draw, random_numbers_of
from tunehook.inject.plan import Calls, Plan
from tunehook.inject.reads import KeysRead, is_read, is_used_later, sets_attribute
from tunehook.inject.slot import UNKNOWN, Find, Slot, names_in, resolve, same, show
from tunehook.inject.trace import Again, Told, Trace
from tunehook.inject.variables import Typed

__all__ = [
    "Again", "Arguments", "Call", "Calls", "Find", "IN_FUNCTION", "Injection", "KeysRead", "LAST", "MADE_BY", "NAMED",
    "Plan", "Slot", "Stopped", "Told", "Trace", "Typed", "UNKNOWN", "asked_values", "asking", "call_traced",
    "check_thread", "class_name", "class_of_constructor", "defaults_read", "do_ahead", "ending_early", "finding_ranks",
    "finds_ranks", "forget_modules_that_draw", "frames", "handed_trial", "hear_planned", "is_read", "is_used_later",
    "keep", "knowing", "known_trial", "learn", "leave_if_stopped", "may_return_value", "names_in", "names_read",
    "names_read_too_early", "note_default", "note_injected", "note_read", "note_stop", "prepare_forks",
    "random_numbers_of", "resolve", "same", "sets_attribute", "show", "signature_of", "trace_in_progress",
    "unread_asked", "unread_values", "was_injected", "was_read",
]  # fmt: skip
