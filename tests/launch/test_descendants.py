"""What a trial has started ends with it, and a process that cannot be started is waited for."""

from __future__ import annotations

import _thread
import contextlib
import errno
import importlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

import launch_scripts as scripts
from tunehook.launch.node import child, process, room
from tunehook.launch.node.room import Room
from tunehook.study import Study
from tunehook.system import is_alive
from tunehook.trial import Decision, StudyError
from waiting import PATIENCE, hear, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are found on Linux")

SCRIPT = Path(scripts.__file__)
STAY = [sys.executable, "-c", "import time; time.sleep(60)"]


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which trials write their own id, that of their parent, and those of what they have started."""
    monkeypatch.setenv("TEST_LEFT", str(tmp_path / "left"))
    return tmp_path / "left"


def written(left: Path) -> list[int]:
    """The processes that were named, but for the parents."""
    lines = [line.split() for line in left.read_text().splitlines()] if left.exists() else []
    return [int(pid) for me, _, *others in lines for pid in (me, *others)]


def remain(left: Path) -> list[int]:
    """Those that still run."""
    return [pid for pid in written(left) if is_alive(pid, since=time.time())]


ENDS = {"return": "complete", "raise": "failed", "exit": "failed", "killed": "interrupted"}


@pytest.mark.parametrize("kind", ["forked", "fresh"])
@pytest.mark.parametrize("how", ENDS)
def test_they_end_with_their_trial(
    how: str, kind: str, left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it ends, also those in a session of their own and those whose parent is gone."""
    monkeypatch.setenv("TEST_END", how)
    if kind == "fresh":
        monkeypatch.setattr("tunehook.launch.node.node.can_fork", lambda: False)
    study = scripts.study(tmp_path / "s", [0], max_failures=1)
    with pytest.raises(StudyError) if ENDS[how] == "failed" else contextlib.nullcontext():
        study.optimize(scripts.leave_others, workers=1, progress=False, retries=0)
    assert study.trials[0].outcome.state == ENDS[how]
    assert len(written(left)) >= 4
    assert remain(left) == []


