"""Hostile names reach W&B's run file as what they are, or escaped where no message can hold them."""

from __future__ import annotations

from pathlib import Path

import pytest

import tunehook as th
from run_file import read_runs
from tunehook.study import Study
from tunehook.trial import Outcome

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder  # noqa: E402


@pytest.mark.parametrize(
    "name", ["\x1b[2J", "a\nb", "\u202egnp", "../../x", "\ud800", "x\0y", "{a}", "[red]", "日本", "."]
)
def test_a_run(name: str) -> None:
    """With its metric, its choice and its reason."""
    space = {"act": th.Choice([name])}
    study = Study("digits", space, metric=f"acc{name}", mode="max", search="random",
                  recorders=[WandbRecorder("digits", lean=True)])  # fmt: skip
    trial = study.ask()
    session = study.session(trial)
    session.ready()
    session.report(1, {study.metric: 0.5, f"loss{name}": 1.0})
    session.end(RuntimeError(name))
    (run,) = (one for one in read_runs(Path()) if one.job_type == "trial")
    held = name.encode("utf-8", "backslashreplace").decode()
    assert run.config["act"] == held
    assert run.config["tunehook"]["metric"] == f"acc{held}"
    assert run.column(f"acc{held}") == [0.5]
    assert run.summary["outcome"] == "failed"
    assert {path.name for path in Path().iterdir()} <= {"tunehook-studies", "wandb"}
    assert isinstance(session.outcome, Outcome)
