"""The border to Optuna: what it has no public name for, under names of ours. No other file says Optuna's private names.

Each function says what it uses, and the version of Optuna that it was written for. A new Optuna breaks this file, and
``tests/system/test_optuna.py`` says which of them. Three files beside it know Optuna's insides: ``storage/sqlite.py``
and ``rows.py`` its tables, ``storage/retrying.py`` the calls of a storage.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import StudyDirection
    from optuna.study._frozen import FrozenStudy as FrozenStudy  # 5.0: what storages list studies as
    from optuna.trial import FrozenTrial


def trial_id(trial: Trial | FrozenTrial) -> int:
    """What storages call a trial (5.0: ``_trial_id``)."""
    return trial._trial_id


def study_id(study: Study) -> int:
    """What storages call a study (5.0: ``_study_id``)."""
    return study._study_id


def all_trials(study: Study) -> list[FrozenTrial]:
    """All trials, not copied: for reading only (5.0: ``_storage``, ``_study_id``).

    Not `study.get_trials`: under a ``HyperbandPruner``, Optuna gives samplers a study that shows one bracket only.
    """
    return study._storage.get_all_trials(study._study_id, deepcopy=False)


def running_trial(study: Study, frozen: FrozenTrial) -> Trial:
    """A trial that another process may have asked for (5.0: the constructor, which is documented for Optuna alone)."""
    import optuna

    return optuna.Trial(study, trial_id(frozen))


def suggest(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    """The value of a trial for a name, as `study.ask` with distributions gives it (5.0: ``_suggest``)."""
    return trial._suggest(name, distribution)


def with_reports(trial: Trial, reports: Mapping[int, float]) -> FrozenTrial:
    """A trial as `trial.should_prune` shows it to a pruner, with other reports (5.0: ``_get_latest_trial``)."""
    shown = trial._get_latest_trial()
    shown.intermediate_values = dict(reports)
    return shown


def reports_of(trial: Trial) -> Mapping[int, float]:
    """What a trial has reported, without a look at the storage (5.0: ``_cached_frozen_trial``)."""
    return trial._cached_frozen_trial.intermediate_values


def note_report(trial: Trial, step: int, value: float) -> None:
    """Report, also in a study of several metrics, of which Optuna takes none (5.0: ``_cached_frozen_trial``)."""
    if len(trial.study.directions) == 1:
        trial.report(value, step)
        return
    reports = trial._cached_frozen_trial.intermediate_values
    if step not in reports:
        trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)
        reports[step] = value


def watched(study: Study) -> Study:
    """A study as a pruner sees it that watches the first of several metrics (5.0: ``_directions``)."""
    seen = copy.copy(study)
    seen._directions = study.directions[:1]
    return seen


def end_trial(study: Study, trial: Trial | FrozenTrial) -> None:
    """Mark a trial as failed, past the sampler and the checks of `study.tell` (5.0: ``_storage``, ``_trial_id``)."""
    from optuna.trial import TrialState

    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def given_values(trial: FrozenTrial) -> Mapping[str, Any] | None:
    """The raw values that a trial was enqueued with, ``None`` where it was not (5.0: ``fixed_params``)."""
    return trial.system_attrs.get("fixed_params")


def fixed_values(trial: Trial) -> Mapping[str, Any]:
    """The same of a trial that was just asked for, without a look at the storage (5.0: ``_fixed_params``)."""
    given: Mapping[str, Any] = trial._fixed_params
    return given


def attributes_of(*, given: Mapping[str, Any] | None, broken: str | None) -> dict[str, Any]:
    """The system attributes of a trial that is put in (5.0: ``fixed_params``, and what `Trial.set_constraint` sets).

    Args:
        given: The raw values that it was enqueued with, ``None`` where it was not.
        broken: The constraint that it broke, ``None`` for none.
    """
    enqueued = {} if given is None else {"fixed_params": dict(given)}
    return enqueued if broken is None else {**enqueued, f"constraints:{broken}": 1.0}


def retried_number(trial: FrozenTrial) -> int | None:
    """The number of the trial that Optuna itself asks again, ``None`` for none (5.0: ``failed_trial``)."""
    return trial.system_attrs.get("failed_trial")


def contains(distribution: BaseDistribution, raw: Any) -> bool:
    """Whether a raw value is one of a distribution, of which Optuna only warns (5.0: ``_contains``)."""
    try:
        return distribution._contains(distribution.to_internal_repr(raw))
    except (ValueError, TypeError):
        return False


def cached(storage: BaseStorage | str) -> BaseStorage:
    """A storage, or that of a URL, as Optuna uses it: a relational one with a cache (5.0: ``get_storage``)."""
    from optuna.storages import get_storage

    return get_storage(storage)


def with_cache(storage: BaseStorage) -> BaseStorage:
    """A storage that reads tables as Optuna's does, with the same cache (5.0: ``_CachedStorage``)."""
    from optuna.storages._cached_storage import _CachedStorage

    return _CachedStorage(storage)  # type: ignore[arg-type] # it is asked for nothing that a reader lacks


def frozen_study(
    name: str, directions: Sequence[StudyDirection], user: dict[str, Any], system: dict[str, Any], key: int
) -> FrozenStudy:
    """A study as storages list it (5.0: ``FrozenStudy``)."""
    from optuna.study._frozen import FrozenStudy

    return FrozenStudy(name, None, user, system, key, directions=list(directions))


def metric_names(names: Sequence[str]) -> dict[str, list[str]]:
    """The system attributes of a study that `Study.set_metric_names` sets (5.0: ``study:metric_names``)."""
    return {"study:metric_names": list(names)}


def uncached(storage: BaseStorage) -> BaseStorage:
    """The storage behind that cache (5.0: ``_backend``)."""
    return getattr(storage, "_backend", storage)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna's own lines on a study that is opened say nothing that ours do not."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.set_verbosity(before)
