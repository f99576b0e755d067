"""Names of search methods and stoppers, made into Optuna's samplers and pruners.

What is chosen by default follows from measurements at equal budgets (10 tasks of LCBench, 650 to 2,600 epochs): our
Gaussian process is ahead of TPE and of Optuna's, on numbers and on discrete choices; and most stopping rules with the
libraries' defaults end no better than random search, because the order of the trials after one epoch is noise.
Successive halving and Hyperband do so with a warm-up too, as long as they stop trials for good; so here they pause.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tunehook.extensions import SEARCHES as FOREIGN
from tunehook.extensions import load
from tunehook.space import GridExhausted as GridExhausted
from tunehook.space import Space, SpaceError
from tunehook.system import did_you_mean, near
from tunehook.trial import Budget

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

# A name gives a sampler and why; Optuna is imported by the functions, so that checking a name is cheap.
_Make = Callable[[Space, int | None, int | None], tuple[Any, str]]

GP_DIMENSIONS = 50  # more of them cost more than they are known to gain: the measurements have 5 to 9
WARM_UP_EPOCHS = 3  # never judge earlier
WARM_UP_SHARE = 6  # judge after a sixth of the epochs: 9 of 52 helped early and cost nothing later
REDUCTION = 3  # one trial in three goes on from a rung to the next


def make_sampler(
    search: str | BaseSampler,
    space: Space,
    *,
    seed: int | None = None,
    trials: int | None = None,
    metrics: int = 1,
) -> tuple[BaseSampler, str]:
    """Make the sampler that a search method means.

    Args:
        search: ``"grid"`` (all combinations), ``"random"``, ``"qmc"`` (spread evenly), ``"bayes"`` (a Gaussian process,
            or TPE above 50 dimensions), ``"tpe"``, ``"gp"`` (Optuna's), ``"cmaes"``, or any Optuna sampler.
        space: The space that is searched.
        seed: Seed of the search; what a trial draws follows from it and the trial's number, also where a study is gone
            on with or shared by processes. Defaults to None, an unpredictable one.
        trials: How many trials are planned; None where nobody knows.
        metrics: How many metrics are tuned. Defaults to 1.

    Returns:
        The sampler, and one line that says what was chosen and why (empty for a sampler that was given).

    Raises:
        ValueError: The name is unknown.
        SpaceError: The method cannot search the space.
        ModuleNotFoundError: The method needs a package that is not installed.
    """
    from optuna.samplers import BaseSampler

    if isinstance(search, BaseSampler):
        return _whole(search, space, seed), ""
    check_name("search method", search, SEARCHES, "any Optuna sampler")
    check_space(search, space)
    check_metrics(search, metrics)
    make = SEARCHES["tpe" if search == "bayes" and metrics > 1 else search]
    sampler, why = make(space, seed, trials)
    if seed is not None and search not in _SEEDED_AS_A_WHOLE:
        from tunehook.search.seeding import SeededByNumber

        sampler = SeededByNumber(lambda mixed: make(space, mixed, trials)[0], seed)
    said = f"TPE ({metrics} metrics), " if search == "bayes" and metrics > 1 else ""
    return (sampler if search == "grid" else _whole(sampler, space, seed, search)), f"{search}: {said}{why}"


def _whole(sampler: BaseSampler, space: Space, seed: int | None, search: str = "") -> BaseSampler:
    """A sampler that draws whole configurations, where a space needs that."""
    if not space.has_branches and not space.has_condition:
        return sampler
    from tunehook.search.whole import Whole

    if search == "qmc":  # its points have all dimensions
        return Whole(sampler, space, seed=seed, parts=[space.searched])
    return Whole(sampler, space, seed=seed, parts=space.parts() if search == "tpe" else None)


def check_metrics(search: str, metrics: int) -> None:
    """Check that a search method can search for so many metrics at once.

    Raises:
        ValueError: It cannot, and which ones can.
    """
    if metrics > 1 and search in _FOR_ONE:
        able = [name for name in SEARCHES if name not in _FOR_ONE]
        raise ValueError(
            f"The search {search!r} is for one metric, and there are {metrics}.\n"
            f"  For several there are {', '.join(map(repr, able))}, and Optuna's samplers that can."
        )


def check_space(search: str, space: Space) -> None:
    """Check, without loading Optuna, that a search method can search a space.

    Raises:
        SpaceError: It cannot, and which one can.
    """
    if search == "grid":
        space.grid_size()
    elif search == "cmaes":
        unordered = [name for name, d in space.searched.items() if not d.is_numeric]
        if unordered:
            raise SpaceError(
                f"The search 'cmaes' is for numbers only, but {', '.join(map(repr, unordered))} "
                "is a Choice: use search='bayes', or fix it."
            )
        if len(space.searched) < 2:
            raise SpaceError(
                f"The search 'cmaes' needs two hyperparameters or more, got {space!r}: use search='bayes'."
            )


def _grid(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    from tunehook.search.grid import GridSampler

    size = space.grid_size()
    part = f", of which the first {trials} are tried" if trials is not None and trials < size else ""
    return GridSampler(space), f"{size} combinations{part}"


def _random(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed), f"{_count(len(space.searched), 'dimension')}, {_planned(trials)}"


def _qmc(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import QMCSampler

    _check_installed("qmc", "scipy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = QMCSampler(seed=seed, scramble=seed is not None)
    kind = "Sobol points" if seed is None else "scrambled Sobol points"
    return sampler, f"{kind} ({_count(len(space.searched), 'dimension')}, {_planned(trials)})"


def _bayes(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    dimensions = len(space.searched)
    if dimensions > GP_DIMENSIONS:
        why = f"{dimensions} dimensions are more than the {GP_DIMENSIONS} that suit a Gaussian process"
        return _tpe_sampler(seed, trials), f"TPE ({why})"
    from tunehook.search.bayes import STARTUP, GaussianProcessSampler

    sampler = GaussianProcessSampler(seed=seed, startup=min(STARTUP, startup(trials)), space=space)
    return sampler, f"Gaussian process ({_count(dimensions, 'dimension')}, {_planned(trials)})"


def _gp(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    from optuna.samplers import GPSampler

    _check_installed("gp", "torch", "scipy")
    kind = "numeric dimension" if space.numeric else "dimension"
    sampler = GPSampler(seed=seed, n_startup_trials=startup(trials), warn_independent_sampling=not space.has_branches)
    drawn = "; what stands in branches is drawn at random" if space.has_branches else ""
    return sampler, f"Gaussian process ({_count(len(space.searched), kind)}, {_planned(trials)}{drawn})"


def _tpe(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    return _tpe_sampler(seed, trials), f"{_count(len(space.searched), 'dimension')}, {_planned(trials)}"


def _tpe_sampler(seed: int | None, trials: int | None) -> BaseSampler:
    from optuna.samplers import TPESampler

    # No `group`: `Whole` asks for each branch by itself.
    return TPESampler(seed=seed, n_startup_trials=startup(trials), multivariate=True)


def _nsga2(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    from optuna.samplers import NSGAIISampler

    size = 50 if trials is None else min(50, max(8, trials // 5))
    return NSGAIISampler(seed=seed, population_size=size), f"generations of {size}, {_planned(trials)}"


def _cmaes(space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    from optuna.samplers import CmaEsSampler

    _check_installed("cmaes", "cmaes")
    return CmaEsSampler(seed=seed), f"{len(space.searched)} numeric dimensions, {_planned(trials)}"


def _of_extension(name: str, space: Space, seed: int | None, trials: int | None) -> tuple[BaseSampler, str]:
    sampler, why = load(FOREIGN[name])(space, seed, trials)
    return sampler, f"{why} ({_count(len(space.searched), 'dimension')}, {_planned(trials)})"


SEARCHES: dict[str, _Make] = {
    "bayes": _bayes,
    "grid": _grid,
    "random": _random,
    "qmc": _qmc,
    "tpe": _tpe,
    "gp": _gp,
    "cmaes": _cmaes,
    "nsga2": _nsga2,
    "pbt": _random,  # of the first generation; the next ones follow from it
    **{name: functools.partial(_of_extension, name) for name in FOREIGN},
}


_FOR_ONE = ("cmaes", "pbt", *FOREIGN)  # metric; "bayes" is TPE where there are several

# A grid draws nothing; the points of a Sobol sequence belong together by its seed.
_SEEDED_AS_A_WHOLE = ("grid", "qmc")


def startup(trials: int | None) -> int:
    """How many random trials come before the first that a model proposes.

    A quarter of the trials, from 4 to 10: Optuna's 10 would leave a study of 12 trials nearly random. 10 where the
    number of trials is not known.
    """
    return 10 if trials is None else min(10, max(4, trials // 4))


def warm_up(budget: Budget) -> int:
    """The number of reports that every trial may make before it is judged.

    A sixth of the epochs, rounded up, never fewer than three epochs; three where the epochs are not known.
    """
    return reports_in(warm_up_epochs(budget), budget)


def warm_up_epochs(budget: Budget) -> int:
    """The number of epochs in which they are made."""
    return max(WARM_UP_EPOCHS, math.ceil((budget.epochs or 0) / WARM_UP_SHARE))


def reports_in(epochs: int, budget: Budget) -> int:
    """After how many reports, at least one, so many epochs have been trained."""
    return max(1, math.ceil(round(epochs * budget.reports_per_epoch, 4)))  # the number of reports may be a little off


def make_stopper(stopper: str | BasePruner | None, budget: Budget) -> BasePruner:
    """Make the pruner that a stopping rule means.

    The steps that trials report count the reports: 1, 2, 3 and so on. The named rules judge from report `warm_up` on,
    and never at the last one, where nothing is left to save.

    Args:
        stopper: ``"median"`` (worse than half of the finished trials, once there are five), any Optuna pruner as it
            is, or None: every trial trains to its end. Where trials pause, no pruner stops any.
        budget: How long a trial may train.

    Raises:
        ValueError: The name is unknown.
    """
    from optuna.pruners import BasePruner, NopPruner

    from tunehook.search.guard import Guarded

    if stopper in (None, *PAUSING, AUTO):
        return NopPruner()
    if isinstance(stopper, BasePruner):
        return stopper
    check_name("stopper", stopper, STOPPER_NAMES, "any Optuna pruner")
    return Guarded(STOPPERS[stopper](budget), first=warm_up(budget), last=budget.reports)


def _median(budget: Budget) -> BasePruner:
    from optuna.pruners import MedianPruner

    return MedianPruner(n_warmup_steps=warm_up(budget))  # judges the step `n_warmup_steps` itself


# Stop trials by Optuna's pruners.
STOPPERS: dict[str, Callable[[Budget], Any]] = {"median": _median}
# Let them pause, and go on later, by the rules of `tunehook.search.rungs`; no pruner stops any.
ASHA, HYPERBAND, PAUSE = PAUSING = ("asha", "hyperband", "pause")
# Lets them pause where that is known to pay: see `tunehook.search.Method`.
AUTO = "auto"
STOPPER_NAMES = (*STOPPERS, *PAUSING, AUTO)


def check_name(role: str, name: object, names: Iterable[str], other: str) -> None:
    """Check that a method exists.

    Args:
        role: What it is, for the message.
        name: Its name.
        names: All names.
        other: What can be given in place of a name.

    Raises:
        ValueError: It does not.
    """
    known = list(names)
    if name in known:
        return
    hint = did_you_mean(near(str(name).lower(), known, most=2))
    raise ValueError(f"There is no {role} {name!r}.{hint} There are {', '.join(map(repr, known))}, and {other}.")


def _check_installed(search: str, *modules: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ModuleNotFoundError(
            f"The search '{search}' needs {' and '.join(missing)}: pip install {' '.join(missing)}, "
            "or use search='bayes', which does without.",
            name=missing[0],
        )


def _planned(trials: int | None) -> str:
    return "number of trials unknown" if trials is None else _count(trials, "trial")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
