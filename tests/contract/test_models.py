"""The trained model in the hand: as it was when it measured its trial's value, in every framework."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tunehook as th
from adapters import Project
from contract_study import a_study, events
from tunehook.trial.errors import TrialError

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks


class Script:
    """A training whose best epoch is its second one.

    Args:
        project: The framework.
    """

    scores = (1.0, 3.0, 2.0)

    def __init__(self, project: Project) -> None:
        self.project, self.fits = project, list[Any]()

    def train(self, **arguments: Any) -> None:
        """The script."""
        model = self.project.model(**arguments)
        factor = 2 if self.project.width(model) == 7 else 1
        scores = [factor * one for one in self.scores]
        self.fits.append(self.project.fit(model, self.project.callback(), scores=scores))

    def plain(self, width: int, epochs: int) -> list[bytes]:
        """The weights after so many epochs, with no study."""
        model = self.project.model(width=width)
        self.project.fit(model, scores=self.scores[:epochs])
        return self.project.weights(model)


@pytest.mark.parametrize("objective", ["best", "last"])
def test_the_model_of_the_value(project: Project, objective: Any) -> None:
    """That of the epoch which measured the trial's value, of the best trial alone; nothing is trained or recorded."""
    script = Script(project)
    study = a_study({"width": th.Choice([6, 7, 8])}, search="grid", keep="best", objective=objective)
    study.optimize(script.train, trials=3, progress=False)
    best, (other, *_) = study.best, [trial for trial in study.trials if trial.params["width"] == 6]
    assert best.params == {"width": 7}
    before, count = events(study, best.number), len(script.fits)
    model = study.best_model(script.train)
    assert project.weights(model) == script.plain(7, 2 if objective == "best" else 3)
    assert (events(study, best.number), len(study.trials), len(script.fits)) == (before, 3, count)
    assert [path.name for path in study.paths.models.iterdir()] == [f"trial-{best.number:04d}"]
    assert study.model_path().stem == ("step-0002" if objective == "best" else "step-0003")
    with pytest.raises(th.StudyError, match=r"its file is gone, as keep='best' removes it when a better"):
        study.model_path(other.number)
    assert th.Study.open("contract").model_path() == study.model_path()


def test_no_wrong_model(project: Project) -> None:
    """Other code, a file that was changed, a value that train returned, a training without a fit: each is an error."""
    script = Script(project)
    study = a_study({project.rate: 0.25}, keep="all")
    study.optimize(script.train, trials=1, progress=False)
    with pytest.raises(TrialError, match="does not fit the one that the training makes"):
        study.best_model(lambda: script.train(width=9))
    with pytest.raises(th.StudyError, match=r"has called no fit with a TuneCallback\.\n  Give the function"):
        study.model_of(0, lambda: None)
    with study.model_path().open("ab") as file:
        file.write(b"\0")
    with pytest.raises(th.StudyError, match=r"is not the file that trial 0 .* has written.*\n.*study\.retrain"):
        study.best_model(script.train)

    def returns() -> float:
        script.train()
        return 9.0

    returning = a_study(keep="all", name="returning")
    returning.optimize(returns, trials=1, progress=False)
    with pytest.raises(th.StudyError, match="its value is what train returned, and no measurement of the fit has it"):
        returning.best_model(returns)
    plain = a_study(name="plain")
    plain.optimize(script.train, trials=1, progress=False)
    assert not plain.paths.models.exists()
    with pytest.raises(th.StudyError, match=r"none was kept; Study\(\.\.\., keep='best'\)"):
        plain.best_model(script.train)


def test_what_cannot_be_written_ends_no_training(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A line says why there is no model, and the trial is complete."""
    script = Script(project)
    study = a_study(keep="best")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    study.optimize(script.train, trials=1, progress=False)
    assert study.counts() == {"complete": 1}
    assert "the model of trial-0000 is not kept: it could not be written: [Errno 28] No space left" in caplog.text
    assert [*study.paths.models.rglob("*step*")] == []
