"""What a recorder is: its methods, what it can do besides, and slips in either."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest

import tunehook as th
from tunehook.record import (
    CanStop,
    KeepsModel,
    OneForAllAttempts,
    Recorder,
    ShowsSnapshots,
    ShowsStudy,
    WritesBeside,
    check_recorder,
)
from tunehook.record.recorder import MEMBERS, offers
from tunehook.session import active
from tunehook.trial import Outcome, Trial


class Plain:
    """A recorder that can do nothing besides."""

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None: ...
    def report(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def close(self, outcome: Outcome) -> None: ...
    def where(self) -> str | None: ...


class Able(Plain):
    """A recorder that can do all."""

    best_checkpoint = True

    def wants_stop(self) -> str | None: ...
    def snapshot(self, step: int, snapshot: object) -> None: ...
    def has_reports(self, taken: int, made: int) -> int:
        return made

    def wait(self, timeout: float | None = None) -> None: ...
    def update(self, study: object, is_last: bool = False) -> None: ...


class Around:
    """A recorder around another one, which has its methods by what Python asks for last."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_what_a_recorder_can_do_besides() -> None:
    """It has the one member of a protocol or not, inherits from none, and ``None`` turns it off."""
    for ability, name in MEMBERS.items():
        assert isinstance(ability, type)
        assert {*vars(ability), *ability.__annotations__} >= {name}
        assert offers(Able(), ability)
        assert offers(Around(Able()), ability)
        assert not offers(Plain(), ability)
        off = Able()
        setattr(off, name, None)
        assert not offers(off, ability)
        check_recorder(off)
    assert isinstance(Able(), Recorder)
    for ability in (CanStop, KeepsModel, OneForAllAttempts, ShowsSnapshots, ShowsStudy, WritesBeside):
        assert isinstance(Able(), ability)
        assert ability in MEMBERS


MOCKS = [MagicMock(), MagicMock(spec=Plain), MagicMock(spec=Able), create_autospec(Able, instance=True)]


@pytest.mark.parametrize("recorder", [Plain(), Able(), Around(Plain()), Around(Able()), *MOCKS])
def test_good_ones(recorder: object) -> None:
    """A study takes them; mocks too, which have whatever one asks for."""
    check_recorder(recorder)


def method(name: str, *arguments: str) -> type:
    """A recorder with one more method, or with another one."""
    space: dict[str, Any] = {}
    exec(f"def {name}({', '.join(('self', *arguments))}): ...", space)  # noqa: S102 - a method by its name
    return type("Mine", (Plain,), {name: space[name]})


def lacking(**others: object) -> type:
    """A recorder without a ``report``."""
    base = {name: member for name, member in vars(Plain).items() if name in ("open", "close", "where")}
    return type("Mine", (), base | others)


BESIDES = "A recorder can also have wants_stop, snapshot, has_reports, wait, update, best_checkpoint."
HAS = "A recorder has the methods open, report, close and where; "
INSTANCES = "\n  Pass instances, such as recorders=[WandbRecorder(project='digits')]."
WRONG: list[tuple[object, str]] = [
    (Plain, f"{HAS}got {Plain!r}.{INSTANCES}"),
    (3, f"{HAS}got 3.{INSTANCES}"),
    (contextlib.nullcontext, f"{HAS}got {contextlib.nullcontext!r}.{INSTANCES}"),
    (lacking()(), f"{HAS}Mine lacks report.\n  Write: def report(self, step, metrics): ..."),
    (lacking(report=None)(), f"{HAS}Mine lacks report.\n  Write: def report(self, step, metrics): ..."),
    (
        lacking(reprot=Plain.report)(),
        f"{HAS}Mine lacks report. Is 'reprot' meant to be 'report'?\n  Write: def report(self, step, metrics): ...",
    ),
    (
        type("Mine", (), {"open": Plain.open, "report": Plain.report})(),
        f"{HAS}Mine lacks close, where.\n  Write: def close(self, outcome): ...; def where(self): ...",
    ),
    (
        method("want_stop")(),
        (
            f"Mine has 'want_stop', which tunehook never calls. Did you mean 'wants_stop'?\n  {BESIDES} "
            "If it is something else, give it another name, such as _want_stop."
        ),
    ),
    (
        type("Mine", (Plain,), {"best_checkpoints": True})(),
        (
            f"Mine has 'best_checkpoints', which tunehook never calls. Did you mean 'best_checkpoint'?\n  {BESIDES} "
            "If it is something else, give it another name, such as _best_checkpoints."
        ),
    ),
    (
        method("open", "trial", "config")(),
        (
            "Mine.open(trial, config) cannot be called as a recorder's open is: got an unexpected keyword argument "
            "'loggers'.\n  Write: def open(self, trial, config, *, loggers=()): ..."
        ),
    ),
    (
        method("report", "step")(),
        (
            "Mine.report(step) cannot be called as a recorder's report is: too many positional arguments.\n"
            "  Write: def report(self, step, metrics): ..."
        ),
    ),
    (
        method("has_reports", "taken", "made", "other")(),
        (
            "Mine.has_reports(taken, made, other) cannot be called as a recorder's has_reports is: missing a required "
            "argument: 'other'.\n  Write: def has_reports(self, taken, made): ..."
        ),
    ),
    (
        method("update", "study")(),
        (
            "Mine.update(study) cannot be called as a recorder's update is: got an unexpected keyword argument "
            "'is_last'.\n  Write: def update(self, study, *, is_last): ..."
        ),
    ),
    (
        type("Mine", (Plain,), {"snapshot": 3})(),
        (
            "Mine.snapshot is no method, but 3; a recorder's snapshot is called.\n"
            "  Write: def snapshot(self, step, snapshot): ...\n  If it is something else, give it another name."
        ),
    ),
    (
        method("best_checkpoint")(),
        (
            "Mine.best_checkpoint is a method. It has to be an attribute, True where the recorder wants the model that "
            "a training kept.\n  Write: self.best_checkpoint = True"
        ),
    ),
]


