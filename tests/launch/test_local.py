"""study.optimize in one process: counting, time, failures, interruptions, memory, and the ranks that follow."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import re
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tunehook as th
from tunehook.inject.slot import Slot
from tunehook.record.journal import read_journal
from tunehook.session.in_progress import active, broadcast, set_broadcast
from tunehook.session.session import TrialSession
from tunehook.study.study import Study
from tunehook.trial.errors import InjectionError, StudyError, TrialError
from tunehook.trial.values import Outcome, Trial

SPACE = {"x": th.Float(0, 1), "n": th.Choice([1, 2, 3])}


def study(name: str = "digits", **options: Any) -> Study:
    """A study of 'acc', searched at random unless told otherwise."""
    return Study(name, **{"space": SPACE, "metric": "acc", "mode": "max", "search": "random", **options})


def fit(*values: float) -> dict[str, Any]:
    """What a callback does in a fit: inject, report each value, stop when told; gives the injected values."""
    session = active()
    assert session is not None
    place: dict[str, Any] = {}

    def slot(name: str) -> Slot:
        return Slot(f"model.{name}", get=lambda: place.get(name), set=lambda value: place.update({name: value}))

    session.begin([slot("x"), slot("n")])
    session.ready()
    for value in values or (place["x"],):
        if session.report(session.step + 1, {"acc": value}).stop:
            break
    return place


def states(opened: Study) -> list[str]:
    """How the trials ended."""
    return [trial.outcome.state for trial in opened.trials]


class Script:
    """A training that does one thing a trial, in turn: raise it, or train to its value."""

    def __init__(self, *steps: BaseException | float) -> None:
        self.steps, self.calls = list(steps), 0

    def __call__(self) -> None:
        step = self.steps[self.calls] if self.calls < len(self.steps) else 0.5
        self.calls += 1
        if isinstance(step, BaseException):
            fit(0.25)
            raise step
        fit(step)


# ------------------------------------------------------------------ how many


def test_every_trial_is_injected_and_told() -> None:
    """Each call of the training has the trial's values, and the best one is found."""
    seen: list[dict[str, Any]] = []
    opened = study()
    opened.optimize(lambda: seen.append(fit()), trials=5, progress=False)
    assert [trial.params for trial in opened.trials] == seen
    assert states(opened) == ["complete"] * 5
    assert opened.best.value == max(place["x"] for place in seen)
    assert active() is None


@pytest.mark.parametrize(("before", "trials", "calls"), [(0, 3, 3), (2, 3, 1), (3, 3, 0), (5, 3, 0)])
def test_trials_counts_those_of_earlier_runs(before: int, trials: int, calls: int) -> None:
    """The same script started again does what is left."""
    if before:
        study().optimize(Script(), trials=before, progress=False)
    script = Script()
    study().optimize(script, trials=trials, progress=False)
    assert script.calls == calls


def test_interrupted_trials_do_not_count() -> None:
    """A script that was stopped by Ctrl-C and started again ends with all its trials; the values come again."""
    with pytest.raises(KeyboardInterrupt):
        study().optimize(Script(0.5, KeyboardInterrupt()), trials=4, progress=False)
    opened = study()
    opened.optimize(Script(), trials=4, progress=False)
    assert states(opened) == ["complete", "interrupted", "complete", "complete", "complete"]
    assert opened.trials[1].params == opened.trials[2].params


def test_which_trials_count() -> None:
    """Complete, pruned and infeasible ones told the search something; failed ones are made up for."""
    opened = study()
    opened.optimize(Script(ValueError("x"), MemoryError(), float("nan"), 0.5), trials=4, progress=False)
    assert states(opened) == ["failed", "infeasible", "infeasible", "complete", "complete"]


def test_trials_of_other_processes_count_meanwhile() -> None:
    """What is finished elsewhere during a training is not done again here."""
    calls = []

    def train() -> None:
        calls.append(fit())
        other = study()
        for _ in range(2):
            other.tell(other.ask(), Outcome("complete", "", 0.5, 1))

    opened = study()
    opened.optimize(train, trials=5, progress=False)
    assert len(calls) == 2
    assert len(opened.trials) == 6


