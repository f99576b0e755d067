"""The journal: every event, on disk when the call returns, whatever happens to the disk and the process."""

from __future__ import annotations

import collections
import functools
import json
import logging
import math
import os
import pickle
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunehook.record.paths
from tunehook.record.journal import Journal, host, plain, read_journal
from tunehook.record.outline import LEFT_OUT, outline, outlines
from tunehook.system import stored, this_process, versions
from tunehook.trial.errors import JournalError
from tunehook.trial.values import Decision, Outcome, Trial


def trial(folder: Path) -> Trial:
    """Trial 7, whose record lies in the folder."""
    return Trial(
        "digits",
        7,
        {"lr": 0.1, "betas": (0.9, 0.99), "act": None},
        folder,
        "acc",
        "max",
        attempt=1,
        key="0007-1b2c3d4e",
    )


def events(journal: Journal) -> list[dict[str, Any]]:
    """What can be read back, without the times."""
    return [{key: value for key, value in event.items() if key != "time"} for event in read_journal(journal.path)]


def test_every_event_is_read_back(hostile: Path) -> None:
    """Each kind of event has its line of JSON, in any folder, in the order of writing."""
    journal = Journal(hostile)
    before = time.time()
    journal.begin(trial(hostile))
    journal.config({"model.lr": 0.1, "model.net": object}, records=["https://w/1"])
    journal.report(1, {"acc": 0.5, "loss": 2.0})
    journal.decision(1, Decision(True, "falls behind: “ü”\nsecond line"))
    journal.problem("W&B is away")
    journal.end(Outcome("pruned", "why", 0.5, 1))
    assert events(journal) == [
        {
            "event": "begin",
            "trial": 7,
            "study": "digits",
            "params": {"lr": 0.1, "betas": [0.9, 0.99], "act": None},
            "attempt": 1,
            "key": "0007-1b2c3d4e",
            "metric": "acc",
            "mode": "max",
            "pid": os.getpid(),
            "start": this_process()["start"],
            "space": this_process()["space"],
            "host": host(),
        },
        {
            "event": "config",
            "effective": {"model.lr": 0.1, "model.net": repr(object)},
            "records": ["https://w/1"],
            "versions": versions(),
        },
        {"event": "report", "step": 1, "metrics": {"acc": 0.5, "loss": 2.0}},
        {
            "event": "decision",
            "step": 1,
            "stop": True,
            "state": "pruned",
            "reason": "falls behind: “ü”\nsecond line",
        },
        {"event": "problem", "text": "W&B is away"},
        {"event": "end", "state": "pruned", "reason": "why", "value": 0.5, "step": 1, "traceback": None},
    ]
    assert all(before - 1 <= event["time"] <= time.time() + 1 for event in read_journal(journal.path))
    assert journal.path.read_bytes().count(b"\n") == 6


def test_numbers_beyond_json_are_texts() -> None:
    """Every line is JSON by the letter; NaN and infinities come back through float()."""
    journal = Journal(Path("t"))
    journal.report(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e-320})
    journal.close()
    (line,) = journal.path.read_text().splitlines()
    metrics = json.loads(line, parse_constant=pytest.fail)["metrics"]
    assert metrics == {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 1e-320}
    assert [float(metrics[name]) for name in "bc"] == [math.inf, -math.inf]
    assert math.isnan(float(metrics["a"]))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (True, True),
        (3, 3),
        ("x", "x"),
        (0.1, 0.1),
        (math.nan, "NaN"),
        ({1: (2, {3})}, {"1": [2, [3]]}),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(math.inf), "Infinity"),
        (np.array([1]), "array([1])"),
        (Path("x"), "PosixPath('x')"),
        (frozenset(), []),
    ],
)
def test_what_json_knows(value: Any, kept: Any) -> None:
    """Other objects become their repr, scalars of NumPy their plain value."""
    assert plain(value) == kept
    assert type(plain(value)) is type(kept)


def test_a_journal_that_does_not_exist_has_no_events() -> None:
    """Neither has one below a file."""
    assert list(read_journal(Path("none/journal.jsonl"))) == []
    Path("file").touch()
    assert list(read_journal(Path("file/journal.jsonl"))) == []


