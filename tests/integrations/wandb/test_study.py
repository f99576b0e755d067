"""The run of a study, from `Study` through the real SDK to the run file and the stand-in for the server."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tunehook as th
import waiting
from run_file import RunFile, read_finished, read_runs
from tunehook.record.journal import read_journal
from tunehook.session.in_progress import active
from tunehook.study import find_importance
from tunehook.trial.values import Outcome
from wandb_server import ServerRun, WandbServer, online, serving
from warm import warm_python

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder, view  # noqa: E402
from tunehook.integrations.wandb import study as wandb_study  # noqa: E402


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is not shown would be shown as pytest ends, with whatever settings of W&B the machine has."""
    made: list[wandb_study.StudyRun] = []
    init = wandb_study.StudyRun.__init__

    def remember(self: wandb_study.StudyRun, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(wandb_study.StudyRun, "__init__", remember)
    yield
    left = [run for run in made if run._study is not None]
    for run in left:
        run._study = None
    assert not left


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WandbServer]:
    """A stand-in to which this process's SDK talks."""
    with serving() as made, online(made, tmp_path):
        yield made


SPACE: dict[str, Any] = {"optimizer.lr": th.Float(0.0, 1.0), "width": th.Int(1, 9), "kind": "plain"}


def make_study(recorder: WandbRecorder, **options: Any) -> th.Study:
    """A study that minimizes ``loss``."""
    return th.Study("my.study", SPACE, metric="loss", mode="min", search="random", seed=0, recorders=[recorder],
                    **options)  # fmt: skip


def train() -> None:
    """A training whose loss is the learning rate; widths above 8 go wrong."""
    session = active()
    assert session is not None
    session._driven = True
    session.ready()
    loss = session.trial.params["optimizer.lr"]
    session.report(1, {"loss": float("nan") if session.trial.params["width"] == 9 else loss})


def tune(recorder: WandbRecorder, trials: int, **options: Any) -> th.Study:
    """Tune with a study that is opened again."""
    study = make_study(recorder, **options)
    study.optimize(train, trials=trials, progress=False)
    return study


def study_runs(folder: Path) -> list[RunFile]:
    """The runs of studies below a folder, oldest first."""
    return [run for run in read_runs(folder) if run.job_type == "study"]


def best_so_far(study: th.Study) -> list[float]:
    """The curve that a run of the study should have, from the trials themselves."""
    found, best = [], float("inf")
    for trial in study.trials:
        if trial.outcome.state == "complete":
            best = min(best, trial.value or 0.0)
        if best < float("inf"):
            found.append(best)
    return found


@pytest.mark.usefixtures("offline")
def test_a_study_is_a_run(tmp_path: Path) -> None:
    """One run: its kind and group, the curve, the table, the importance, the best trial and the counts."""
    study = tune(WandbRecorder("digits", lean=True, tags=["ours"]), 30)
    (run,) = study_runs(tmp_path)
    assert (run.id, run.name, run.group, run.project) == (
        f"my-study-study-{study.key}", "my.study", "my.study", "digits",
    )  # fmt: skip
    assert (run.tags, run.exit_code) == (("ours",), 0)
    assert run.column("study/trials") == list(range(1, 31))
    assert run.column("study/trial") == [trial.number for trial in study.trials]
    assert run.column("best/loss") == best_so_far(study)
    assert run.axes["best/loss"] == "study/trials"
    counts = study.counts()
    assert len(counts) == 2
    assert {state: run.summary[f"trials/{state}"] for state in counts} == counts
    assert (run.summary["best/loss"], run.summary["best/trial"]) == (study.best.value, study.best.number)
    assert run.config["tunehook"]["best"]["params"] == dict(study.best.params)
    shares = study.importance()
    assert list(shares) == ["optimizer.lr", "width"]  # the loss is the learning rate
    assert {name: run.summary[f"importance/{name.replace('.', '/')}"] for name in shares} == shares
    table = read_table(run, "table_29")
    assert table["columns"] == ["number", "state", "loss", "reason", "optimizer.lr", "width", "kind"]
    assert [tuple(row[:3]) for row in table["data"]] == [
        (trial.number, trial.outcome.state, trial.value) for trial in study.trials
    ]
    assert [row[4:] for row in table["data"]] == [list(trial.params.values()) for trial in study.trials]
    bars = read_table(run, "importance_table_29")
    assert bars["data"] == [list(item) for item in shares.items()]
    # 30 trials and the study, nothing of one in another
    assert len(read_runs(tmp_path)) == 31
    assert all(run.job_type == "trial" and len(run.rows) == 1 for run in read_runs(tmp_path) if run.name != "my.study")