def test_a_grid_ends_by_itself() -> None:
    """Without a number all combinations are trained, once over all runs."""
    options: dict[str, Any] = {"space": {"x": th.Choice([0.1, 0.2]), "n": th.Choice([1, 2])}, "search": "grid"}
    study(**options).optimize(Script(), trials=3, progress=False)
    opened = study(**options)
    for calls in (1, 0):
        script = Script()
        opened.optimize(script, progress=False)
        assert script.calls == calls
    assert sorted(str(trial.params) for trial in opened.trials) == sorted(
        str({"x": x, "n": n}) for x in (0.1, 0.2) for n in (1, 2)
    )


def test_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial begins after it; the one that runs is trained to its end."""
    now = [100.0]
    monkeypatch.setattr("tunehook.launch.leader.time", SimpleNamespace(monotonic=lambda: now[0]))
    opened = study()

    def train() -> None:
        now[0] += 6
        fit()

    opened.optimize(train, timeout=10, progress=False)
    assert states(opened) == ["complete"] * 2
    opened.optimize(train, timeout=10, trials=3, progress=False)
    assert states(opened) == ["complete"] * 3


ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, ValueError, "Say how long to search: study.optimize(train, trials=30) or timeout=3600 (seconds)."),
    *[
        ({"trials": value}, ValueError, f"trials is an integer above 0, or None; got {value!r}.")
        for value in (0, -1, True, 2.5, "3")
    ],
    *[
        ({"timeout": value}, ValueError, f"timeout is a number of seconds above 0, or None; got {value!r}.")
        for value in (0, -1, float("nan"))
    ],
    ({"train": 3, "trials": 1}, TypeError, "train is a function of no arguments; got 3."),
]


@pytest.mark.parametrize(("options", "kind", "text"), ARGUMENTS)
def test_bad_arguments(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    """Each is told before anything is written."""
    with pytest.raises(kind) as caught:
        study().optimize(**{"train": fit, **options})
    assert str(caught.value) == text
    assert list(Path().iterdir()) == []


class Called:
    """An object that is called with a trial."""

    def __call__(self, trial: object) -> None:
        """Train nothing."""


def with_trial(trial: object, lr: float = 0.1) -> None:
    """A training as people write it for Optuna."""


def with_options(lr: float = 0.1, *rest: object, **more: object) -> None:
    """A training whose arguments all have defaults."""
    fit()


FUNCTIONS: list[tuple[Any, str]] = [
    (with_trial, "with_trial(trial: 'object', lr: 'float' = 0.1) -> 'None'"),
    (lambda *, trial: trial, "<lambda>(*, trial)"),
    (Called(), "Called(trial: 'object') -> 'None'"),
    (functools.partial(with_trial, lr=1.0), "partial(trial: 'object', *, lr: 'float' = 1.0) -> 'None'"),
]


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize(("train", "text"), FUNCTIONS, ids=["function", "lambda", "object", "partial"])
def test_a_training_that_takes_arguments(train: Any, text: str, workers: int | None) -> None:
    """What cannot be called is told before anything is asked, with the way to the values."""
    with pytest.raises(TypeError) as caught:
        study().optimize(train, trials=5, workers=workers)
    assert str(caught.value) == (
        f"train is called without arguments, but {text} needs some (missing a required argument: 'trial').\n"
        "  Write def train(): ..., with TuneCallback() in its fit; th.current() is the trial, th.value('lr', 0.1) one "
        "value."
    )
    assert list(Path().iterdir()) == []


def test_a_training_that_was_called_already() -> None:
    """What a call of the training returned is no training."""
    message = (
        "train is a function of no arguments; got None.\n  Pass the function itself: study.optimize(train, ...), not "
        "train()."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        study().optimize(None, trials=1)  # type: ignore[arg-type]


def test_a_training_with_defaults() -> None:
    """A function that can be called without arguments is taken."""
    opened = study()
    opened.optimize(with_options, trials=1, progress=False)
    assert states(opened) == ["complete"]


# ------------------------------------------------------------------ failures


def test_failures_in_a_row_stop_the_study() -> None:
    """The first of them is the cause, and what was done stays."""
    first = ValueError("first")
    opened = study()
    with pytest.raises(StudyError) as caught:
        opened.optimize(Script(0.5, first, KeyError("second"), OSError("third")), trials=9, progress=False)
    assert caught.value.__cause__ is first
    assert str(caught.value) == (
        "3 trials in a row failed, so study 'digits' stops; the first error: ValueError('first').\n"
        "  Mend the training and start the script again: the study goes on where it was."
    )
    assert states(opened) == ["complete", "failed", "failed", "failed"]
    text = opened.trials[1].outcome.traceback
    assert text is not None
    assert text.rstrip().endswith("ValueError: first")
    assert "in __call__" in text


@pytest.mark.parametrize("between", [0.5, MemoryError(), float("nan")])
def test_anything_else_in_between_starts_the_count_anew(between: BaseException | float) -> None:
    """Two failures, something else, two failures: the study goes on."""
    bad = ValueError("x")
    opened = study()
    opened.optimize(Script(bad, bad, between, bad, bad), trials=6, progress=False)
    assert states(opened).count("failed") == 4


@pytest.mark.parametrize(
    ("limit", "text"),
    [(1, "The only trial failed"), (2, "2 trials in a row failed"), (5, "5 trials in a row failed")],
)
def test_the_number_of_failures_is_chosen(limit: int, text: str) -> None:
    """max_failures of them end the study."""
    script = Script(*[ValueError(str(number)) for number in range(9)])
    with pytest.raises(StudyError, match=re.escape(f"{text}, so study 'digits' stops; the first error: ValueError")):
        study(max_failures=limit).optimize(script, trials=9, progress=False)
    assert script.calls == limit


def test_a_search_that_only_failed() -> None:
    """A grid smaller than max_failures, in which every trial failed, is no success."""
    error = ValueError("x")
    opened = study(space={"x": 0.5, "n": th.Choice([1, 2])}, search="grid")
    with pytest.raises(StudyError, match="2 trials in a row failed") as caught:
        opened.optimize(Script(error, error), progress=False)
    assert caught.value.__cause__ is error
    assert states(opened) == ["failed", "failed"]


def test_a_study_that_failed_goes_on() -> None:
    """Started again after the mistake is mended, the count starts over."""
    with pytest.raises(StudyError):
        study().optimize(Script(*[ValueError()] * 3), trials=5, progress=False)
    opened = study()
    opened.optimize(Script(ValueError(), ValueError()), trials=2, progress=False)
    assert states(opened) == ["failed"] * 5 + ["complete"] * 2


@pytest.mark.parametrize("error", [InjectionError("no slot"), TrialError("no metric")])
def test_a_misuse_stops_at_once(error: Exception) -> None:
    """Every trial would end so: the error itself is raised, and its trial has failed."""
    opened = study()
    script = Script(0.5, error)
    with pytest.raises(type(error)) as caught:
        opened.optimize(script, trials=5, progress=False)
    assert caught.value is error
    assert states(opened) == ["complete", "failed"]


@pytest.mark.parametrize("search", ["grid", "random"])
def test_a_misuse_uses_up_no_values(search: str) -> None:
    """Once the script is mended, the study asks what it would have asked from the start."""
    space = {"x": 0.5, "n": th.Choice([1, 2, 3])}
    mended, plain = (study(name, space=space, search=search, seed=5) for name in ("mended", "plain"))
    for _ in range(2):
        with pytest.raises(InjectionError):
            mended.optimize(Script(InjectionError("no slot")), trials=3, progress=False)
    for opened in (mended, plain):
        opened.optimize(Script(), trials=3, progress=False)
    asked = [[trial.params for trial in one.trials if trial.outcome.state == "complete"] for one in (mended, plain)]
    assert asked[0] == asked[1]
    assert states(mended) == ["failed", "failed", "complete", "complete", "complete"]


def test_an_error_while_values_are_put_in() -> None:
    """Whatever an object raises then ends the study at once, told as ours; memory that ran out is none of it."""

    def train(error: Exception) -> None:
        def refuse(_value: object) -> None:
            raise error

        session = active()
        assert session is not None
        session.begin([Slot(f"model.{name}", get=lambda: None, set=refuse) for name in SPACE])

    message = (
        "x, n cannot be injected: KeyError: 'boom'\n"
        "  That was raised while the values were put in, by an object that has to be read or made again for it: mend "
        "it, or take the names out of the space."
    )
    opened = study()
    with pytest.raises(InjectionError, match=f"^{re.escape(message)}$"):
        opened.optimize(lambda: train(KeyError("boom")), trials=5, progress=False)
    assert states(opened) == ["failed"]
    full = study("memory")
    full.optimize(lambda: train(RuntimeError("CUDA out of memory")), trials=1, progress=False)
    assert states(full) == ["infeasible"]


def test_a_name_that_is_no_slot() -> None:
    """The real injection error comes through."""
    with pytest.raises(InjectionError, match=re.escape("There is nothing called 'y' to inject.")):
        study(space={"x": 1, "y": th.Int(1, 2)}).optimize(fit, trials=5, progress=False)


def test_a_training_without_a_callback() -> None:
    """It is told at once, with the way out."""
    opened = study()
    with pytest.raises(TrialError) as caught:
        opened.optimize(lambda: None, trials=5, progress=False)
    assert str(caught.value) == (
        "The training returned without a TuneCallback, so no value was used and nothing was measured.\n"
        "  Add TuneCallback() to the callbacks of the Trainer or of model.fit inside the training function."
    )
    assert states(opened) == ["failed"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interruption_is_told_and_raised(error: BaseException) -> None:
    """The trial is interrupted with the value it had, the exception goes on, and nothing stays active."""
    opened = study()
    with pytest.raises(type(error)) as caught:
        opened.optimize(Script(error), trials=5, progress=False)
    assert caught.value is error
    (trial,) = opened.trials
    assert (trial.outcome.state, trial.value) == ("interrupted", 0.25)
    assert active() is None
    assert "TUNEHOOK_LEADER" not in os.environ


def test_an_interruption_that_a_framework_swallowed() -> None:
    """It left the exception in the session and returned: Ctrl-C is raised all the same."""

    def train() -> None:
        fit(0.5)
        session = active()
        assert session is not None
        session.exception = KeyboardInterrupt()

    opened = study()
    with pytest.raises(KeyboardInterrupt):
        opened.optimize(train, trials=5, progress=False)
    assert states(opened) == ["interrupted"]


def test_a_stopped_trial_is_pruned() -> None:
    """The stop ends the fit in good order and the next trial begins."""

    class Second:
        def prune(self, _study: object, trial: Any) -> bool:
            return bool(trial.last_step == 2 and trial.number == 0)

    opened = study(stopper=_pruner(Second().prune))
    opened.optimize(lambda: fit(0.1, 0.2, 0.3), trials=2, progress=False)
    assert states(opened) == ["pruned", "complete"]
    assert [trial.value for trial in opened.trials] == [0.2, 0.3]


def _pruner(rule: Callable[[Any, Any], bool]) -> Any:
    import optuna

    class Ruled(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return rule(study, trial)

    return Ruled()


def test_a_nested_search_is_refused() -> None:
    """The inner study asks for nothing, and the outer trial has failed with the reason."""
    inner = study("inner")
    outer = study("outer")

    def train() -> None:
        fit(0.5)
        inner.optimize(fit, trials=2, progress=False)

    with pytest.raises(TrialError) as caught:
        outer.optimize(train, trials=2)
    assert str(caught.value) == (
        "Trial 0 of study 'outer' is still open in this process; a trial cannot start another one inside.\n"
        "  End it first, or run the inner study by itself."
    )
    assert states(outer) == ["failed"]
    assert states(inner) == []


def test_two_threads_are_refused_before_anything_is_asked_for() -> None:
    """The second search tells why at once; the first one goes on, and neither loses a trial."""
    outer, other = study("outer"), study("other")
    asked: list[str] = []

    def train() -> None:
        if not asked:
            thread = threading.Thread(target=search_too)
            thread.start()
            thread.join()
        fit(0.5)

    def search_too() -> None:
        with pytest.raises((StudyError, TrialError)) as caught:
            other.optimize(fit, trials=2, progress=False)
        asked.append(str(caught.value))

    def ask_while_it_is_led() -> Trial:
        with pytest.raises(StudyError, match=r"another thread of this process is in a study\.optimize"):
            other.optimize(fit, trials=2, progress=False)
        raise KeyboardInterrupt

    outer.optimize(train, trials=2, progress=False)
    assert asked
    assert states(outer) == ["complete", "complete"]
    led = study("led")
    led.ask = ask_while_it_is_led  # type: ignore[method-assign] # between two trials, where none is in progress
    with pytest.raises(KeyboardInterrupt):
        led.optimize(fit, trials=1, progress=False)
    assert states(other) == []
    other.optimize(fit, trials=1, progress=False)


def test_one_search_after_another() -> None:
    """Two studies in one script do not know of each other."""
    for name in ("one", "two"):
        study(name).optimize(fit, trials=2, progress=False)
        assert len(study(name).trials) == 2


def test_a_trial_without_a_journal_stops_the_search() -> None:
    """A folder that cannot be written is raised, and the trial is asked again later."""
    opened = study()
    opened.optimize(fit, trials=1, progress=False)
    Path("tunehook-studies/digits/trial-0001").touch()
    with pytest.raises(OSError, match="cannot be written: File exists"):
        opened.optimize(fit, trials=2, progress=False)
    opened.optimize(fit, trials=2, progress=False)
    assert states(opened) == ["complete", "interrupted", "complete"]


# ------------------------------------------------------------------ memory


class Model:
    """Something large that a training holds."""


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("kind", [ValueError, MemoryError])
def test_a_failed_trial_holds_no_memory(kind: type[Exception], chained: bool) -> None:
    """When the next trial begins, the model of the failed one is gone, also where one error led to another."""
    models: list[weakref.ref[Model]] = []
    alive: list[bool] = []

    def inner(model: Model) -> None:
        held = model  # noqa: F841 - a frame that holds it
        raise kind("deep")

    def train() -> None:
        gc.collect()
        alive.extend(ref() is not None for ref in models)
        model = Model()
        models.append(weakref.ref(model))
        fit(0.5)
        try:
            inner(model)
        except kind as error:
            if not chained:
                raise
            del model
            raise kind("high") from error

    with pytest.raises(StudyError) if kind is ValueError else contextlib.nullcontext() as stopped:
        study().optimize(train, trials=3, progress=False)
    assert (stopped is None) == (kind is MemoryError)  # what ended the study is still there, as in a notebook
    gc.collect()
    assert alive == [False] * 3
    assert [ref() for ref in models] == [None] * 3


@pytest.mark.parametrize("kind", [None, MemoryError])
def test_a_gpu_has_room_for_the_next_trial(kind: type[Exception] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that hold each other, as Trainers do, are looked for after each trial where torch uses a GPU."""
    import torch

    cuda = SimpleNamespace(is_initialized=lambda: True, get_rng_state_all=list, device_count=lambda: 0)
    monkeypatch.setattr(torch, "cuda", cuda)
    models: list[weakref.ref[Model]] = []

    def train() -> None:
        assert [ref() for ref in models] == [None] * len(models)
        model = Model()
        vars(model)["me"] = model
        models.append(weakref.ref(model))
        fit(0.5)
        if kind is not None:
            raise kind("on the GPU")

    gc.disable()
    try:
        opened = study()
        opened.optimize(train, trials=3, progress=False)
    finally:
        gc.enable()
    assert states(opened) == ["complete" if kind is None else "infeasible"] * 3


