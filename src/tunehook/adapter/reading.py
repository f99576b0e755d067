"""What a training function asks of its trial: values that are no argument of an object, and the trial itself."""

from __future__ import annotations

from typing import TypeVar

from tunehook.adapter.source import given_trial
from tunehook.inject import asked_values, finds_ranks, known_trial, note_default, note_read, was_injected
from tunehook.session import is_following
from tunehook.trial import InjectionError, Trial, TrialError

Value = TypeVar("Value")


def current() -> Trial | None:
    """The trial that the training function works on: its number, values and folder; ``None`` outside of a trial.

    Each rank of a training has it, and each trial process.

    Example:
        >>> current() is None  # a script that trains by itself
        True
    """
    return known_trial() or given_trial()


def value(name: str, default: Value) -> Value:
    """Read a hyperparameter in the script: for whatever is no argument of an object that the callback knows.

    Such as a sequence length, the depth of a model that is put together in a loop, or a number that is used in five
    places. A name that is read here is the script's: it is put into no object besides.

    Args:
        name: A name of the space, or one that an `objective` has suggested before. Where there is none, or no trial,
            the default is returned, so that the script still trains by itself.
        default: The script's own value. The trial's must be of its type; an integer is taken for a float.

    Returns:
        The trial's value, else the default.

    Raises:
        InjectionError: The value has another type, or was put into an object already, by a fit before.
        TrialError: This process is a rank that was not started by rank 0, and does not know the trial before its fit.

    Example:
        >>> value("layers", 2)  # outside of a trial
        2
    """
    trial = current()
    if trial is None and is_following() and not finds_ranks():
        raise TrialError(
            f"th.value({name!r}, ...) is read before this rank knows the trial, which rank 0 tells when fit begins.\n"
            "  Let the Trainer start the ranks (devices=..., without torchrun or srun), or make "
            f"{name!r} an argument of the module."
        )
    values = asked_values() or ({} if trial is None else trial.params)
    if name not in values:
        note_default(name, default)
        return default
    if was_injected(trial, name):
        raise InjectionError(
            f"th.value({name!r}, ...) is read after a fit has begun, which put the value into an object already.\n"
            "  Read it before that fit: a name that the script reads is put into no object."
        )
    given: Value = values[name]
    if not _fits(given, default):
        raise InjectionError(
            f"The hyperparameter {name!r} is {given!r} ({type(given).__name__}), but th.value({name!r}, {default!r}) "
            f"wants {type(default).__name__}, the type of its default.\n"
            "  Use a distribution that gives it, or another default."
        )
    note_read(name, trial)
    return given


def _fits(given: object, default: object) -> bool:
    """Whether a value can take the place of a default; of None everything can, and None of everything."""
    if default is None or given is None or type(given) is type(default):
        return True
    return isinstance(default, float) and isinstance(given, int) and not isinstance(given, bool)
