"""The command line: help, what it says where something is missing, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunehook.record import Journal

pytest.importorskip("typer")
from typer.testing import CliRunner

from tunehook.cli import app


def test_help_names_the_commands() -> None:
    """Without a command, what there is; the help of a command has an example."""
    assert "sync" in CliRunner().invoke(app, []).output
    helped = CliRunner().invoke(app, ["sync", "--help"])
    assert helped.exit_code == 0
    assert "tunehook sync tunehook-studies/digits" in helped.output


def test_a_folder_that_does_not_exist() -> None:
    """It is told with the place where studies lie."""
    done = CliRunner().invoke(app, ["sync", "nowhere"])
    assert done.exit_code == 2
    assert done.output == "There is no folder nowhere; the studies of this directory lie in tunehook-studies.\n"


def test_trials_without_another_recorder(tmp_path: Path) -> None:
    """A study that was recorded in its journals only has nothing to upload, and no package is asked for."""
    journal = Journal(tmp_path / "study" / "trial-0000")
    journal.report(1, {"acc": 0.5})
    journal.close()
    done = CliRunner().invoke(app, ["sync", str(tmp_path)])
    assert (done.exit_code, done.output) == (0, "")
