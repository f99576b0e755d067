"""A fault at each call that changes a file, as SQLite's own tests have it; then the study is started once more.

Nothing is lost, nothing is trained twice but what the fault took, and journals and storage agree. A sample of the calls
is tried: as many as ``TUNEHOOK_TEST_FAULTS`` says, or with ``all`` (``make faults``) each.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import faults_study
from agreement import check_runs, check_upload
from faults import COMPILER, HOUR, Faults, Run, after_power_loss, calls
from tunehook.record.journal import read_journal
from tunehook.study.restoring import NOTHING

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")]

SAMPLE = os.environ.get("TUNEHOOK_TEST_FAULTS", "6")
ROOT = Path("root")
STEP = 1021  # bytes: a prime number, so that writes of any length are cut off anywhere


@pytest.fixture(scope="module")
def faults() -> Iterator[Faults]:
    """A process that forks for each fault."""
    made = Faults(Path(faults_study.__file__), "faults_warm")
    yield made
    made.close()


def chosen(count: int, *, every: int = 1) -> list[int]:
    """The calls that are tried: the same in each run of the tests, so that one that fails failed for its change."""
    numbers = range(1, count + 1, every)
    return [*numbers] if SAMPLE == "all" else sorted(random.Random(0).sample(numbers, min(int(SAMPLE), len(numbers))))


@contextmanager
def told(failures: list[Exception], what: str) -> Iterator[None]:
    """Go on to the next fault, and keep what failed at this one."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each is raised in the end
        error.add_note(what)
        failures.append(error)


def clear() -> None:
    """A new folder, in which nothing has been trained."""
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir()
    Path("trained").write_text("")


def trained() -> Counter[str]:
    """How often each value was trained to its end."""
    return Counter(Path("trained").read_text().split("\n")[:-1])


def recorded() -> set[str]:
    """The values of which a journal says that their trial is complete."""
    found = set()
    for path in (ROOT / "study").glob("*/journal.jsonl"):
        if b'"state": "complete"' in (text := path.read_bytes()) and text.endswith(b"\n"):
            found.add(f"trained {json.loads(text.splitlines()[0])['params']['x']}")
    return found


def check_first(run: Run, kind: str) -> None:
    """A study that says it is done is; else the last words are an error of ours, or what the user did."""
    if run.code == 0:
        assert len(recorded()) == faults_study.VALUES, run.said
    elif kind == "kill":
        assert run.code == -9, run.said
    elif kind == "interrupt":
        is_done = len(recorded()) == faults_study.VALUES  # Python handles no signal any more as it ends
        assert is_done or run.said.rstrip().endswith("KeyboardInterrupt"), run.said
    else:
        assert re.search(r"^tunehook\.\S*Error: ", run.said, re.MULTILINE), run.said


