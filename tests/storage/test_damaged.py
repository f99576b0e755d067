"""A storage in which something stands that nobody has written: what is whole is shown, and the rest is told."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from typer.testing import CliRunner

import tunehook as th
from revisions import read_once
from tunehook.cli import app
from tunehook.report import lines, status_of, trial_lines, trial_of
from tunehook.report.page import write_report
from tunehook.storage.relational import RelationalStorage
from tunehook.trial import Budget, Outcome

FILE = Path("tunehook-studies", "digits", "study.db")


def searched() -> th.Study:
    """A study of three trials, of which the second has told least."""
    space = {"lr": th.Float(0, 1), "act": th.Choice([None, "a"])}
    study = th.Study("digits", space, metric="acc", mode="max", search="random", seed=1)
    for value in (0.25, 0.125, 0.5):
        study.tell(study.ask(), Outcome("complete", "trained to its end", value, 3))
    return study


def change(statement: str, *values: object) -> None:
    """Change the file as anybody can."""
    with contextlib.closing(sqlite3.connect(FILE)) as db:
        db.execute(statement, values)
        db.commit()


DAMAGES: dict[str, tuple[Any, ...]] = {
    "number": ("UPDATE trials SET number = -7 WHERE number = 1",),
    "state": ("UPDATE trials SET state = 'SLEEPING' WHERE number = 1",),
    "start": ("UPDATE trials SET datetime_start = 'yesterday' WHERE number = 1",),
    "first year": ("UPDATE trials SET datetime_start = '0001-01-01 00:00:00' WHERE number = 1",),
    "value": ("UPDATE trial_params SET param_value = 99 WHERE trial_id = 2",),
    "distribution": ("UPDATE trial_params SET distribution_json = '{' WHERE trial_id = 2",),
    "no distribution": ("UPDATE trial_params SET distribution_json = ? WHERE trial_id = 2", b"\0"),
    "deep": ("UPDATE trial_user_attributes SET value_json = ? WHERE trial_id = 2", "[" * 100_000),
    "report": ("INSERT INTO trial_intermediate_values VALUES (NULL, 2, 1, 0.5, 'SOME')",),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_trial_stands_in_no_other_ones_way(damage: str) -> None:
    """The others are counted and shown, and the study goes on."""
    searched()
    change(*DAMAGES[damage])
    for command in ("status", "best"):
        done = CliRunner().invoke(app, [command, "digits"])
        assert done.exception is None or isinstance(done.exception, SystemExit)
        assert "0.5" in done.output
    study = th.Study("digits", th.Study.open("digits").space, metric="acc", mode="max", search="random")
    assert study.best.number == 2
    assert study.records(2)[0].endswith("trial-0002/journal.jsonl")
    study.tell(study.ask(), Outcome("complete", "trained to its end", 0.75, 3))
    assert study.best.number == 3


CELLS = {
    "trial_params": ("distribution_json", "param_name", "param_value"),
    "trials": ("number", "state", "datetime_start", "datetime_complete"),
    "trial_values": ("value", "value_type"),
    "trial_intermediate_values": ("step", "intermediate_value", "intermediate_value_type"),
    "trial_user_attributes": ("key", "value_json"),
    "trial_system_attributes": ("key", "value_json"),
}
# Each is nothing that Optuna writes into one column or another.
VALUES = ("'x'", "NULL", "X'ff00'", "CAST(X'ff80' AS TEXT)", "9e999", "'9999-12-31 23:59:59.9999'")


@pytest.mark.parametrize("kind", ["ours", "of another version", "at a URL"])
def test_each_cell_of_a_trial(kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """In each column each value, in a trial of its own: the whole ones are shown, and another one is asked for."""
    read_once()
    study = searched()
    damaged = [(table, column, value) for table, columns in CELLS.items() for column in columns for value in VALUES]
    for _ in damaged:
        study.enqueue({"lr": 0.5, "act": None})
        trial = study.ask()
        study.report(trial, 1, 0.25, Budget())
        study.tell(trial, Outcome("complete", "trained to its end", 0.25, 1))
    with contextlib.closing(sqlite3.connect(FILE)) as db:
        for key, (table, column, value) in enumerate(damaged, start=4):
            which = f"WHERE rowid = (SELECT min(rowid) FROM {table} WHERE trial_id = {key})"  # noqa: S608
            db.execute(f"UPDATE OR IGNORE {table} SET {column} = {value} {which}")  # noqa: S608
        db.execute("UPDATE trial_params SET distribution_json = '' WHERE trial_id = 1")  # a new one is compared to it
        db.commit()
    if kind == "of another version":  # which Optuna's own storage reads and writes
        monkeypatch.setattr("tunehook.storage.reader.SCHEMA", (13, "v3.2.0.a"))
        monkeypatch.setattr("tunehook.storage.sqlite.SCHEMA", (13, "v3.2.0.a"))
    again = th.Study.open("digits", storage=f"sqlite:///{FILE}" if kind == "at a URL" else None)
    seen = {trial.number: trial.outcome.value for trial in again.trials}
    assert (seen[1], seen[2]) == (0.125, 0.5)
    assert lines(status_of(again))
    assert all([*trial_lines(trial_of(again, number))] for number in seen)
    assert len(again.rows()[1]) == len(seen)
    write_report(again, Path("report.html"))
    assert re.search("a (row|trial) that nobody can read, which is left out", caplog.text)
    if kind != "at a URL":
        study = th.Study("digits", study.space, metric="acc", mode="max", search="random")
        assert study.ask().number == len(damaged) + 3


def test_what_is_left_out_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With what it is, however often it is read."""
    study = searched()
    change("UPDATE trial_params SET param_value = 0.5, distribution_json = 'none of ours' WHERE trial_id = 2")
    with caplog.at_level(logging.WARNING, "tunehook"):
        again = th.Study.open("digits")
        assert [trial.number for trial in again.trials] == [trial.number for trial in again.trials] == [0, 2]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2  # one for each value
    assert all("a row that nobody can read, which is left out: (2, " in one for one in told)
    del study