@pytest.mark.usefixtures("offline")
def test_a_trial_that_comes_to_no_fit_is_a_run(tmp_path: Path) -> None:
    """With its values and its end, also where it failed; one that is asked again has its run then."""

    def train() -> float:
        trial, lr = th.current(), th.value("lr", 0.0)
        assert trial is not None
        if trial.number == 1:
            raise ValueError("a broken script")
        if trial.number == 2:
            raise SystemExit(143)
        return lr

    space = {"lr": th.Choice([0.1, 0.2, 0.3])}
    study = th.Study("none", space, metric="loss", mode="min", search="grid", recorders=[WandbRecorder("digits")])
    with pytest.raises(SystemExit):
        study.optimize(train, trials=3, progress=False)
    states = [trial.outcome.state for trial in study.trials]
    assert states == ["complete", "failed", "interrupted"]
    runs = [run for run in read_runs(tmp_path) if run.job_type != "study"]
    assert [run.config["lr"] for run in runs] == [trial.params["lr"] for trial in study.trials[:2]]
    assert [run.summary["outcome"] for run in runs] == states[:2]
    assert runs[0].summary["best/loss"] == study.best.value


@pytest.mark.usefixtures("offline")
def test_a_study_with_several_metrics_is_a_run(tmp_path: Path) -> None:
    """Each trial has all metrics in its summary; the study's run has their curves, their columns, and the front."""

    def both() -> None:
        session = active()
        assert session is not None
        session._driven = True
        session.ready()
        rate = session.trial.params["optimizer.lr"]
        session.report(1, {"loss": rate, "size": session.trial.params["width"] - 100 * rate})

    study = th.Study("both", SPACE, metric=["loss", "size"], mode=["min", "max"], search="random", seed=0,
                     recorders=[WandbRecorder("digits", lean=True)])  # fmt: skip
    study.optimize(both, trials=6, progress=False)

    (run,) = study_runs(tmp_path)
    assert run.column("value/size") == [trial.values[1] for trial in study.trials]
    assert "best/loss" not in run.summary
    assert run.summary["front/trials"] == len(study.best_trials)
    front = [{"trial": one.number, "params": dict(one.params), "values": {"loss": one.values[0], "size": one.values[1]}}
             for one in study.best_trials]  # fmt: skip
    assert run.config["tunehook"]["front"] == front
    assert run.config["tunehook"]["others"] == {"size": "max"}
    table = read_table(run, "table_5")
    assert table["columns"][:5] == ["number", "state", "loss", "size", "reason"]
    assert [tuple(row[2:4]) for row in table["data"]] == [trial.values for trial in study.trials]
    trials = sorted((one for one in read_runs(tmp_path) if one.job_type == "trial"), key=lambda one: one.name)
    summaries = [(one.summary["best/loss"], one.summary["best/size"]) for one in trials]
    assert summaries == [trial.values for trial in study.trials]


