"""A storage that is older than the journals, or gone; journals that lack an end: opened, both say the same."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

import tunehook as th
import tunehook.record.paths
import tunehook.storage
import tunehook.study.restoring
from postgres import serving
from tunehook.record import Begin, Ended, Events, Journal, lock_file, open_file, read_events, unsealed
from tunehook.storage import Ledger, read_waiting
from tunehook.study import Told, rebuild
from tunehook.trial import JournalError, Outcome, StudyError, StudyFinished, Trial
from waiting import PATIENCE

SPACE = {"x": th.Float(0, 1), "n": th.Choice([(1, 2), "a", None, 3]), "w": th.LogNormal(0, 1), "fixed": 5}
FOLDER = Path("tunehook-studies/digits")


def make(*, space: Any = SPACE, search: Any = "random", **options: Any) -> th.Study:
    """The study, as a script makes it each time that it is started."""
    return th.Study("digits", space, metric="acc", mode="max", search=search, seed=1, **options)


def train(study: th.Study, *, end: Callable[[Any], Any] | None = None) -> Trial:
    """One trial of three reports, and its end."""
    trial = study.ask()
    session = study.session(trial)
    for step in (1, 2, 3):
        session.report(step, {"acc": step / 7, "loss": 1.0})
    (end or finish)(session)
    return trial


def finish(session: Any) -> None:
    """The training ends."""
    session.end()


def fail(session: Any) -> None:
    """The training raises."""
    session.end(ValueError("no"))


def run_out(session: Any) -> None:
    """The memory ran out."""
    session.end(MemoryError("out of memory"))


def stop(session: Any) -> None:
    """Somebody pressed Ctrl-C."""
    session.end(KeyboardInterrupt())


def rows(study: th.Study) -> list[Any]:
    """All that the storage says of the trials, but for times and names of calls."""
    return [
        (
            one.number, one.state, one.values, study.space.decode(one.params) if one.params else {},
            one.intermediate_values,
            {name: value for name, value in one.user_attrs.items() if name.startswith("tunehook:outcome")},
            {name: value for name, value in one.system_attrs.items() if name.startswith("constraints")},
        )
        for one in study.raw_trials
    ]  # fmt: skip


def put_back(old: Path | None) -> None:
    """Let the study's file be an older one, or none."""
    gc.collect()  # closes it
    for file in FOLDER.glob("study.db*"):
        file.unlink()
    if old is not None:
        shutil.copy(old, FOLDER / "study.db")


