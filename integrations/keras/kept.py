"""What a script makes once for all trials: its callbacks, and the random numbers of its layers.

The weights of layers are the core's, as in every framework.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tunehook.inject import sets_attribute
from tunehook.integrations.keras.resume import seed_generators, value_of
from tunehook.trial import Trial, TrialError

_JUDGES = (keras.callbacks.EarlyStopping, keras.callbacks.ModelCheckpoint, keras.callbacks.ReduceLROnPlateau)
_STEERS = ("stop_training", "learning_rate", "lr")
# What Keras sets for each fit; and in the first epoch, by the name of the metric alone.
_NO_STATE = {"params", "model", "monitor_op", "min_delta"}
_LONG = 40  # a text that is too long for a message
_PLAIN = (bool, int, float, complex, str, np.generic, type(None))

_Named = tuple[str, str, int]

# By callback: the trial of its last fit, and the attributes that this fit has changed, as texts.
_left: weakref.WeakKeyDictionary[Any, tuple[_Named, dict[str, str]]] = weakref.WeakKeyDictionary()

# By seed generator: the trial that uses it, and the state with which the first one has begun.
_seeds: weakref.WeakKeyDictionary[Any, tuple[_Named, Any]] = weakref.WeakKeyDictionary()


class KeptCallbacks:
    """Sees that no callback that steers a training goes on from what it has seen in another trial.

    Made after each ``on_train_begin``, in which Keras's own callbacks reset themselves. What a script sets between two
    fits, such as a patience, is no state, and what a callback only writes down may go on.

    Args:
        callbacks: The callbacks of a fit.
        trial: Its trial.

    Raises:
        TrialError: One does.
    """

    def __init__(self, callbacks: Sequence[Any], trial: Trial) -> None:
        self._named = _named(trial)
        self._begun = [(one, _state(one)) for one in callbacks if _steers(one)]
        for one, state in self._begun:
            last, left = _left.get(one, (self._named, {}))
            held = {name: text for name, text in state.items() if left.get(name) == text}
            if held and last != self._named:
                name = type(one).__name__
                texts = [f"{name}={text}" if len(text) < _LONG else name for name, text in held.items()]
                raise TrialError(
                    f"{name} has been in the fit of another trial, and goes on from there: {', '.join(texts)}.\n"
                    f"  Make it in the training function: train is called for each trial, and so is {name}(...)."
                )

    def note(self) -> None:
        """Note, when the fit has ended, what it has changed; may be called more than once."""
        for one, before in self._begun:
            changed = {name: text for name, text in _state(one).items() if before.get(name) != text}
            _left[one] = self._named, changed


def begin_seeds(model: Any, trial: Trial) -> None:
    """Let layers that are kept for all trials draw the same random numbers in each, as if the trial were the only one.

    Args:
        model: The model of a fit that begins.
        trial: Its trial.
    """
    for generator in seed_generators(model):
        last, first = _seeds.get(generator) or (_named(trial), value_of(generator.state))
        if last != _named(trial):
            generator.state.assign(first)
        _seeds[generator] = _named(trial), first


def _steers(callback: Any) -> bool:
    base = keras.callbacks.Callback
    return isinstance(callback, _JUDGES) or any(sets_attribute(type(callback), base, name) for name in _STEERS)


def _state(callback: Any) -> dict[str, str]:
    own = {name: value for name, value in vars(callback).items() if not name.startswith("_") and name not in _NO_STATE}
    return {name: repr(value) for name, value in own.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple | set):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def _named(trial: Trial) -> _Named:
    return trial.study, trial.key, trial.number
