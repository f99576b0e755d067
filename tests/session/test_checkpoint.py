"""What an interrupted trial goes on from: the pace, whole or nothing on disk, and what a session takes over."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch

import tunehook as th
from tunehook.inject.slot import Slot
from tunehook.record.journal import Journal, read_journal
from tunehook.session.checkpoints import CheckpointError, Checkpoints, Pace
from tunehook.session.in_progress import active
from tunehook.system.randomness import generator_states, restore_generators
from tunehook.trial.values import Budget, Decision, Outcome, Trial


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("cost", [0.01, 0.3, 2.0])
def test_the_pace_takes_one_percent_and_no_less(cost: float) -> None:
    """Of a training with epochs of one second; a kill takes away a hundred times what a checkpoint costs, at most."""
    clock = Clock()
    pace = Pace(clock=clock)
    spent, saved, gaps = 0.0, clock.now, []
    for _ in range(2000):
        clock.now += 1.0
        if pace.is_due(size=0):
            gaps.append(clock.now - saved)
            with pace.measure():
                clock.now += cost
            spent, saved = spent + cost, clock.now
        assert spent <= 0.01 * (clock.now - 100.0 - spent) + cost  # the first one's cost is not known before
    assert spent == pytest.approx(min(2000 * cost, 0.01 * 2000), abs=cost)
    assert gaps[1] <= 200 * cost + 2.0  # it makes up for the first one too
    assert max(gaps[2:]) <= 100 * cost + 2.0


def test_the_first_one_comes_when_it_is_likely_to_be_worth_it() -> None:
    """A tiny model after half a second, one of a gigabyte after some minutes."""
    clock = Clock()
    pace = Pace(clock=clock)
    clock.now += 0.45
    assert not pace.is_due(size=1000)
    clock.now += 0.1
    assert pace.is_due(size=1000)
    assert not pace.is_due(size=2**30)
    clock.now += 500
    assert pace.is_due(size=2**30)


def test_one_that_fails_costs_too() -> None:
    """Else a disk that is full would be tried after each epoch."""
    clock = Clock()
    pace = Pace(clock=clock)
    clock.now += 1.0

    def fail() -> None:
        with pace.measure():
            clock.now += 1.0
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    clock.now += 90.0
    assert not pace.is_due(size=0)


def make_trial(folder: Path, attempt: int = 0, **params: Any) -> Trial:
    """An attempt of one trial."""
    key = "0000-12345678"
    return Trial("s", attempt, {"x": 0.1, **params}, folder / f"trial-{attempt:04d}", "v", "min", attempt, key)


def record(trial: Trial, steps: int) -> None:
    """Write the journal of a trial with so many reports."""
    journal = Journal(trial.folder)
    journal.begin(trial)
    for step in range(1, steps + 1):
        journal.report(step, {"v": float(step)})
    journal.close()


def save(trial: Trial, write: Callable[[Path], None], *, step: int, reports: int) -> None:
    """Keep a checkpoint, as the session of the trial does."""
    journal = Journal(trial.folder)
    try:
        Checkpoints(trial).save(write, step=step, reports=reports, journal=journal)
    finally:
        journal.close()


def write(text: str) -> Callable[[Path], None]:
    """Writes a file."""

    def write_one(folder: Path) -> None:
        (folder / "file").write_text(text)

    return write_one


def test_the_newest_one_is_found_by_later_attempts(hostile: Path) -> None:
    """With the reports up to there; the ones before it are gone."""
    first = make_trial(hostile)
    record(first, 5)
    for step in (1, 2, 3):
        save(first, write(f"after {step}"), step=step, reports=step)
    found = Checkpoints(make_trial(hostile, 1)).find()
    assert found is not None
    assert (found.folder / "file").read_text() == "after 3"
    assert (found.progress.trial, found.progress.attempt, found.progress.step) == (0, 0, 3)
    assert [report.metrics for report in found.reports] == [{"v": 1.0}, {"v": 2.0}, {"v": 3.0}]
    assert len([*(hostile / "checkpoints" / first.key).iterdir()]) == 1
    assert Checkpoints(first).find() is None  # a first attempt begins
    Checkpoints(first).discard()
    assert not (hostile / "checkpoints").exists()


def test_one_with_a_link_has_no_size(tmp_path: Path) -> None:
    """It cannot be gone on from, so a trial is not paused in its favor, and nothing raises."""
    first = make_trial(tmp_path)
    record(first, 5)
    save(first, write("whole"), step=1, reports=1)
    checkpoints = Checkpoints(first)
    assert checkpoints.size > 5
    (folder,) = (tmp_path / "checkpoints" / first.key).iterdir()
    (folder / "more").symlink_to(tmp_path)
    assert checkpoints.size == 0


def test_one_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    """Whatever goes wrong while it is written."""
    first = make_trial(tmp_path)
    record(first, 5)
    save(first, write("whole"), step=1, reports=1)

    def fail(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        save(first, fail, step=2, reports=2)
    found = Checkpoints(make_trial(tmp_path, 1)).find()
    assert found is not None
    assert (found.folder / "file").read_text() == "whole"
    assert len([*found.folder.parent.iterdir()]) == 1


def test_an_attempt_that_was_taken_for_lost_disturbs_no_later_one(tmp_path: Path) -> None:
    """It may still be running, and saves once more."""
    first, second = make_trial(tmp_path), make_trial(tmp_path, 1)
    for trial in (first, second):
        record(trial, 5)
    save(first, write("first"), step=1, reports=1)
    save(second, write("second"), step=2, reports=2)
    save(first, write("late"), step=3, reports=3)
    found = Checkpoints(make_trial(tmp_path, 2)).find()
    assert found is not None
    assert (found.folder / "file").read_text() == "second"
    assert found.progress.trial == 1


@pytest.mark.parametrize("damage", ["values", "progress", "journal"])
def test_one_that_cannot_be_used_is_an_error(tmp_path: Path, damage: str) -> None:
    """Made with other values, cut, or without the journal that belongs to it."""
    first = make_trial(tmp_path)
    record(first, 5)
    save(first, write("whole"), step=3, reports=3)
    later = make_trial(tmp_path, 1, **({"x": 0.2} if damage == "values" else {}))
    if damage == "progress":
        (file,) = tmp_path.rglob("progress.json")
        file.write_text(file.read_text()[:20])
    elif damage == "journal":
        (first.folder / "journal.jsonl").unlink()
    text = {"values": "made with other values", "progress": "cannot be read", "journal": "not all of its reports"}
    with pytest.raises(CheckpointError, match=text[damage]):
        Checkpoints(later).find()


@pytest.mark.parametrize("damage", ["bit", "swapped", "added", "line", "journal", "owner"])
def test_one_that_was_changed_is_not_read(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the disk or by someone: its files are not those whose digest the journal of this user has."""
    first = make_trial(tmp_path)
    record(first, 5)
    save(first, write("whole"), step=3, reports=3)
    (file,) = tmp_path.glob("checkpoints/*/*/file")
    journal = first.folder / "journal.jsonl"
    text = "has no digest" if damage == "journal" else "are not those that were written"
    if damage == "bit":
        whole = bytearray(file.read_bytes())
        whole[2] ^= 1
        file.write_bytes(whole)
    elif damage == "swapped":
        other = make_trial(tmp_path / "other")
        record(other, 5)
        save(other, write("mine"), step=3, reports=3)
        (theirs,) = tmp_path.glob("other/checkpoints/*/*")
        shutil.rmtree(file.parent)
        shutil.copytree(theirs, file.parent)
    elif damage == "added":
        (file.parent / "more").write_text("")
    elif damage == "line":
        lines = [line for line in journal.read_text().splitlines(keepends=True) if '"saved"' not in line]
        journal.write_text("".join(lines))
        text = "has no digest"
    elif damage == "journal":
        journal.write_text(journal.read_text().replace('"digest": "', '"digest": "0'))
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can give a file to another user")
        os.chown(journal, 65534, 65534)
        text = "belongs to another user"
    with pytest.raises(CheckpointError, match=text):
        Checkpoints(make_trial(tmp_path, 1)).find()