@pytest.mark.parametrize("whom", ["node", "parent", "by Ctrl-C"])
def test_they_end_with_those_above_them(whom: str, left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process that asks is killed, the warm parent, or both are stopped in a hurry."""
    monkeypatch.setenv("TEST_END", "wait")
    monkeypatch.setenv("TMPDIR", str(left.parent))
    node = subprocess.Popen([sys.executable, str(SCRIPT), "leave_others", "2"], stderr=subprocess.PIPE)
    wait_for(lambda: len(written(left)) >= 8)
    if whom == "node":
        node.kill()
    elif whom == "parent":
        monkeypatch.setenv("TEST_END", "return")
        os.kill(int(left.read_text().split()[1]), signal.SIGKILL)
        first = written(left)
        wait_for(lambda: not any(is_alive(pid, since=time.time()) for pid in first))
        node.kill()
    else:
        node.send_signal(signal.SIGINT)
        hear(node, "Once more ends them at once.")
        node.send_signal(signal.SIGINT)
    node.communicate(timeout=PATIENCE)
    wait_for(lambda: remain(left) == [])
    assert [path for path in left.parent.iterdir() if path.name.startswith("tunehook")] == []


def test_trials_that_end_as_the_node_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once, of which nobody wants to hear any more: the warm parent waits for neither, and ends."""
    monkeypatch.setattr(child, "GRACE", 2 * PATIENCE)
    node, connection = multiprocessing.Pipe()
    stay, leave = os.pipe()
    if (parent := os.fork()) == 0:
        node.close()
        os.close(leave)
        if child._serve(Mock(**{"address.connect.return_value": connection}), "") is not None:
            os.read(stay, 1)  # until the test closes it
        os._exit(0)
    os.close(stay)
    connection.close()
    assert node.recv() == ("warm", "")
    for token in ("one", "two"):
        node.send(("fork", token, {}))
    trials = psutil.Process(parent).children
    wait_for(lambda: len(trials()) == 2)
    os.kill(parent, signal.SIGSTOP)
    os.close(leave)
    wait_for(lambda: all(trial.status() == psutil.STATUS_ZOMBIE for trial in trials()))
    node.close()
    os.kill(parent, signal.SIGCONT)
    wait_for(lambda: os.waitpid(parent, os.WNOHANG)[0] == parent)


def test_a_process_that_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """As one that waits for a disk for ever: it is named, and the study ends without it."""
    monkeypatch.setattr(process, "_signal", Mock())
    monkeypatch.setattr(process, "_LAST", 0.2)
    for name in ("GRACE", "PATIENCE"):
        monkeypatch.setattr(process, name, -0.9)
    stays = subprocess.Popen(STAY)
    process._end(stays)
    assert caplog.messages == [f"Process {stays.pid} does not end, although it was killed; it is left behind."]
    stays.kill()
    stays.wait()


def test_a_trial_that_does_not_end_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it was killed at the second Ctrl-C: it is interrupted, and the study ends."""
    monkeypatch.setattr(process.Warm, "signal", Mock())
    monkeypatch.setattr("tunehook.launch.node.node.GRACE", 0.5)
    study, report = scripts.study(tmp_path / "s", [0]), Study.report

    def interrupt(*arguments: Any) -> Decision:
        if len(sent) < 2:
            sent.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return report(*arguments)

    sent: list[signal.Signals] = []
    monkeypatch.setattr(Study, "report", interrupt)
    with pytest.raises(KeyboardInterrupt):
        study.optimize(scripts.slow, workers=1, progress=False)
    assert study.trials[0].outcome.state == "interrupted"
    assert re.fullmatch(r"Process \d+ does not end, although it was killed; it is left behind\.", caplog.messages[-1])


# ------------------------------------------------------------------ no room for a process

FLAKY = """
import errno, os
from launch_scripts import steps
tries, fork = [], os.fork
def refuse():
    tries.append(None)
    if len(tries) <= {many}:
        raise OSError(errno.{code}, os.strerror(errno.{code}))
    return fork()
os.fork = refuse
def train(): steps(1)
"""


@pytest.mark.parametrize("code", ["EAGAIN", "ENOMEM"])
def test_a_fork_without_room_is_waited_for(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And told; the study then has the trials that it was to have."""
    train = _flaky(code, 3, tmp_path, monkeypatch)
    study = scripts.study(tmp_path / "s", [0, 1])
    study.optimize(train, workers=2, progress=False)
    assert [trial.outcome.state for trial in study.trials] == ["complete"] * 2
    said = os.strerror(getattr(errno, code))
    assert f"No process can be started ({said}); waiting up to 120 s." in caplog.messages


def test_a_fork_without_room_ends_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none comes: with an error that says why and what to do, and the trial is asked again."""
    monkeypatch.setattr(room, "PATIENCE", 0.0)
    study = scripts.study(tmp_path / "s", [0])
    with pytest.raises(StudyError, match="a trial: Resource temporarily unavailable"):
        study.optimize(_flaky("EAGAIN", 1000, tmp_path, monkeypatch), workers=1, progress=False)
    assert study.trials[0].outcome.state == "interrupted"
    assert study.lead.has_waiting


def test_no_room_for_a_thread_ends_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked for."""
    monkeypatch.setattr(_thread, "start_new_thread", Mock(side_effect=RuntimeError("can't start new thread")))
    study = scripts.study(tmp_path / "s", [0])
    with pytest.raises(StudyError, match=r"a trial: can't start new thread\.\n  Take fewer workers, or "):
        study.optimize(scripts.brief, workers=1, progress=False)
    assert study.trials == []


def test_a_trial_that_waits_for_room_ends_with_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At Ctrl-C it is interrupted, and no process is started for it afterwards."""

    def interrupt(text: str, *_: object) -> None:
        if text.startswith("No process can be started"):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(room.log, "warning", interrupt)
    study = scripts.study(tmp_path / "s", [0])
    with pytest.raises(KeyboardInterrupt):
        study.optimize(_flaky("EAGAIN", 2, tmp_path, monkeypatch), workers=1, progress=False)
    (trial,) = study.trials
    assert (trial.outcome.state, trial.outcome.reason) == (
        "interrupted",
        "the study was stopped before its process could be started",
    )
    assert study.lead.has_waiting


@pytest.mark.parametrize("code", ["EAGAIN", "EMFILE"])
def test_a_fresh_process_without_room(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for as a forked one is; where the first cannot be started, the study says so at once."""
    error = getattr(errno, code)
    real, tries = subprocess.Popen, []

    def flaky(*args: Any, **options: Any) -> Any:
        tries.append(args)
        if len(tries) <= many:
            raise OSError(error, os.strerror(error))
        return real(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", flaky)
    many = 1
    study = scripts.study(tmp_path / "s", [0])
    with pytest.raises(StudyError, match=f"a trial: {os.strerror(error)}"):
        study.optimize(scripts.steps, workers=1, progress=False)
    monkeypatch.setattr("tunehook.launch.node.node.can_fork", lambda: False)
    many = 3
    study.optimize(scripts.steps, workers=1, progress=False)
    assert [trial.outcome.state for trial in study.trials] == ["complete"]


@pytest.mark.parametrize("code", ["E2BIG", "ENOENT"])
def test_a_fresh_process_that_cannot_be_started(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For another reason than room: the study ends with what the system says, and the trial is asked again."""
    monkeypatch.setattr("tunehook.launch.node.node.can_fork", lambda: False)
    if code == "E2BIG":
        monkeypatch.setenv("TEST_LONG", "x" * 2**20)
    else:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    study = scripts.study(tmp_path / "s", [0])
    with pytest.raises(StudyError) as raised:
        study.optimize(scripts.steps, workers=1, progress=False)
    error = OSError(getattr(errno, code), os.strerror(getattr(errno, code)), sys.executable)
    assert str(raised.value) == (
        f"No process can be started for a trial: {error}.\n  See that {sys.executable} can be started with the "
        "environment variables of this process."
    )
    assert study.trials[0].outcome.state == "interrupted"
    assert study.lead.has_waiting


def test_how_long_room_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Two minutes for a trial, tried each second; a process that would be there before its trial is given up."""
    now, no_memory = 0.0, OSError(errno.ENOMEM, "no memory")
    room = Room(clock=lambda: now)
    room.refuse("spare", no_memory, is_needed=False)
    assert (room.is_tight, room.due(), caplog.messages) == (True, [], [])
    now = 100.0
    room.refuse("one", no_memory, is_needed=True)
    assert caplog.messages == ["No process can be started (no memory); waiting up to 120 s."]
    now = 101.0
    assert (room.is_tight, room.due(), room.due()) == (False, ["one"], [])
    now = 219.0
    room.refuse("one", no_memory, is_needed=True)
    room.found()
    now = 221.0
    room.refuse("two", no_memory, is_needed=True)
    now = 342.0
    with pytest.raises(StudyError, match="No process can be started for a trial, after 121 s: no memory"):
        room.refuse("two", no_memory, is_needed=True)


def _flaky(code: str, many: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A training whose module lets so many forks fail."""
    name = f"flaky_{code}_{many}".lower()
    (folder / f"{name}.py").write_text(FLAKY.format(code=code, many=many))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(os, "fork", os.fork)  # so that it is put back
    train: Callable[[], None] = importlib.import_module(name).train
    return train
