"""The dashboard of a study, from the command line through the real packages to the stand-in for the server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tunehook as th
from tunehook.cli import app
from tunehook.integrations.wandb.journal import note_run
from tunehook.record.journal import Journal
from tunehook.trial.values import Outcome
from wandb_server import ENTITY, WandbServer, online, serving

wandb = pytest.importorskip("wandb")
pytest.importorskip("wandb_workspaces")

pytestmark = pytest.mark.filterwarnings("ignore")  # of wandb-workspaces: what pydantic will drop


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WandbServer]:
    """A stand-in to which this process's SDK talks."""
    with serving() as made, online(made, tmp_path):
        yield made


def make_study(*, is_recorded: bool = True, is_shared: bool = False) -> th.Study:
    """A study of two trials, as its processes leave it."""
    space = {"optimizer.lr": th.Float(1e-5, 1e-1, log=True), "width": th.Int(1, 9), "kind": "plain"}
    study = th.Study("digits", space, metric="val_acc", mode="max", search="random", seed=0)
    for _ in range(2):
        trial = study.ask()
        if is_recorded:
            note_run(trial, "id", {"project": "my-project", "group": "my group"}, is_shared=is_shared)
        journal = Journal(trial.folder)
        names: dict[str, Any] = {"net.0.weight": {}}
        journal._write("snapshot", step=1, snapshot={"parameters": names, "gradients": {}})
        journal.close()
        study.tell(trial, Outcome("complete", "trained to its end", 0.5, 1))
    return study


def save(*arguments: str) -> Any:
    """Call the command."""
    return CliRunner().invoke(app, ["wandb", "workspace", *arguments])


def panels(server: WandbServer) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """The kind and configuration of each panel of the saved workspace, by section."""
    (view,) = server.views.values()
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    return {one["name"]: [(panel["viewType"], panel["config"]) for panel in one["panels"]] for one in sections}


def test_the_help_has_an_example() -> None:
    """As every command has."""
    helped = save("--help")
    assert helped.exit_code == 0
    assert "tunehook wandb workspace digits" in helped.output


def test_the_dashboard_is_saved(server: WandbServer) -> None:
    """The address is printed, and the server has every panel with what it shows, for the runs of the study only."""
    make_study()
    done = save("digits")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith(f"{server.url}/{ENTITY}/my-project?nw=")
    (view,) = server.views.values()
    assert (view["entityName"], view["projectName"], view["displayName"]) == (ENTITY, "my-project", "tunehook: digits")
    (runs,) = json.loads(view["spec"])["section"]["runSets"]
    (only,) = runs["filters"]["filters"]
    assert (only["key"], only["op"], only["value"]) == ({"section": "run", "name": "group"}, "=", "my group")
    assert runs["sort"]["keys"] == [{"key": {"section": "summary", "name": "best/val_acc"}, "ascending": False}]

    saved = panels(server)
    assert list(saved) == ["Search", "Learning curves", "Snapshots"]
    search = dict(saved["Search"])
    assert search["Run History Line Plot"]["xAxis"] == "study/trials"
    assert search["Run History Line Plot"]["metrics"] == ["best/val_acc", "value/val_acc"]
    columns = search["Parallel Coordinates Plot"]["columns"]
    # A dot is part of the name: "optimizer.value.lr" would be the entry lr of a dictionary.
    assert [column["accessor"] for column in columns] == [
        "config:optimizer.lr.value", "config:width.value", "config:kind.value", "summary:best/val_acc",
    ]  # fmt: skip
    assert search["Bar Chart"]["metrics"] == ["importance/optimizer/lr", "importance/width"]
    assert search["Parameter Importance"]["targetKey"] == "best/val_acc"
    assert "study/table" in json.dumps(search["Weave"])
    curve, grouped = (config for _, config in saved["Learning curves"])
    assert (curve["xAxis"], curve["metrics"]) == ("trial/step", ["val_acc"])
    assert (grouped["metrics"], grouped["groupBy"]) == (["val_acc"], "tunehook.value.outcome")
    shown = [config for _, config in saved["Snapshots"]]
    assert {config["xAxis"] for config in shown} == {"snapshot/step"}
    assert [config["metrics"] for config in shown] == [
        ["snapshot/parameters/norm"], [], ["parameters/net/0/weight"],
    ]  # fmt: skip
    assert shown[1]["metricRegex"] == "^ratio/"


def test_saved_again_it_is_the_same_dashboard(server: WandbServer) -> None:
    """The second call changes the workspace of the first one."""
    study = make_study()
    assert save("digits").exit_code == 0
    (first,) = server.views.values()
    done = save(str(study.paths.folder), "--json")
    (second,) = server.views.values()
    assert json.loads(done.stdout.splitlines()[-1])["workspace"].startswith(server.url)
    assert (second["name"], second["id"]) == (first["name"], f"gid-{first['name']}")
    assert save("digits", "--project", "other", "--entity", "team").exit_code == 0
    assert [(view["entityName"], view["projectName"]) for view in server.views.values()] == [
        (ENTITY, "my-project"), ("team", "other"),
    ]  # fmt: skip


def test_the_curves_of_shared_runs(server: WandbServer) -> None:
    """In a run of the training's own the metric has another name."""
    make_study(is_shared=True)
    assert save("digits").exit_code == 0
    assert [config["metrics"] for _, config in panels(server)["Learning curves"]] == [["trial/val_acc"]] * 2


def test_what_is_missing_is_told(server: WandbServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No study, no trial, no record with W&B, a server that refuses, no key, no package: each with the way out."""
    done = save("digits")
    assert (done.exit_code, done.stderr) == (
        2, "There is no study digits: neither a folder of this name nor tunehook-studies/digits exists.\n",
    )  # fmt: skip
    Path("tunehook-studies/empty").mkdir(parents=True)
    done = save("empty")
    assert done.exit_code == 1
    assert "There is no study in tunehook-studies/empty: it has no journals of trials." in done.stderr
    study = make_study(is_recorded=False)
    done = save("digits")
    assert done.exit_code == 1
    assert "No trial of study digits was recorded with W&B" in done.stderr

    note_run(study.ask(), "id", {"project": "my-project", "group": "my group"})
    server.fail(403)
    done = save("digits")
    assert done.exit_code == 1
    assert "W&B does not keep the dashboard of study digits" in done.stderr
    assert "wandb login" in done.stderr

    server.recover()
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    wandb.teardown()
    done = save("digits")
    assert (done.exit_code, "Log in: wandb login." in done.stderr) == (1, True)

    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    for name in [name for name in sys.modules if name.startswith("wandb_workspaces.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "tunehook.integrations.wandb.workspace")
    done = save("digits")
    assert done.exit_code == 1
    assert "pip install 'tunehook[workspace]'" in done.stderr
