"""A study: what is searched, what was found, what is asked again."""

from tunehook.study.importance import find_importance
from tunehook.study.optuna_trial import OptunaTrial
from tunehook.study.study import Study

__all__ = [
    "OptunaTrial", "Study", "find_importance",
]  # fmt: skip
