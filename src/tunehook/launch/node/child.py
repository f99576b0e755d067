"""What runs in the processes of a study: in the warm parent, which imports and forks, and in each trial process.

A trial process leaves without taking its heap apart: it shares it with the warm parent, and to free the modules of
torch one by one cost two seconds a trial. What is registered for the end of a process is done.

The kernel ends trial processes with their parent (``PR_SET_PDEATHSIG`` on Linux), so that a killed node process leaves
no training behind that nobody hears of. What a trial has started ends with it: the warm parent takes the orphans of its
trials, and each process that the node starts has a guard; see `tunehook.system.descendants`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import pickle
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from tunehook.launch import Raised, announce, leading, prepare, train_one
from tunehook.launch.node.channel import Address
from tunehook.launch.node.function import Function
from tunehook.launch.node.gpus import limit_memory
from tunehook.record import make_folder, open_file
from tunehook.session import TrialSession, adopt, importing, sigterm_raised
from tunehook.system import Orphans, Terminated, end_with_parent, flush_output, take_orphans
from tunehook.trial import Budget, Decision, JournalError, Outcome, StorageError, Trial

# Seconds that trial processes have to end in good order where the node process is gone.
GRACE = 10.0
_LOOK = 0.1  # seconds between two looks at what ended trials have left
_DRIVER = "/dev/nvidia-uvm"
_USES_GPU = "importing the training function uses the GPU"


@dataclass(frozen=True)
class Boot:
    """What a new process reads from its standard input.

    Attributes:
        address: Where the node process listens.
        function: The user's training.
        token: Which trial process this is; ``None`` for the warm parent.
    """

    address: Address
    function: Function
    token: str | None = None


@dataclass(frozen=True)
class Work:
    """What a trial process is told to do.

    Attributes:
        session: The session of the trial.
        output: The file for what the training prints.
        name: Name of the study.
    """

    session: TrialSession
    output: Path
    name: str = field(default="")


class NodeJudge:
    """The way to the study, which the node process holds."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Ask the node process; where it is gone, this training has no purpose any more."""
        try:
            self._connection.send(("report", step, value, budget))
            decision: Decision = self._connection.recv()
        except (OSError, EOFError) as error:
            raise Terminated(128 + signal.SIGTERM) from error
        return decision

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Tell the node process; where it is gone, the next one reads the end from the journal.

        Raises:
            StorageError: It could not keep the end.
        """
        is_known = True
        with contextlib.suppress(OSError, EOFError):
            self._connection.send(("tell", outcome))
            is_known = self._connection.recv()
        if not is_known:
            raise StorageError(f"The study cannot keep the end of {trial.name}; why, its own process says.")


def main() -> None:
    """Be the warm parent or a trial process, as standard input says."""
    boot: Boot = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    token = boot.token
    train: Callable[[], object] | Raised | None = None
    if token is None:
        before, train = _load(boot)
        token = _serve(boot, train if isinstance(train, Raised) else why_not_fork(before))
        if token is None:
            return
    connection = boot.address.connect()
    connection.send(("hello", token, os.getpid()))
    try:
        work: Work = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the node process, which has the key
    except EOFError:  # the node process is gone, or does not want this process any more
        return
    _print_to(work.output)
    if train is None:
        _, train = _load(boot)
    if isinstance(train, Raised):
        connection.send(("broken", train))
        return
    limit_memory()
    with sigterm_raised():
        _run(connection, train, work)
    _leave()


def _leave() -> NoReturn:
    """End the process without taking a heap apart that it shares with the parent: for torch that is two seconds.

    What was registered for the end is done, as multiprocessing does it for its processes.
    """
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    flush_output()
    os._exit(0)


def _run(connection: Connection, train: Callable[[], object], work: Work) -> None:
    session = work.session
    error: BaseException | None
    with leading(work.name, leads=True):
        try:
            adopt(session, NodeJudge(connection))
            error = train_one(session, train)
        except (JournalError, StorageError) as raised:  # the disk is full: the end could not be written, but is told
            error = raised
            with contextlib.suppress(JournalError):
                session.end(raised)
        announce(None)
    flush_output()
    with contextlib.suppress(OSError):
        connection.send(("done", None if error is None else Raised.of(error)))
    connection.close()


def _load(boot: Boot) -> tuple[int, Callable[[], object] | Raised]:
    """How many threads there were before the user's code, and the training function, or why there is none."""
    before = _threads()
    try:
        with importing():
            boot.function.enter()
            before = _threads()
            train = boot.function.load()
            prepare()
            return before, train
    except BaseException as error:  # noqa: BLE001 - a script may end itself with sys.exit; it is told to the node
        return before, Raised.of(error)


