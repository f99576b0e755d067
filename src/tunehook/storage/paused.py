"""Paused trials as they were read: they stay unfinished, so each look at a study would read all of them again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tunehook.storage.attributes import PAUSE
from tunehook.system import trial_id

# When a trial began, or went on last, and what is stored of its last pause, by its id. Nobody writes to a trial that
# waits, and one that goes on and pauses again has another count of pauses.
Stamps = Mapping[int, tuple[Any, Any]]


def stamps_of(among: Iterable[int]) -> str:
    """The statement that reads id and stamp of the paused trials among some, by their ids."""
    ids = ", ".join(str(int(key)) for key in among)
    return (
        "SELECT trials.trial_id, trials.datetime_start, kept.value_json FROM trials"  # noqa: S608 - whole numbers
        " JOIN trial_user_attributes kept ON kept.trial_id = trials.trial_id"
        f" WHERE trials.trial_id IN ({ids}) AND trials.state = 'WAITING' AND kept.key = '{PAUSE}'"
    )


class Paused:
    """The paused trials of a storage, as this process has read them."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[Any, Any], FrozenTrial]] = {}

    def unchanged(self, stamps: Stamps) -> dict[int, FrozenTrial]:
        """Those that are as they were read, by their ids.

        Args:
            stamps: Those of all paused trials as they are now.
        """
        known = self._known
        return {key: known[key][1] for key, stamp in stamps.items() if key in known and known[key][0] == stamp}

    def keep(self, trials: Iterable[FrozenTrial], stamps: Stamps) -> None:
        """Remember trials, and forget those that are not paused any more.

        Args:
            trials: What was read after the stamps, other trials among it.
            stamps: Those of all paused trials, as they were right before.
        """
        still = {key: one for key, one in self._known.items() if stamps.get(key) == one[0]}
        read = [(key, one) for one in trials if (key := trial_id(one)) in stamps and key not in still]
        self._known = still | {key: (stamps[key], one) for key, one in read if _is_of(one, stamps[key])}


def _is_of(trial: FrozenTrial, stamp: tuple[Any, Any]) -> bool:
    """Whether a trial was read as its stamp says it, and has not gone on in between."""
    try:
        return trial.state == TrialState.WAITING and trial.user_attrs.get(PAUSE) == json.loads(stamp[1])
    except (TypeError, ValueError):  # somebody else has written there
        return False
