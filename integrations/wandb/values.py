"""What a W&B run says about its trial: the configuration and the summary, as plain values that W&B can keep."""

from __future__ import annotations

import math
import numbers
import os
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import wandb

from tunehook.snapshot import Snapshot, TensorStats
from tunehook.trial import Outcome, Trial

OURS = "tunehook"
SNAPSHOT_AXIS = "snapshot/step"
DEPTH_LIMIT = 8
TRACEBACK_LIMIT = 4000


def describe_trial(trial: Trial, config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run: the sampled values by name, and everything else under ``tunehook``.

    Raises:
        ValueError: If a hyperparameter bears a name that is taken.
    """
    if taken := {OURS, "_wandb"} & trial.params.keys():
        raise ValueError(
            f"A hyperparameter is called {min(taken)!r}, which is taken in a W&B configuration: rename it."
        )
    ours = {
        "study": make_text(trial.study),
        "trial": trial.number,
        "key": trial.key,
        "attempt": trial.attempt,
        "metric": make_text(trial.metric),
        "mode": trial.mode,
        **({"others": {make_text(name): mode for name, mode in trial.others.items()}} if trial.others else {}),
        **({} if trial.lineage is None else trial.lineage.describe()),
        "slots": make_plain(config),
    }
    return {**make_plain(trial.params), OURS: ours}


def describe_outcome(trial: Trial, outcome: Outcome) -> dict[str, Any]:
    """The summary of a run; what was not measured is left out."""
    # The summary turns NaN into null, where the history has the text that W&B reads as NaN.
    value = "NaN" if outcome.value is not None and math.isnan(outcome.value) else outcome.value
    summary = {
        "outcome": outcome.state,
        "reason": outcome.reason,
        f"best/{make_text(trial.metric)}": value,
        **dict(zip((f"best/{make_text(name)}" for name in trial.others), outcome.values[1:], strict=False)),
        "best/step": outcome.step,
        "traceback": None if outcome.traceback is None else _shorten(outcome.traceback),
    }
    return {key: value for key, value in summary.items() if value is not None}


def describe_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    """The row of a snapshot: a histogram of each parameter and gradient, the ratios, and the whole model in numbers.

    Tensors without a finite element have no histogram; that they are so is among the counts.
    """
    row: dict[str, Any] = {SNAPSHOT_AXIS: snapshot.step}
    for kind, tensors, whole in (("parameters", snapshot.parameters, snapshot.model),
                                 ("gradients", snapshot.gradients, snapshot.model_gradient)):  # fmt: skip
        for name, stats in tensors.items():
            if sum(stats.counts):
                row[f"{kind}/{slashed(name)}"] = _histogram(stats)
        if whole is not None:
            numbers_ = {"norm": whole.norm, "mean": whole.mean, "std": whole.std, "min": whole.min, "max": whole.max,
                        "zeros": whole.zeros, "nan": whole.nan, "inf": whole.inf}  # fmt: skip
            row |= {f"snapshot/{kind}/{name}": value for name, value in numbers_.items() if math.isfinite(value)}
    row |= {f"ratio/{slashed(layer)}": ratio for layer, ratio in snapshot.ratios.items() if math.isfinite(ratio)}
    return row


def patterns_of(name: str, value: Any) -> list[str]:
    """By which a metric is defined: histograms by a pattern, since their own name keeps them in the summary."""
    return [f"{name.partition('/')[0]}/*" if isinstance(value, wandb.Histogram) else name]


def names_of(name: str, value: Any) -> list[str]:
    """The exact names by which a metric is defined, where patterns of the user's match all others.

    For W&B a histogram is nested; what it consists of is kept out of the summary, but not by the histogram's own name.
    """
    return [f"{name}.{part}" for part in ("_type", "values", "bins")] if isinstance(value, wandb.Histogram) else [name]


def slashed(name: str) -> str:
    """A parameter's name with slashes: W&B takes dots for nesting, and a pattern does not reach below them."""
    return name.replace(".", "/")


def _histogram(stats: TensorStats) -> wandb.Histogram:
    return wandb.Histogram(np_histogram=(np.array(stats.counts), np.array(stats.edges)))


def make_plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON knows it; what JSON does not know (NaN too) becomes text, and nothing raises.

    Args:
        value: Anything.
        depth: How deep in containers the value lies; from 8 on they become text, so that an endless one ends.
    """
    if isinstance(value, str):
        return make_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value) if abs(int(value)) < 2**63 else str(int(value))
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, Mapping) and depth < DEPTH_LIMIT:
        return {make_text(key): make_plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < DEPTH_LIMIT:
        return [make_plain(item, depth + 1) for item in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item") and depth < DEPTH_LIMIT:
        return make_plain(value.item(), depth + 1)  # a scalar of an array library
    return make_text(value)


def make_text(value: object) -> str:
    """The text itself, else a short representation, also of an object whose ``__repr__`` raises.

    Lone surrogates, which no message to W&B's service can hold, are escaped.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    short = reprlib.Repr()
    short.maxother = short.maxlong = 200
    return short.repr(value)


def _shorten(text: str) -> str:
    """The first lines and, mostly, the last ones, where a traceback says what happened."""
    if len(text) <= TRACEBACK_LIMIT:
        return text
    return f"{text[:500]}\n... {len(text) - TRACEBACK_LIMIT} characters left out ...\n{text[500 - TRACEBACK_LIMIT :]}"
