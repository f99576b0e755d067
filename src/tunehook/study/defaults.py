"""The values that a training function has by itself, read where its first fit would begin to train."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunehook.inject import UNKNOWN, Stopped, defaults_read
from tunehook.session import TrialSession, activate
from tunehook.space import Space, fitting
from tunehook.study.results import Results
from tunehook.system import kept_random
from tunehook.trial import InjectionError, Trial


def own_values(study: Results, train: Callable[[], object]) -> dict[str, Any]:
    """The values that a training function has by itself, by the names of the space.

    Args:
        study: The study.
        train: The training function.

    Raises:
        InjectionError: A name, which exists with these values, means nothing in the training.
    """
    with tempfile.TemporaryDirectory() as folder, kept_random():
        trial = Trial(study.name, 0, {}, Path(folder), study.metric, study.mode)
        session = _Looking(trial, study.space)
        with activate(session):
            try:
                train()
            except _SeenError:
                pass
            except Stopped:
                pass
            read = defaults_read()
    return {name: value for name, value in {**session.found, **read}.items() if name in study.space.names}


class _SeenError(BaseException):
    """Leaves the training function, whose values are known."""


class _Looking(TrialSession):
    """A session of a trial without values, which ends where the objects of its first fit are made.

    Args:
        trial: The trial.
        space: The space whose names are looked for.
    """

    def __init__(self, trial: Trial, space: Space) -> None:
        super().__init__(trial)
        self.is_alone = True
        self.trains = False
        self._space = space
        self.found: dict[str, Any] = {}

    def ready(self, *, loggers: Sequence[object] = ()) -> None:
        """Read the values, now that all objects exist, and leave."""
        read, wrong, held = defaults_read(), dict[str, InjectionError](), self._injection
        for name in self._space.names:
            if name in read or held is None:
                continue
            try:
                values = [slot.get() for slot in held.slots_of(name)]
            except InjectionError as error:
                wrong[name] = error
            else:
                if values and values[0] is not UNKNOWN:
                    self.found[name] = values[0]
        missing = _needed(self._space, {**self.found, **read})
        for name in missing:
            if name in wrong:
                raise wrong[name]
        raise _SeenError


def _needed(space: Space, values: dict[str, Any]) -> list[str]:
    """The names that exist with these values and have none."""
    kept, left_out = fitting(space, values)
    return [name for name in space.missing(space.encode(kept)) if name not in left_out]
