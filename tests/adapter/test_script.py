"""What is the user's script, which may be run again, and what is a program that only runs it."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

import pytest

from tunehook.adapter.script import _is_installed


@pytest.mark.parametrize(
    ("file", "is_installed"),
    [
        (pytest.__file__, True),
        ("/home/me/.local/lib/python3.11/site-packages/pytest/__main__.py", True),
        ("/usr/lib/python3/dist-packages/ipykernel_launcher.py", True),
        (unittest.__file__, True),
        (str(Path(sys.executable).with_name("pytest")), True),
        ("/home/me/project/train.py", False),
    ],
)
def test_a_program_that_was_installed_is_no_script(file: str, is_installed: bool) -> None:
    """Wherever it was: in this environment, in one below it, of the user or of the system."""
    assert _is_installed(file) == is_installed
