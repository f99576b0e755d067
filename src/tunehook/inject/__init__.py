"""Putting a trial's values into objects: slots and names, arguments, the calls of a script, apply and read back."""

from tunehook.inject.injection import IN_FUNCTION, Injection, tell_late
from tunehook.inject.slot import UNKNOWN, Find, InjectionError, Slot, check_type, near, resolve, same, show

__all__ = [
    "IN_FUNCTION", "UNKNOWN", "Find", "Injection", "InjectionError", "Slot", "check_type", "near", "resolve", "same",
    "show", "tell_late",
]  # fmt: skip
