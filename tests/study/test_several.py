"""Several metrics in one study: the front, what they are worth, and what knows them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume
from typer.testing import CliRunner

import tunehook as th
from tunehook.cli import app
from tunehook.integrations.wandb.values import describe_outcome, describe_trial
from tunehook.record import Events
from tunehook.study import KnownTrial, rebuild
from tunehook.trial import Budget, TrialError, hypervolume, pareto_front

SPACE = {"x": th.Float(0, 1), "y": th.Float(0, 1)}
METRICS: dict[str, Any] = {"metric": ["acc", "latency"], "mode": ["max", "min"]}


def train() -> dict[str, float]:
    """What is more exact is slower."""
    x, y = th.value("x", 0.5), th.value("y", 0.5)
    return {"acc": x - 0.3 * y, "latency": x * x + y}


def study(name: str = "several", **options: Any) -> th.Study:
    """A study of two metrics."""
    return th.Study(name, SPACE, **{**METRICS, "search": "random", "seed": 1, **options})


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_front_and_volume_are_those_of_optuna(dimensions: int) -> None:
    """On random points with ties the front is what no other point beats, and its volume that of another algorithm."""
    draw = random.Random(dimensions)
    for _ in range(30):
        modes: list[Any] = [draw.choice(["min", "max"]) for _ in range(dimensions)]
        points = [[draw.randint(0, 5) / 5 for _ in range(dimensions)] for _ in range(12)]
        signs = np.array([1 if mode == "min" else -1 for mode in modes])
        losses = np.array(points) * signs

        front = pareto_front(points, modes, values=lambda one: one)

        beaten = [any((other <= one).all() and (other < one).any() for other in losses) for one in losses]
        assert front == [point for point, is_beaten in zip(points, beaten, strict=True) if not is_beaten]
        reference = [1.1 if mode == "min" else -0.1 for mode in modes]
        wanted = compute_hypervolume(losses, np.array(reference) * signs)
        assert hypervolume(front, reference, modes) == pytest.approx(wanted, rel=1e-12)
        assert hypervolume(points, reference, modes) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("search", ["bayes", "tpe", "nsga2", "random", "qmc"])
def test_samplers_take_several_metrics(search: str) -> None:
    """Those that can are told all values, so that Optuna finds the same front."""
    made = study(search=search)
    made.optimize(train, trials=12, progress=False)

    assert [one.number for one in made.best_trials] == sorted(one.number for one in made.optuna.best_trials)
    assert [list(one.values) for one in made.trials] == [one.values for one in made.optuna.trials]
    assert made.trials[0].values == (made.trials[0].value, *made.trials[0].values[1:])


def test_a_study_knows_all_its_metrics(workplace: Path) -> None:
    """Journal, storage, table, command line and a rebuilt study have all values; the best trial is an error."""
    made = study()
    made.optimize(train, trials=6)
    front = [(one.number, one.values) for one in made.best_trials]
    volume = made.hypervolume({"acc": -1, "latency": 3})
    table = made.dataframe()
    end = Events.of_latest(made.paths.journal(3)).outcome

    assert end is not None
    assert end.values == made.trials[3].values == tuple(table.loc[3, ["values.acc", "values.latency"]])
    for name in ("best", "best_value", "best_params"):
        with pytest.raises(
            th.StudyError, match=r"has 2 metrics, so no single trial is the best one.\n  Use study.best"
        ):
            getattr(made, name)
    with pytest.raises(ValueError, match=r"The reference point has a value for each of acc, latency; got {'acc': 1}"):
        made.hypervolume({"acc": 1})
    opened = th.Study.open("several")
    assert [(one.number, one.values) for one in opened.best_trials] == front
    assert opened.importance() == {}
    told = CliRunner().invoke(app, ["best", "several", "--json"]).output
    named = [tuple(json.loads(line)["values"].items()) for line in told.splitlines()]
    assert named == [(("acc", acc), ("latency", latency)) for _, (acc, latency) in front]
    told = CliRunner().invoke(app, ["status", "several"]).output
    assert told.count("on the front: trial") == len(front)

    study().optimize(train, trials=8, progress=False)
    assert len(th.Study.open("several").trials) == 8
    rebuild("several")
    again = th.Study.open("several")
    assert again.trials[:6] == made.trials[:6]
    assert again.hypervolume({"acc": -1, "latency": 3}) >= volume
    with pytest.raises(th.StudyError, match=r"mode: it has \['max', 'min'\], you passed \['max', 'max'\]"):
        study(mode=["max", "max"]).counts()


def test_the_others_are_those_of_the_step_that_counts() -> None:
    """The further metrics are measured where the first one is best; stopped trials keep theirs, and samplers hear."""

    def run(made: th.Study, accs: list[float], latencies: dict[int, float], result: Any = None) -> th.Outcome:
        trial = made.ask()
        session = made.session(trial)
        session.budget = Budget(epochs=9)
        session.ready()
        for step, acc in enumerate(accs, start=1):
            more = {"latency": latencies[step]} if step in latencies else {}
            if session.report(step, {"acc": acc, **more}).stop:
                break
        session._driven = True
        if result is not None:
            session.take_result(result)
        session.end()
        assert session.outcome is not None
        return session.outcome

    made = study(stopper="median", search="tpe")
    assert run(made, [1, 3, 2], {1: 7, 2: 8, 3: 9}).values == (3, 8)
    assert run(made, [1, 3, 2], {1: 7, 3: 9}).values == (3, 7)
    assert run(made, [1, 3, 2], {}, {"latency": 5}).values == (3, 5)
    assert run(made, [1, 3, 2], {3: 9}, {"acc": 4, "latency": 5}).values == (4, 5)
    lacking = run(made, [1, 3, 2], {})
    assert lacking.state == "failed"
    assert lacking.reason.startswith("The study tunes the metric 'latency' too, but the training did not log it.")
    assert run(made, [1, 3], {1: float("inf"), 2: float("inf")}) == th.Outcome("infeasible", "latency is inf", 3, 2)
    assert run(made, [1, 3, 2], {1: 7}).state == "complete"
    known = run(made, [0] * 9, {1: 1})
    assert (known.state, known.values) == ("pruned", (0, 1))
    unknown = run(made, [0] * 9, {})
    assert (unknown.state, unknown.values) == ("pruned", ())
    run(made, [5] * 3, {1: 7})  # which the sampler proposes, having heard of all of that
    assert made.finished == 9
    assert [one.number for one in made.best_trials] == [3, 9]
    last = study("last", objective=2)
    assert run(last, [1, 3, 2], {1: 7, 2: 8, 3: 9}).values == (2.5, 8.5)


def test_a_trial_beyond_a_limit_is_infeasible() -> None:
    """A limit holds for any metric that is logged or returned; what breaks it is on no front and is no best trial."""

    def train_one() -> dict[str, float]:
        x = th.value("x", 0.5)
        return {"acc": x, "power": 10 * x}

    made = th.Study(
        "limits", {"x": th.Choice([0.1, 0.4, 0.9])}, metric="acc", mode="max", search="grid",
        constraints={"power": (2, 5), "acc": (None, 8)},
    )  # fmt: skip
    made.optimize(train_one, progress=False)

    assert {one.params["x"]: one.outcome.state for one in made.trials} == {
        0.1: "infeasible", 0.4: "complete", 0.9: "infeasible"
    }  # fmt: skip
    reasons = [one.outcome.reason for one in made.trials if one.outcome.state == "infeasible"]
    assert reasons == ["power is 1, below its limit of 2", "power is 9, above its limit of 5"]
    assert made.best.params == {"x": 0.4}
    assert [one.constraints for one in made.optuna.trials[:3]] == [{"feasible": 1.0}, {}, {"feasible": 1.0}]
    fast = study("fast", constraints={"latency": (None, 0.5)})
    fast.optimize(train, trials=12, progress=False)
    assert fast.counts().keys() == {"complete", "infeasible"}
    assert all((one.values[1] > 0.5) == (one.outcome.state == "infeasible") for one in fast.trials)
    assert all(one.values[1] <= 0.5 for one in fast.best_trials)
    missing = study("missing", constraints={"watt": (None, 1)})
    with pytest.raises(TrialError, match="The study has a limit for the metric 'watt' too, but the training did not"):
        missing.optimize(train, trials=1, progress=False)


def test_wandb_has_all_metrics() -> None:
    """The configuration of a run names them, and its summary has the value of each."""
    made = study()
    trial = made.ask()

    assert describe_trial(trial, {})["tunehook"]["others"] == {"latency": "min"}
    summary = describe_outcome(trial, th.Outcome("complete", value=3.0, step=2, values=(3.0, 8.0)))
    assert (summary["best/acc"], summary["best/latency"]) == (3.0, 8.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "max"}, "There is a mode for each metric, and 2 for 1 were given"),
        ({"metric": ["acc", "acc"]}, r"Each metric is named once; got \['acc', 'acc'\]."),
        ({"metric": []}, r"or a list of several, such as \['val_acc', 'latency'\]; got \[\]."),
        ({"mode": ["max", "up"]}, r"or a list of them, one for each metric; got \['max', 'up'\]."),
        (
            {"search": "cmaes"},
            "The search 'cmaes' is for one metric, and there are 2.\n  For several there are 'bayes', 'grid',",
        ),
        ({"search": "pbt"}, "The search 'pbt' is for one metric"),
        ({"search": "hyperopt"}, "The search 'hyperopt' is for one metric"),
        ({"constraints": {"latency": 5}}, r"None for no limit; got {'latency': 5}."),
        ({"constraints": {"latency": (None, None)}}, r"None for no limit; got {'latency': \(None, None\)}."),
        ({"constraints": {"latency": (5, 1)}}, r"The lowest value of 'latency' is above the highest: \(5, 1\)."),
    ],
)
def test_mistakes_are_errors(options: dict[str, Any], said: str) -> None:
    """Metrics and modes fit together, and a search for one metric says which ones take several."""
    with pytest.raises(ValueError, match=said):
        study(**options)


def test_known_trials_have_all_metrics(caplog: pytest.LogCaptureFixture) -> None:
    """Samplers get all values, also again from the journals; a trial that lacks one, or a study, is left out."""
    old = study("old")
    old.optimize(train, trials=4, progress=False)
    new = study("new", search="nsga2")
    assert new.add_trials(old) == 4
    assert [one.values for one in new.optuna.trials] == [list(one.values) for one in old.trials]
    assert new.best_trials == []
    rebuild("new")
    own = study("own", search="tpe")
    assert own.add_trials(th.Study.open("new")) == 0  # which has not trained them
    assert own.add_trials(old, as_own=True) == 4
    assert [one.params for one in own.best_trials] == [one.params for one in old.best_trials]
    own.optimize(train, trials=6, progress=False)
    assert own.counts() == {"complete": 6}
    one = th.Study("one", SPACE, metric="acc", mode="max", search="random")
    assert one.add_trials(old) == 4
    with caplog.at_level("INFO", "tunehook"):
        assert own.add_trials([KnownTrial({"x": 0.5, "y": 0.5}, 0.5, "run 1")]) == 0
    assert caplog.messages[-1].endswith("\n  1 not added, since it has no value of the metric 'latency'")
    message = r"Study 'one' has the metric 'acc' \(max\), and 'own' has 'acc' \(max\) and 'latency' \(min\), so its"
    with pytest.raises(th.StudyError, match=f"^{message}"):
        own.add_trials(one)


def test_importance_is_of_complete_trials() -> None:
    """Not of stopped ones, which Optuna calls complete where there are several metrics."""
    made = study()
    for number in range(30):
        trial = made.ask()
        state = "complete" if number < 12 else "pruned"
        made.tell(trial, th.Outcome(state, value=trial.params["x"], values=(trial.params["x"], 0.0)))  # type: ignore[arg-type]
    assert [trial.state.name for trial in made.optuna.trials] == ["COMPLETE"] * 30
    assert made.importance() == {}


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, 2.0, 3.0)])
def test_what_is_told_by_hand_has_all_values(values: tuple[float, ...]) -> None:
    """Else it is an error, the trial still runs, and can be told right."""
    made = study()
    trial = made.ask()
    with pytest.raises(
        ValueError, match=r"^A complete trial of a study with 2 metrics has a value of each; got Outcome"
    ):
        made.tell(trial, th.Outcome("complete", value=1.0, values=values))
    assert made.counts() == {"running": 1}
    made.tell(trial, th.Outcome("complete", value=1.0, values=(1.0, 2.0)))
    assert [one.values for one in made.best_trials] == [(1.0, 2.0)]


def test_the_line_of_a_trial_has_all_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    """Not the first one alone, which says nothing of what the others cost."""
    made = study()
    made.optimize(train, trials=1)
    acc, latency = made.trials[0].values
    assert f"trial 0: complete, acc {acc:.4g}, latency {latency:.4g} (x=" in capsys.readouterr().err


def test_several_metrics_are_trained_once_more() -> None:
    """By its number, since there is no best one; a training that runs out of memory is an error with its reason."""
    made = study()
    made.optimize(train, trials=2, progress=False)

    def fails() -> None:
        th.value("x", 0.5), th.value("y", 0.5)
        raise MemoryError("too large")

    assert made.retrain(train, number=1) == dict(zip(METRICS["metric"], made.trials[1].values, strict=True))
    with pytest.raises(
        th.StudyError, match=r"^The training with the values of trial 1 is infeasible: MemoryError: too la"
    ):
        made.retrain(fails, number=1)
    with pytest.raises(th.StudyError, match="so no single trial is the best one"):
        made.retrain(train)
