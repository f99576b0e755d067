"""A study: what is searched, what was found, what is asked again."""

from tunehook.study.importance import find_importance
from tunehook.study.optuna_trial import OptunaTrial
from tunehook.study.rebuilding import Rebuilt, rebuild
from tunehook.study.study import Study
from tunehook.study.told import Told
from tunehook.study.warm import KnownTrial
from tunehook.trial import StudyFinished, StudyFull

__all__ = [
    "KnownTrial", "OptunaTrial", "Rebuilt", "Study", "StudyFinished", "StudyFull", "Told", "find_importance", "rebuild",
]  # fmt: skip
