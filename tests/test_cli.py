"""The command line: help, what it says where something is missing, and what it leaves alone."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import typer
from optuna.storages.journal import JournalFileBackend
from typer.testing import CliRunner

import tunehook as th
from tunehook.cli import app
from tunehook.record.journal import Journal
from tunehook.report.status import Watch, lines, status_of
from tunehook.study.study import Study
from tunehook.trial.values import Budget, Outcome


def test_help_names_the_commands() -> None:
    """Without a command, what there is."""
    shown = CliRunner().invoke(app, []).output
    assert all(name in shown for name in ("sync", "status", "watch", "best", "wandb"))


def commands(command: Any, name: str = "tunehook") -> Iterator[tuple[str, Any]]:
    """Every command and group of the command line, by how it is called."""
    yield name, command
    for inner, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {inner}")


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_each_word_that_was_written(name: str) -> None:
    """The text of a command with an example and of its options, brackets among them, and no first line is cut off."""
    shown = said(*name.split()[1:], "--help")
    told = " ".join(shown.split())
    command = COMMANDS[name]
    texts = [command.help, *(getattr(option, "help", None) for option in command.params)]
    assert command.help
    for text in texts:
        assert " ".join((text or "").split()) in told
    assert hasattr(command, "commands") or f"Example: {name} " in told
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
    assert done.output == "There is no folder nowhere; the studies of this directory are in tunehook-studies.\n"


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
    study.tell(study._ledger.as_trial(study._ledger.trials()[2]), Outcome("pruned", "x", 0.25, 2))
    study._plan_for(2)
    study.lead.note_plan()
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


# ------------------------------------------------------------------ processes that are gone

BEGIN = """
import os, signal, sys, time
import tunehook as th
from tunehook.trial import Budget, Outcome
study = th.Study("digits", {"lr": th.Float(0, 1)}, metric="acc", mode="max", search="random")
study._plan_for(int(sys.argv[1]) or None)
study.lead.note_plan()
study.tell(study.ask(), Outcome("complete", "trained to its end", 0.5, 3))
if sys.argv[2] == "killed":
    study.report(study.ask(), 1, 0.25, Budget())
    os.kill(os.getpid(), signal.SIGKILL)
"""


def begin(wanted: int, how: str) -> None:
    """A process that works on a study and ends, in the middle of a trial where it is killed."""
    subprocess.run([sys.executable, "-c", BEGIN, str(wanted), how], check=how != "killed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "how", "code", "said"),
    [
        (9, "killed", 1, "; 1 of 9 trials are finished.\n"),
        (9, "ended", 1, "; 1 of 9 trials are finished.\n"),
        (0, "ended", 0, "; 1 trials are finished.\n"),
    ],
)
def test_watching_a_study_that_was_left(
    wanted: int, how: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, and says what befell the trial that ran and how to go on; nothing is told of the trial."""

    def sleep(_: float) -> None:
        raise AssertionError("it waits on")

    begin(wanted, how)
    monkeypatch.setattr("tunehook.cli.commands.time", SimpleNamespace(sleep=sleep))
    done = CliRunner().invoke(app, ["watch", "digits", "--every", "0.1"])
    assert done.exit_code == code
    assert f"No process works on study 'digits' any more{said}" in done.output
    assert "  Start its script again: the study goes on where it was.\n" in done.output
    is_killed = how == "killed"
    assert ("trial 1 was left at step 1, acc 0.25 (its process " in done.output) == is_killed
    found = json.loads(said_anyway("status", "digits", "--json"))
    assert found["processes"] == "gone"
    assert [one["number"] for one in found["running"] if one["lost"] is not None] == [1] * is_killed
    assert Study.open("digits").counts() == ({"complete": 1, "running": 1} if is_killed else {"complete": 1})


def said_anyway(*arguments: str) -> str:
    """What a command prints, whatever it is."""
    return CliRunner().invoke(app, list(arguments)).output


def test_a_study_whose_process_lives_is_not_left() -> None:
    """Also between two trials, and before the first one, which may take long to begin."""
    study = Study("digits", {"lr": th.Float(0, 1)}, metric="acc", mode="max", search="random")
    study.lead.note_plan()
    assert study.lead.attendance(()) == "live"
    study.tell(study.ask(), Outcome("complete", "x", 0.5, 1))
    assert (study.lead.attendance(()), study.lead.lost()) == ("live", {})


def test_processes_of_other_machines() -> None:
    """None is known to live between two trials: they are gone once nothing has changed for a minute."""
    study = Study("digits", {"lr": th.Float(0, 1)}, metric="acc", mode="max", search="random")
    study.optuna.set_user_attr("tunehook:leader", {"host": "elsewhere", "pid": 1, "time": 0.0})
    assert study.lead.attendance(()) == "unknown"
    trial = study.ask()
    study._ledger.kept.set_trial_user_attr(
        study.optuna.trials[0]._trial_id, "tunehook:owner", {"host": "elsewhere", "pid": 1, "time": 0.0}
    )
    assert study.lead.attendance(()) == "live"  # it runs, as far as is known here
    now = [0.0]
    watch = Watch(study, clock=lambda: now[0])
    seen = []
    for second in (0, 30, 60, 90, 119, 121):
        now[0] = float(second)
        if second == 60:
            study.tell(trial, Outcome("failed", "x"))
        seen.append(watch.look().processes)
    assert seen == ["live", "live", "unknown", "unknown", "unknown", "gone"]


def test_signs_of_life_of_another_machine(tmp_path: Path) -> None:
    """A trial there is lost once it has given none for a while, and then nobody works on the study."""
    backend = JournalFileBackend(str(tmp_path / "log"))
    study = Study("digits", {"lr": th.Float(0, 1)}, metric="acc", mode="max", search="random",
                  storage=optuna.storages.JournalStorage(backend))  # fmt: skip
    trial = study.ask()
    shutil.rmtree(trial.folder)
    trial_id, elsewhere = study.optuna.trials[0]._trial_id, {"host": "elsewhere", "pid": 1, "time": 0.0}
    study._ledger.kept.set_trial_user_attr(trial_id, "tunehook:owner", elsewhere)
    assert study._ledger.pulse is not None
    study._ledger.pulse.remove(trial_id)
    study._ledger.pulse._grace = 0.2
    assert (study.lead.lost(), study.lead.attendance(())) == ({}, "live")
    time.sleep(0.3)
    assert study.lead.lost() == {0: "its process on elsewhere gave no sign of life"}
    found = status_of(study)
    assert (found.processes, lines(found)[-1].split(":")[0]) == (
        "unknown", "trial 0 was left (its process on elsewhere gave no sign of life)",
    )  # fmt: skip
    assert [trial.outcome.state for trial in study.trials] == ["running"]
