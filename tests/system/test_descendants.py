"""The guard of a process, and what it ends."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run some code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_a_system_without_the_modules_of_unix() -> None:
    """As on Windows: the package is imported, a study is made, and what leads it is imported."""
    code = "import sys; sys.modules.update(dict.fromkeys(('fcntl', 'grp', 'pwd', 'resource', 'termios')))\n"
    done = python(code + "import tunehook; tunehook.Study; import tunehook.launch.node.node")
    assert done.returncode == 0, done.stderr
