"""What other libraries call it: their words, and ours, for people who come from Optuna, KerasTuner or Ray Tune."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from tunehook.system.words import did_you_mean, joined, near

_P = ParamSpec("_P")
_R = TypeVar("_R")

_VALUES = {"maximize": "max", "minimize": "min"}
# By the foreign word, in small letters and without underscores: what to write here. ``{}`` stands for the value.
STUDY = {
    "studyname": "name: Study({}, ...)",
    "projectname": "name: Study({}, ...)",
    "direction": "mode: Study(..., mode={})",
    "directions": "mode: Study(..., metric=['val_acc', 'latency'], mode=['max', 'min'])",
    "objectives": "metric: Study(..., metric=['val_acc', 'latency'], mode=['max', 'min'])",
    "sampler": "search: Study(..., search={})",
    "searchalg": "search: Study(..., search='bayes')",
    "algorithm": "search: Study(..., search='bayes')",
    "method": "search: Study(..., search={})",
    "pruner": "stopper: Study(..., stopper={})",
    "scheduler": "stopper: Study(..., stopper='asha')",
    "loadifexists": "nothing: the same name and space open the same study again",
    "overwrite": "nothing: give a new study another name",
    "monitor": "metric: Study(..., metric={})",
    "searchspace": "space: Study('digits', {'lr': Float(1e-4, 1e-1, log=True)}, ...)",
    "paramspace": "space: Study('digits', {'lr': Float(1e-4, 1e-1, log=True)}, ...)",
    "config": "space: Study('digits', {'lr': Float(1e-4, 1e-1, log=True)}, ...)",
    "hyperparameters": "space: Study('digits', {'lr': Float(1e-4, 1e-1, log=True)}, ...)",
    "directory": "folder: Study(..., folder={})",
    "storagepath": "folder: Study(..., folder={})",
    "callbacks": "recorders: Study(..., recorders=[...])",
    "loggers": "recorders: Study(..., recorders=[...])",
    "ntrials": "trials: study.optimize(train, trials={})",
    "maxtrials": "trials: study.optimize(train, trials={})",
    "numsamples": "trials: study.optimize(train, trials={})",
}
OPTIMIZE = {
    "func": "train: study.optimize(train, trials=30)",
    "objective": "train: study.optimize(train, trials=30)",
    "trainable": "train: study.optimize(train, trials=30)",
    "ntrials": "trials: study.optimize(train, trials={})",
    "maxtrials": "trials: study.optimize(train, trials={})",
    "numsamples": "trials: study.optimize(train, trials={})",
    "count": "trials: study.optimize(train, trials={})",
    "njobs": "workers: study.optimize(train, trials=30, workers={})",
    "maxconcurrenttrials": "workers: study.optimize(train, trials=30, workers={})",
    "timebudgets": "timeout: study.optimize(train, timeout={})",
    "showprogressbar": "progress: study.optimize(train, trials=30, progress={})",
    "verbose": "progress: study.optimize(train, trials=30, progress=False)",
    "callbacks": "recorders: Study(..., recorders=[...])",
    "catch": "max_failures: Study(..., max_failures=3)",
    "gcaftertrial": "nothing: workers=1 gives each trial a process of its own",
    "trialspergpu": "gpus_per_trial: study.optimize(train, trials=30, workers=8, gpus_per_trial=0.25)",
    "resourcespertrial": "gpus_per_trial: study.optimize(train, trials=30, workers=2, gpus_per_trial=1)",
}
DISTRIBUTION = {
    "name": "nothing: the name is the key in the space, as in {{{}: Float(0, 1)}}",
    "minvalue": "low",
    "maxvalue": "high",
    "min": "low",
    "max": "high",
    "lower": "low",
    "upper": "high",
    "sampling": "log: Float(1e-4, 1e-1, log=True)",
    "base": "log: Float(1e-4, 1e-1, log=True)",
    "q": "step: step={}",
    "choices": "options: Choice({})",
    "values": "options: Choice({})",
    "categories": "options: Choice({})",
    "mean": "mu: Normal(0, 1)",
    "std": "sigma: Normal(0, 1)",
    "sd": "sigma: Normal(0, 1)",
    "default": "nothing: study.enqueue({{'lr': {}}}) lets a value be tried first",
}
# Attributes of a study.
RESULTS = {
    "besttrial": "study.best",
    "bestconfig": "study.best.params",
    "getbestresult": "study.best",
    "getbesthyperparameters": "study.best.params",
    "resultssummary": "study.dataframe()",
    "trialsdataframe": "study.dataframe()",
    "gettrials": "study.trials",
    "enqueuetrial": "study.enqueue({'lr': 0.01})",
    "studyname": "study.name",
    "direction": "study.mode",
    "directions": "study.mode, and study.others",
    "paretofront": "study.best_trials",
    "run": "study.optimize(train, trials=30)",
    "fit": "study.optimize(train, trials=30)",
    "search": "study.optimize(train, trials=30)",
    "searchspacesummary": "study.space",
    "addtrial": "study.optuna.add_trial(...)",
    "userattrs": "study.optuna.user_attrs",
    "setuserattr": "study.optuna.set_user_attr(...)",
    "systemattrs": "study.optuna.system_attrs",
    "sampler": "study.optuna.sampler",
    "pruner": "study.optuna.pruner",
    "metricnames": "study.metric",
    "setmetricnames": "study.metric",
}
# Attributes of a trial.
TRIAL = {
    "suggestfloat": "trial.params['lr'], and 'lr': Float(low, high) into the space of the study",
    "suggestint": "trial.params['units'], and 'units': Int(low, high) into the space of the study",
    "suggestcategorical": "trial.params['act'], and 'act': Choice([...]) into the space of the study",
    "report": "nothing: TuneCallback reports; without it, study.report(trial, ...)",
    "shouldprune": "nothing: TuneCallback stops, by the rule of Study(..., stopper='median')",
    "config": "trial.params",
    "hyperparameters": "trial.params",
    "trialid": "trial.number",
}
_FLOAT, _LOG = "Float(low, high)", "Float(low, high, log=True)"
# Attributes of the module.
MODULE = {
    "tunecallback": "from tunehook.integrations.lightning import TuneCallback (or tunehook.integrations.keras)",
    "wandbrecorder": "from tunehook.integrations.wandb import WandbRecorder",
    "raylauncher": "from tunehook.integrations.ray import RayLauncher",
    "lightning": "import tunehook.integrations.lightning",
    "keras": "import tunehook.integrations.keras",
    "createstudy": "Study('digits', {'lr': Float(1e-4, 1e-1, log=True)}, metric='val_acc', mode='max')",
    "tuner": "Study('digits', {'lr': Float(1e-4, 1e-1, log=True)}, metric='val_acc', mode='max')",
    "loadstudy": "Study.open('digits')",
    "deletestudy": "optuna.delete_study(study_name='digits', storage=...)",
    "optimize": "study.optimize(train, trials=30)",
    "run": "study.optimize(train, trials=30)",
    "tune": "study.optimize(train, trials=30)",
    "readspace": "from tunehook.sweep import read_space",
    "randomsearch": "Study(..., search='random')",
    "gridsearch": "Choice([...]), and Study(..., search='grid')",
    "bayesianoptimization": "Study(..., search='bayes')",
    "samplers": "Study(..., search='tpe'), or a sampler of Optuna",
    "tpesampler": "Study(..., search='tpe')",
    "gpsampler": "Study(..., search='gp')",
    "randomsampler": "Study(..., search='random')",
    "gridsampler": "Study(..., search='grid')",
    "qmcsampler": "Study(..., search='qmc')",
    "cmaessampler": "Study(..., search='cmaes')",
    "pruners": "Study(..., stopper='median'), or a pruner of Optuna",
    "medianpruner": "Study(..., stopper='median')",
    "successivehalvingpruner": "Study(..., stopper='asha')",
    "ashascheduler": "Study(..., stopper='asha')",
    "hyperbandpruner": "Study(..., stopper='hyperband')",
    "hyperband": "Study(..., stopper='hyperband')",
    "floatdistribution": _FLOAT,
    "uniform": _FLOAT,
    "suggestfloat": _FLOAT,
    "real": _FLOAT,
    "loguniform": _LOG,
    "logfloat": _LOG,
    "quniform": "Float(low, high, step=0.1)",
    "qloguniform": "Float(low, high, log=True, step=0.1)",
    "intdistribution": "Int(low, high)",
    "suggestint": "Int(low, high)",
    "integer": "Int(low, high)",
    "randint": "Int(low, high)",
    "lograndint": "Int(low, high, log=True)",
    "qrandint": "Int(low, high, step=2)",
    "categoricaldistribution": "Choice([...])",
    "suggestcategorical": "Choice([...])",
    "categorical": "Choice([...])",
    "samplefrom": "Choice([...])",
    "boolean": "Choice([True, False])",
    "randn": "Normal(0, 1)",
    "qnormal": "Normal(0, 1, step=0.1)",
}


def takes(what: str, words: Mapping[str, str]) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function say in one line which of its arguments a foreign word means; its signature stays what it is.

    Args:
        what: What is called, for people.
        words: The table of foreign names of arguments.

    Example:
        >>> @takes("study.optimize", OPTIMIZE)
        ... def optimize(train, *, trials): ...
        >>> optimize(print, n_trials=3)
        Traceback (most recent call last):
        TypeError: n_trials is called trials here: study.optimize(train, trials=3)
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        parameters = inspect.signature(function).parameters.values()
        named = {item.name: item.kind for item in parameters if item.kind is not item.POSITIONAL_ONLY}
        places = [item.name for item in parameters if item.kind is not item.KEYWORD_ONLY]
        names = [name for name in named if name != "self"]

        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            for name, value in kwargs.items():
                if name not in named:
                    raise TypeError(_unknown_argument(what, name, value, words, names))
            if len(args) > len(places):
                raise TypeError(_too_many(what, args[places[0] == "self" :], [one for one in places if one != "self"],
                                          [name for name in names if name not in places]))  # fmt: skip
            return function(*args, **kwargs)

        return call

    return decorate


def unknown_attribute(owner: str, name: str, words: Mapping[str, str], names: Iterable[str]) -> AttributeError:
    """The error for an attribute that there is not.

    Args:
        owner: Whose attribute, for people.
        name: Its name.
        words: The table of foreign names.
        names: The names that there are.
    """
    if (ours := words.get(_plain(name))) is not None:
        way_out = ours.removeprefix("nothing: ") if ours.startswith("nothing") else f"write {ours}"
        return AttributeError(f"{owner} has no attribute '{name}'; {way_out}")
    return AttributeError(f"{owner} has no attribute '{name}'{'.' if (hint := _hint(name, names)) else ''}{hint}")


def _unknown_argument(what: str, name: str, value: Any, words: Mapping[str, str], names: list[str]) -> str:
    ours = words.get(_plain(name))
    if ours is not None:
        return _renamed(name, ours, _VALUES.get(value, value) if isinstance(value, str) else value)
    return f"{what} has no argument '{name}'.{_hint(name, names)} It takes {', '.join(names)}."


def _renamed(name: str, ours: str, value: Any) -> str:
    role, _, example = ours.partition(": ")
    said = f"{name} is not needed here" if role == "nothing" else f"{name} is called {role} here"
    return f"{said}: {example.format(_short(value))}" if example else said


def _too_many(what: str, given: tuple[Any, ...], places: list[str], others: list[str]) -> str:
    if places == ["options"]:
        return f"Choice takes one list of options: Choice([{', '.join(map(_short, given))}])"
    if given and isinstance(given[0], str) and places and places[0] != "name":
        return (
            f"{what} takes {joined(places)}: the name is the key in the space, as in "
            f"{{{given[0]!r}: {what}({', '.join(map(_short, given[1:]))})}}"
        )
    rest = given[len(places) :]
    example = ", ".join(f"{name}={_short(value)}" for name, value in zip(others, rest, strict=False))
    said = f"{what} has the positional argument{'s' if len(places) > 1 else ''} {joined(places)}"
    return said + (f"; all else goes by name, such as {example}" if example else "")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _hint(name: str, names: Iterable[str]) -> str:
    by_plain = {_plain(one): one for one in names}
    return did_you_mean([by_plain[one] for one in near(_plain(name), by_plain, most=2)], show=str)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - code of the value, in a message about something else
        return "..."
    return text if len(text) <= 40 and "\n" not in text and not text.startswith("<") else "..."
