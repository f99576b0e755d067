"""What the recorder reads back: any document is an answer or an error of ours, and no bad journal holds up others."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hostile import changed, documents, fuzzed, limited
from tunehook.integrations.wandb import agent
from tunehook.integrations.wandb.journal import rows_of, runs_in
from tunehook.integrations.wandb.owners import Owner, _first_claim
from tunehook.integrations.wandb.shown import changing
from tunehook.integrations.wandb.sync import read_attempt, why_left
from tunehook.integrations.wandb.values import describe_trial
from tunehook.record import Events, Journal, runs_of
from tunehook.trial import Outcome, Trial, TrialError

TRIAL = Trial("digits", 1, {"lr": 0.1}, Path("study", "trial-0001").absolute(), "acc", "max", 1, "0000-12345678")


@pytest.fixture(autouse=True)
def quietly() -> Iterator[None]:
    """What is left out is told in thousands of lines here."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The events of a trial with a run, as they are written."""
    with contextlib.chdir(tmp_path_factory.mktemp("genuine")):
        trial = Trial("digits", 1, {"lr": 0.1}, Path("study", "trial-0001"), "acc", "max", 1, "0000-12345678")
        journal = Journal(trial.folder)
        journal.begin(trial)
        journal.task("node")
        journal.config({"model.lr": 0.1}, records=["x"])
        run = {"id": "a", "is_shared": False, "dir": "x", "tags": ["t"], "steps": [1], "project": "p"}
        journal.recorder("wandb", {**run, "entity": None, "group": "g", "name": "n"}, places=["x"])
        journal.report(1, {"acc": 0.5})
        journal.synced(1)
        journal.end(Outcome("pruned", "median", 0.5, 1))
        return [json.loads(line) for line in journal.path.read_bytes().splitlines()]


@given(data=st.data())
@fuzzed
def test_what_is_uploaded(genuine: list[Any], data: st.DataObject) -> None:
    """What `tunehook sync` decides on a journal, without W&B."""
    lines = [json.dumps(data.draw(changed(line))).encode() for line in genuine]
    path = Path("study", "trial-0001", "journal.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\n".join(lines))
    with limited():
        events = Events.of_latest(path)
        rows_of([events])
        for run in runs_in(events):
            Path(run["dir"] or ".").is_dir()
        attempt = read_attempt(path, events)
        if attempt is not None:
            why_left([attempt])
            json.dumps(describe_trial(attempt.trial, attempt.slots), allow_nan=False)


@given(documents({"run": "a", "key": "0000-12345678", "study": "digits", "trial": 1}), st.booleans())
@fuzzed
def test_claims(text: bytes, is_whole: bool) -> None:
    """A claim that is none does not count."""
    folder = TRIAL.folder.relative_to(TRIAL.folder.parents[1])
    trial = Trial("digits", 1, {}, folder, "acc", "max", 1, "0000-12345678")
    folder.mkdir(parents=True, exist_ok=True)
    runs_of(folder).write_bytes(text + b"\n" * is_whole)
    with limited():
        assert isinstance(_first_claim("b", trial), Owner)


@given(documents({"p": {"run": "a", "trials": 1, "model": None}}))
@fuzzed
def test_what_was_shown(text: bytes) -> None:
    """What is none counts as not shown, and is written again."""
    path = Path("study", "shown.json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    with limited():
        with changing(path) as shown:
            shown["new"] = {"run": "b", "trials": 2}
        with changing(path) as shown:
            assert shown["new"] == {"run": "b", "trials": 2}


_SWEEP = {"wandb_version": 1, "lr": {"value": 0.1}, "net": {"value": {"h": 1}}}


@given(changed(_SWEEP).map(lambda value: yaml.safe_dump(value).encode()) | documents(_SWEEP, many=2_000))
@fuzzed
def test_values_of_an_agent(text: bytes) -> None:
    """The values by name, or a TrialError that names the file."""
    path = Path("config.yaml").absolute()
    path.write_bytes(text)
    with limited(), contextlib.suppress(TrialError):
        agent._read(str(path))