def read_table(run: RunFile, name: str) -> dict[str, Any]:
    """A table of a run, from its file."""
    (path,) = (run.path.parent / "files" / "media" / "table" / "study").glob(f"{name}_*.table.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.usefixtures("offline")
def test_the_effective_configuration_of_the_best_trial(tmp_path: Path) -> None:
    """What was in force in the best trial is in the configuration of the study's run, from the journal."""
    study = tune(WandbRecorder("digits", lean=True), 2)
    (run,) = study_runs(tmp_path)
    journal = read_journal(study.paths.journal(study.best.number))
    effective = next(event for event in journal if event["event"] == "config")["effective"]
    assert run.config["tunehook"]["best"]["slots"] == effective == study.effective(study.best.number)


@pytest.mark.usefixtures("offline")
def test_a_study_goes_on_in_its_run(tmp_path: Path) -> None:
    """Opened again, the study has one run still, with all; what was uploaded stays, and the next one has the rest."""
    for trials in (3, 5, 5):
        tune(WandbRecorder("digits", lean=True), trials)
    (first,) = study_runs(tmp_path)
    assert first.column("study/trials") == [1, 2, 3, 4, 5]
    (file,) = tmp_path.rglob(f"run-{first.id}.wandb")
    file.with_name(f"{file.name}.synced").touch()
    for trials in (6, 8):
        tune(WandbRecorder("digits", lean=True), trials)
    first, second = study_runs(tmp_path)
    assert first.id == second.id
    assert first.column("study/trials") == [1, 2, 3, 4, 5]
    assert second.column("study/trials") == [6, 7, 8]
    assert second.summary["best/trial"] == make_study(WandbRecorder("digits")).best.number


@pytest.mark.usefixtures("offline")
def test_offline_it_is_there_from_the_first_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is whole after each burst, in one folder, while the study goes on."""
    monkeypatch.setattr(wandb_study, "REST", 0.0)
    seen: list[list[list[int]]] = []

    def shown() -> list[list[int]]:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile, for the next one is there
            return [read_finished(path).column("study/trials") for path in tmp_path.rglob("run-my-study-study-*.wandb")]
        return []

    def look() -> None:
        expected = [[*range(1, len(seen) + 1)]] if seen else []
        waiting.wait_for(lambda: shown() == expected)
        seen.append(expected)
        train()

    make_study(WandbRecorder("digits", lean=True)).optimize(look, trials=3, progress=False)
    assert seen == [[], [[1]], [[1, 2]]]
    assert shown() == [[1, 2, 3]]


@pytest.mark.usefixtures("offline")
def test_a_study_that_was_made_again_has_a_run_of_its_own(tmp_path: Path) -> None:
    """A study of the same name in another storage is another one, where the folder does not say that it is the same."""
    tune(WandbRecorder("digits", lean=True), 2, storage="sqlite:///first.db")
    shutil.rmtree("tunehook-studies")
    tune(WandbRecorder("digits", lean=True), 3, storage="sqlite:///second.db")
    first, second = study_runs(tmp_path)
    assert first.id != second.id
    assert [len(run.rows) for run in (first, second)] == [2, 3]


@pytest.mark.usefixtures("offline")
def test_switched_off(tmp_path: Path) -> None:
    """Without the option there are trials only."""
    tune(WandbRecorder("digits", lean=True, study_run=False), 2)
    assert [run.job_type for run in read_runs(tmp_path)] == ["trial", "trial"]


@pytest.mark.usefixtures("offline")
def test_a_run_of_the_training_is_never_the_studys(tmp_path: Path) -> None:
    """``wandb.init`` in the training opens a run of its own, and the study's is never ``wandb.run``."""
    recorder = WandbRecorder("digits", lean=True)
    seen = []

    def users() -> None:
        run = wandb.init(project="mine", settings=wandb.Settings(x_save_requirements=False, x_disable_stats=True))
        seen.append(run.id)
        train()

    study = make_study(recorder)
    for trials in (1, 2, 3):  # a burst of the study's run between the trials
        study.optimize(users, trials=trials, progress=False)
        assert wandb.run is None
    assert len(set(seen)) == 3
    assert not set(seen) & {run.id for run in study_runs(tmp_path)}
    assert [len(run.rows) for run in study_runs(tmp_path)] == [3]


@pytest.mark.usefixtures("offline")
def test_init_returns_no_run_of_a_study_that_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the study's run is written, the latest open run is not the study's."""
    inside = []

    def fill(run: Any, *_: Any) -> None:
        mine = wandb.init(project="mine", settings=wandb.Settings(x_save_requirements=False, x_disable_stats=True))
        inside.append((mine.id, run.id))
        mine.finish()

    monkeypatch.setattr(wandb_study, "fill", fill)
    tune(WandbRecorder("digits", lean=True), 1)
    ((mine, studys),) = inside
    assert mine != studys


@pytest.mark.usefixtures("offline")
def test_a_failure_ends_no_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """What goes wrong with the study's run is told once, and all trials train."""

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(wandb_study, "fill", fail)
    recorder = WandbRecorder("digits", lean=True, mode="offline")
    with caplog.at_level(logging.WARNING, "tunehook"):
        for trials in (2, 4):
            study = tune(recorder, trials)
    told = [record.getMessage() for record in caplog.records if record.name == "tunehook"]
    assert told == [
        "The W&B run of study my.study is not up to date (no space left); the study has everything.",
    ]
    assert len(study.trials) == 4
    assert not study.paths.shown.read_text()
    monkeypatch.setattr(wandb_study, "fill", view.fill)
    study.lead.show(is_last=True)  # nothing is left for the end of this process, whose settings are others
    assert study_runs(tmp_path)[-1].column("study/trials") == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_process_that_asks_for_one_trial_shows_it_at_its_end(tmp_path: Path) -> None:
    """With ``TuneCallback(study)`` each process has a trial: the run of the study has them all, and none twice."""
    script = """
import sys
import tunehook as th
import waiting
from tunehook.integrations.wandb import WandbRecorder
from tunehook.trial import Outcome
study = th.Study("s", {"lr": th.Float(0, 1)}, metric="loss", mode="min", search="random",
                 recorders=[WandbRecorder("digits", lean=True)])
trial = study.ask()
study.tell(trial, Outcome("complete", "trained to its end", trial.params["lr"], 1))
"""
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_ERROR_REPORTING": "false"}
    environment.pop("WANDB_SERVICE", None)
    for at_once in (1, 1, 2):
        programs = [warm_python().start(["-c", script], cwd=tmp_path, env=environment) for _ in range(at_once)]
        for program in programs:
            _, errors = program.communicate()
            assert program.poll() == 0, errors
    runs = study_runs(tmp_path)
    assert len({run.id for run in runs}) == 1
    assert sorted(count for run in runs for count in run.column("study/trials")) == [1, 2, 3, 4]


def wait_for(server: WandbServer, rows: int) -> ServerRun:
    """The study's run once the server has so many rows."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for run in list(server.runs.values()):
            if run.job_type == "study" and len(run.rows) == rows and run.exit_code == 0:
                return run
        time.sleep(0.02)
    raise AssertionError({name: (run.job_type, run.rows) for name, run in server.runs.items()})


def test_online_it_follows_the_study(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst after the end of a trial, the next ones resume the run: every trial has its row once."""
    monkeypatch.setattr(wandb_study, "REST", 0.0)
    recorder = WandbRecorder("digits", lean=True)
    study = make_study(recorder)
    for number in range(3):
        trial = study.ask()
        study.tell(trial, Outcome("complete", "trained to its end", 1.0 - number / 4, 1))
        assert recorder._here.line.writer.drain(60)
        wait_for(server, number + 1)
    study.lead.show(is_last=True)
    assert recorder._here.line.writer.drain(60)
    run = wait_for(server, 3)
    assert run.column("best/loss") == [1.0, 0.75, 0.5]
    assert (run.group, run.display_name, run.summary["best/trial"]) == ("my.study", "my.study", 2)
    assert run.setting("tunehook")["best"]["params"] == dict(study.best.params)


def test_fast_trials_do_not_pay_a_burst_each(server: WandbServer) -> None:
    """After a burst there is a pause of fifty times its length, but the end is always shown."""
    recorder = WandbRecorder("digits", lean=True)
    study = make_study(recorder)
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, Outcome("complete", "trained to its end", 0.5, 1))
        assert recorder._here.line.writer.drain(60)
    study.lead.show(is_last=True)
    assert recorder._here.line.writer.drain(60)
    assert wait_for(server, 12).column("study/trials") == list(range(1, 13))
    assert server.requests.count("RunResumeStatus") == 2


