"""What `tunehook sync` makes of runs and journals that are not as they should be."""

from __future__ import annotations

import copy
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import tunehook as th
from tunehook.record import Ended, read_events
from tunehook.record.journal import Journal
from tunehook.trial.values import Outcome, Trial
from wandb_server import ServerRun, WandbServer, online, serving
from wandb_trials import Judge

pytest.importorskip("wandb")

from tunehook.integrations.wandb import WandbRecorder
from tunehook.integrations.wandb import sync as wandb_sync
from tunehook.integrations.wandb.journal import note_run
from tunehook.integrations.wandb.run import run_id


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A stand-in to which this process's SDK talks; the process has written the journals too, and lives."""
    monkeypatch.setattr(wandb_sync, "SETTLED", 0.0)
    with serving() as made, online(made, tmp_path):
        yield made


def make_trial(folder: Path, number: int = 0, params: Mapping[str, Any] | None = None) -> Trial:
    """A trial with a journal that has begun."""
    place = folder / "study" / f"trial-{number:04d}"
    trial = Trial("s", number, params or {"x": 1}, place, "v", "max", key=f"{number:04d}-12345678")
    Journal(trial.folder).begin(trial)
    return trial


def write_journal(trial: Trial, metrics: Mapping[str, float]) -> Journal:
    """A journal of one report and the end, whose run W&B does not have."""
    note_run(trial, run_id(trial), {"project": "p"})
    journal = Journal(trial.folder)
    journal.report(1, metrics)
    journal.end(Outcome("complete", "trained to its end", 0.5, 1))
    return journal


def sync(folder: Path) -> list[wandb_sync.Synced]:
    """What became of the runs of the study."""
    told: list[wandb_sync.Synced] = []
    wandb_sync.sync(folder / "study", told.append)
    return told


def values_of(run: ServerRun) -> dict[str, Any]:
    """Its configuration without what the SDK says about itself."""
    return copy.deepcopy({name: value for name, value in run.config.items() if name != "_wandb"})


def test_the_configuration_stays_as_the_training_wrote_it(tmp_path: Path, server: WandbServer) -> None:
    """The journal has objects as texts: they replace nothing, neither in a run that is left nor in one that is not."""
    root = Path("/data/x")
    trial = make_trial(tmp_path, params={"x": 1, "root": root})
    recorder = WandbRecorder("p", lean=True, study_run=False)
    session = th.TrialSession(trial, Judge(), recorders=[recorder])
    found = {"x": 1, "root": root, "model.file": Path("/data/y"), "model.limit": float("inf")}
    session.begin([
        th.inject.Slot(name, get=functools.partial(found.get, name), set=lambda _: None) for name in found
    ])  # fmt: skip
    session.ready()
    session.report(1, {"v": 0.5})
    session.end()
    assert recorder._here.line.writer.drain(60)
    (run,) = server.runs.values()
    before = values_of(run)
    assert (before["root"]["value"], before["tunehook"]["value"]["outcome"]) == ("/data/x", "complete")

    run.summary["trial/step"] = 7
    assert [each.state for each in sync(tmp_path)] == ["left"]
    assert values_of(run) == before
    run.summary["trial/step"] = 1
    del run.summary["outcome"]
    assert [each.state for each in sync(tmp_path)] == ["uploaded"]
    assert values_of(run) == before
    assert run.summary["outcome"] == "complete"

    server.runs.clear()
    assert [each.state for each in sync(tmp_path)] == ["uploaded"]
    (again,) = server.runs.values()
    assert (again.setting("x"), again.setting("tunehook")["trial"]) == (1, 0)


def test_a_run_that_the_sdk_refuses_holds_up_no_other(tmp_path: Path, server: WandbServer) -> None:
    """A run that is another trial's is told; the next one is uploaded, also with a name that W&B cannot define."""
    for number in (1, 2):
        write_journal(make_trial(tmp_path, number), {"v": 0.5, "recall@*k": 0.25})
    server.runs["s-0001-12345678"] = ServerRun(
        "s-0001-12345678", "p", config={"tunehook": {"value": {"key": "other", "study": "t", "trial": 4}}}
    )
    first, second = sync(tmp_path)
    assert [(each.trial, each.state) for each in (first, second)] == [
        ("s/trial-0001", "left"), ("s/trial-0002", "uploaded"),
    ]  # fmt: skip
    assert first.reason.startswith("it cannot be uploaded: The training of trial-0001 of study 's' holds the W&B run ")
    assert server.runs["s-0001-12345678"].setting("tunehook")["key"] == "other"
    assert server.runs["s-0002-12345678"].column("v") == [0.5]
    assert server.runs["s-0002-12345678"].column("recall@*k") == [0.25]


