"""Trials in processes of their own: forked and fresh, killed, hanging, crashed, interrupted; and the channel."""

from __future__ import annotations

import _thread
import contextlib
import errno
import importlib
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import launch_scripts as scripts
import tunehook as th
import tunehook.launch.leader
import tunehook.launch.node.channel
import tunehook.launch.node.node
from tunehook.launch.node import child
from tunehook.launch.node.channel import Gate
from tunehook.launch.node.function import Function
from tunehook.launch.node.gpus import Gpus, devices, limit_memory
from tunehook.record.journal import read_journal
from tunehook.session.in_progress import active
from tunehook.system import is_alive
from tunehook.trial.errors import StudyError
from waiting import PATIENCE, hear, wait_for

SCRIPT = Path(scripts.__file__)


def states(study: th.Study) -> list[str]:
    """How the trials ended."""
    return [trial.outcome.state for trial in study.trials]


def events(study: th.Study, number: int) -> list[str]:
    """What the journal of a trial holds."""
    return [event["event"] for event in read_journal(study.paths.journal(number))]


def output(study: th.Study, number: int) -> str:
    """What a trial printed."""
    return study.paths.output(number).read_text()


def run(study: th.Study, train: Callable[[], object], **options: Any) -> th.Study:
    """Optimize without a table, two trials side by side unless told otherwise."""
    study.optimize(train, **{"workers": 2, "progress": False, **options})
    return study


def start(name: str, many: int) -> subprocess.Popen[str]:
    """A script that tunes, as a process of its own."""
    return subprocess.Popen([sys.executable, str(SCRIPT), name, str(many)], stderr=subprocess.PIPE, text=True)


def reports() -> int:
    """How many reports the journals of the study in this folder hold."""
    return sum(path.read_text().count('"report"') for path in Path("study").glob("*/journal.jsonl"))


def alive(folder: Path) -> list[int]:
    """The trial processes that the journals name and that still run."""
    named = [
        event for path in folder.glob("*/journal.jsonl") for event in read_journal(path) if event["event"] == "process"
    ]
    return [event["pid"] for event in named if is_alive(event["pid"], since=event["time"])]


# ---------------------------------------------------------------------- a process for each trial


def test_each_trial_has_a_process_of_its_own(tmp_path: Path) -> None:
    """Forked from one parent that is not this process; what they print lies with the trial."""
    study = run(scripts.study(tmp_path / "s"), scripts.say_pid)
    lines = [output(study, number).split() for number in range(4)]
    pids, parents = {line[1] for line in lines}, {line[3] for line in lines}
    assert len(pids) == 4
    assert len(parents) == 1
    assert str(os.getpid()) not in pids | parents
    assert study.counts() == {"complete": 4}
    assert study.best.value == 0
    assert events(study, 0) == ["begin", "process", "config", "report", "end"]
    assert not alive(study.paths.folder)


def test_a_training_that_reads_its_values_and_returns_its_own(tmp_path: Path) -> None:
    """It needs no callback to be one of the study."""
    study = run(scripts.study(tmp_path / "s"), scripts.read)
    assert [one.value for one in study.trials] == [10.0 * one.params["x"] + one.number for one in study.trials]
    assert study.counts() == {"complete": 4}


def test_values_and_decisions_are_those_of_one_process(tmp_path: Path) -> None:
    """The same seed gives the same values, side by side or not."""
    one, two = (
        th.Study("s", {"x": th.Float(0, 1)}, metric="v", mode="min", search="random", seed=3, folder=tmp_path / name)
        for name in ("one", "two")
    )
    one.optimize(scripts.steps, trials=5, progress=False)
    run(two, scripts.steps, trials=5)
    assert [trial.params for trial in one.trials] == [trial.params for trial in two.trials]
    assert [trial.value for trial in one.trials] == [trial.value for trial in two.trials]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_is_there_before_its_trial(tmp_path: Path) -> None:
    """The next trial begins in one that was forked while the last one trained; none is left in the end."""
    study = run(scripts.study(tmp_path / "s", [0, 1, 2]), scripts.say_birth, workers=1)
    born = [float(output(study, number)) for number in range(3)]
    journals = [list(read_journal(study.paths.journal(number))) for number in range(3)]
    ended = [next(event["time"] for event in journal if event["event"] == "end") for journal in journals]
    assert born[1] < ended[0]
    assert born[2] < ended[1]
    assert study.counts() == {"complete": 3}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_waiting_process_that_is_killed_harms_no_trial(tmp_path: Path) -> None:
    """The next trial begins in another one."""
    study = run(scripts.study(tmp_path / "s", [0, 1, 2]), scripts.kill_siblings, workers=1)
    assert "killed" in output(study, 0)
    assert "killed" in output(study, 1)
    assert study.counts() == {"complete": 3}


