"""Nothing is lost and nothing trained in vain: studies that pause, whose processes are killed at random moments."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pause_study
from pause_study import EPOCHS, RUNGS, trained
from postgres import serving
from tunehook.record.journal import read_journal
from tunehook.system import is_alive
from waiting import PATIENCE

pytestmark = pytest.mark.slow

MANY = 60
MOST = 10  # kills


@pytest.fixture
def storage() -> Iterator[str]:
    """A database server."""
    with serving() as server:
        yield server.get_uri()


def start(storage: str, host: int) -> subprocess.Popen[bytes]:
    """A process that leads two trial processes, as if on a machine of its own; both see one folder."""
    given = {"PAUSE_SLEEP": "0.01", "PAUSE_STORAGE": storage, "PAUSE_HOST": f"host-{host}"}
    command = [sys.executable, "-W", "ignore", pause_study.__file__]
    with said(host).open("ab") as file:
        return subprocess.Popen(command, env={**os.environ, **given}, stderr=file)


def said(host: int) -> Path:
    """What the processes of a machine wrote."""
    return Path(f"host-{host}.txt")


def running() -> list[int]:
    """The trial processes that run."""
    newest = sorted(Path("study").glob("*/journal.jsonl"), key=lambda path: path.stat().st_mtime)[-6:]
    named = [event for path in newest for event in read_journal(path) if event["event"] == "process"]
    return [event["pid"] for event in named if is_alive(event["pid"], since=event["time"])]


def test_chaos(storage: str) -> None:
    """Two machines: each value comes to each rung once, and what is trained twice is what kills have taken back."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(10_000))
    print(f"CHAOS_SEED={seed} repeats it")  # shown where the test fails
    dice, kills = random.Random(seed), 0
    leaders = [start(storage, 0), start(storage, 1)]
    while any(leader.poll() is None for leader in leaders):
        time.sleep(dice.uniform(0.1, 0.4))
        number, there = dice.randrange(2), running()
        if kills < MOST and there and dice.random() < 0.05:
            leaders[number].kill()
            leaders[number].wait(timeout=PATIENCE)
            leaders[number] = start(storage, number)
            kills += 1
        elif kills < MOST and there:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(dice.choice(there), signal.SIGKILL)
                kills += 1
    for host, leader in enumerate(leaders):
        assert leader.returncode == 0, said(host).read_text()[-5000:]
    study = pause_study.study(storage=storage)
    counts = study.counts()
    print(kills, counts)
    assert set(counts) == {"paused", "complete", "pruned", "interrupted"}  # some were left behind
    assert sum(counts.values()) - counts["interrupted"] == study.finished == MANY
    ended: dict[int, Any] = {}
    taken_back: Counter[int] = Counter()  # epochs, by value
    for trial in study.trials:
        events = read_journal(study.paths.journal(trial.number))
        reports = [event["step"] for event in events if event["event"] == "report"]
        if trial.outcome.state == "interrupted":
            taken_back[trial.params["x"]] += max(reports, default=0) + 1  # one more was trained, not reported
        else:
            assert trial.params["x"] not in ended
            ended[trial.params["x"]] = trial
    assert sorted(ended) == [*range(MANY)]
    for x, steps in trained().items():
        last = EPOCHS if ended[x].outcome.state == "complete" else max(steps)
        assert last in (*RUNGS, EPOCHS)
        assert set(steps) == {*range(1, last + 1)}
        assert len(steps) - last <= taken_back[x]
    there = [sum(max(steps) > rung for steps in trained().values()) for rung in RUNGS]
    assert there[0] >= MANY / 3
    assert there[1] >= there[0] / 3
    assert not study.lead.goes_on
    study._ledger.kept._backend._backend.engine.dispose()  # type: ignore[attr-defined]
