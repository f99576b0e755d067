"""Searches that compete in `search.py`, ours and the peers', each as its own documentation has it.

A contender proposes configurations and hears of each epoch; a peer that is not installed is left out, and said so.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import optuna
from optuna.trial import TrialState
from search_problems import Problem

import tunehook as th
from tunehook.search import make_sampler, make_stopper
from tunehook.trial import Budget, Outcome

Proposal = tuple[object, Mapping[str, Any]]
TRIALS = {1: 100}  # how many whole trainings a budget holds, by the epochs of one; else 50


class Contender(Protocol):
    """One search on one problem."""

    def ask(self, worker: int) -> Proposal | None:
        """A key and a configuration; a key that was there goes on where it was; None while there is nothing to do."""

    def report(self, key: object, epoch: int, value: float) -> bool:
        """Whether a trial goes on for an epoch; the last one is reported too."""


class Entry(NamedTuple):
    """A line of the table.

    Args:
        make: Makes the search for a problem with a seed.
        packages: What it needs, by the names of the package index.
        stops: Whether it ends trials before their last epoch, which a table has no use for.
    """

    make: Callable[[Problem, int], Contender]
    packages: tuple[str, ...]
    stops: bool = False

    def missing(self) -> list[str]:
        """What is not installed."""
        return [name for name in self.packages if not _version(name)]

    def version(self) -> str:
        """The packages with their versions."""
        return ", ".join(f"{name} {_version(name)}" for name in self.packages)


def _version(package: str) -> str:
    """Of a package, an empty text where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


class Optuna:
    """A sampler and a pruner of Optuna's kind.

    Args:
        problem: The problem.
        sampler: Proposes.
        pruner: Stops, if any does.
        first: No earlier epoch is judged. Defaults to the first.
        keeps: Whether a stopped trial is told with the best value that it had, as our studies do, and not without one.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: optuna.samplers.BaseSampler,
        pruner: optuna.pruners.BasePruner | None = None,
        *,
        keeps: bool = False,
    ) -> None:
        self._space, self._last, self._prunes, self._keeps = problem.space, problem.epochs, pruner is not None, keeps
        self._better = max if problem.mode == "max" else min
        self._study = optuna.create_study(
            direction="maximize" if problem.mode == "max" else "minimize",
            sampler=sampler,
            pruner=pruner or optuna.pruners.NopPruner(),
        )
        self._distributions = problem.space.distributions()
        self._live: dict[object, tuple[optuna.Trial, list[float]]] = {}

    def ask(self, worker: int) -> Proposal:
        """A trial of the study."""
        trial = self._study.ask(self._distributions)
        self._live[trial.number] = trial, []
        return trial.number, self._space.decode(trial.params)

    def report(self, key: object, epoch: int, value: float) -> bool:
        """Tell the study."""
        trial, values = self._live[key]
        values.append(value)
        if self._prunes:  # without a pruner they change nothing
            trial.report(value, epoch)
        if epoch == self._last:
            self._study.tell(trial, self._better(values))
        elif not (self._prunes and trial.should_prune()):
            return True
        elif self._keeps:
            storage = self._study._storage  # noqa: SLF001 - what a study of ours does: its `tell` takes the last value
            storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED, [self._better(values)])  # noqa: SLF001
        else:
            self._study.tell(trial, state=TrialState.PRUNED)
        del self._live[key]
        return False


def _ours(search: str, stopper: str | None = None) -> Entry:
    """A search and a stopper of ours, by name."""

    def make(problem: Problem, seed: int) -> Contender:
        sampler, _ = make_sampler(search, problem.space, seed=seed, trials=TRIALS.get(problem.epochs, 50))
        pruner = make_stopper(stopper, Budget(problem.epochs)) if stopper else None
        return Optuna(problem, sampler, pruner, keeps=True)

    return Entry(make, ("tunehook",), stops=stopper is not None)


def _pausing(search: str, stopper: str = "pause") -> Entry:
    """A study of ours whose trials pause."""
    return Entry(lambda problem, seed: Pausing(problem, seed, search, stopper), ("tunehook",), stops=True)


class Pausing:
    """A study of ours whose trials pause at rungs and go on from there."""

    def __init__(self, problem: Problem, seed: int, search: str, stopper: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._budget, self._live = Budget(problem.epochs), dict[object, th.Trial]()
        self._study = th.Study(
            "benchmark", problem.space, metric="y", mode=problem.mode, search=search, stopper=stopper,
            seed=seed, storage=optuna.storages.InMemoryStorage(), folder=self._folder.name,
        )  # fmt: skip

    def ask(self, worker: int) -> Proposal:
        """A new trial, or one that has paused."""
        trial = self._study.ask()
        self._live[trial.number] = trial
        return trial.number, trial.params

    def report(self, key: object, epoch: int, value: float) -> bool:
        """The study decides."""
        trial = self._live[key]
        decision = self._study.report(trial, epoch, value, self._budget)
        if epoch == self._budget.epochs:
            self._study.tell(trial, Outcome("complete", value=value, step=epoch))
        elif decision.stop:
            self._study.tell(trial, Outcome(decision.state, decision.reason, value, epoch))
        else:
            return True
        return False


def _optuna(
    sampler: Callable[..., optuna.samplers.BaseSampler],
    pruner: Callable[[int], optuna.pruners.BasePruner] | None = None,
) -> Entry:
    """A sampler and a pruner of Optuna's."""
    return Entry(
        lambda problem, seed: Optuna(problem, sampler(seed=seed), pruner(problem.epochs) if pruner else None),
        ("optuna",),
        stops=pruner is not None,
    )


