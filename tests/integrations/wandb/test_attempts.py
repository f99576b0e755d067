"""Which rows the W&B run of a trial has after several attempts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from run_file import read_runs
from tunehook.record.journal import Journal
from tunehook.trial.values import Decision, Trial
from wandb_server import online, serving

pytest.importorskip("wandb")

import tunehook as th
from tunehook.integrations.wandb import WandbRecorder
from tunehook.integrations.wandb import sync as wandb_sync


class Judge:
    """Lets a trial train."""

    def report(self, *_: Any) -> Decision:
        """Go on."""
        return Decision()

    def tell(self, *_: Any) -> None:
        """Nothing is kept."""


def make_session(folder: Path, attempt: int, recorder: WandbRecorder, **options: Any) -> th.TrialSession:
    """A session of an attempt."""
    key = "0000-12345678"
    trial = Trial("s", attempt, {"x": 1}, folder / "study" / f"trial-{attempt:04d}", "v", "min", attempt, key)
    Journal(trial.folder).begin(trial)
    return th.TrialSession(trial, Judge(), recorders=[recorder], **options)


def train(
    folder: Path, attempt: int, *, until: int, kept: int | None = None, before: Callable[[], object] = lambda: None
) -> None:
    """An attempt that goes on from a checkpoint, if there is one, and is interrupted or trained to its end."""
    recorder = WandbRecorder("p", mode="offline", dir=folder / "runs", lean=True, study_run=False)
    session = make_session(folder, attempt, recorder, keeps_checkpoints=True)
    before()
    session.begin([th.inject.Slot("x", get=lambda: 1, set=lambda _: None)])
    session.ready()
    found = session.continuation.find()
    if found is not None:
        session.go_on(found)
    for step in range(session.step + 1, until + 1):
        session.report(step, {"v": float(10 * attempt + step)})
        if step == kept:
            session.keep_checkpoint(lambda folder: None)
    session.end(None if until == 6 else KeyboardInterrupt())


@pytest.mark.slow
def test_the_fragments_of_a_run_have_each_step_once(tmp_path: Path) -> None:
    """Offline each attempt is a fragment; the last one has what no earlier one had."""
    train(tmp_path, 0, until=4, kept=2)
    train(tmp_path, 1, until=2)
    train(tmp_path, 2, until=6)
    runs = read_runs(tmp_path / "runs")
    assert len({run.id for run in runs}) == 1
    assert [run.column("trial/step") for run in runs] == [[1, 2, 3, 4], [], [5, 6]]
    assert runs[-1].column("v") == [25.0, 26.0]
    assert runs[-1].summary["best/v"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("ids", "steps"), [(("mine", "mine"), [3, 4, 5, 6]), (("one", "two"), [1, 2, 3, 4, 5, 6])])
def test_a_run_of_the_training_gets_what_it_has_not(tmp_path: Path, ids: tuple[str, str], steps: list[int]) -> None:
    """The same run once more the steps behind the checkpoint; a new one all of them."""
    wandb = pytest.importorskip("wandb")

    def begin(name: str) -> None:
        wandb.init(project="p", id=name, mode="offline", dir=tmp_path / "runs")

    for attempt, until in enumerate((4, 6)):
        train(tmp_path, attempt, until=until, kept=2, before=functools.partial(begin, ids[attempt]))
    first, second = read_runs(tmp_path / "runs")
    assert first.column("trial/step") == [1, 2, 3, 4]
    assert second.column("trial/step") == steps
    assert second.exit_code == 0


class Killed(KeyboardInterrupt):
    """In the middle of an attempt."""


def train_fits(session: th.TrialSession, killed_at: int | None, before: Callable[[], object] = lambda: None) -> None:
    """Two fits of two steps, with a snapshot and a report at each, interrupted before one of these."""
    left = iter(range(killed_at if killed_at is not None else 100))

    def go_on() -> None:
        if next(left, None) is None:
            raise Killed

    try:
        before()
        for _ in range(2):
            session.begin([th.inject.Slot("x", get=lambda: 1, set=lambda _: None)])
            session.ready()
            for step in range(3):
                go_on()
                session.snapshot(step, lambda: ({"w": np.ones(4)}, None))
                if step:
                    go_on()
                    session.report(session.step + 1, {"v": 1.0})
    except Killed as error:
        session.end(error)
    else:
        session.end()


# The step of the report before, and that of the snapshot, of the rows of an attempt that is not interrupted.
ROWS = [(0, 0), (0, 1), (1, None), (1, 2), (2, None), (2, 0), (2, 1), (3, None), (3, 2), (4, None)]


def places(rows: list[dict[str, Any]]) -> list[tuple[int, int | None]]:
    """The same of the rows of a run."""
    return [(row["trial/step"], row.get("snapshot/step")) for row in rows]


@pytest.mark.parametrize("kills", [(), (1,), (5,), (6,), (1, 7), (8, 3)])
def test_a_run_has_each_row_of_all_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: tuple[int, ...]
) -> None:
    """Whether an attempt was interrupted before its first report or in its second fit; the upload makes the same."""
    monkeypatch.setattr(wandb_sync, "SETTLED", 0.0)  # this process, which has trained, lives
    with serving() as server, online(server, tmp_path):
        for attempt, killed_at in enumerate([*kills, None]):
            recorder = WandbRecorder("p", lean=True, study_run=False)
            session = make_session(tmp_path, attempt, recorder, snapshots=th.SnapshotPlan(every=1))
            train_fits(session, killed_at)
            assert recorder._here.line.writer.drain(60)
        (live,) = server.runs.values()
        assert places(live.rows) == ROWS
        server.runs.clear()
        told: list[wandb_sync.Synced] = []
        for _ in range(2):
            wandb_sync.sync(tmp_path / "study", told.append)
        assert [(each.state, each.rows) for each in told] == [("uploaded", len(ROWS)), ("complete", 0)]
        (uploaded,) = server.runs.values()
        assert places(uploaded.rows) == ROWS


@pytest.mark.parametrize(("ids", "steps"), [(("mine", "mine"), ROWS[1:]), (("one", "two"), ROWS)])
def test_a_run_of_the_training_gets_its_first_snapshot_once(
    tmp_path: Path, ids: tuple[str, str], steps: list[tuple[int, int | None]]
) -> None:
    """An attempt that ended before its first report has made one, which a new run has not."""
    wandb = pytest.importorskip("wandb")
    for attempt, killed_at in enumerate((1, None)):
        recorder = WandbRecorder("p", mode="offline", dir=tmp_path / "runs", lean=True, study_run=False)
        session = make_session(tmp_path, attempt, recorder, snapshots=th.SnapshotPlan(every=1))
        init = functools.partial(wandb.init, project="p", id=ids[attempt], mode="offline", dir=tmp_path / "runs")
        train_fits(session, killed_at, before=init)
    _, second = read_runs(tmp_path / "runs")
    rows = [(row["trial/step"], row.get("trial/snapshot/step")) for row in second.rows]
    assert rows == steps
