"""An Optuna objective whose trial is known before it makes its objects."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tunehook.inject.calls import Plan, call_traced

if TYPE_CHECKING:
    import optuna

Result = TypeVar("Result")


def objective(function: Callable[[optuna.Trial], Result]) -> Callable[[optuna.Trial], Result]:
    """Decorate an Optuna objective, so that values go into the calls that make its objects.

    Without it a ``TuneCallback(trial, metric=...)`` learns of the values in ``fit`` only, and makes again what exists
    by then. With it they are there before, as in `Study.optimize`: what the objective derives from its objects follows,
    and threads (``n_jobs=2``) do not disturb each other.

    The objective may be called twice in its first trial, where its first fit shows that a value belongs elsewhere.
    Optuna suggests the same values then.

    Args:
        function: The objective. It suggests values before it makes the objects that take them.

    Example:
        >>> @objective
        ... def tune(trial):
        ...     trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        ...     trainer = Trainer(callbacks=[TuneCallback(trial, metric="val_loss")])
        ...     trainer.fit(Net(), Digits())
        ...     return trainer.callback_metrics["val_loss"].item()
    """
    plans: dict[frozenset[str], Plan] = {}  # by the names that were suggested

    @functools.wraps(function)
    def call(trial: optuna.Trial) -> Result:
        # What is suggested on the way is not known yet, so the plan is that of the names of the last trial.
        known = next(reversed(plans.values()), None)
        called = functools.partial(function, trial)
        result, plan = call_traced(called, lambda: dict(trial.params), plan=known)
        if plan is not None:
            plans.pop(frozenset(trial.params), None)
            plans[frozenset(trial.params)] = plan
        return result  # type: ignore[return-value] # what the function returned

    return call
