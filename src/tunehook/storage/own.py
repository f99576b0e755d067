"""The Optuna study below one of ours, with the user's own values: what `Study.optuna` is.

In the storage, where samplers read, a `Normal` is a probability and a step may be any number near it. Optuna's plots
and tables show what `trial.params` and `trial.distributions` say, so here they say what the user calls it.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from tunehook.space import Choice, Distribution, LogNormal, Space, SpaceError
from tunehook.storage.reader import ReadOnlyStorage
from tunehook.system import attributes_of, frozen_study, given_values, metric_names, study_id
from tunehook.trial import StudyError

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import StudyDirection

    from tunehook.system import FrozenStudy


class OwnStudy(optuna.Study):
    """An Optuna study whose trials have the user's own values.

    What reads is all there, and what Optuna's plots and tables use. Values that are enqueued or added are the user's
    own as well. Sampler and pruner are those of the study below, which alone asks for trials.

    Args:
        below: The study in the storage.
        storage: That storage.
        space: What is searched.
        metrics: Names of the metrics.
    """

    def __init__(self, below: optuna.Study, storage: BaseStorage, space: Space, metrics: Sequence[str]) -> None:
        self._below = below
        self._own = OwnValues(below, storage, space, metrics)
        super().__init__(below.study_name, self._own, below.sampler, below.pruner)

    @property
    def sampler(self) -> BaseSampler:
        """Who proposes values."""
        return self._below.sampler

    @sampler.setter
    def sampler(self, sampler: BaseSampler) -> None:
        self._below.sampler = sampler

    @property
    def pruner(self) -> BasePruner:
        """Who stops trials."""
        return self._below.pruner

    @pruner.setter
    def pruner(self, pruner: BasePruner) -> None:
        self._below.pruner = pruner

    def ask(self, *_: Any, **__: Any) -> NoReturn:
        """Nothing: a trial of ours has a journal and a process.

        Raises:
            StudyError: Always, with the way to ask.
        """
        raise StudyError(
            "study.optuna shows the study with your own values and asks for no trials.\n"
            "  Ask with study.ask(), or train with study.optimize(train, trials=...)."
        )

    optimize = ask

    def tell(self, *args: Any, **options: Any) -> FrozenTrial:
        """As Optuna's study does."""
        return self._own.owned(self._below.tell(*args, **options))


class OwnValues(ReadOnlyStorage):
    """A storage as the user reads it: its trials with their own values. Attributes and new trials go to the storage.

    Args:
        below: The study in the storage.
        storage: The storage.
        space: What is searched.
        metrics: Names of the metrics.
    """

    def __init__(self, below: optuna.Study, storage: BaseStorage, space: Space, metrics: Sequence[str]) -> None:
        self._below, self._storage, self._searched = below, storage, space.searched
        self._space, self._metrics = space, list(metrics)
        self._raw = space.distributions()
        self._axes = {name: own_distribution(one) for name, one in self._searched.items()}

    refusal = "study.optuna shows the study with your own values; use study.report and study.tell to change its trials"

    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of the study."""
        return study_id(self._below)

    def get_study_name_from_id(self, study_id: int) -> str:
        """The name of the study."""
        return self._below.study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Whether less or more is better, for each metric."""
        return self._below.directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """The user attributes of the study."""
        return self._storage.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The system attributes of the study, and the names of the metrics."""
        return {**metric_names(self._metrics), **self._storage.get_study_system_attrs(study_id)}

    def get_all_studies(self) -> list[FrozenStudy]:
        """The study alone."""
        key = study_id(self._below)
        attributes = self.get_study_user_attrs(key), self.get_study_system_attrs(key)
        return [frozen_study(self._below.study_name, self._below.directions, *attributes, key)]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """A trial with its own values."""
        return self.owned(self._storage.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials with their own values."""
        found = self._storage.get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [self.owned(frozen) for frozen in found]

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._storage.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._storage.set_study_system_attr(study_id, key, value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._storage.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """As the storage does."""
        self._storage.set_trial_system_attr(trial_id, key, value)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Keep a trial that is enqueued or added.

        Raises:
            SpaceError: Its values are none of the space.
        """
        if template_trial is None:
            return int(self._refuse())  # which it never does
        kept = copy.copy(template_trial)
        kept.params = {name: self._encoded(name, value) for name, value in kept.params.items()}
        kept.distributions = {name: self._raw[name] for name in kept.params}
        if kept.state.is_finished():
            self._space.decode(kept.params)  # are there all?
        if (given := given_values(kept)) is not None:
            given = {name: self._encoded(name, value) for name, value in given.items()}
            kept.system_attrs = {**kept.system_attrs, **attributes_of(given=given, broken=None)}
        return self._storage.create_new_trial(study_id, kept)

    def owned(self, frozen: FrozenTrial) -> FrozenTrial:
        """A trial with the user's own values; what is none of the space is left out, as everywhere."""
        seen = copy.copy(frozen)
        seen.params = self._decoded(frozen.params)
        seen.distributions = {name: self._axes[name] for name in seen.params}
        if (given := given_values(frozen)) is not None:
            seen.system_attrs = {**frozen.system_attrs, **attributes_of(given=self._decoded(given), broken=None)}
        return seen

    def _decoded(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for name, value in raw.items():
            try:
                found[name] = _own_value(self._searched[name], value)
            except (KeyError, SpaceError, TypeError, ValueError, OverflowError):  # a storage may hold anything
                continue
        return found

    def _encoded(self, name: str, value: Any) -> Any:
        one = self._searched.get(name)
        if one is None:
            raise SpaceError(
                f"There is no hyperparameter {name!r} in study.optuna. It has: {', '.join(self._searched)}."
            )
        return value if isinstance(one, Choice) and _is_label(one, value) else one.encode(value)


def own_distribution(one: Distribution) -> BaseDistribution:
    """Optuna's distribution of a distribution's own values; of a `Choice`, that of its labels."""
    raw: Any = one.distribution()
    if isinstance(raw, CategoricalDistribution):
        return raw
    low, high = one.decode(raw.low), one.decode(raw.high)
    if (low, high) == (raw.low, raw.high) and type(low) is type(raw.low):
        return raw  # type: ignore[no-any-return]
    is_log = low > 0 and (isinstance(one, LogNormal) or bool(getattr(one, "log", False)))
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=is_log)
    return FloatDistribution(low + 0.0, high + 0.0, log=is_log)  # which is no -0.0


def _own_value(one: Distribution, raw: Any) -> Any:
    return one.labels[one.index(raw)] if isinstance(one, Choice) else one.decode(raw)


def _is_label(one: Choice, value: Any) -> bool:
    try:
        one.index(value)
    except SpaceError:
        return False
    return True