class Notes:
    """A recorder that notes what it is told; one whose record goes on over attempts says what it has."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.rows: list[tuple[int, int]] = []

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        """A record for each attempt."""
        self.opened.append(trial.attempt)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note the row of an attempt."""
        self.rows.append((self.opened[-1], step))

    def close(self, outcome: Outcome) -> None:
        """Nothing."""

    def where(self) -> None:
        """Nowhere."""


class OneRun(Notes):
    """All attempts in one."""

    def has_reports(self, taken: int, made: int) -> int:
        """What earlier attempts have made."""
        return made


def train(kept: int | None = None, dies: int | None = None, steps: int = 6) -> None:
    """Training by hand: a checkpoint after some steps of the first attempt, which is interrupted then."""
    session = active()
    assert session is not None
    place = {"x": 0.0}
    session.begin([Slot("x", get=lambda: place["x"], set=lambda value: place.update(x=value))])
    session.budget = Budget(steps)
    session.ready()
    found = session.continuation.find()
    if found is not None:
        session.go_on(found)
    for step in range(session.step + 1, steps + 1):
        session.report(step, {"v": 10.0 - step})
        session.log({"beside": float(step)})
        if step == kept and session.trial.attempt == 0:
            session.keep_checkpoint(write("checkpoint"))
        if step == dies and session.trial.attempt == 0:
            raise KeyboardInterrupt


