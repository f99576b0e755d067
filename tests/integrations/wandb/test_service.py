"""The service of W&B's SDK: shared by the recorders of a process, inherited by its children, gone."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from run_file import read_finished, read_runs
from tunehook.record.journal import Journal
from wandb_server import online, serving
from wandb_trials import begin, make_session
from warm import warm_python

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder  # noqa: E402
from tunehook.integrations.wandb import own as wandb_own  # noqa: E402
from tunehook.integrations.wandb.service import service_process  # noqa: E402

pytestmark = pytest.mark.usefixtures("offline")


def kill_the_service() -> None:
    """Kill it, and wait for its end."""
    service = service_process()
    assert service is not None
    service.kill()
    service.wait()


@pytest.mark.slow
def test_one_recorder_falls_back_while_another_has_a_run(tmp_path: Path) -> None:
    """A run that cannot begin online ends no service below the run of another study."""
    with serving() as server, online(server, tmp_path):
        first = WandbRecorder("first", lean=True)
        session = begin(first, 0)
        session.report(1, {"val_acc": 0.25})
        assert first._here.line.writer.drain(60)
        service = service_process()
        server.fail("hanging")
        second = WandbRecorder("second", lean=True, init_timeout=1, finish_timeout=1)
        other = begin(second, 1)
        other.report(1, {"val_acc": 0.5})
        other.end()
        assert second._here.line.writer.drain(60)
        assert service_process() is service
        server.recover()
        session.report(2, {"val_acc": 0.75})
        session.end()
        assert first._here.line.writer.drain(60)

    runs = {run.project: run for run in server.runs.values()}
    assert (runs["first"].column("trial/step"), runs["first"].exit_code) == ([1, 2], 0)


def test_two_recorders_restart_a_killed_service_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two studies whose service is killed go on in one new service, with all rows, and no one is told."""
    recorders = [WandbRecorder(name, mode="offline", lean=True, dir=tmp_path) for name in ("first", "second")]
    sessions = [begin(recorder, number) for number, recorder in enumerate(recorders)]
    for step in (1, 2, 3):
        if step == 2:
            kill_the_service()
        together([functools.partial(session.report, step, {"val_acc": step}) for session in sessions])
    together([session.end for session in sessions])

    assert [record.message for record in caplog.records if record.name == "tunehook"] == []
    folders = [path for path in tmp_path.rglob("*.wandb") if not path.with_suffix(".wandb.synced").exists()]
    runs = {run.project: run for run in map(read_finished, folders)}
    assert len(folders) == 2
    assert {name: run.column("trial/step") for name, run in runs.items()} == {"first": [1, 2, 3], "second": [1, 2, 3]}
    assert len([child for child in psutil.Process().children() if child.name() == "wandb-core"]) == 1


def together(calls: list[Callable[[], object]]) -> None:
    """Call all at once, each in a thread of its own."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_study_ends_while_another_is_in_a_trial(tmp_path: Path) -> None:
    """The end of a study leaves the service to the other one."""
    first, second = (WandbRecorder(name, mode="offline", lean=True, dir=tmp_path) for name in ("first", "second"))
    session, other = begin(first, 0), begin(second, 1)
    other.report(1, {"val_acc": 0.5})
    other.end()
    second._close_at_exit()
    session.report(1, {"val_acc": 0.5})
    session.end()

    runs = {run.project: run for run in read_runs(tmp_path)}
    assert [(run.column("trial/step"), run.exit_code) for run in runs.values()] == [([1], 0)] * 2


CHILD = """
import logging, sys
from wandb_trials import begin, make_session
from tunehook.integrations.wandb import WandbRecorder
logging.basicConfig(format="%(message)s")
recorder = WandbRecorder("digits", mode="offline", lean=True)
for number in range(2):
    session = begin(recorder, number)
    session.report(1, {"val_acc": 0.5})
    session.end()
print("done")
"""


def test_an_inherited_service_that_has_died(tmp_path: Path) -> None:
    """A child whose parent's service is gone starts one of its own, and says so once."""
    wandb.setup(wandb.Settings(mode="offline"))
    kill_the_service()
    assert os.environ["WANDB_SERVICE"]
    done = warm_python().start(["-c", CHILD], cwd=tmp_path, env=os.environ)

    assert done.communicate() == (
        "done\n",
        "The W&B service that this process was given has ended: it starts one of its own.\n",
    )
    assert [(run.column("trial/step"), run.exit_code) for run in read_runs(tmp_path)] == [([1], 0)] * 2


UPLOAD = """
import logging
from pathlib import Path
from tunehook.integrations.wandb import sync as wandb_sync
logging.basicConfig(format="%(message)s")
wandb_sync.SETTLED = 0  # the process that recorded the trial lives
wandb_sync.sync(Path("studies"), lambda synced: print(synced.state))
"""


def test_an_upload_with_an_inherited_service_that_has_died(tmp_path: Path) -> None:
    """`tunehook sync` starts a service of its own as well."""
    session = make_session(WandbRecorder("digits", mode="offline", lean=True))
    Journal(session.trial.folder).begin(session.trial)
    session.ready()
    session.report(1, {"val_acc": 0.5})
    session.end()
    kill_the_service()
    with serving() as server:
        environment = {**os.environ, **server.environment}
        assert environment["WANDB_SERVICE"]
        done = warm_python().start(["-c", UPLOAD], cwd=tmp_path, env=environment)

        assert done.communicate() == (
            "uploaded\n",
            "The W&B service that this process was given has ended: it starts one of its own.\n",
        )
        (run,) = server.runs.values()
        assert run.column("trial/step") == [1]


def test_more_rows_than_can_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While W&B hangs no more rows are kept than may wait; the journal has the others, and all are in the run."""
    monkeypatch.setattr(wandb_own, "ROWS", 50)
    recorder = WandbRecorder("digits", mode="offline", lean=True, dir=tmp_path)
    session = begin(recorder)
    service = service_process()
    assert service is not None
    service.send_signal(signal.SIGSTOP)
    try:
        for step in range(1, 501):
            session.report(step, {"val_acc": step})
        waiting = len(recorder._here.line.writer)
        live = recorder._here.live
        assert isinstance(live, wandb_own.OwnRun)
        assert live._is_full
    finally:
        service.send_signal(signal.SIGCONT)
    session.end()

    assert waiting <= 50
    (run,) = read_runs(tmp_path)
    assert run.column("trial/step") == list(range(1, 501))
    assert run.exit_code == 0
