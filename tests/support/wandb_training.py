"""A training with the W&B recorder, as a script: what its steps waited for, and the weights that it ends with.

``python wandb_training.py '{"trials": 1, "steps": 50, ...}'`` prints one line of JSON at the end.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.abc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import wandb

from tunehook.integrations.wandb import WandbRecorder
from tunehook.integrations.wandb.service import service_process
from tunehook.record.journal import Journal
from tunehook.session.session import TrialSession
from tunehook.snapshot.plan import SnapshotPlan
from tunehook.snapshot.values import Snapshot
from tunehook.trial.values import Outcome, Trial
from wandb_trials import Judge


def clock() -> float:
    """Seconds, without those in which this thread was ready to go on and others had all cores (Linux tells).

    A thread that waits for another one, for a lock, a file or a socket is not ready.
    """
    try:
        delay = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except (OSError, IndexError):
        delay = 0
    return time.perf_counter() - delay / 1e9


class Imports(importlib.abc.MetaPathFinder):
    """Notes which modules are looked for in other threads than the main one."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.names.append(fullname)


@dataclass
class Timed:
    """A recorder whose calls are timed, in seconds."""

    inner: WandbRecorder
    steps: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        began = clock()
        self.inner.open(trial, config, loggers=loggers)
        self.ends.append(clock() - began)

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        began = clock()
        self.inner.report(step, metrics)
        self.steps.append(clock() - began)

    def snapshot(self, step: int, snapshot: Snapshot) -> None:
        began = clock()
        self.inner.snapshot(step, snapshot)
        self.steps.append(clock() - began)

    def close(self, outcome: Outcome) -> None:
        began = clock()
        self.inner.close(outcome)
        self.ends.append(clock() - began)

    def where(self) -> str | None:
        return self.inner.where()


def train(
    session: TrialSession,
    steps: int,
    pause: float,
    events: Mapping[str, str],
    log: Callable[[dict[str, float]], object],
) -> float:
    """Train a small net; ``events`` names what happens to the service, by step, and ``log`` is the user's own logging.

    Returns:
        The sum of the weights, to the last bit.
    """
    torch.manual_seed(session.trial.number)
    net = torch.nn.Linear(8, 8)
    optimizer = torch.optim.SGD(net.parameters(), lr=session.trial.params["lr"])
    for step in range(1, steps + 1):
        happen(events.get(str(step), ""))
        optimizer.zero_grad()
        loss = net(torch.randn(4, 8)).square().mean()
        loss.backward()
        optimizer.step()
        with contextlib.suppress(Exception):  # raises without an open run
            log({"mine": step})
        session.report(step, {"val_acc": -loss.item()})
        session.snapshot(step, lambda: (dict(net.named_parameters()), None))
        time.sleep(pause)
    return float(sum(parameter.detach().double().sum() for parameter in net.parameters()))


def log_globally(row: dict[str, float]) -> None:
    """Log into ``wandb.run``; a call by its name each time, since ``wandb.init`` replaces the function."""
    wandb.log(row)


def happen(what: str) -> None:
    """Stop or kill the SDK's service."""
    service = service_process()
    if what and service is not None:
        os.kill(service.pid, {"stop": signal.SIGSTOP, "kill": signal.SIGKILL}[what])


def happen_last(what: str) -> None:
    """The same after the recorder's end at exit, and before the SDK's own: what is registered last is called first."""
    wandb.setup()
    atexit.register(time.sleep, 0.5)  # a killed one is gone then
    atexit.register(happen, what)


def main(options: Mapping[str, Any]) -> None:
    """Train the trials and print what they came to."""
    logging.basicConfig(level=options.get("level", logging.WARNING), format="%(name)s: %(message)s")
    recorders: list[Timed] = []
    sys.meta_path.insert(0, imports := Imports())
    if options.get("recorded", True):
        limits = {name: options.get(name, 2.0) for name in ("init_timeout", "finish_timeout")}
        recorders = [Timed(WandbRecorder("digits", lean=True, **limits))]
    if last := options.get("events", {}).get("exit"):
        happen_last(last)
    weights = []
    for number in range(options.get("trials", 1)):
        key = f"{number:04d}-{options.get('key', 'abc')}"
        place = Path("studies", f"trial-{number + options.get('attempt', 0) * 100:04d}")
        attempt, lr = options.get("attempt", 0), 0.1 + number / 10
        trial = Trial("digits", number, {"lr": lr}, place, "val_acc", "max", attempt=attempt, key=key)
        Journal(trial.folder).begin(trial)
        settings, loggers = wandb.Settings(init_timeout=5, x_disable_viewer=True), []
        log: Callable[[dict[str, float]], object] = log_globally
        if options.get("shared") == "open":
            wandb.init(project="users", settings=settings)
        elif options.get("shared") == "logger":
            from lightning.pytorch.loggers import WandbLogger

            loggers = [WandbLogger(project="users", settings=settings)]
            log = loggers[0].log_metrics
        plan = SnapshotPlan(every=options["snapshots"]) if "snapshots" in options else None
        session = TrialSession(trial, Judge(), recorders=recorders, snapshots=plan)
        session.ready(loggers=loggers)
        events = options.get("events", {}) if number == 0 else {}
        weights.append(train(session, options["steps"], options.get("pause", 0.0), events, log))
        session.end()
    waits = [seconds for recorder in recorders for seconds in recorder.steps]
    ends = [seconds for recorder in recorders for seconds in recorder.ends]
    told = {"weights": weights, "longest": max(waits, default=0), "ends": ends, "imported": imports.names}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
