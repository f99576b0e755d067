"""The SQLite file of a study: Optuna's tables, with the calls that a trial makes in plain SQL.

A trial reads and writes some fifteen times. Optuna's own way goes through SQLAlchemy's object mapper, which takes
several times as long as the same statements by themselves. All else is Optuna's, and so is the file: any other process
may open it with Optuna's own storage at the same time.

What a trial costs (medians of 100 empty trials with one report, and of 12 trials of 0.25 s with five, median of three
rounds side by side on two busy cores, Optuna 5.0; milliseconds):

    storage                                        empty: CPU   wall    0.25 s of work: CPU   wall
    this one                                              9.8     41                     15    325
    Optuna's RDBStorage on the same file, WAL            80.5    365                    142    898
    Optuna's RDBStorage as it opens a file itself       101.4    601                    147   1170
    Optuna's JournalStorage on a file                    13.1     77                     20    369

So it stays: by the file that people have, a trial of a quarter of a second would take three times as long. The journal
comes near, but is another file, which each process reads from its beginning.

SQLite in WAL mode: readers do not wait, and a commit costs no full sync. What a power failure may take back is in the
journals.

The tables are made in one transaction: where the disk is full or the process is killed as a study is first opened,
there are none of them, and the next one makes them. Optuna makes them one by one, so here it does so in memory first.

It is private to Optuna how its tables are read, so the statements serve one version of its schema only; with another
one, Optuna's own storage serves.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import sqlite3
from collections.abc import Container, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy.exc
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

# Private: the version of the tables.
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

from tunehook.storage.paused import Paused, stamps_of
from tunehook.storage.reader import connected, has_any_table, until_free
from tunehook.storage.reading import BUSY, connect_whole, read_any_text
from tunehook.storage.relational import RelationalStorage
from tunehook.storage.rows import (
    NOT_FOUND,
    SCHEMA,
    check_study,
    put_attribute,
    put_param,
    put_report,
    put_values,
    read_changed,
    read_trial,
    to_stored,
)


def sqlite(path: Path) -> RDBStorage:
    """Optuna's storage on an SQLite file in WAL mode: readers do not wait, and a commit costs no full sync.

    A commit survives the death of every process; what a power failure may take back is in the journals.

    Args:
        path: The file; it is made where it does not exist.
    """
    place = path.absolute()  # relative to the folder that the script stands in now, not later
    if not place.exists():  # SQLite would write what a removed file has left behind into the new one
        for rest in ("-wal", "-shm", "-journal"):
            place.with_name(place.name + rest).unlink(missing_ok=True)
    until_free(lambda: _make_tables(place))
    return until_free(lambda: opened(place))


def _make_tables(place: Path) -> None:
    """Make the tables where there are none, all or none of them: in one transaction, by one process at a time."""
    with connected(place, functools.partial(_connect, create=True)) as db:
        if has_any_table(db):
            return
        statements = _statements()
        db.execute("BEGIN IMMEDIATE")
        if not has_any_table(db):  # no other process was faster
            for statement in statements:
                db.execute(statement)
        db.commit()


@functools.cache  # it takes longer than to make the tables
def _statements() -> tuple[str, ...]:
    """What makes Optuna's tables, with the rows that say their version."""
    made = RDBStorage("sqlite:///:memory:")
    pooled = made.engine.raw_connection()
    db: Any = pooled.driver_connection
    statements: tuple[str, ...] = (*db.iterdump(),)[1:-1]  # without its transaction
    pooled.close()
    made.remove_session()
    made.engine.dispose()
    return statements


# Not as a URL: Optuna fills in {...}, and SQLAlchemy reads '?' and, from 2.1 on, '%20'.
_URL = "sqlite:///study.db"


def opened(place: Path) -> RDBStorage:
    """Optuna's storage on a file with tables: ours, where they are those that it is made for."""
    options: dict[str, Any] = {"creator": functools.partial(_connect, place)}
    storage = SqliteStorage(_URL, engine_kwargs=options)
    if (models.SCHEMA_VERSION, storage.get_current_version()) == SCHEMA:
        return storage
    storage.engine.dispose()
    return RelationalStorage(_URL, engine_kwargs=options)


def opened_reading(place: Path) -> RDBStorage:
    """Optuna's own storage on a file with tables, to look at; each call reads one moment of the file."""
    options: dict[str, Any] = {"creator": functools.partial(connect_whole, place), "poolclass": NullPool}
    return RelationalStorage(_URL, engine_kwargs=options, skip_table_creation=True)


def _connect(place: Path, *, create: bool = False) -> sqlite3.Connection:
    # A file that was removed under a run is not made again, empty, by the next connection.
    url = f"file:{quote(os.fsencode(place))}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(url, timeout=BUSY, check_same_thread=False, uri=True)
    read_any_text(connection)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


