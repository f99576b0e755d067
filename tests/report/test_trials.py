"""The commands that show trials: their tables, their order, and the files that they export."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import tunehook as th
from studies import write_study
from tunehook.cli import app
from tunehook.cli.seeing import Format, _exported
from tunehook.report import sparkline, status_of, table
from tunehook.trial import Outcome


def said(*arguments: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(autouse=True)
def study() -> th.Study:
    """A study of 30 trials."""
    return write_study(trials=30, epochs=6, snapshots=0)


def test_all_trials_in_order(study: th.Study) -> None:
    """By number, by value or by a name of the space, those without a value last; and why trials failed."""
    lines = said("trials", "digits").splitlines()
    assert lines[0] == "study digits: 30 of 30 trials; * is the best one"
    assert [int(line.split()[0].rstrip("*")) for line in lines[2:32]] == list(range(30))
    assert f"{study.best.number}*" in lines[2 + study.best.number]
    assert lines[32:] == [
        "2 failed: ValueError: shapes do not match (trials 7, 18)",
        "2 interrupted: its process 4242 is gone (trials 9, 26)",
        "1 infeasible: memory ran out: CUDA out of memory (trial 5)",
    ]
    for order, is_down in (("value", False), ("-value", True), ("-model.hidden", True), ("optimizer.lr", False)):
        rows = [json.loads(line) for line in said("trials", "digits", "--sort", order, "--json").splitlines()]
        name = order.removeprefix("-")
        found = [row["value"] if name == "value" else row["params"][name] for row in rows]
        known = [one for one in found if one is not None]
        assert known == sorted(known, reverse=is_down)
        assert found[len(known) :] == [None] * (30 - len(known))


def test_some_trials() -> None:
    """Those of a state, and the best ones first."""
    failed = [json.loads(line) for line in said("trials", "digits", "--state", "failed", "--json").splitlines()]
    assert [(row["trial"], row["reason"]) for row in failed] == [
        (7, "ValueError: shapes do not match"), (18, "ValueError: shapes do not match"),
    ]  # fmt: skip
    best = [json.loads(line) for line in said("trials", "digits", "--best", "3", "--json").splitlines()]
    everything = [json.loads(line) for line in said("trials", "digits", "--json").splitlines()]
    values = sorted((row["value"] for row in everything if row["state"] in ("complete", "pruned")), reverse=True)
    assert [row["value"] for row in best] == values[:3]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["trials", "digits", "--sort", "valeu"],
            "--sort valeu is none of trial, value, state, seconds, optimizer.lr,",
        ),
        (
            ["trials", "digits", "--state", "lost"],
            "--state lost is none of running, paused, complete, pruned, infeasible, failed, interrupted, known.",
        ),
        (["show", "digits", "99"], "There is no trial 99 in study 'digits': they go from 0 to 29.\n"),
        (["list", "elsewhere"], "There is no study in elsewhere.\n"),
        (["export", "digits", "-o", "no/digits.csv"], "The table cannot be written: "),
    ],
)
def test_what_there_is_not(arguments: list[str], told: str) -> None:
    """It is told with what there is."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert told in done.output


def test_what_runs_shows_its_course() -> None:
    """`status` and `watch` have the learning curve of a trial that runs, as bars."""
    told = said("status", "digits")
    assert re.search("trial 29 runs at step 2, val_acc 0[.][0-9]+ (▁█|█▁), for ", told)
    (running,) = json.loads(said("status", "digits", "--json"))["running"]
    assert len(running["course"]) == 2
    lines = table(status_of(th.Study.open("digits")), width=120, height=30).renderables[1:]
    assert any(re.fullmatch("trial 29 (▁█|█▁)", str(line)) for line in lines)


