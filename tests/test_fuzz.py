"""Every reader of what is stored, with thousands of documents: an answer or an error of ours, in time and in bounds.

A few hundred documents each; ``TUNEHOOK_TEST_EXAMPLES=10000`` reads so many.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import tunehook as th
from hostile import changed, documents, fuzzed, limited, values
from tunehook.launch.plans import keep_plan, kept_plan
from tunehook.record import (
    Begin,
    Events,
    Journal,
    Kept,
    Process,
    StudyPaths,
    Taken,
    join,
    journal_of,
    plain,
    plans_of,
    read_attempts,
    read_events,
    sealed,
)
from tunehook.report import best_of, chosen_trials, lines, status_of, table, trial_lines, trial_of, trials_table
from tunehook.session.checkpoints import CheckpointError, Checkpoints
from tunehook.snapshot import TensorStats
from tunehook.space import Choice, Fixed, Float, Int, LogNormal, Normal, Space, SpaceError, fitting
from tunehook.storage import (
    attributes,
    read_waiting,
    stored_again,
    stored_attempt,
    stored_key,
    stored_lineage,
    stored_outcome,
    stored_owner,
    stored_pause,
    stored_rungs,
)
from tunehook.study import Study
from tunehook.sweep import read_space
from tunehook.system import StoredError, from_json
from tunehook.trial import Budget, Decision, Outcome, StudyError, Trial


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """What is left out is told in thousands of lines here."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@given(documents({"a": [1, {"b": "c"}]}))
@fuzzed
def test_json(text: bytes) -> None:
    """A value that can be copied, shown and written again, or a StoredError."""
    with limited(), contextlib.suppress(StoredError):
        value = from_json(text)
        repr(value)
        json.dumps(value)


# ------------------------------------------------------------------ spaces

SPACE = Space(
    {
        "lr": Float(1e-5, 0.1, log=True), "drop": Float(0, 0.5, step=0.1), "n": Int(1, 64),
        "act": Choice(["relu", None, 1]), "net": Choice([[1, 2], {"a": (1, 2)}]), "mu": Normal(0, 1),
        "s": LogNormal(0, 1, step=0.5), "seed": Fixed([1, "a"]),
        "opt": Choice({"sgd": {"momentum": Float(0, 0.99), "on": Choice({True: {"k": Int(1, 2)}, None: {}})}, "a": {}}),
    },
    where=bool,
)  # fmt: skip


@given(changed(SPACE.describe()) | values)
@fuzzed
def test_descriptions_of_spaces(description: Any) -> None:
    """A space whose own description makes it again, or a SpaceError."""
    with limited(), contextlib.suppress(SpaceError):
        space = Space.from_description(description)
        assert Space.from_description(json.loads(json.dumps(space.describe()))).describe() == space.describe()
        assert space.difference(space.describe()) == []


@given(st.dictionaries(st.sampled_from([*SPACE.names, "other"]), values))
@fuzzed
def test_values_from_elsewhere(params: dict[str, Any]) -> None:
    """As of runs of W&B: those that the space takes are kept, the others are left out with a reason."""
    with limited():
        kept, left_out = fitting(SPACE, params)
        assert kept.keys() | left_out.keys() == params.keys()
        SPACE.encode(kept)


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@given(st.lists(_plain, min_size=1, max_size=4))
@fuzzed
def test_choices_that_can_be_made_can_be_opened_again(options: list[Any]) -> None:
    """With the same options, and each of them goes to Optuna and comes back, as its own value."""
    with limited():
        try:
            choice = Choice(options)
        except SpaceError:
            return
        again = Space.from_description(json.loads(json.dumps(Space({"x": choice}).describe())))["x"]
        assert repr(again) == repr(choice)
        made = choice.distribution()
        for option in options:
            raw = json.loads(json.dumps(made.to_internal_repr(choice.encode(option))))
            assert repr(again.decode(made.to_external_repr(raw))) == repr(option)


_SWEEP = {
    "method": "bayes",
    "parameters": {
        "lr": {"min": 1e-5, "max": 0.1, "distribution": "log_uniform_values"},
        "n": {"values": [1, 2, "a"]}, "c": {"value": 1},
        "q": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1},
        "net": {"parameters": {"h": {"min": 1, "max": 8}}},
    },
    "tunehook": {"branches": {"n": {"a": {"m": {"values": [1, 2]}}}, "m": {1: {"k": {"value": 3}}}}},
}  # fmt: skip
_LINES = [
    "a: &a [1]", "b: *a", "c: &c {<<: *c}", "<<: [*a, *a]", "? [1]", "- - -", "x: !!int ''", "? !!float ''", "%YAML 9",
    "parameters: {x: {value: 1:2:3}}", "!!python/name:os.system", "---", "x: |", "  y", "x: 0x", "{[", "\t", "- &a",
    "t: !!timestamp x", "x: !!binary =", "x: !!set {1}", "a: &b [*b]", "x: !!bool 1", "  *a : 1",
]  # fmt: skip


