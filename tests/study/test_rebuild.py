"""A study that is rebuilt from its journals, by the command line."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tunehook as th
import tunehook.record.journal
from tunehook.cli import app
from tunehook.record import Journal
from tunehook.study import KnownTrial, rebuild
from tunehook.trial import Outcome, StudyError

SPACE = {"x": th.Choice([*range(5)])}
FOLDER = Path("tunehook-studies/digits")


def make(**options: Any) -> th.Study:
    """A grid of five."""
    return th.Study("digits", SPACE, metric="acc", mode="max", search="grid", **options)


def train(study: th.Study, many: int) -> list[Any]:
    """So many trials; what the study says of them."""
    for _ in range(many):
        session = study.session(study.ask())
        session.report(1, {"acc": 0.25 * session.trial.params["x"]})
        session.end()
    found = study.trials
    del study
    gc.collect()
    return found


def gone() -> None:
    """Remove the file."""
    for file in FOLDER.glob("study.db*"):
        file.unlink()


def cut() -> None:
    """Leave half of it."""
    with (FOLDER / "study.db").open("r+b") as file:
        file.truncate(9000)


def garbage() -> None:
    """Write over its beginning."""
    with (FOLDER / "study.db").open("r+b") as file:
        file.write(b"no database" * 500)


def zeros() -> None:
    """Write over a page in its middle, as a broken disk does."""
    with (FOLDER / "study.db").open("r+b") as file:
        file.seek(4096)
        file.write(bytes(40960))


@pytest.mark.parametrize("damage", [gone, cut, garbage, zeros])
def test_a_study_whose_file_is_gone_or_damaged(damage: Callable[[], None]) -> None:
    """The message of those who open it names the command; afterwards it is as it was, and the old file is kept."""
    before = train(make(), 3)
    damage()
    old = {path.name: path.read_bytes() for path in FOLDER.glob("study.db")}
    done = CliRunner().invoke(app, ["status", "digits"])
    assert done.exit_code == 1
    assert "tunehook rebuild digits" in done.output
    done = CliRunner().invoke(app, ["rebuild", "digits"])
    assert done.exit_code == 0, done.output
    told = ["digits: rebuilt from 3 journals: 3 complete"]
    assert done.stdout.splitlines() == told + [f"the old file is kept: {Path.cwd() / FOLDER}/study.db.1"] * len(old)
    assert make().trials == before
    if old:
        assert (FOLDER / "study.db.1").read_bytes() == old["study.db"]
    assert {trial.params["x"] for trial in train(make(), 2)} == {*range(5)}


def test_it_is_told_as_json_and_again(tmp_path: Path) -> None:
    """Each old file has a name of its own; a study elsewhere is found by its folder."""
    train(make(folder="mine"), 2)
    for number in (1, 2):
        done = CliRunner().invoke(app, ["rebuild", "digits", "--folder", "mine", "--json"])
        assert json.loads(done.stdout) == {
            "study": "digits", "journals": 2, "counts": {"complete": 2}, "lost": [],
            "kept": str(tmp_path / f"mine/study.db.{number}"),
        }  # fmt: skip


def test_what_nothing_is_left_of() -> None:
    """It is told; in a grid its combination is trained again."""
    train(make(), 3)
    shutil.rmtree(FOLDER / "trial-0001")
    done = CliRunner().invoke(app, ["rebuild", "digits"])
    assert "nothing is left of trials 1, which count as interrupted" in done.stdout.splitlines()
    assert sorted(trial.params["x"] for trial in train(make(), 3) if trial.value is not None) == [*range(5)]


def test_values_that_wait() -> None:
    """They are asked for as if nothing had happened, each once: given ones, own ones, and those of another attempt."""
    space = {"x": th.Float(0, 1), "n": th.Int(1, 9), "kind": th.Choice([None, "a"])}

    def make_one() -> th.Study:
        return th.Study("digits", space, metric="acc", mode="max", search="random")

    study = make_one()
    for x in (0.1, 0.2, 0.3):
        study.enqueue({"x": x, "kind": None})
    first, second = study.ask(), study.ask()
    for trial, outcome in ((first, Outcome("complete", value=1.0)), (second, Outcome("interrupted", "killed"))):
        Journal(trial.folder).end(outcome)
        study.tell(trial, outcome)  # 0.2 waits again, as trial 3
    study.enqueue_trials([KnownTrial({"x": 0.5, "n": 5, "kind": "a"}, 1.0, "elsewhere")])
    before = study.trials
    with (FOLDER / "waiting.jsonl").open("ab") as file:
        file.write(b'{"torn')
    study.enqueue({"x": 0.6})
    del study
    gc.collect()
    for _ in range(2):  # the second time with a file that was rebuilt
        gone()
        found = rebuild("digits")
        assert (found.journals, found.counts, found.lost) == (2, {"complete": 1, "interrupted": 1}, [])
    study = make_one()
    assert study.trials == before
    asked = [study.ask() for _ in range(5)]
    assert [(one.number, one.params["x"], one.attempt) for one in asked[:4]] == [
        (2, 0.3, 0), (3, 0.2, 1), (4, 0.5, 0), (5, 0.6, 0),
    ]  # fmt: skip
    assert asked[1].key == second.key
    assert (asked[2].params["n"], asked[2].params["kind"]) == (5, "a")
    assert asked[4].params["x"] not in (0.1, 0.2, 0.3, 0.5, 0.6)


def test_values_that_wait_where_the_disk_cannot_take_them(caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and the storage has them; the file gets them when the study is opened again, once."""
    study = make()
    study.trials  # noqa: B018 - makes the folder
    (FOLDER / "waiting.jsonl").mkdir()
    study.enqueue({"x": 3})
    assert re.search(r"The values of trial 0 wait in the storage only, since .*waiting.jsonl cannot", caplog.text)
    del study
    gc.collect()
    (FOLDER / "waiting.jsonl").rmdir()
    for _ in range(2):
        assert make().counts() == {}
    assert len((FOLDER / "waiting.jsonl").read_text().split("\n{")[1:]) == 1
    gone()
    assert make().ask().params == {"x": 3}


