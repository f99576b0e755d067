"""Hyperparameter tuning as a callback.

The names below are loaded when they are first used, so that importing tunehook is cheap and loads no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunehook.adapter import current as current
    from tunehook.adapter import objective as objective
    from tunehook.adapter import value as value
    from tunehook.record import Journal as Journal
    from tunehook.record import Recorder as Recorder
    from tunehook.search import PBT as PBT
    from tunehook.session import TrialSession as TrialSession
    from tunehook.snapshot import SnapshotPlan as SnapshotPlan
    from tunehook.space import Choice as Choice
    from tunehook.space import Fixed as Fixed
    from tunehook.space import Float as Float
    from tunehook.space import Int as Int
    from tunehook.space import LogNormal as LogNormal
    from tunehook.space import Normal as Normal
    from tunehook.space import Space as Space
    from tunehook.space import SpaceError as SpaceError
    from tunehook.study import Study as Study
    from tunehook.trial import Decision as Decision
    from tunehook.trial import InjectionError as InjectionError
    from tunehook.trial import Outcome as Outcome
    from tunehook.trial import StudyError as StudyError
    from tunehook.trial import Trial as Trial

__version__ = "0.1.0"

_HOMES = {
    "InjectionError": "trial",
    "Journal": "record",
    "Recorder": "record",
    "TrialSession": "session",
    "SnapshotPlan": "snapshot",
    "Choice": "space",
    "Fixed": "space",
    "Float": "space",
    "Int": "space",
    "LogNormal": "space",
    "Normal": "space",
    "Space": "space",
    "SpaceError": "space",
    "Study": "study",
    "StudyError": "trial",
    "Decision": "trial",
    "PBT": "search",
    "Outcome": "trial",
    "Trial": "trial",
    "current": "adapter",
    "objective": "adapter",
    "value": "adapter",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        from tunehook.system import MODULE, unknown_attribute

        raise unknown_attribute("module 'tunehook'", name, MODULE, __all__)
    value = getattr(importlib.import_module(f"tunehook.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
