"""Which trial has trained a model of this process, or a part of one: trials start from scratch."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterable

from tunehook.trial import Trial, TrialError

# By the model: the study, key and number of its trial.
_trained: weakref.WeakKeyDictionary[object, tuple[str, str, int]] = weakref.WeakKeyDictionary()

Part = tuple[str, object, object]
"""An array of a model: its name, the object that holds it, and something that is another one where its numbers are."""

# By the ids of arrays: the array, the trial that has begun with it, and what told its numbers then.
_parts: dict[int, tuple[weakref.ref[object], tuple[str, str, int], object]] = {}


def check_untrained(model: object, trial: Trial) -> None:
    """Check that no other trial has trained a model: the next one would go on with its weights.

    Raises:
        TrialError: One has.
    """
    owner = _trained.get(model, _named(trial))
    if owner != _named(trial):
        raise TrialError(
            f"The {type(model).__name__} was trained in trial {owner[2]} of study '{owner[0]}' already, and trial "
            f"{trial.number} would go on with its weights.\n"
            "  Make the model inside the training function, so that each trial starts from scratch."
        )


def check_parts(parts: Iterable[Part], model: object, trial: Trial) -> None:
    """Check before the first step that no array of a model is another trial's, and has changed since that began.

    So a network that is kept for all trials may be frozen, and none of them may train it.

    Args:
        parts: The arrays of the model.
        model: The model, for the message.
        trial: The trial.

    Raises:
        TrialError: One is.
    """
    for name, part, present in parts:
        held, owner, before = _parts.get(id(part), (None, _named(trial), present))
        if held is None or held() is not part:
            _parts[id(part)] = weakref.ref(part, functools.partial(_forget, id(part))), owner, present
        elif owner != _named(trial) and before != present:
            raise TrialError(
                f"{name} of the {type(model).__name__} was trained in trial {owner[2]} of study '{owner[0]}' already, "
                f"and trial {trial.number} would go on with its weights.\n"
                "  Make what holds it inside the training function, so that each trial starts from scratch; or freeze "
                "it in all of them, and what it counts as well, as a BatchNorm does."
            )


def _forget(key: int, _gone: object) -> None:
    _parts.pop(key, None)


def note_trained(model: object, trial: Trial) -> None:
    """Note that a trial trains a model."""
    _trained[model] = _named(trial)


def release(model: object, trial: Trial) -> None:
    """Let another trial train a model, which is as it was."""
    if _trained.get(model) == _named(trial):
        del _trained[model]


def _named(trial: Trial) -> tuple[str, str, int]:
    return trial.study, trial.key, trial.number