def test_a_journal_whose_first_line_is_damaged_is_told(tmp_path: Path, server: WandbServer) -> None:
    """It does not say which trial it is; the others are uploaded."""
    for number in range(2):
        write_journal(make_trial(tmp_path, number), {"v": 0.5})
    path = tmp_path / "study" / "trial-0000" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[5:])
    assert [(each.trial, each.state, each.reason) for each in sync(tmp_path)] == [
        ("study/trial-0000", "left", "the line with which its journal begins is damaged"),
        ("s/trial-0001", "uploaded", ""),
    ]


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_process_whose_parent_was_killed_goes_on_with_its_run(
    tmp_path: Path, server: WandbServer, *, has_ended: bool
) -> None:
    """With `workers=` another process trains than the one that asked for the trial."""
    trial = make_trial(tmp_path)
    journal = Journal(trial.folder)
    journal.process()
    note_run(trial, run_id(trial), {"project": "p"})
    journal.report(1, {"v": 0.5})
    journal.close()
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        killed.wait()
    mine, theirs = f'"pid": {os.getpid()}', f'"pid": {killed.pid}'
    text = re.sub(', "crc": "[0-9a-f]{8}"', "", journal.path.read_text())
    journal.path.write_text(text.replace(mine, theirs, 2 if has_ended else 1))
    (told,) = sync(tmp_path)
    if has_ended:
        assert told.state == "uploaded"
        (run,) = server.runs.values()
        assert run.summary["reason"] == f"its process {killed.pid} was killed"
    else:
        assert (told.state, told.reason) == ("left", f"it is running, in process {os.getpid()}")
        assert not server.runs


def left_behind(folder: Path, *, storage: str | None = None) -> th.Study:
    """A study whose one trial is complete; its process was killed, and its journal lacks the end."""
    space = {"x": th.Float(0, 1)}
    study = th.Study("s", space, metric="v", mode="max", search="random", folder=folder / "study", storage=storage)
    trial = study.ask()
    note_run(trial, run_id(trial), {"project": "p"})
    session = study.session(trial)
    session.report(1, {"v": 0.5})
    session.end()
    path = study.paths.journal(0)
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        killed.wait()
    text = re.sub(', "crc": "[0-9a-f]{8}"', "", path.read_text()).replace(
        f'"pid": {os.getpid()}', f'"pid": {killed.pid}'
    )
    path.write_text("".join(line for line in text.splitlines(keepends=True) if '"event": "end"' not in line))
    return study


def test_an_end_that_the_journal_lacks_is_that_of_the_study(tmp_path: Path, server: WandbServer) -> None:
    """A complete trial is not called interrupted, and its journal has the end from then on."""
    study = left_behind(tmp_path)
    (told,) = sync(tmp_path)
    assert (told.state, told.rows) == ("uploaded", 1)
    (run,) = server.runs.values()
    assert (run.summary["outcome"], run.summary["reason"], run.exit_code) == ("complete", "trained to its end", 0)
    (end,) = (event for event in read_events(study.paths.journal(0)) if isinstance(event, Ended))
    assert study.trials[0].outcome == end.outcome
    (told,) = sync(tmp_path)
    assert told.state == "complete"


def test_a_study_that_cannot_be_asked_how_a_trial_ended(tmp_path: Path, server: WandbServer) -> None:
    """Its run is left until its storage is given."""
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    left_behind(tmp_path, storage=url)
    (told,) = sync(tmp_path)
    assert told.state == "left"
    assert told.reason.startswith("the journal has no end, and the storage of study 's', which may know it, was not")
    assert not server.runs
    found: list[wandb_sync.Synced] = []
    wandb_sync.sync(tmp_path / "study", found.append, storage=url)
    assert [one.state for one in found] == ["uploaded"]
    assert [run.summary["outcome"] for run in server.runs.values()] == ["complete"]


def test_an_end_that_the_run_has_stays(tmp_path: Path, server: WandbServer) -> None:
    """Of a trial of someone's own search, whose end could not be written into its journal."""
    trial = make_trial(tmp_path)
    journal = write_journal(trial, {"v": 0.5})
    assert [one.state for one in sync(tmp_path)] == ["uploaded"]
    with subprocess.Popen([sys.executable, "-c", ""]) as killed:
        killed.wait()
    lines = re.sub(', "crc": "[0-9a-f]{8}"', "", journal.path.read_text()).splitlines(keepends=True)
    kept = [line.replace(f'"pid": {os.getpid()}', f'"pid": {killed.pid}') for line in lines]
    journal.path.write_text("".join(line for line in kept if '"event": "end"' not in line and '"synced"' not in line))
    assert [one.state for one in sync(tmp_path)] == ["complete"]
    (run,) = server.runs.values()
    assert (run.summary["outcome"], run.exit_code) == ("complete", 0)


def test_links_and_folders_of_other_runs(tmp_path: Path, server: WandbServer) -> None:
    """A run whose files would be written behind a link is left; folders are marked that are its own, and no others."""
    trials = [make_trial(tmp_path, number) for number in (0, 1)]
    names = {each: f"run-{each}.wandb" for each in (run_id(trials[0]), "theirs")}
    for each, name in names.items():
        folder = tmp_path / f"wandb/offline-run-20250101_000000-{each}"
        folder.mkdir(parents=True)
        (folder / name).touch()
    (tmp_path / "private").mkdir()
    places = [str(folder) for folder in (tmp_path / "wandb").iterdir()]
    for trial in trials:
        write_journal(trial, {"v": 0.5})
        journal = Journal(trial.folder)
        journal.config({}, records=places)
        journal.close()
    (trials[1].folder / "wandb").symlink_to(tmp_path / "private")
    first, second = sync(tmp_path)
    assert (first.state, second.state) == ("uploaded", "left")
    assert second.reason == (
        f"it cannot be uploaded: {trials[1].folder / 'wandb'} is a link, and links below {tmp_path / 'study'} are not "
        "followed"
    )
    assert [*(tmp_path / "private").iterdir()] == []
    marked = sorted(file.name for file in (tmp_path / "wandb").rglob("*.synced"))
    assert marked == [f"{names[run_id(trials[0])]}.synced"]
