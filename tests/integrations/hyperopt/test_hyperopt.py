"""Hyperopt's algorithms behind a study, and its spaces made into ours: with the real package."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hyperopt import Trials, fmin, hp, tpe
from optuna.storages import InMemoryStorage

import tunehook as th
from tunehook.extensions import SEARCHES
from tunehook.integrations.hyperopt import HyperoptSampler, space
from tunehook.search import make_sampler
from tunehook.space import Choice, Fixed, Float, Int, LogNormal, Normal, Space, SpaceError
from tunehook.trial import Budget, Outcome

SGD = {"lr": Float(1e-3, 1, log=True), "momentum": Float(0, 0.99), "nesterov": Choice([True, False])}
SPACE = {
    "optimizer": Choice({"sgd": SGD, "adam": {"lr": Float(1e-5, 1e-2, log=True)}}), "width": Int(1, 100),
    "units": Int(1, 64, log=True), "heads": Int(2, 8, step=2), "drop": Float(0, 1, step=0.25), "noise": Normal(0, 1),
    "seed": Int(0, 10**6), "only": Choice([5]),
}  # fmt: skip


def loss(params: Any) -> float:
    """Best with some momentum."""
    return float(abs(params["width"] - 20) / 20 + abs(params.get("momentum", 0.0) - 0.8))


def a_study(search: str = "hyperopt", given: Any = SPACE, **options: Any) -> th.Study:
    """A study in memory."""
    return th.Study("hyper", given, metric="loss", mode="min", search=search,
                    **{"seed": 3, "storage": InMemoryStorage(), **options})  # fmt: skip


def run(study: th.Study, trials: int) -> list[dict[str, Any]]:
    """Ask for trials and tell them."""
    found = []
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, Outcome("complete", value=loss(trial.params)))
        found.append(dict(trial.params))
    return found


@pytest.mark.parametrize("search", SEARCHES)
def test_a_seeded_study_is_gone_on_with(search: str) -> None:
    """Each algorithm draws what exists, inside the space, the same after a restart; enqueued values are kept."""
    trials = 8 if search == "hyperopt-atpe" else 25
    whole_space = Space(SPACE, where=lambda params: params["width"] * params["lr"] < 20)
    whole = a_study(search, whole_space)
    storage = InMemoryStorage()
    for study in (whole, a_study(search, whole_space, storage=storage)):
        study.enqueue({"optimizer": "adam", "width": 7})
    state, numbers = random.getstate(), repr(np.random.get_state())
    found = run(whole, trials)
    assert random.getstate() == state
    assert repr(np.random.get_state()) == numbers
    parts = [run(a_study(search, whole_space, storage=storage), many) for many in (trials - 4, 1, 3)]
    assert [params for part in parts for params in part] == found
    assert (found[0]["optimizer"], found[0]["width"]) == ("adam", 7)
    assert len({json.dumps(params) for params in found}) > trials / 2
    for params in found:
        names = [name for name in whole_space.names if params["optimizer"] == "sgd" or name not in list(SGD)[1:]]
        assert list(params) == names
        assert whole_space.decode(whole_space.encode(params)) == params
        assert params["width"] * params["lr"] < 20


def test_it_is_ahead_of_random_search() -> None:
    """TPE and annealing learn what the study measures, also where more is better."""
    best: dict[str, float] = {}
    for search in ("hyperopt", "hyperopt-anneal", "random"):
        studies = [a_study(search, {"x": Float(-1, 1), "y": Float(1e-4, 1, log=True)}, seed=seed) for seed in range(4)]
        for study in studies:
            study = th.Study("more", study.space, metric="acc", mode="max", search=search, seed=study._method.seed,
                             storage=InMemoryStorage(), folder=f"{search}-{study._method.seed}")  # fmt: skip
            for _ in range(40):
                trial = study.ask()
                x, y = trial.params["x"], math.log10(trial.params["y"])
                study.tell(trial, Outcome("complete", value=-((x - 0.3) ** 2) - ((y + 2) / 4) ** 2))
            best[search] = best.get(search, 0.0) + study.best_value
    assert best["hyperopt"] > best["random"] / 2
    assert best["hyperopt-anneal"] > best["random"] / 2


def test_tpe_is_that_of_hyperopt() -> None:
    """With the same trials before and the same seed, it proposes what Hyperopt's own loop does."""
    tree = {"x": hp.uniform("x", -1, 1), "n": hp.choice("n", [0, 1, 2])}
    trials = Trials()
    fmin(lambda point: point["x"] ** 2 + point["n"], tree, algo=tpe.suggest, max_evals=25, trials=trials,
         rstate=np.random.default_rng(0), show_progressbar=False, verbose=False)  # fmt: skip
    sampler = HyperoptSampler(space(tree), seed=5)
    study = optuna.create_study(sampler=sampler)
    distributions = space(tree).distributions()
    for one in trials.trials:
        params = {name: values[0] for name, values in one["misc"]["vals"].items()}
        params["n"] = int(params["n"])
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, value=one["result"]["loss"]))
    asked = study.ask(distributions).params
    from hyperopt.base import Domain

    dice = np.random.default_rng(5)
    dice.integers(2**32)
    (theirs,) = tpe.suggest([25], Domain(lambda _: 0.0, tree), trials, int(dice.integers(2**31 - 1)), verbose=False)
    assert asked == {"x": theirs["misc"]["vals"]["x"][0], "n": int(theirs["misc"]["vals"]["n"][0])}


