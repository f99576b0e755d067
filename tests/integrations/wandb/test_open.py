"""The run that the user has open: shared by a trial, finished with it, never that of two; read from the run files."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from run_file import RunFile, read_runs
from waiting import PATIENCE
from wandb_trials import begin

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder  # noqa: E402
from tunehook.integrations.wandb.users import find_run  # noqa: E402

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row has its place between the user's on a busy machine too."""
    monkeypatch.setattr("tunehook.integrations.wandb.shared.TURN", 4.0)


def make_recorder() -> WandbRecorder:
    """A recorder with a tag."""
    return WandbRecorder("digits", lean=True, tags=["ours"])


def read_by_project(folder: Path) -> dict[str, RunFile]:
    """The runs below a folder; each has a project of its own."""
    return {run.project: run for run in read_runs(folder)}


def made_by(module: str, name: str) -> object:
    """A callback of a class of another package."""
    return type(name, (), {"__module__": module})()


METRICS_LOGGER = ("wandb.integration.keras.callbacks.metrics_logger", "WandbMetricsLogger")


@pytest.mark.parametrize(
    ("stop_at", "exception", "state", "exit_code"),
    [
        (None, None, "complete", 0),
        (2, None, "pruned", 0),
        (None, ValueError("no"), "failed", 1),
        (None, MemoryError("no"), "infeasible", 1),
        (None, KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_the_open_run_is_shared(
    tmp_path: Path, stop_at: int | None, exception: BaseException | None, state: str, exit_code: int
) -> None:
    """One run, with the user's rows and ours, our configuration over the user's, and the outcome."""
    recorder = make_recorder()
    wandb.init(project="users", config={"lr": 1.0, "theirs": 2})
    session = begin(recorder, stop_at=stop_at)
    for step in (1, 2):
        wandb.log({"loss": -step})
        session.report(step, {"val_acc": step / 4})
    session.end(exception)

    (run,) = read_runs(tmp_path)
    assert wandb.run is None
    assert (run.project, run.name, run.group, run.job_type) == ("users", "trial-0000", "digits", "trial")
    assert run.tags == ("ours",)
    assert (run.config["lr"], run.config["theirs"], run.config["tunehook"]["trial"]) == (0.1, 2, 0)
    assert (run.column("loss"), run.column("trial/step")) == ([-1, -2], [1, 2])
    assert run.column("trial/val_acc") == [0.25, 0.5]
    assert run.axes == {"trial/step": "", "trial/val_acc": "trial/step"}
    assert (run.summary["outcome"], run.summary["best/val_acc"], run.exit_code) == (state, 0.5, exit_code)
    assert recorder.where() == str(run.path.parent)


def test_what_the_user_gave_stays(tmp_path: Path) -> None:
    """Name, group, job type and tags of wandb.init are not replaced."""
    recorder = make_recorder()
    wandb.init(name="mine", group="my group", job_type="fit", tags=["theirs"])
    begin(recorder).end()

    (run,) = read_runs(tmp_path)
    assert (run.name, run.group, run.job_type, run.tags) == ("mine", "my group", "fit", ("theirs",))


@pytest.mark.parametrize("theirs", ["0.9.1", {"version": "0.9.1"}, None])
def test_a_configuration_key_of_the_users_called_tunehook(tmp_path: Path, theirs: object) -> None:
    """It says nothing about whose the run is; our own values take its place."""
    recorder = make_recorder()
    wandb.init(config={"tunehook": theirs})
    session = begin(recorder)
    session.report(1, {"val_acc": 0.5})

    session.end()
    assert session.outcome is not None
    assert session.outcome.state == "complete"
    (run,) = read_runs(tmp_path)
    assert (run.config["tunehook"]["trial"], run.column("trial/val_acc")) == (0, [0.5])


@pytest.mark.parametrize("reinit", [None, "return_previous", "finish_previous", "create_new"])
def test_a_run_that_is_opened_after_the_trial_has_begun(tmp_path: Path, reinit: Any) -> None:
    """The user's wandb.init gives them a run of theirs, not the trial's own, and no later trial shares it."""
    recorder = make_recorder()
    for number in range(2):
        session = begin(recorder, number)
        mine = wandb.init(project="users", reinit=reinit)
        mine.log({"mine": number})
        session.report(1, {"val_acc": 0.5})
        session.end()
        assert session.outcome is not None
        assert session.outcome.state == "complete"
        assert mine.id == recorder._around or reinit == "create_new"
    while wandb.run is not None:
        wandb.finish()
    wandb.teardown()

    runs = read_runs(tmp_path)
    ours = [run for run in runs if run.project == "digits"]
    theirs = [run for run in runs if run.project == "users"]
    assert [(run.config["tunehook"]["trial"], run.column("val_acc"), run.exit_code) for run in ours] == [
        (0, [0.5], 0), (1, [0.5], 0)
    ]  # fmt: skip
    assert [number for run in theirs for number in run.column("mine")] == [0, 1]
    assert not any("tunehook" in run.config for run in theirs)


def test_three_trials_are_three_runs(tmp_path: Path) -> None:
    """After each trial wandb.run is None, so that the next wandb.init opens a new run."""
    recorder = make_recorder()
    for number in range(3):
        assert wandb.run is None
        wandb.init()
        session = begin(recorder, number)
        session.report(1, {"val_acc": 0.5})
        session.end()

    runs = read_runs(tmp_path)
    assert len({run.id for run in runs}) == 3
    assert [run.config["lr"] for run in runs] == [0.1, 1.1, 2.1]


@pytest.mark.parametrize("copy", [lambda it: it, lambda it: pickle.loads(pickle.dumps(it))], ids=["as made", "pickled"])
def test_a_run_around_the_study(tmp_path: Path, copy: Callable[[WandbRecorder], WandbRecorder]) -> None:
    """A run that was open when the recorder was made is no trial's: it stays open, and the trial has its own."""
    around = wandb.init(project="users")
    recorder = copy(make_recorder())
    session = begin(recorder)
    session.report(1, {"val_acc": 0.5})
    session.end()
    assert wandb.run is around
    wandb.log({"best": 0.5})
    wandb.finish()
    wandb.init(project="later")
    begin(recorder, 1).end()

    runs = read_by_project(tmp_path)
    assert (runs["users"].rows, "tunehook" in runs["users"].config) == ([{"best": 0.5}], False)
    assert runs["digits"].column("val_acc") == [0.5]
    assert runs["later"].config["tunehook"]["trial"] == 1


def test_a_callback_says_that_the_open_run_is_the_trainings(tmp_path: Path) -> None:
    """With WandbMetricsLogger, or a class made from W&B's others, the run is shared, whenever it was opened."""
    wandb.init(project="users")
    base = type(made_by("wandb.integration.keras.callbacks.tables_builder", "WandbEvalCallback"))
    loggers = [object(), type("Mine", (base,), {"__module__": "__main__"})()]
    begin(make_recorder(), loggers=loggers).end()

    assert wandb.run is None
    assert read_by_project(tmp_path)["users"].config["tunehook"]["trial"] == 0


def log_twice(epoch: int) -> None:
    """Log to one step in two calls."""
    wandb.log({"mine": epoch}, step=epoch)
    wandb.log({"more": epoch}, step=epoch)


LOGS = {
    "before ours, with steps": (lambda epoch: wandb.log({"mine": epoch}, step=epoch), None),
    "after ours, with steps": (None, lambda epoch: wandb.log({"mine": epoch}, step=epoch)),
    "before ours": (lambda epoch: wandb.log({"mine": epoch}), None),
    "after ours": (None, lambda epoch: wandb.log({"mine": epoch})),
    "around ours": (lambda epoch: wandb.log({"mine": epoch}, commit=False), lambda epoch: wandb.log({"more": epoch})),
    "before ours, twice a step": (log_twice, None),
    "after ours, twice a step": (None, log_twice),
    "with wide steps": (None, lambda epoch: wandb.log({"mine": epoch}, step=100 * epoch)),
}


@pytest.mark.parametrize(("before", "after"), LOGS.values(), ids=LOGS.keys())
def test_the_users_rows_and_steps_stay(tmp_path: Path, request: pytest.FixtureRequest, before: Any, after: Any) -> None:
    """However the user's code logs, W&B drops none of its values and none of ours, and epochs do not mix in a row."""
    recorder = make_recorder()
    wandb.init()
    session = begin(recorder)
    for epoch in range(4):
        if before is not None:
            before(epoch)
        session.report(epoch + 1, {"val_acc": epoch / 4})
        if after is not None:
            after(epoch)
    session.end()

    (run,) = read_runs(tmp_path)
    assert run.column("mine") == [0, 1, 2, 3]
    assert run.column("trial/step") == [1, 2, 3, 4]
    assert run.column("trial/val_acc") == [0, 0.25, 0.5, 0.75]
    assert run.column("more") in ([], [0, 1, 2, 3])
    if "wide" not in request.node.callspec.id:
        assert {row["trial/step"] - row["mine"] for row in run.rows if {"trial/step", "mine"} <= row.keys()} <= {1}


def test_a_user_who_logs_nothing(tmp_path: Path) -> None:
    """Our rows are all there, each its own."""
    recorder = make_recorder()
    wandb.init()
    session = begin(recorder)
    for step in (1, 2, 3):
        session.report(step, {"val_acc": step / 4})
    session.end()

    (run,) = read_runs(tmp_path)
    assert [(row["trial/step"], row["trial/val_acc"]) for row in run.rows] == [(1, 0.25), (2, 0.5), (3, 0.75)]


@pytest.mark.parametrize(
    ("loggers", "holder", "way_out"),
    [
        ((), "training", "call wandb.init inside the training function, without a fixed id"),
        (
            [made_by(*METRICS_LOGGER)],
            "WandbMetricsLogger",
            "call wandb.init inside the training function, without a fixed id, before WandbMetricsLogger is made",
        ),
    ],
)
def test_a_fixed_id(loggers: Any, holder: str, way_out: str) -> None:
    """A run that belongs to an earlier trial is refused before the second one trains."""
    recorder = make_recorder()
    wandb.init(id=f"fixed-{len(loggers)}")
    begin(recorder, 0, loggers=loggers).end()
    wandb.init(id=f"fixed-{len(loggers)}")
    message = (
        f"The {holder} of trial-0001 of study 'digits' holds the W&B run 'fixed-{len(loggers)}', which belongs to "
        f"trial-0000 of study 'digits'. Every trial needs a run of its own: {way_out}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        begin(recorder, 1, loggers=loggers)


def test_a_callback_without_a_run() -> None:
    """A WandbMetricsLogger that outlived its run, as one made outside the training function, is an error."""
    recorder = make_recorder()
    message = (
        "The WandbMetricsLogger of trial-0000 of study 'digits' finds no open W&B run. Every trial needs a run of its "
        "own: call wandb.init inside the training function, without a fixed id, before WandbMetricsLogger is made."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        begin(recorder, loggers=[made_by(*METRICS_LOGGER)])


@pytest.mark.parametrize(("exception", "exit_code"), [(None, 0), (ValueError("no"), 1)])
def test_a_run_that_the_training_finishes(tmp_path: Path, exception: Exception | None, exit_code: int) -> None:
    """After wandb.finish() in the training function the run is gone on with, to keep the outcome too."""
    recorder = make_recorder()
    with wandb.init(project="users", name="mine", group="theirs"):
        session = begin(recorder)
        session.report(1, {"val_acc": 0.5})
    session.end(exception)

    first, second = read_runs(tmp_path)
    assert wandb.run is None
    assert first.id == second.id
    assert (first.exit_code, first.column("trial/val_acc"), "outcome" in first.summary) == (0, [0.5], False)
    assert (second.project, second.name, second.group, second.job_type) == ("users", "mine", "theirs", "trial")
    assert (second.exit_code, second.summary["best/val_acc"]) == (exit_code, 0.5)
    assert second.config["tunehook"]["trial"] == 0


def test_a_run_that_the_training_finishes_in_the_middle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After wandb.finish() in a hook of the fit our rows go on in the run, and the training never waits for it."""
    recorder = make_recorder()
    wandb.init(project="users")
    session = begin(recorder)
    wandb.log({"loss": 1.0})
    session.report(1, {"val_acc": 0.25})
    wandb.finish()
    began = time.monotonic()
    for step in (2, 3):
        session.report(step, {"val_acc": step / 4})
        assert wandb.run is None
    assert time.monotonic() - began < 5  # and not until a time limit
    session.end()
    assert session.outcome is not None
    assert session.outcome.state == "complete"
    assert time.monotonic() - began < 10

    first, second = read_runs(tmp_path)
    assert (first.id, first.project) == (second.id, second.project)
    assert (first.column("trial/val_acc"), second.column("trial/val_acc")) == ([0.25], [0.5, 0.75])
    assert second.axes["trial/val_acc"] == "trial/step"
    assert (second.exit_code, second.summary["outcome"], second.summary["best/val_acc"]) == (0, "complete", 0.75)
    assert not [record for record in caplog.records if record.name == "tunehook"]


def test_a_run_that_is_finished_as_a_row_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The row is logged again, once, into the run that goes on."""
    recorder = make_recorder()
    users = wandb.init(project="users")
    session = begin(recorder)
    wandb.log({"loss": 1.0})
    session.report(1, {"val_acc": 0.25})
    log = wandb.Run.log

    def finish_first(run: Any, *args: Any, **options: Any) -> None:
        if run is users:
            run.finish()
        log(run, *args, **options)

    monkeypatch.setattr(wandb.Run, "log", finish_first)
    for step in (2, 3):
        session.report(step, {"val_acc": step / 4})
    session.end()
    first, second = read_runs(tmp_path)
    assert (first.column("trial/val_acc"), second.column("trial/val_acc")) == ([0.25], [0.5, 0.75])
    assert (second.exit_code, second.summary["outcome"]) == (0, "complete")
    assert not [record for record in caplog.records if record.name == "tunehook"]


def test_the_open_run_of_another_trial(tmp_path: Path) -> None:
    """While another trial has the open run, also one of another study, a trial has a run of its own."""
    recorder, other = make_recorder(), make_recorder()
    users = wandb.init(project="users")
    first = begin(recorder, 0)
    second = begin(other, 1)
    second.report(1, {"val_acc": 0.25})
    second.end()
    assert wandb.run is users
    first.report(1, {"val_acc": 0.5})
    first.end()

    runs = read_by_project(tmp_path)
    assert (runs["users"].column("trial/val_acc"), runs["digits"].column("val_acc")) == ([0.5], [0.25])


def test_after_the_trial_wandb_says_that_there_is_no_run() -> None:
    """What the user logs after the end is an error by W&B, not lost in silence."""
    recorder = make_recorder()
    run = wandb.init()
    begin(recorder).end()
    with pytest.raises(wandb.Error, match=r"^You must call wandb\.init\(\) before wandb\.log\(\)$"):
        wandb.log({"late": 1})
    with pytest.raises(wandb.Error, match=rf"^Run \({run.id}\) is finished\. The call to `log` will be ignored\."):
        run.log({"late": 1})


def test_a_disabled_run(tmp_path: Path) -> None:
    """A run in mode "disabled" is shared like another, and writes nothing."""
    recorder = make_recorder()
    wandb.init(mode="disabled")
    session = begin(recorder)
    session.report(1, {"val_acc": 0.5})
    session.end()
    assert wandb.run is None
    assert recorder.where() is None
    assert read_runs(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_take_the_open_run_of_its_parent() -> None:
    """The run that a child process inherits is not one that was opened for its training."""
    wandb.init()
    assert find_run([], None) is not None
    if (child := os.fork()) == 0:
        os._exit(0 if find_run([], None) is None else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.slow
def test_tensorflow_is_never_imported(tmp_path: Path) -> None:
    """W&B's callbacks for Keras import TensorFlow; recording imports neither, with and without an open run."""
    script = """
import sys
from pathlib import Path
sys.modules["tensorflow"] = None  # importing it raises
import wandb
from tunehook.integrations.wandb import WandbRecorder
from tunehook.trial import Outcome, Trial
recorder = WandbRecorder("digits", lean=True)
for number in range(2):
    if number:
        wandb.init()
    recorder.open(Trial("s", number, {"lr": 0.1}, Path("trial"), "val_acc", "max", key=str(number)), {}, loggers=[1])
    recorder.report(1, {"val_acc": 0.5})
    recorder.close(Outcome("complete"))
assert not [name for name in sys.modules if name.startswith(("wandb.integration.keras", "tensorflow.", "keras"))]
"""
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=PATIENCE)
    assert len(read_runs(tmp_path)) == 2
