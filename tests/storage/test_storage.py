"""The default storage: Optuna's contract, Optuna's own storage on the same file, several processes, other schemas."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

import tunehook as th
import tunehook.storage.sqlite
from tunehook.storage.sqlite import SqliteStorage, sqlite
from tunehook.trial import Outcome, StorageAway
from waiting import PATIENCE

LR = FloatDistribution(1e-4, 1e-1, log=True)
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "lr": LR,
    "hidden": IntDistribution(8, 64, step=8),
    "act": CategoricalDistribution(("relu", None, 2.5, True)),
}
NUMBERS = [0.5, -3.0, 7, float("inf"), float("-inf"), 1e-300]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with all tables and nothing in them, which takes a while to make."""
    path = tmp_path_factory.mktemp("empty") / "study.db"
    made = sqlite(path)
    made.remove_session()
    made.engine.dispose()
    return path


@pytest.fixture
def path(empty: Path, tmp_path: Path) -> Path:
    """A file of our own, without trials."""
    return Path(shutil.copy(empty, tmp_path / "study.db"))


def plain(path: Path) -> RDBStorage:
    """Optuna's own storage on a file."""
    return RDBStorage(f"sqlite:///{path}")


def new_study(storage: BaseStorage) -> int:
    """A study in a storage."""
    return storage.create_new_study([StudyDirection.MINIMIZE], "digits")


class TestContract(StorageTestCase):
    @pytest.fixture(params=["bare", "as Optuna wraps it"])
    def storage(self, request: pytest.FixtureRequest, path: Path) -> BaseStorage:
        """The storage that Optuna's tests are run with."""
        made = sqlite(path)
        assert type(made) is SqliteStorage
        return made if request.param == "bare" else get_storage(made)


# ------------------------------------------------------------------ the same as Optuna's own


def rows(path: Path) -> dict[str, list[Any]]:
    """All that a file holds, times aside: whether they are there stands in their place."""
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        found = {name: db.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for name in tables}  # noqa: S608
    now = str(datetime.now().year)
    return {
        name: [
            tuple("time" if isinstance(cell, str) and cell.startswith(now) else cell for cell in row) for row in kept
        ]
        for name, kept in found.items()
    }


def seen(storage: BaseStorage, study: int) -> str:
    """What a storage shows of a study; as text, since NaN does not equal itself."""
    return "\n".join(map(repr, storage.get_all_trials(study)))


def random_call(draw: random.Random) -> tuple[str, tuple[Any, ...]]:
    """A call of a storage with random arguments; a storage must refuse many of them."""
    trial, study = draw.randint(1, 8), draw.choice([1, 1, 1, 2, 9])
    name, value, text = draw.choice([*DISTRIBUTIONS]), draw.choice(NUMBERS), draw.choice([None, "ünï", [1, {"a": 2}]])
    state = draw.choice([*[TrialState.RUNNING] * 3, TrialState.WAITING, TrialState.COMPLETE])
    waiting = optuna.trial.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"lr": 0.01}})
    return draw.choice(
        [
            ("create_new_trial", (study,)),
            ("create_new_trial", (study, waiting)),
            ("set_trial_param", (trial, name, 1.0, DISTRIBUTIONS[name])),
            ("set_trial_param", (trial, name, 0.01, LR)),
            ("set_trial_intermediate_value", (trial, draw.randint(0, 3), draw.choice([value, float("nan")]))),
            ("set_trial_user_attr", (trial, name, text)),
            ("set_trial_system_attr", (trial, name, text)),
            ("set_study_user_attr", (study, name, text)),
            ("get_study_user_attrs", (study,)),
            ("set_trial_state_values", (trial, state, draw.choice([None, [value], [value, 1.0]]))),
            ("get_trial_params", (trial,)),
            ("get_n_trials", (study,)),
            ("get_n_trials", (study, (TrialState.WAITING, TrialState.COMPLETE))),
        ]
    )