def test_stopped_and_infeasible_trials_are_learned_from() -> None:
    """A stopped one counts with its last value, raised by what finished ones gained; an infeasible one as the worst."""
    study = a_study("hyperopt", {"x": Float(0, 1)}, stopper="median")
    seen: list[list[float]] = []
    asked = study.ask()
    below = study._ledger.study
    sampler: Any = below.sampler
    made = sampler.inner(below, below.trials[0])
    assert isinstance(made, HyperoptSampler)
    for state, values in (("complete", (4.0, 1.0)), ("pruned", (3.0,)), ("infeasible", (9.0,))):
        for step, value in enumerate(values, start=1):
            study.report(asked, step, value, Budget(2))
        study.tell(asked, Outcome(state, value=values[-1]))  # type: ignore[arg-type]
        asked = study.ask()

    def propose(_: int, known: Any) -> dict[str, float]:
        seen.append([one[1] for one in known])
        return {"x": 0.5}

    object.__setattr__(made._search, "propose", propose)
    assert made.sample_relative(below, below.trials[-1], {}) == {"x": 0.5}
    assert seen == [[1.0, 0.0, 1.0]]  # the loss fell by 3 from step 1


def test_workers(tmp_path: Path) -> None:
    """A study in processes of their own, with the SQLite file: as many trials as were asked for, all different."""
    (tmp_path / "script.py").write_text(
        "import tunehook as th\n"
        "def train():\n    return {'loss': abs(th.value('x', 0.5) - 0.25)}\n"
        "if __name__ == '__main__':\n"
        "    study = th.Study('hyper', {'x': th.Float(0, 1)}, metric='loss', mode='min', search='hyperopt', seed=1)\n"
        "    study.optimize(train, trials=12, workers=2, progress=False)\n"
        "    assert study.counts() == {'complete': 12}\n"
        "    assert len({trial.params['x'] for trial in study.trials}) == 12\n"
    )
    subprocess.run([sys.executable, "script.py"], check=True, cwd=tmp_path)


# ------------------------------------------------------------------ its spaces

TREE = {
    "lr": hp.loguniform("lr", math.log(1e-4), 0), "drop": hp.quniform("drop", 0, 0.5, 0.1), "epochs": 10,
    "net": {"width": hp.qloguniform("width", 0, math.log(64), 1), "act": hp.choice("act", ["relu", None])},
    "mu": hp.normal("mu", 0, 2), "step": hp.qnormal("step", 0, 2, 0.5), "wd": hp.lognormal("wd", -9, 1),
    "q": hp.qlognormal("q", 0, 1, 2), "n": hp.randint("n", 5), "m": hp.randint("m", 2, 5),
    "i": hp.uniformint("i", 1, 4),
    "classifier": hp.choice("classifier", [
        {"type": "bayes"},
        {"type": "svm", "C": hp.uniform("svm_C", 0.1, 10), "shrink": True, "kernel": hp.choice("kernel", [
            {"k": "linear"}, {"k": "rbf", "width": hp.uniform("rbf_width", 0.1, 1)},
        ])},
        {"type": "tree", "depth": hp.uniformint("depth", 1, 8)},
    ]),
}  # fmt: skip