class SqliteStorage(RDBStorage):
    """Optuna's RDBStorage on SQLite, with the calls of a running trial in plain SQL.

    What they do and raise is what RDBStorage does and raises. Where a write depends on what was read, both happen in
    one transaction that holds the file, so that no two processes can take the same enqueued trial.
    """

    @functools.cached_property
    def _paused(self) -> Paused:
        return Paused()

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial as it is in the file now.

        Raises:
            KeyError: There is none.
        """
        with self._transaction("BEGIN") as db:
            return read_trial(db, trial_id)

    # Private: `_CachedStorage`, which Optuna puts around each RDBStorage, calls it for what may have changed.
    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        if states is not None:
            return super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        with self._transaction("BEGIN") as db:
            stamps = {key: (start, kept) for key, start, kept in db.execute(stamps_of(included_trial_ids))}
            same = self._paused.unchanged(stamps)
            found = read_changed(db, study_id, among=included_trial_ids, after=trial_id_greater_than, known=same)
        self._paused.keep(found, stamps)
        return found

    # Private: `_CachedStorage` calls it, and keeps the trial that it returns.
    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        made = copy.deepcopy(template_trial) or FrozenTrial(
            -1, TrialState.RUNNING, None, datetime.now(), None, {}, {}, {}, {}, {}, -1
        )
        start, end = (None if one is None else to_stored(one) for one in (made.datetime_start, made.datetime_complete))
        with self._transaction() as db:
            check_study(db, study_id)
            (number,) = db.execute("SELECT COUNT(*) FROM trials WHERE study_id = ?", (study_id,)).fetchone()
            db.execute(
                "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete)"
                " VALUES (?, ?, ?, ?, ?)",
                (number, study_id, made.state.name, start, end),
            )
            (key,) = db.execute("SELECT last_insert_rowid()").fetchone()
            for name, raw in made.params.items():
                distribution = made.distributions[name]
                put_param(db, key, name, distribution.to_internal_repr(raw), distribution)
            for step, value in made.intermediate_values.items():
                put_report(db, key, step, value)
            put_values(db, key, made.values)
            for table, named in (("user", made.user_attrs), ("system", made.system_attrs)):
                db.executemany(
                    f"INSERT INTO trial_{table}_attributes (trial_id, key, value_json) VALUES (?, ?, ?)",  # noqa: S608 - ours
                    [(key, name, json.dumps(value)) for name, value in named.items()],
                )
        return FrozenTrial(
            number, made.state, None, made.datetime_start, made.datetime_complete, made.params, made.distributions,
            made.user_attrs, made.system_attrs, made.intermediate_values, key, values=made.values,
        )  # fmt: skip

    # Private: `_CachedStorage` calls it with the distribution that it knows of this name.
    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        with self._update(trial_id) as (db, _):
            put_param(db, trial_id, param_name, param_value_internal, distribution, previous_distribution)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Keep what a trial reported at a step, in place of an earlier report of this step.

        Raises:
            KeyError: There is no such trial.
            UpdateFinishedTrialError: It has ended.
        """
        with self._update(trial_id) as (db, _):
            put_report(db, trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep a user attribute of a trial, in place of an earlier one of this key.

        Raises:
            KeyError: There is no such trial.
            UpdateFinishedTrialError: It has ended.
        """
        text = json.dumps(value)
        with self._update(trial_id) as (db, _):
            put_attribute(db, "trial", trial_id, key, text)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Keep the state of a trial, and its values if there are any.

        Returns:
            Whether it was kept: False where the trial should run, but did not wait for it.

        Raises:
            KeyError: There is no such trial.
            UpdateFinishedTrialError: It has ended.
        """
        with self._update(trial_id) as (db, before):
            put_values(db, trial_id, values)
            if state == TrialState.RUNNING and before != TrialState.WAITING:
                return False
            now = to_stored(datetime.now())
            start, end = (now if state == TrialState.RUNNING else None), (now if state.is_finished() else None)
            db.execute(
                "UPDATE trials SET state = ?, datetime_start = coalesce(?, datetime_start),"
                " datetime_complete = coalesce(?, datetime_complete) WHERE trial_id = ?",
                (state.name, start, end, trial_id),
            )
        return True

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Keep a user attribute of a study, in place of an earlier one of this key.

        Raises:
            KeyError: There is no such study.
        """
        text = json.dumps(value)
        with self._transaction() as db:
            check_study(db, study_id)
            put_attribute(db, "study", study_id, key, text)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """The user attributes of a study.

        Raises:
            KeyError: There is no such study.
        """
        with self._transaction("BEGIN") as db:
            check_study(db, study_id)
            rows = db.execute("SELECT key, value_json FROM study_user_attributes WHERE study_id = ?", (study_id,))
            return {key: json.loads(text) for key, text in rows}

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """A transaction on a connection of the engine's pool; one that writes holds the file from its first read on."""
        try:
            pooled = self.engine.raw_connection()
            try:
                db: Any = pooled.driver_connection
                db.execute(begin)
                yield db
                db.commit()
            finally:
                pooled.close()  # back to the pool, which rolls back what was not committed
        except (sqlite3.Error, sqlalchemy.exc.SQLAlchemyError) as error:
            raise StorageInternalError(f"The study's file cannot be read or written: {error}") from error

    @contextlib.contextmanager
    def _update(self, trial_id: int) -> Iterator[tuple[sqlite3.Connection, TrialState]]:
        """A transaction that writes to a trial which has not ended, with its state."""
        with self._transaction() as db:
            found = db.execute("SELECT state FROM trials WHERE trial_id = ?", (trial_id,)).fetchone()
            if found is None:
                raise KeyError(NOT_FOUND)
            state = TrialState[found[0]]
            if not state.is_finished():
                yield db, state
                return
        self.check_trial_is_updatable(trial_id, state)  # raises; it reads the trial, so not while the file is held
