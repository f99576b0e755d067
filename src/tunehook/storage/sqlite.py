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
import time
from collections.abc import Callable, Container, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy.exc
from optuna.distributions import (
    BaseDistribution,
)
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage

# Private: the names of the types in the tables, and the version that the statements below were written for.
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

from tunehook.storage.database import PATIENCE, is_locked
from tunehook.storage.reading import BUSY, connect_reading
from tunehook.storage.rows import TRIALS, check_study, put_param, put_report, put_values, read_trials, to_stored

# The schema whose tables the statements below read and write: Optuna's names for it, the old one and the one of today.
SCHEMA = (12, "v3.2.0.a")
NOT_FOUND = models.NOT_FOUND_MSG  # what a relational storage says of a trial or a study that it does not have


_T = TypeVar("_T")
_Connect = Callable[[Path], sqlite3.Connection]


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
    _until_free(lambda: _make_tables(place))
    return _until_free(lambda: _opened(place))


def sqlite_there(path: Path) -> RDBStorage:
    """The same storage on a file that exists, to be read; nothing is made or written, also beside the file."""
    return _until_free(lambda: _opened(path.absolute(), connect=connect_reading, skip_table_creation=True))


def file_of(storage: BaseStorage) -> str | None:
    """The SQLite file of a storage; empty for one in memory, ``None`` for another kind of storage."""
    if not isinstance(storage, RDBStorage) or storage.engine.dialect.name != "sqlite":
        return None
    creator = storage.engine_kwargs.get("creator")
    if isinstance(creator, functools.partial) and creator.func in (_connect, connect_reading):
        return str(creator.args[0])
    file = storage.engine.url.database or ""
    return "" if file == ":memory:" or "mode=memory" in file else str(Path(file.removeprefix("file:")).absolute())


def has_tables(path: Path) -> bool:
    """Whether there is a database with tables: a file has none where the disk was full as it was made."""
    if not path.is_file():
        return False

    def look() -> bool:
        with _raw(path, connect_reading) as db:
            return _has_tables(db)

    return _until_free(look)


def _until_free(work: Callable[[], _T]) -> _T:
    """Do what needs the file, again where another program holds it, as long as a server would be waited for."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
            if not is_locked(error) or time.monotonic() >= end:
                raise


def _make_tables(place: Path) -> None:
    """Make the tables where there are none, all or none of them: in one transaction, by one process at a time."""
    with _raw(place, functools.partial(_connect, create=True)) as db:
        if _has_tables(db):
            return
        statements = _statements()
        db.execute("BEGIN IMMEDIATE")
        if not _has_tables(db):  # no other process was faster
            for statement in statements:
                db.execute(statement)
        db.commit()


def _has_tables(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master").fetchone() is not None


def _statements() -> list[str]:
    """What makes Optuna's tables, with the rows that say their version."""
    made = RDBStorage("sqlite:///:memory:")
    pooled = made.engine.raw_connection()
    db: Any = pooled.driver_connection
    statements: list[str] = [*db.iterdump()][1:-1]  # without its transaction
    pooled.close()
    made.remove_session()
    made.engine.dispose()
    return statements


@contextlib.contextmanager
def _raw(place: Path, connect: _Connect | None = None) -> Iterator[sqlite3.Connection]:
    """A connection without a pool; what is not committed in the end is rolled back.

    Raises:
        StorageInternalError: The file cannot be read or written.
    """
    try:
        with contextlib.closing((connect or _connect)(place)) as db:
            yield db
    except sqlite3.Error as error:
        raise StorageInternalError(f"The study's file cannot be read or written: {error}") from error


def _opened(place: Path, *, connect: _Connect | None = None, **more: Any) -> RDBStorage:
    # Not as a URL: Optuna fills in {...}, and SQLAlchemy reads '?' and, from 2.1 on, '%20'.
    url = "sqlite:///study.db"
    options: dict[str, Any] = {"creator": functools.partial(connect or _connect, place)}
    if connect is not None:  # how it is read depends on who writes it at that moment
        options["poolclass"] = NullPool
    storage = SqliteStorage(url, engine_kwargs=options, **more)
    if (models.SCHEMA_VERSION, storage.get_current_version()) == SCHEMA:
        return storage
    storage.engine.dispose()
    return RDBStorage(url, engine_kwargs=options, **more)


def _connect(place: Path, *, create: bool = False) -> sqlite3.Connection:
    # A file that was removed under a run is not made again, empty, by the next connection.
    url = f"file:{quote(os.fsencode(place))}?mode={'rwc' if create else 'rw'}"
    connection = sqlite3.connect(url, timeout=BUSY, check_same_thread=False, uri=True)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


class SqliteStorage(RDBStorage):
    """Optuna's RDBStorage on SQLite, with the calls of a running trial in plain SQL.

    What they do and raise is what RDBStorage does and raises. Where a write depends on what was read, both happen in
    one transaction that holds the file, so that no two processes can take the same enqueued trial.
    """

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial as it is in the file now.

        Raises:
            KeyError: There is none.
        """
        with self._transaction("BEGIN") as db:
            trials = read_trials(db, db.execute(f"{TRIALS} WHERE trial_id = ?", (trial_id,)))
        if not trials:
            raise KeyError(models.NOT_FOUND_MSG)
        return trials[0]

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
            check_study(db, study_id)
            # Not as an OR, for which SQLite goes through all trials of the study.
            which = (
                "study_id = :study AND trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study"
                " AND trial_id > :last UNION ALL SELECT value FROM json_each(:others))"
            )
            asked = {"study": study_id, "last": trial_id_greater_than, "others": json.dumps(list(included_trial_ids))}
            return read_trials(db, db.execute(f"{TRIALS} WHERE {which} ORDER BY trial_id", asked))

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
            db.execute(
                "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
                " ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json",
                (trial_id, key, text),
            )

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
                raise KeyError(models.NOT_FOUND_MSG)
            state = TrialState[found[0]]
            if not state.is_finished():
                yield db, state
                return
        self.check_trial_is_updatable(trial_id, state)  # raises; it reads the trial, so not while the file is held