def answer(storage: BaseStorage, method: str, arguments: tuple[Any, ...]) -> str:
    """What a call returns or raises."""
    try:
        return repr(getattr(storage, method)(*arguments))
    except (KeyError, ValueError, UpdateFinishedTrialError) as error:
        return repr(error)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_calls_do_the_same_as_with_optunas_storage(path: Path, tmp_path: Path, seed: int) -> None:
    """Each answer and error is that of RDBStorage, and so is each row in the file at the end."""
    ours, theirs = sqlite(path), plain(Path(shutil.copy(path, tmp_path / "theirs.db")))
    for storage in (ours, theirs):
        storage.create_new_study([StudyDirection.MINIMIZE], "one")
        storage.create_new_study([StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE], "two")
    draw, answers = random.Random(seed), set()
    for _ in range(300):
        call = random_call(draw)
        said = answer(ours, *call)
        assert said == answer(theirs, *call), call
        answers.add(said.partition("(")[0])
    assert rows(path) == rows(tmp_path / "theirs.db")
    assert answers >= {"KeyError", "ValueError", "UpdateFinishedTrialError", "True", "False", "None"}


@pytest.mark.parametrize("writer", [sqlite, plain])
@pytest.mark.parametrize("is_cached", [False, True])
def test_optuna_and_we_see_what_the_other_wrote(path: Path, writer: Callable[[Path], Any], is_cached: bool) -> None:
    """Values, times and states go both ways while both have the file open, also where a cache lies in between."""
    reader: BaseStorage = (plain if writer is sqlite else sqlite)(path)
    reader = get_storage(reader) if is_cached else reader
    storage: BaseStorage = writer(path)
    study = new_study(storage)
    assert reader.get_all_trials(study) == []
    for number in range(2):
        trial = storage.create_new_trial(study)
        for name, distribution in DISTRIBUTIONS.items():
            storage.set_trial_param(trial, name, 8.0 if name == "hidden" else 1e-3 if name == "lr" else 2, distribution)
        for step, value in enumerate([*NUMBERS, float("nan")]):
            storage.set_trial_intermediate_value(trial, step, value)
        storage.set_trial_user_attr(trial, "note", {"a": [1, None]})
        assert seen(reader, study) == seen(storage, study)
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [0.25])
        assert seen(reader, study) == seen(storage, study)
        found = reader.get_trial(trial)
        assert (found.number, found.state, found.value) == (number, TrialState.COMPLETE, 0.25)
        assert found.params == {"lr": 1e-3, "hidden": 8, "act": 2.5}
        assert found.user_attrs == {"note": {"a": [1, None]}}
        assert found.datetime_start is not None
        assert found.datetime_complete is not None
        assert datetime.now() - timedelta(minutes=1) < found.datetime_start < found.datetime_complete < datetime.now()


def test_our_own_process_updates_what_optuna_caches(path: Path) -> None:
    """A trial that another process ends is read again, however old, while others beside it run on."""
    here, there = get_storage(sqlite(path)), sqlite(path)
    study = new_study(here)
    first, second = here.create_new_trial(study), here.create_new_trial(study)
    there.set_trial_state_values(second, TrialState.COMPLETE, [1.0])
    assert [t.state.name for t in here.get_all_trials(study)] == ["RUNNING", "COMPLETE"]
    there.set_trial_intermediate_value(first, 1, 0.5)
    assert here.get_all_trials(study)[0].intermediate_values == {1: 0.5}
    there.set_trial_state_values(first, TrialState.FAIL)
    assert [t.state.name for t in here.get_all_trials(study)] == ["FAIL", "COMPLETE"]


# ------------------------------------------------------------------ several processes


