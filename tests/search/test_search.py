"""Search methods, the exact grid, stoppers and their warm-ups, on real Optuna studies."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import math
import multiprocessing
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, PercentilePruner
from optuna.samplers import RandomSampler, TPESampler

from tunehook.search.bayes import GaussianProcessSampler
from tunehook.search.grid import GridSampler
from tunehook.search.guard import Guarded
from tunehook.search.samplers import STOPPERS, make_sampler, make_stopper, startup, warm_up
from tunehook.space import Choice, Float, Int, LogNormal, Normal, SpaceError
from tunehook.space.space import GridExhausted, Space
from tunehook.trial.values import Budget

MIXED = Space(
    {
        "lr": Float(1e-4, 1e-1, log=True),
        "hidden": Int(16, 64, log=True, step=16),
        "betas": Choice([[0.9, 0.99], [0.8, 0.9]]),
        "odd": Choice([1, True]),
        "wd": Normal(0, 1),
        "seed": 1,
    }
)
NUMBERS = Space({"lr": Float(1e-4, 1e-1, log=True), "hidden": Int(16, 64), "wd": LogNormal(0, 1)})
GRID = Space({"a": Choice([[1], [2], None]), "b": Int(1, 4), "c": Float(0.1, 0.2, step=0.1), "k": "fixed"})  # 24


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Optuna logs nothing below errors."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def ask(study: optuna.Study, space: Space) -> dict[str, Any]:
    """Ask for a trial, tell it, and give its values."""
    trial = study.ask(space.distributions())
    values = space.decode(trial.params)
    study.tell(trial, sum(float(value) for value in values.values() if isinstance(value, int | float)))
    return values


# ------------------------------------------------------------------ samplers


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("name", ["random", "qmc", "bayes", "tpe", pytest.param("gp", marks=pytest.mark.slow)])
def test_every_search_samples_a_mixed_space(name: str, seed: int | None) -> None:
    """Fifteen trials of each method lie in the space, with no warning on the way."""
    sampler, text = make_sampler(name, MIXED, seed=seed, trials=15)
    assert text.startswith(f"{name}: ")
    assert "\n" not in text
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(MIXED.encode({"betas": [0.8, 0.9], "wd": 0.25}))
    values = [ask(study, MIXED) for _ in range(15)]
    assert (values[0]["betas"], values[0]["wd"]) == ([0.8, 0.9], 0.25)
    assert all(1e-4 <= v["lr"] <= 1e-1 and v["hidden"] in (16, 32, 48, 64) and v["seed"] == 1 for v in values)
    assert len({repr(v) for v in values}) >= 8  # a model may propose a corner again


def test_cmaes_samples_numbers() -> None:
    """CMA-ES takes ints, floats and distributions that are not uniform."""
    pytest.importorskip("cmaes")
    sampler, text = make_sampler("cmaes", NUMBERS, seed=1, trials=15)
    assert text == "cmaes: 3 numeric dimensions, 15 trials"
    study = optuna.create_study(sampler=sampler)
    assert len({ask(study, NUMBERS)["lr"] for _ in range(15)}) == 15


@pytest.mark.parametrize("name", ["random", "tpe", "qmc", "bayes"])
def test_a_seed_gives_the_same_trials(name: str) -> None:
    """Two studies with one seed sample the same."""
    runs = []
    for _ in range(2):
        study = optuna.create_study(sampler=make_sampler(name, NUMBERS, seed=7, trials=12)[0])
        runs.append([ask(study, NUMBERS) for _ in range(8)])
    assert runs[0] == runs[1]


def wide(number: int) -> Space:
    """A space of numbers."""
    return Space({f"x{index}": Float(0, 1) for index in range(number)})


@pytest.mark.parametrize(
    ("space", "trials", "kind", "text"),
    [
        (NUMBERS, 30, GaussianProcessSampler, "bayes: Gaussian process (3 dimensions, 30 trials)"),
        (wide(1), 1, GaussianProcessSampler, "bayes: Gaussian process (1 dimension, 1 trial)"),
        (MIXED, None, GaussianProcessSampler, "bayes: Gaussian process (5 dimensions, number of trials unknown)"),
        (wide(50), 2000, GaussianProcessSampler, "bayes: Gaussian process (50 dimensions, 2000 trials)"),
        (wide(51), 30, TPESampler, "bayes: TPE (51 dimensions are more than the 50 that suit a Gaussian process)"),
    ],
)
def test_bayes_chooses_by_the_space(space: Space, trials: int | None, kind: type, text: str) -> None:
    """A Gaussian process, whatever the kinds of hyperparameters; TPE for very many; and it says why."""
    sampler, said = make_sampler("bayes", space, trials=trials)
    assert (type(sampler), said) == (kind, text)


@pytest.mark.parametrize(("trials", "expected"), [(None, 10), (1, 4), (12, 4), (20, 5), (30, 7), (40, 10), (1000, 10)])
def test_startup_follows_from_the_budget(trials: int | None, expected: int) -> None:
    """A quarter of the trials is random, from 4 to 10."""
    assert startup(trials) == expected


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make modules look as if they were not installed."""
    real = importlib.util.find_spec

    def hide(*names: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else real(name))

    return hide


