"""What people named does nothing to a terminal, and is written in any encoding."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import tunehook as th
from hostile import ESCAPES, UNSEEN
from tunehook.cli import app
from tunehook.launch.progress import Progress
from tunehook.record import Journal
from tunehook.report import status_of, table
from tunehook.system import printable
from tunehook.trial import Budget, Outcome


def searched() -> th.Study:
    """A study whose metric, choices and reasons are hostile."""
    space = {"act": th.Choice([ESCAPES, "b" + ESCAPES]), "lr": th.Float(0, 1)}
    study = th.Study("digits", space, metric=f"acc{ESCAPES}", mode="max", search="random", seed=1)
    study.tell(study.ask(), Outcome("complete", ESCAPES, 0.5, 3))
    study.tell(study.ask(), Outcome("failed", f"ValueError: {ESCAPES}", traceback=ESCAPES))
    running = study.ask()
    study.report(running, 1, 0.25, Budget())
    journal = Journal(running.folder)
    journal.report(2, {study.metric: 0.375})
    journal.close()
    return study


@pytest.mark.parametrize("command", ["status digits", "best digits", "trials digits", "show digits 1", "list"])
def test_commands(command: str) -> None:
    """They say the names with escapes in place of what would move the cursor; JSON has the names themselves."""
    study = searched()
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0
    assert not UNSEEN.search(done.output)
    assert r"\x1b[2J" in done.output
    found = json.loads(CliRunner().invoke(app, ["status", "digits", "--json"]).output)
    assert found["metric"] == study.metric


@pytest.mark.parametrize(("command", "encoding"), [("status", "ascii"), ("best", "latin-1"), ("missing", "latin-1")])
def test_commands_in_any_encoding(command: str, encoding: str) -> None:
    """In a process of its own, whose output has the encoding, strictly."""
    searched()
    asked = ["status", "日本"] if command == "missing" else [command, "digits"]
    done = subprocess.run(
        [sys.executable, "-m", "tunehook", *asked], env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == (command == "missing")
    assert b"Traceback" not in done.stderr
    # Where the encoding is ascii, typer takes it for not set, and writes UTF-8.
    assert not UNSEEN.search((done.stdout + done.stderr).decode("utf-8" if encoding == "ascii" else encoding))


@pytest.mark.parametrize("width", [40, 80, 300])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_tables_and_progress(width: int, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal of any width and encoding: the lines of trials, and the table of `watch`."""
    study = searched()
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding, errors="strict"))
    progress = Progress(study, total=3)
    progress._console.width = width
    (trial,) = [study._ledger.as_trial(frozen) for frozen in study._ledger.running()]
    with progress:
        progress.begin(trial)
        progress.measure(trial.number, 1, 0.5)
        progress.finish(trial.number, Outcome("failed", ESCAPES))
    Console(file=progress._console.file, width=width).print(table(status_of(study), width=width, height=24))
    sys.stderr.flush()
    written = raw.getvalue().decode(encoding)
    assert "acc" in written
    assert not UNSEEN.search(written)


def test_what_is_for_a_program() -> None:
    """It is whole: what a terminal would act on is left out for a terminal only."""
    study = searched()
    done = subprocess.run(
        [sys.executable, "-m", "tunehook", "best", "digits", "--values", "arguments"], capture_output=True, check=True
    )
    act = study.best.params["act"]
    assert shlex.split(done.stdout.decode())[0] == f"--act={act.encode('utf-8', 'backslashreplace').decode()}"


def test_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever handles them gets them clean, with their own ends of lines."""
    with caplog.at_level(logging.INFO, "tunehook"):
        logging.getLogger("tunehook").info("a %s\n  b", ESCAPES)
    assert "\x1b" not in caplog.text
    assert caplog.records[0].getMessage() == "\n".join(map(printable, f"a {ESCAPES}\n  b".split("\n")))


def test_lines_of_the_log_in_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """For those who configured no logging."""
    from tunehook.system.terminal import _StandardError

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, "ascii", errors="strict"))
    _StandardError().handle(logging.LogRecord("tunehook", logging.INFO, "", 1, "日本 %s", ("\ud800",), None))
    assert raw.getvalue() == b"\\u65e5\\u672c \\ud800\n"


def test_names_of_files() -> None:
    """They are made of numbers and digests; nothing is written outside of the study's folder."""
    searched()
    assert [path.name for path in Path().iterdir()] == ["tunehook-studies"]
    assert all(re.fullmatch(r"[\w.-]+", part) for path in Path().rglob("*") for part in path.parts)
