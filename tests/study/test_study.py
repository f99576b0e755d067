"""Studies on real storages: ask and tell, resume, bad input, dead processes, several processes at once."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import pickle
import random
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd  # type: ignore[import-untyped,unused-ignore]
import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest
import torch
from optuna.distributions import IntDistribution
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import tunehook as th
from tunehook.record.journal import read_journal
from tunehook.search.samplers import SEARCHES, STOPPERS
from tunehook.session.in_progress import active
from tunehook.storage import memory
from tunehook.study.optuna_trial import OptunaTrial
from tunehook.study.study import Study
from tunehook.study.terms import ATTEMPTS
from tunehook.trial.errors import JournalError, StudyError, StudyFinished
from tunehook.trial.objective import State
from tunehook.trial.values import Budget, Outcome, Trial

SPACE = {"lr": th.Float(1e-4, 1e-1, log=True), "hidden": th.Int(8, 64), "act": th.Choice(["relu", None]), "seed": 1}
GRID = {"a": th.Choice([1, 2, 3]), "b": th.Choice([[1], "x"])}


def study(name: str = "digits", space: Mapping[str, Any] = SPACE, **options: Any) -> Study:
    """A study of 'acc', searched at random unless told otherwise."""
    return Study(name, space, **{"metric": "acc", "mode": "max", "search": "random", **options})


def complete(value: float) -> Outcome:
    """A trial that ended well."""
    return Outcome("complete", "trained to its end", value, 1)


def run(script: str, *args: object, **options: Any) -> subprocess.Popen[str]:
    """Start a Python process on a script; a pipe takes what it prints."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, args)], stdout=subprocess.PIPE, text=True, **options
    )


# ------------------------------------------------------------------ ask and tell

OUTCOMES: list[tuple[Outcome, TrialState, float | None]] = [
    (complete(0.5), TrialState.COMPLETE, 0.5),
    (Outcome("pruned", "median: behind", 0.25, 3), TrialState.PRUNED, 0.25),
    (Outcome("infeasible", "acc is nan at step 2", 0.75, 1), TrialState.PRUNED, 0.75),
    (Outcome("infeasible", "MemoryError"), TrialState.PRUNED, None),
    (Outcome("failed", "ValueError: x", None, None, "Traceback ..."), TrialState.FAIL, None),
    (Outcome("interrupted", "Ctrl-C", 0.125, 2), TrialState.FAIL, None),
]


@pytest.mark.parametrize(("outcome", "state", "value"), OUTCOMES, ids=lambda x: getattr(x, "reason", ""))
def test_every_outcome_comes_back(outcome: Outcome, state: TrialState, value: float | None) -> None:
    """What is told is read back whole, here and by another study object; Optuna has the state that fits."""
    here = study()
    trial = here.ask()
    assert [found.outcome for found in here.trials] == [Outcome("running")]
    here.tell(trial, outcome)
    for opened in (here, study()):
        (found,) = opened.trials
        assert (found.number, found.params, found.value, found.outcome) == (0, trial.params, outcome.value, outcome)
    frozen = here.optuna.trials[0]
    assert (frozen.state, frozen.value) == (state, value)
    assert here.counts() == {outcome.state: 1}


def test_an_asked_trial() -> None:
    """It has the space's names in order, fixed ones too, a folder of its own, and a journal that began."""
    opened = study()
    opened.ask()
    trial = opened.ask()
    assert (trial.study, trial.number, trial.metric, trial.mode, trial.attempt) == ("digits", 1, "acc", "max", 0)
    assert list(trial.params) == ["lr", "hidden", "act", "seed"]
    assert trial.params["seed"] == 1
    assert trial.folder == Path.cwd() / "tunehook-studies/digits/trial-0001"
    (event,) = read_journal(trial.folder / "journal.jsonl")
    assert (event["event"], event["params"], event["pid"]) == ("begin", trial.params, os.getpid())


def test_the_best_trial() -> None:
    """Only complete ones count, by the mode, the first of equal ones."""
    for mode, number in (("max", 1), ("min", 0)):
        opened = study(mode, mode=mode)
        for value in (0.0, 0.5, 0.5):
            opened.tell(opened.ask(), complete(value))
        opened.tell(opened.ask(), Outcome("pruned", "", 9.0, 1))
        opened.tell(opened.ask(), Outcome("infeasible", "", -9.0, 1))
        assert opened.best.number == number


def test_the_best_values() -> None:
    """They are those of the best trial, by the names that Optuna gives them."""
    opened = study(mode="min")
    for value in (0.5, 0.25):
        opened.tell(opened.ask(), complete(value))
    assert (opened.best_params, opened.best_value) == (opened.trials[1].params, 0.25)


WRONG = {"hidden": [8], "lr": 5.0, "act": "gelu"}


@pytest.mark.filterwarnings("ignore:Fixed parameter")
@pytest.mark.parametrize(("name", "raw"), WRONG.items())
def test_wrong_values_that_were_enqueued_are_left_out(name: str, raw: object) -> None:
    """What Optuna was given and the space does not have is one error; the next trial is whole."""
    opened = study()
    opened._ledger.study.enqueue_trial({name: raw})
    message = (
        f"Trial 0 was enqueued with {name}={raw!r}, which is none of Optuna's raw values of {opened.space[name]!r}; "
        "the trial is left out.\n  Enqueue your own values: study.enqueue({...})."
    )
    with pytest.raises(th.SpaceError, match=f"^{re.escape(message)}$"):
        opened.ask()
    assert opened.ask().number == 1
    assert opened.finished == 0
    assert [frozen.state for frozen in opened.optuna.trials] == [TrialState.FAIL, TrialState.RUNNING]