def check_second(run: Run, done: set[str], before: Counter[str], *, at_once: int) -> None:
    """All is complete, once each, and its records agree.

    A trial whose process alone was killed is trained once more within the first run.
    """
    assert run.code == 0, run.said
    now = trained()
    assert all(now[value] == before[value] for value in done)
    assert sum(count > 1 for count in now.values()) <= at_once
    assert set(now) | done == {f"trained {value}" for value in range(faults_study.VALUES)}
    assert all(count <= before[value] + 1 for value, count in now.items())
    study = faults_study.study()
    complete = [trial for trial in study.trials if trial.outcome.state == "complete"]
    assert sorted(trial.params["x"] for trial in complete) == [*range(faults_study.VALUES)]
    assert {trial.outcome.state for trial in study.trials} <= {"complete", "interrupted"}
    for trial in study.trials:
        events = [*read_journal(study.paths.journal(trial.number))]
        if not events:  # its first line could not be written, so it never began, or was lost, and a later one's not
            assert trial.outcome == NOTHING or trial.outcome.reason.startswith("The journal "), trial
            continue
        kinds = Counter(event["event"] for event in events)
        assert (kinds["begin"], kinds["end"]) == (1, 1), (trial, events)
        assert (events[-1]["event"], events[-1]["state"]) == ("end", trial.outcome.state)
        if trial.outcome.state == "complete":
            assert [event["step"] for event in events if event["event"] == "report"] == [1, 2, 3]
            assert events[-1]["value"] == trial.value


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["kill", "interrupt", "eio", "full"])
def test_a_fault_at_each_call(
    faults: Faults, kind: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call it is, a second start makes everything good."""
    monkeypatch.chdir(tmp_path)
    clear()
    root = ROOT.absolute()
    count = faults.run(root, [str(workers)]).calls
    assert count > 30
    tried, failures = chosen(count), list[Exception]()
    for at in tried:
        clear()
        first = faults.run(root, [str(workers)], at=at, kind=kind)
        done, before = recorded(), trained()
        with told(failures, f"{kind} at call {at} of {count}, {workers} workers:\n{first.said}"):
            check_first(first, kind)
            check_second(faults.run(root, [str(workers)]), done, before, at_once=max(workers, 1))
    print(f"{kind}, {workers} workers: {len(tried)} of {count} calls tried")
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(tried)} failed", failures)


@pytest.mark.parametrize("workers", [0, 2] if SAMPLE == "all" else [0])
@pytest.mark.parametrize("kind", ["kill", "interrupt", "eio", "full"])
def test_the_runs_of_wandb_agree(
    faults: Faults, kind: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each sixth of the calls that are tried: what no run holds to its end, `tunehook sync` uploads."""
    monkeypatch.chdir(tmp_path)
    clear()
    root, steps = ROOT.absolute(), range(1, 4)
    count = faults.run(root, [str(workers)]).calls
    tried, failures = chosen(count)[3::6], list[Exception]()
    for at in tried:
        for folder in ("wandb", "chosen", "uploaded"):
            shutil.rmtree(folder, ignore_errors=True)
        clear()
        first = faults.run(root, [str(workers), "wandb"], at=at, kind=kind)
        done, before = recorded(), trained()
        with told(failures, f"{kind} at call {at} of {count}, {workers} workers:\n{first.said}"):
            check_second(faults.run(root, [str(workers), "wandb"]), done, before, at_once=max(workers, 1))
            complete = [one.number for one in faults_study.study().trials if one.outcome.state == "complete"]
            if cut_off := check_runs(ROOT / "study", complete, steps):
                check_upload(ROOT / "study", cut_off, steps)
    print(f"{kind}, {workers} workers, with W&B: {len(tried)} of {count} calls tried")
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(tried)} failed", failures)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_of_each_size(faults: Faults, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an empty one to one that is large enough; with room a second start makes everything good."""
    monkeypatch.chdir(tmp_path)
    clear()
    root = ROOT.absolute()
    enough = faults.run(root, [str(workers)]).taken
    assert enough > 50_000
    sizes = [0, *(size - 1 for size in chosen(enough, every=STEP))]
    failures = list[Exception]()
    for size in sizes:
        clear()
        first = faults.run(root, [str(workers)], room=size)
        done, before = recorded(), trained()
        with told(failures, f"room for {size} of {enough} bytes, {workers} workers:\n{first.said}"):
            check_first(first, "full")
            check_second(faults.run(root, [str(workers)]), done, before, at_once=max(workers, 1))
    print(f"{workers} workers: {len(sizes)} sizes from 0 to {enough} bytes tried")
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(sizes)} failed", failures)


@pytest.mark.parametrize("kind", ["ahead", "behind"])
def test_the_clock_is_set_at_each_call(
    faults: Faults, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an hour, while two workers train: each trial is trained once, and the study is done at its first start."""
    monkeypatch.chdir(tmp_path)
    clear()
    root = ROOT.absolute()
    count = faults.run(root, ["2"]).calls
    tried, failures = chosen(count), list[Exception]()
    for at in tried:
        clear()
        first = faults.run(root, ["2"], at=at, kind=kind)
        with told(failures, f"{kind} at call {at} of {count}:\n{first.said}"):
            check_second(first, set(), Counter(), at_once=0)
            ends = [[*read_journal(path)][-1]["time"] for path in (ROOT / "study").glob("*/journal.jsonl")]
            assert at > count / 2 or max(abs(end - time.time()) for end in ends) > HOUR / 2
    print(f"{kind}, 2 workers: {len(tried)} of {count} calls tried")
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(tried)} failed", failures)


@pytest.mark.parametrize("workers", [0, 2])
def test_power_fails_at_each_sync(
    faults: Faults, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not synced is gone; what is on the disk is enough to go on."""
    monkeypatch.chdir(tmp_path)
    clear()
    root, log = ROOT.absolute(), tmp_path / "log"
    assert faults.run(root, [str(workers)], log=log).code == 0
    syncs = [number for number, call in enumerate(calls(log), 1) if call.name == "sync"]
    tried, failures = chosen(len(syncs)), list[Exception]()
    for index in tried:
        clear()
        after_power_loss(log, syncs[index - 1], root, root)
        done = recorded()
        with told(failures, f"power fails at sync {index} of {len(syncs)}, {workers} workers"):
            check_second(faults.run(root, [str(workers)]), done, Counter(), at_once=0)
    print(f"{workers} workers: {len(tried)} of {len(syncs)} syncs tried")
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(tried)} failed", failures)