def test_a_torn_last_line(caplog: pytest.LogCaptureFixture) -> None:
    """It is left out and told once; what is appended after it is whole."""
    journal = Journal(Path("t"))
    journal.report(1, {"acc": 0.5})
    journal.report(2, {"acc": 0.6})
    journal.close()
    whole = journal.path.read_bytes()
    for cut in range(whole.index(b"\n") + 2, len(whole) - 1):
        journal.path.write_bytes(whole[:cut])
        caplog.clear()
        assert [event["step"] for event in events(journal)] == [1]
        assert caplog.messages == [
            "t/journal.jsonl: line 2 is damaged and left out; the other lines are whole.",
        ]
    later = Journal(Path("t"))
    later.report(3, {"acc": 0.7})
    later.close()
    assert [event["step"] for event in events(later)] == [1, 3]


def test_a_last_line_without_its_newline_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    """Only the newline is missing: the line counts, and the next one begins on its own."""
    journal = Journal(Path("t"))
    journal.report(1, {})
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes().rstrip())
    journal.report(2, {})
    journal.close()
    assert [event["step"] for event in events(journal)] == [1, 2]
    assert caplog.messages == []


@pytest.mark.parametrize("damage", [b"\x00" * 40, b"\xff\xfe{", b"[1, 2]", b"3", b'{"time": 1}', b'{"event"', b"null"])
def test_a_damaged_line_in_the_middle(damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A line that is no event is left out, told with its number, and the others are read."""
    journal = Journal(Path("t"))
    for step in (1, 2, 3):
        journal.report(step, {})
    journal.close()
    lines = journal.path.read_bytes().split(b"\n")
    lines[1] = damage
    journal.path.write_bytes(b"\n".join(lines))
    assert [event["step"] for event in events(journal)] == [1, 3]
    assert caplog.record_tuples == [
        (
            "tunehook",
            logging.WARNING,
            "t/journal.jsonl: line 2 is damaged and left out; the other lines are whole.",
        )
    ]


def test_a_damaged_line_near_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """Where only the end is read, the number of the line is not known, and none is told."""
    journal = Journal(Path("t"))
    for step in range(1, 9):
        journal.report(step, {})
    journal.close()
    lines = journal.path.read_bytes().split(b"\n")
    lines[6] = b"null"
    journal.path.write_bytes(b"\n".join(lines))
    assert [event["step"] for event in read_journal(journal.path, tail=200)][-1] == 8
    assert caplog.messages == [
        "t/journal.jsonl: a line near its end is damaged and left out; the other lines are whole."
    ]


def test_a_line_that_is_too_long_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out and told; the reports and the end after it are read."""
    monkeypatch.setattr(stored, "MOST", 300)
    journal = Journal(Path("t"))
    journal.report(1, {})
    journal.problem("x" * 1000)
    journal.report(2, {})
    journal.end(Outcome("complete", value=1.0))
    assert [event["event"] for event in events(journal)] == ["report", "report", "end"]
    assert caplog.messages == ["t/journal.jsonl: line 2 is damaged and left out; the other lines are whole."]


def test_a_flipped_bit_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Each bit of a line, turned over, gives no other event than the one that was written, and spoils no other line."""
    journal = Journal(Path("t"))
    for step in (1, 2, 3):
        journal.report(step, {"acc": step / 7})
    journal.close()
    whole, written = journal.path.read_bytes(), events(journal)
    first = whole.index(b"\n") + 1
    last = whole.index(b"\n", first)
    lost = 0
    for bit in range(8 * first, 8 * last):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        journal.path.write_bytes(flipped)
        caplog.clear()
        found = [{name: event[name] for name in ("event", "step", "metrics")} for event in events(journal)]
        if len(found) < 3:
            lost += 1
            assert caplog.messages[0].startswith("t/journal.jsonl: line 2 is damaged and left out")
        assert found in (written, [written[0], written[2]])
    assert lost > 0.9 * 8 * (last - first)  # but for those of the checksum's own name, without which a line is taken


def test_lines_of_other_versions(caplog: pytest.LogCaptureFixture) -> None:
    """Those without a checksum are read; unknown events and fields are given as they are."""
    journal = Journal(Path("t"))
    journal._write("report", step=1, metrics={}, seconds=3)
    journal._write("weather", rain=[1])
    journal.close()
    with journal.path.open("ab") as file:
        file.write(b'{"time": 1.0, "event": "report", "step": 2, "metrics": {"acc": 0.5}}\n')
    assert events(journal) == [
        {"event": "report", "step": 1, "metrics": {}, "seconds": 3},
        {"event": "weather", "rain": [1]},
        {"event": "report", "step": 2, "metrics": {"acc": 0.5}},
    ]
    assert caplog.messages == []


def test_a_file_in_the_way() -> None:
    """A trial's folder that cannot be made is told with its place and the way out."""
    Path("study").touch()
    with pytest.raises(JournalError) as caught:
        Journal(Path("study/trial-0000")).report(1, {})
    assert str(caught.value) == (
        "The journal study/trial-0000/journal.jsonl cannot be written: Not a directory.\n"
        "  Make room or make the folder writable, or give the study another folder: Study(..., folder=...)."
    )
    assert isinstance(caught.value.__cause__, OSError)


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event tells it, and closing raises nothing more."""
    monkeypatch.setattr(tunehook.record.paths, "_open", lambda _path, _flags: os.open("/dev/full", os.O_RDWR))
    journal = Journal(Path("t"))
    for _ in range(2):
        with pytest.raises(JournalError, match=re.escape("cannot be written: No space left on device.\n")):
            journal.report(1, {"acc": 0.5})
    journal.close()


def test_a_disk_that_was_full_for_a_while() -> None:
    """What was torn is left out, nothing is written twice, and what comes later is whole."""
    journal = Journal(Path("t"))
    journal.report(1, {})
    size = journal.path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
        with pytest.raises(JournalError, match="File too large"):
            journal.report(2, {"acc": 0.5})
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert journal.path.stat().st_size == size + 20
    journal.report(3, {})
    journal.close()
    assert [event["step"] for event in events(journal)] == [1, 3]


def test_lines_are_on_disk_when_report_returns(tmp_path: Path) -> None:
    """A process that is killed right after a report leaves every line behind."""
    script = textwrap.dedent(
        """
        import sys, pathlib
        from tunehook.record import Journal
        journal = Journal(pathlib.Path(sys.argv[1]))
        for step in range(1, 1000):
            journal.report(step, {"acc": step / 7})
            print(step, flush=True)
        """
    )
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = 0
        while seen < 20:
            seen = int(process.stdout.readline())
        process.kill()
        told = [seen, *map(int, process.stdout.read().split())]
    steps = [event["step"] for event in read_journal(folder / "journal.jsonl")]
    assert steps[: told[-1]] == list(range(1, told[-1] + 1))
    assert len(steps) <= told[-1] + 1


def test_what_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report once a second, the end in any case, after its line is written; the folders once, to find the file."""
    sizes: list[int] = []
    folders: list[int] = []
    real = os.fsync

    def counted(file: int) -> None:
        real(file)
        found = os.fstat(file)
        (folders if stat.S_ISDIR(found.st_mode) else sizes).append(found.st_size)

    monkeypatch.setattr(os, "fsync", counted)
    now = 10.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    journal = Journal(Path("t"))
    for step, at in enumerate((10.9, 11.1, 12.0, 12.2), start=1):
        now = at
        journal.report(step, {})
    journal.end(Outcome("complete", "done", 1.0, 4))
    ends = [match.end() for match in re.finditer(b"\n", journal.path.read_bytes())]
    assert sizes == [ends[1], ends[3], ends[4]]
    assert len(folders) == 2


@pytest.mark.parametrize("what", ["t/journal.jsonl", "t"])
def test_a_journal_that_is_removed_as_it_is_written(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is written again, with all of its lines, and told once each time."""
    Journal(Path("t")).begin(trial(Path("t")))
    journal = Journal(Path("t"), trial=trial(Path("t")))
    journal.report(1, {"acc": 0.5})
    for step in (2, 3):
        shutil.rmtree(what) if what == "t" else Path(what).unlink()
        journal.report(step, {"acc": 0.5})
    journal.end(Outcome("complete", "", 0.5, 1))
    found = events(journal)
    assert [event["event"] for event in found] == ["begin", "report", "report", "report", "end"]
    assert [event["step"] for event in found[1:4]] == [1, 2, 3]
    assert caplog.messages == ["The journal t/journal.jsonl was removed while its trial runs: it is written again."] * 2


def test_a_journal_that_is_removed_before_it_is_opened(caplog: pytest.LogCaptureFixture) -> None:
    """Its trial begins again in it."""
    Journal(Path("t")).begin(trial(Path("t")))
    first = [{**event, "time": 0} for event in read_journal(Path("t/journal.jsonl"))]
    journal: Journal = pickle.loads(pickle.dumps(Journal(Path("t"), trial=trial(Path("t")))))
    Path("t/journal.jsonl").unlink()
    journal.report(1, {"acc": 0.5})
    journal.report(2, {"acc": 0.5})
    journal.close()
    assert [event["event"] for event in events(journal)] == ["begin", "report", "report"]
    assert [{**event, "time": 0} for event in read_journal(journal.path)][:1] == first
    assert len(caplog.messages) == 1


def test_a_journal_pickles_without_its_file() -> None:
    """The copy in another process opens the file again and appends."""
    journal = Journal(Path("t"))
    journal.report(1, {})
    copy: Journal = pickle.loads(pickle.dumps(journal))
    copy.report(2, {})
    journal.report(3, {})
    copy.close()
    journal.close()
    assert [event["step"] for event in events(journal)] == [1, 2, 3]


def test_an_end_closes_the_file() -> None:
    """Nothing stays open after the end; a later event opens it again."""
    journal = Journal(Path("t"))
    journal.end(Outcome("complete", "", 1.0, 1))
    assert journal._file is None
    journal.problem("late")
    journal.close()
    journal.close()
    assert [event["event"] for event in events(journal)] == ["end", "problem"]


class Bad:
    """A value whose methods raise."""

    shape = ()
    dtype = "float"

    def __repr__(self) -> str:
        raise RuntimeError("not yet")


class deque:  # noqa: N801
    """A class of the user's that reprlib takes for another one."""


class Unshown:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("not yet")


ENDLESS: dict[str, Any] = {"a": 1}
ENDLESS["self"] = ENDLESS


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (3, 3),
        ("x" * 5000, "x" * 5000),
        (math.inf, "Infinity"),
        (Path("data/y"), "data/y"),
        (np.float32(0.5), 0.5),
        (np.zeros((28, 28)), "ndarray (28, 28), float64"),
        ({"a": (1, {2.5})}, {"a": [1, [2.5]]}),
        ([*range(1002)], [*range(1000), "... and 2 more"]),
        ([[*range(600)], [*range(600)], {"a": 1}], [[*range(600)], [*range(397), "... and 203 more"],
                                                    {"... and 1 more": ""}]),
        (Bad(), "a Bad"),
        (deque(), "a deque"),
        (2**999, 2**999),
    ],
)  # fmt: skip
def test_what_a_slot_holds_in_short(value: Any, kept: Any) -> None:
    """Numbers, texts and small containers as they are; arrays by type, shape and kind; the rest is cut off."""
    assert outline(value) == kept
    assert json.loads(json.dumps(outline(value), allow_nan=False)) == kept