@pytest.mark.parametrize(("recorder", "text"), WRONG)
def test_slips(recorder: object, text: str) -> None:
    """Each is an error of the study, before any work, with what was passed and how to mend it."""
    with pytest.raises(TypeError) as caught:
        th.Study("s", {"x": th.Float(0, 1)}, metric="m", mode="max", recorders=[recorder])  # type: ignore[list-item]
    assert str(caught.value) == text
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", ["want_stop", "wantsStop", "wants_to_stop", "snapshots", "on_snapshot", "shapshot",
                                  "has_report", "hasReports", "waits", "updates", "on_update"])  # fmt: skip
def test_names_that_are_nearly_one(name: str) -> None:
    """A name beside the right one is the recorder's own, and so is a private one."""
    with pytest.raises(TypeError, match=re.escape(f"Mine has '{name}', which tunehook never calls. Did you mean '")):
        check_recorder(method(name)())
    check_recorder(type("Mine", (Able,), {name: lambda self: None})())
    check_recorder(method(f"_{name}")())


@pytest.mark.parametrize("name", ["stop", "take_snapshot", "upload", "write", "flush", "wait_for_all", "data", "log"])
def test_names_that_are_not_near(name: str) -> None:
    """Methods of the recorder's own, and a list of what it has seen."""
    check_recorder(method(name)())
    seen = Plain()
    seen.reports, seen.snapshots, seen.updates = [], [], 0  # type: ignore[attr-defined]
    check_recorder(seen)


def test_what_cannot_be_looked_at_is_called() -> None:
    """Parameters of a method in C are not known."""
    with pytest.raises(ValueError, match="no signature found"):
        inspect.signature(dict.update)
    check_recorder(type("Mine", (Plain, dict), {})())


def train() -> None:
    """Two measurements."""
    session = active()
    assert session is not None
    session.begin([], left_out=["x"])
    session.ready()
    for step in (1, 2):
        session.report(step, {"m": 1.0})


@pytest.mark.parametrize("mock", [MagicMock(), MagicMock(spec=Plain)])
def test_a_mock_hears_a_trial(mock: MagicMock) -> None:
    """It has everything, so what it answers to what nobody wrote means nothing."""
    study = th.Study("s", {"x": th.Float(0, 1)}, metric="m", mode="max", search="random", recorders=[mock])
    study.optimize(train, trials=1, progress=False)
    assert [trial.outcome.state for trial in study.trials] == ["complete"]
    assert [call.args[0] for call in mock.report.call_args_list] == [1, 2]
    assert mock.close.call_args.args[0].state == "complete"


@pytest.mark.parametrize("answer", [False, True, 3, b"no"])
def test_a_reason_to_stop_is_a_text(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """Another answer stops no trial; the recorder is left out, and told."""
    mine = type("Mine", (Plain,), {"wants_stop": lambda self: answer})()
    study = th.Study("s", {"x": th.Float(0, 1)}, metric="m", mode="max", search="random", recorders=[mine])
    study.optimize(train, trials=1, progress=False)
    assert [trial.outcome.state for trial in study.trials] == ["complete"]
    (told,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    error = TypeError(f"wants_stop() returns a text, or None to go on; it returned {answer!r}")
    assert told.startswith(f"Mine failed and is left out from here on: {error!r}.")