def test_a_stop_is_sent_to_the_trial(tmp_path: Path) -> None:
    """The study's rule decides here, and the training there hears of it."""
    from optuna.pruners import ThresholdPruner

    def train() -> None:
        session = scripts.training()
        while not session.report(session.step + 1, {"v": float(session.step + 1)}).stop:
            pass
        print("stopped at", session.step)

    study = scripts.study(tmp_path / "s", [0], stopper=ThresholdPruner(upper=3))
    run(study, train)
    assert states(study) == ["pruned"]
    assert output(study, 0) == "stopped at 4\n"


def test_closures_and_studies_in_memory(tmp_path: Path) -> None:
    """A function that no module holds goes by value; the study stays here, wherever it is kept."""
    from optuna.storages import InMemoryStorage

    told = "told by the closure"

    def train() -> None:
        scripts.steps(1)
        print(told)

    study = run(scripts.study(tmp_path / "s", [0, 1], storage=InMemoryStorage()), train)
    assert states(study) == ["complete"] * 2
    assert output(study, 1) == told + "\n"


THREADS = """
import threading, time
threading.Thread(target=time.sleep, args=(20,), name="watcher", daemon=True).start()
"""
# What torch says where the driver of a GPU was in use before a fork.
GPU = """
import os, sys, types
cuda = types.SimpleNamespace(_is_in_bad_fork=lambda first=os.getpid(): os.getpid() != first)
sys.modules["torch"] = types.SimpleNamespace(cuda=cuda)
"""