def test_a_server_that_is_gone_at_the_end(
    server: WandbServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last burst is kept offline, in the same run, and the outage is told once."""
    server.fail("refused")
    recorder = WandbRecorder("digits", lean=True, init_timeout=1.0, finish_timeout=1.0)
    with caplog.at_level(logging.WARNING, "tunehook"):
        study = make_study(recorder)
        trial = study.ask()
        study.tell(trial, Outcome("complete", "trained to its end", 0.5, 1))
        study.lead.show(is_last=True)
        assert recorder._here.line.writer.drain(60)
        study.lead.show(is_last=True)
        assert recorder._here.line.writer.drain(60)
    (run,) = [run for run in study_runs(tmp_path) if run.path.parent.name.startswith("offline-run-")]
    assert run.column("best/loss") == [0.5]
    assert sum("W&B cannot be reached" in record.getMessage() for record in caplog.records) == 1


def test_machines_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where machines share a storage, one shows the study, until it gives its turn back or is silent for long."""
    study = make_study(WandbRecorder("digits"), storage=f"sqlite:///{tmp_path}/shared.db")
    assert study.claim("show", seconds=60)
    assert study.claim("show", seconds=60)
    monkeypatch.setattr("tunehook.storage.notes.host", lambda: "another")
    assert not study.claim("show", seconds=60)
    assert study.claim("something else", seconds=60)
    monkeypatch.setattr("tunehook.storage.notes.time.time", lambda clock=time.time: clock() + 61)
    assert study.claim("show", seconds=60)


def test_rows_of_a_study_whose_trials_pause(tmp_path: Path) -> None:
    """A row is written once, when its trial has ended for good; the table has the paused ones too."""
    import pause_study

    made = pause_study.study(str(tmp_path / "study"), many=24)
    made.optimize(pause_study.train, trials=4, progress=False)
    before = view.look_at(made)
    made.optimize(pause_study.train, trials=24, progress=False)
    after = view.look_at(made)
    assert before.paused
    assert after.ended
    assert {one.number for one in after.ended} & {one.number for one in before.paused}  # some went on
    assert after.ended[: len(before.ended)] == before.ended
    assert len(view._charts(after, {})["study/table"].data) == 24


def test_importance_of_a_name_of_two_branches() -> None:
    """It has one share, by the user's name, as `Study.importance` has it."""
    space = {"opt": th.Choice({one: {"lr": th.Float(0, top)} for one, top in (("sgd", 1), ("adam", 0.1))})}
    made = th.Study("branches", space, metric="v", mode="max", search="random", seed=1)
    made.optimize(lambda: th.value("lr", 0.1) + (th.value("opt", "") == "sgd"), trials=30, progress=False)
    seen = view.look_at(made)
    assert find_importance(seen.frozen, seen.mode, seen.space) == made.importance()
    assert sorted(made.importance()) == ["lr", "opt"]
