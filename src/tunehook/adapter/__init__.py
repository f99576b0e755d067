"""What an adapter for a framework is made of, beside the session."""

from typing import TYPE_CHECKING

from tunehook.adapter.configurations import hear_configurations
from tunehook.adapter.fit import FitCore
from tunehook.adapter.hearing import follow_subclasses, hear_calls, hear_own_calls, is_under_construction, subclasses
from tunehook.adapter.imports import when_imported
from tunehook.adapter.keeping import hand_back
from tunehook.adapter.objective import objective
from tunehook.adapter.once import said_once
from tunehook.adapter.patches import Patches, live, put_once
from tunehook.adapter.ranks import Alone, Ranks, claim_session, problem_on, together
from tunehook.adapter.reading import current, value
from tunehook.adapter.resume import Resume, parts_of, scaled
from tunehook.adapter.source import Source
from tunehook.system import lazily

if TYPE_CHECKING:
    from tunehook.adapter.script import know_trial as know_trial

__all__ = [
    "Alone", "FitCore", "Patches", "Ranks", "Resume", "Source", "claim_session", "current", "follow_subclasses",
    "hand_back", "hear_calls", "hear_configurations", "hear_own_calls", "is_under_construction", "know_trial", "live",
    "objective", "parts_of", "problem_on", "put_once", "said_once", "scaled", "subclasses", "together", "value",
    "when_imported",
]  # fmt: skip

__getattr__ = lazily(
    __name__,
    {
        "know_trial": "script",
    },
)