@pytest.mark.parametrize(("search", "module"), [("gp", "torch"), ("qmc", "scipy"), ("cmaes", "cmaes")])
def test_missing_packages_are_named(search: str, module: str, without: Any) -> None:
    """A method whose package is missing says what to install."""
    without(module)
    message = f"The search '{search}' needs {module}: pip install {module}, or use search='bayes', which does without."
    with pytest.raises(ModuleNotFoundError, match=f"^{re.escape(message)}$"):
        make_sampler(search, NUMBERS)


def test_bayes_does_without_torch() -> None:
    """Asking for trials of the default search imports none."""
    code = """
import sys
import tunehook as th
from optuna.storages import InMemoryStorage
study = th.Study("s", {"x": th.Float(0, 1)}, metric="v", mode="min", storage=InMemoryStorage())
for number in range(12):
    trial = study.ask()
    study.tell(trial, th.Outcome("complete", value=trial.params["x"]))
assert "torch" not in sys.modules
assert study.best.value < 0.05
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            MIXED,
            "The search 'cmaes' is for numbers only, but 'betas', 'odd' is a Choice: use search='bayes', or fix it.",
        ),
        (
            Space({"a": Int(1, 2)}),
            "The search 'cmaes' needs two hyperparameters or more, got Space({'a': Int(1, 2)}): use search='bayes'.",
        ),
    ],
)
def test_cmaes_refuses_what_it_cannot_search(space: Space, message: str) -> None:
    """Choices and single dimensions are errors, not other methods in disguise."""
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        make_sampler("cmaes", space)


WIDE = {
    "int": Int(0, 2**31 - 1),
    "log": Int(1, 2**53, log=True),
    "float": Float(0, 1, step=1e-9),
}


@pytest.mark.parametrize("wide", WIDE.values(), ids=WIDE)
def test_a_gaussian_process_lists_no_wide_numbers(wide: Float | Int) -> None:
    """Its proposals take memory for none of their values, and lie on the grid."""
    space = Space({"lr": Float(1e-4, 1e-1, log=True), "seed": wide})
    sampler, text = make_sampler("bayes", space, seed=1, trials=8)
    assert text == "bayes: Gaussian process (2 dimensions, 8 trials)"
    study = optuna.create_study(sampler=sampler)
    for values in [ask(study, space) for _ in range(8)]:
        assert space.decode(space.encode(values)) == values
        assert isinstance(values["seed"], type(wide.high))


def test_any_sampler_is_taken() -> None:
    """An Optuna sampler is used as it is."""
    sampler = RandomSampler()
    assert make_sampler(sampler, MIXED) == (sampler, "")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "byes",
            (
                "There is no search method 'byes'. Did you mean 'bayes'? There are 'bayes', 'grid', 'random', "
                "'qmc', 'tpe', 'gp', 'cmaes', 'nsga2', 'pbt', 'hyperopt', 'hyperopt-anneal', 'hyperopt-atpe', "
                "'hyperopt-random', and any Optuna sampler."
            ),
        ),
        (
            None,
            (
                "There is no search method None. There are 'bayes', 'grid', 'random', 'qmc', 'tpe', 'gp', "
                "'cmaes', 'nsga2', 'pbt', 'hyperopt', 'hyperopt-anneal', 'hyperopt-atpe', 'hyperopt-random', "
                "and any Optuna sampler."
            ),
        ),
    ],
)
def test_unknown_searches(name: Any, message: str) -> None:
    """An unknown name lists the names."""
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_sampler(name, MIXED)


def test_names_are_cheap() -> None:
    """The names of the methods are known without loading Optuna."""
    code = "import sys; from tunehook.search import SEARCHES, STOPPERS; print('optuna' in sys.modules)"
    path = str(Path(sys.modules["tunehook"].__path__[0]).parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert (done.stdout, done.stderr) == ("False\n", "")


# ------------------------------------------------------------------ the grid


def grid_study(storage: str | None = None, *, pruner: BasePruner | None = None) -> optuna.Study:
    """A study with the grid, made or joined."""
    return optuna.create_study(
        study_name="grid", storage=storage, sampler=GridSampler(GRID), pruner=pruner, load_if_exists=True
    )


def worker(storage: str, limit: int = 100) -> list[str]:
    """Take combinations until there are no more."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = grid_study(storage)
    taken: list[str] = []
    while len(taken) < limit:
        try:
            taken.append(repr(ask(study, GRID)))
        except GridExhausted:
            break
    return taken