def test_known_values_come_first() -> None:
    """Values of the user's own are asked for before others, and refused where the space does not have them."""
    space = {"lr": th.LogNormal(-9, 2), "hidden": th.Choice([[8, 8], [16]]), "drop": th.Float(0, 0.5, step=0.1)}
    opened = study(space=space)
    opened.enqueue({"lr": 1e-4, "hidden": [16]})
    opened.enqueue({"hidden": [8, 8], "drop": 0.2})
    first, second = opened.ask().params, opened.ask().params
    assert (first["lr"], first["hidden"]) == (1e-4, [16])
    assert (second["hidden"], second["drop"]) == ([8, 8], 0.2)
    with pytest.raises(
        th.SpaceError, match=r"^Hyperparameter 'hidden': \[4\] is outside Choice\(\[\[8, 8\], \[16\]\]\)"
    ):
        opened.enqueue({"hidden": [4]})
    message = "A trial that is enqueued in a grid gives every value, missing: b."
    with pytest.raises(th.SpaceError, match=f"^{re.escape(message)}$"):
        study("grid", GRID, search="grid").enqueue({"a": 1})
    with pytest.raises(th.SpaceError):
        study("typo", GRID).enqueue({"c": 1})
    assert not study("typo", GRID).paths.folder.exists()


def test_wide_numbers_of_an_older_version_go_on() -> None:
    """A study whose wide integers were sampled as such goes on with them, since Optuna takes one kind only."""
    space = {"x": th.Int(0, 2**31 - 1)}
    old = study(space=space)
    old.optuna.tell(old._ledger.study.ask({"x": IntDistribution(0, 2**31 - 1)}), 0.5)
    opened = study(space=space)
    opened.enqueue({"x": 7})
    assert opened.ask().params == {"x": 7}
    assert isinstance(opened.ask().params["x"], int)
    assert opened.trials[0].params == old.trials[0].params


class Faulty(optuna.samplers.RandomSampler):
    """Fails where it is told to, once."""

    error: BaseException | None = MemoryError("16 GiB")

    def sample_relative(self, *_args: Any) -> dict[str, Any]:
        """Fail."""
        error, self.error = self.error, None
        if error is not None:
            raise error
        return {}


@pytest.mark.parametrize("error", [MemoryError("16 GiB"), KeyboardInterrupt()], ids=repr)
def test_no_trial_runs_on_where_asking_fails(error: BaseException) -> None:
    """The error is raised as it is, the trial that was begun has ended, and enqueued values are asked again."""
    sampler = Faulty()
    sampler.error = error
    opened = study(search=sampler)
    opened.enqueue({"hidden": 9})
    with pytest.raises(type(error)):
        opened.ask()
    running = opened.ask()
    assert (running.params["hidden"], running.attempt) == (9, 1)
    assert [frozen.state for frozen in opened.optuna.trials] == [TrialState.FAIL, TrialState.RUNNING]


def test_no_best_trial() -> None:
    """The message counts what there is."""
    opened = study()
    text = "Study 'digits' has no complete trial yet ({}), so there is no best one."
    with pytest.raises(StudyError, match=re.escape(text.format("no trials"))):
        opened.best  # noqa: B018 - raises
    for state in ("failed", "pruned", "failed"):
        opened.tell(opened.ask(), Outcome(state))
    opened.ask()
    with pytest.raises(StudyError, match=re.escape(text.format("2 failed, 1 pruned, 1 running"))):
        opened.best  # noqa: B018 - raises


def test_the_table() -> None:
    """One row a trial, one column a name, also where there is no trial."""
    opened = study()
    columns = ["number", "state", "value", "reason", "step", "began", "ended", "seconds", "epochs", "machine",
               "attempt", "is_given", "params.lr", "params.hidden", "params.act", "params.seed"]  # fmt: skip
    assert list(opened.dataframe().columns) == columns
    assert len(opened.dataframe()) == 0
    for outcome, _, _ in OUTCOMES:
        opened.tell(opened.ask(), outcome)
    opened.ask()
    table = opened.dataframe()
    rows = table.iloc[: len(OUTCOMES)]
    assert list(rows["state"]) == [outcome.state for outcome, _, _ in OUTCOMES]
    assert list(rows["reason"]) == [outcome.reason for outcome, _, _ in OUTCOMES]
    assert [None if pd.isna(v) else v for v in rows["value"]] == [outcome.value for outcome, _, _ in OUTCOMES]
    assert list(rows["params.lr"]) == [trial.params["lr"] for trial in opened.trials[: len(OUTCOMES)]]
    assert list(table["state"])[len(OUTCOMES) :] == ["running"]


def test_what_is_told_first_counts() -> None:
    """A second tell, here or in another process, changes nothing."""
    opened, other = study(), study()
    trial = opened.ask()
    opened.tell(trial, complete(0.5))
    opened.tell(trial, complete(0.9))
    other.tell(trial, Outcome("interrupted", "late"))
    assert [found.outcome for found in other.trials] == [complete(0.5)]
    assert len(other.optuna.trials) == 1


def test_a_trial_that_another_process_tells_at_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both look and see it running, one is first: the other one is silent, and the values are asked again once."""
    first, second = study(), study()
    trial = first.ask()
    real = second._ledger.note

    def overtaken(running: Any, name: str, value: Any) -> None:
        first.tell(trial, Outcome("interrupted", "first"))
        real(running, name, value)

    monkeypatch.setattr(second._ledger, "note", overtaken)
    second.tell(trial, Outcome("interrupted", "second"))
    assert [frozen.state for frozen in first.optuna.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert [found.outcome.reason for found in study().trials] == ["first"]


def test_trials_told_past_this_class() -> None:
    """What people do with study.optuna is shown as well as it can be."""
    opened = study()
    for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.PRUNED, None), (TrialState.FAIL, None)):
        opened.optuna.tell(opened.ask().number, value, state=state)
    opened.optuna.enqueue_trial({"hidden": 16})
    assert [(found.outcome.state, found.value) for found in opened.trials] == [
        ("complete", 0.5),
        ("pruned", None),
        ("failed", None),
    ]
    assert opened.ask().params["hidden"] == 16


def test_a_trial_that_is_sampled_right_now_is_left_out() -> None:
    """Another process has created it and not stored its values yet."""
    opened = study()
    opened.ask()
    opened._ledger.kept.create_new_trial(opened.optuna._study_id)
    assert [found.number for found in opened.trials] == [0]
    assert [found.number for found in study().trials] == [0]


def test_nothing_keeps_a_study_that_nobody_has() -> None:
    """Its connections are closed then, not when Python looks for circles."""
    opened = study()
    opened.tell(opened.ask(), complete(0.5))
    held = weakref.ref(opened), weakref.ref(opened._ledger)
    gc.disable()
    try:
        del opened
        assert [ref() for ref in held] == [None, None]
    finally:
        gc.enable()


def test_the_records_of_a_trial() -> None:
    """The journal, then the places that recorders named."""
    opened = study()
    trial = opened.ask()
    path = trial.folder / "journal.jsonl"
    assert opened.records(0) == [str(path)]
    with path.open("a") as file:
        file.write(json.dumps({"event": "config", "records": ["https://w/1", "wandb/offline-run"]}) + "\n")
    assert opened.records(0) == [str(path), "https://w/1", "wandb/offline-run"]


# ------------------------------------------------------------------ judging


class Never(optuna.pruners.BasePruner):
    """Prunes at the second report."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.last_step == 2


