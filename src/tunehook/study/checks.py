"""What the constructor of a study checks, before anything is opened."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from tunehook.system import hidden
from tunehook.trial import Mode, Outcome


def check_study(
    name: object,
    *,
    metric: object,
    mode: object,
    objective: object,
    storage: object,
    max_failures: object,
    keep: object,
) -> None:
    """Check the arguments of a study that need no other room.

    Raises:
        ValueError, TypeError: One of them is none that a study takes.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
        raise ValueError(
            "A study's name has letters, digits, '_', '.' and '-' only, since it names a folder; "
            f"got {hidden(repr(name))}."
        )
    metrics_of(metric, mode)
    if objective not in ("best", "last") and not _is_positive(objective):
        raise ValueError(
            f"objective is 'best', 'last', or k > 0 for the mean of the last k reports; got {objective!r}."
        )
    if storage is not None and not isinstance(storage, str) and not hasattr(storage, "create_new_study"):
        raise TypeError(
            f"storage is a URL, such as 'sqlite:///study.db', or an Optuna storage; got {hidden(repr(storage))}.\n"
            "  Leave it out for an SQLite file in the study's folder."
        )
    if not _is_positive(max_failures):
        raise ValueError(f"max_failures is an integer above 0; got {max_failures!r}.")
    if keep not in ("best", "all", None):
        raise ValueError(
            f"keep is 'best' (the model of the best trial), 'all' (of each one) or None (of none); got {keep!r}."
        )


def metrics_of(metric: object, mode: object) -> dict[str, Mode]:
    """The modes of the metrics by their names, in order.

    Raises:
        ValueError: A metric has no name, or two have one; or there is another number of modes, or none of ours.
    """
    names, modes = ([one] if isinstance(one, str) else one for one in (metric, mode))
    if not isinstance(names, list | tuple) or not names or not all(isinstance(one, str) and one for one in names):
        raise ValueError(
            "metric is the name of a logged metric, such as 'val_acc', or a list of several, such as "
            f"['val_acc', 'latency']; got {metric!r}."
        )
    if not isinstance(modes, list | tuple) or not modes or not all(one in ("min", "max") for one in modes):
        raise ValueError(f"mode is 'min' or 'max', or a list of them, one for each metric; got {mode!r}.")
    if len(set(names)) < len(names):
        raise ValueError(f"Each metric is named once; got {metric!r}.")
    if len(names) != len(modes):
        example = [*modes, *["min"] * len(names)][: len(names)]
        raise ValueError(
            f"There is a mode for each metric, and {len(names)} for {len(modes)} were given: metric={metric!r}, "
            f"mode={mode!r}.\n  Give one for each, such as mode={example!r}."
        )
    return dict(zip(names, modes, strict=True))


def limits_of(constraints: object) -> dict[str, tuple[float | None, float | None]]:
    """The limits of metrics by their names.

    Raises:
        ValueError, TypeError: They are none.
    """
    if not isinstance(constraints, Mapping):
        raise TypeError(
            "constraints are the lowest and the highest value of metrics by their names, such as "
            f"{{'latency': (None, 5.0)}}; got {constraints!r}."
        )
    for name, limits in constraints.items():
        is_pair = isinstance(limits, tuple | list) and len(limits) == 2
        numbers = [one for one in limits if one is not None] if is_pair else []
        are_numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
        if not isinstance(name, str) or not numbers or not are_numbers or any(map(math.isnan, numbers)):
            raise ValueError(
                "A constraint is the lowest and the highest value of a metric, such as {'latency': (None, 5.0)}, with "
                f"None for no limit; got {{{name!r}: {limits!r}}}."
            )
        if len(numbers) == 2 and numbers[0] > numbers[1]:
            raise ValueError(f"The lowest value of '{name}' is above the highest: {limits!r}. Swap them.")
    return {name: (limits[0], limits[1]) for name, limits in constraints.items()}


def check_outcome(outcome: Outcome, metrics: Mapping[str, Mode]) -> None:
    """Check that an outcome has the values of all metrics, where there are several and it has or needs them.

    Raises:
        ValueError: It has not.
    """
    is_needed = outcome.state == "complete" or bool(outcome.values)
    if len(metrics) > 1 and is_needed and len(outcome.values) != len(metrics):
        raise ValueError(
            f"A complete trial of a study with {len(metrics)} metrics has a value of each; got {outcome}.\n"
            f"  Give them in their order, {', '.join(metrics)}: Outcome(..., value=first, values=(first, ...))."
        )


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