def optimize(study: th.Study, training: Callable[[], None], **options: Any) -> None:
    """Search, and start the script again where it is interrupted."""
    for _ in range(2):
        try:
            study.optimize(training, trials=1, progress=False, **{"retries": 2, **options})
        except KeyboardInterrupt:
            continue
        return


def study(folder: Path, **options: Any) -> th.Study:
    """A study of nothing."""
    storage = optuna.storages.InMemoryStorage()
    space = {"x": th.Choice([0.1])}
    return th.Study("s", space, metric="v", mode="min", search="random", folder=folder, storage=storage, **options)


def test_what_lies_before_the_checkpoint_is_taken_over(tmp_path: Path) -> None:
    """By the journal, Optuna and the value; a recorder gets each report of its record once."""
    notes, one_run = Notes(), OneRun()
    searched = study(tmp_path, recorders=[notes, one_run], objective=3)
    optimize(searched, lambda: train(kept=2, dies=4))
    whole = study(tmp_path / "whole", objective=3)
    optimize(whole, train)
    assert [trial.outcome.state for trial in searched.trials] == ["interrupted", "complete"]
    assert (searched.best.value, searched.best.outcome.step) == (whole.best.value, whole.best.outcome.step)
    assert searched.optuna.trials[1].intermediate_values == whole.optuna.trials[0].intermediate_values

    events = [*read_journal(searched.paths.journal(1))]
    (told,) = [event for event in events if event["event"] == "continue"]
    assert {name: told[name] for name in ("trial", "attempt", "step", "reports")} == {
        "trial": 0, "attempt": 0, "step": 2, "reports": 4,
    }  # fmt: skip
    steps = [event["step"] for event in events if event["event"] == "report"]
    assert steps == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert [step for attempt, step in notes.rows if attempt == 1] == steps
    assert [step for attempt, step in one_run.rows if attempt == 0] == steps[:8]
    assert [step for attempt, step in one_run.rows if attempt == 1] == steps[8:]


def test_the_stopper_sees_what_was_taken_over(tmp_path: Path) -> None:
    """A rule that looks at measurements before the checkpoint judges as if nothing had happened."""

    class Sixth(optuna.pruners.BasePruner):
        """Stops when there are six measurements."""

        def prune(self, study: Any, trial: Any) -> bool:
            """Count."""
            return len(trial.intermediate_values) >= 6

    searched = study(tmp_path, stopper=Sixth())
    optimize(searched, lambda: train(kept=3, dies=4, steps=9))
    decisions = [event for event in read_journal(searched.paths.journal(1)) if event["event"] == "decision"]
    assert [event["step"] for event in decisions] == [6]
    assert searched.trials[1].outcome.state == "pruned"


def test_a_journal_that_was_cut_by_a_kill_is_recovered_with_what_was_taken_over(tmp_path: Path) -> None:
    """A second attempt that is killed tells the values before its checkpoint too."""
    first, second = make_trial(tmp_path), make_trial(tmp_path, 1)
    record(first, 3)
    save(first, write("checkpoint"), step=2, reports=2)
    searched = study(tmp_path)
    session = th.TrialSession(second, searched, keeps_checkpoints=True)
    Journal(second.folder).begin(second)
    searched.report = lambda *_: Decision()  # type: ignore[method-assign]
    searched.tell = lambda *_: None  # type: ignore[method-assign]
    found = session.continuation.find()
    assert found is not None
    session.go_on(found)
    session._journal.close()  # type: ignore[union-attr]
    outcome = th.TrialSession(second, searched).recover("its process was killed")
    assert (outcome.state, outcome.value, outcome.step) == ("interrupted", 1.0, 1)


def test_generators_of_the_training_are_put_back() -> None:
    """Those of Python, NumPy and torch that an object holds."""

    class Data:
        def __init__(self) -> None:
            self.python, self.numpy = random.Random(1), np.random.default_rng(2)
            self.old, self.torch = np.random.RandomState(3), torch.Generator().manual_seed(4)
            self.other = object()

        def draw(self) -> list[float]:
            """One number of each."""
            torch_one = float(torch.rand((), generator=self.torch))
            return [self.python.random(), float(self.numpy.random()), float(self.old.rand()), torch_one]

    one, two = Data(), Data()
    one.draw()
    states = generator_states([one, None, 3])
    expected = one.draw()
    restore_generators([two], states)
    assert two.draw() == expected
    with pytest.raises(ValueError, match="4 generators of the training's own were kept, and it has 0"):
        restore_generators([], states)
