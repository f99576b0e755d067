"""A file that is opened to be looked at, without SQLAlchemy: what is read is what Optuna's own storage reads."""

from __future__ import annotations

import gc
import math
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from studies import write_study
from tunehook.space import Float
from tunehook.storage import rows
from tunehook.storage.opening import sqlite_there
from tunehook.storage.reader import SqliteReader
from tunehook.study import Study
from tunehook.system import uncached
from tunehook.trial import Outcome

DATABASE = Path("tunehook-studies/digits/study.db")


def written() -> Path:
    """A study with trials of every end, and reports and attributes of every kind of number."""
    study = write_study(trials=40, epochs=3, snapshots=0)
    running = study._ledger.study.ask()
    for step, value in enumerate((math.inf, -math.inf, math.nan, 0.1 + 0.2, 1e-320)):
        running.report(value, step)
    running.set_user_attr("note", {"a": [1, None, "\u2028"]})
    return DATABASE.absolute()


def test_what_is_read_is_what_optuna_reads() -> None:
    """All trials and studies, each with all that it has; of trials that have changed, the new state."""
    path = written()
    ours, theirs = sqlite_there(path), RDBStorage(f"sqlite:///{path}")
    assert isinstance(uncached(ours), SqliteReader)
    (study,) = ours.get_all_studies()
    (same,) = theirs.get_all_studies()
    assert repr(vars(study)) == repr(vars(same))
    key = ours.get_study_id_from_name("digits")
    found, expected = ours.get_all_trials(key), theirs.get_all_trials(key)
    assert [repr(one) for one in found] == [repr(one) for one in expected]
    assert [repr(one.intermediate_values) for one in found] == [repr(one.intermediate_values) for one in expected]
    assert len(found) == 41
    theirs.set_trial_state_values(expected[-1]._trial_id, optuna.trial.TrialState.COMPLETE, [math.inf])
    assert ours.get_all_trials(key)[-1].value == math.inf
    with pytest.raises(KeyError):
        ours.get_study_id_from_name("another")
    assert rows.NOT_FOUND == optuna.storages._rdb.models.NOT_FOUND_MSG


def test_a_brief_look_leaves_out_what_finished_trials_reported() -> None:
    """And nothing else: what runs has its reports."""
    written()
    whole, brief = Study.open("digits"), Study.open("digits", brief=True)
    assert repr(brief.trials) == repr(whole.trials)
    reports = [one.intermediate_values for one in brief.optuna.trials]
    assert [number for number, found in enumerate(reports) if found] == [39, 40]
    assert repr(reports[39]) == repr(whole.optuna.trials[39].intermediate_values)
    assert all(one.intermediate_values for one in whole.optuna.trials if one.value is not None)


def test_nothing_can_be_written() -> None:
    """Whatever would change a study is refused, by each call that would."""
    reader = SqliteReader(written())
    key = reader.get_study_id_from_name("digits")
    calls: list[Callable[[], object]] = [
        lambda: reader.create_new_study([], "b"), lambda: reader.delete_study(key),
        lambda: reader.create_new_trial(key),
        lambda: reader.set_study_user_attr(key, "a", 1), lambda: reader.set_study_system_attr(key, "a", 1),
        lambda: reader.set_trial_user_attr(41, "a", 1), lambda: reader.set_trial_system_attr(41, "a", 1),
        lambda: reader.set_trial_intermediate_value(41, 1, 0.5),
        lambda: reader.set_trial_state_values(41, optuna.trial.TrialState.FAIL),
        lambda: reader.set_trial_param(41, "x", 1.0, optuna.distributions.FloatDistribution(0, 1)),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(StorageInternalError, match="was opened to look at it, not to write"):
            call()


def test_other_tables_are_left_to_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a version of Optuna to come, whose tables may say something else."""
    path = written()
    with closing(sqlite3.connect(path)) as db:
        monkeypatch.setattr("tunehook.storage.reader.SCHEMA", (13, "v3.2.0.a"))
        assert isinstance(uncached(sqlite_there(path)), RDBStorage)
        assert len(Study.open("digits").trials) == 41 - 1  # the last one has no values
        assert db.execute("SELECT COUNT(*) FROM trials").fetchone() == (41,)


@pytest.mark.parametrize("command", ["trials", "status"])
def test_a_look_is_light(command: str) -> None:
    """What takes longest to load is not: SQLAlchemy, and what draws tables that move."""
    written()
    code = f"import sys; from tunehook.cli import app; app([{command!r}, 'digits'], standalone_mode=False)"
    code += "; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "optuna" in loaded
    assert not loaded & {"sqlalchemy", "alembic", "rich.table", "rich.live", "tunehook.launch.progress", "yaml"}


def test_a_file_that_was_replaced_is_read_again() -> None:
    """Whoever looks at a study while it is rebuilt sees the trials of the new file, and keeps none of the old one."""
    for folder, value in (("one", 0.25), ("two", 0.75)):
        made = Study("digits", {"x": Float(0, 1)}, metric="m", mode="max", search="random", folder=folder)
        made.tell(made.ask(), Outcome("complete", "", value, 1))
        del made  # with its connection
    gc.collect()
    for brief in (False, True):
        opened = Study.open("digits", folder="one", brief=brief)
        assert [one.optuna.trials[0].value for one in (opened, opened)] == [0.25, 0.25]
        Path("one/study.db").rename("old.db")
        Path("two/study.db").rename("one/study.db")
        assert [one.value for one in opened.raw_trials] == [0.75]
        assert opened.optuna.best_value == 0.75
        Path("one/study.db").rename("two/study.db")
        Path("old.db").rename("one/study.db")
