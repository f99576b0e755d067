"""Hyperparameter tuning as a callback.

The names below are loaded when they are first used, so that importing tunehook is cheap and loads no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunehook.errors import InjectionError as InjectionError
    from tunehook.errors import StudyError as StudyError
    from tunehook.objective import objective as objective
    from tunehook.reading import current as current
    from tunehook.reading import value as value
    from tunehook.record import Journal as Journal
    from tunehook.record import Recorder as Recorder
    from tunehook.session import TrialSession as TrialSession
    from tunehook.snapshot_plan import SnapshotPlan as SnapshotPlan
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
    from tunehook.trial import Outcome as Outcome
    from tunehook.trial import Trial as Trial

__version__ = "0.1.0"

_HOMES = {
    "InjectionError": "errors",
    "Journal": "record",
    "Recorder": "record",
    "TrialSession": "session",
    "SnapshotPlan": "snapshot_plan",
    "Choice": "space",
    "Fixed": "space",
    "Float": "space",
    "Int": "space",
    "LogNormal": "space",
    "Normal": "space",
    "Space": "space",
    "SpaceError": "space",
    "Study": "study",
    "StudyError": "errors",
    "Decision": "trial",
    "Outcome": "trial",
    "Trial": "trial",
    "current": "reading",
    "objective": "objective",
    "value": "reading",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        from tunehook.foreign import MODULE, unknown_attribute

        raise unknown_attribute("module 'tunehook'", name, MODULE, __all__)
    value = getattr(importlib.import_module(f"tunehook.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
