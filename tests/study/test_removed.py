"""A study whose file, folder or trial is removed while it is used: it is made good, and told."""

from __future__ import annotations

import gc
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

import launch_scripts as scripts
import tunehook as th
from tunehook.record import Ended, Events, Report
from tunehook.session import active
from tunehook.trial import StudyError

FOLDER = Path("tunehook-studies/digits")


def make(**options: Any) -> th.Study:
    """A grid of six."""
    space = {"x": th.Choice([*range(6)])}
    return th.Study("digits", space, metric="v", mode="max", search="grid", **options)


def file() -> None:
    """The study's file alone."""
    (FOLDER / "study.db").unlink()


def files() -> None:
    """All of SQLite's."""
    for path in FOLDER.glob("study.db*"):
        path.unlink()


def folder() -> None:
    """Everything at once."""
    shutil.rmtree(FOLDER.rename("gone"))


def trial() -> None:
    """The folder of the trial that runs."""
    session = active()
    assert session is not None
    shutil.rmtree(session.trial.folder)


def put_back() -> None:
    """An older one is put in its place."""
    files()
    shutil.copy("old.db", FOLDER / "study.db")


def training(remove: Callable[[], None], *, at: int, step: int) -> Callable[[], None]:
    """A training of three reports, in which something is removed once."""

    def train() -> None:
        session = scripts.training()
        for number in range(1, 4):
            session.report(number, {"v": session.trial.params["x"] / 7 + number, "loss": 1.0})
            if (session.trial.params["x"], number) == (at, step):
                remove()

    return train


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("remove", [file, files, folder, trial, put_back])
def test_what_is_removed_under_a_run(remove: Callable[[], None], step: int, caplog: pytest.LogCaptureFixture) -> None:
    """Every trial is trained once, and whoever opens the study finds them all, in the storage and in the journals."""
    session = make()
    session.optimize(training(lambda: None, at=-1, step=0), trials=1, progress=False)
    del session
    gc.collect()
    shutil.copy(FOLDER / "study.db", "old.db")
    opened = make()
    trained: list[int] = []
    train = training(remove, at=3, step=step)

    def counted() -> None:
        train()
        session = active()
        assert session is not None
        trained.append(session.trial.params["x"])

    opened.optimize(counted, progress=False)
    assert sorted(trained) == [1, 2, 3, 4, 5]
    assert "was removed while" in caplog.text
    before = opened.trials
    del opened
    gc.collect()
    again = make()
    assert again.trials == before
    assert again.counts() == {"complete": 6}
    for found in again.optuna.trials[:6]:  # the grid refuses a seventh
        assert found.intermediate_values == {n: found.params["x"] / 7 + n for n in (1, 2, 3)}
        events = Events.of_trial(again._ledger.as_trial(found))
        assert [report.metrics["v"] for report in events.all(Report)] == list(found.intermediate_values.values())
        assert len(events.all(Ended)) == 1
    for path in FOLDER.glob("study.db*"):
        path.unlink()
    assert make().trials == before


def test_a_folder_whose_removal_goes_on() -> None:
    """What is removed behind a study that was written again is there in the end, too."""

    def train() -> None:
        session = scripts.training()
        session.report(1, {"v": session.trial.params["x"]})
        if session.trial.params["x"] == 3:
            folder()
        elif session.trial.params["x"] == 4:
            shutil.rmtree(FOLDER / "trial-0000")

    opened = make()
    opened.optimize(train, progress=False)
    assert opened.counts() == {"complete": 6}
    for number in range(6):
        assert len(Events.of_latest(opened.paths.journal(number)).all(Ended)) == 1, number


@pytest.mark.parametrize("remove", [files, folder])
def test_what_is_removed_between_two_trials(remove: Callable[[], None]) -> None:
    """By ask and tell, before the next trial, and after the last one."""
    opened = make()
    for _ in range(2):
        opened.tell(opened.ask(), th.Outcome("complete", value=1.0))
    remove()
    asked = opened.ask()
    assert asked.number == 2
    remove()
    opened.tell(asked, th.Outcome("complete", value=2.0))
    before = opened.trials
    del opened
    gc.collect()
    assert make().trials == before
    assert len(before) == 3


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_journal_of_which_a_part_was_removed(lines: int) -> None:
    """As between two lines of a trial process, which then makes the file with the later one alone."""
    opened = make()
    opened.optimize(training(lambda: None, at=-1, step=0), trials=3, progress=False)
    before, path = opened.trials, opened.paths.journal(1)
    written = path.read_bytes().splitlines(keepends=True)
    files()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(written[-1 - lines : -1]))
    opened.tell(opened.ask(), th.Outcome("complete", value=1.0))
    del opened
    gc.collect()
    for file in FOLDER.glob("study.db*"):
        file.unlink()
    assert make().trials[:3] == before


def test_a_study_that_cannot_be_made_good() -> None:
    """The run ends with an error."""
    opened = make()
    opened.tell(opened.ask(), th.Outcome("complete", value=1.0))
    shutil.rmtree(FOLDER)
    FOLDER.touch()
    with pytest.raises(StudyError, match="cannot be made: it is a file"):
        opened.ask()


def test_a_study_that_is_deleted_in_its_storage() -> None:
    """It is an error, and the next start of the script rebuilds it from its journals."""
    url = f"sqlite:///{Path.cwd()}/other.db"
    opened = make(storage=url)
    opened.optimize(training(lambda: None, at=-1, step=0), trials=2, progress=False)
    before = opened.trials
    optuna.delete_study(study_name="digits", storage=url)
    with pytest.raises(StudyError, match=re.escape(f"The study 'digits' was deleted from its storage {url} while it")):
        opened.ask()
    del opened
    gc.collect()
    assert make(storage=url).trials == before


@pytest.mark.slow
@pytest.mark.parametrize("remove", [files, folder])
def test_what_is_removed_under_workers(remove: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    """The same, where the trials run in processes of their own."""
    caplog.set_level(logging.WARNING, "tunehook")
    opened = make()
    opened.optimize(training(remove, at=2, step=2), workers=2, progress=False)
    assert opened.counts() == {"complete": 6}
    assert "was removed while it is used" in caplog.text
    before = opened.trials
    del opened
    gc.collect()
    assert make().trials == before
    assert sorted(trial.params["x"] for trial in before) == [*range(6)]
    for path in FOLDER.glob("study.db*"):
        path.unlink()
    assert make().trials == before