ALL = sorted(repr(GRID.grid_point(index)) for index in range(GRID.grid_size()))


def test_grid_text() -> None:
    """The grid tells its size, and how much of it a small budget tries."""
    assert make_sampler("grid", GRID)[1] == "grid: 24 combinations"
    assert make_sampler("grid", GRID, trials=5)[1] == "grid: 24 combinations, of which the first 5 are tried"
    with pytest.raises(SpaceError, match="infinitely many for 'x0'"):
        make_sampler("grid", wide(1))


def test_grid_goes_through_all_in_order() -> None:
    """Each combination comes once, in the order of the space; then the end is an error, and leaves nothing running."""
    study = grid_study()
    sampler = study.sampler
    assert isinstance(sampler, GridSampler)
    assert sampler.remaining(study) == 24
    assert [ask(study, GRID) for _ in range(24)] == [GRID.grid_point(index) for index in range(24)]
    assert sampler.remaining(study) == 0
    message = "All 24 combinations of the grid have been handed out, there is none for trial 24.\n"
    with pytest.raises(GridExhausted, match=f"^{re.escape(message)}"):
        study.ask(GRID.distributions())
    assert study.trials[-1].state == optuna.trial.TrialState.FAIL
    assert sampler.remaining(study) == 0


def test_grid_works_by_suggesting() -> None:
    """Define-by-run gives the same combinations; a name that the grid lacks is an error."""
    study = grid_study()
    trial = study.ask()
    assert trial.suggest_int("b", 1, 4) == 1
    with pytest.raises(SpaceError, match="The grid has no 'z'"):
        trial.suggest_float("z", 0, 1)


@pytest.mark.slow
def test_grid_is_resumed_with_enqueued_trials_between(tmp_path: Path) -> None:
    """On a study that is opened again, enqueued trials take no combination away and none comes twice."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    taken = worker(storage, 7)
    study = grid_study(storage)
    extra = {"a": [2], "b": 4, "c": 0.2, "k": "fixed"}
    for _ in range(3):
        study.enqueue_trial(GRID.encode(extra))
    taken += worker(storage, 10)
    study.enqueue_trial(GRID.encode(extra))
    taken += worker(storage)
    assert Counter(taken) - Counter([repr(extra)] * 4) == Counter(ALL)


def test_grid_keeps_the_combination_of_a_lost_trial() -> None:
    """A trial that was killed before its values were stored has its combination by its number."""
    study = grid_study()
    study.ask()
    study.enqueue_trial(GRID.encode(GRID.grid_point(5)))
    ask(study, GRID)
    assert ask(study, GRID) == GRID.grid_point(1)
    assert isinstance(study.sampler, GridSampler)
    assert study.sampler.point(study, 0) == GRID.grid_point(0)


def test_grid_and_retries_of_optuna() -> None:
    """A retry takes the values of the trial that it repeats and no combination of its own."""
    study = grid_study()
    ask(study, GRID)
    study.ask()
    marks = {"failed_trial": 1, "retry_history": [1]}
    study.add_trial(optuna.create_trial(state=optuna.trial.TrialState.WAITING, system_attrs=marks))
    assert ask(study, GRID) == GRID.grid_point(1)
    assert ask(study, GRID) == GRID.grid_point(2)


def test_grid_wants_whole_trials() -> None:
    """An enqueued trial that leaves values open is an error, and does not stay running."""
    study = grid_study()
    study.enqueue_trial(GRID.encode({"b": 1}))
    message = "A trial that is enqueued in a grid gives every value, missing: a, c.\n  Add them, or use another search."
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        study.ask(GRID.distributions())
    assert study.trials[0].state == optuna.trial.TrialState.FAIL


def test_grid_sees_all_brackets() -> None:
    """Optuna shows samplers one bracket only under a HyperbandPruner; the grid stays exact."""
    study = grid_study(pruner=HyperbandPruner(min_resource=1, max_resource=9))
    values = []
    for _ in range(GRID.grid_size()):
        trial = study.ask(GRID.distributions())
        trial.report(0.0, 1)
        trial.should_prune()  # from the first call on there are brackets
        values.append(repr(GRID.decode(trial.params)))
        study.tell(trial, 0.0)
    assert sorted(values) == ALL


@pytest.mark.slow
def test_grid_is_exact_with_threads(tmp_path: Path) -> None:
    """Four threads with studies of their own share one SQLite file."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    grid_study(storage)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        taken = [values for future in [pool.submit(worker, storage) for _ in range(4)] for values in future.result()]
    assert sorted(taken) == ALL


