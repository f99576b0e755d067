"""People who come from other libraries: one line for each of their words."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import optuna
import pytest

import tunehook as th
from tunehook.system import foreign

SPACE = {"lr": th.Float(1e-4, 1e-1, log=True)}
STUDY = {"metric": "acc", "mode": "max", "search": "random"}


def train() -> None:
    """Train nothing."""


def study(**options: Any) -> th.Study:
    """A study that nothing is asked of."""
    return th.Study("s", SPACE, **{**STUDY, **options})


def optimize(*args: Any, **options: Any) -> None:
    """A call of `Study.optimize`."""
    study().optimize(train, *args, **options)


any_float: Any = th.Float
any_int: Any = th.Int
any_choice: Any = th.Choice
any_study: Any = th.Study

TAKES = (
    "It takes name, space, metric, mode, search, stopper, objective, storage, seed, recorders, folder, max_failures, "
    "snapshots, secrets, keep, constraints."
)
CALLS: list[tuple[Any, str]] = [
    (lambda: any_study(study_name="x", direction="maximize"), "study_name is called name here: Study('x', ...)"),
    (lambda: study(direction="maximize"), "direction is called mode here: Study(..., mode='max')"),
    (lambda: study(sampler="tpe"), "sampler is called search here: Study(..., search='tpe')"),
    (lambda: study(pruner="median"), "pruner is called stopper here: Study(..., stopper='median')"),
    (
        lambda: study(load_if_exists=True),
        "load_if_exists is not needed here: the same name and space open the same study again",
    ),
    (lambda: study(max_trials=3), "max_trials is called trials here: study.optimize(train, trials=3)"),
    (lambda: study(metrik="acc"), f"Study has no argument 'metrik'. Did you mean metric? {TAKES}"),
    (lambda: study(zzz=3), f"Study has no argument 'zzz'. {TAKES}"),
    (
        lambda: any_study("s", SPACE, "acc", "max"),
        "Study has the positional arguments name and space; all else goes by name, such as metric='acc', mode='max'",
    ),
    (lambda: optimize(n_trials=30), "n_trials is called trials here: study.optimize(train, trials=30)"),
    (lambda: optimize(n_jobs=4), "n_jobs is called workers here: study.optimize(train, trials=30, workers=4)"),
    (
        lambda: optimize(show_progress_bar=True),
        "show_progress_bar is called progress here: study.optimize(train, trials=30, progress=True)",
    ),
    (lambda: optimize(callbacks=[print]), "callbacks is called recorders here: Study(..., recorders=[...])"),
    (
        lambda: optimize(trails=3),
        (
            "study.optimize has no argument 'trails'. Did you mean trials or train? It takes train, trials, timeout, "
            "progress, workers, gpus_per_trial, retries, report_timeout, launcher."
        ),
    ),
    (
        lambda: optimize(100),
        "study.optimize has the positional argument train; all else goes by name, such as trials=100",
    ),
    (lambda: any_choice(32, 64), "Choice takes one list of options: Choice([32, 64])"),
    (lambda: any_choice(choices=["a", "b"]), "choices is called options here: Choice(['a', 'b'])"),
    (lambda: any_int(min_value=3, max_value=4), "min_value is called low here"),
    (lambda: any_float(0, 1, q=0.5), "q is called step here: step=0.5"),
    (
        lambda: any_float("lr", 1e-4, 1e-1),
        "Float takes low and high: the name is the key in the space, as in {'lr': Float(0.0001, 0.1)}",
    ),
    (
        lambda: any_float(0, 1, True),
        "Float has the positional arguments low and high; all else goes by name, such as log=True",
    ),
    (lambda: any_float(0, 1, lg=True), "Float has no argument 'lg'. Did you mean log? It takes low, high, log, step."),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message[:40] for _, message in CALLS])
def test_arguments(call: Any, message: str) -> None:
    """A foreign or mistyped argument is a TypeError of one line, with ours in it."""
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        call()


ATTRIBUTES: list[tuple[Any, str, str]] = [
    (
        th,
        "TuneCallback",
        "write from tunehook.integrations.lightning import TuneCallback (or tunehook.integrations.keras)",
    ),
    (th, "create_study", "write Study('digits', {'lr': Float(1e-4, 1e-1, log=True)}, metric='val_acc', mode='max')"),
    (th, "LogUniform", "write Float(low, high, log=True)"),
    (th, "loguniform", "write Float(low, high, log=True)"),
    (th, "IntDistribution", "write Int(low, high)"),
    (th, "TPESampler", "write Study(..., search='tpe')"),
    (study(), "best_trial", "write study.best"),
    (study(), "trials_dataframe", "write study.dataframe()"),
    (study(), "enqueue_trial", "write study.enqueue({'lr': 0.01})"),
]


@pytest.mark.parametrize(("owner", "name", "way_out"), ATTRIBUTES, ids=[name for _, name, _ in ATTRIBUTES])
def test_attributes(owner: Any, name: str, way_out: str) -> None:
    """A foreign attribute is an AttributeError of one line, with ours in it."""
    who = "module 'tunehook'" if owner is th else "a study"
    with pytest.raises(AttributeError, match=f"^{re.escape(f'{who} has no attribute {name!r}; {way_out}')}$"):
        getattr(owner, name)


def test_attributes_of_a_trial() -> None:
    """Optuna's way to get values and to report is told as ours."""
    trial: Any = study().ask()
    message = "a trial has no attribute 'should_prune'; TuneCallback stops, by the rule of Study(..., stopper='median')"
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}$"):
        trial.should_prune()
    with pytest.raises(AttributeError, match=r"^a trial has no attribute 'suggest_float'; write trial\.params"):
        trial.suggest_float("lr", 0, 1)


