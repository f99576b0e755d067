"""The members of a population in the study, told by hand."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import tunehook as th
from tunehook.space import Space
from tunehook.study import KnownTrial
from tunehook.trial import INTERVAL_ENDS, Outcome, StudyError, Trial

SPACE = Space(
    {
        "a": th.Int(1, 10), "b": th.Int(1, 10), "seed": 1,
        "decay": th.Choice({
            "step": {"gamma": th.Float(0.1, 0.9), "every": th.Int(1, 5)},
            "cosine": {"gamma": th.Float(1e-3, 1e-1, log=True)},
        }),
    },
    where=lambda params: params["a"] * params["b"] <= 20,
)  # fmt: skip


def run(found: th.Study, many: int, *, population: int) -> list[Trial]:
    """Train so many generations; the larger the product, the better."""
    asked = []
    for _ in range(many * population):
        asked.append(found.ask())
        value = float(asked[-1].params["a"] * asked[-1].params["b"])
        found.tell(asked[-1], Outcome("complete", f"{INTERVAL_ENDS} after epoch 1", value, 1))
    return asked


@pytest.mark.parametrize("seed", range(3))
def test_copies_keep_to_the_space(seed: int) -> None:
    """What exists with an option comes and goes with it, and the condition holds, in every interval."""
    found = th.Study("s", SPACE, metric="m", mode="max", search=th.PBT(population=4, resample=0.5), seed=seed)

    asked = run(found, 12, population=4)

    names: dict[Any, set[str]] = {}
    for trial in asked:
        names.setdefault(trial.params["decay"], set()).update(trial.params)
        assert trial.params["a"] * trial.params["b"] <= 20
        SPACE.encode(trial.params)
    assert names == {
        "step": {"a", "b", "seed", "decay", "gamma", "every"},
        "cosine": {"a", "b", "seed", "decay", "gamma"},
    }
    copied = [one for one in asked[4:] if one.lineage and one.params != asked[one.lineage.parent or 0].params]
    assert any(
        one.params["decay"] != asked[(one.lineage and one.lineage.parent) or 0].params["decay"] for one in copied
    )
    assert {name for one in asked if one.lineage for name in one.lineage.names} == {"a", "b", "decay", "gamma", "every"}


def test_the_best_of_another_study_are_the_first_members(caplog: pytest.LogCaptureFixture) -> None:
    """They have a place in the population each; what has none any more is said."""
    found = th.Study("s", {"x": th.Int(1, 100)}, metric="m", mode="max", search=th.PBT(population=3), seed=1)
    known = [KnownTrial({"x": x}, float(x), f"run {x}") for x in (10, 20, 30, 40)]
    with caplog.at_level(logging.INFO, "tunehook"):
        assert found.enqueue_trials(known) == 3
    assert caplog.messages[-1] == (
        "Study 's': 3 of 4 known trials were enqueued.\n"
        "  1 not enqueued, since The 3 members of the population of study 's' have their first values: enqueue before "
        "they begin."
    )
    assert [found.ask().params["x"] for _ in range(3)] == [40, 30, 20]


@pytest.mark.parametrize("other", [th.PBT(population=2), th.PBT(population=3, interval=2)])
def test_another_population_is_an_error(other: th.PBT) -> None:
    """What was trained in other intervals, or by more members, is none of it; more members may join."""

    def make(search: th.PBT) -> th.Study:
        return th.Study("s", {"x": th.Int(1, 100)}, metric="m", mode="max", search=search, seed=1)

    first = make(th.PBT(population=3))
    for _ in range(3):
        first.tell(first.ask(), Outcome("complete", f"{INTERVAL_ENDS} after epoch 1", 1.0, 1))
    said = r"^Study 's' trains a population with at least 3 members and intervals of 1 epochs, and was given PBT\("
    with pytest.raises(StudyError, match=said):
        make(other).ask()
    more = make(th.PBT(population=4)).ask()
    assert more.lineage is not None
    assert (more.lineage.member, more.lineage.generation) == (3, 0)


def test_a_schedule_is_no_single_set_of_values() -> None:
    """The last values alone would train another model than the one that was found."""
    found = th.Study("s", SPACE, metric="m", mode="max", search=th.PBT(population=2), seed=0)
    run(found, 2, population=2)
    with pytest.raises(StudyError, match=r"study\.replay_schedule\(train\)"):
        found.retrain(lambda: None)
