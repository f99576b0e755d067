"""The W&B recorder online: the real SDK, and a stand-in for its server on the loopback."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wandb_server import ENTITY, WandbServer, online, serving, wait_for
from wandb_trials import begin

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder  # noqa: E402


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

    wait_for(lambda: server.runs and next(iter(server.runs.values())).exit_code is not None)
    (run,) = server.runs.values()
    assert (run.project, run.display_name, run.group, run.job_type) == ("digits", "trial-0000", "digits", "trial")
    assert run.tags == ("ours",)
    assert (run.setting("lr"), run.setting("tunehook")["trial"]) == (0.1, 0)
    assert run.column("trial/step") == list(range(1, 21))
    assert run.column("val_acc") == [step / 20 for step in range(1, 21)]
    assert all(map(math.isnan, run.column("loss")))
    assert (run.summary["outcome"], run.summary["best/val_acc"], run.exit_code) == ("complete", 1, 0)
    assert recorder.where() == f"{server.url}/{ENTITY}/digits/runs/{run.name}"


@pytest.mark.slow
def test_the_stop_button_prunes_the_trial(server: WandbServer) -> None:
    """A run that is stopped on its web page ends in good order, and its values are not asked again."""
    session = begin(WandbRecorder("digits", lean=True))
    step = 0
    deadline = time.monotonic() + 60
    while not session.decision.stop:
        assert time.monotonic() < deadline
        for run in server.runs.values():
            run.is_stopped = True
        step += 1
        session.report(step, {"val_acc": 0.5})
        time.sleep(0.1)
    outcome = session.end()

    assert (outcome.state, outcome.reason) == ("pruned", "stopped by hand on the W&B page of its run")
    wait_for(lambda: next(iter(server.runs.values())).exit_code is not None)
    (run,) = server.runs.values()
    assert run.column("trial/step") == list(range(1, step + 1))
    assert (run.exit_code, run.summary["outcome"]) == (0, "pruned")