@given(
    changed(_SWEEP).map(lambda value: yaml.safe_dump(value).encode())
    | st.lists(st.sampled_from(_LINES), max_size=8).map(lambda lines: "\n".join(lines).encode())
    | documents(_SWEEP, many=2_000)
    | st.text(alphabet="a1:-[]{}&*!<> \n'\"|?%,#", max_size=60).map(str.encode)
)
@fuzzed
def test_sweep_files(tmp_path: Path, text: bytes) -> None:
    """A space, or a SpaceError that names the file."""
    path = tmp_path / "sweep.yaml"
    path.write_bytes(text)
    said = str(path)
    with limited():
        try:
            read_space(path)
        except SpaceError as error:
            said = str(error)
    assert said.startswith(str(path))


# ------------------------------------------------------------------ journals and what lies beside them

TRIAL = Trial("digits", 1, {"lr": 0.1}, Path("study", "trial-0001"), "acc", "max", 1, "0000-12345678")
_STATS = TensorStats(2, (1,) * 64, 0.0, 1.0, 0.5, 0.5, 1.0, 0.0, update=0.1).as_json()
_SNAPSHOT = {"step": 4, "parameters": {"fc.weight": _STATS}, "model": _STATS, "gradients": {"fc.weight": _STATS}}


def _genuine() -> list[Any]:
    """The events of a trial, as they are written."""
    model = Path("study", "model.ckpt")
    journal = Journal(TRIAL.folder)
    journal.begin(TRIAL)
    model.write_text("weights")
    journal.process()
    journal.task("node")
    journal.config({"model.lr": 0.1}, records=["https://w/1"])
    journal.recorder("wandb", {"id": "a", "is_shared": False, "dir": "x", "tags": None, "steps": [1]}, places=["x"])
    journal.goes_on(trial=0, attempt=0, step=1, reports=1)
    journal.report(1, {"acc": 0.5})
    journal.snapshot(1, _SNAPSHOT)
    journal.decision(1, Decision(True, "median", "pruned"))
    journal.checkpoint(model)
    journal.problem("away")
    journal.synced(1)
    journal.end(Outcome("pruned", "median", 0.5, 1))
    return [json.loads(line) for line in journal.path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The events of a trial, as they are written."""
    with contextlib.chdir(tmp_path_factory.mktemp("genuine")):
        return _genuine()


@given(data=st.data())
@fuzzed
def test_journals(genuine: list[Any], data: st.DataObject) -> None:
    """Every way to read one gives values of the right kinds, whatever stands in it."""
    lines = data.draw(st.lists(documents(*genuine), min_size=1, max_size=6))
    path = journal_of(TRIAL.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = [json.dumps(genuine[0]).encode()] if data.draw(st.booleans()) else []
    path.write_bytes(b"\n".join([*begin, *lines]))
    with limited():
        for event in read_events(path):
            assert isinstance(event.time, float)
            if isinstance(event, Process):
                assert event.pid > 0
                assert isinstance(event.lives, bool)
            if isinstance(event, Begin):
                assert event.as_trial(path.parent).name.startswith("trial-")
            if isinstance(event, Kept):
                with contextlib.suppress(OSError):
                    event.path.lstat()
            if isinstance(event, Taken) and event.is_whole:
                assert sum(event.snapshot.model.counts) >= 0
                assert len(event.snapshot.ratios) >= 0
        [*read_events(path, tail=100)]
        for events in (Events.of_trial(TRIAL), Events.of_latest(path), Events.of_key(path, TRIAL.key)):
            assert all(isinstance(place, str) for place in events.records)
            assert events.outcome is None or events.outcome.exit_code >= 0
        join(read_attempts(TRIAL, with_itself=True))


_PROGRESS = {"trial": 0, "attempt": 0, "step": 1, "reports": 1, "params": {"lr": 0.1}}


@given(documents(_PROGRESS))
@fuzzed
def test_progress_of_checkpoints(text: bytes) -> None:
    """A checkpoint that fits, or a CheckpointError."""
    checkpoints = Checkpoints(TRIAL)
    folder = checkpoints.folder / "000-000000000"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "progress.json").write_bytes(text)
    with limited(), contextlib.suppress(CheckpointError):
        checkpoints.find()


_CALLS = {part: [["model.py:3", 1, {"lr": "lr"}]] for part in ("calls", "late", "later")}


@given(documents({"lr": {**_CALLS, "classes": ["train:Config"]}}))
@fuzzed
def test_plans(text: bytes) -> None:
    """One that is none counts as not there, and is written again."""
    TRIAL.folder.mkdir(parents=True, exist_ok=True)
    plans_of(TRIAL.folder).write_bytes(text)
    with limited():
        plan = kept_plan(TRIAL.folder, ["lr"])
        assert plan is None or plan.names <= {
            name for part in (plan.calls, plan.late, plan.later) for one in part.values() for name in one.values()
        }  # fmt: skip
        keep_plan(TRIAL.folder, ["other"], type(plan)() if plan is not None else _no_plan())
        assert kept_plan(TRIAL.folder, ["other"]) == _no_plan()


_WAITS = {"study_id": "a", "trial": 3, "values": {"lr": 0.1, "act": None}, "named": {
    attributes.ATTEMPT: 1, attributes.KEY: "0000-12345678",
    attributes.LINEAGE: {"member": 0, "generation": 1, "interval": 2, "parent": None}}}  # fmt: skip


@given(st.lists(documents(_WAITS), min_size=1, max_size=4), st.booleans())
@fuzzed
def test_values_that_wait(lines: list[bytes], is_sealed: bool) -> None:
    """Lines of other kinds are left out; a whole one stays."""
    paths = StudyPaths(Path("study"))
    paths.folder.mkdir(exist_ok=True)
    whole = sealed(json.dumps({**_WAITS, "trial": 0}).encode())
    paths.waiting.write_bytes(b"\n".join([*([sealed(line) for line in lines] if is_sealed else lines), b"", whole]))
    with limited():
        found = read_waiting(paths, "a")
        json.dumps([[number, dict(one.raw), dict(one.named)] for number, one in found.items()])
    assert dict(found[0].raw) == _WAITS["values"]


def _no_plan() -> Any:
    from tunehook.inject import Plan

    return Plan()


# ------------------------------------------------------------------ storages

_ATTRIBUTES: dict[str, Any] = {
    attributes.OUTCOME: {"state": "complete", "reason": "x", "value": 0.5, "step": 1, "traceback": None},
    attributes.OWNER: {"host": "h", "pid": 1, "time": 1.0, "start": "x"},
    attributes.ATTEMPT: 1,
    attributes.KEY: "0000-12345678",
    attributes.AGAIN: {"values": {"lr": 0.1}, attributes.ATTEMPT: 1, attributes.KEY: "0000-12345678"},
    attributes.PAUSE: {"count": 1, "time": 1.0, "is_kept": True},
    attributes.RUNGS: [1, 3, 9],
    attributes.LINEAGE: {"member": 0, "generation": 1, "interval": 2, "parent": 0},
}
_DESCRIBED = {"space": SPACE.describe(), "metric": "acc", "mode": "max", "objective": "best"}


@given(changed(_ATTRIBUTES), changed(_DESCRIBED), values)
@fuzzed
def test_attributes(of_trial: Any, described: Any, anything: Any) -> None:
    """What is none of ours counts as not written."""

    class Stored:
        number = 1
        user_attrs = of_trial if isinstance(of_trial, dict) else {}

    trial: Any = Stored()
    with limited():
        for stored in (stored_attempt, stored_key, stored_again, stored_owner, stored_rungs):
            stored(trial)
        assert stored_pause(trial)["count"] >= 0
        place = stored_lineage(trial)
        assert place is None or place["parent"] in (None, 0)
        outcome = stored_outcome(trial)
        assert outcome is None or outcome.value is None or isinstance(outcome.value, float)
        if attributes.is_description(described):
            Study("x", Space.from_description(described["space"]), metric=described["metric"], mode=described["mode"],
                  objective=described["objective"])  # fmt: skip
        attributes.stored_plan({attributes.PLAN: anything})
        attributes.stored_leader({attributes.LEADER: anything})
        attributes.stored_claim({"x": anything}, "x")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with trials of each kind."""
    folder = tmp_path_factory.mktemp("database")
    with contextlib.chdir(folder):
        space = {"lr": Float(0, 1), "act": Choice([None, "a"])}
        study = Study("digits", space, metric="acc", mode="max", search="random", seed=1)
        study.tell(study.ask(), Outcome("complete", "trained to its end", 0.5, 3))
        study.tell(study.ask(), Outcome("failed", "ValueError: x"))
        study.report(study.ask(), 1, 0.25, Budget())
        study._plan_for(5)
        study.lead.note_plan()
        study._ledger.kept.remove_session()
    return folder / "tunehook-studies" / "digits"


_COLUMNS = {
    "trials": ["state", "datetime_start", "datetime_complete", "number"],
    "trial_params": ["param_value", "distribution_json", "param_name"],
    "trial_values": ["value", "value_type"],
    "trial_intermediate_values": ["step", "intermediate_value", "intermediate_value_type"],
    "trial_user_attributes": ["value_json", "key"],
    "trial_system_attributes": ["value_json", "key"],
    "study_user_attributes": ["value_json"],
    "study_system_attributes": ["value_json"],
    "study_directions": ["direction"],
    "studies": ["study_name"],
    "version_info": ["schema_version"],
    "alembic_version": ["version_num"],
}
_stored = (
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.binary(max_size=20)
    | st.text(max_size=20).filter(lambda text: text.isprintable()) | values.map(json.dumps) | st.just("[" * 100_000)
    | st.sampled_from(["RUNNING", "COMPLETE", "FINITE", "NAN", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"])
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from([(t, c) for t, cs in _COLUMNS.items() for c in cs]), _stored), max_size=3))
@example([(("trial_intermediate_values", "intermediate_value"), b"")])
@example([(("trial_intermediate_values", "intermediate_value"), b""), (("version_info", "schema_version"), 1)])
@example([(("trials", "number"), 2.0**63), (("version_info", "schema_version"), 1)])
@example([(("version_info", "schema_version"), None), (("trial_params", "distribution_json"), "{}")])
@fuzzed
def test_databases(database: Path, changes: list[tuple[tuple[str, str], Any]]) -> None:
    """Whatever stands in its cells, the commands print what is whole, or an error of ours."""
    folder = Path("tunehook-studies", "digits")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(database, folder)
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as db:
        for (table, column), value in changes:
            with contextlib.suppress(sqlite3.IntegrityError):
                db.execute(
                    f"UPDATE {table} SET {column} = ? WHERE rowid = (SELECT max(rowid) FROM {table})",  # noqa: S608
                    (value,),
                )
        db.commit()
    _look()


_planted = st.sampled_from([*_ATTRIBUTES.items()]).flatmap(
    lambda one: st.tuples(st.just(one[0]), st.just(one[1]) | changed(one[1]))
)


@given(st.lists(st.tuples(st.integers(1, 3), _planted), min_size=1, max_size=4))
@example([(3, (attributes.LINEAGE, {"member": 0, "generation": 1, "interval": 2, "parent": 7}))])
@example([(1, (attributes.LINEAGE, {"member": 0, "generation": 1, "interval": 2, "parent": 0}))])
@example([(1, (attributes.LINEAGE, {"member": 0, "generation": 1, "interval": 2, "other": 0}))])
@fuzzed
def test_attributes_in_databases(database: Path, planted: list[tuple[int, tuple[str, Any]]]) -> None:
    """Whatever a trial is said to be, such as one of a population or a paused one, all commands show it."""
    folder = Path("tunehook-studies", "digits")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(database, folder)
    with contextlib.closing(sqlite3.connect(folder / "study.db")) as db:
        db.executemany(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, ?, ?)"
            " ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json",
            [(trial, name, json.dumps(value)) for trial, (name, value) in planted],
        )
        db.commit()
    _look(is_whole=True)