def test_a_pruner_object_decides() -> None:
    """The reason has its class, the metric, the value and the step."""
    opened = study(stopper=Never())
    trial = opened.ask()
    assert not opened.report(trial, 1, 0.25, Budget(3)).stop
    decision = opened.report(trial, 2, 0.1234567891, Budget(3))
    assert decision.stop
    assert decision.reason == "Never: acc 0.123457 at step 2 falls behind the other trials"
    assert decision.state == "pruned"
    assert opened.optuna.trials[0].intermediate_values == {1: 0.25, 2: 0.1234567891}


def test_the_warm_up_of_a_named_stopper_follows_from_the_budget() -> None:
    """With 60 epochs nothing is judged before the tenth."""
    opened = study(stopper="median")
    for _ in range(6):
        trial = opened.ask()
        for step in range(1, 61):
            opened.report(trial, step, 1.0, Budget(60))
        opened.tell(trial, complete(1.0))
    trial = opened.ask()
    stops = [opened.report(trial, step, 0.0, Budget(60)).stop for step in range(1, 12)]
    assert stops == [False] * 9 + [True] * 2


class Counting(RDBStorage):
    """An SQLite file that counts how often trials are read, running ones with all of their reports."""

    reads = 0

    def get_trial(self, trial_id: int) -> optuna.trial.FrozenTrial:
        Counting.reads += 1
        return super().get_trial(trial_id)

    def _get_trials(self, *args: Any, **named: Any) -> list[optuna.trial.FrozenTrial]:
        Counting.reads += 1
        return super()._get_trials(*args, **named)


