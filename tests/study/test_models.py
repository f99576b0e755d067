"""The models that trials keep: which stay, which are removed, and that the best one is there at every moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tunehook as th
from tunehook.adapter.keeping import Keeping
from tunehook.adapter.ranks import Alone
from tunehook.session import Held, Kept, active
from tunehook.study import ask_tell
from tunehook.trial import Decision, TrialError

WRONG = r"^keep is 'best' \(the model of the best trial\), 'all' \(of each one\) or None \(of none\); got 'last'\.$"


class Host:
    """A model that is one number."""

    model: object = None

    def __init__(self) -> None:
        self.weight = 0.0

    def hold_model(self) -> Held:
        weight = self.weight

        def write(begun: Path) -> Path:
            path = begun.with_suffix(".txt")
            path.write_text(str(weight))
            return path

        return write

    def load_model(self, kept: Kept) -> None:
        """Nothing to do."""


def train() -> None:
    """Measures what its trial says, and ends as that says."""
    session = active()
    assert session is not None
    session.ready()
    host, how = Host(), session.trial.params["how"]
    keeping = Keeping(session, host, Alone())
    for step, value in enumerate(session.trial.params["values"], start=1):
        host.weight = value
        session.report(step, {"v": value})
        keeping.take()
    if how == "is pruned":
        session.follow(session.step, Decision(True, "enough"))
    keeping.end()
    if how == "fails":
        raise RuntimeError


def a_study(*trials: tuple[Any, ...], **options: Any) -> th.Study:
    """A study of trials with these values and ends, in order."""
    space = {"values": th.Choice([list(one) for one, _ in trials]), "how": th.Choice(["ends", "fails", "is pruned"])}
    study = th.Study("s", space, **{"metric": "v", "mode": "max", "search": "random", "max_failures": 9, **options})
    if not study.trials:
        for values, how in trials:
            study.enqueue({"values": list(values), "how": how})
    return study


def there(study: th.Study) -> dict[str, str]:
    """The models that there are, with their weights."""
    root = study.paths.models
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


PAST = [
    ((0.1, 0.5, 0.2), "ends"), ((0.9, 0.3), "is pruned"), ((0.9,), "fails"), ((0.5,), "ends"), ((0.4, 0.7), "ends"),
    ((0.6,), "ends"),
]  # fmt: skip


def test_the_best_one_stays_at_every_moment() -> None:
    """Of equal ones the first; a pruned trial, which may have measured more, is none."""
    study = a_study(*PAST, keep="best")
    expected = [{"trial-0000/step-0002.txt": "0.5"}] * 4 + [{"trial-0004/step-0002.txt": "0.7"}] * 2
    for number, models in enumerate(expected, start=1):
        study.optimize(train, trials=number - (number > 2), progress=False)
        assert there(study) == models
    assert study.model_path().read_text() == str(study.best.value)
    assert str(study.model_path()) in study.records(study.best.number)


@pytest.mark.parametrize(("objective", "weights"), [("best", "0.5 0.9 0.5 0.7 0.6"), (2, "0.2 0.3 0.5 0.7 0.6")])
def test_all_of_them(objective: Any, weights: str) -> None:
    """Each trial with a value, and of it the measurement whose value counts."""
    study = a_study(*PAST, keep="all", objective=objective)
    study.optimize(train, trials=5, progress=False)
    assert [*there(study).values()] == weights.split()
    with pytest.raises(th.StudyError, match="There is no model of trial 2 of study 's', which is failed: RuntimeError"):
        study.model_path(2)


def test_the_front_stays() -> None:
    """With several metrics, the models of the trials that no other one beats."""

    def both() -> dict[str, float]:
        train()
        session = active()
        assert session is not None
        return {"cost": sum(session.trial.params["values"])}

    study = a_study(*PAST, keep="best", metric=["v", "cost"], mode=["max", "min"])
    study.optimize(both, trials=5, progress=False)
    assert [*there(study)] == [f"trial-{one.number:04d}/step-{one.outcome.step:04d}.txt" for one in study.best_trials]
    assert len(study.best_trials) > 1


def test_a_crash_leaves_the_best_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a file has its name, and before the one before it is removed; the next trial tidies up."""
    trials = [((one,), "ends") for one in (0.5, 0.8, 0.6, 0.9)]
    study = a_study(*trials, keep="best")
    study.optimize(train, trials=1, progress=False)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    for owner, name, expected in ((Path, "replace", ["0.5"]), (ask_tell, "tidy", ["0.5", "0.6"])):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, crash)
            with pytest.raises(KeyboardInterrupt):
                study.optimize(train, trials=2, progress=False)
        assert [*there(study).values()] == expected
        assert study.model_path().read_text() == str(study.best.value)
    a_study(*trials, keep="best").optimize(train, trials=4, progress=False)
    assert len(there(study)) == 1
    assert study.model_path().read_text() == str(study.best.value)


def test_what_is_no_choice() -> None:
    """It is told with the choices."""
    with pytest.raises(ValueError, match=WRONG):
        a_study(*PAST, keep="last")
    with pytest.raises(TrialError, match="still open in this process"):
        nested()


def nested() -> None:
    """A model that is asked for inside of a trial."""
    done = a_study(*PAST[:1], keep="best")
    done.optimize(train, trials=1, progress=False)
    outer = th.Study("outer", {"x": 1}, metric="v", mode="min", search="random")
    outer.optimize(lambda: done.best_model(train), trials=1, progress=False)
