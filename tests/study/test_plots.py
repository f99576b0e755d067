"""A study in a notebook: its figures, and what stands there for a study, a trial and a space."""

from __future__ import annotations

import sys

import pytest

import tunehook as th
from studies import write_study


def test_the_figures_of_a_notebook() -> None:
    """They are Plotly's own, and those of the report."""
    from plotly.graph_objects import Figure

    study = write_study(trials=40, epochs=3, snapshots=2)
    plot = th.Study.open("digits").plot
    drawn = [
        plot.history(), plot.curves(), plot.curves("loss"), plot.parallel(), plot.importance(),
        plot.slice("model.scale"), plot.contour(), plot.contour("model.dropout", "data.batch_size"), plot.timeline(),
        *plot.weights(study.best.number),
    ]  # fmt: skip
    assert all(isinstance(one, Figure) and one.data for one in drawn)
    assert drawn[7].layout.title.text == "model.dropout and data.batch_size"
    assert [*drawn[7].layout.yaxis.ticktext] == ["128", "32", "64"]


def test_a_title_is_no_markup() -> None:
    """Plotly would draw the links and tags of names, such as those of metrics and of branches."""
    space = {"o": th.Choice({"<b>a</b>": {"u": th.Float(0, 1)}, "b": {"u": th.Float(0, 2)}})}
    study = th.Study("several", space, metric=["<i>acc</i>", "ms"], mode=["max", "min"], search="random", seed=1)
    study.optimize(lambda: {"<i>acc</i>": th.value("u", 0.5), "ms": len(th.value("o", "b"))}, trials=8, progress=False)
    drawn = [*study.plot.front(), *map(study.plot.slice, study.space.searched)]
    assert len(drawn) == 4
    assert not [one for one in drawn if "<" in str(one.layout.title.text) + str(one.layout.xaxis.title.text)]


def test_what_cannot_be_drawn_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is needed: a name that exists, trials, a metric that was reported, Plotly."""
    plot = write_study(trials=3, epochs=2, snapshots=0).plot
    with pytest.raises(th.StudyError, match=r"There is no searched 'lr' in the space; there are: optimizer\.lr, model"):
        plot.slice("lr")
    with pytest.raises(th.StudyError, match="the figure needs 20 complete trials of different values"):
        plot.importance()
    with pytest.raises(th.StudyError, match="a trial that has reported f1; there are: val_acc, loss"):
        plot.curves("f1")
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"study\.plot needs the package plotly: pip install 'tunehook\[report\]'"
    ):
        plot.history()


def test_what_a_notebook_shows() -> None:
    """Tables of a study, a trial and a space; what is in names and values is no markup."""
    space = {"text": th.Choice(["<b>bold</b>", "x" * 10_000]), "lr": th.Float(1e-4, 1e-1, log=True)}
    study = write_study(trials=4, space=space, metric="<i>acc</i>", epochs=2, snapshots=0)
    shown = [study._repr_html_(), study.space._repr_html_(), study.trials[0]._repr_html_(), study.best._repr_html_()]
    trial = study._ledger.as_trial(study._ledger.numbered(0))
    shown.append(trial._repr_html_())
    for one in shown:
        assert one.startswith("<table><caption>")
        assert "<b>" not in one
        assert "<i>" not in one
        assert len(one) < 5000
    assert f"trial {study.best.number}" in shown[0]
    assert "Float(0.0001, 0.1, log=True)" in shown[1]


def test_a_look_loads_no_plotly() -> None:
    """The core asks for it when a figure is drawn, and never before."""
    import subprocess

    code = (
        "import sys, tunehook as th, tunehook.cli, tunehook.study, tunehook.figures; assert 'plotly' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