@given(st.binary(max_size=300), st.integers(0, 200_000), st.booleans())
@fuzzed
def test_files_of_databases(database: Path, patch: bytes, place: int, is_all: bool) -> None:
    """Bytes of a database that were flipped, or a file that is none."""
    folder = Path("tunehook-studies", "digits")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(database, folder)
    file = StudyPaths(folder).database
    whole = file.read_bytes()
    file.write_bytes(patch if is_all else whole[:place] + patch + whole[place + len(patch) :])
    _look()


def _look(*, is_whole: bool = False) -> None:
    """Look at a study as the commands do, and if wanted at its trials too."""
    with limited(), contextlib.suppress(StudyError):
        study = Study.open("digits")
        try:
            found = status_of(study)
            assert lines(found)
            json.dumps(plain(dataclasses.asdict(found)), allow_nan=False)
            table(found, width=80, height=24)
            best_of(study)
            if is_whole:
                view = study.look()
                assert trials_table(view, chosen_trials(view, sort="trial", state=None, best=None), width=80)
                assert all([*trial_lines(trial_of(study, trial.number))] for trial in study.trials)
                assert len(study.rows()[1]) == len(study.trials)
                for trial in study.trials:
                    with contextlib.suppress(StudyError):
                        study.schedule(trial.number)
        finally:
            study._ledger.kept.remove_session()


def test_limits_hold() -> None:
    """What allocates without end is stopped, so that a reader that does so fails."""
    with limited(), pytest.raises(MemoryError):
        bytearray(3 * 2**30)
    assert th.Study is Study