def in_the_middle_of(path: Path, statement: str, *values: object, call: Callable[[], Any]) -> Any:
    """What a call returns that begins while another process writes, and goes on when that one is done."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        other.execute(statement, values)
        started = threading.Event()

        def begin() -> Any:
            started.set()
            return call()

        answer = pool.submit(begin)
        started.wait()
        time.sleep(0.2)  # it reads what it reads without waiting
        other.execute("COMMIT")
        return answer.result()


def test_a_waiting_trial_is_not_taken_twice(path: Path) -> None:
    """Whether it waits is read when nobody else can take it any more."""
    storage = sqlite(path)
    study = new_study(storage)
    trial = storage.create_new_trial(study, optuna.trial.create_trial(state=TrialState.WAITING))
    taken = in_the_middle_of(
        path,
        "UPDATE trials SET state = 'RUNNING' WHERE trial_id = ?",
        trial,
        call=lambda: storage.set_trial_state_values(trial, TrialState.RUNNING),
    )
    assert taken is False


def test_a_number_is_not_given_twice(path: Path) -> None:
    """The trials are counted when nobody else can add one any more."""
    storage = sqlite(path)
    study = new_study(storage)
    trial = in_the_middle_of(
        path,
        "INSERT INTO trials (number, study_id, state) VALUES (0, ?, 'RUNNING')",
        study,
        call=lambda: storage.create_new_trial(study),
    )
    assert storage.get_trial(trial).number == 1


def test_a_trial_that_another_process_ended_is_not_written(path: Path) -> None:
    """Whether it has ended is read when nobody else can end it any more."""
    storage = sqlite(path)
    trial = storage.create_new_trial(new_study(storage))
    with pytest.raises(UpdateFinishedTrialError, match="Trial#0 has already finished and can not be updated"):
        in_the_middle_of(
            path,
            "UPDATE trials SET state = 'COMPLETE' WHERE trial_id = ?",
            trial,
            call=lambda: storage.set_trial_intermediate_value(trial, 1, 0.5),
        )
    assert storage.get_trial(trial).intermediate_values == {}


WORKER = """
    import sys, pathlib, time, optuna
    from optuna.distributions import FloatDistribution
    from tunehook.storage.sqlite import sqlite
    path, me, go = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = sqlite(path) if me != "plain" else optuna.storages.RDBStorage(
        f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    study = optuna.load_study(study_name="digits", storage=storage, sampler=optuna.samplers.RandomSampler())
    print("ready", flush=True)
    while not go.exists():
        time.sleep(0.001)
    for _ in range(30):
        trial = study.ask({"x": FloatDistribution(0, 1)})
        for step in range(3):
            trial.report(trial.params["x"] + step, step)
        trial.set_user_attr("by", me)
        study.tell(trial, trial.params["x"])
        print(trial.number, trial.params["x"], flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [["1", "2", "3"], ["1", "2", "plain"]])
def test_processes_that_write_at_once_lose_nothing(path: Path, tmp_path: Path, workers: list[str]) -> None:
    """Each trial, waiting or new, belongs to one process, and all that each wrote is there; one of them is Optuna's."""
    study = optuna.create_study(storage=sqlite(path), study_name="digits")
    # Optuna's own may take a waiting trial that another one has just taken, so that they are for ours only.
    waiting = 0 if "plain" in workers else 40
    for number in range(waiting):
        study.enqueue_trial({"x": number / 100})
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), path, name, tmp_path / "go"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in workers
    ]
    for process in begun:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    told = {
        int(line.split()[0]): (float(line.split()[1]), name)
        for process, name in zip(begun, workers, strict=True)
        for line in process.communicate(timeout=PATIENCE)[0].splitlines()
    }
    assert [process.returncode for process in begun] == [0] * len(workers)
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(30 * len(workers)))
    assert told == {trial.number: (trial.params["x"], trial.user_attrs["by"]) for trial in trials}
    for trial in trials:
        x = trial.params["x"]
        assert (trial.state, trial.value) == (TrialState.COMPLETE, x)
        assert trial.intermediate_values == {0: x, 1: x + 1, 2: x + 2}
    assert [trial.params["x"] for trial in trials[:waiting]] == [number / 100 for number in range(waiting)]