def test_what_a_slot_holds_whatever_it_is() -> None:
    """Values that contain themselves, that cannot be shown, that are without values."""
    assert json.dumps(outline(ENDLESS)).count("self") > 5
    assert outline(Unshown()).startswith("<Unshown instance at ")
    assert outline(1 << 16_000) == "a int"
    assert len(outline(object())) < 200
    assert len(json.dumps(outline([[[0] * 100] * 100] * 100))) < 20_000


class Slotted:
    """Holds a secret in a slot, and says it without a name."""

    __slots__ = ("token",)

    def __init__(self) -> None:
        self.token = "s3cret-1"  # noqa: S105 - what is looked for

    def __repr__(self) -> str:
        return f"Slotted({self.token})"


User = collections.namedtuple("User", ["name", "password"])


@pytest.mark.parametrize(
    "value",
    [
        [("password", "s3cret-1")], ["--password", "s3cret-1"], User("me", "s3cret-1"), Slotted(), [Slotted()],
        collections.deque([{"password": "s3cret-1"}]), {"password": "s3cret-1"}.items(), {"sk-As3cret-1s3cret-1s3": 1},
        {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"password": "s3cret-1"}}}}}}}}},
        functools.partial(print, my_field="s3cret-1"), "my_field=s3cret-1",
    ],
    ids=repr,
)  # fmt: skip
def test_secrets_in_what_a_slot_holds(value: Any) -> None:
    """In pairs, options, fields, slots and keys, however deep, and by the names that the user gives."""
    said = json.dumps(outlines({"model.x": value}, searched=(), secrets={"my_field"}))
    assert LEFT_OUT in said
    assert "s3cret" not in said