class Hyperopt:
    """Hyperopt's TPE; trials that run are of no account to it."""

    def __init__(self, problem: Problem, seed: int) -> None:
        import hyperopt

        self._hyperopt, self._problem = hyperopt, problem
        self._sign, self._random = -1.0 if problem.mode == "max" else 1.0, np.random.default_rng(seed)
        self._space = {name: self._spoken(name, d) for name, d in problem.space.items()}
        self._domain, self._trials = hyperopt.base.Domain(lambda _: 0.0, self._space), hyperopt.Trials()
        self._live: dict[object, Any] = {}

    def _spoken(self, name: str, d: Any) -> Any:
        """A hyperparameter of ours as one of Hyperopt's."""
        hp = self._hyperopt.hp
        if isinstance(d, th.Choice):
            return hp.choice(name, list(d.options))
        bounds = (math.log(d.low), math.log(d.high)) if d.log else (d.low, d.high)
        if isinstance(d, th.Int):
            return hp.qloguniform(name, *bounds, 1) if d.log else hp.uniformint(name, *bounds)
        return (hp.loguniform if d.log else hp.uniform)(name, *bounds)

    def ask(self, worker: int) -> Proposal:
        """A document of Hyperopt's."""
        numbers = self._trials.new_trial_ids(1)
        self._trials.refresh()
        seed = int(self._random.integers(2**31 - 1))
        (document,) = self._hyperopt.tpe.suggest(numbers, self._domain, self._trials, seed)
        self._live[numbers[0]] = document
        values = {name: value[0] for name, value in document["misc"]["vals"].items()}
        return numbers[0], _clipped(self._problem, self._hyperopt.space_eval(self._space, values))

    def report(self, key: object, epoch: int, value: float) -> bool:
        """The last epoch's value is the loss."""
        if epoch < self._problem.epochs:
            return True
        document = self._live.pop(key)
        document["state"] = self._hyperopt.JOB_STATE_DONE
        document["result"] = {"loss": self._sign * value, "status": "ok"}
        self._trials.insert_trial_docs([document])
        self._trials.refresh()
        return False


class KerasTuner:
    """An oracle of KerasTuner's; those of Hyperband train on from the weights of the round before."""

    def __init__(self, problem: Problem, seed: int, kind: str) -> None:
        import keras_tuner

        self._problem, self._better = problem, max if problem.mode == "max" else min
        space = keras_tuner.HyperParameters()
        d: Any
        for name, d in problem.space.items():
            if isinstance(d, th.Choice):
                space.Choice(name, list(d.options), ordered=False)
            else:
                add = space.Int if isinstance(d, th.Int) else space.Float
                add(name, d.low, d.high, sampling="log" if d.log else "linear")
        given = {"objective": keras_tuner.Objective("score", problem.mode), "seed": seed + 1, "hyperparameters": space}
        if kind == "hyperband":  # its documentation advises as many iterations as the budget allows
            self._oracle = keras_tuner.oracles.HyperbandOracle(
                max_epochs=problem.epochs, hyperband_iterations=1_000, **given
            )
        else:
            self._oracle = keras_tuner.oracles.BayesianOptimizationOracle(max_trials=100_000, **given)
        self._oracle.verbose = 0
        self._oracle.save = self._oracle._save_trial = lambda *_, **__: None  # noqa: SLF001 - files of no use here
        self._root: dict[object, object] = {}
        self._live: dict[object, tuple[Any, int, list[float]]] = {}

    def ask(self, worker: int) -> Proposal | None:
        """A trial of the oracle; one of a later round has the key of its first."""
        trial = self._oracle.create_trial(f"worker {worker}")
        if trial.status != "RUNNING":
            return None
        values = trial.hyperparameters.values
        parent = values.get("tuner/trial_id")
        key = self._root[trial.trial_id] = self._root.get(parent, trial.trial_id)
        self._live[key] = trial, values.get("tuner/epochs", self._problem.epochs), []
        return key, _clipped(self._problem, values)

    def report(self, key: object, epoch: int, value: float) -> bool:
        """A fit's best epoch counts."""
        trial, last, values = self._live[key]
        values.append(value)
        if epoch < last:
            return True
        self._oracle.update_trial(trial.trial_id, {"score": self._better(values)})
        trial.status = "COMPLETED"
        self._oracle.end_trial(trial)
        return False


