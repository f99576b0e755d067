"""A program that `warm.python` starts is to its test as one of a new interpreter is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from waiting import PATIENCE
from warm import python

pytestmark = pytest.mark.slow

TELLS = """
import json, os, sys
assert not {"lightning", "pytorch_lightning", "keras", "tunehook"} & set(sys.modules)
said = dict(
    name=__name__, file=globals().get("__file__"), argv=sys.argv, first=sys.path[0], folder=os.getcwd(),
    variables={name: text for name, text in os.environ.items() if name != "_"}, read=sys.stdin.read(),
    is_main=vars(sys.modules["__main__"]) is globals(),
)
print(json.dumps(said, sort_keys=True))
print("an error", file=sys.stderr)
sys.exit(3)
"""
LOADED = "import sys; print('torch' in sys.modules)"


def run(interpreter: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python."""
    return subprocess.run([interpreter, *arguments], capture_output=True, text=True, timeout=PATIENCE, **options)


@pytest.mark.parametrize("how", [("script.py", "one", "two"), ("-m", "script", "one"), ("-c", TELLS, "one"), ()])
def test_it_is_as_a_new_interpreter_would_be(how: tuple[str, ...], tmp_path: Path) -> None:
    """Arguments, module, path, folder, environment, streams and exit code."""
    (tmp_path / "script.py").write_text(TELLS)
    given = {"cwd": tmp_path, "env": {**os.environ, "OWN": "ü\n"}, "input": TELLS if not how else "some text"}
    made, fresh = (run(each, *how, **given) for each in (python(), sys.executable))
    assert (made.returncode, made.stdout, made.stderr) == (3, fresh.stdout, "an error\n")
    assert fresh.returncode == 3


@pytest.mark.parametrize("end", ["1 / 0", "sys.exit('a text')", "sys.exit()", "os._exit(7)", "print(end='no line')"])
def test_it_ends_as_it_would(end: str) -> None:
    """With the code and what is said of an error, and what it has to do at its exit."""
    code = f"import atexit, os, sys\natexit.register(print, 'at exit')\n{end}"
    made, fresh = (run(each, "-c", code) for each in (python(), sys.executable))
    said = [re.sub(r'  File ".*(?:\n    .*)*\n', "", one.stderr) for one in (made, fresh)]
    assert (made.returncode, made.stdout, said[0]) == (fresh.returncode, fresh.stdout, said[1])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_ends_it(number: signal.Signals) -> None:
    """Its parent sees it."""
    assert run(python(), "-c", f"import os; os.kill(os.getpid(), {number:d})").returncode == -number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_who_is_killed_is_the_program(number: signal.Signals) -> None:
    """A signal to what was started reaches it; with that process it ends."""
    code = "import os, signal; os.write(1, b'it runs\\n'); signal.pause()"
    with subprocess.Popen([python(), "-c", code], stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"it runs\n"
        started.send_signal(number)
        assert started.wait(timeout=PATIENCE) == -number
        assert started.stdout.read() == b""  # as soon as the program is gone, which had its other end


def test_files_that_are_handed_down() -> None:
    """They have the same numbers, as multiprocessing needs it."""
    receive, send = os.pipe()
    with os.fdopen(receive) as reads:
        run(python(), "-c", f"import os; os.write({send}, b'from afar')", pass_fds=[send])
        os.close(send)
        assert reads.read() == "from afar"


def test_what_it_starts_is_forked_too() -> None:
    """By `sys.executable`, as ranks are started."""
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LOADED!r}])"
    assert run(python(), "-c", code).stdout == "True\n"


@pytest.mark.parametrize("apart", [{}, {"start_new_session": True}, {"env": {**os.environ, "PYTHONHASHSEED": "3"}}])
def test_what_no_fork_can_be(apart: dict[str, Any]) -> None:
    """It is a new interpreter: with other flags and variables, and in a session of its own, as trial processes are."""
    flags = () if apart else ("-X", "utf8")
    assert run(python(), *flags, "-c", LOADED, **apart).stdout == "False\n"
