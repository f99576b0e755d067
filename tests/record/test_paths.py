"""What is read back from storages, journals and checkpoints: nothing outside of a study's folder is touched for it."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

import launch_scripts as scripts
import tunehook as th
from tunehook.record import paths
from tunehook.record.journal import Journal, read_journal
from tunehook.record.paths import LinkError, StudyPaths, check_place, copy, files_in, make_folder, open_file, remove
from tunehook.session import checkpoints as checkpoint
from tunehook.session.checkpoints import CheckpointError, Checkpoints
from tunehook.study.optuna_trial import OptunaTrial
from tunehook.study.study import Study
from tunehook.trial.errors import JournalError, StudyError
from tunehook.trial.values import Outcome, Trial, is_key, key_of

KEY = "0000-12345678"


@pytest.fixture
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of someone's, outside of every study; after the test it holds what it held."""
    folder = tmp_path_factory.mktemp("private")
    held = {"secret.txt": "s3cret", f"{KEY}/000-000000000/progress.json": "{}", "journal.jsonl": "{}\n"}
    for name, text in held.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    yield folder
    assert {str(file.relative_to(folder)): file.read_text() for file in files_in(folder)} == held


def study(**options: Any) -> Study:
    """A study whose objective is its only hyperparameter."""
    return Study("s", {"x": th.Choice([1, 2, 3])}, metric="v", mode="min", search="random", **options)


def attempt(folder: Path, number: int = 0) -> Trial:
    """An attempt of one trial."""
    return Trial("s", number, {"x": 0.1}, folder / f"trial-{number:04d}", "v", "min", number, KEY)


# ------------------------------------------------------------------ the one way to a file


