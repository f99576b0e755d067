"""The W&B recorder online: the real SDK, and a stand-in for its server on the loopback."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from run_file import read_runs
from wandb_server import ENTITY, WandbServer, online, serving
from wandb_trials import begin

wandb = pytest.importorskip("wandb")
from wandb.sdk.lib import run_stopping  # noqa: E402

from tunehook.integrations.wandb import WandbRecorder  # noqa: E402
from tunehook.integrations.wandb import run as wandb_run  # noqa: E402


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WandbServer]:
    """A stand-in to which this process's SDK talks."""
    with serving() as made, online(made, tmp_path):
        yield made


def test_a_run_arrives_complete(server: WandbServer) -> None:
    """Online, the server has names, configuration, every row once, summary and exit code."""
    recorder = WandbRecorder("digits", lean=True, tags=["ours"])
    session = begin(recorder)
    for step in range(1, 21):
        session.report(step, {"val_acc": step / 20, "loss": math.nan})
    session.end()

    assert recorder._here.line.writer.drain(60)
    (run,) = server.runs.values()
    assert (run.project, run.display_name, run.group, run.job_type) == ("digits", "trial-0000", "digits", "trial")
    assert run.tags == ("ours",)
    assert (run.setting("lr"), run.setting("tunehook")["trial"]) == (0.1, 0)
    assert run.column("trial/step") == list(range(1, 21))
    assert run.column("val_acc") == [step / 20 for step in range(1, 21)]
    assert all(map(math.isnan, run.column("loss")))
    assert (run.summary["outcome"], run.summary["best/val_acc"], run.exit_code) == ("complete", 1, 0)
    assert recorder.where() == f"{server.url}/{ENTITY}/digits/runs/{run.name}"


def test_a_run_that_the_training_finishes(server: WandbServer) -> None:
    """After wandb.finish() in a hook of the fit, the rest of our rows and the outcome arrive in the same run."""
    recorder = WandbRecorder("digits", lean=True)
    wandb.init(project="users", settings=wandb.Settings(x_disable_stats=True))
    session = begin(recorder)
    for step in (1, 2, 3):
        wandb.log({"mine": step})
        session.report(step, {"val_acc": step / 4})
    wandb.finish()
    for step in (4, 5):
        session.report(step, {"val_acc": step / 4})
    session.end()
    assert session.outcome is not None
    assert session.outcome.state == "complete"

    (run,) = server.runs.values()
    assert run.column("mine") == [1, 2, 3]
    assert run.column("trial/step") == [1, 2, 3, 4, 5]
    assert run.column("trial/val_acc") == [0.25, 0.5, 0.75, 1, 1.25]
    assert (run.exit_code, run.summary["outcome"], run.setting("tunehook")["trial"]) == (0, "complete", 0)


def complete(recorder: WandbRecorder, trials: int) -> None:
    """So many trials of one report that come to their end, of which W&B has all that it takes."""
    for number in range(trials):
        session = begin(recorder, number)
        session.report(1, {"val_acc": 0.5})
        session.end()
        assert session.outcome is not None
        assert session.outcome.state == "complete"
    assert recorder._here.line.writer.drain(60)


@pytest.mark.parametrize(
    ("name", "value", "setting"),
    [("WANDB_MODE", "Offline", "mode: Input should be 'online', "), ("WANDB_TAGS", ",", "run_tags: Value error, Tag ")],
)
def test_a_wrong_setting(
    server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    setting: str,
) -> None:
    """What the SDK does not take ends no training: one warning for all trials names it, and nothing else is blamed."""
    monkeypatch.setenv(name, value)
    wandb.teardown()  # its settings are those of the environment
    recorder = WandbRecorder("digits", lean=True)
    complete(recorder, 3)

    (text,) = [record.getMessage() for record in caplog.records if record.name == "tunehook"]
    assert text.startswith(
        "W&B does not record trial-0000 any more (a setting of W&B is wrong, as of a variable WANDB_...; "
        f"mend {setting}"
    )
    assert "`tunehook sync` uploads it: " in text
    assert server.runs == {}


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("name", ["recall@*k", 7, "\udc80"])
def test_an_odd_name_of_a_metric(
    server: WandbServer, caplog: pytest.LogCaptureFixture, name: Any, is_shared: bool
) -> None:
    """A name that W&B cannot define, no text, or a lone surrogate takes no other metric with it, and is there too."""
    recorder = WandbRecorder("digits", lean=True)
    if is_shared:
        wandb.init(project="users", settings=wandb.Settings(x_disable_stats=True))
    session = begin(recorder)
    session.report(1, {"val_acc": 0.5, name: 0.25})
    session.report(2, {"val_acc": 0.75})
    session.end()

    assert recorder._here.line.writer.drain(60)
    (run,) = server.runs.values()
    prefix, kept = "trial/" if is_shared else "", {"\udc80": r"\udc80"}.get(name, str(name))
    assert (run.steps, run.column(f"{prefix}val_acc"), run.column(prefix + kept)) == ([1, 2], [0.5, 0.75], [0.25])
    assert (run.exit_code, run.summary["outcome"]) == (0, "complete")
    assert not [record for record in caplog.records if record.name == "tunehook"]


