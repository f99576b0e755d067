"""A script that W&B's agent runs: the values of the sweep arrive, and no others; W&B searches, nothing is pruned."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import tunehook as th
from adapters import Project
from tunehook.trial.errors import InjectionError, TrialError

wandb = pytest.importorskip("wandb")
from wandb.sdk.lib import config_util  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of the frameworks: small data, old calls of NumPy and pytrees ...

Agent = Callable[..., None]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Agent]:
    """Gives this process the values of a run, as the agent gives them to a script."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")

    def give(values: Mapping[str, Any], run: str = "run1") -> None:
        path = os.path.join("wandb", "sweep-s1", f"config-{run}.yaml")  # noqa: PTH118 - as the agent does
        written = {name: {"value": value} for name, value in values.items()}
        config_util.save_config_file_from_dict(path, written)  # type: ignore[no-untyped-call]
        monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
        monkeypatch.setenv("WANDB_RUN_ID", run)
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", path)
        wandb.teardown()  # as the agent does, so that the settings are read again

    yield give
    wandb.teardown()


def trained(project: Project, *callbacks: Any, **script: Any) -> tuple[Any, Any]:
    """The model and the count of a function that is decorated for the agent, which calls it."""
    made = []

    @th.objective
    def train() -> None:
        model = project.model()
        made.append((model, project.fit(model, *(callbacks or [project.callback()]), **script)))

    train()
    return made[-1]


def test_the_values_of_the_sweep_equal_typed_in_ones(project: Project, agent: Agent) -> None:
    """Plain, dotted and nested names arrive bit for bit; what the user's code put into the configuration does not."""
    typed = project.model(width=6)
    project.fit(typed, rate=0.1 + 0.2, size=6)
    group, name = project.rate.split(".")
    agent({"width": 6, project.size: 6, group: {name: 0.1 + 0.2}})
    with wandb.init(config={"dead": 7, "momentum": 0.9}) as run:
        assert run.config["width"] == 6
        tuned, count = trained(project, metric="whatever")
    assert project.width(tuned) == 6
    assert project.weights(tuned) == project.weights(typed)
    assert count.epochs == 2


def test_the_script_reads_a_value_of_the_sweep(project: Project, agent: Agent) -> None:
    """The trial is known before its fit, and what the script reads is not looked for in its objects."""
    agent({"units": 6})
    tuned = project.model(width=th.value("units", 2))
    project.fit(tuned, project.callback())
    assert project.width(tuned) == 6
    trial = th.current()
    assert trial is not None
    assert trial.params == {"units": 6}


def test_nothing_is_pruned_and_nothing_recorded(project: Project, agent: Agent) -> None:
    """A metric that is NaN ends no training, a metric is not asked for, and no study is made on disk."""
    agent({project.size: 6})
    count = project.fit(project.model(), project.callback(), scores=[math.nan, math.nan, 1.0])
    assert count.epochs == 3
    assert not Path("tunehook-studies").exists()


def test_an_unknown_name_is_an_error(project: Project, agent: Agent) -> None:
    """A value of the sweep that has no slot is refused before the first step."""
    agent({"widht": 5})
    with pytest.raises(InjectionError, match=r"There is nothing called 'widht' to inject\. Did you mean 'width'"):
        project.fit(project.model(), project.callback())


def test_a_text_that_looks_like_a_number_is_an_error(project: Project, agent: Agent) -> None:
    """W&B takes 1e-5 in a sweep's file as a text, and hands it on as one: it is no learning rate."""
    agent({project.rate: "1e-5"})
    with pytest.raises(InjectionError, match=r"(?s)The sweep gives .* as the text '1e-5'.*such as 1\.0e-5"):
        project.fit(project.model(), project.callback())


def test_one_callback_serves_run_after_run(project: Project, agent: Agent) -> None:
    """The agent calls a function again and again in one process: each call has the values of its own run."""
    callback = project.callback()
    widths = []
    for run, width in (("run1", 3), ("run2", 9)):
        agent({"width": width}, run)
        model, _ = trained(project, callback)
        widths.append(project.width(model))
    assert widths == [3, 9]


def test_a_file_that_is_gone_is_an_error(project: Project, agent: Agent) -> None:
    """A training without the values of its run would be taken for one with them."""
    agent({"width": 5})
    Path("wandb", "sweep-s1", "config-run1.yaml").unlink()
    with pytest.raises(TrialError, match=r"(?s)The values of this sweep's run cannot be read from .*unset WANDB_SWEEP"):
        project.fit(project.model(), project.callback())


def test_a_script_that_changed_its_directory(
    project: Project, agent: Agent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The agent names the file from where it started the script, which the shell's PWD still tells."""
    agent({"width": 5})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.chdir(tmp_path / "elsewhere")
    model, _ = trained(project)
    assert project.width(model) == 5


def test_outside_of_an_agent_nothing_happens(project: Project) -> None:
    """The script trains with its own values."""
    model = project.model()
    project.fit(model, project.callback())
    assert project.width(model) == 4