def test_a_study_behind_links(tmp_path: Path) -> None:
    """Its folder may be reached through any number of them: it is trained, gone on with and looked at as ever."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    (tmp_path / "disk/real").mkdir()
    (tmp_path / "disk/study").symlink_to("real")
    folder = tmp_path / "data/study"
    opened = study(folder=folder)
    opened.optimize(scripts.steps, trials=2, progress=False, retries=1)
    assert len([*read_journal(folder / "trial-0000/journal.jsonl")]) > 3
    kept = Checkpoints(attempt(folder))
    Journal(attempt(folder).folder).begin(attempt(folder))
    keep(kept, folder, lambda place: None)
    assert Checkpoints(attempt(folder, 1)).find() is not None
    kept.discard()
    assert not (tmp_path / "disk/real/checkpoints").exists()
    assert Study.open("s", folder=folder).best.params == opened.best.params


@pytest.mark.parametrize(
    "name", ["../secret.txt", "a/../../secret.txt", "/etc/passwd", "link", "folder/secret.txt", ".."]
)
def test_paths_that_lead_outside(tmp_path: Path, private: Path, name: str) -> None:
    """They are neither opened nor made nor removed."""
    study = tmp_path / "study"
    (study / "a").mkdir(parents=True)
    (study / "link").symlink_to(private / "secret.txt")
    (study / "folder").symlink_to(private)
    for mode in ("r", "w", "ab+"):
        with pytest.raises(LinkError):
            open_file(study / name, mode, below=study)
    with pytest.raises(LinkError):
        make_folder(study / name / "new", below=study)
    remove(study / name, below=study)
    remove(study, below=study)
    assert study.is_dir()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no pipes with names")
def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe that nobody writes to is refused at once, and so is a folder."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(LinkError, match=re.escape(f"{tmp_path / name} is no file")):
            open_file(tmp_path / name, "rb", below=tmp_path)
    with pytest.raises(LinkError, match=re.escape(f"{tmp_path / 'pipe'} is no file, which is not followed")):
        files_in(tmp_path)


def test_a_link_that_comes_between(tmp_path: Path, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the check and the opening of a file, or the copying of one, somebody makes it a link."""
    (tmp_path / "link").symlink_to(private / "secret.txt")
    monkeypatch.setattr(paths, "check_place", lambda path, below: path)
    with pytest.raises(LinkError, match="is a link, which is not followed"):
        open_file(tmp_path / "link", "ab", below=tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/link").symlink_to(private / "secret.txt")
    look = iter([lambda _: [], files_in])  # the second one looks
    monkeypatch.setattr(paths, "files_in", lambda path: next(look)(path))
    with pytest.raises(LinkError, match="link is a link"):
        copy(tmp_path / "model", tmp_path / "copied")


def test_keys_are_what_is_made_as_one() -> None:
    """Nothing else is one."""
    assert is_key(key_of("s", 7, None))
    assert is_key(key_of("s", 123456, None))
    for other in (
        "",
        "..",
        "/etc",
        "0007",
        "7-1b2c3d4e",
        "0007-1B2C3D4E",
        "0007-1b2c3d4e\n",
        "0007-1b2c3d4e/..",
        7,
        None,
        [KEY],
    ):
        assert not is_key(other), other


# ------------------------------------------------------------------ what a storage says


def poisoned(opened: Study, **attributes: Any) -> None:
    """Give a trial that runs, of a process that is gone, attributes in the storage."""
    opened.ask()
    storage = opened._ledger.kept
    (frozen,) = opened.optuna.get_trials()
    gone = {"host": os.uname().nodename, "pid": 2**22 + 1, "time": 0.0}
    for name, value in {"owner": gone, **attributes}.items():
        storage.set_trial_user_attr(frozen._trial_id, f"tunehook:{name}", value)


@pytest.mark.parametrize("key", ["{private}", "../../private", "..", "", "0000-12345678/../..", 7, {"a": 1}, None])
def test_a_stored_key_removes_nothing(private: Path, key: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a storage says of a trial, its checkpoints are those of its study, and its end is told."""
    key = key.format(private=private) if isinstance(key, str) else key
    opened = study()
    poisoned(opened, key=key, attempt=2)
    opened.paths.journal(0).unlink()
    (opened.paths.folder / "checkpoints" / KEY).mkdir(parents=True)
    del opened
    assert [trial.outcome.state for trial in study().trials] == ["interrupted"]
    assert (study().paths.folder / "checkpoints" / KEY).is_dir()  # another trial's
    if key is not None:
        assert f"The storage has a tunehook:key of trial 0 that tunehook does not write, {key!r:.80}" in caplog.text


WRONG = [-1, True, 1.5, "1", "../x", [], {"a": 1}, [[1]], {"state": "best"}, {"host": 1, "pid": -1, "time": "now"}]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_wrong_attributes(value: Any) -> None:
    """A study that has them is looked at and goes on; none of them is taken for what it should be."""
    opened = study()
    poisoned(opened, **dict.fromkeys(("key", "attempt", "again", "outcome", "owner", "alive", "token"), value))
    for name in ("plan", "claim:work"):
        opened.optuna.set_user_attr(f"tunehook:{name}", value)
    looked = Study.open("s")
    assert looked.trials[0].outcome.state == "running"
    assert looked.lead.wanted is None
    assert looked.records(0) == [str(looked.paths.journal(0))]
    opened = study()
    opened.tell(opened.ask(), Outcome("complete", "", 1.0, 1))
    assert opened.best.value == 1.0


@pytest.mark.parametrize(
    "value", [[], "x", {"space": {"x": {"kind": "os.system"}}}, {"space": 1, "metric": "v"}], ids=repr
)
def test_a_wrong_description(value: Any) -> None:
    """The study is not opened, and it is said which one."""
    study().optuna.set_user_attr("tunehook:study", value)
    for opening in (lambda: study().trials, lambda: Study.open("s")):
        with pytest.raises(StudyError, match=r"^The storage describes the study 's' as tunehook does not: "):
            opening()


def test_a_study_of_optuna_that_is_called_by_dots() -> None:
    """The folder of its trials is one below that of all studies."""
    asked = optuna.create_study(study_name="..").ask()
    trial = OptunaTrial(asked, metric="v", inject=True).ask()
    assert trial.folder == Path.cwd() / "tunehook-studies/_/trial-0000"


# ------------------------------------------------------------------ what a journal says


LINES: list[Any] = [
    7, [], {}, {"event": 7}, {"event": "report"}, {"event": "report", "step": "1", "metrics": {"v": 1}},
    {"event": "report", "step": 1, "metrics": {"v": "rm -rf"}}, {"event": "report", "step": 1, "metrics": []},
    {"event": "process", "pid": 2**70, "host": "h", "time": 1}, {"event": "process", "pid": 0, "host": "h", "time": 1},
    {"event": "begin"}, {"event": "end", "state": "best", "reason": ""}, {"event": "decision", "stop": True},
    {"event": "config", "effective": [], "records": 1}, {"event": "recorder", "recorder": "wandb", "run": []},
    {"event": "checkpoint", "path": "a\0b", "size": 0, "changed": 0}, {"event": "snapshot", "step": 1, "snapshot": 1},
]  # fmt: skip


@pytest.mark.parametrize(
    "line", [*map(json.dumps, LINES), "[" * 100_000, "{" * 10, "\0\xff"], ids=lambda text: text[:40]
)
def test_lines_that_are_no_events(line: str, caplog: pytest.LogCaptureFixture) -> None:
    """They are told and left out, and the study goes on."""
    opened = study()
    trial = opened.ask()
    with opened.paths.journal(0).open("a") as file:
        file.write(line + "\n")
    events = [*read_journal(opened.paths.journal(0))]
    assert [event["event"] for event in events] == ["begin"]
    assert "journal.jsonl: line 2 is damaged and left out" in caplog.text
    opened.session(trial).recover("its process was killed")
    assert study().trials[0].outcome.state == "interrupted"


def test_events_of_a_later_version() -> None:
    """They are read as they are, for whoever knows them."""
    journal = Journal(Path("study/trial-0000"))
    journal._write("weather", rain=True)
    journal.close()
    assert [event["rain"] for event in read_journal(journal.path)] == [True]


@pytest.mark.parametrize("link", ["trial-0000/journal.jsonl", "trial-0000"])
def test_a_journal_that_is_a_link(private: Path, link: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is not read, which is told, and not written to."""
    folder = study().paths.folder
    (folder / link).parent.mkdir(parents=True)
    (folder / link).symlink_to(private / "journal.jsonl" if "/" in link else private)
    assert [*read_journal(folder / "trial-0000/journal.jsonl")] == []
    assert (
        f"A journal is left out: {folder / link} is a link, and links below {folder} are not followed." in caplog.text
    )
    said = (
        f"The journal {folder}/trial-0000/journal.jsonl cannot be read: {folder / link} is a link, and links below "
        f"{folder} are not followed. What it says of its trial would be lost.\n"
        "  Make it a file that this user can read, and start again. Where that is not possible, move "
        f"{folder}/trial-0000 away: nothing is left of the trial then."
    )
    with pytest.raises(StudyError, match=f"^{re.escape(said)}$"):
        study().ask()
    (folder / link).rename(folder / "link")
    opened = study()
    assert opened.trials == []
    (folder / "link").rename(folder / link)
    with pytest.raises(JournalError, match=f"^{re.escape(said)}$"):
        opened.ask()
    assert Study.open("s").trials[0].outcome.state == "interrupted"


@pytest.mark.parametrize("end", ["", "-wal", "-shm", "-journal"])
def test_a_database_that_is_a_link(private: Path, end: str) -> None:
    """It is neither opened nor made."""
    folder = study().paths.folder
    folder.mkdir(parents=True)
    (folder / f"study.db{end}").symlink_to(private / "new.db")
    for opening in (lambda: study().trials, lambda: Study.open("s")):
        with pytest.raises(StudyError, match=re.escape(f"study.db{end} is a link, and links below")):
            opening()


@pytest.mark.slow
def test_an_output_that_is_a_link(private: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What a trial prints is not written there; it goes where the study's own lines go, and that is told."""
    folder = study().paths.trial(0)
    folder.mkdir(parents=True)
    (folder / "output.txt").symlink_to(private / "secret.txt")
    study().optimize(scripts.say_birth, trials=1, workers=1, progress=False)
    printed = capfd.readouterr()
    assert "What the trial prints is not kept: " in printed.err
    assert float(printed.out) > 1e9


# ------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("link", ["checkpoints", f"checkpoints/{KEY}", f"checkpoints/{KEY}/000-000000000"])
def test_checkpoints_behind_a_link(private: Path, tmp_path: Path, link: str) -> None:
    """None is kept there, none is gone on from, and nothing is removed."""
    place = tmp_path / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(private / Path(link).relative_to("checkpoints"))
    first, second = Checkpoints(attempt(tmp_path)), Checkpoints(attempt(tmp_path, 1))
    with pytest.raises(CheckpointError, match="its checkpoint cannot be read: LinkError"):
        second.find()
    if not link.endswith("000000000"):
        with pytest.raises(LinkError):
            keep(first, tmp_path, lambda folder: None)
    else:
        keep(first, tmp_path, lambda folder: None)
    first.discard()


def keep(kept: Checkpoints, study: Path, write: Callable[[Path], None]) -> None:
    """Keep a checkpoint of the first attempt."""
    journal = Journal(attempt(study).folder)
    try:
        kept.save(write, step=1, reports=0, journal=journal)
    finally:
        journal.close()


def saved(tmp_path: Path) -> Path:
    """The folder of a checkpoint with one file."""
    Journal(attempt(tmp_path).folder).begin(attempt(tmp_path))
    kept = Checkpoints(attempt(tmp_path))

    def write(folder: Path) -> None:
        (folder / "rest.pickle").write_bytes(pickle.dumps(1))

    keep(kept, tmp_path, write)
    (folder,) = kept.folder.iterdir()
    assert Checkpoints(attempt(tmp_path, 1)).find() is not None
    return folder


def test_a_file_of_a_checkpoint_that_is_a_link(private: Path, tmp_path: Path) -> None:
    """The trial starts over, since what is in there would be unpickled."""
    (saved(tmp_path) / "more").symlink_to(private / "secret.txt")
    with pytest.raises(CheckpointError, match="more is a link, which is not followed"):
        Checkpoints(attempt(tmp_path, 1)).find()


def test_a_checkpoint_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could run that one's code here."""
    folder = saved(tmp_path)
    me = os.geteuid()
    mine = types.SimpleNamespace(st_uid=me + 1)
    monkeypatch.setattr(checkpoint, "os", types.SimpleNamespace(**{**vars(os), "fstat": lambda _: mine}))
    told = re.escape(f"{folder} belongs to another user ({me}), whose code it could run")
    with pytest.raises(CheckpointError, match=told):
        Checkpoints(attempt(tmp_path, 1)).find()


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"trial": "../x", "attempt": 0, "step": 1, "reports": 0, "params": {}}', "[" * 99_999,
             '{"trial": -1, "attempt": 0, "step": 1, "reports": 0, "params": {}}'], ids=lambda text: text[:20],
)  # fmt: skip
def test_progress_that_is_none(tmp_path: Path, text: str) -> None:
    """The trial starts over."""
    (saved(tmp_path) / "progress.json").write_text(text)
    with pytest.raises(CheckpointError, match="its checkpoint cannot be read"):
        Checkpoints(attempt(tmp_path, 1)).find()