def keep(study: th.Study) -> Path:
    """A backup of the study's file."""
    del study
    gc.collect()
    return Path(shutil.copy(FOLDER / "study.db", "backup.db"))


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_file_that_is_older_than_the_journals(is_gone: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Every trial is as it was, whatever its end; it is told in a line, and none is trained again."""
    train(make())
    old = keep(make())
    for end in (finish, fail, run_out, finish):
        train(make(), end=end)
    before, found = rows(make()), make().trials
    put_back(None if is_gone else old)
    caplog.clear()
    assert rows(make()) == before
    assert make().trials == found
    said = "Study 'digits': its storage was older than its journals, which have brought it up to date: trials "
    assert caplog.messages == [f"{said}{0 if is_gone else 1} to 4."]
    assert make().ask().number == 5


def test_it_is_the_same_study_for_whoever_knows_it_by_its_key() -> None:
    """Such as its run on W&B."""
    train(make())
    key = make().key
    put_back(None)
    assert make().key == key != ""


def test_times_are_those_of_the_journal() -> None:
    """So that what is shown of a trial's time is true."""
    train(make())
    (before,) = make().optuna.trials
    put_back(None)
    (after,) = make().optuna.trials
    for one, other in (
        (before.datetime_start, after.datetime_start),
        (before.datetime_complete, after.datetime_complete),
    ):
        assert one is not None
        assert other is not None
        assert abs((one - other).total_seconds()) < 2


def test_interrupted_values_are_asked_again_once() -> None:
    """With the attempt that they are; those that were asked already are not asked once more."""
    first = train(make(), end=stop)
    old = keep(make())
    second = train(make(), end=stop)
    assert (second.params, second.attempt) == (first.params, 1)
    before = rows(make())
    for file in (old, None):
        put_back(file)
        assert rows(make()) == before
        third = make().ask()
        assert (third.params, third.attempt, third.key) == (first.params, 2, first.key)
        make().tell(third, Outcome("interrupted", "once more"))
        shutil.rmtree(third.folder)


def test_a_trial_that_waited_in_the_older_file() -> None:
    """It is the trial that its journal says, with what it measured."""
    opened = make()
    opened.enqueue({"x": 0.5, "n": "a", "w": 1.0})
    del opened
    old = keep(make())
    train(make())
    before = rows(make())
    put_back(old)
    assert rows(make()) == before
    assert make().counts() == {"complete": 1}


def test_a_trial_that_ran_in_the_older_file() -> None:
    """It has ended since, or it was left; no value of it is lost."""
    script = textwrap.dedent(
        """
        import gc, os, pathlib, shutil, sys
        sys.path[:0] = [sys.argv[1], f"{sys.argv[1]}/../support"]
        import test_restoring as it
        def end(session):
            gc.collect()
            shutil.copy(it.FOLDER / "study.db", "backup.db")
            shutil.copy(it.FOLDER / "study.db-wal", "backup.db-wal")
            session.report(4, {"acc": 0.9})
            if sys.argv[2] == "ends":
                session.end()
            os._exit(0)
        it.train(it.make(), end=end)
        """
    )
    for turn, (how, state) in enumerate((("ends", "complete"), ("dies", "interrupted"))):
        subprocess.run([sys.executable, "-c", script, str(Path(__file__).parent), how], check=True, timeout=PATIENCE)
        put_back(Path("backup.db"))
        shutil.copy("backup.db-wal", FOLDER / "study.db-wal")
        found = make().optuna.trials[turn]
        outcome = make().trials[turn].outcome
        assert (outcome.state, outcome.value, outcome.step) == (state, 0.9, 4)
        assert found.intermediate_values == {1: 1 / 7, 2: 2 / 7, 3: 3 / 7, 4: 0.9}


def test_numbers_of_which_nothing_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """They stay taken, by a trial that was interrupted, so that the others keep theirs."""
    for _ in range(4):
        train(make())
    before = rows(make())
    put_back(None)
    shutil.rmtree(FOLDER / "trial-0001")
    shutil.rmtree(FOLDER / "trial-0003")
    caplog.clear()
    found = make().trials
    after = rows(make())
    assert [after[0], after[2]] == [before[0], before[2]]
    assert [trial.number for trial in found] == [0, 2]
    assert caplog.messages[-1] == "Study 'digits': nothing is left of trials 1."
    assert make().ask().number == 3


@pytest.mark.parametrize("lost", [[1], [2, 3], [0], [5], [1, 4]])
def test_a_grid_stays_exact(lost: list[int]) -> None:
    """Whatever is lost of it is trained, and nothing else again."""
    space = {"x": th.Choice([*range(8)])}

    def study() -> th.Study:
        return make(space=space, search="grid")

    study().enqueue({"x": 6})
    for number in range(6):
        train(study(), end=stop if number == 2 else finish)
    kept = {trial.params["x"] for trial in study().trials if trial.outcome.state == "complete" and
            trial.number not in lost}  # fmt: skip
    put_back(None)
    for number in lost:
        shutil.rmtree(FOLDER / f"trial-{number:04d}")
    trained: list[int] = []
    while True:
        try:
            trained.append(train(study()).params["x"])
        except StudyFinished:
            break
    assert kept | {*trained} == {*range(8)}
    counts = Counter(trained)
    assert counts.pop(6) == (2 if 0 in lost else 1)  # once as it was enqueued, and once as one of the grid
    assert {*counts.values()} == {1}
    assert not kept - {6} & {*trained}


def test_others_trials_are_not_taken() -> None:
    """Neither those of someone's own Optuna study of this name, nor of one in memory, nor of a number too far."""
    theirs = optuna.create_study(study_name="digits", direction="maximize")
    from tunehook.study import OptunaTrial

    asked = theirs.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    OptunaTrial(asked, metric="acc", inject=True).ask()
    train(make(storage=optuna.storages.InMemoryStorage()))
    assert make().trials == []
    trial = train(make())
    path = FOLDER / "trial-9999999" / "journal.jsonl"
    path.parent.mkdir()
    begins = [event for event in read_events(trial.folder / "journal.jsonl") if isinstance(event, Begin)]
    assert len(begins) == 3
    moved = begins[-1].as_trial(path.parent)
    Journal(path.parent).begin(Trial(**{**vars(moved), "number": 9999999}))
    put_back(None)
    assert len(make().optuna.trials) == trial.number + 1


def test_a_journal_with_values_of_another_space_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """It is left out; the study is opened."""
    trial = train(make())
    Journal(trial.folder).begin(Trial(**{**vars(trial), "params": {"y": 3}, "key": "0000-12345678"}))
    put_back(None)
    assert make().trials == []
    assert f"{Path.cwd() / trial.folder}/journal.jsonl is no journal of a trial of this study." in caplog.messages


class Server:
    """A PostgreSQL server, whose connections are closed at the end, which psycopg asks for."""

    def __init__(self, server: Any) -> None:
        self.psql = server.psql
        self.url = server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        self._opened: list[Any] = []

    def make(self) -> th.Study:
        """The study in it."""
        self._opened.append(make(storage=self.url))
        return self._opened[-1]  # type: ignore[no-any-return] # what is in the list is looked into below

    def delete(self) -> None:
        """Delete the study, as someone with Optuna alone does."""
        storage = optuna.storages.RDBStorage(self.url)
        optuna.delete_study(study_name="digits", storage=storage)
        storage.engine.dispose()

    def close(self) -> None:
        """Close all."""
        for study in self._opened:
            study._made.ledger.kept._backend._backend.engine.dispose()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of our own."""
    with serving() as made:
        server = Server(made)
        yield server
        server.close()


@pytest.mark.slow
def test_a_server_that_is_older_than_the_journals(server: Server) -> None:
    """Its last trials are gone, as from a backup, or the study is: both come back, and none is trained again."""
    for end in (finish, fail, finish, stop, finish):
        train(server.make(), end=end)
    before, found = rows(server.make()), server.make().trials
    for table in ("params", "values", "intermediate_values", "user_attributes", "system_attributes"):
        last = "trial_id IN (SELECT trial_id FROM trials WHERE number > 1)"
        server.psql(f"DELETE FROM trial_{table} WHERE {last};")  # noqa: S608 - our own words
    server.psql("DELETE FROM trials WHERE number > 1; DELETE FROM study_user_attributes WHERE key LIKE '%agreed%';")
    assert rows(server.make()) == before
    server.delete()
    assert rows(server.make()) == before
    assert server.make().trials == found


@pytest.mark.slow
def test_a_study_that_is_deleted_in_a_server(server: Server) -> None:
    """The run ends with an error, and the next start has all trials again."""
    opened = server.make()
    train(opened)
    before = opened.trials
    server.delete()
    with pytest.raises(StudyError, match=r"The study 'digits' was deleted from its storage .* while it is used"):
        opened.ask()
    assert server.make().trials == before


def test_a_journal_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no trial of which nothing is left: whoever searches is told, whoever looks sees the rest; none is lost."""
    train(make())
    old = keep(make())
    for _ in range(2):
        train(make())
    before = rows(make())
    put_back(old)
    real = tunehook.record.paths._open

    def refuse(path: str, flags: int) -> int:
        if "trial-0002" in path:
            raise error
        return real(path, flags)

    with monkeypatch.context() as patch:
        patch.setattr(tunehook.record.paths, "_open", refuse)
        for error, way_out in (
            (OSError(errno.EMFILE, "Too many open files"), r"Raise the limit of open files \(ulimit -n\), and start"),
            (PermissionError(errno.EACCES, "Not yours"), "Make it a file that this user can read, and start again"),
        ):
            said = f"trial-0002/journal.jsonl cannot be read: {error.strerror}. .*\n  {way_out}"
            with pytest.raises(StudyError, match=f"^The journal .*/{said}"):
                make().ask()
        with pytest.raises(StudyError, match=r"trial-0002/journal.jsonl cannot be read"):
            rebuild("digits")
        assert [trial.number for trial in th.Study.open("digits").trials] == [0, 1]
    assert rows(make()) == before


def test_a_trial_that_is_asked_while_others_are_put_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It keeps its values and has no end of another trial; no other one gets a number that is not its own."""
    trials = [train(make()) for _ in range(4)]
    before = rows(make())
    put_back(None)
    real = Ledger.put_in

    def put_in(ledger: Ledger, number: int, *args: Any, **options: Any) -> bool:
        if number == 1 and not asked:
            ledger.study.sampler = optuna.samplers.RandomSampler(seed=99)
            asked.append(ledger.ask().params)
        return real(ledger, number, *args, **options)

    asked: list[Any] = []
    monkeypatch.setattr(Ledger, "put_in", put_in)
    caplog.clear()
    opened = make()
    found = opened.raw_trials
    assert rows(opened)[0] == before[0]
    assert [(one.number, one.state.name, one.params) for one in found[1:]] == [(1, "RUNNING", asked[0])]
    assert "so the trials of the journals from 1 on were not put in.\n  End all processes of the study. " in caplog.text
    assert caplog.messages[-1].endswith("tunehook rebuild digits")
    with pytest.raises(JournalError, match=r"trial-0002/journal.jsonl is that of an earlier trial of study 'digits'"):
        opened.ask()
    del opened, found
    gc.collect()
    rebuild("digits")
    assert rows(make()) == before
    assert [outcomes(trial) for trial in trials] == [[trial.outcome] for trial in make().trials]


def test_a_row_that_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """The trials that the storage lacks are told, and no new one is written over them."""
    for _ in range(3):
        train(make())
    old = keep(make())
    train(make())
    before = rows(make())
    put_back(old)
    with contextlib.closing(sqlite3.connect(FOLDER / "study.db")) as db, db:
        db.execute("UPDATE trials SET number = 'x' WHERE number = 1")
    caplog.clear()
    opened = make()
    assert [one.number for one in opened.optuna.get_trials(deepcopy=False)] == [0, 2]
    assert "so trials that it lacks are not put in; trials 3 are in the journals only.\n  Rebuild it" in caplog.text
    with pytest.raises(JournalError, match=r"trial-0003/journal.jsonl is that of an earlier trial of study 'digits'"):
        opened.ask()
    del opened
    gc.collect()
    rebuild("digits")
    *there, waits = rows(make())
    assert there == before
    assert waits[:2] == (4, TrialState.WAITING)  # the values that were asked for and could not begin


@pytest.mark.parametrize(
    ("line", "damage"),
    [(0, {"time": 1e300}), (-1, {"time": 1e300}), (-1, {"value": "NaN"}), (-1, {"state": "running", "value": None})],
)
def test_a_bad_journal_keeps_no_study_from_opening(line: int, damage: dict[str, Any]) -> None:
    """What nobody could have written counts as not written; the other trials are as they were."""
    trials = [train(make()) for _ in range(3)]
    before = rows(make())
    put_back(None)
    path = trials[1].folder / "journal.jsonl"
    lines = path.read_bytes().splitlines()
    for at, more in ((0, {"pid": 2**31 - 1}), (line, damage)):  # whose process is gone
        lines[at] = json.dumps({**json.loads(unsealed(lines[at])[0]), **more}).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    after = rows(make())
    assert [after[0], after[2]] == [before[0], before[2]]
    assert after[1][1].name == "FAIL"


def test_what_cannot_be_put_in(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Its number is taken, as of one of which nothing is left; it is told."""
    for _ in range(3):
        train(make())
    before = rows(make())
    put_back(None)
    real = Ledger.put_in

    def put_in(ledger: Ledger, number: int, outcome: Any, **options: Any) -> bool:
        if number == 1 and outcome.state == "complete":
            raise OverflowError("too large")
        return real(ledger, number, outcome, **options)

    monkeypatch.setattr(Ledger, "put_in", put_in)
    after = rows(make())
    assert [after[0], after[2]] == [before[0], before[2]]
    assert "trial-0001/journal.jsonl cannot be read, and is left out: OverflowError('too large')" in caplog.text
    assert caplog.messages[-1] == "Study 'digits': nothing is left of trials 1."


def test_ends_are_told_when_the_folder_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telling shows the study elsewhere and removes files, for which nobody waits."""
    opened = make()
    opened.enqueue({"x": 0.5, "n": "a", "w": 1.0})
    del opened
    old = keep(make())
    train(make())
    put_back(old)
    real, free = th.Study.tell, []

    def tell(study: th.Study, trial: Trial, outcome: Outcome) -> None:
        with open_file(FOLDER / "study.json", "ab+", below=FOLDER) as file:
            free.append(lock_file(file))
        real(study, trial, outcome)

    monkeypatch.setattr(th.Study, "tell", tell)
    assert make().counts() == {"complete": 1}
    assert free == [True]


# ------------------------------------------------------------------ ends


def torn(trial: Trial) -> None:
    """Take the end out of a journal, as where it could not be written."""
    path = trial.folder / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def outcomes(trial: Trial) -> list[Outcome]:
    """The ends in a journal."""
    return [event.outcome for event in Events.of_trial(trial) if isinstance(event, Ended)]


def test_an_end_that_the_journal_lacks(caplog: pytest.LogCaptureFixture) -> None:
    """It is the one that the storage has, written when the study is opened, once."""
    trials = [train(make()), train(make(), end=fail), train(make())]
    wanted = [outcomes(trial) for trial in trials]
    for trial in trials[:2]:
        torn(trial)
    opened = make()
    opened.optuna.set_user_attr(f"tunehook:agreed:{os.uname().nodename}", 0)
    caplog.clear()
    for _ in range(2):
        assert [trial.outcome for trial in make().trials] == [outcome for (outcome,) in wanted]
    assert [outcomes(trial) for trial in trials] == wanted
    assert caplog.messages == [
        "Study 'digits': the journals of trials 0 to 1 lacked their ends, which the storage had."
    ]


def test_an_end_that_another_trial_has_in_its_journal() -> None:
    """An end before the last begin is that of an earlier trial in the folder; the later one gets its own."""
    trial = train(make())
    (wanted,) = outcomes(trial)
    torn(trial)
    path = trial.folder / "journal.jsonl"
    mine = path.read_bytes()
    path.unlink()
    earlier = Trial(**{**vars(trial), "key": "0000-12345678"})
    Journal(trial.folder).begin(earlier)
    Journal(trial.folder).end(Outcome("complete", value=9.0))
    path.write_bytes(path.read_bytes() + mine)
    make().optuna.set_user_attr(f"tunehook:agreed:{os.uname().nodename}", 0)
    make().trials  # noqa: B018 - opens it
    assert outcomes(trial) == [wanted]
    assert outcomes(earlier) == [Outcome("complete", value=9.0)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), JournalError("No space left on device")])
@pytest.mark.parametrize("is_written", [False, True])
def test_an_end_that_could_not_be_written_at_first(
    error: BaseException, is_written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C at that line, or for lack of room for a moment: it is there once, and the study has it."""
    real, tries = Journal.end, []

    def end(journal: Journal, outcome: Outcome) -> None:
        tries.append(1)
        if len(tries) == 1:
            if is_written:
                real(journal, outcome)
            raise error
        real(journal, outcome)

    monkeypatch.setattr(Journal, "end", end)
    opened = make()
    with pytest.raises(type(error)):
        train(opened)
    (found,) = opened.trials
    assert found.outcome.state == "complete"
    assert outcomes(opened._ledger.as_trial(opened._ledger.trials()[0])) == [found.outcome]


def test_an_end_that_cannot_be_written_is_made_good_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start of the script writes it."""

    def end(journal: Journal, outcome: Outcome) -> None:
        raise JournalError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "end", end)
        with pytest.raises(JournalError):
            train(make())
    trial = make()._ledger.as_trial(make()._ledger.trials()[0])
    assert outcomes(trial) == [make().trials[0].outcome]
    assert make().counts() == {"complete": 1}


def test_an_end_is_looked_up_in_the_study() -> None:
    """By those who have its journals only; they say so where the study cannot be asked."""
    trial = train(make())
    torn(trial)
    assert Told().outcome(trial) == make().trials[0].outcome
    assert Told().outcome(Trial(**{**vars(trial), "key": "0000-00000000"})) is None
    put_back(None)
    with pytest.raises(StudyError, match=re.escape("study.db of study 'digits' is gone.")):
        Told().outcome(trial)


def test_a_storage_that_is_away_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may take long to be away; the second trial has the same answer at once."""
    trials = [train(make(storage="sqlite:///elsewhere.db")) for _ in range(2)]
    tried = []

    def find(*_: object, **__: object) -> Any:
        tried.append(1)
        raise StudyError("it is away")

    monkeypatch.setattr(tunehook.storage, "find_study", find)
    told = Told("sqlite:///elsewhere.db")
    for trial in trials:
        with pytest.raises(StudyError, match="it is away"):
            told.outcome(trial)
    assert tried == [1]


def test_an_end_is_looked_up_in_a_storage_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose URL is given, or in the environment."""
    url = f"sqlite:///{Path.cwd()}/elsewhere.db"
    trial = train(make(storage=url))
    wanted = make(storage=url).trials[0].outcome
    with pytest.raises(StudyError, match="the journal has no end, and the storage of study 'digits', which may know"):
        Told().outcome(trial)
    assert Told(url).outcome(trial) == wanted
    monkeypatch.setenv("TUNEHOOK_STORAGE", url)
    assert Told().outcome(trial) == wanted


# ------------------------------------------------------------------ whose folder it is


def test_two_studies_with_one_folder() -> None:
    """The second one is an error, whatever its storage."""
    train(make(folder="mine"))
    for storage in (None, "sqlite:///other.db", optuna.storages.InMemoryStorage()):
        with pytest.raises(StudyError) as caught:
            th.Study("other", SPACE, metric="acc", mode="max", folder="mine", storage=storage).ask()
        assert str(caught.value) == (
            f"The folder {Path.cwd()}/mine belongs to the study 'digits', so 'other' cannot have it: the trials of a "
            "study lie in its folder by their numbers.\n"
            "  Give each study a folder of its own: Study(..., folder=...), or leave folder out."
        )


def test_two_studies_of_one_name_with_one_folder() -> None:
    """A storage that has the study under another id has another study."""
    train(make())
    make(folder="elsewhere", storage="sqlite:///other.db").trials  # noqa: B018 - makes it
    with pytest.raises(StudyError, match="belongs to another study of this name, which has another storage"):
        make(storage="sqlite:///other.db").ask()


def test_a_folder_without_its_description() -> None:
    """As of an earlier version: the first trial says whose it is, and it is described again."""
    train(make(folder="mine"))
    Path("mine/study.json").unlink()
    with pytest.raises(StudyError, match="belongs to the study 'digits'"):
        th.Study("other", SPACE, metric="acc", mode="max", folder="mine").ask()
    assert make(folder="mine").ask().number == 1
    assert Path("mine/study.json").read_bytes().count(b'"event": "study"') == 1


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"[1]", b'{"event": "study"}', b"{" * 10000])
def test_a_damaged_description_is_written_again(damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The storage and the script know what was in it."""
    train(make())
    whole = (FOLDER / "study.json").read_bytes()
    (FOLDER / "study.json").write_bytes(damage)
    assert make().ask().number == 1
    assert (FOLDER / "study.json").read_bytes() == whole
    assert ("is damaged and left out" in caplog.text) == (damage != b"")


def test_another_space_without_the_file_is_an_error() -> None:
    """Its trials would be taken for those of the study that is gone."""
    train(make())
    put_back(None)
    with pytest.raises(StudyError) as caught:
        make(space={"x": th.Float(0, 2)}).ask()
    assert str(caught.value).startswith("The study 'digits' exists already and differs:\n")
    assert str(caught.value).endswith(
        "  Give the new one another name, or move its folder away, whose trials it would get."
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_several_processes_that_open_it_at_once() -> None:
    """Each finds every trial once, and each trial that they begin is a new one."""
    for _ in range(12):
        train(make())
    before = rows(make())
    for how in ("all live", "some are killed"):
        put_back(None)
        logging.getLogger("tunehook").setLevel(logging.ERROR)
        children = []
        for _ in range(4):
            children.append(os.fork())
            if children[-1] == 0:
                opened = make()
                _ = opened.trials
                os._exit(0)
        if how == "some are killed":
            for child in children[:2]:
                os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
        logging.getLogger("tunehook").setLevel(logging.NOTSET)
        assert rows(make()) == before


def test_values_that_another_process_lets_wait_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are in the storage before their line is written, and nobody has overtaken anybody."""
    other = make()
    train(other)
    read = read_waiting

    def meanwhile(*given: Any) -> Any:
        other.enqueue({"x": 0.5})
        return read(*given)

    monkeypatch.setattr(tunehook.study.restoring, "read_waiting", meanwhile)
    numbers = [trial.number for trial in make()._ledger.trials()]
    assert "another process" not in caplog.text
    assert len(numbers) > 2
    assert numbers == [*range(len(numbers))]
