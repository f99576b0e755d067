"""Looking at a study writes nothing, and needs no right to write."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tunehook as th
from tunehook.report import Watch, best_of, lines, status_of
from tunehook.storage import reader, reading
from tunehook.storage.reading import connect_reading
from waiting import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rights of files are others there")

MAKE = """
import os, sys
import tunehook as th
from tunehook.trial import Budget, Outcome
study = th.Study("s", {"x": th.Float(0, 1)}, metric="v", mode="max", search="random", folder=sys.argv[1])
for value in (0.25, 0.75, None):
    trial = study.ask()
    study.report(trial, 1, 0.5, Budget())
    if value is not None:
        study.tell(trial, Outcome("complete", value=value, step=1))
if sys.argv[2] != "closed":
    os.kill(os.getpid(), 9)
"""


# The other user may not read what this one has installed, so all is imported before.
LOOK = """
import os, sys
from tunehook.cli import app
commands = [[name, *sys.argv[1:]] for name in ("status", "best", "watch")]
for command in commands:
    app(command, standalone_mode=False)
sys.stdout.flush()
for command in commands:
    if os.fork() == 0:
        os.setuid(65534)
        print("as another user", flush=True)
        print("as another user", file=sys.stderr, flush=True)
        app(command)
    assert os.wait()[1] == 0
"""


@pytest.fixture(params=["closed", "killed", "copied"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A study with two complete trials and one that was left: closed, with a log, and with a log without its index.

    It is in no folder of pytest's, which closes those to other users whenever it is started somewhere.
    """
    place = Path(tempfile.mkdtemp())
    folder = place / "s"
    subprocess.run([sys.executable, "-c", MAKE, str(folder), request.param], check=False)
    if request.param == "copied":
        (folder / "study.db-shm").unlink()
    assert (folder / "study.db-wal").exists() == (request.param != "closed")
    yield folder
    shutil.rmtree(place)


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What is in a folder, and when it was changed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def look(folder: Path) -> None:
    """Look at the study in all ways."""
    opened = th.Study.open("s", folder=folder)
    status = status_of(opened)
    assert status.counts == {"complete": 2, "running": 1}
    assert best_of(opened).value == 0.75
    assert "trial 2 was left" in "\n".join(lines(Watch(opened).look()))
    assert len(opened.trials) == len(opened.look().trials) == 3
    assert "x" in opened._repr_html_()


def test_a_look_leaves_no_trace(folder: Path) -> None:
    """Also in one's own folder: no file is made, changed or removed."""
    before = content(folder)
    look(folder)
    assert content(folder) == before


def run(*command: object) -> bool:
    """Run a command of the system; whether it went well."""
    return subprocess.run([*map(str, command)], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """A folder on a read-only mount."""
    run("mount", "--bind", folder, folder)
    try:
        run("mount", "-o", "remount,ro,bind", folder)
        yield
    finally:
        run("umount", folder)


def can_mount() -> bool:
    """Whether this process may mount."""
    return shutil.which("unshare") is not None and run("unshare", "--mount", "true")


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount")
def test_a_read_only_mount(folder: Path) -> None:
    """It is looked at as any other."""
    before = content(folder)
    with mounted(folder):
        look(folder)
    assert content(folder) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_the_study_of_someone_else(folder: Path) -> None:
    """What cannot be read is a line, and the rest is shown."""
    for place in (folder, folder.parent):
        place.chmod(0o755)
    (folder / "trial-0001" / "journal.jsonl").chmod(0o000)
    (folder / "trial-0002").chmod(0o000)
    before = content(folder)
    given = [sys.executable, "-c", LOOK, "s", "--folder", str(folder), "--json"]
    done = subprocess.run(given, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    (_, *shown), (_, *told) = (text.split("as another user\n") for text in (done.stdout, done.stderr))
    assert len(shown) == len(told) == 3
    for found, said in zip(map(json.loads, shown), told, strict=True):
        assert "A journal is left out: [Errno 13] Permission denied" in said
        assert found.get("best", found)["value"] == 0.75
    assert content(folder) == before


@pytest.mark.parametrize("way", ["as it is", "a copy"])
def test_while_someone_writes(way: str, tmp_path: Path) -> None:
    """What is read is one moment of the file, and moves on with it, through the moves of the log into the file."""
    place = tmp_path / "study.db"
    connects: dict[str, Callable[[Path], sqlite3.Connection]] = {
        "as it is": connect_reading,
        "a copy": lambda place: reading._copied(place, Path(f"{place}-wal")),
    }
    connect = connects[way]
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
        import sqlite3, sys
        db = sqlite3.connect(sys.argv[1], isolation_level=None)
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE a (x); CREATE TABLE b (x);"
                         "INSERT INTO a VALUES (0); INSERT INTO b VALUES (zeroblob(20000));")
        print(flush=True)
        for number in range(1, 2000):
            db.executescript(f"BEGIN; UPDATE a SET x = {number}; UPDATE b SET x = randomblob(20000);"
                             "INSERT INTO b SELECT x FROM b LIMIT 1; DELETE FROM b WHERE rowid > 3; COMMIT")
    """), str(place)], stdout=subprocess.PIPE)  # fmt: skip
    assert writer.stdout is not None
    writer.stdout.readline()
    seen = []
    while writer.poll() is None:
        with contextlib.closing(connect(place)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            seen.append(db.execute("SELECT x FROM a").fetchone()[0])
    writer.communicate()
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    with contextlib.closing(connect_reading(place)) as db:
        assert db.execute("SELECT x FROM a").fetchone() == (1999,)


def test_the_index_of_the_log_is_read_once(tmp_path: Path) -> None:
    """A reader that has begun is not stopped by an index that is half written, nor shown what was written since."""
    place, index = tmp_path / "study.db", tmp_path / "study.db-shm"
    with contextlib.closing(sqlite3.connect(place, isolation_level=None)) as writer:
        writer.executescript("PRAGMA journal_mode=WAL; CREATE TABLE a (x); INSERT INTO a VALUES (0)")
        with contextlib.closing(connect_reading(place)) as db:
            writer.execute("UPDATE a SET x = 1")
            with index.open("r+b") as file:
                file.write(bytes(8))  # of the first of its two copies
            for _ in range(2):
                db.rollback()
                assert db.execute("SELECT x FROM a").fetchone() == (0,)
        with contextlib.closing(connect_reading(place)) as db:
            assert db.execute("SELECT x FROM a").fetchone() == (1,)


def test_a_writer_that_begins_meanwhile(tmp_path: Path) -> None:
    """What was read of a file that nobody had open is read again where someone has changed it: no row is torn."""
    place = tmp_path / "study.db"
    with contextlib.closing(sqlite3.connect(place)) as db:
        db.executescript("PRAGMA journal_mode=WAL; CREATE TABLE a (x); CREATE TABLE b (x)")
        db.executescript("INSERT INTO a VALUES (0); INSERT INTO b VALUES (0)")
    tries = list[int]()

    def look(db: sqlite3.Connection) -> tuple[int, int]:
        first = db.execute("SELECT x FROM a").fetchone()[0]
        if not tries:
            with contextlib.closing(sqlite3.connect(place)) as writer:  # as it closes, the log goes into the file
                writer.executescript("BEGIN; UPDATE a SET x = x + 1; UPDATE b SET x = x + 1; COMMIT")
        tries.append(first)
        return first, db.execute("SELECT x FROM b").fetchone()[0]

    assert reader.read(place, look) == (1, 1)
    assert tries == [0, 1]
    tries.clear()
    with contextlib.closing(reading.connect_whole(place)) as db:
        assert look(db) == (1, 1)
