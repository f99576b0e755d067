"""What an adapter for a framework is made of, beside the session."""

from typing import TYPE_CHECKING

from tunehook.adapter.imports import when_imported
from tunehook.adapter.objective import objective
from tunehook.adapter.patches import (
    follow_subclasses,
    hear_calls,
    hear_own_calls,
    is_under_construction,
    put_once,
    subclasses,
)
from tunehook.adapter.reading import current, value
from tunehook.adapter.source import Source
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.adapter.script import know_trial as know_trial

__all__ = [
    "Source", "current", "follow_subclasses", "hear_calls", "hear_own_calls", "is_under_construction", "know_trial",
    "objective", "put_once", "subclasses", "value", "when_imported",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "know_trial": "script",
    },
)
