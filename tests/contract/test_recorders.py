"""What every recorder owes to a session, and a session to every recorder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages import InMemoryStorage
from rich.console import Console

import tunehook as th
from tunehook.launch.progress import Progress
from tunehook.record import Journal, Recorder, check_recorder, read_journal
from tunehook.record.recorder import MEMBERS, offers
from tunehook.session import settle
from tunehook.snapshot import Snapshot
from tunehook.trial import Budget, Decision, Outcome, Trial
from tunehook.trial.objective import State

BASE = ["open", "report", "close", "where"]
KEY = "0000-12345678"


class Fake:
    """A recorder that can do everything, and keeps what it was told."""

    best_checkpoint = True

    def __init__(self) -> None:
        self.told: list[Any] = []

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        self.told.append(("open", trial.number))

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self.told.append(("report", step))

    def close(self, outcome: Outcome) -> None:
        self.told.append(("close", outcome.state))

    def where(self) -> str | None:
        return "memory"

    def wants_stop(self) -> str | None:
        self.told.append("wants_stop")
        return None

    def snapshot(self, step: int, snapshot: Snapshot) -> None:
        self.told.append(("snapshot", step, snapshot.step))

    def has_reports(self, taken: int, made: int) -> int:
        self.told.append(("has_reports", taken, made))
        return -1

    def wait(self) -> None:
        self.told.append("wait")

    def update(self, study: th.Study, *, is_last: bool) -> None:
        self.told.append(("update", is_last))


def make_table(folder: Path) -> Recorder:
    """The table of `study.optimize`, on no screen."""
    return Progress(a_study(folder), total=3, console=Console(file=StringIO()))


def make_wandb(folder: Path) -> Recorder:
    """Weights & Biases without a network."""
    pytest.importorskip("wandb")
    from tunehook.integrations.wandb import WandbRecorder

    return WandbRecorder("digits", mode="offline", dir=folder, lean=True)


MAKE: dict[str, tuple[Callable[[Path], Recorder], set[str]]] = {
    "fake": (lambda _: Fake(), {*MEMBERS.values()}),
    "table": (make_table, set()),
    "wandb": (make_wandb, {*MEMBERS.values()}),
}


@pytest.fixture(params=MAKE)
def name(request: pytest.FixtureRequest) -> str:
    """Which recorder."""
    return str(request.param)


@pytest.fixture
def recorder(name: str, tmp_path: Path) -> Recorder:
    """The recorder."""
    return MAKE[name][0](tmp_path)


def a_study(folder: Path, *recorders: Recorder) -> th.Study:
    """A study in memory."""
    return th.Study("digits", {"lr": th.Float(0, 1)}, metric="acc", mode="max", search="random", folder=folder / "s",
                    storage=InMemoryStorage(), recorders=recorders)  # fmt: skip


@dataclass
class Judge:
    """Lets every trial train, and notes its end."""

    told: list[Outcome] = field(default_factory=list)

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        return Decision()

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        self.told.append(outcome)


def begun(judge: Judge, *recorders: Recorder, attempt: int = 0, number: int | None = None) -> th.TrialSession:
    """A session that is not ready yet."""
    number = attempt if number is None else number
    trial = Trial("digits", number, {"lr": 0.5}, Path("study", f"trial-{number:04d}"), "acc", "max", attempt, KEY)
    Journal(trial.folder).begin(trial)
    return th.TrialSession(trial, judge, recorders=recorders, snapshots=th.SnapshotPlan(every=1))


def train(session: th.TrialSession, steps: int = 2, *, raises: BaseException | None = None) -> None:
    """A training by hand."""
    weights = {"w": np.arange(4.0)}
    session.ready()
    session.snapshot(0, lambda: (weights, {}))
    for step in range(1, steps + 1):
        session.report(step, {"acc": step / 10, "loss": float("nan")})
        session.log({"beside": 1.0})
        session.snapshot(step, lambda: (weights, {}))
    session.end(raises)
    settle(session)


def left_out(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Which recorders have failed, by what was logged."""
    return [message for record in caplog.records if "is left out" in (message := record.getMessage())]


def test_it_is_a_recorder(name: str, recorder: Recorder, tmp_path: Path) -> None:
    """A study takes it, and it can do what is said of it."""
    check_recorder(recorder)
    assert a_study(tmp_path, recorder).recorders == [recorder]
    assert {member for ability, member in MEMBERS.items() if offers(recorder, ability)} == MAKE[name][1]


