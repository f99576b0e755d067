"""Runs of a W&B project as trials that a study begins with: the real SDK and its public API, and a stand-in."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tunehook as th
from run_file import read_runs
from tunehook.session import active
from tunehook.system import StoredError
from tunehook.trial import StudyError
from wandb_server import WandbServer, online, serving

wandb = pytest.importorskip("wandb")
from tunehook.integrations.wandb import WandbRecorder, offline, past, past_trials  # noqa: E402
from tunehook.integrations.wandb.offline import OfflineRun  # noqa: E402


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WandbServer]:
    """A stand-in to which this process's SDK talks."""
    with serving() as made, online(made, tmp_path):
        yield made


def record(config: dict[str, Any], rows: list[float]) -> None:
    """Record a run without tunehook."""
    with wandb.init(project="digits", config=config, settings=wandb.Settings(x_disable_stats=True)) as run:
        for acc in rows:
            run.log({"acc": acc})


def test_runs_of_a_project(server: WandbServer) -> None:
    """Nested names, the value by the study's objective, ours by what they said; what has no value is left out."""
    record({"optimizer": {"lr": 0.1}, "hidden": 8, "epochs": 3}, [0.25, 0.5, 0.125])
    record({"optimizer": {"lr": 5.0}, "hidden": 16}, [0.75])
    record({"optimizer": {"lr": 0.5}, "hidden": 32}, [])
    space = {"optimizer.lr": th.Float(1e-3, 1, log=True), "hidden": th.Int(1, 100)}
    ours = th.Study("ours", space, metric="acc", mode="max", search="random", seed=1,
                    recorders=[WandbRecorder("digits", lean=True)])  # fmt: skip
    values = iter([0.5, math.nan])

    def train() -> dict[str, float]:
        th.value("optimizer.lr", 0.1)
        th.value("hidden", 1)
        session = active()
        assert session is not None
        session.ready()
        return {"acc": next(values)}

    ours.optimize(train, trials=2, progress=False)
    assert ours.recorders[0]._here.line.writer.drain(60)  # type: ignore[attr-defined]

    new = th.Study("new", space, metric="acc", mode="max")
    found = past_trials("digits", new, filters={"tags": "x"})
    assert server.filters == {"state": "finished", "tags": "x"}
    assert [(dict(one.params), one.value) for one in found] == [
        ({"optimizer.lr": 0.1, "hidden": 8}, 0.5),
        ({"optimizer.lr": 5.0, "hidden": 16}, 0.75),
        (dict(ours.trials[0].params), 0.5),
    ]
    assert all(re.fullmatch(r"W&B run someone/digits/[\w-]+", one.source) for one in found)
    assert new.add_trials(found) == 2  # one is outside
    assert new.counts() == {"known": 2}
    last = th.Study("last", space, metric="acc", mode="max", objective="last")
    assert next(one.value for one in past_trials("digits", last)) == 0.125


def test_further_metrics(server: WandbServer) -> None:
    """They are from where the first one counts, or last before, also where they stand in rows of their own."""
    settings = wandb.Settings(x_disable_stats=True)
    with wandb.init(project="digits", config={"lr": 0.5}, settings=settings) as run:
        for row in ({"latency": 3.0}, {"acc": 0.25}, {"latency": 2.0}, {"acc": 0.5}, {"latency": 1.0}, {"acc": 0.125}):
            run.log(row)
    with wandb.init(project="digits", config={"lr": 0.25}, settings=settings) as run:
        run.log({"acc": 0.75})
    metrics: dict[str, Any] = {"metric": ["acc", "latency"], "mode": ["max", "min"], "search": "random", "seed": 1}
    ours = th.Study("ours", {"lr": th.Float(0, 1)}, recorders=[WandbRecorder("digits", lean=True)], **metrics)
    ours.optimize(lambda: {"acc": th.value("lr", 0.1), "latency": 0.5}, trials=1, progress=False)
    assert ours.recorders[0]._here.line.writer.drain(60)  # type: ignore[attr-defined]

    new = th.Study("new", {"lr": th.Float(0, 1)}, **metrics)
    found = past_trials("digits", new)
    assert [(one.value, dict(one.others)) for one in found] == [
        (0.5, {"latency": 2.0}), (0.75, {}), (ours.trials[0].value, {"latency": 0.5}),
    ]  # fmt: skip
    assert new.add_trials(found) == 2  # one lacks a metric
    assert new.trials[0].values == (0.5, 2.0)


def test_a_project_that_is_none(server: WandbServer) -> None:
    """An error with the way out."""
    study = th.Study("new", {"lr": th.Float(0, 1)}, metric="acc", mode="max")
    message = "The runs of the W&B project 'nobody/nothing' cannot be read: "
    with pytest.raises(StudyError, match=f"^{re.escape(message)}(.|\n)*wandb login.$"):
        past_trials("nobody/nothing", study)


def test_runs_that_were_recorded_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """The same from the files of a folder; what is damaged is told and left out."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    wandb.teardown()
    record({"optimizer": {"lr": 0.25}, "hidden": 8}, [0.25, 0.5, 0.125])
    record({"optimizer": {"lr": 0.5}, "hidden": 16}, [])
    wandb.teardown()
    folder = tmp_path / "wandb"
    for run in read_runs(folder):  # waits for their ends
        assert run.exit_code == 0
    (folder / "run-damaged.wandb").write_bytes(b":W&B\0\0\0" + bytes(4) + b"\4\0\1" + b"\xff" * 4)
    os.mkfifo(folder / "run-pipe.wandb")
    (folder / "run-endless.wandb").symlink_to("/dev/zero")
    study = th.Study("new", {"optimizer.lr": th.Float(1e-3, 1), "hidden": th.Int(1, 100)}, metric="acc", mode="max")
    (one,) = past_trials(folder, study)
    assert (dict(one.params), one.value) == ({"optimizer.lr": 0.25, "hidden": 8}, 0.5)
    for name in ("damaged", "pipe", "endless"):
        assert f"run-{name}.wandb cannot be read and is left out" in caplog.text
    assert study.add_trials([one]) == 1
    with pytest.raises(ValueError, match=r"^filters are W&B's, for a project; the runs in "):
        past_trials(folder, study, filters={})
    with pytest.raises(StudyError, match=r"^There is no folder nowhere, in which"):
        past_trials(Path("nowhere"), study)


def test_what_stands_in_runs_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that no number can be, and names in each other without end, are none."""
    monkeypatch.setattr(past, "offline_runs", lambda _: [
        OfflineRun("a", {"lr": 0.5}, {"acc": 10**400}, [{"acc": 10**400}, {"acc": "x"}], 0),
        OfflineRun("b", {"lr": 10**400}, {"acc": 1}, [{"acc": 1}], 0),
    ])  # fmt: skip
    study = th.Study("new", {"lr": th.Float(0, 1)}, metric="acc", mode="max")
    found = past_trials(tmp_path, study)
    assert [one.value for one in found] == [1.0]
    assert study.add_trials(found) == 0
    item = SimpleNamespace(nested_key=["a"] * 5000, key="", value_json="1")
    with pytest.raises(StoredError, match="a key has 5000 parts"):
        offline._update({}, [item])