def test_many_threads_share_a_storage(path: Path) -> None:
    """More threads than the pool has connections write to their trials, and to one that has ended."""
    storage = get_storage(sqlite(path))
    study = new_study(storage)
    ended = storage.create_new_trial(study)
    storage.set_trial_state_values(ended, TrialState.COMPLETE, [0.0])

    def work(number: int) -> None:
        trial = storage.create_new_trial(study)
        storage.set_trial_param(trial, "lr", 1e-3, LR)
        with pytest.raises(UpdateFinishedTrialError):
            storage.set_trial_user_attr(ended, "by", number)
        storage.set_trial_state_values(trial, TrialState.COMPLETE, [float(number)])

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(work, range(24)))
    trials = storage.get_all_trials(study)
    assert [trial.number for trial in trials] == list(range(25))
    assert {trial.value for trial in trials[1:]} == set(range(24))


# ------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("schema", [(13, "v3.2.0.a"), (12, "v6.0.0.a")])
def test_tables_that_we_do_not_know_are_left_to_optuna(
    path: Path, monkeypatch: pytest.MonkeyPatch, schema: tuple[int, str]
) -> None:
    """Where Optuna's schema is another one than ours, its own storage serves, on the same file in the same way."""
    monkeypatch.setattr(tunehook.storage.sqlite, "SCHEMA", schema)
    storage = sqlite(path)
    assert isinstance(storage, RDBStorage)
    assert not isinstance(storage, tunehook.storage.sqlite.SqliteStorage)
    study = optuna.create_study(storage=storage)
    study.tell(study.ask({"lr": LR}), 1.0)
    with storage.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT state FROM trials").fetchall() == [("COMPLETE",)]


@pytest.mark.parametrize("table", ["trials", "trial_intermediate_values"])
def test_a_broken_file_raises_what_optuna_raises(path: Path, table: str) -> None:
    """The error is Optuna's, with SQLite's own as its cause, and nothing stays locked."""
    storage = sqlite(path)
    trial = storage.create_new_trial(new_study(storage))
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"DROP TABLE {table}")
    with pytest.raises(StorageInternalError, match=f"no such table: {table}") as raised:
        storage.set_trial_intermediate_value(trial, 1, 0.5)
    assert isinstance(raised.value.__cause__, sqlite3.OperationalError)
    with closing(sqlite3.connect(path, timeout=0.1)) as db:
        db.execute("CREATE TABLE trials_of_others (number)")


# ------------------------------------------------------------------ a file that another program holds


@pytest.mark.parametrize("when", ["before it is opened", "before a trial is asked for", "before it is told"])
def test_a_locked_file_is_waited_for(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as a server is, in short waits, in which Ctrl-C is heard."""
    monkeypatch.setattr(tunehook.storage.sqlite, "BUSY", 0.05)
    file = tmp_path / "study.db"
    th.Study("one", {"x": th.Float(0, 1)}, metric="v", mode="min", search="random", folder=tmp_path).ask()
    opened = th.Study("one", {"x": th.Float(0, 1)}, metric="v", mode="min", search="random", folder=tmp_path)
    trial = None
    if when != "before it is opened":
        assert opened.finished == 0
    if when == "before it is told":
        trial = opened.ask()
    with closing(sqlite3.connect(file, check_same_thread=False, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")

        def release(record: logging.LogRecord) -> bool:
            if "does not answer (database is locked)" in record.getMessage() and other.in_transaction:
                other.execute("ROLLBACK")
            return True

        logger = logging.getLogger("tunehook")
        logger.addFilter(release)  # once it is told that it is waited for
        try:
            trial = opened.ask() if trial is None else trial
            opened.tell(trial, Outcome("complete", value=0.5, step=1))
        finally:
            logger.removeFilter(release)
    assert [one.outcome.state for one in opened.trials].count("complete") == 1
    assert any("does not answer (database is locked)" in line for line in caplog.messages)


def test_a_file_that_stays_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error of a storage that is away, which says so."""
    monkeypatch.setattr(tunehook.storage.sqlite, "BUSY", 0.05)
    opened = th.Study("one", {"x": th.Float(0, 1)}, metric="v", mode="min", search="random", folder=tmp_path)
    opened.ask()
    opened._ledger.kept.patience = 0.3
    with closing(sqlite3.connect(tmp_path / "study.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageAway, match=r"does not answer for .*database is locked"):
            opened.ask()