def test_it_serves_one_trial_after_the_other(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever ends them, with measurements and without."""
    ends: list[tuple[int, BaseException | None, State]] = [
        (2, None, "complete"), (0, ValueError("bad"), "failed"), (1, KeyboardInterrupt(), "interrupted"),
        (0, None, "failed"), (2, None, "complete"),
    ]  # fmt: skip
    judge = Judge()
    for number, (steps, raises, _) in enumerate(ends):
        train(begun(judge, recorder, number=number), steps, raises=raises)
        place = recorder.where()
        assert place is None or isinstance(place, str)
    assert [outcome.state for outcome in judge.told] == [state for _, _, state in ends]
    assert left_out(caplog) == []


def test_the_order_of_calls() -> None:
    """It is that of the protocol, with what a recorder can do besides in its place."""
    fake = Fake()
    train(begun(Judge(), fake), steps=1)
    assert fake.told == [
        ("open", 0), ("snapshot", 0, 0), ("report", 1), "wants_stop", ("report", 1), ("snapshot", 1, 1),
        ("close", "complete"), "wait",
    ]  # fmt: skip
    fake.told.clear()
    train(begun(Judge(), fake, attempt=1), steps=0)
    assert fake.told[:3] == [("open", 1), ("has_reports", 0, 2), ("snapshot", 0, 0)]


CALLS = [*BASE[1:3], *(member for member in MEMBERS.values() if member != "best_checkpoint")]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails(
    call: str, name: str, recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It is told once and left out; the training, the judge and the other recorders hear of nothing."""
    if call not in BASE and call not in MAKE[name][1]:
        pytest.skip(f"it has no {call}")

    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left")

    other, judge = Fake(), Judge()
    with monkeypatch.context() as patch:
        patch.setattr(recorder, call, fail)
        if call == "update":
            study = a_study(tmp_path, recorder, other)
            study.lead.show()
            study.lead.show(is_last=True)
            assert other.told == [("update", False), ("update", True)]
            lines = [record.getMessage() for record in caplog.records]
            assert lines == [f"{type(recorder).__name__} does not show study digits any more: OSError('no space left')"]
            return
        train(begun(judge, recorder, other, attempt=1))
    assert [outcome.state for outcome in judge.told] == ["complete"]
    assert other.told.count(("close", "complete")) == 1
    (said,) = left_out(caplog)
    assert said.startswith(f"{type(recorder).__name__} failed and is left out from here on: OSError('no space left')")
    problems = [event["text"] for event in read_journal(Path("study/trial-0001/journal.jsonl"))
                if event["event"] == "problem"]  # fmt: skip
    assert problems == [said.partition(". The journal")[0]]
    recorder.close(judge.told[0])  # what is open is closed by nobody else
    train(begun(judge, recorder, number=2))
    assert left_out(caplog) == [said]


def test_an_open_that_fails_ends_the_trial(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it trains: a record that is wanted and cannot be begun is a mistake to mend."""

    def fail(*_: object, **__: object) -> None:
        raise ValueError("no such project")

    other, judge = Fake(), Judge()
    with monkeypatch.context() as patch:
        patch.setattr(recorder, "open", fail)
        session = begun(judge, other, recorder)
        with pytest.raises(ValueError, match="no such project") as caught:
            session.ready()
        session.end(caught.value)
    assert other.told == [("open", 0), ("close", "failed")]
    train(begun(judge, recorder, number=1))
    assert [outcome.state for outcome in judge.told] == ["failed", "complete"]


def test_what_it_can_do_besides(recorder: Recorder, tmp_path: Path) -> None:
    """Each answers what its protocol says, also where no trial is open."""
    abilities = {member: getattr(recorder, member, None) for member in MEMBERS.values()}
    study = a_study(tmp_path, recorder)
    session = begun(Judge(), recorder)
    for _ in range(2):
        if stops := abilities["wants_stop"]:
            assert stops() is None
        if has := abilities["has_reports"]:
            assert -1 <= has(1, 3) <= 3
        if update := abilities["update"]:
            update(study, is_last=False)
            update(study, is_last=True)
        assert abilities["best_checkpoint"] in (None, True, False)
        session.ready()
    session.report(1, {"acc": 1.0})
    session.end()
    if wait := abilities["wait"]:
        wait()
        wait()