def test_finished_trials_hold_no_memory() -> None:
    """Nothing of a trial is kept in the study or the loop but its record."""
    models: list[weakref.ref[Model]] = []

    def train() -> None:
        model = Model()
        models.append(weakref.ref(model))
        session = active()
        assert session is not None
        session.begin(
            [Slot(f"m.{name}", get=lambda: _value(session, model), set=lambda _: None) for name in ("n", "x")]
        )
        session.report(1, {"acc": 0.5})

    opened = study(space={"n": 1, "x": 1})
    opened.optimize(train, trials=3, progress=False)
    gc.collect()
    assert [ref() for ref in models] == [None] * 3
    assert opened._ledger._asked == {}


def _value(session: TrialSession, _model: Model) -> Any:
    return session.trial.params["n"]


# ------------------------------------------------------------------ what is shown


def test_a_line_a_trial_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines go to standard error, count over restarts and name the best."""
    study().optimize(Script(0.5), trials=1)
    study().optimize(Script(0.75, ValueError("[/x] [b]bad[/b]")), trials=3)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [re.sub(r"\(x=[^)]*\)", "(...)", line) for line in err.splitlines() if line.startswith("[")]
    assert lines == [
        "[1/1] trial 0: complete, acc 0.5 (...); best 0.5",
        "[2/3] trial 1: complete, acc 0.75 (...); best 0.75",
        "[2/3] trial 2: failed, acc 0.25 (...); best 0.75; ValueError: [/x] [b]bad[/b]",
        "[3/3] trial 3: complete, acc 0.5 (...); best 0.75",
    ]


def test_a_returned_value_that_nothing_of_the_space_led_to() -> None:
    """It is no value of the trial: the training neither read the hyperparameters nor had a fit that takes them."""
    message = (
        r"^The training returned a value, but nothing used 'x', 'n' of the space.\n"
        r"  Read such values: th.value\('x', [0-9.e-]+\); or add TuneCallback\(\) to the callbacks of the fit.$"
    )
    opened = study()
    with pytest.raises(TrialError, match=message):
        opened.optimize(lambda: 0.5, trials=3, progress=False)
    assert states(opened) == ["failed"]
    opened.optimize(lambda: th.value("x", 0.5) * th.value("n", 1), trials=1, progress=False)
    assert states(opened) == ["failed", "complete"]


def test_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """progress=False shows no lines of trials."""
    study().optimize(Script(), trials=1, progress=False)
    assert "[1/1]" not in capsys.readouterr().err


# ------------------------------------------------------------------ ranks


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_a_rank_above_zero_follows(rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs the training until rank 0 says that nothing comes, asks for nothing, and writes nothing."""
    monkeypatch.setenv(rank, "1")
    asked = [Trial("digits", number, {"lr": 0.5}, Path("x"), "acc", "max") for number in (1, 2)]
    answers = [*asked, None]
    known = []
    calls = []

    def train() -> None:
        assert active() is None
        calls.append(1)
        known.append(th.current())
        set_broadcast(lambda _: answers.pop(0))

    study().optimize(train, trials=9)
    assert len(calls) == 3
    assert known == [None, *asked]
    assert broadcast() is None
    assert list(Path().iterdir()) == []


