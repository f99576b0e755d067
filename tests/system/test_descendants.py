"""The guard of a process, and what it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any
from unittest.mock import Mock

import pytest

from tunehook.system import Orphans, descendants
from waiting import PATIENCE

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has guards")
STAY = [sys.executable, "-c", "import time; time.sleep(60)"]
GUARDED = "import os; from tunehook.system import guarded; guarded(ends_with_parent=False)\n"


def python(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run some code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, **options)


def test_a_system_without_the_modules_of_unix() -> None:
    """As on Windows: the package is imported, a study is made, and what leads it is imported."""
    code = "import sys; sys.modules.update(dict.fromkeys(('fcntl', 'grp', 'pwd', 'resource', 'termios')))\n"
    done = python(code + "import tunehook; tunehook.Study; import tunehook.launch.node.node")
    assert done.returncode == 0, done.stderr


@on_linux
@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_a_guard_ends_as_its_child(end: str) -> None:
    """Also where the one that started it ignores the ends of its children, which is passed on."""
    ignoring = python(GUARDED + end, preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert ignoring.stderr == ""
    assert ignoring.returncode == python(GUARDED + end).returncode == (3 if "_exit" in end else -9)


ORPHAN = """
import subprocess, sys, time
code = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True, stdout=-3, stderr=-3).pid)"
pid = int(subprocess.run([sys.executable, "-c", code], stdout=-1).stdout)
"""
REFUSED = """
import os
from tunehook.system import descendants
descendants.PATIENCE = descendants._LAST = 0.2
def refuse(*_): raise PermissionError
kill, os.kill = os.kill, refuse
"""
ENDS = """
os.kill(pid, 9)
until = time.monotonic() + 20
while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
    time.sleep(0.05)
print(os.path.exists(f"/proc/{pid}"), flush=True)
"""


@on_linux
def test_a_guard_lets_go_of_what_has_ended() -> None:
    """Programs that are left behind and end by themselves are no zombies up to the end of the child."""
    assert python(GUARDED + ORPHAN + ENDS).stdout == "False\n"


@on_linux
def test_a_guard_leaves_what_cannot_be_killed() -> None:
    """As another user's program: it is named, and the guard ends."""
    ended = python(REFUSED + GUARDED + ORPHAN + "print(pid, flush=True); os._exit(3)")
    os.kill(int(ended.stdout), signal.SIGKILL)
    assert ended.stderr == f"Process {ended.stdout.strip()} does not end, although it was killed; it is left behind.\n"
    assert ended.returncode == 3


@on_linux
def test_whoever_takes_orphans_leaves_what_cannot_be_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named once, and let go when it has ended by itself."""
    for name in ("PATIENCE", "_LAST"):
        monkeypatch.setattr(descendants, name, 0.2)
    orphans = Orphans()
    stays = subprocess.Popen(STAY)
    with monkeypatch.context() as other:
        other.setattr(os, "kill", Mock(side_effect=PermissionError))
        orphans.end()
        assert orphans.look(()) is False
    assert caplog.messages == [f"Process {stays.pid} does not end, although it was killed; it is left behind."]
    stays.kill()
    os.waitid(os.P_PID, stays.pid, os.WEXITED | os.WNOWAIT)
    orphans.look(())
    assert stays.pid not in descendants._children()
    stays.wait()
