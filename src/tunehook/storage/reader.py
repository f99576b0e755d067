"""The SQLite file of a study, opened to look at it: Optuna's tables, without SQLAlchemy, which takes long to load."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import time
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection

from tunehook.storage.database import PATIENCE, is_locked
from tunehook.storage.reading import connect_reading, is_unwatched, state_of
from tunehook.storage.rows import NOT_FOUND, SCHEMA, read_changed, read_trial
from tunehook.system import from_json, frozen_study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, TrialState

    from tunehook.system import FrozenStudy

_T = TypeVar("_T")
Connect = Callable[[Path], sqlite3.Connection]


def reads(path: Path) -> bool:
    """Whether the tables of a file that exists are those that `SqliteReader` reads."""

    def look(db: sqlite3.Connection) -> bool:
        asked = ("schema_version FROM version_info", "version_num FROM alembic_version")
        return tuple(db.execute(f"SELECT {what}").fetchone()[0] for what in asked) == SCHEMA

    return until_free(lambda: read(path, look))


def has_tables(path: Path) -> bool:
    """Whether there is a database with tables: a file has none where the disk was full as it was made."""
    return path.is_file() and until_free(lambda: read(path, has_any_table))


def has_any_table(db: sqlite3.Connection) -> bool:
    """Whether a database has tables."""
    return db.execute("SELECT 1 FROM sqlite_master").fetchone() is not None


def file_of(storage: BaseStorage) -> str | None:
    """The SQLite file of a storage; empty for one in memory, ``None`` for another kind of storage."""
    if isinstance(storage, SqliteReader):
        return str(storage.place)
    if not isinstance(storage, RDBStorage) or storage.engine.dialect.name != "sqlite":
        return None
    creator = storage.engine_kwargs.get("creator")
    if isinstance(creator, functools.partial) and isinstance(creator.args[0], Path):  # one of ours
        return str(creator.args[0])
    file = storage.engine.url.database or ""
    return "" if file == ":memory:" or "mode=memory" in file else str(Path(file.removeprefix("file:")).absolute())


def until_free(work: Callable[[], _T]) -> _T:
    """Do what needs the file, again where another program holds it, as long as a server would be waited for."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except Exception as error:
            if not is_locked(error) or time.monotonic() >= end:
                raise


@contextlib.contextmanager
def connected(place: Path, connect: Connect) -> Iterator[sqlite3.Connection]:
    """A connection without a pool; what is not committed in the end is rolled back.

    Raises:
        StorageInternalError: The file cannot be read or written.
    """
    try:
        with contextlib.closing(connect(place)) as db:
            yield db
    except sqlite3.Error as error:
        raise StorageInternalError(f"The study's file cannot be read or written: {error}") from error


def read(place: Path, look: Callable[[sqlite3.Connection], _T]) -> _T:
    """What a function finds in one moment of a file, again where someone began to write to it meanwhile.

    Raises:
        StorageInternalError: The file cannot be read.
    """
    while True:
        before = state_of(place)
        with connected(place, connect_reading) as db:
            try:
                found = look(db)
            except Exception:  # also what is raised of parts that do not belong together
                if not (is_unwatched(db) and state_of(place) != before):
                    raise
            else:
                if not (is_unwatched(db) and state_of(place) != before):
                    return found


class ReadOnlyStorage(BaseStorage):
    """A storage to look at: whatever would write raises `StorageInternalError`.

    Attributes:
        refusal: What the error says.
    """

    refusal = "The study was opened to look at it, not to write"

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise StorageInternalError(self.refusal)

    create_new_study = delete_study = set_study_user_attr = set_study_system_attr = create_new_trial = _refuse
    set_trial_param = set_trial_state_values = set_trial_intermediate_value = set_trial_user_attr = _refuse
    set_trial_system_attr = _refuse
    # Private: what the cache before a relational storage calls for the fifth and the sixth of these.
    _create_new_trial = _set_trial_param = _refuse


class SqliteReader(ReadOnlyStorage):
    """Reads the tables as Optuna's storage does.

    Args:
        place: The file, whose tables are those of `SCHEMA`.
        is_brief: Whether finished trials come without what they reported. Defaults to False.
    """

    def __init__(self, place: Path, *, is_brief: bool = False) -> None:
        self.place, self._is_brief = place, is_brief

    def get_study_id_from_name(self, study_name: str) -> int:
        """The id of a study.

        Raises:
            KeyError: There is none of this name.
        """
        return int(self._one("SELECT study_id FROM studies WHERE study_name = ?", study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """The name of a study.

        Raises:
            KeyError: There is none of this id.
        """
        return str(self._one("SELECT study_name FROM studies WHERE study_id = ?", study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Whether less or more is better, for each metric.

        Raises:
            KeyError: There is no such study.
        """
        asked = "SELECT direction FROM study_directions WHERE study_id = ? ORDER BY objective"
        found = [StudyDirection[name] for (name,) in self._rows(asked, study_id)]
        if not found:
            raise KeyError(NOT_FOUND)
        return found

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """The user attributes of a study."""
        return self._attributes("user", study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """The system attributes of a study."""
        return self._attributes("system", study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        """All studies, by their ids."""
        return [
            frozen_study(
                name, self.get_study_directions(key), self.get_study_user_attrs(key), self.get_study_system_attrs(key),
                key,
            ) for key, name in self._rows("SELECT study_id, study_name FROM studies ORDER BY study_id")
        ]  # fmt: skip

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """The trial as it is in the file now.

        Raises:
            KeyError: There is none.
        """
        return read(self.place, lambda db: read_trial(db, trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials as they are in the file now.

        Raises:
            KeyError: There is no such study.
        """
        return self._get_trials(study_id, states, set(), -1)

    # Private: the cache that Optuna has before a relational storage calls it for what may have changed.
    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        found = read(self.place, lambda db: read_changed(
            db, study_id, among=included_trial_ids, after=trial_id_greater_than, is_brief=self._is_brief
        ))  # fmt: skip
        return found if states is None else [one for one in found if one.state in states]

    def _attributes(self, kind: str, study_id: int) -> dict[str, Any]:
        asked = f"SELECT key, value_json FROM study_{kind}_attributes WHERE study_id = ?"  # noqa: S608 - ours
        return {key: from_json(text) for key, text in self._rows(asked, study_id)}

    def _one(self, asked: str, *values: Any) -> Any:
        found = self._rows(asked, *values)
        if not found:
            raise KeyError(NOT_FOUND)
        return found[0][0]

    def _rows(self, asked: str, *values: Any) -> list[Any]:
        return read(self.place, lambda db: db.execute(asked, values).fetchall())
