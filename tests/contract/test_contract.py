"""What every adapter owes: the life of a trial, its decisions, outcomes, messages and records, the same in all."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

import tunehook as th
from adapters import Project
from contract_study import Kept, a_study, events, run
from tunehook.trial.errors import InjectionError, TrialError
from tunehook.trial.values import Outcome

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks: small data, old calls of NumPy and pytrees ...

# --------------------------------------------------------------------------- the life of a trial


def test_a_trial_from_its_begin_to_its_end(project: Project) -> None:
    """The journal holds begin, configuration, a report an epoch, snapshots and the end; the study value and outcome."""
    study = a_study()
    count = run(study, project, scores=[1.0, 3.0, 2.0])
    assert count.epochs == 3
    told = events(study)
    kinds = [event["event"] for event in told]
    assert "snapshot" in kinds
    assert [kind for kind in kinds if kind != "snapshot"] == ["begin", "config", "report", "report", "report", "end"]
    assert [event["step"] for event in told if event["event"] == "report"] == [1, 2, 3]
    assert [event["metrics"]["score"] for event in told if event["event"] == "report"] == [1.0, 3.0, 2.0]
    assert [event["metrics"]["epoch"] for event in told if event["event"] == "report"] == [0.0, 1.0, 2.0]
    assert (study.best.value, study.best.params) == (3.0, {"width": 6})
    assert study.best.outcome == Outcome("complete", "trained to its end", 3.0, 2)


def test_values_arrive_in_model_optimizer_data_and_length(project: Project) -> None:
    """One trial sets the width, the learning rate, the batch size and the number of epochs."""
    space = {"width": 7, project.rate: 0.25, project.size: 6, project.epochs: 3}
    study = a_study(space)
    made = []

    def train() -> None:
        model = project.model()
        count = project.fit(model, project.callback(), scores=[1.0], epochs=1)
        made.append((project.width(model), count.epochs, count.steps))

    study.optimize(train, trials=1, progress=False)
    assert made == [(7, 3, 3 * 4)]
    config = next(event for event in events(study) if event["event"] == "config")["effective"]
    assert {path: config[path] for path in config.keys() & {"model.width", *space}} == {
        "model.width": 7,
        project.rate: 0.25,
        project.size: 6,
        project.epochs: 3,
    }


def test_a_tuned_training_equals_the_plain_one(project: Project) -> None:
    """All weights are bit-equal to those of the script with the values typed in."""
    plain = project.model(width=7)
    project.fit(plain, rate=0.25, size=6, scores=[1.0, 2.0])
    study = a_study({"width": 7, project.rate: 0.25, project.size: 6})
    made = []

    def train() -> None:
        made.append(project.model())
        project.fit(made[-1], project.callback(), scores=[1.0, 2.0])

    study.optimize(train, trials=1, progress=False)
    assert project.weights(made[-1]) == project.weights(plain)


def test_a_trial_that_is_known_in_fit_only(project: Project) -> None:
    """What the fit itself can take is as if typed in."""
    plain = project.model()
    project.fit(plain, rate=0.25, size=6, scores=[1.0, 2.0])
    model = project.model()
    project.fit(model, project.callback(a_study({project.rate: 0.25, project.size: 6})), scores=[1.0, 2.0])
    assert project.weights(model) == project.weights(plain)


def test_without_a_trial_nothing_happens(project: Project, tmp_path: Path) -> None:
    """``TuneCallback()`` outside of a study changes no bit and leaves no file."""
    plain, with_callback = project.model(), project.model()
    plain = project.model()
    project.fit(plain)
    with_callback = project.model()
    project.fit(with_callback, project.callback())
    assert project.weights(plain) == project.weights(with_callback)
    assert list(tmp_path.iterdir()) == []


def test_one_fit_is_one_trial(project: Project) -> None:
    """``TuneCallback(study)`` asks for a trial in each fit and ends it."""
    study = a_study({project.size: 6})
    for score in (1.0, 2.0):
        project.fit(project.model(), project.callback(study), scores=[score])
    assert [(trial.number, trial.value, trial.outcome.state) for trial in study.trials] == [
        (0, 1.0, "complete"),
        (1, 2.0, "complete"),
    ]


def test_an_optuna_trial_gives_its_parameters(project: Project) -> None:
    """The suggested values are injected, and the metric is reported to Optuna."""
    widths = []

    @th.objective
    def objective(trial: optuna.Trial) -> float:
        trial.suggest_int("width", 5, 9)
        model = project.model()
        project.fit(model, project.callback(trial, metric="score"), scores=[1.0, 2.0])
        widths.append((project.width(model), trial.params["width"]))
        return 2.0

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(objective, n_trials=2)
    assert [given for given, _ in widths] == [wanted for _, wanted in widths]
    assert [trial.intermediate_values for trial in study.trials] == [{1: 1.0, 2: 2.0}] * 2


def test_steps_grow_over_several_fits(project: Project) -> None:
    """A trial with two fits reports on one axis."""
    study = a_study()

    def train() -> None:
        callback, model = project.callback(), project.model()
        project.fit(model, callback, scores=[1.0, 2.0])
        project.fit(model, callback, scores=[3.0, 4.0])

    study.optimize(train, trials=1, progress=False)
    assert [event["step"] for event in events(study) if event["event"] == "report"] == [1, 2, 3, 4]


# --------------------------------------------------------------------------- decisions


def a_threshold() -> optuna.pruners.BasePruner:
    """Stops a trial whose score falls below zero."""
    return optuna.pruners.ThresholdPruner(lower=0.0)


def test_a_stop_ends_the_fit_in_good_order(project: Project) -> None:
    """The epoch in which the rule says stop is the last one; fit returns, and the trial is pruned with the reason."""
    study = a_study(stopper=a_threshold())
    count = run(study, project, scores=[1.0, -1.0, 5.0, 5.0])
    assert count.epochs == 2
    reason = "ThresholdPruner: score -1 at step 2 falls behind the other trials"
    assert study.trials[0].outcome == Outcome("pruned", reason, 1.0, 1)


def test_a_stopped_trial_trains_no_further(project: Project) -> None:
    """The training function is left where a second fit of a trial that was stopped would begin."""
    study = a_study(stopper=a_threshold())
    counts = []

    def train() -> None:
        callback, model = project.callback(), project.model()
        counts.append(project.fit(model, callback, scores=[-1.0, 1.0]))
        counts.append(project.fit(model, callback, scores=[1.0, 1.0]))

    study.optimize(train, trials=2, progress=False)
    assert [count.epochs for count in counts] == [1, 1]
    assert [trial.outcome.state for trial in study.trials] == ["pruned", "pruned"]


def test_a_stop_raises_for_optuna(project: Project) -> None:
    """Inside an Optuna objective a stop is ``TrialPruned``, which Optuna records as such."""

    def objective(trial: optuna.Trial) -> float:
        project.fit(project.model(), project.callback(trial, metric="score"), scores=[1.0, -1.0, 1.0])
        return 0.0

    study = optuna.create_study(direction="maximize", pruner=a_threshold())
    study.optimize(objective, n_trials=1)
    assert study.trials[0].state == optuna.trial.TrialState.PRUNED


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_what_is_not_finite_is_infeasible(project: Project, score: float) -> None:
    """NaN and infinities end the trial at once."""
    study = a_study()
    count = run(study, project, scores=[1.0, score, 1.0])
    assert count.epochs == 2
    assert study.trials[0].outcome == Outcome("infeasible", f"score is {score} at step 2", 1.0, 1)


# --------------------------------------------------------------------------- outcomes

OUTCOMES: list[tuple[BaseException, str, str]] = [
    (RuntimeError("broken"), "failed", "RuntimeError: broken"),
    (MemoryError(), "infeasible", "MemoryError"),
    (RuntimeError("CUDA out of memory. Tried to allocate"), "infeasible",
     "RuntimeError: CUDA out of memory. Tried to allocate"),
    (KeyboardInterrupt(), "interrupted", "Ctrl-C"),
    (SystemExit(3), "interrupted", "SystemExit: 3"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "state", "reason"), OUTCOMES, ids=lambda value: repr(value)[:24])
def test_an_exception_is_told_as_what_it_is(project: Project, error: BaseException, state: str, reason: str) -> None:
    """What ends a fit becomes the outcome, with the value up to then, and is raised."""
    study = a_study({project.size: 6})
    raised = None
    try:
        project.fit(project.model(), project.callback(study), scores=[1.0, 2.0], error=error)
    except (type(error), SystemExit) as caught:
        raised = caught
    assert raised is not None or isinstance(error, KeyboardInterrupt)  # which Lightning 2.1 swallows
    outcome = study.trials[0].outcome
    assert (outcome.state, outcome.reason) == (state, reason)
    assert outcome.value in (1.0, 2.0)  # the frameworks differ in whether the last epoch was told before it broke
    assert (outcome.traceback is not None) == (state == "failed")
    assert events(study)[-1]["event"] == "end"


# --------------------------------------------------------------------------- messages


def test_a_metric_that_is_never_logged(project: Project) -> None:
    """The error comes with the first epoch, and names the metrics that exist."""
    study = a_study(metric="scores")
    with pytest.raises(TrialError) as raised:
        run(study, project, scores=[1.0, 2.0])
    lines = str(raised.value).splitlines()
    assert lines[0] == "The study tunes the metric 'scores', but the training did not log it. Did you mean 'score'?"
    assert re.fullmatch(r"  Metrics that exist: (\w+, )*score(, \w+)*\.", lines[1])
    assert lines[2] == "  Log 'scores' in every epoch, or name one of these as Study(..., metric=...)."
    assert len([event for event in events(study) if event["event"] == "report"]) <= 1


def refused(project: Project, space: Mapping[str, Any]) -> str:
    """The message of a space that cannot be injected, raised before the first step."""
    made = []

    def train() -> None:
        model = project.model()
        made.append((model, project.weights(model)))
        project.fit(model, project.callback())

    with pytest.raises(InjectionError) as raised:
        a_study(space).optimize(train, trials=1, progress=False)
    model, before = made[-1]
    assert project.weights(model) == before or not before
    return str(raised.value)


def test_an_unknown_name(project: Project) -> None:
    """The message lists what exists, with the values, and the nearest name."""
    lines = refused(project, {"widht": 5}).splitlines()
    assert lines[0] == "There is nothing called 'widht' to inject. Did you mean 'width'?"
    assert lines[1] == "  What can be injected here:"
    for row in ("model.width = 4", "optimizer.", f"{project.size} = 8", f"{project.epochs} = 2"):
        assert any(line.startswith(f"    {row}") for line in lines)
    way_out = "read it where the script needs it: widht = th.value('widht', 5)."
    assert lines[-1] == f"  Rename 'widht' in the space, or {way_out}"


def test_two_names_of_one_place(project: Project) -> None:
    """A short and a long name may not mean the same slot."""
    assert refused(project, {"width": 5, "model.width": 6}) == (
        "The hyperparameters 'width' and 'model.width' both mean model.width.\n  Remove one of them from the space."
    )


def test_a_value_of_the_wrong_type(project: Project) -> None:
    """The message names the value, its type and what the argument takes."""
    assert refused(project, {"width": 5.5}) == (
        "The hyperparameter 'width' is 5.5 (float), but model.width takes int.\n"
        "  Use a distribution that gives int, such as Int(...)."
    )


def test_an_argument_that_nobody_uses(project: Project) -> None:
    """A dead argument is an error, in the first batch at the latest."""
    with pytest.raises(InjectionError, match=r"^Nothing uses model\.dead: "):
        run(a_study({"dead": 3}), project)


def test_two_callbacks(project: Project) -> None:
    """One fit is one trial."""
    study = a_study()
    with pytest.raises(TrialError) as raised:
        project.fit(project.model(), project.callback(study), project.callback())
    assert (
        str(raised.value) == f"{project.alone} more than one TuneCallback; one fit is one trial.\n  Keep one of them."
    )


def test_a_fit_that_trains_nothing(project: Project) -> None:
    """No epoch to train is an error, not a complete trial."""
    with pytest.raises(TrialError, match=r"^The fit ended without a training step, so there is nothing to tune: "):
        project.fit(project.model(), project.callback(a_study({project.size: 6})), epochs=0)


def test_a_model_that_another_trial_trained(project: Project) -> None:
    """Trials start from scratch: the second one may not go on with the weights of the first."""
    study, model = a_study({project.size: th.Choice([4, 8])}), project.model()
    callback = project.callback()
    with pytest.raises(TrialError) as raised:
        study.optimize(lambda: project.fit(model, callback), trials=2, progress=False)
    assert str(raised.value) == (
        "The Net was trained in trial 0 of study 'contract' already, and trial 1 would go on with its weights.\n"
        "  Make the model inside the training function, so that each trial starts from scratch."
    )


def test_what_a_callback_takes(project: Project) -> None:
    """Anything but a study or an Optuna trial is refused at once, and so are options that do not fit."""
    with pytest.raises(TypeError, match=r"^TuneCallback takes nothing, a tunehook Study or an Optuna trial; got 'x'"):
        project.callback("x")
    with pytest.raises(ValueError, match=r"^metric=, inject= and snapshots= go with an Optuna trial only"):
        project.callback(a_study(), metric="score")
    with pytest.raises(ValueError, match=r"^An Optuna trial does not know which metric to report"):
        project.callback(optuna.create_study().ask())


# --------------------------------------------------------------------------- records


def test_a_recorder_hears_everything_in_order(project: Project) -> None:
    """Configuration first, then a row a report, then the end."""
    kept = Kept()
    run(a_study(recorders=[kept]), project, scores=[1.0, 2.0])
    kinds = [kind for kind, _ in kept.calls]
    assert kinds == ["open", "report", "report", "close"]
    number, params, config = kept.calls[0][1]
    assert (number, params, config["model.width"]) == (0, {"width": 6}, 6)
    assert [row[0] for kind, row in kept.calls if kind == "report"] == [1, 2]
    assert [row[1]["score"] for kind, row in kept.calls if kind == "report"] == [1.0, 2.0]
    assert kept.calls[-1][1].state == "complete"


def test_a_recorder_that_fails_ends_no_training(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out with a warning; the training, the journal and other recorders go on."""
    broken, kept = Kept(fails_at=1), Kept()
    study = a_study(recorders=[broken, kept])
    run(study, project, scores=[1.0, 2.0])
    assert study.best.value == 2.0
    assert [kind for kind, _ in kept.calls] == ["open", "report", "report", "close"]
    assert [kind for kind, _ in broken.calls] == ["open"]
    assert "Kept failed and is left out from here on: OSError('no space left')" in caplog.text


def test_nothing_is_recorded_of_a_refused_trial(project: Project) -> None:
    """No run is opened for values that cannot be injected; the journal has the end and the reason."""
    kept = Kept()
    study = a_study({"nothing": 1}, recorders=[kept])
    with pytest.raises(InjectionError):
        run(study, project)
    assert kept.calls == []
    assert [event["event"] for event in events(study)] == ["begin", "end"]
    assert study.trials[0].outcome.state == "failed"