def test_one_trial(study: th.Study) -> None:
    """Its values, its metrics with their course, what was in force besides, and its record."""
    number = study.best.number
    text = said("show", "digits", str(number))
    assert text.startswith(f"trial {number} of study digits: complete, ")
    for line in (f"  optimizer.lr = {study.best.params['optimizer.lr']!r}", "  trainer.precision = '32-true'",
                 f"val_acc {study.best.value!r} at step 6", f"record: {study.records(number)[0]}"):  # fmt: skip
        assert line in text.splitlines()
    assert " in 6 reports" in text
    assert "ValueError: shapes do not match" in said("show", "digits", "7").splitlines()[-1]
    found = json.loads(said("show", "digits", str(number), "--json"))
    assert [step for step, _ in found["metrics"]["val_acc"]] == [1, 2, 3, 4, 5, 6]
    assert (found["epochs"], found["machine"][:5]) == (6, "node-")


def test_the_studies_of_a_folder(study: th.Study) -> None:
    """Each with its trials by state; one that cannot be opened is a line too."""
    broken = Path("tunehook-studies/broken")
    broken.mkdir()
    (broken / "study.db").write_bytes(b"no database" * 100)
    lines = said("list").splitlines()
    assert lines[0].startswith("broken: ")
    assert lines[1].startswith("digits: 19 complete, ")
    assert lines[1].endswith(f"; best val_acc {study.best.value:.4g}, trial {study.best.number}")
    assert [json.loads(line)["study"] for line in said("list", "--json").splitlines()] == ["broken", "digits"]


def test_a_folder_that_may_not_be_looked_into(study: th.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a line, and the other studies are shown."""
    Path("tunehook-studies/closed").mkdir()
    real = Path.is_file

    def is_file(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "is_file", is_file)
    assert [line.partition(": ")[0] for line in said("list").splitlines()] == ["closed", study.name]


def test_exported_tables_are_the_table(study: th.Study) -> None:
    """CSV, JSON and YAML hold the same rows, those of `dataframe`."""
    found = study.dataframe()
    as_csv = list(csv.DictReader(io.StringIO(said("export", "digits"))))
    assert list(as_csv[0]) == list(found.columns)
    assert [float(row["params.optimizer.lr"]) for row in as_csv] == list(found["params.optimizer.lr"])
    assert as_csv[0]["is_given"] == "true"
    assert said("export", "digits", "-o", "digits.json") == "digits.json: 30 trials\n"
    as_json = json.loads(Path("digits.json").read_text())
    assert as_json == yaml.safe_load(said("export", "digits", "--format", "yaml"))
    assert [row["metrics.loss"] for row in as_json] == list(found["metrics.loss"])
    assert [row["epochs"] for row in as_json] == list(found["epochs"])
    assert (found["ended"] - found["began"]).dt.total_seconds().tolist()[0] == pytest.approx(
        as_json[0]["seconds"], abs=0.01
    )


def test_values_of_any_kind_are_exported() -> None:
    """Lists, None and texts with anything in them come back as they were."""
    options = [None, True, [1, "a,b"], 'two\n"lines"', "\ud800"]
    ends = {number: Outcome("complete", "x\x1b[2J", 0.5, 1) for number in range(9)}
    study = write_study("odd", trials=9, space={"any": th.Choice(options)}, ends=ends, snapshots=0)
    rows = list(csv.DictReader(io.StringIO(said("export", "odd"))))
    assert len(rows) == 9
    assert {row["params.any"] for row in rows} <= {"", "true", '[1, "a,b"]', 'two\n"lines"', "\\ud800"}
    exported = json.loads(said("export", "odd", "--format", "json"))
    assert [row["params.any"] for row in exported] == [trial.params["any"] for trial in study.trials]
    assert _exported(["a\ud800"], [{"a\ud800": 1.0}, {}], Format.csv).encode() == b'a\\ud800\r\n1.0\r\n""\r\n'
    assert "\x1b" not in said("trials", "odd") + said("show", "odd", "0") + said("list")


def test_a_course_in_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the least to the most; of many values the means of neighbours; one value is a low bar."""
    assert sparkline([0.0, 1.0, 2.0]) == "▁▅█"
    assert sparkline([3.0]) == "▁"
    assert sparkline([]) == ""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "latin-1"))
    assert sparkline([0.0, 1.0]) == ""  # a terminal that has no such letters
    monkeypatch.undo()
    assert sparkline([float(one // 10) for one in range(80)], width=8) == "▁▂▃▄▅▆▇█"
