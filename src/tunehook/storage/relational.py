"""Optuna's own storage, for servers and for tables of another version than ours: one bad trial is left out and told.

Whoever can write to a database may put anything into its cells, and what a cell cannot hold raises while SQLAlchemy
reads the rows, of all trials at once. Then they are read in halves, down to the trials that nobody can read.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from tunehook.record import is_number, is_whole
from tunehook.storage.paused import Paused, Stamps, stamps_of
from tunehook.storage.reading import read_any_text
from tunehook.storage.rows import is_moment, readable_distribution, tell_left_out
from tunehook.system import trial_id

# They say nothing of a row.
_FAILURES = (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, OSError, MemoryError)
_DISTRIBUTION = sqlalchemy.text(
    "SELECT distribution_json FROM trial_params JOIN trials ON trials.trial_id = trial_params.trial_id"
    " WHERE study_id = (SELECT study_id FROM trials WHERE trial_id = :trial) AND param_name = :name LIMIT 1"
)
_LAST = 2**31 - 1  # the highest id that the tables can hold on a server


class RelationalStorage(RDBStorage):
    """Optuna's `RDBStorage`, which leaves out the trials and the measurements that nobody can read.

    Args:
        url: As Optuna takes it.
        options: As Optuna takes them.
    """

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self._paused = Paused()
        if self.engine.dialect.name == "sqlite":
            sqlalchemy.event.listen(self.engine, "checkout", lambda db, *_: read_any_text(db))

    # Private: `_CachedStorage`, which Optuna puts around each RDBStorage, calls it for what may have changed.
    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is not None or not included_trial_ids:
            return self._read(study_id, states, included_trial_ids, trial_id_greater_than)
        stamps = self._stamps(included_trial_ids)
        same = self._paused.unchanged(stamps)
        if same:  # Optuna reads each trial above the last one that has ended, so it gets ids only
            wanted = [key for key in self._ids(study_id) if key in included_trial_ids or key > trial_id_greater_than]
            found = self._read(study_id, None, {*wanted} - same.keys(), _LAST)
        else:
            found = self._read(study_id, None, included_trial_ids, trial_id_greater_than)
        self._paused.keep(found, stamps)
        return sorted([*found, *same.values()], key=trial_id)

    def _read(
        self, study_id: int, states: Container[TrialState] | None, among: set[int], after: int
    ) -> list[FrozenTrial]:
        try:
            found = super()._get_trials(study_id, states, among, after)
        except _FAILURES:
            raise
        except Exception:  # noqa: BLE001 - a table may hold anything
            self.get_study_name_from_id(study_id)  # raises where there is no such study
            ids = [key for key in self._ids(study_id) if key in among or key > after]
            found = self._readable(study_id, states, ids)
        return [trial for trial in found if _is_whole(trial)]

    def _stamps(self, among: set[int]) -> Stamps:
        """Of the paused trials among some; see `Paused`."""
        with self.engine.connect() as db:
            return {key: (start, kept) for key, start, kept in db.execute(sqlalchemy.text(stamps_of(among)))}

    # Private: Optuna calls it for each value of a trial, and reads an earlier distribution there where it has none.
    def _set_trial_param_without_commit(
        self,
        session: Any,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None = None,
    ) -> None:
        if previous_distribution is None:
            found = session.execute(_DISTRIBUTION, {"trial": trial_id, "name": param_name}).fetchone()
            previous_distribution = distribution if found is None else readable_distribution(found[0]) or distribution
        super()._set_trial_param_without_commit(
            session, trial_id, param_name, param_value_internal, distribution, previous_distribution
        )

    def _ids(self, study_id: int) -> list[int]:
        asked = sqlalchemy.text("SELECT trial_id FROM trials WHERE study_id = :study ORDER BY trial_id")
        with self.engine.connect() as db:
            return [int(key) for (key,) in db.execute(asked, {"study": study_id})]

    def _readable(self, study_id: int, states: Container[TrialState] | None, ids: Sequence[int]) -> list[FrozenTrial]:
        if not ids:
            return []
        try:
            return super()._get_trials(study_id, states, set(ids), _LAST)
        except _FAILURES:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            if len(ids) == 1:
                tell_left_out("trial", ids[0], error)
                return []
        half = len(ids) // 2
        return [trial for part in (ids[:half], ids[half:]) for trial in self._readable(study_id, states, part)]


def _is_whole(trial: FrozenTrial) -> bool:
    """Whether a trial can be shown; measurements and moments that are none are taken out of it."""
    for step, value in [*trial.intermediate_values.items()]:
        if not (isinstance(step, int) and is_number(value)):
            tell_left_out("measurement", (trial.number, step, value), "its step or its value is no number")
            del trial.intermediate_values[step]
    for name in ("datetime_start", "datetime_complete"):
        moment = getattr(trial, name)
        if moment is not None and not is_moment(moment):
            tell_left_out("moment", (trial.number, name, moment), "no trial was trained then")
            setattr(trial, name, None)
    try:
        for name, distribution in trial.distributions.items():
            distribution.to_internal_repr(trial.params[name])
    except (ValueError, TypeError) as error:
        tell_left_out("trial", (trial.number, trial.params), error)
        return False
    if is_whole(trial.number) and all(map(is_number, trial.values or ())):
        return True
    tell_left_out("trial", (trial.number, trial.values), "its number or a value is none")
    return False