@pytest.mark.filterwarnings("ignore:.*sweep.yaml:pytest.PytestUnraisableExceptionWarning")  # the SDK does not close it
@pytest.mark.parametrize("variables", [{}, {"WANDB_RUN_ID": "agents", "WANDB_PROJECT": "sweeps"}])
def test_a_study_in_the_process_of_an_agent(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    """Each trial has the run that it has elsewhere, outside the sweep, in which the user's own runs stay."""
    file = tmp_path / "sweep.yaml"
    file.write_text("wandb_version: 1\nlr:\n  value: 7.0\n")
    given = {"WANDB_SWEEP_ID": "abcd1234", "WANDB_SWEEP_PARAM_PATH": str(file), **variables}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    wandb.teardown()  # its settings are those of the environment
    recorder = WandbRecorder("digits", lean=True)
    complete(recorder, 2)

    ids = [f"digits-{number:04d}-{os.getpid()}" for number in range(2)]
    assert list(server.runs) == ids
    for number, run in enumerate(server.runs.values()):
        assert (run.project, run.setting("lr"), run.setting("tunehook")["trial"]) == ("digits", 0.1 + number, number)
        assert (run.column("val_acc"), run.exit_code) == ([0.5], 0)
    with wandb.init(settings=wandb.Settings(x_disable_stats=True)) as mine:
        assert (mine.settings.sweep_id, mine.config["lr"]) == ("abcd1234", 7.0)
        assert mine.id not in ids


@pytest.mark.parametrize(
    ("is_shared", "taken", "shown"),
    [
        *[(False, name, name) for name in ("_step", "_runtime", "_timestamp", "_wandb", "trial/step", "")],
        (True, "step", "trial/step"),
    ],
)
def test_a_taken_name_of_a_metric(
    server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_shared: bool,
    taken: str,
    shown: str,
) -> None:
    """What W&B would drop, or mix with its own, is left to the journal, and told once in all trials."""
    monkeypatch.setattr(wandb_run, "_told", set())
    recorder = WandbRecorder("digits", lean=True)
    for number in range(2):
        if is_shared:
            wandb.init(project="users", settings=wandb.Settings(x_disable_stats=True))
        session = begin(recorder, number)
        for step in (1, 2):
            session.report(step, {"val_acc": 0.5, taken: 7.0 * step})
        session.end()

    assert recorder._here.line.writer.drain(60)
    for run in server.runs.values():
        assert run.steps == [1, 2]
        assert run.column("trial/val_acc" if is_shared else "val_acc") == [0.5, 0.5]
        assert run.exit_code == 0
        assert not {7, 14} & {value for line in run.lines.values() for value in line.values()}
    (text,) = [record.getMessage() for record in caplog.records if record.name == "tunehook"]
    assert text == (
        f"W&B does not record the metric {taken!r}: the name {shown!r} is taken in its runs. "
        "The journal keeps it; rename it for W&B."
    )


def test_the_stop_button_prunes_the_trial(server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped on its web page ends in good order, and its values are not asked again."""
    # The SDK asks its service, and that one the server, every 15 s.
    defaults = run_stopping.RunStopChecker.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "poll_interval", 0.1)
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "0.1")
    wandb.teardown()  # its settings are those of the environment
    recorder = WandbRecorder("digits", lean=True)
    session = begin(recorder)
    step = 0
    deadline = time.monotonic() + 60
    while not session.decision.stop:
        assert time.monotonic() < deadline
        for run in server.runs.values():
            run.is_stopped = True
        step += 1
        session.report(step, {"val_acc": 0.5})
        time.sleep(0.1)
    session.end()
    outcome = session.outcome
    assert outcome is not None

    assert (outcome.state, outcome.reason) == ("pruned", "stopped by hand on the W&B page of its run")
    assert recorder._here.line.writer.drain(60)
    (run,) = server.runs.values()
    assert run.column("trial/step") == list(range(1, step + 1))
    assert (run.exit_code, run.summary["outcome"]) == (0, "pruned")


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """After many offline trials there is not a thread, open file or process more than after the first ones."""
    psutil = pytest.importorskip("psutil")

    def held() -> tuple[int, int, int]:
        process = psutil.Process()
        return threading.active_count(), process.num_fds(), len(process.children(recursive=True))

    recorder = WandbRecorder("digits", mode="offline", lean=True, dir=tmp_path)
    before = (0, 0, 0)
    for number in range(60):
        session = begin(recorder, number)
        session.report(1, {"val_acc": 0.5})
        session.end()
        if number == 9:
            before = held()
    assert all(now <= then for now, then in zip(held(), before, strict=True))
    assert len(read_runs(tmp_path)) == 60


@pytest.mark.slow
def test_fast_steps_wait_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training makes no call of the SDK itself, however fast its steps; all rows are there at the end."""
    threads = set()
    log = wandb.Run.log

    def noted(run: Any, *given: Any, **named: Any) -> None:
        threads.add(threading.current_thread())
        log(run, *given, **named)

    monkeypatch.setattr(wandb.Run, "log", noted)
    recorder = WandbRecorder("digits", mode="offline", lean=True, dir=tmp_path)
    session = begin(recorder)
    for step in range(1, 1001):
        recorder.report(step, {"val_acc": 0.5})
    session.end()
    (run,) = read_runs(tmp_path)
    assert run.column("trial/step") == list(range(1, 1001))
    assert len(threads) == 1
    assert threading.current_thread() not in threads
