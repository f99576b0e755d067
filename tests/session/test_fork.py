"""A process that the training forks: the trial belongs to the one that it was forked from."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import fork_training
import tunehook as th
from adapters import Keras, Lightning, Project
from tunehook.system.signals import Notice
from waiting import PATIENCE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.parametrize("workers", [0, 1])
def test_processes_forked_in_a_training(workers: int) -> None:
    """However they leave the training and whatever they report, each trial is what its own process made of it."""
    command = [sys.executable, fork_training.__file__, str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    events = ["begin", "config", "report", "saved", "report", "end"]
    told = json.loads(done.stdout.splitlines()[-1])
    codes = {**fork_training.CODES, "sleep": 128 + signal.SIGTERM if workers else -signal.SIGTERM}
    assert told == {what: ["complete", 0.5, code, events] for what, code in codes.items()}
    printed = done.stderr + "".join(path.read_text() for path in Path("study").glob("*/output.txt"))
    said = re.findall(r"Process \d+ was forked in the training of (trial-\d{4}) of study .*: nothing that it", printed)
    assert len(said) == len(set(said)) == 3  # once in each that records something
    assert "a text\n" in printed
    assert "ValueError: in the child\n" in printed


class Fork:
    """A callback that forks a process at the end of the first epoch, which then trains on to its own end."""

    def __init__(self) -> None:
        super().__init__()
        self.here, self.child = os.getpid(), 0

    def act(self) -> None:
        """Called in both frameworks."""
        if os.getpid() == self.here and not self.child:
            self.child = os.fork()
            if self.child:
                os.waitpid(self.child, 0)


def forking(project: Project) -> object:
    """The callback, in a framework."""
    if isinstance(project, Keras):
        import keras

        hook, base = "on_epoch_end", keras.callbacks.Callback
    else:
        import lightning.pytorch as pl

        hook, base = "on_train_epoch_end", pl.Callback
    return type("Forking", (Fork, base), {hook: lambda self, *_, **__: self.act()})()


@pytest.mark.parametrize("make", [lambda: Lightning("lightning.pytorch"), Keras], ids=["lightning", "keras"])
@pytest.mark.parametrize("asks", [False, True], ids=["optimize", "each fit asks"])
def test_a_process_that_trains_the_same_fit_on(make: Callable[[], Project], asks: bool) -> None:
    """It is forked in a callback, comes to the end of the fit, or to an error, and records nothing."""
    project, here = make(), os.getpid()
    study = th.Study("s", {project.rate: th.Float(0.01, 0.1)}, metric="score", mode="max", search="random", seed=0)

    def train() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                callback = project.callback(study) if asks else project.callback()
                project.fit(project.model(), forking(project), callback, scores=[1.0, 3.0, 2.0])
        finally:
            if os.getpid() != here:
                os._exit(0)

    if asks:
        train()
    else:
        study.optimize(train, trials=1, progress=False)
    (trial,) = study.trials
    assert (trial.outcome.state, trial.value) == ("complete", 3.0)
    lines = [json.loads(line)["event"] for line in study.paths.journal(0).read_text().splitlines()]
    assert [line for line in lines if line != "snapshot"] == ["begin", "config", "report", "report", "report", "end"]


def test_sigterm_in_a_forked_process() -> None:
    """It has no epoch to keep, so it ends at once, also where the training would be let go on."""
    ends: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: ends.append(number))
    clock = iter([0.0, 1.0, 1.0])
    notice = Notice(clock=lambda: next(clock))
    try:
        notice.open()
        notice.begin_epoch()
        notice.begin_epoch()
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(len(ends))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    finally:
        notice.close()
        signal.signal(signal.SIGTERM, before)
