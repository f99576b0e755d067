"""What every adapter's fit does, with a framework that only answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunehook.adapter.fit import FitCore
from tunehook.adapter.ranks import Alone, claim_session, problem_on, together
from tunehook.adapter.resume import Resume, parts_of
from tunehook.adapter.source import Source
from tunehook.inject.injection import Injection
from tunehook.inject.slot import Slot
from tunehook.session.kept import Held, Kept
from tunehook.session.session import TrialSession
from tunehook.trial.errors import InjectionError, TrialError
from tunehook.trial.values import Budget, Decision, Outcome, Trial


class OneOf:
    """One rank of two, whose other one says what it is told to."""

    count = 2

    def __init__(self, number: int, other: Any = None) -> None:
        self.number, self.other = number, other

    def agree(self, value: Any) -> Any:
        return value if self.number == 0 else self.other

    def gather(self, value: Any) -> list[Any]:
        return [value, self.other] if self.number == 0 else [self.other, value]


class Judge:
    """Stops at the second measurement."""

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        return Decision(step == 2, "enough", "pruned")

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Nothing to do."""


class Box:
    """The slots of a fit: one number."""

    def __init__(self) -> None:
        self.rate, self.heard = 0.1, list[str]()
        self.slots = [Slot("box.rate", lambda: self.rate, lambda value: setattr(self, "rate", value))]
        self.notes: list[str] = []

    def find(self, path: str) -> Slot | None:
        return None

    def left_out(self) -> set[str]:
        return set()

    def open(self, injection: Injection) -> None:
        self.heard.append(f"open {injection.paths}")

    def why_fixed(self, path: str, value: object) -> str:
        return ""

    def check_stepped(self) -> None:
        self.heard.append("stepped")

    def finish(self) -> None:
        """Nothing to do."""


class Model:
    """Can be referred to weakly."""


class Host:
    """A training that counts how often it is stopped."""

    steps, stops = 0, 0

    def __init__(self) -> None:
        self.model = Model()

    def budget(self, metric: str) -> Budget:
        return Budget(3)

    def parameters(self, *, has_gradients: bool) -> Any:
        return {}, None

    def parts(self) -> list[Any]:
        return []

    def kept_model(self, metric: str) -> None:
        return None

    def hold_model(self) -> Held:
        return Held(".txt", lambda path: path.write_text("weights"))

    def load_model(self, kept: Kept) -> None:
        """Nothing to do."""

    def why_untrained(self) -> str:
        return "no batches."

    def stop(self) -> None:
        self.stops += 1


def a_session(tmp_path: Path, judge: Judge | None = None, **options: Any) -> TrialSession:
    """The session of a trial with one value."""
    trial = Trial("s", 0, {"rate": 0.5}, tmp_path / "s" / "trial-0000", "score", "max", key="0000-1")
    trial.folder.mkdir(parents=True)
    return TrialSession(trial, judge, **options)


def test_a_fit_from_its_begin_to_its_end(tmp_path: Path) -> None:
    """Values in, measurements out, and a stop that the framework carries out."""
    session, slots, host = a_session(tmp_path, Judge()), Box(), Host()
    fit = FitCore(session, slots, host)
    fit.begin()
    assert (slots.rate, slots.heard) == (0.5, ["open {'box.rate': 0.5}"])
    session.ready()
    fit.start()
    assert session.budget == Budget(3)
    fit.end_epoch()
    fit.end_epoch()
    assert slots.heard[1:] == ["stepped"]
    assert fit.take({"score": 1.0}, epoch=0.0)
    assert not fit.take({"other": 1.0}, epoch=0.0)
    assert not fit.take({"score": 3.0}, may_measure=False)
    assert (session.step, host.stops) == (1, 0)
    assert fit.take({"score": 1.0})
    assert (session.decision.reason, host.stops) == ("enough", 1)
    fit.complete()
    assert fit.is_complete
    session.end()
    slots.rate = 0.1
    with pytest.raises(
        InjectionError, match=r"^Injected values were lost at last:\n  box\.rate holds 0\.1 instead of "
    ):
        fit.read_back("at last")


def test_a_fit_that_trained_nothing(tmp_path: Path) -> None:
    """What the framework says of it ends the message."""
    fit = FitCore(a_session(tmp_path, Judge()), Box(), Host())
    with pytest.raises(
        TrialError, match=r"^The fit ended without a training step, so there is nothing to tune: no batches\.$"
    ):
        fit.complete()
    assert not fit.is_complete


def test_a_rank_above_0_follows(tmp_path: Path) -> None:
    """It reports nothing, and stops where rank 0 was told to."""
    session, host = a_session(tmp_path), Host()
    ranks = OneOf(1, other=(4, Decision(True, "enough", "pruned")))
    fit = FitCore(session, Box(), host, ranks)
    ranks.gather = lambda value: [None, value]  # type: ignore[method-assign] # nothing fails
    fit.take({"score": 1.0})
    assert (session.step, session.decision.reason, host.stops) == (4, "enough", 1)


def fails() -> None:
    """Raise."""
    raise ValueError("first\nsecond")


@pytest.mark.parametrize(
    ("ranks", "action", "error"),
    [
        (Alone(), fails, ValueError("first\nsecond")),
        (OneOf(0), fails, ValueError("first\nsecond")),
        (OneOf(0, "third"), fails, ValueError("first\nsecond")),
        (OneOf(0, "third"), list, InjectionError("rank 1: third")),
        (OneOf(1, "third"), list, InjectionError("rank 0: third")),
    ],
)
def test_what_fails_on_one_rank_fails_on_all(ranks: Any, action: Callable[[], object], error: Exception) -> None:
    """Each with its own error, else with that of the other one."""
    with pytest.raises(type(error), match=f"^{re.escape(str(error))}$"):
        together(ranks, action)


def test_problems_of_one_rank_are_told_on_all() -> None:
    """In a line, without raising."""
    assert problem_on(Alone(), list) == ""
    assert problem_on(Alone(), fails) == "ValueError: first"
    assert problem_on(OneOf(0, "OSError: full"), list) == "OSError: full"
    assert problem_on(OneOf(1, ""), fails) == "ValueError: first"


def test_a_rank_hears_why_there_is_no_trial() -> None:
    """It never asks by itself."""
    source = Source(None, metric=None, inject=True)
    with pytest.raises(TrialError, match=r"^rank 0: no room$"):
        claim_session(source, None, OneOf(1, (None, "rank 0: no room")))
    assert claim_session(source, None, OneOf(1, (None, None))) is None


def test_checkpoints_of_a_second_fit_are_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says why, once."""
    session = a_session(tmp_path, Judge(), keeps_checkpoints=True)
    first = Resume(session, Alone(), "")
    assert first.is_exact
    assert first.find() is None
    assert first.begin()
    second = Resume(session, Alone(), "another reason")
    assert not second.is_exact
    assert not second.begin()
    assert "starts over if it is interrupted: it has more than one fit" in caplog.text
    third = Resume(session, Alone(), "")
    assert not third.begin()
    assert caplog.text.count("starts over") == 1
    session.end()


def test_parts_of_a_loader() -> None:
    """What it draws from, each once, however they hold each other."""

    class Part:
        dataset: object = None

    loader, sampler, dataset = Part(), Part(), Part()
    loader.dataset, loader.sampler, sampler.dataset = dataset, sampler, dataset  # type: ignore[attr-defined]
    dataset.dataset = loader
    assert set(map(id, parts_of(loader))) == set(map(id, (loader, sampler, dataset)))
    assert [*parts_of(None)] == []