def test_a_study_whose_trial_runs() -> None:
    """It stays as it is: the process would go on with the old file."""
    script = "import sys, time; sys.path.insert(0, sys.argv[1]); import test_rebuild as it; study = it.make(); "
    script += "study.ask(); print('runs', flush=True); time.sleep(100)"
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StudyError, match=f"trial-0000 of study 'digits' runs, in process {process.pid}."):
            rebuild("digits")
        process.kill()
    assert rebuild("digits").counts == {"interrupted": 1}


def test_a_study_whose_trial_may_run_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process cannot be looked up here, so it counts as one that runs, until the journal was left for a day."""
    study = make()
    with monkeypatch.context() as patch:
        patch.setattr(tunehook.record.journal, "host", lambda: "node17")
        path = study.ask().folder / "journal.jsonl"
    del study
    gc.collect()
    said = (
        rf"trial-0000 of study 'digits' has no end, and whether its process {os.getpid()} on node17 runs cannot be seen"
    )
    with pytest.raises(StudyError, match=said) as caught:
        rebuild("digits")
    assert (FOLDER / "study.db").exists()
    subprocess.run(["/bin/sh", "-c", str(caught.value).partition("or call ")[2]], check=True)
    assert time.time() - path.stat().st_mtime > 86400
    assert rebuild("digits").journals == 1
    (path.parent / "journal.jsonl").touch()
    Journal(path.parent).end(Outcome("complete", value=1.0))
    assert rebuild("digits").counts == {"complete": 1}


def test_what_cannot_be_rebuilt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says what is missing, and nothing is moved away."""
    with pytest.raises(StudyError, match=r"There is no .*study.json, which describes the study 'digits', so its space"):
        rebuild("digits")
    train(make(), 1)
    with pytest.raises(StudyError, match="belongs to the study 'digits': give that name"):
        rebuild("other", folder=FOLDER)
    monkeypatch.setenv("TUNEHOOK_STORAGE", "sqlite:///other.db")
    with pytest.raises(StudyError, match=r"is kept in .*study.db, not in another storage"):
        rebuild("digits")
    monkeypatch.delenv("TUNEHOOK_STORAGE")
    assert not list(FOLDER.glob("study.db.*"))
    th.Study("memory", SPACE, metric="acc", mode="max", storage="sqlite:///:memory:").trials  # noqa: B018 - makes it
    with pytest.raises(StudyError, match="was kept in memory"):
        rebuild("memory")


