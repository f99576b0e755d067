"""A training function whose trial somebody else asks for: it is known before the function makes its objects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from tunehook.adapter.source import given_trial
from tunehook.inject import Plan, asking, call_traced, unread_asked, unread_values

Given = ParamSpec("Given")
Result = TypeVar("Result")


def objective(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorate an Optuna objective, or a function that ``wandb.agent`` calls.

    The trial's values then go into the calls that make its objects, as in `Study.optimize`: what the function derives
    from its objects follows, and threads (``n_jobs=2``) do not disturb each other. Without it a ``TuneCallback`` learns
    of the values in ``fit`` only, where the objects exist already.

    The function may be called twice in its first trial, where its first fit shows that a value belongs elsewhere.
    Optuna suggests the same values then.

    Args:
        function: The objective. It suggests values before it makes the objects that take them; one that it uses itself
            it reads by `value`.

    Example:
        >>> @objective
        ... def tune(trial):
        ...     trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        ...     trainer = Trainer(callbacks=[TuneCallback(trial, metric="val_loss")])
        ...     trainer.fit(Net(), Digits())
        ...     return trainer.callback_metrics["val_loss"].item()
    """
    plans: dict[frozenset[str], Plan] = {}  # by the names that have values

    @functools.wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        asked = functools.partial(_values, [*args, *kwargs.values()])
        # What is suggested on the way is not known yet, so the plan is that of the names of the last trial.
        known = next(reversed(plans.values()), None)
        with asking(asked) as begin_again:
            called = functools.partial(function, *args, **kwargs)
            result, plan = call_traced(called, unread_asked, plan=known, begin_again=begin_again)
            names = frozenset(unread_asked())
        if plan is not None:
            plans.pop(names, None)
            plans[names] = plan
        return result  # type: ignore[return-value] # what the function returned

    return call


def _values(given: list[Any]) -> Mapping[str, Any]:
    """The values of the Optuna trial that a function was given, else of the run of a sweep that it is called for."""
    asked = next((one for one in given if hasattr(one, "suggest_float") and hasattr(one, "params")), None)
    if asked is not None:
        return dict(asked.params)
    trial = given_trial()
    return {} if trial is None else unread_values(trial)
