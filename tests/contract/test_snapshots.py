"""Snapshots of the parameters in a training: when they come, what they hold, and that they change nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tunehook as th
from adapters import Project
from contract_study import Kept, a_study, events, run
from tunehook.snapshot.values import Snapshot
from tunehook.trial.errors import TrialError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks: small data, old calls of NumPy and pytrees ...


def snapshots(study: th.Study) -> list[Snapshot]:
    """Those in the journal of the first trial."""
    return [Snapshot.from_json(event["snapshot"]) for event in events(study) if event["event"] == "snapshot"]


def fit(study: th.Study, project: Project, **script: Any) -> list[bytes]:
    """Train one trial of two epochs, with three steps each, and return the weights."""
    trained: list[Any] = []

    def train() -> None:
        trained.append(project.model())
        project.fit(trained[0], project.callback(), **script)

    study.optimize(train, trials=1, progress=False)
    return project.weights(trained[0])


def has_gradients(project: Project) -> bool:
    """Whether the framework keeps gradients where they can be read."""
    return not project.name.startswith("keras") or project.name.endswith("torch")


def first(project: Project) -> list[int]:
    """The step of the first snapshot: TensorFlow's models of a class have no weights before their first batch."""
    return [] if project.name.endswith("tensorflow") else [0]


def test_one_at_the_start_and_one_at_the_end(project: Project) -> None:
    """By default, with the budget; the last one is of the weights that the training leaves, to nine digits."""
    study = a_study()
    weights = fit(study, project)
    taken = snapshots(study)
    assert [snapshot.step for snapshot in taken if snapshot.step in (0, 6)] == [*first(project), 6]
    elements = np.concatenate([np.frombuffer(bits, dtype="float32") for bits in weights]).astype(float)
    for snapshot in (taken[0], taken[-1]):
        assert snapshot.model.size == sum(stats.size for stats in snapshot.parameters.values())
    if not project.name.startswith("keras"):  # Keras counts the seeds of dropout among the weights
        assert taken[-1].model.size == elements.size
        assert taken[-1].model.norm == pytest.approx(math.sqrt(float(np.sum(elements**2))), rel=1e-6)
    assert len(taken) == 1 or taken[-1].model.norm != taken[0].model.norm
    assert all(sum(stats.counts) == stats.size for stats in taken[-1].parameters.values())
    assert bool(taken[-1].ratios) == (len(taken) > 1)
    assert all(ratio > 0 for ratio in taken[-1].ratios.values())


@pytest.mark.parametrize(("every", "steps"), [(2, [2, 4, 6]), (1, [1, 2, 3, 4, 5, 6]), ("epoch", [3, 6])])
def test_every_so_often(project: Project, every: Any, steps: list[int]) -> None:
    """Each n optimizer steps, or each epoch; with the gradients of the step before."""
    study = a_study(snapshots=th.SnapshotPlan(every=every))
    fit(study, project)
    taken = snapshots(study)
    steps = [*first(project), *steps]
    if every == 2 and not first(project):
        steps = [1, 3, 5, 6]  # it counts from the first
    assert [snapshot.step for snapshot in taken] == steps
    assert not any(snapshot.gradients for snapshot in taken if snapshot.step == 0)
    for snapshot in taken[1:]:
        if has_gradients(project):
            assert snapshot.gradients.keys() == snapshot.parameters.keys()
            assert snapshot.model_gradient is not None
            assert snapshot.model_gradient.norm > 0
        else:
            assert not snapshot.gradients
    moved = [snapshot.model.norm for snapshot in taken]
    assert len(set(moved)) == len(moved)  # none is of a state that was taken before


def test_none(project: Project) -> None:
    """Where they are not wanted."""
    study = a_study(snapshots=False)
    fit(study, project)
    assert snapshots(study) == []


def test_they_change_nothing(project: Project) -> None:
    """The weights are the same to the last bit, whether a snapshot was taken at each step or never."""
    often = fit(a_study(name="often", snapshots=th.SnapshotPlan(every=1, exact=True)), project)
    never = fit(a_study(name="never", snapshots=False), project)
    assert often == never


def test_a_stopped_trial_has_its_last_one(project: Project) -> None:
    """A trial that a rule ends keeps the state in which it was ended."""
    from optuna.pruners import ThresholdPruner

    study = a_study(stopper=ThresholdPruner(upper=1.5), snapshots=th.SnapshotPlan(every=100))
    run(study, project, scores=[1.0, 2.0, 1.0])
    assert study.trials[0].outcome.state == "pruned"
    assert [snapshot.step for snapshot in snapshots(study)] == [*(first(project) or [1]), 6]


def test_names_choose(project: Project) -> None:
    """Only these; one that fits nothing is an error with those that exist."""
    study = a_study(snapshots=th.SnapshotPlan(names=["*bias"]))
    fit(study, project)
    assert {name.rpartition("/")[2].rpartition(".")[2] for name in snapshots(study)[-1].parameters} == {"bias"}
    with pytest.raises(TrialError, match=r"The pattern 'encoder.\*' of names fits no parameter. There are: .*bias"):
        fit(a_study(name="wrong", snapshots=th.SnapshotPlan(names=["encoder.*"])), project)


class Shows(Kept):
    """A recorder that takes snapshots."""

    def snapshot(self, step: int, snapshot: Snapshot) -> None:
        """Keep it."""
        self.calls.append(("snapshot", (step, snapshot.step)))


def test_a_recorder_is_shown_them(project: Project) -> None:
    """One that has the method, in the order of the training; one without it is left in peace."""
    shown, plain = Shows(), Kept()
    fit(a_study(snapshots=th.SnapshotPlan(every="epoch"), recorders=[shown, plain]), project)
    order = [(kind, what) for kind, what in shown.calls if kind == "snapshot"]
    assert [taken for _, (_, taken) in order] == [*first(project), 3, 6]
    assert [kind for kind, _ in plain.calls] == ["open", "report", "report", "close"]


def test_statistics_that_fail_end_no_training(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told in the journal, and the trial is complete."""
    from tunehook.snapshot.take import Snapshots

    def fail(*_: Any) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(Snapshots, "take", fail)
    study = a_study(snapshots=True)
    fit(study, project)
    assert study.trials[0].outcome.state == "complete"
    assert [event["text"] for event in events(study) if event["event"] == "problem"] == [
        "no more snapshots: RuntimeError('no such kernel')"
    ]


@pytest.mark.parametrize("wrong", [{"every": 0}, {"budget": 2.0}, {"names": "w"}, {"sample": 3}])
def test_a_wrong_plan(wrong: dict[str, Any]) -> None:
    """It is refused before any work."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        th.SnapshotPlan(**wrong)
    with pytest.raises(TypeError, match="snapshots is True, False, or a plan"):
        a_study(snapshots=3)