class WandbSweep:
    """The engine of W&B's sweeps, ``sweeps``."""

    def __init__(self, problem: Problem, seed: int) -> None:
        import sweeps

        self._sweeps, self._problem, self._runs = sweeps, problem, dict[object, Any]()
        np.random.seed(seed)
        goal = f"{problem.mode}imize"
        parameters = {name: self._spoken(d) for name, d in problem.space.items()}
        self._config = dict(
            sweeps.SweepConfig({"method": "bayes", "metric": {"name": "y", "goal": goal}, "parameters": parameters})
        )

    @staticmethod
    def _spoken(d: Any) -> dict[str, Any]:
        """A hyperparameter of ours as one of a sweep's."""
        if isinstance(d, th.Choice):
            return {"values": list(d.options)}
        kind = "log_uniform_values" if d.log else "uniform"
        if isinstance(d, th.Int):
            kind = "q_log_uniform_values" if d.log else "int_uniform"
        return {"distribution": kind, "min": d.low, "max": d.high, **({"q": 1} if kind.startswith("q_") else {})}

    def ask(self, worker: int) -> Proposal:
        """A run of the sweep."""
        run = self._sweeps.next_run(self._config, list(self._runs.values()))
        run.name, run.state = str(len(self._runs)), self._sweeps.RunState.running
        self._runs[run.name] = run
        return run.name, _clipped(self._problem, {name: one["value"] for name, one in run.config.items()})

    def report(self, key: object, epoch: int, value: float) -> bool:
        """A step of the run."""
        self._runs[key].history.append({"y": value})
        if epoch < self._problem.epochs:
            return True
        self._runs[key].state = self._sweeps.RunState.finished
        return False


class RayAsha:
    """Ray Tune's asynchronous successive halving over random configurations."""

    class _Trial:
        """As much of a trial as the scheduler reads."""

        def __init__(self, name: str) -> None:
            self.trial_id = name

    def __init__(self, problem: Problem, seed: int) -> None:
        from ray.tune.schedulers.async_hyperband import AsyncHyperBandScheduler

        self._problem, self._sampler = problem, Optuna(problem, optuna.samplers.RandomSampler(seed=seed))
        self._scheduler = AsyncHyperBandScheduler(
            time_attr="epoch", metric="y", mode=problem.mode, max_t=problem.epochs, grace_period=1
        )
        self._live: dict[object, Any] = {}

    def ask(self, worker: int) -> Proposal:
        """A random configuration."""
        key, config = self._sampler.ask(worker)
        self._live[key] = self._Trial(str(key))
        self._scheduler.on_trial_add(None, self._live[key])
        return key, config

    def report(self, key: object, epoch: int, value: float) -> bool:
        """The scheduler decides."""
        said = self._scheduler.on_trial_result(None, self._live[key], {"epoch": epoch, "y": value})
        return bool(said == "CONTINUE")


def _clipped(problem: Problem, config: Mapping[str, Any]) -> dict[str, Any]:
    """A peer's values, whole where they are to be, and within the bounds that its rounding may leave."""

    def clipped(d: Any, value: Any) -> Any:
        if isinstance(d, th.Choice):
            return value
        value = min(max(value, d.low), d.high)
        return round(value) if isinstance(d, th.Int) else float(value)

    return {name: clipped(d, config[name]) for name, d in problem.space.items()}


CONTENDERS: dict[str, Entry] = {
    "tunehook bayes": _ours("bayes"),
    "tunehook bayes + pause": _pausing("bayes"),
    "tunehook bayes + median": _ours("bayes", "median"),
    "tunehook tpe": _ours("tpe"),
    "tunehook tpe + median": _ours("tpe", "median"),
    "tunehook tpe + pause": _pausing("tpe"),
    "tunehook tpe + hyperband": _pausing("tpe", "hyperband"),
    "tunehook tpe + asha": _pausing("tpe", "asha"),
    "Optuna GP": _optuna(optuna.samplers.GPSampler),
    "Optuna TPE": _optuna(optuna.samplers.TPESampler),
    "Optuna TPE + median": _optuna(optuna.samplers.TPESampler, lambda _: optuna.pruners.MedianPruner()),
    "Optuna TPE + median, from epoch 9": _optuna(
        optuna.samplers.TPESampler, lambda _: optuna.pruners.MedianPruner(n_warmup_steps=9)
    ),
    "Optuna TPE + successive halving": _optuna(
        optuna.samplers.TPESampler, lambda _: optuna.pruners.SuccessiveHalvingPruner()
    ),
    "Optuna TPE + Hyperband": _optuna(
        optuna.samplers.TPESampler, lambda epochs: optuna.pruners.HyperbandPruner(max_resource=epochs)
    ),
    "Hyperopt TPE": Entry(Hyperopt, ("hyperopt",)),
    "KerasTuner Bayesian": Entry(lambda problem, seed: KerasTuner(problem, seed, "bayes"), ("keras-tuner",)),
    "KerasTuner Hyperband": Entry(
        lambda problem, seed: KerasTuner(problem, seed, "hyperband"), ("keras-tuner",), stops=True
    ),
    "W&B bayes": Entry(WandbSweep, ("sweeps",)),
    "Ray ASHA": Entry(RayAsha, ("ray", "pyarrow"), stops=True),
    "random": _optuna(optuna.samplers.RandomSampler),
}