def test_a_space_of_hyperopt() -> None:
    """Each kind has its equal, the names are the labels, and a branch is called by its first text."""
    svm = {
        "svm_C": Float(0.1, 10),
        "shrink": True,
        "kernel": Choice({"linear": {}, "rbf": {"rbf_width": Float(0.1, 1)}}),
    }
    made = space(TREE)
    assert made == Space(
        {
            "lr": Float(math.exp(math.log(1e-4)), 1, log=True), "drop": Float(0, 0.5, step=0.1), "epochs": 10,
            "width": Int(1, 64, log=True), "act": Choice(["relu", None]), "mu": Normal(0, 2),
            "step": Normal(0, 2, step=0.5), "wd": LogNormal(-9, 1), "q": LogNormal(0, 1, step=2), "n": Int(0, 4),
            "m": Int(2, 4), "i": Int(1, 4),
            "classifier": Choice({"bayes": {}, "svm": svm, "tree": {"depth": Int(1, 8)}}),
        }
    )  # fmt: skip
    study = a_study("hyperopt", made)
    for _ in range(6):
        params = study.ask().params
        assert ("svm_C" in params) == (params["classifier"] == "svm")
    assert space(hp.choice("a", [0, {"b": hp.uniform("b", 0, 1)}])) == Space(
        {"a": Choice({0: {}, 1: {"b": Float(0, 1)}})}
    )
    assert space({"one": hp.randint("one", 1)}) == Space({"one": Fixed(0)})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"p": hp.pchoice("p", [(0.2, 1), (0.8, 2)])},
            "hp.pchoice of 'p' of the Hyperopt space has no equal here: it t",
        ),
        (
            {"p": hp.uniform("p", 0, 1) + 1},
            "the expression 'add' of the Hyperopt space has no equal here: it takes hp.ch",
        ),
        (
            {"a": hp.uniform("a", 0, 1), "b": hp.choice("b", [{"a": 3, "c": hp.uniform("c", 0, 1)}])},
            "Hyperparameter 'a' stands twice in the space, at the top and where b is 0, and both may exist at once",
        ),
        ({"x": hp.normal("x", 1, 0)}, "'x' of the Hyperopt space: Normal needs sigma > 0, got sigma=0.0: use a plain"),
    ],
)
def test_what_has_no_equal(tree: Any, message: str) -> None:
    """It is told by its label, with the way out."""
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}"):
        space(tree)


def test_what_is_missing_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, that of adaptive TPE, and an algorithm that is none."""
    with pytest.raises(ValueError, match=r"^algorithm is one of 'tpe', 'anneal', 'atpe', 'random'; got 'byes'.$"):
        HyperoptSampler(Space({"x": Float(0, 1)}), algorithm="byes")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = r"^The adaptive TPE of Hyperopt needs lightgbm and sklearn: pip install 'hyperopt\[atpe\]', or use search='h"
    with pytest.raises(ModuleNotFoundError, match=said):
        make_sampler("hyperopt-atpe", Space({"x": Float(0, 1)}))


def test_without_hyperopt() -> None:
    """It says what to install."""
    code = """
import sys
sys.modules["hyperopt"] = None
import tunehook as th
from optuna.storages import InMemoryStorage
th.Study("s", {"x": th.Float(0, 1)}, metric="v", mode="min", search="hyperopt", storage=InMemoryStorage()).ask()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    said = "ModuleNotFoundError: The searches of Hyperopt need the package hyperopt: pip install 'tunehook[hyperopt]'"
    assert said in done.stderr
