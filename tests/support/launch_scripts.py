"""Training functions without a framework, for tests of trial processes: what they do is said by the hyperparameter."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tunehook as th
from tunehook.inject.slot import Slot
from tunehook.session.in_progress import active
from tunehook.storage import opening, retrying
from tunehook.trial.errors import InjectionError


def training() -> th.TrialSession:
    """The session of this trial, begun as a callback does."""
    session = active()
    assert session is not None
    place = {"x": -1}
    session.begin([Slot("x", get=lambda: place["x"], set=lambda value: place.update(x=value))])
    session.ready()
    return session


def steps(count: int = 3, *, pause: float = 0.0) -> None:
    """Report the hyperparameter, step after step."""
    session = training()
    for step in range(1, count + 1):
        session.report(step, {"v": session.trial.params["x"]})
        time.sleep(pause)


def read() -> float:
    """Read the hyperparameter, and return ten times of it and the trial's number."""
    trial = th.current()
    assert trial is not None
    return 10.0 * th.value("x", -1) + trial.number


def slow() -> None:
    """Twenty seconds of training."""
    steps(200, pause=0.1)


def brief() -> None:
    """A third of a second of training."""
    steps(6, pause=0.05)


def say_birth() -> None:
    """Print when this process began, in seconds since 1970."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    print(time.time() - age)
    brief()


def kill_siblings() -> None:
    """End all other processes of the warm parent."""
    session = training()
    session.report(1, {"v": session.trial.params["x"]})
    time.sleep(0.3)  # for one that is on its way
    parent = os.getppid()
    for pid in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        if pid != os.getpid():
            print("killed", pid)
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)  # the node process hears of it


def gentle() -> None:
    """Two seconds of training."""
    steps(10, pause=0.2)


def stubborn() -> None:
    """It does not end when it is asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    steps(200, pause=0.1)


def deaf_at_first() -> None:
    """Go on behind the first signal, as where it was raised in a destructor, and Python has ignored it."""
    session, heard = training(), False
    for step in range(1, 400):
        session.report(step, {"v": session.trial.params["x"]})
        try:
            time.sleep(0.05)
        except SystemExit:
            if heard:
                raise
            heard = True


def say_pid() -> None:
    """Print the process."""
    steps(1)
    print("process", os.getpid(), "of", os.getppid())


def kill_at_first() -> None:
    """The process of each first attempt is killed after its first step."""
    session = training()
    session.report(1, {"v": session.trial.params["x"]})
    if session.trial.attempt == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    session.report(2, {"v": session.trial.params["x"]})


def crash() -> None:
    """A crash as of a C library."""
    steps(1)
    print("before the crash", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    """End the process without a word."""
    steps(1)
    os._exit(3)


def be_terminated() -> None:
    """As `sys.exit` of a handler of SIGTERM, where nobody is left to tell the trial."""
    training().report(1, {"v": 1.0})
    os._exit(128 + signal.SIGTERM)


def hang_at_first() -> None:
    """The first attempts say nothing any more."""
    steps(1)
    session = active()
    if session is not None and session.trial.attempt == 0:
        time.sleep(60)


def fail() -> None:
    """The user's error."""
    steps(1)
    raise ValueError("the data are gone")


def misuse() -> None:
    """What would be the same in every trial."""
    training()
    raise InjectionError("No slot is called 'x'.\n  Slots that exist: none.")


def out_of_memory() -> None:
    """Memory runs out above 2."""
    steps(1)
    session = active()
    if session is not None and session.trial.params["x"] > 2:
        raise MemoryError("no room")


def eat() -> None:
    """At 2, take more memory than the control group has that a variable names."""
    steps(1)
    session = active()
    if session is not None and session.trial.params["x"] == 2:
        Path(os.environ["CONTROL_GROUP"], "cgroup.procs").write_text(str(os.getpid()))
        held = [b"x" * 2**20 for _ in range(512)]
        print(len(held), "MB were there")


def leak() -> None:
    """Leave 50 MB behind."""
    steps(1)
    sys.modules["leaked"] = bytearray(50 * 2**20)  # type: ignore[assignment]


def clocked() -> None:
    """A training in whose process the clock is set back and forth by an hour."""
    real, ahead = time.time, itertools.cycle([3600.0, -3600.0])
    time.time = lambda: real() + next(ahead)
    steps(5, pause=0.05)


def leave_others() -> None:
    """Start processes that would stay, in this session and in others, with an orphan; then end as it is told to."""
    steps(1)
    stay = [sys.executable, "-c", "import time; time.sleep(600)"]
    orphan = f"import subprocess; print(subprocess.Popen({stay!r}, start_new_session=True, stdout=-3).pid)"
    pids = [subprocess.Popen(stay).pid, subprocess.Popen(stay, start_new_session=True).pid]
    pids.append(int(subprocess.run([sys.executable, "-c", orphan], stdout=subprocess.PIPE, text=True).stdout))
    with Path(os.environ["TEST_LEFT"]).open("a") as file:
        file.write(f"{os.getpid()} {os.getppid()} {' '.join(map(str, pids))}\n")
    how = os.environ["TEST_END"]
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    elif how == "raise":
        raise ValueError("an error of the training")
    elif how == "wait":
        time.sleep(60)


def study(folder: Path, values: Sequence[int] = (0, 1, 2, 3), **options: Any) -> th.Study:
    """A grid search over the values."""
    return th.Study(
        "s", {"x": th.Choice(list(values))}, metric="v", mode="min", search="grid", folder=folder, **options
    )


if __name__ == "__main__":
    name, many = sys.argv[1], int(sys.argv[2])
    if patience := os.environ.get("TEST_PATIENCE"):  # seconds that a server that is away is waited for
        vars(opening)["PATIENCE"] = vars(retrying)["PATIENCE"] = float(patience)
    study(Path("study"), range(many)).optimize(globals()[name], workers=2, retries=60, progress=False)