def test_a_study_in_another_storage() -> None:
    """It is made where the URL says, and brought up to date where it is."""
    before = train(make(storage="sqlite:///one.db"), 2)
    with pytest.raises(StudyError, match="is kept in a storage of its own: give its URL, with"):
        rebuild("digits")
    for url in ("sqlite:///one.db", "sqlite:///two.db"):
        assert rebuild("digits", storage=url).counts == {"complete": 2}
        assert make(storage=url).trials == before


@pytest.mark.slow
def test_hundreds_of_trials() -> None:
    """None is lost or there twice; how long it takes is printed."""
    before = make_many(150)
    gone()
    began = time.monotonic()
    found = rebuild("many", folder=FOLDER)
    print(f"{found.journals} journals of ten reports rebuilt a study in {time.monotonic() - began:.1f} s")
    assert th.Study.open("many", folder=FOLDER).trials == before


def make_many(number: int) -> list[Any]:
    """A study of so many trials with ten reports each."""
    study = th.Study("many", {"x": th.Float(0, 1)}, metric="acc", mode="max", search="random", folder=FOLDER)
    for _ in range(number):
        session = study.session(study.ask())
        for step in range(1, 11):
            session.report(step, {"acc": step * session.trial.params["x"]})
        session.end()
    found = study.trials
    del study
    gc.collect()
    return found


def test_old_files_open_under_their_new_names() -> None:
    """With the log that SQLite has beside them, whose rows are not in the file yet."""
    script = "import os, sys; sys.path.insert(0, sys.argv[1]); import test_rebuild as it; study = it.make(); "
    script += "study.tell(study.ask(), it.th.Outcome('complete', value=0.5)); os._exit(0)"
    subprocess.run([sys.executable, "-c", script, str(Path(__file__).parent)], check=True)
    assert (FOLDER / "study.db-wal").stat().st_size > 0
    rebuild("digits")
    found = th.Study.open(None, storage=f"sqlite:///{FOLDER}/study.db.1")
    assert found.counts() == {"complete": 1}


def test_the_condition_of_a_grid_is_in_the_script() -> None:
    """Where it says which combinations are lost, the script rebuilds the study, and else the command does."""

    def make_one() -> th.Study:
        space = th.Space({"a": th.Int(1, 4), "b": th.Int(1, 4)}, where=lambda params: params["a"] > params["b"])
        return th.Study("digits", space, metric="acc", mode="max", search="grid")

    def train_one() -> dict[str, int]:
        return {"acc": th.value("a", 1) * th.value("b", 1)}

    make_one().optimize(train_one, trials=4, progress=False)
    before = make_one().trials
    gone()
    rebuild("digits")
    assert make_one().trials == before
    shutil.rmtree(FOLDER / "trial-0001")
    gone()
    with pytest.raises(
        StudyError, match=r"(?s)condition, which only its script knows.*study.db away and start the scri"
    ):
        rebuild("digits")
    study = make_one()
    study.optimize(train_one, progress=False)
    done = [tuple(trial.params.values()) for trial in study.trials if trial.outcome.state == "complete"]
    assert sorted(done) == [(2, 1), (3, 1), (3, 2), (4, 1), (4, 2), (4, 3)]