def test_rank_zero_announces_each_trial_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trial, which starts the other ranks, is not announced; each further one is, and the end."""
    monkeypatch.setenv("RANK", "0")
    sent: list[Trial | None] = []

    def train() -> None:
        fit()
        set_broadcast(sent.append)

    study().optimize(train, trials=3, progress=False)
    assert [trial and trial.number for trial in sent] == [1, 2, None]


def test_a_process_that_the_leader_started_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It inherits the leader's name; a search of another study in it leads."""
    monkeypatch.setenv("TUNEHOOK_LEADER", f"{os.getpid() + 1}:digits")
    calls = []
    study().optimize(lambda: calls.append(active()), trials=5, progress=False)
    assert calls == [None]
    study("other").optimize(fit, trials=2, progress=False)
    assert len(study("other").trials) == 2
    assert os.environ["TUNEHOOK_LEADER"] == f"{os.getpid() + 1}:digits"


def test_the_leader_is_named_while_it_leads() -> None:
    """Processes that a training starts see it; afterwards it is gone."""
    seen = []

    def train() -> None:
        seen.append(os.environ["TUNEHOOK_LEADER"])
        fit()

    study().optimize(train, trials=1, progress=False)
    assert seen == [f"{os.getpid()}:digits"]
    assert "TUNEHOOK_LEADER" not in os.environ


def test_an_error_of_rank_zero_with_other_ranks_is_raised() -> None:
    """The other ranks are gone then, so no further trial makes sense."""

    def train() -> None:
        fit()
        set_broadcast(lambda _: None)
        raise ValueError("mine")

    opened = study()
    with pytest.raises(ValueError, match="mine"):
        opened.optimize(train, trials=5, progress=False)
    assert states(opened) == ["failed"]
    assert broadcast() is None


def test_the_journal_of_an_optimized_trial() -> None:
    """All events of the life of a trial, in order."""
    study().optimize(fit, trials=1)
    path = Path("tunehook-studies/digits/trial-0000/journal.jsonl")
    assert [event["event"] for event in read_journal(path)] == ["begin", "config", "report", "end"]