def test_near_names() -> None:
    """A mistyped attribute is told with the nearest that there is; one that fits nothing is told bare."""
    opened: Any = study()
    with pytest.raises(
        AttributeError, match=r"^a study has no attribute 'best_parms'\. Did you mean best_params or best_trials\?$"
    ):
        opened.best_parms  # noqa: B018 - raises
    with pytest.raises(AttributeError, match=r"^a study has no attribute 'xyz'$"):
        opened.xyz  # noqa: B018 - raises


def test_an_error_in_a_property_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A property that raises an AttributeError is not told as missing."""
    monkeypatch.setattr(th.Study, "finished", property(lambda self: None.nothing))  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'nothing'"):
        study().finished  # noqa: B018 - raises


def test_signatures_stay() -> None:
    """What editors and help() show are the arguments themselves."""
    assert [*inspect.signature(th.Study).parameters][:4] == ["name", "space", "metric", "mode"]
    assert [*inspect.signature(th.Study.optimize).parameters][:3] == ["self", "train", "trials"]
    assert [*inspect.signature(th.Float).parameters] == ["low", "high", "log", "step"]
    assert "trials: How many trials" in (th.Study.optimize.__doc__ or "")


def test_copies() -> None:
    """What says which attribute is missing lets copies and pickles be made."""
    opened = study()
    trial = opened.ask()
    assert pickle.loads(pickle.dumps(trial)) == copy.deepcopy(trial) == trial
    assert pickle.loads(pickle.dumps(opened)).name == copy.copy(opened).name == "s"


def test_foreign_words_are_none_of_ours() -> None:
    """No entry of the tables hides an argument or attribute that exists, here or in a later version."""
    for words, owner in ((foreign.STUDY, th.Study.__init__), (foreign.OPTIMIZE, th.Study.optimize)):
        ours = {name.replace("_", "") for name in inspect.signature(owner).parameters}
        assert not ours & words.keys() - {"objective"}
    for words, names in (
        (foreign.RESULTS, dir(th.Study)),
        (foreign.TRIAL, dir(th.Trial)),
        (foreign.MODULE, th.__all__),
    ):
        ours = {name.replace("_", "").lower() for name in names if not name.startswith("_")}
        assert not ours & words.keys()


def test_what_optuna_calls_it_is_in_the_tables() -> None:
    """Each argument of Optuna's that is none of ours is answered."""
    theirs = {*inspect.signature(optuna.create_study).parameters} - {"storage", "study_name"}
    missing = [name for name in theirs if name.replace("_", "") not in foreign.STUDY]
    theirs = {*inspect.signature(optuna.Study.optimize).parameters} - {"self", "timeout"}
    assert missing + [name for name in theirs if name.replace("_", "") not in foreign.OPTIMIZE] == []
