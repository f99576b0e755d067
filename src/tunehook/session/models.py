"""Which trial has trained a model of this process: trials start from scratch."""

from __future__ import annotations

import weakref

from tunehook.trial import Trial, TrialError

# By the model: the study, key and number of its trial.
_trained: weakref.WeakKeyDictionary[object, tuple[str, str, int]] = weakref.WeakKeyDictionary()


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


def note_trained(model: object, trial: Trial) -> None:
    """Note that a trial trains a model."""
    _trained[model] = _named(trial)


def release(model: object, trial: Trial) -> None:
    """Let another trial train a model, which is as it was."""
    if _trained.get(model) == _named(trial):
        del _trained[model]


def _named(trial: Trial) -> tuple[str, str, int]:
    return trial.study, trial.key, trial.number