def why_not_fork(before: int) -> str:
    """Why this process cannot be forked now, an empty text where it can.

    Args:
        before: Number of its threads after the frameworks were imported, and before the user's code was.
    """
    if _DRIVER in _open_files():  # the reason of its threads too
        return _USES_GPU
    if threading.active_count() > 1:
        names = ", ".join(thread.name for thread in threading.enumerate() if thread is not threading.main_thread())
        return f"importing the training function starts threads ({names})"
    if _threads() > before:
        return "importing the training function computes something, with threads that a fork would lose"
    return _USES_GPU if _is_gpu_lost() else ""


def _is_gpu_lost() -> bool:
    """Whether torch could not use the GPU in a fork of this process.

    It is asked in one, which says so and ends: `torch.cuda.is_available` alone may begin to use the driver, as Keras
    does when it is imported.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    pid = os.fork()
    if pid == 0:
        lost = True
        try:
            lost = torch.cuda._is_in_bad_fork()  # noqa: SLF001 - torch asks this itself, and has no other name for it
        finally:
            os._exit(int(lost))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0


def _open_files() -> set[str]:
    """What this process has open, as far as the system says."""
    found: set[str] = set()
    with contextlib.suppress(OSError):  # a system without such a list
        for file in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):  # the list's own, which is closed by now
                found.add(str(file.readlink()))
    return found


def _threads() -> int:
    """Number of the threads of this process, those of libraries included; 1 where the system does not say."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 1


def _serve(boot: Boot, problem: str | Raised) -> str | None:
    """Fork a trial process for each token that comes; returns it in there, and ``None`` in the parent at the end.

    Args:
        boot: What this process was told.
        problem: Why it cannot fork, an empty text where it can.
    """
    node = boot.address.connect()
    node.send(("warm", problem))
    if problem:
        return None
    wake_out, wake_in = os.pipe()
    os.set_blocking(wake_in, False)
    os.set_blocking(wake_out, False)
    signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: dict[int, str] = {}
    take_orphans()
    orphans, are_left = Orphans(), False
    gc.collect()
    gc.freeze()  # what is there now is shared with the children, as long as nobody writes to it
    try:
        while True:
            sources: list[Any] = [node, wake_out]
            ready, _, _ = select.select(sources, [], [], _LOOK if are_left else None)
            if wake_out in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_out, 4096)
                for ended, code in _take_ended(children):
                    node.send(("exit", ended, code))
            if wake_out in ready or are_left:
                are_left = orphans.look(children)
            if node in ready:
                order, token, detail = node.recv()
                if order == "fork":
                    try:
                        pid = _fork(detail)
                    except OSError as error:  # no memory, or no process id
                        node.send(("refused", token, error))
                        continue
                    if pid == 0:
                        signal.set_wakeup_fd(-1)
                        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                        for end in (wake_out, wake_in):
                            os.close(end)
                        node.close()
                        return str(token)
                    children[pid] = token
                else:
                    _signal([pid for pid, other in children.items() if other == token], detail)
    except (OSError, EOFError):  # the node process is gone
        _end(children)
        orphans.end()
        return None


def _fork(environment: dict[str, str]) -> int:
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid == 0:
        os.setsid()  # so that Ctrl-C reaches the node process only, and what the training starts can be ended with it
        os.environ.update(environment)
        for one in list(getattr(weakref.finalize, "_registry", ())):  # there is no public list
            one.atexit = False  # the parent's to do, at its end; those of torch alone take 30 ms
        end_with_parent(signal.SIGKILL)
        take_orphans()  # while the trial goes on they are its own; zombies too, as it may wait for any of its children
        if os.getppid() != parent:
            os._exit(1)
    return pid


def _take_ended(children: dict[int, str]) -> list[tuple[str, int]]:
    """Take those that have ended out of the children, whose ids others may have from now on: tokens and exit codes."""
    found = []
    for pid in list(children):
        with contextlib.suppress(ChildProcessError):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                found.append((children.pop(pid), os.waitstatus_to_exitcode(status)))
    return found


def _end(children: dict[int, str]) -> None:
    """End all trial processes: in good order, then by force."""
    _signal(list(children), signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while children and time.monotonic() < deadline:
        _take_ended(children)
        time.sleep(0.02)
    _signal(list(children), signal.SIGKILL)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(pid, number)  # with what the training started
            else:
                os.kill(pid, number)


def _print_to(path: Path) -> None:
    """Send what the training prints to its file, that of C libraries too."""
    study = path.parent.parent
    try:
        make_folder(path.parent, below=study)
        with open_file(path, "ab", below=study) as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
    except OSError as error:
        print(f"What the trial prints is not kept: {error}.", file=sys.stderr)  # noqa: T201 - to where it goes then
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