@pytest.mark.parametrize("stopper", STOPPERS)
def test_a_report_reads_no_trial_anew(stopper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading takes a small share of the time, however many reports a trial has made; what ends here counts at once."""
    now = 0.0
    monkeypatch.setattr(memory.Memory.__init__, "__kwdefaults__", {"clock": lambda: now})
    opened = study(stopper=stopper, storage=Counting(f"sqlite:///{tmp_path}/study.db"))

    def train(level: float, reports: int) -> int:
        trial = opened.ask()
        for step in range(1, reports + 1):
            if opened.report(trial, step, level + step * 1e-6, Budget()).stop:
                break
        opened.tell(trial, complete(level) if step == reports else Outcome("pruned", "", level, step))
        return step

    for level in range(6):
        assert train(level, 4) >= 3
    opened.ask()
    Counting.reads = 0
    trial = opened.ask()
    asked = Counting.reads
    decisions = [opened.report(trial, step, 6.0 + step, Budget()) for step in range(1, 301)]
    assert not any(decision.stop for decision in decisions)
    assert Counting.reads - asked < 20
    assert len(opened.optuna.trials[trial.number].intermediate_values) == 300
    assert train(-1.0, 9) == 3


def test_without_a_stopper_nothing_stops() -> None:
    """Reports are still kept for the dashboard."""
    opened = study(stopper=None)
    trial = opened.ask()
    assert not any(opened.report(trial, step, -1e9, Budget()).stop for step in range(1, 20))
    assert len(opened.optuna.trials[0].intermediate_values) == 19


@pytest.mark.parametrize("search", ["tpe", "gp", "random"])
def test_infeasible_and_pruned_trials_as_the_sampler_sees_them(search: str) -> None:
    """Infeasible breaks a constraint, pruned keeps its value, failed is left out; sampling goes on."""
    opened = study(search=search, storage=InMemoryStorage(), seed=1)
    told: Sequence[State] = ["complete", "pruned", "infeasible", "failed", "interrupted"]
    for number in range(15):
        trial = opened.ask()
        opened.report(trial, 1, 0.25, Budget())
        state = told[number % 5]
        opened.tell(trial, Outcome(state, "why", 0.5 if state == "complete" else 0.25))
    frozen = opened.optuna.trials
    assert [t.state.name for t in frozen[:5]] == ["COMPLETE", "PRUNED", "PRUNED", "FAIL", "FAIL"]
    assert [t.value for t in frozen[:5]] == [0.5, 0.25, 0.25, None, None]
    broken = [any(value == 1.0 and "constraint" in key for key, value in t.system_attrs.items()) for t in frozen[:5]]
    assert broken == [False, False, True, False, False]
    opened.ask()


@pytest.mark.parametrize("search", [name for name in SEARCHES if name not in ("cmaes", "grid", "pbt")])
def test_random_states_are_untouched(search: str) -> None:
    """Opening, asking, reporting and telling draw nothing from Python, NumPy or torch."""
    numeric = {"lr": th.Float(0, 1), "wd": th.Float(0, 1)}
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    opened = study(space=numeric, search=search, storage=InMemoryStorage(), stopper="hyperband")
    for number in range(13):
        trial = opened.ask()
        opened.report(trial, 1, 0.1 * number, Budget(5))
        opened.tell(trial, complete(trial.params["lr"]))
    after = random.getstate(), np.random.get_state(), torch.get_rng_state()
    assert before[0] == after[0]
    assert all(np.array_equal(one, two) for one, two in zip(before[1], after[1], strict=True))
    assert torch.equal(before[2], after[2])


# ------------------------------------------------------------------ storages


def test_the_default_storage_is_sqlite_in_wal_mode() -> None:
    """One file in the study's folder, in WAL mode; each connection waits a little for locks and syncs as WAL allows."""
    opened = study()
    opened.ask()
    with sqlite3.connect("tunehook-studies/digits/study.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    storage: Any = opened._ledger.kept
    backend: Any = storage._backend._backend  # patience, then the cache of Optuna
    with backend.engine.connect() as ours:
        for pragma, value in (("journal_mode", "wal"), ("synchronous", 1), ("busy_timeout", 5000)):
            assert ours.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_any_folder(hostile: Path) -> None:
    """Database and journals lie in the folder itself, whatever its name, and open again."""
    opened = study(folder=hostile)
    trial = opened.ask()
    opened.tell(trial, complete(0.5))
    assert {path.name for path in hostile.iterdir()} >= {"study.db", "trial-0000"}
    assert study(folder=str(hostile)).best.params == trial.params
    assert [path.name for path in hostile.parent.parent.iterdir()] == [hostile.parent.name]


def test_a_change_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training may change it: the study stays where it was made."""
    opened = study()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    opened.tell(opened.ask(), complete(0.5))
    session = opened.session(opened.ask())
    session.end(ValueError())
    assert session.outcome is not None
    assert session.outcome.state == "failed"
    assert list(Path().iterdir()) == []
    assert len(list((tmp_path / "tunehook-studies/digits").glob("trial-*/journal.jsonl"))) == 2


def storages() -> dict[str, Any]:
    """One of each kind."""
    return {
        "memory": InMemoryStorage(),
        "url": "sqlite:///other.db",
        "rdb": RDBStorage("sqlite:///object.db"),
        "journal": JournalStorage(JournalFileBackend("journal.log")),
    }


@pytest.mark.parametrize("kind", ["memory", "url", "rdb", "journal"])
def test_any_storage(kind: str) -> None:
    """Every Optuna storage keeps everything; the journals still lie in the study's folder."""
    storage = storages()[kind]
    opened = study(storage=storage)
    trials = [opened.ask() for _ in range(3)]
    for trial, outcome in zip(
        trials, [complete(0.5), Outcome("interrupted", "x"), Outcome("infeasible", "y")], strict=True
    ):
        opened.report(trial, 1, 0.5, Budget())
        opened.tell(trial, outcome)
    again = study(storage=storage)
    assert [found.outcome.state for found in again.trials] == ["complete", "interrupted", "infeasible"]
    retried = again.ask()
    assert (retried.params, retried.attempt) == (trials[1].params, 1)
    again.tell(retried, complete(0.5))  # what runs gives signs of life, in a file of this folder
    assert not Path("tunehook-studies/digits/study.db").exists()
    assert Path("tunehook-studies/digits/trial-0000/journal.jsonl").exists()


@pytest.mark.parametrize("sampler", [optuna.samplers.RandomSampler(1), optuna.samplers.TPESampler(seed=1)])
def test_any_sampler(sampler: optuna.samplers.BaseSampler) -> None:
    """A sampler object is taken as it is."""
    opened = study(search=sampler)
    assert opened.optuna.sampler is sampler
    assert opened.ask().params["seed"] == 1


def test_several_studies_share_a_storage() -> None:
    """Names keep them apart, and numbers count within each."""
    one, two = study("one", storage="sqlite:///s.db"), study("two", storage="sqlite:///s.db")
    assert [one.ask().number, two.ask().number, one.ask().number] == [0, 0, 1]


def blocked(kind: str) -> tuple[str | None, str, str]:
    """A place that cannot be used: the storage, the place in the message, and the cause."""
    Path("file").write_text("x")
    Path("broken.db").write_bytes(b"this is no database" * 100)
    return {
        "missing folder": ("sqlite:///none/study.db", "sqlite:///none/study.db", "unable to open database file"),
        "below a file": ("sqlite:///file/study.db", "sqlite:///file/study.db", "unable to open database file"),
        "proc": ("sqlite:////proc/study.db", "sqlite:////proc/study.db", "unable to open database file"),
        "no database": ("sqlite:///broken.db", "sqlite:///broken.db", "file is not a database"),
        "no url": ("study.db", "study.db", "Could not parse SQLAlchemy URL from given URL string"),
        "port": ("oracle://me:secret@h:x/d", "oracle://me:***@h:x/d", "invalid literal for int() with base 10: 'x'"),
        "password": (
            "redis://me:s3:cr@et@h/d",
            "redis://me:***@h/d",
            "RedisStorage is removed at Optuna v3.1.0. Please use JournalRedisBackend instead",
        ),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["missing folder", "below a file", "proc", "no database", "no url", "port", "password"]
)
def test_a_storage_that_cannot_be_used(kind: str) -> None:
    """The message names the place without its password, the cause and the way out."""
    storage, place, cause = blocked(kind)
    with pytest.raises(StudyError) as caught:
        study(storage=storage).ask()
    assert str(caught.value) == (
        f"The storage {place} of study 'digits' cannot be used: {cause}.\n"
        "  Check that the place exists and can be written, or give another one: Study(..., storage=...)."
    )


def test_a_database_server_that_cannot_be_reached() -> None:
    """Without a driver or a server the password stays out of the message."""
    with pytest.raises(StudyError) as caught:
        study(storage="postgresql://me:secret@127.0.0.1:1/db").ask()
    text = str(caught.value)
    assert text.startswith("The storage postgresql://me:***@127.0.0.1:1/db of study 'digits' cannot be used: ")
    assert "secret" not in text


def test_a_damaged_default_database() -> None:
    """The file in the study's folder is named."""
    folder = Path("tunehook-studies/digits")
    folder.mkdir(parents=True)
    (folder / "study.db").write_bytes(b"no database" * 500)
    with pytest.raises(StudyError, match=re.escape(f"The storage {folder.absolute()}/study.db of study 'digits'")):
        study().trials  # noqa: B018 - raises


@pytest.mark.parametrize(("place", "why"), [("digits", "it is a file"), ("", "Not a directory")])
def test_a_study_folder_that_is_a_file(place: str, why: str) -> None:
    """A file in the way, itself or above, is told with the way out, and stays."""
    root = Path("tunehook-studies")
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text("mine")
    with pytest.raises(StudyError) as caught:
        study().ask()
    assert str(caught.value) == (
        f"The study's folder {root.absolute()}/digits cannot be made: {why}.\n"
        "  Move what is in the way, or give another one: Study(..., folder=...)."
    )
    assert (root / place).read_text() == "mine"


def test_a_journal_that_cannot_be_begun() -> None:
    """The trial is told as interrupted, and its values are the next ones."""
    opened = study()
    opened.optuna  # noqa: B018 - makes the folder
    Path("tunehook-studies/digits/trial-0000").touch()
    with pytest.raises(JournalError, match="cannot be written: File exists"):
        opened.ask()
    (found,) = opened.trials
    assert found.outcome.state == "interrupted"
    assert opened.ask().params == found.params


# ------------------------------------------------------------------ bad arguments

NAME = "A study's name has letters, digits, '_', '.' and '-' only, since it names a folder; got "
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    *[({"name": name}, ValueError, f"{NAME}{name!r}.") for name in ("", "a b", "a/b", "..", ".", "a\n", "-", None, 3)],
    *[
        (
            {"metric": value},
            ValueError,
            (
                "metric is the name of a logged metric, such as 'val_acc', or a list of several, such as "
                f"['val_acc', 'latency']; got {value!r}."
            ),
        )
        for value in ("", None)
    ],
    *[
        (
            {"mode": value},
            ValueError,
            f"mode is 'min' or 'max', or a list of them, one for each metric; got {value!r}.",
        )
        for value in ("maximize", None)
    ],
    *[
        (
            {"objective": value},
            ValueError,
            f"objective is 'best', 'last', or k > 0 for the mean of the last k reports; got {value!r}.",
        )
        for value in ("mean", 0, -1, True, 2.0, None)
    ],
    *[
        ({"max_failures": value}, ValueError, f"max_failures is an integer above 0; got {value!r}.")
        for value in (0, -1, True, 1.5, None)
    ],
    (
        {"search": "bayse"},
        ValueError,
        (
            "There is no search method 'bayse'. Did you mean 'bayes'? There are 'bayes', 'grid', 'random', 'qmc', "
            "'tpe', 'gp', 'cmaes', 'nsga2', 'pbt', 'hyperopt', 'hyperopt-anneal', 'hyperopt-atpe', 'hyperopt-random', "
            "and any Optuna sampler."
        ),
    ),
    (
        {"stopper": "x"},
        ValueError,
        "There is no stopper 'x'. There are 'median', 'asha', 'hyperband', 'pause', 'auto', and any Optuna pruner.",
    ),
    (
        {"search": optuna.samplers.TPESampler},
        TypeError,
        (
            "search is one of 'bayes', 'grid', 'random', 'qmc', 'tpe', 'gp', 'cmaes', 'nsga2', 'pbt', 'hyperopt', "
            "'hyperopt-anneal', 'hyperopt-atpe', 'hyperopt-random', or an "
            "instance of an Optuna sampler; got <class 'optuna.samplers._tpe.sampler.TPESampler'>."
        ),
    ),
    (
        {"search": None},
        TypeError,
        (
            "search is one of 'bayes', 'grid', 'random', 'qmc', 'tpe', 'gp', 'cmaes', 'nsga2', 'pbt', 'hyperopt', "
            "'hyperopt-anneal', 'hyperopt-atpe', 'hyperopt-random', or an "
            "instance of an Optuna sampler; got None."
        ),
    ),
    (
        {"stopper": True},
        TypeError,
        (
            "stopper is one of 'median', 'asha', 'hyperband', 'pause', 'auto', or an instance of an Optuna pruner; "
            "got True."
        ),
    ),
    (
        {"storage": 5},
        TypeError,
        (
            "storage is a URL, such as 'sqlite:///study.db', or an Optuna storage; got 5.\n"
            "  Leave it out for an SQLite file in the study's folder."
        ),
    ),
    (
        {"recorders": [3]},
        TypeError,
        (
            "A recorder has the methods open, report, close and where; got 3.\n"
            "  Pass instances, such as recorders=[WandbRecorder(project='digits')]."
        ),
    ),
    ({"space": {}}, th.SpaceError, "A space needs at least one hyperparameter, got an empty dict."),
    ({"space": None}, th.SpaceError, "A space is a dict of distributions by name, got None."),
    (
        {"search": "grid"},
        th.SpaceError,
        (
            "A grid needs finitely many values, but there are infinitely many for 'lr' "
            "(Float(0.0001, 0.1, log=True)).\n"
            "  Give them a step, as in Float(0.1, 0.5, step=0.1), or use Choice([...])."
        ),
    ),
]


@pytest.mark.parametrize(("options", "kind", "text"), BAD, ids=[f"{next(iter(row[0].items()))!r}"[:40] for row in BAD])
def test_a_bad_argument(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    """Each is told at once with the rule and what was given; nothing is written."""
    with pytest.raises(kind) as caught:
        study(**options)
    assert str(caught.value) == text
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", ["digits", "v1.2_x-y", "größe", "研究", "-a", "1"])
def test_a_good_name(name: str) -> None:
    """Letters of every script."""
    assert study(name).ask().study == name
    assert Path("tunehook-studies", name).is_dir()


def test_a_recorder_class_in_place_of_an_instance() -> None:
    """It has all the methods and is none."""

    class Mine:
        def open(self, *_: object, **__: object) -> None: ...
        def report(self, *_: object) -> None: ...
        def close(self, *_: object) -> None: ...
        def where(self) -> None: ...

    study(recorders=[Mine()])
    with pytest.raises(TypeError, match="Pass instances"):
        study(recorders=[Mine])


def test_nothing_is_written_before_the_first_use() -> None:
    """A study that is only made leaves no trace."""
    assert repr(study()) == "Study('digits', metric='acc', mode='max', search='random')"
    assert list(Path().iterdir()) == []


# ------------------------------------------------------------------ opening again

DIFFERENCES: list[tuple[dict[str, Any], str]] = [
    ({"metric": "loss"}, "  metric: it has 'acc', you passed 'loss'\n"),
    ({"objective": "last"}, "  objective: it has 'best', you passed 'last'\n"),
    (
        {"objective": 3, "metric": "f1"},
        "  metric: it has 'acc', you passed 'f1'\n  objective: it has 'best', you passed 3\n",
    ),
    ({"space": {**SPACE, "hidden": th.Int(8, 32)}}, "  'hidden' was Int(8, 64) and is Int(8, 32)\n"),
    ({"space": {**SPACE, "wd": 0.1}}, "  'wd' is new: Fixed(0.1)\n"),
    (
        {"space": {name: d for name, d in SPACE.items() if name != "act"}},
        "  'act' is gone: it was Choice(['relu', None])\n",
    ),
    ({"space": dict(reversed(SPACE.items()))}, "  the order was lr, hidden, act, seed and is seed, act, hidden, lr\n"),
]


@pytest.mark.parametrize(("options", "lines"), DIFFERENCES)
def test_opening_another_study_under_the_same_name(options: dict[str, Any], lines: str) -> None:
    """The message shows every difference; the old study is as it was."""
    old = study()
    old.tell(old.ask(), complete(0.5))
    with pytest.raises(StudyError) as caught:
        study(**options).ask()
    assert str(caught.value) == (
        f"The study 'digits' exists already and differs:\n{lines}"
        "  Give the new one another name, or open the old one as it was."
    )
    assert len(study().trials) == 1


def test_opening_with_another_mode() -> None:
    """The mode is compared before Optuna's own direction confuses anybody."""
    study().ask()
    with pytest.raises(StudyError) as caught:
        study(mode="min").ask()
    assert str(caught.value) == (
        "The study 'digits' exists already and differs:\n"
        "  mode: it has 'max', you passed 'min'\n"
        "  Give the new one another name, or open the old one as it was."
    )


def test_another_search_goes_on_with_the_same_study() -> None:
    """Search, stopper, seed and recorders may change from run to run."""
    study(search="tpe").ask()
    assert study(search="random", stopper="median", seed=4, max_failures=9).ask().number == 1


# ------------------------------------------------------------------ grids


def tell_all(opened: Study, outcomes: Sequence[State]) -> list[Trial]:
    """Ask and tell in turn until the grid is finished; beyond the given outcomes all are complete."""
    asked: list[Trial] = []
    while True:
        try:
            trial = opened.ask()
        except StudyFinished:
            return asked
        state = outcomes[len(asked)] if len(asked) < len(outcomes) else "complete"
        asked.append(trial)
        opened.tell(trial, Outcome(state, state, 1.0 if state == "complete" else None))


def points(opened: Study) -> Counter[str]:
    """How often each combination ended otherwise than interrupted."""
    return Counter(str(found.params) for found in opened.trials if found.outcome.state != "interrupted")


def test_a_grid_is_exact_over_failures_interruptions_and_resumes() -> None:
    """Every combination ends once; interrupted ones are asked again, failed ones are not."""
    states: Sequence[State] = ["complete", "interrupted", "failed", "interrupted", "pruned", "interrupted"]
    opened = study(space=GRID, search="grid")
    for state in states:
        opened = study(space=GRID, search="grid")
        opened.tell(opened.ask(), Outcome(state, state, 1.0 if state == "complete" else None))
    tell_all(study(space=GRID, search="grid"), [])
    assert set(points(opened).values()) == {1}
    assert len(points(opened)) == 6


def test_a_finished_grid() -> None:
    """It says so each time, the trials can still be read, and none is added to them."""
    opened = study(space=GRID, search="grid")
    assert len(tell_all(opened, [])) == 6
    for again in (opened, study(space=GRID, search="grid")):
        with pytest.raises(StudyFinished, match=re.escape("Study 'digits' is finished: All 6 combinations")):
            again.ask()
        assert len(again.trials) == len(again.dataframe()) == 6
        assert again.best.number == 0


def test_values_are_asked_again_twice_at_most() -> None:
    """After three interruptions they are given up, and the next values come."""
    opened = study()
    first = opened.ask()
    asked = [first]
    for _ in range(ATTEMPTS - 1):
        opened.tell(asked[-1], Outcome("interrupted", "killed"))
        asked.append(opened.ask())
    assert [(trial.params == first.params, trial.attempt) for trial in asked] == [(True, 0), (True, 1), (True, 2)]
    opened.tell(asked[-1], Outcome("interrupted", "killed"))
    fresh = opened.ask()
    assert fresh.attempt == 0
    assert fresh.params != first.params


WORKER = """
    import sys, time
    import optuna
    import tunehook as th
    from tunehook.trial import Outcome
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = th.Study("digits", {"a": th.Choice([1, 2, 3, 4, 5]), "b": th.Choice([[1], "x", None])},
                     metric="acc", mode="max", search="grid")
    try:
        while True:
            trial = study.ask()
            time.sleep(0.01)
            study.trials
            study.tell(trial, Outcome("complete", "", 1.0, 1))
    except th.study.StudyFinished:
        print("finished")
"""


@pytest.mark.slow
def test_a_grid_in_several_processes_at_once() -> None:
    """Three processes on one SQLite file, begun together: every combination once."""
    workers = [run(WORKER) for _ in range(3)]
    assert [worker.communicate()[0] for worker in workers] == ["finished\n"] * 3
    opened = study(space={"a": th.Choice([1, 2, 3, 4, 5]), "b": th.Choice([[1], "x", None])}, search="grid")
    assert set(points(opened).values()) == {1}
    assert len(points(opened)) == 15


@pytest.mark.slow
def test_processes_that_create_a_study_at_once() -> None:
    """Four at a time, five rounds: each gets a trial, and nobody crashes."""
    script = """
        import sys
        import tunehook as th
        import optuna, sqlalchemy, numpy
        for name in sys.argv[1:]:
            study = th.Study(name, {"lr": th.Float(0, 1)}, metric="acc", mode="max", search="random")
            print("ready", flush=True)
            input()
            print(study.ask().number, flush=True)
    """
    rounds = [f"round{number}" for number in range(5)]
    workers: list[Any] = [run(script, *rounds, stdin=subprocess.PIPE) for _ in range(4)]
    for _ in rounds:
        assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 4
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
        assert sorted(worker.stdout.readline() for worker in workers) == ["0\n", "1\n", "2\n", "3\n"]
    assert [worker.communicate() for worker in workers] == [("", None)] * 4


# ------------------------------------------------------------------ processes that die

DYING = """
    import os, signal, sys, time
    import tunehook as th
    from tunehook.inject import Slot
    study = th.Study("digits", {"lr": th.Float(0, 1), "n": th.Int(1, 9)}, metric="acc", mode="max", search="random")
    trial = study.ask()
    session = study.session(trial)
    place = {}
    def slot(name):
        return Slot(f"m.{name}", get=lambda: place.get(name), set=lambda value: place.update({name: value}))
    session.begin([slot("lr"), slot("n")])
    session.ready()
    session.report(1, {"acc": 0.5})
    if sys.argv[1] == "stopped":
        session.report(2, {"acc": float("nan")})
    if sys.argv[1] == "live":
        print("running", flush=True)
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def dead() -> Study:
    """The study of the scripts above."""
    return study(space={"lr": th.Float(0, 1), "n": th.Int(1, 9)})


@pytest.mark.slow
def test_a_killed_process(caplog: pytest.LogCaptureFixture) -> None:
    """On reopening its trial is interrupted with the value it had; its values come again, three times in all."""
    caplog.set_level(logging.INFO, logger="tunehook")
    pids = []
    for number in range(ATTEMPTS):
        process = run(DYING, "now")
        assert process.wait() == -signal.SIGKILL
        pids.append(process.pid)
        process.communicate()
        assert len(dead().trials) == number + 1
    found = dead().trials
    assert [trial.outcome for trial in found] == [
        Outcome("interrupted", f"its process {pid} was killed", 0.5, 1) for pid in pids
    ]
    assert len({str(trial.params) for trial in found}) == 1
    assert [text for text in caplog.messages if text.startswith("Trial")] == [
        f"Trial {number}: interrupted (its process {pid} was killed)" for number, pid in enumerate(pids)
    ]
    assert dead().ask().params != found[0].params


@pytest.mark.slow
def test_a_process_that_was_killed_after_a_stop() -> None:
    """Its trial ends as what it was stopped for, and its values do not come again."""
    process = run(DYING, "stopped")
    process.communicate()
    assert [trial.outcome for trial in dead().trials] == [Outcome("infeasible", "acc is nan at step 2", 0.5, 1)]
    assert dead().ask().attempt == 0


@pytest.mark.slow
def test_a_process_that_lives_keeps_its_trial() -> None:
    """Also a while after it began, when its id is looked at for the first time; a zombie has ended."""
    process = run(DYING, "live")
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(1.5)
    assert [trial.outcome.state for trial in dead().trials] == ["running"]
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert [trial.outcome.state for trial in dead().trials] == ["interrupted"]
    process.communicate()


def begin_elsewhere(**changes: Any) -> None:
    """A running trial whose journal names another process."""
    trial = dead().ask()
    path = trial.folder / "journal.jsonl"
    line = {**json.loads(path.read_text()), **changes}
    del line["crc"]
    path.write_text(json.dumps(line) + "\n")


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "running"),
        ({"host": "another machine", "pid": 2**22 - 1}, "running"),
        ({"pid": 2**22 - 1}, "interrupted"),
        ({"start": "another boot/1"}, "interrupted"),
        ({"time": 1.0, "start": None}, "interrupted"),
        ({"pid": 1, "time": time.time(), "start": None}, "running"),
    ],
    ids=["this process", "another machine", "no process", "a used id", "a used id, by time", "an old one, by time"],
)
def test_whose_trial_is_reclaimed(changes: dict[str, Any], state: State) -> None:
    """Only of processes of this machine that are gone; a process that started after the trial is another one."""
    begin_elsewhere(**changes)
    assert [trial.outcome.state for trial in dead().trials] == [state]


def test_a_running_trial_without_a_journal_is_left_alone() -> None:
    """Nobody knows whose it is: it may run on a machine whose folder is not seen from here."""
    trial = dead().ask()
    (trial.folder / "journal.jsonl").unlink()
    assert [trial.outcome.state for trial in dead().trials] == ["running"]


def test_a_clock_that_is_stepped_loses_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that wakes up, or learns the time late, does not take the trials that it runs for lost."""
    opened, real = study(), time.time
    opened.ask()
    monkeypatch.setattr(time, "time", lambda: real() + 7200)
    assert opened.lead.lost() == {}
    assert [trial.outcome.state for trial in study().trials] == ["running"]
    assert study().lead.attendance(()) == "live"


# ------------------------------------------------------------------ forks and pickles


def test_a_pickled_study_opens_its_storage_anew() -> None:
    """A spawned process gets the same study."""
    opened = study()
    trial = opened.ask()
    copy: Study = pickle.loads(pickle.dumps(opened))
    copy.tell(trial, complete(0.5))
    assert copy.ask().number == 1
    assert opened.best.value == 0.5


def test_a_study_in_memory_is_not_pickled() -> None:
    """The message says why and the way out."""
    with pytest.raises(StudyError) as caught:
        pickle.dumps(study(storage=InMemoryStorage()))
    assert str(caught.value) == (
        "Study 'digits' is kept in memory, which a spawned process cannot see.\n"
        "  Leave out storage=... (an SQLite file) or give a database's URL."
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_opens_the_storage_anew() -> None:
    """Parent and child go on with the same study, each over a connection of its own."""
    opened = study()
    opened.ask()
    child = os.fork()
    if child == 0:
        os._exit(0 if opened.ask().number == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert opened.ask().number == 2


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("side_by_side", [1, 4])
def test_processes_that_are_killed_as_they_open_a_study(side_by_side: int) -> None:
    """Whenever that is, and however many open it at once, the study can be opened and used, and nothing is left."""
    study("before").trials  # noqa: B018 - loads what opening needs
    for turn in range(12 // side_by_side):
        name = f"killed-{turn}"
        children = []
        for _ in range(side_by_side):
            children.append(os.fork())
            if children[-1] == 0:
                opened = study(name)
                opened.tell(opened.ask(), complete(1.0))
                os._exit(0)
        time.sleep(0.01 * turn * side_by_side)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        opened = study(name)
        opened.tell(opened.ask(), complete(0.5))
        assert 0.5 in [trial.value for trial in opened.trials]
        with contextlib.closing(sqlite3.connect(opened.paths.database)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert {path.name for path in opened.paths.folder.glob("study.db*")} <= {
            "study.db", "study.db-wal", "study.db-shm",
        }  # fmt: skip


def test_a_database_without_tables_is_no_study_yet() -> None:
    """As where the disk was full when it was made: nothing is there to look at, and using it makes the tables."""
    folder = study().paths.folder
    folder.mkdir(parents=True)
    (folder / "study.db").touch()
    with pytest.raises(StudyError, match=re.escape("There is no study 'digits' in tunehook-studies/digits.")):
        Study.open("digits")
    assert study().ask().number == 0


# ------------------------------------------------------------------ trials of someone's own Optuna study


def test_an_optuna_trial_is_led_like_ours() -> None:
    """It is reported and pruned by Optuna, its journal is kept, and the end is left to Optuna."""
    theirs = optuna.create_study(study_name="my study/1", pruner=Never(), direction="minimize")
    asked = theirs.ask({"lr": optuna.distributions.FloatDistribution(0, 1)})
    led = OptunaTrial(asked, metric="loss", inject=True)
    trial = led.ask()
    assert (trial.study, trial.number, trial.mode, trial.metric) == ("my_study_1", 0, "min", "loss")
    assert trial.params == asked.params
    assert trial.folder == Path.cwd() / "tunehook-studies/my_study_1/trial-0000"
    session = led.session(trial)
    assert not session.report(1, {"loss": 0.5}).stop
    led.raise_if_pruned(session)
    decision = session.report(2, {"loss": 0.75})
    assert decision.reason == "Never: loss 0.75 at step 2 falls behind the other trials"
    with pytest.raises(optuna.TrialPruned, match=re.escape(decision.reason)):
        led.raise_if_pruned(session)
    session.end()
    assert session.outcome == Outcome("pruned", decision.reason, 0.5, 1)
    assert theirs.trials[0].state == TrialState.RUNNING
    assert theirs.trials[0].user_attrs == {"tunehook:outcome": {"state": "pruned", "reason": decision.reason}}
    assert led.session(trial).step == 2  # a further fit of the same trial goes on there


def test_an_optuna_trial_that_is_not_injected() -> None:
    """The objective uses its parameters by itself."""
    asked = optuna.create_study().ask({"lr": optuna.distributions.FloatDistribution(0, 1)})
    assert OptunaTrial(asked, metric="loss", inject=False).ask().params == {}


@pytest.mark.parametrize("metric", [None, ""])
def test_an_optuna_trial_without_a_metric(metric: str | None) -> None:
    """Optuna does not know the name, so it is asked for."""
    with pytest.raises(ValueError, match=r"^An Optuna trial does not know which metric to report: .*'val_acc'\)\.$"):
        OptunaTrial(optuna.create_study().ask(), metric=metric, inject=True)


def test_an_optuna_trial_with_several_objectives() -> None:
    """The message has their number and the way out."""
    asked = optuna.create_study(directions=["minimize", "maximize"]).ask()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        OptunaTrial(asked, metric="loss", inject=True)
    assert str(caught.value) == (
        "The Optuna study has 2 objectives; a trial with several cannot be stopped early.\n"
        "  Leave TuneCallback out, or give the study one direction."
    )


def test_importance_and_the_order_of_ends() -> None:
    """The hyperparameter that alone makes the value is the important one, from 20 complete trials on."""
    study = th.Study("s", {"x": th.Float(0, 1), "y": th.Float(0, 1)}, metric="m", mode="max", search="random", seed=1)
    first, second = study.ask(), study.ask()
    for trial in (second, first):
        study.tell(trial, Outcome("complete", "", trial.params["x"], 1))
    assert [trial.number for trial in study.ended] == [1, 0]
    for _ in range(17):
        trial = study.ask()
        study.tell(trial, Outcome("complete", "", trial.params["x"], 1))
    assert study.importance() == {}
    trial = study.ask()
    study.tell(trial, Outcome("complete", "", trial.params["x"], 1))
    shares = study.importance()
    assert list(shares) == ["x", "y"]
    assert sum(shares.values()) == pytest.approx(1.0)


def test_importance_of_equal_values_is_nothing() -> None:
    """Where all trials are as good, none is best."""
    study = th.Study("s", {"x": th.Float(0, 1)}, metric="m", mode="max", search="random")
    for _ in range(20):
        study.tell(study.ask(), Outcome("complete", "", 1.0, 1))
    assert study.importance() == {}


def test_a_recorder_that_shows_the_study(caplog: pytest.LogCaptureFixture) -> None:
    """It is called after each end and once more at the end; an exception is told once, and ends no study."""

    class Shows:
        """Fails from the second trial on."""

        def __init__(self) -> None:
            self.seen: list[tuple[int, bool]] = []

        def open(self, trial: Trial, config: Any, *, loggers: Any = ()) -> None: ...
        def report(self, step: int, metrics: Any) -> None: ...
        def close(self, outcome: Outcome) -> None: ...
        def where(self) -> None: ...

        def update(self, study: th.Study, *, is_last: bool) -> None:
            self.seen.append((len(study.ended), is_last))
            if "fails" in study.name and len(study.ended) > 1:
                raise OSError("no space left")

    for name, seen in (("works", [(1, False), (2, False), (3, False), (3, True)]), ("fails", [(1, False), (2, False)])):
        recorder = Shows()
        study = th.Study(name, {"x": th.Float(0, 1)}, metric="m", mode="max", search="random", recorders=[recorder])

        def train() -> None:
            session = active()
            assert session is not None
            session._driven = True
            session.report(1, {"m": 1.0})

        study.optimize(train, trials=3, progress=False)
        assert recorder.seen == seen
    told = [record.getMessage() for record in caplog.records if "does not show" in record.getMessage()]
    assert told == ["Shows does not show study fails any more: OSError('no space left')"]