@pytest.mark.slow
def test_grid_is_exact_with_processes(tmp_path: Path) -> None:
    """Two processes share one SQLite file."""
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    grid_study(storage)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        shares = [future.result() for future in [pool.submit(worker, storage) for _ in range(2)]]
    assert sorted(shares[0] + shares[1]) == ALL


def test_imported_trials() -> None:
    """A finished trial of elsewhere takes no combination away if it is marked as Optuna marks given values."""
    study = grid_study()
    raw = GRID.encode(GRID.grid_point(7))
    study.add_trial(
        optuna.create_trial(
            params=raw, distributions=GRID.distributions(), value=1.0, system_attrs={"fixed_params": raw}
        )
    )
    assert ask(study, GRID) == GRID.grid_point(0)


# ------------------------------------------------------------------ stoppers


@pytest.mark.parametrize(
    ("epochs", "per_epoch", "expected"),
    [
        (None, 1, 3),
        (None, 2, 6),
        (None, 0.5, 2),
        (1, 1, 3),
        (10, 1, 3),
        (18, 1, 3),
        (19, 1, 4),
        (52, 1, 9),
        (52, 4, 36),
        (100, 0.2, 4),
        (10, 0.1, 1),
    ],
)
def test_warm_up(epochs: int | None, per_epoch: float, expected: int) -> None:
    """A sixth of the epochs, three at least, in reports."""
    assert warm_up(Budget(epochs, per_epoch)) == expected


def curves(stopper: BasePruner, reports: int, *, trials: int, bad: float = 1.0) -> list[int]:
    """Run trials of which every second is bad from the start; the number of reports that each of them made."""
    study = optuna.create_study(study_name="curves", pruner=stopper, sampler=RandomSampler(seed=0))
    lengths = []
    for number in range(trials):
        trial = study.ask()
        level = 0.1 + 0.001 * (trials - number) if number % 2 == 0 else bad + number
        for report in range(1, reports + 1):
            trial.report(level, report)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, 1e9 if math.isnan(level) else level)
        lengths.append(report)
    return lengths


@pytest.mark.parametrize("name", STOPPERS)
@pytest.mark.parametrize("budget", [Budget(52), Budget(10), Budget(27), Budget(20, 2), Budget(40, 0.5), Budget(2)])
def test_nothing_is_stopped_in_the_warm_up(name: str, budget: Budget) -> None:
    """No trial is stopped before report `warm_up`, nor at its last one; clearly bad ones are stopped in between."""
    assert budget.reports is not None
    lengths = curves(make_stopper(name, budget), budget.reports, trials=30)
    stopped = [length for length in lengths if length < budget.reports]
    assert all(length >= warm_up(budget) for length in stopped)
    if warm_up(budget) < budget.reports:
        assert sum(length < budget.reports for length in lengths[1::2]) >= 5
        assert min(stopped) == warm_up(budget)


class Stern(BasePruner):
    """Stops whenever it is asked."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return True


@pytest.mark.parametrize(
    ("step", "last", "expected"),
    [(1, 5, False), (2, 5, False), (3, 5, True), (4, 5, True), (5, 5, False), (6, 5, False), (6, None, True)],
)
def test_guard(step: int, last: int | None, expected: bool) -> None:
    """The pruner is asked from the first report on that it may judge, and not at the last one, nor without reports."""
    study = optuna.create_study(pruner=Guarded(Stern(), first=3, last=last))
    trial = study.ask()
    assert not trial.should_prune()
    trial.report(0.0, step)
    assert trial.should_prune() is expected


@pytest.mark.parametrize("name", STOPPERS)
def test_unknown_epochs(name: str) -> None:
    """Where the epochs are not known, trials are judged from the third on."""
    lengths = curves(make_stopper(name, Budget()), 12, trials=30)
    assert min(lengths) == 3
    assert lengths[0] == 12


@pytest.mark.parametrize("name", STOPPERS)
def test_nan_is_not_stopped_in_the_warm_up(name: str) -> None:
    """NaN is judged as late as anything else."""
    lengths = curves(make_stopper(name, Budget(20)), 20, trials=14, bad=float("nan"))
    assert min(lengths) == 4


def test_any_pruner_is_taken() -> None:
    """An Optuna pruner is used as it is, and None stops nothing."""
    pruner = PercentilePruner(10.0)
    assert make_stopper(pruner, Budget(5)) is pruner
    assert isinstance(make_stopper(None, Budget(5)), NopPruner)


def test_unknown_stoppers() -> None:
    """An unknown name lists the names."""
    message = (
        "There is no stopper 'Median'. Did you mean 'median'? "
        "There are 'median', 'asha', 'hyperband', 'pause', 'auto', and any Optuna pruner."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_stopper("Median", Budget())
