"""The command line: help, what it says where something is missing, and what it leaves alone."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import tunehook as th
from tunehook.cli import app
from tunehook.record import Journal
from tunehook.study import Study
from tunehook.trial import Budget, Outcome


def test_help_names_the_commands() -> None:
    """Without a command, what there is; the help of a command has an example."""
    for name, example in (
        ("sync", "tunehook sync tunehook-studies/digits"), ("status", "tunehook status digits"),
        ("watch", "tunehook watch digits --every 10"), ("best", "tunehook best digits --json"),
    ):  # fmt: skip
        assert name in CliRunner().invoke(app, []).output
        helped = CliRunner().invoke(app, [name, "--help"])
        assert helped.exit_code == 0
        assert example in helped.output


def commands(command: Any, name: str = "tunehook") -> Iterator[tuple[str, Any]]:
    """Every command and group of the command line, by how it is called."""
    yield name, command
    for inner, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {inner}")


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_each_word_that_was_written(name: str) -> None:
    """The text of a command and of each of its options, brackets among them, and no first line is cut off."""
    shown = said(*name.split()[1:], "--help")
    told = " ".join(shown.split())
    command = COMMANDS[name]
    texts = [command.help, *(getattr(option, "help", None) for option in command.params)]
    assert command.help
    for text in texts:
        assert " ".join((text or "").split()) in told
    assert "..." not in shown.replace("[ARGS]...", "")


def test_help_names_an_extra() -> None:
    """The command that needs a further package says which, as pip takes it."""
    assert "pip install 'tunehook[workspace]'" in " ".join(said("wandb", "workspace", "--help").split())


def test_the_version() -> None:
    """It is that of the package, and asks for no command."""
    assert said("--version") == f"tunehook {th.__version__}\n"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--version"], ["status", "nothing"]], ids=" ".join)
def test_the_module_is_the_command_line(arguments: list[str]) -> None:
    """``python -m tunehook`` does what ``tunehook`` does, with its exit codes."""
    done = CliRunner().invoke(app, arguments)
    ran = subprocess.run([sys.executable, "-m", "tunehook", *arguments], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == (done.stdout, done.stderr, done.exit_code)


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


# ------------------------------------------------------------------ looking at a study


def searched(**options: Any) -> Study:
    """A study with one complete trial, one failed, and one that runs at step 2."""
    study = Study("digits", {"lr": th.Float(0, 1), "act": th.Choice([None, "[red]"])}, metric="acc", mode="max",
                  search="random", seed=1, **options)  # fmt: skip
    study.tell(study.ask(), Outcome("complete", "trained to its end", 0.5, 3))
    study.tell(study.ask(), Outcome("failed", "ValueError: x"))
    trial = study.ask()
    study.report(trial, 1, 0.25, Budget())
    journal = Journal(trial.folder)
    journal.report(2, {"acc": 0.375, "loss": 1.0})
    journal.close()
    return study


def said(*arguments: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("where", [[], ["--storage", "sqlite:///other.db"], ["url"]], ids=["name", "storage", "url"])
def test_a_study_is_looked_at_without_its_space(where: list[str]) -> None:
    """By its name, or by its storage: counts, the best one, and what runs, with the last value of its journal."""
    study = searched(storage="sqlite:///other.db" if where else None)
    asked = ["sqlite:///other.db"] if where == ["url"] else ["digits", *where]
    found = json.loads(said("status", *asked, "--json"))
    assert (found["study"], found["metric"], found["finished"], found["wanted"]) == ("digits", "acc", 1, None)
    assert found["counts"] == {"complete": 1, "failed": 1, "running": 1}
    (running,) = found["running"]
    assert (running["number"], running["step"], running["value"]) == (2, 2, 0.375)
    assert running["params"] == study.trials[2].params
    best = json.loads(said("best", *asked, "--json"))
    assert (best["number"], best["value"], best["params"]) == (0, 0.5, study.trials[0].params)
    assert best["records"] == study.records(0)
    assert found["best"] == best
    text = said("status", *asked)
    assert text.startswith("study digits: 1 trials finished (1 complete, 1 failed, 1 running)\n")
    assert "trial 2 runs at step 2, acc 0.375" in text
    assert f"lr = {study.trials[0].params['lr']!r}" in said("best", *asked)
    assert [trial.outcome.state for trial in study.trials] == ["complete", "failed", "running"]  # nothing was told


def test_a_study_is_watched_until_it_is_done() -> None:
    """Each look that differs is told; the plan is that of optimize."""
    study = searched()
    study.tell(study._as_trial(study._frozen()[2]), Outcome("pruned", "x", 0.25, 2))
    study._plan_for(2)
    study.note_plan()
    lines = said("watch", "digits", "--every", "0.1", "--json").splitlines()
    (found,) = map(json.loads, lines)
    assert (found["finished"], found["wanted"], found["running"], found["seconds_left"]) == (2, 2, [], 0.0)


@pytest.mark.parametrize("command", ["status", "best", "watch"])
def test_a_study_that_does_not_exist(command: str) -> None:
    """It is told which there are, and nothing is made: no folder, no file, no table."""
    searched()
    before = sorted(Path().rglob("*"))
    sqlite3.connect("empty.db").close()
    Path("empty.db").touch()
    for arguments, text in (
        (["digit"], "There is no study 'digit' in tunehook-studies/digit.\n  There are in tunehook-studies: digits.\n"),
        (["digits", "--storage", "sqlite:///none.db"], "there is no file none.db"),
        (["digits", "--storage", "sqlite:///empty.db"], "cannot be used: no such table"),
        (["other", "--storage", "sqlite:///tunehook-studies/digits/study.db"],
         "There are in sqlite:///tunehook-studies/digits/study.db: digits."),
        (["digits", "--storage", "postgresql://me:s3cret@127.0.0.1:1/d"], "postgresql://me:***@127.0.0.1:1/d"),
    ):  # fmt: skip
        done = CliRunner().invoke(app, [command, *arguments])
        assert done.exit_code == 1
        assert text in done.output.replace("(sqlite3.OperationalError) ", "")
        assert "s3cret" not in done.output
    assert Path("empty.db").stat().st_size == 0
    Path("empty.db").unlink()
    assert sorted(path for path in Path().rglob("*") if path.suffix not in (".db-shm", ".db-wal")) == [
        path for path in before if path.suffix not in (".db-shm", ".db-wal")
    ]


def test_no_complete_trial() -> None:
    """It is told with the number of those that there are."""
    study = Study("digits", {"lr": th.Float(0, 1)}, metric="acc", mode="max", search="random")
    study.ask()
    done = CliRunner().invoke(app, ["best", "digits"])
    assert (done.exit_code, done.output) == (
        1, "Study 'digits' has no complete trial yet (1 running), so there is no best one.\n",
    )  # fmt: skip


def test_a_study_that_was_opened_to_look_at_it() -> None:
    """It has trials and the best one; asking needs the space."""
    searched()
    opened = Study.open("digits")
    assert opened.best.value == 0.5
    with pytest.raises(th.StudyError, match="was opened to look at it; to search, give its space"):
        opened.ask()
