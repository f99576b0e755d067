"""Studies with a past, written by the product's own writers without a training: for whatever looks at studies."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

import tunehook as th
from tunehook.snapshot.take import Snapshots
from tunehook.storage import LINEAGE
from tunehook.study.study import Study
from tunehook.trial.values import Outcome

SPACE = {
    "optimizer.lr": th.Float(1e-5, 1e-1, log=True),
    "model.hidden": th.Int(16, 256, log=True),
    "model.dropout": th.Float(0.0, 0.5, step=0.1),
    "model.activation": th.Choice(["relu", "gelu", None]),
    "data.batch_size": th.Choice([128, 32, 64]),
    "optimizer.weight_decay": th.LogNormal(-9, 2),
    "model.scale": th.Normal(1.0, 0.2),
    "model.layers": 2,
}
BEGAN = 1_760_000_000.0  # seconds since 1970, in the synthetic past


def write_study(
    name: str = "digits",
    *,
    trials: int = 40,
    epochs: int = 12,
    space: Mapping[str, Any] | None = None,
    metric: str = "val_acc",
    workers: int = 4,
    snapshots: int = 8,
    ends: Mapping[int, Outcome] | None = None,
    population: int = 0,
    seed: int = 1,
) -> Study:
    """A study in the working directory, as if it had been searched in the past.

    Every fifth trial is pruned, some are infeasible, failed or interrupted, the last one still runs.

    Args:
        name: Name of the study.
        trials: How many.
        epochs: Reports of a complete trial.
        space: The space; one of every kind of distribution by default.
        metric: The tuned metric; ``loss`` is reported beside it.
        workers: Trials side by side, on two machines.
        snapshots: How many a trial has.
        ends: Outcomes by the numbers of trials, in place of those that are made up.
        population: Members of a population whose intervals the trials are; every third one copies the first member.
        seed: Of the random numbers.
    """
    study = Study(name, SPACE if space is None else space, metric=metric, mode="max", search="random")
    chance, free, clock = random.Random(seed), [BEGAN] * workers, [BEGAN]
    for number in range(trials):
        worker = min(range(workers), key=free.__getitem__)
        raw = {key: _draw(one, chance) for key, one in study.space.distributions().items()}
        params = study.space.decode(raw)
        curve = _curve(params, epochs, chance)
        outcome = (ends or {}).get(number) or _end(number, trials, curve, metric)
        seconds = 20 + 40 * chance.random()
        reported = min(epochs, outcome.step or (2 if outcome.value is None else epochs))
        began, each = free[worker], seconds / epochs
        free[worker] = ended = began + each * (reported + 1)
        is_running = outcome.state == "running"
        study._ledger.put_in(
            number, None if is_running else outcome, began=began, ended=ended, raw=raw, is_given=number == 0,
            series=dict(enumerate(curve[:reported], 1)),
            named={LINEAGE: _place(number, population, epochs)} if population else {},
        )  # fmt: skip
        host = f"node-{worker % 2 + 1}"
        times = SimpleNamespace(time=lambda: clock[0], monotonic=lambda: clock[0])
        with (
            mock.patch("tunehook.record.journal.time", times),
            mock.patch("tunehook.record.journal.host", lambda host=host: host),
        ):
            clock[0] = began
            journal = th.Journal(study.paths.trial(number))
            journal.begin(study._ledger.as_trial(study._ledger.numbered(number)), is_given=number == 0)
            journal.config({**params, "trainer.max_epochs": epochs, "trainer.precision": "32-true"})
            taken = _weights(snapshots, number)
            for step, value in enumerate(curve[:reported], 1):
                clock[0] = began + each * step
                metrics = {metric: value, "loss": -math.log(max(1e-3, value)), "epoch": step - 1}
                journal.report(step, metrics)
                if step <= len(taken):
                    journal.snapshot(step, taken[step - 1])
            clock[0] = ended
            if not is_running:
                journal.end(outcome)
            journal.close()
    return study


def _place(number: int, population: int, epochs: int) -> dict[str, int | None]:
    generation, member = divmod(number, population)
    parent = None if generation == 0 else (generation - 1) * population + (member if number % 3 else 0)
    return {"member": member, "generation": generation, "interval": epochs, "parent": parent}


def _draw(distribution: Any, chance: random.Random) -> Any:
    if hasattr(distribution, "choices"):
        return chance.choice(distribution.choices)
    low, high = distribution.low, distribution.high
    value = math.exp(chance.uniform(math.log(low), math.log(high))) if distribution.log else chance.uniform(low, high)
    step = distribution.step or 0
    value = low + round((value - low) / step) * step if step else value
    return int(value) if isinstance(low, int) else value


def _curve(params: Mapping[str, Any], epochs: int, chance: random.Random) -> list[float]:
    """Learning that is best near lr = 1e-2 and many units."""
    lr, hidden = params.get("optimizer.lr", 1e-2), params.get("model.hidden", 64)
    top = 0.97 - 0.08 * abs(math.log10(lr) + 2) - 20 / (hidden + 100) - 0.1 * params.get("model.dropout", 0.0)
    return [max(0.05, top * (1 - 0.8 * math.exp(-3 * step / epochs)) + chance.gauss(0, 0.01))
            for step in range(1, epochs + 1)]  # fmt: skip


def _end(number: int, trials: int, curve: list[float], metric: str) -> Outcome:
    warm = max(1, len(curve) // 3)
    if number == trials - 1:
        return Outcome("running", value=None, step=warm)
    if number % 11 == 7:
        traceback = 'Traceback (most recent call last):\n  File "train.py", line 7\nValueError: shapes do not match'
        return Outcome("failed", "ValueError: shapes do not match", traceback=traceback)
    if number % 13 == 5:
        return Outcome("infeasible", "memory ran out: CUDA out of memory", None, 1)
    if number % 17 == 9:
        return Outcome("interrupted", "its process 4242 is gone", None, warm)
    if number % 5 == 3:
        step = warm
        return Outcome("pruned", f"{metric} is worse than the median at step {step}", max(curve[:step]), step)
    best = max(curve)
    return Outcome("complete", "trained to its end", best, len(curve))


def _weights(many: int, number: int) -> list[dict[str, Any]]:
    """Snapshots of a small model: its second layer is dead in odd trials, and its head explodes."""
    taker, random_numbers = Snapshots(), np.random.default_rng(number)
    found = []
    weights = {"net.0.weight": random_numbers.normal(0, 0.1, (16, 8)), "net.0.bias": np.zeros(16),
               "net.2.weight": random_numbers.normal(0, 0.05, (8, 16)), "head.weight": np.ones((4, 8))}  # fmt: skip
    for step in range(many):
        gradients = {name: random_numbers.normal(0, 0.01, one.shape) for name, one in weights.items()}
        if number % 2:
            gradients["net.2.weight"][:] = 0
        found.append(taker.take(step * 100, weights, gradients).as_json())
        grown = 10.0 if number % 2 and step > many // 2 else 1.0
        weights = {name: one - gradients[name] * (grown if name.startswith("head") else 1.0)
                   for name, one in weights.items()}  # fmt: skip
        weights["head.weight"] = weights["head.weight"] * grown
    return found