@pytest.mark.parametrize(("code", "why"), [(THREADS, "starts threads (watcher)"), (GPU, "uses the GPU")])
def test_fresh_processes_where_a_fork_is_not_safe(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A module that starts a thread or uses the GPU when it is imported is told, and its trials run all the same."""
    name = f"unsafe_training_{len(code)}"
    (tmp_path / f"{name}.py").write_text(code + "from launch_scripts import say_pid\ndef train(): say_pid()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with monkeypatch.context() as here:
        here.setitem(sys.modules, "torch", None)  # so that it is put back
        train = importlib.import_module(name).train
    with caplog.at_level("INFO", logger="tunehook"):
        study = run(scripts.study(tmp_path / "s", [0, 1]), train)
    assert why in caplog.text
    assert states(study) == ["complete"] * 2
    lines = [output(study, number).split() for number in range(2)]
    assert len({line[3] for line in lines}) == 2  # a forked one is the child of the warm parent


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_driver_of_a_gpu_that_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever framework uses it: a fork would lose it."""
    driver = tmp_path / "driver"
    monkeypatch.setattr(child, "_DRIVER", str(driver))
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    assert child.why_not_fork(1000) == ""
    with contextlib.ExitStack() as gap:
        gap.enter_context((tmp_path / "other").open("w"))
        opened = driver.open("w")
    with opened:
        assert child.why_not_fork(1000) == "importing the training function uses the GPU"
    assert child.why_not_fork(1000) == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")
def test_a_trial_tidies_up_what_is_its_own(tmp_path: Path) -> None:
    """What the module registers for the end of the process is done by the parent, once; what a trial does, by it."""
    (tmp_path / "tidy_training.py").write_text(
        "import weakref\nfrom pathlib import Path\nfrom launch_scripts import steps\nclass Thing: pass\n"
        f"def note(what): Path({str(tmp_path / 'ends')!r}).open('a').write(what + '\\n')\n"
        "ours, theirs = Thing(), Thing()\nend = weakref.finalize(theirs, note, 'module')\n"
        "def train(): steps(1); weakref.finalize(ours, note, 'trial')\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        module = importlib.import_module("tidy_training")
        module.end.detach()  # of this process, which only hands the function over
        run(scripts.study(tmp_path / "s", [0, 1, 2]), module.train)
    finally:
        sys.path.remove(str(tmp_path))
    assert sorted((tmp_path / "ends").read_text().split()) == ["module", "trial", "trial", "trial"]


def test_a_system_without_fork(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fresh processes, and it says why."""
    monkeypatch.delattr(os, "fork")
    with caplog.at_level("INFO", logger="tunehook"):
        study = run(scripts.study(tmp_path / "s", [0, 1]), scripts.say_pid)
    assert "this system cannot fork" in caplog.text
    assert states(study) == ["complete"] * 2


def test_a_notebook(tmp_path: Path) -> None:
    """Functions that are typed in, in a process without a file, go by value."""
    code = (
        "import sys, tunehook as th\nimport launch_scripts as scripts\nfrom pathlib import Path\n"
        "def train():\n    scripts.steps(1)\n    print('typed in')\n"
        "study = scripts.study(Path('s'), [0, 1])\nstudy.optimize(train, workers=2, progress=False)\n"
        "print(study.counts(), study.paths.output(0).read_text())\n"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SCRIPT.parent), *sys.path])}
    done = subprocess.run([sys.executable], input=code, capture_output=True, text=True, timeout=PATIENCE, env=path)
    assert done.stdout == "{'complete': 2} typed in\n\n", done.stderr


def test_a_missing_guard_is_an_error(tmp_path: Path) -> None:
    """Not a fork bomb: the script is told what it lacks, before a trial begins."""
    script = tmp_path / "script.py"
    script.write_text(
        "import tunehook as th\ndef train(): pass\n"
        "study = th.Study('s', {'x': th.Float(0, 1)}, metric='v', mode='min', search='random')\n"
        "study.optimize(train, trials=2, workers=2, progress=False)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "Put the part that starts the study under `if __name__ == '__main__':`" in done.stderr
    assert not list((tmp_path / "tunehook-studies").glob("*/trial-*"))


def test_a_leak_stays_in_its_process(tmp_path: Path) -> None:
    """Neither this process nor the warm parent grows: thirty trials that leave 50 MB each."""
    study = scripts.study(tmp_path / "s", range(30))
    before = _resident()
    run(study, scripts.leak)
    assert study.counts() == {"complete": 30}
    assert _resident() - before < 100 * 2**20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---------------------------------------------------------------------- faults


def test_a_killed_trial_is_asked_again(tmp_path: Path) -> None:
    """It is told as interrupted, with its last value, and its values train to their end."""
    study = run(scripts.study(tmp_path / "s"), scripts.kill_at_first)
    assert study.counts() == {"interrupted": 4, "complete": 4}
    lost = next(trial for trial in study.trials if trial.outcome.state == "interrupted")
    assert "was killed (SIGKILL)" in lost.outcome.reason
    assert lost.outcome.step == 1
    done = [trial.params["x"] for trial in study.trials if trial.outcome.state == "complete"]
    assert sorted(done) == [0, 1, 2, 3]


@pytest.mark.parametrize(("train", "said"), [(scripts.crash, r"crashed \(SIGSEGV\)"), (scripts.leave, "exit code 3")])
def test_a_crash_is_a_failure(tmp_path: Path, train: Callable[[], None], said: str) -> None:
    """Three in a row stop the study."""
    study = scripts.study(tmp_path / "s")
    with pytest.raises(StudyError, match=rf"3 trials in a row failed(.|\n)*{said}"):
        run(study, train, workers=1)
    assert states(study) == ["failed"] * 3
    if train is scripts.crash:
        assert output(study, 0) == "before the crash\n"


def test_an_end_that_is_heard_where_the_study_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the middle of what a process that is gone had said does not lose its exit, nor those behind it."""
    drain = tunehook.launch.node.node.Node._drain
    failed: list[int] = []

    def fail_once(self: Any, one: Any) -> None:
        if not failed:
            failed.append(one.session.trial.number)
            raise StudyError("planted")
        drain(self, one)

    monkeypatch.setattr(tunehook.launch.node.node.Node, "_drain", fail_once)
    study = scripts.study(tmp_path / "s")
    with pytest.raises(StudyError, match="planted"):
        run(study, scripts.kill_at_first)
    assert set(study.counts()) == {"interrupted"}
    assert "was killed (SIGKILL)" in study.trials[failed[0]].outcome.reason


def test_an_exit_for_sigterm_is_no_failure(tmp_path: Path) -> None:
    """Where it comes before the training begins, or after its end was told, nobody but the exit code tells of it."""
    study = run(scripts.study(tmp_path / "s", [0, 1]), scripts.be_terminated, workers=1, retries=0)
    assert [trial.outcome.state for trial in study.trials] == ["interrupted"] * 2
    assert all(trial.outcome.reason.endswith("was killed (SIGTERM)") for trial in study.trials)


def test_a_crash_where_ends_of_children_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a parent may pass on: the system forgets exit codes then, and a crash was told as an early end."""
    monkeypatch.delattr(os, "fork")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(StudyError, match="exit code 3"):
            run(scripts.study(tmp_path / "s"), scripts.leave, workers=2)
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.slow
def test_who_waits_for_the_storage_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that answers late, and then does not for a while, costs no trial that is judged its life."""
    from optuna.pruners import ThresholdPruner
    from optuna.storages import InMemoryStorage

    class Late(InMemoryStorage):
        began = 0.0

        def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
            if not self.began:
                self.began = time.monotonic()
                time.sleep(2.0)
            if time.monotonic() - self.began < 3.0:
                raise ConnectionResetError("reset by peer")
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    monkeypatch.setattr(tunehook.launch.leader, "_DEAF", 1.0)
    study = scripts.study(tmp_path / "s", [0, 1], storage=Late(), stopper=ThresholdPruner(upper=9))
    run(study, scripts.gentle, report_timeout=1.5)
    assert states(study) == ["complete"] * 2
    assert [len(frozen.intermediate_values) for frozen in study.optuna.trials[:2]] == [10, 10]


# ---------------------------------------------------------------------- the node process


def test_ctrl_c_once_ends_in_good_order(tmp_path: Path) -> None:
    """Running trials end as interrupted; a second start finishes the study with exact counts."""
    process = start("slow", 4)
    wait_for(lambda: reports() > 4)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode not in (0, None)
    assert "KeyboardInterrupt" in error
    assert "the running ones end in good order" in error
    study = scripts.study(Path("study"))
    assert states(study)[:2] == ["interrupted"] * 2
    assert {trial.outcome.reason for trial in study.trials if trial.outcome.state == "interrupted"} == {"SIGTERM"}
    run(study, scripts.steps)
    assert study.counts() == {"interrupted": 2, "complete": 4}
    assert not alive(Path("study"))


def test_a_trial_that_has_not_heard_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python has ignored what the signal raised, the trial reports on; a while later it is asked once more."""
    monkeypatch.setattr(tunehook.launch.leader, "GRACE", 0.3)
    study = scripts.study(Path("study"), [0])

    def press() -> None:
        wait_for(lambda: reports() > 0)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        study.optimize(scripts.deaf_at_first, workers=1, progress=False)
    presser.join()
    signal.signal(signal.SIGINT, before)
    (trial,) = study.trials
    assert (trial.outcome.state, trial.outcome.reason) == ("interrupted", "SIGTERM")
    assert len([event for event in read_journal(study.paths.journal(0)) if event["event"] == "report"]) < 300


def test_ctrl_c_twice_ends_now(tmp_path: Path) -> None:
    """Nothing runs on, and the trials are told."""
    process = start("stubborn", 2)
    wait_for(lambda: reports() > 1)
    process.send_signal(signal.SIGINT)
    hear(process, "Once more ends them at once.")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert states(scripts.study(Path("study"), [0, 1]))[:2] == ["interrupted"] * 2
    assert not alive(Path("study"))


def test_a_killed_node_takes_its_trials_with_it(tmp_path: Path) -> None:
    """Nothing trains for nobody; the next start tells the lost trials and finishes."""
    process = start("slow", 3)
    wait_for(lambda: reports() > 4)
    process.kill()
    process.communicate(timeout=PATIENCE)
    wait_for(lambda: not alive(Path("study")))
    study = run(scripts.study(Path("study"), range(3)), scripts.steps)
    assert study.counts() == {"interrupted": 2, "complete": 3}


@pytest.mark.slow
def test_two_nodes_share_a_study() -> None:
    """One of them is killed with its trials; the other one waits for what it had, and finishes it."""
    many = 12
    first, second = start("brief", many), start("brief", many)
    wait_for(lambda: reports() > 8)
    first.kill()
    _, error = second.communicate(timeout=PATIENCE)
    first.communicate(timeout=PATIENCE)
    assert second.returncode == 0, error
    study = scripts.study(Path("study"), range(many))
    done = [trial.params["x"] for trial in study.trials if trial.outcome.state == "complete"]
    assert sorted(done) == list(range(many))
    assert "running" not in study.counts()


# ---------------------------------------------------------------------- the channel


def test_the_channel_refuses_strangers() -> None:
    """Another key, garbage and silence get nowhere, and keep nobody else out."""
    gate = Gate()
    try:
        assert isinstance(gate.address.place, str)
        with pytest.raises(AuthenticationError):
            Client(gate.address.place, authkey=b"guess")
        silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for client in silent:
            client.connect(gate.address.place)
        for garbage in (b"\x00", b"\xff" * 4096, b"\x7f\xff\xff\xff", os.urandom(512)):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(gate.address.place)
                client.sendall(garbage)
        mine = gate.address.connect()
        mine.send("hello")
        wait_for(lambda: not gate.entered.empty())
        (theirs,) = gate.take()
        assert theirs.recv() == "hello"
        for client in silent:
            client.close()
        assert repr(gate.address.key)[2:-1] not in repr(gate.address)
    finally:
        gate.close()


def test_a_gate_where_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the key is let in all the same, after those that say nothing; and may then be silent for long."""
    monkeypatch.setattr(tunehook.launch.node.channel, "PATIENCE", 0.2)
    gate = Gate()
    try:
        with monkeypatch.context() as other, socket.socket(socket.AF_UNIX) as silent:
            other.setattr(_thread, "start_new_thread", Mock(side_effect=RuntimeError("can't start new thread")))
            silent.connect(gate.address.place)
            mine = gate.address.connect()
            wait_for(lambda: not gate.entered.empty())
        (theirs,) = gate.take()
        threading.Timer(0.5, mine.send, ["hello"]).start()
        assert theirs.recv() == "hello"
    finally:
        gate.close()


def test_a_gate_where_a_thread_has_no_memory_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs up on whom the thread was for, and lets the next one in."""
    gate = Gate()
    try:
        with monkeypatch.context() as other:
            other.setattr(_thread, "start_new_thread", lambda *_: None)
            with pytest.raises((EOFError, ConnectionError)):
                gate.address.connect()
        gate.address.connect()
        wait_for(lambda: not gate.entered.empty())
    finally:
        gate.close()


def test_a_gate_without_a_file_to_open_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets in who waits once there is one, and takes no core meanwhile."""
    gate = Gate()
    listener = gate._listener
    accept, tries = listener.accept, Mock(side_effect=OSError(errno.EMFILE, "Too many open files"))
    try:
        monkeypatch.setattr(listener, "accept", tries)
        threading.Thread(target=gate.address.connect, daemon=True).start()  # wakes the call that waits already
        time.sleep(0.5)
        assert 0 < tries.call_count < 100
        monkeypatch.setattr(listener, "accept", accept)
        gate.address.connect()
        wait_for(lambda: gate.entered.qsize() == 2)
    finally:
        gate.close()


def test_a_default_timeout_of_sockets_is_for_others() -> None:
    """Such as the training's downloads: the connections of trial processes wait."""
    socket.setdefaulttimeout(5.0)
    gate = Gate()
    try:
        gate.address.connect().send("hello")
        wait_for(lambda: not gate.entered.empty())
        (theirs,) = gate.take()
        assert os.get_blocking(theirs.fileno())
    finally:
        socket.setdefaulttimeout(None)
        gate.close()


def test_a_place_to_listen_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On Linux it is no file. Elsewhere it is in a folder for this user alone, or a port where its path is too long."""
    short, long = tmp_path.parent / "s", tmp_path / ("d" * 120)
    for folder, system in ((short, "linux"), (long, "linux"), (short, "darwin"), (long, "darwin")):
        folder.mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with monkeypatch.context() as other:
            other.setattr(sys, "platform", system)
            gate = Gate()
            place = gate.address.place
            kinds = {(short, "darwin"): "path", (long, "darwin"): "port"}
            kind = "port" if isinstance(place, tuple) else "path" if place.startswith("/") else "name"
            assert kind == kinds.get((folder, system), "name")
            if kind == "path":
                assert stat.S_IMODE(Path(str(place)).parent.stat().st_mode) == 0o700
            gate.address.connect().close()
            gate.close()
        assert [*folder.iterdir()] == []


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can be another user")
def test_another_user_is_a_stranger() -> None:
    """Whatever key it has."""
    gate = Gate()
    try:
        pid = os.fork()
        if pid == 0:
            os.setuid(65534)
            try:
                gate.address.connect()
            except (EOFError, OSError):
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert gate.take() == []
    finally:
        gate.close()


def test_a_study_with_strangers_at_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred that say nothing, garbage, and wrong keys all the time: its trials come in and end as ever."""
    monkeypatch.setattr(tunehook.launch.node.channel, "PATIENCE", 1.0)
    silent: list[socket.socket] = []
    refused: list[Exception] = []
    is_over = threading.Event()

    def knock(place: str) -> None:
        while not is_over.is_set():
            try:
                Client(place, authkey=b"guess").close()
            except (AuthenticationError, OSError, EOFError) as error:
                refused.append(error)
            with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):  # hung up on, or over
                client.connect(place)
                client.sendall(random.choice([b"\x00", b"\xff" * 4096, b"\x7f\xff\xff\xff", os.urandom(512)]))
            time.sleep(0.02)

    class Besieged(Gate):
        def __init__(self) -> None:
            super().__init__()
            place = str(self.address.place)
            for _ in range(100):
                silent.append(socket.socket(socket.AF_UNIX))
                silent[-1].connect(place)
            threads.append(threading.Thread(target=knock, args=(place,)))
            threads[-1].start()

    threads: list[threading.Thread] = []
    monkeypatch.setattr(tunehook.launch.node.node, "Gate", Besieged)
    try:
        study = run(scripts.study(tmp_path / "s"), scripts.steps)
    finally:
        is_over.set()
        for client in silent:
            client.close()
        for thread in threads:
            thread.join(PATIENCE)
    assert states(study) == ["complete"] * 4
    assert AuthenticationError in {type(error) for error in refused}


def test_a_function_that_cannot_be_sent() -> None:
    """The error says what holds it back."""
    lock = threading.Lock()
    with pytest.raises(StudyError, match="cannot be sent to another process: TypeError: cannot pickle"):
        Function.of(lambda: lock.acquire())


def test_arguments_are_checked(tmp_path: Path) -> None:
    """Before anything is begun."""
    study = scripts.study(tmp_path / "s")
    for options, said in (
        ({"workers": 0}, "workers is an integer from 1"),
        ({"workers": 1, "retries": -1}, "retries is an integer from 0"),
        ({"workers": None, "report_timeout": 3.0}, "need a process for each trial"),
        ({"report_timeout": 0.0}, "report_timeout is a number of seconds above 0"),
        ({"gpus_per_trial": 1.5}, "an integer from 0, or a share of one GPU such as 0.5; got 1.5"),
    ):
        with pytest.raises(ValueError, match=said):
            run(study, scripts.steps, **options)
    assert not study.paths.folder.exists()


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from CUDA_VISIBLE_DEVICES; where there is none, that is said."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert devices() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(StudyError, match="needs a GPU, but CUDA_VISIBLE_DEVICES is ''"):
        devices()


def test_gpus_are_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trials at once never see the same devices, and too many are refused."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    study = run(scripts.study(tmp_path / "s"), _say_devices, gpus_per_trial=2)
    assert {output(study, number) for number in range(4)} == {"4,5\n", "6,7\n"}
    with pytest.raises(
        StudyError,
        match=r"3 workers with 2 GPUs each need 6, but there are 4: 4, 5, 6, 7\.\n  They are enough for 2",
    ):
        run(scripts.study(tmp_path / "t"), _say_devices, gpus_per_trial=2, workers=3)


def test_small_trials_share_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with a share of its memory; what the user has set stays."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.2")
    gpus = Gpus(0.3, 6)
    taken = [gpus.take() for _ in range(6)]
    assert [sorted(first + second) for first, second in zip(taken[::2], taken[1::2], strict=True)] == [["4", "5"]] * 3
    for name in "455":
        gpus.give_back([name])
    assert gpus.take() == ["5"]  # it has most room
    assert sorted(gpus.take() + gpus.take()) == ["4", "5"]
    assert gpus.variables(["4"]) == {
        "CUDA_VISIBLE_DEVICES": "4", "TUNEHOOK_GPU_SHARE": "0.3", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.2",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }  # fmt: skip
    with pytest.raises(StudyError, match=r"7 workers with 0.3 GPUs each(.|\n)*enough for 6 workers"):
        Gpus(0.3, 7)
    study = run(scripts.study(tmp_path / "s"), _say_devices, gpus_per_trial=0.5, workers=4)
    assert sorted(output(study, number) for number in range(4)) == ["4\n", "4\n", "5\n", "5\n"]


def test_torch_keeps_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU, and the trial has a share of it."""
    torch = Mock()
    monkeypatch.setitem(sys.modules, "torch", torch)
    limit_memory()
    torch.cuda.set_per_process_memory_fraction.assert_not_called()
    monkeypatch.setenv("TUNEHOOK_GPU_SHARE", "0.25")
    limit_memory()
    torch.cuda.set_per_process_memory_fraction.assert_called_once_with(0.25, 0)


def _say_devices() -> None:
    scripts.steps(1)
    assert active() is not None
    print(os.environ["CUDA_VISIBLE_DEVICES"])