def test_a_trial_of_another_space() -> None:
    """As Optuna itself takes it: it is left out, and the others are shown."""
    storage = optuna.storages.InMemoryStorage()
    study = th.Study("digits", {"lr": th.Float(0, 1)}, metric="acc", mode="max", search="random", storage=storage)
    study.tell(study.ask(), Outcome("complete", "trained to its end", 0.5, 3))
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        "lr": optuna.distributions.CategoricalDistribution(["high"])
    }
    other = optuna.trial.create_trial(params={"lr": "high"}, distributions=distributions, value=9.0)
    storage.create_new_trial(0, other)
    assert [trial.number for trial in study.trials] == [0]
    assert study.best.value == 0.5


@pytest.mark.parametrize("name", ["study.db", "study.db-wal"])
def test_a_pipe_in_place_of_the_database(name: str) -> None:
    """It is told, where SQLite would wait for what it has to say."""
    FILE.parent.mkdir(parents=True)
    os.mkfifo(FILE.with_name(name))
    study = th.Study("digits", {"lr": th.Float(0, 1)}, metric="acc", mode="max", search="random")
    with pytest.raises(th.StudyError, match=rf"cannot be used: .*{name} is no file\."):
        study.ask()


def test_the_tables_of_another_version() -> None:
    """Optuna's own words, and a way out."""
    searched()
    change("UPDATE alembic_version SET version_num = 'v9.9.9'")
    done = CliRunner().invoke(app, ["status", "digits"])
    assert done.exit_code == 1
    assert done.output.startswith(f"The storage {FILE} of study 'digits' cannot be used: ")
    assert "Study(..., storage=...)" in done.output


@pytest.mark.parametrize(
    "known",
    [
        '{"space": {}, "metric": "acc", "mode": "max", "objective": "best"}',
        '{"space": {"x": {"kind": "Choice", "options": ["[["]}}, "metric": "acc", "mode": "max", "objective": "best"}',
        '{"space": {"x": {"kind": "Int", "low": 1, "high": 2}}, "metric": "", "mode": "max", "objective": "best"}',
        '{"space": {"x": {"kind": "Int", "low": 1, "high": 2}}, "metric": "a", "mode": "max", "objective": 0}',
        "[1]",
    ],
)
def test_a_description_that_is_none(known: str) -> None:
    """The study is named, with what stands there."""
    searched()
    change("UPDATE study_user_attributes SET value_json = ? WHERE key = 'tunehook:study'", known)
    with pytest.raises(th.StudyError, match="The storage describes the study 'digits' as tunehook does not: "):
        th.Study.open("digits")


def test_a_name_that_tunehook_does_not_give() -> None:
    """It would be a path."""
    searched()
    change("UPDATE studies SET study_name = '../up'")
    with pytest.raises(th.StudyError, match=r"^The study '\.\./up' was not made by tunehook: A study's name has"):
        th.Study.open(None, storage=f"sqlite:///{FILE}")


def test_a_trial_that_cannot_be_read_at_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out then, and is there at the next look, also beside one that nobody can ever read."""
    url = "sqlite:///server.db"
    made = optuna.create_study(storage=url)
    for value in (1.0, 2.0, 3.0):
        made.tell(made.ask(), value)
    storage, read, broken = RelationalStorage(url), RDBStorage._get_trials, {1, 2}

    def reading(*given: Any) -> Any:
        found = read(*given)
        if broken & {trial.number for trial in found}:
            raise ValueError("torn")
        return found

    monkeypatch.setattr(RDBStorage, "_get_trials", reading)
    (study,) = storage.get_all_studies()
    assert [trial.number for trial in storage.get_all_trials(study._study_id)] == [0]
    broken.remove(1)
    assert [trial.number for trial in storage.get_all_trials(study._study_id)] == [0, 1]