def test_names_that_no_checkpoint_has(tmp_path: Path) -> None:
    """They are passed over."""
    folder = saved(tmp_path)
    for name in ("9-9", "999-x", "999-999999999x"):
        (folder.parent / name).mkdir()
    found = Checkpoints(attempt(tmp_path, 1)).find()
    assert found is not None
    assert found.folder == folder


# ------------------------------------------------------------------ the model that a training has kept


def test_a_model_that_the_trial_has_not_written(tmp_path: Path) -> None:
    """Whatever a journal says, nothing is taken that was there before the trial."""
    opened, model = study(), tmp_path / "model.ckpt"
    model.touch()
    os.utime(model, (1e9, 1e9))
    session = opened.session(opened.ask())
    session.note_checkpoint(model)
    session.end()
    with pytest.raises(OSError, match=re.escape(f"{model} is older than trial-0000, so that one has not written it")):
        opened.checkpoint(0)


def test_a_model_that_is_a_link(tmp_path: Path, private: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is not noted; links on the way to it are followed then, and not later."""
    (tmp_path / "link").symlink_to(private / "secret.txt")
    (tmp_path / "real").mkdir()
    (tmp_path / "real/model.ckpt").touch()
    (tmp_path / "disk").symlink_to("real")
    opened = study()
    session = opened.session(opened.ask())
    session.note_checkpoint(tmp_path / "link")
    assert f"nobody finds the model of trial-0000: {tmp_path / 'link'} is a link, which is not followed." in caplog.text
    assert opened.checkpoint(0) is None
    session.note_checkpoint(tmp_path / "disk/model.ckpt")
    session.end()
    assert opened.checkpoint(0) == tmp_path / "real/model.ckpt"


def test_a_recorder_that_is_no_module_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal imports nothing by the name that it says."""
    from typer.testing import CliRunner

    from tunehook.cli import app

    journal = Journal(Path("tunehook-studies/s/trial-0000"))
    journal.recorder("evil", {})
    journal.close()
    evil = types.SimpleNamespace(sync=None)  # would raise
    monkeypatch.setitem(sys.modules, "tunehook.integrations.evil.sync", evil)
    assert CliRunner().invoke(app, ["sync"]).exit_code == 0


def test_the_names_of_a_study(tmp_path: Path) -> None:
    """All that has a name below a study's folder is in that folder."""
    names = StudyPaths(tmp_path)
    for path in (
        names.shown,
        names.workspaces,
        *names.databases,
        names.output(1),
        names.checkpoint(1),
        names.journal(1),
    ):
        assert check_place(path, below=tmp_path) == path
