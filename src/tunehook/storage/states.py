"""What the ends of trials are called in a storage, and which of the trials there count."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from tunehook.storage.attributes import OUTCOME, stored_outcome, stored_pause
from tunehook.trial import COUNTED, Outcome, State

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_STORED: dict[State, TrialState] = {
    "running": TrialState.RUNNING,
    "paused": TrialState.WAITING,  # from which one process alone takes it; readers see it as pruned, see `as_seen`
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,  # with a broken constraint, so that a sampler learns from it
    "failed": TrialState.FAIL,
    "interrupted": TrialState.FAIL,
    "known": TrialState.COMPLETE,  # from elsewhere: samplers learn from it, and it is none of those that were wanted
}
# Of a trial that Optuna itself was told of, past a study of ours.
_READ: dict[TrialState, State] = {
    TrialState.RUNNING: "running", TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"
}  # fmt: skip
_COUNTED = tuple({_STORED[state] for state in COUNTED} - {TrialState.WAITING})


def stored_state(state: State) -> TrialState:
    """What the end of a trial is in a storage."""
    return _STORED[state]


def ending(outcome: Outcome, *, several: bool) -> tuple[TrialState, list[float] | None]:
    """The state and the values with which a trial is stored.

    With several metrics Optuna knows no stopped trials: one whose values are known is complete there.

    Args:
        outcome: How it ended.
        several: Whether the study has several metrics.
    """
    state = stored_state(outcome.state)
    if state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return state, None
    if not several:
        return state, None if outcome.value is None else [outcome.value]
    values = list(outcome.values) or None
    return TrialState.COMPLETE if outcome.state == "pruned" and values else state, values


def as_seen(frozen: FrozenTrial) -> FrozenTrial:
    """A trial as whoever reads the storage sees it: one that is paused as one that was pruned.

    So samplers and pruners learn from it, and Optuna does not take it for one that waits to be asked for.
    """
    if frozen.state != TrialState.WAITING or (outcome := stored_outcome(frozen)) is None or outcome.state != "paused":
        return frozen
    seen = copy.copy(frozen)
    seen.state, seen.values = ending(replace(outcome, state="pruned"), several=bool(outcome.values))
    seen.datetime_complete = datetime.fromtimestamp(stored_pause(frozen)["time"])
    return seen


def as_stored(frozen: FrozenTrial) -> FrozenTrial:
    """A trial as `as_seen` shows it as a storage keeps it."""
    if not frozen.state.is_finished() or outcome_of(frozen).state != "paused":
        return frozen
    kept = copy.copy(frozen)
    kept.state, kept.values, kept.datetime_complete = TrialState.WAITING, None, None
    return kept


def is_counted(frozen: FrozenTrial) -> bool:
    """Whether a trial told the search something. It is asked of all trials at each turn of a loop."""
    return frozen.state in _COUNTED and not is_known(frozen)


def is_known(frozen: FrozenTrial) -> bool:
    """Whether a trial was not trained here, but is known from elsewhere."""
    kept = frozen.user_attrs.get(OUTCOME)
    return isinstance(kept, dict) and kept.get("state") == "known"


def is_running(frozen: FrozenTrial) -> bool:
    """Whether a trial has begun, and its end was not told."""
    return frozen.state == TrialState.RUNNING


def is_waiting(frozen: FrozenTrial) -> bool:
    """Whether a trial has values, and waits to be asked for."""
    return frozen.state == TrialState.WAITING


def outcome_of(frozen: FrozenTrial) -> Outcome:
    """How a trial ended, or that it runs, also of one that Optuna itself was told of, past a study of ours."""
    value = frozen.values[0] if frozen.state.is_finished() and frozen.values else None
    return stored_outcome(frozen) or Outcome(_READ.get(frozen.state, "failed"), value=value)
