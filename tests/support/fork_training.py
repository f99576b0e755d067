"""A training that forks a process in its middle, as a script: ``python fork_training.py <workers>``, 0 for none.

What the forked one does is the hyperparameter. One line of JSON says what became of each trial.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import launch_scripts as scripts
import tunehook as th
from tunehook.record.journal import read_journal
from tunehook.session.in_progress import active


def act(session: th.TrialSession) -> None:
    """What the forked process does before it leaves the training."""
    what = session.trial.params["x"]
    if what == "exit":
        sys.exit(3)
    if what == "a text":
        sys.exit("a text")
    if what == "raise":
        raise ValueError("in the child")
    if what == "leave":
        os._exit(4)
    if what == "sleep":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
    if what == "all":
        use(session)
    if what == "fit":
        use(scripts.training())
    if what == "fork" and (child := os.fork()) != 0:  # whose child comes back, too
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def study() -> th.Study:
    """A trial for each of them."""
    names: Any = list(CODES)
    return scripts.study(Path("study"), names)


def use(session: th.TrialSession) -> None:
    """Report a value that no other could beat, and end the trial."""
    assert active() is session
    opened = study()
    opened.report(session.trial, 6, -99.0, session.budget)
    opened.tell(session.trial, th.Outcome("complete", "the child says so", -99.0, 6))
    session.report(7, {"v": -99.0})
    session.log({"more": 1.0})
    session.snapshot(9, lambda: ({"w": [0.0]}, None), is_end=True)
    session.note_checkpoint(__file__)
    session.keep_checkpoint(lambda folder: (folder / "file").touch())
    session.continuation.drop("the child says so")
    session.end(ValueError("in the child"))
    session.recover("the child is gone")


def train() -> None:
    """Two reports, and a forked process between them."""
    session = scripts.training()
    session.report(1, {"v": 1.0})
    session.keep_checkpoint(lambda folder: (folder / "file").touch())
    if session.trial.params["x"] == "multiprocessing":
        other = multiprocessing.get_context("fork").Process(target=use, args=(session,))
        other.start()
        other.join()
        code = other.exitcode
    elif (child := os.fork()) == 0:
        act(session)
        return
    else:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert session.continuation.checkpoints is not None
    assert len([*session.continuation.checkpoints.folder.iterdir()]) == 1
    session.report(2, {"v": 0.5, "code": float(code or 0)})


# With which code each of them ends, a signal aside.
CODES = {
    "exit": 3, "a text": 1, "raise": 1, "leave": 4, "sleep": 0, "all": 0, "fit": 0, "fork": 0,
    "multiprocessing": 0, "return": 0,
}  # fmt: skip


def main() -> None:
    """Tune, and tell."""
    here = os.getpid()
    tuned = study()
    try:
        tuned.optimize(train, workers=int(sys.argv[1]) or None, progress=False, retries=1)
    finally:
        if os.getpid() != here:
            os._exit(99)
    told: dict[str, Any] = {}
    for trial in tuned.trials:
        events = [*read_journal(tuned.paths.journal(trial.number))]
        code = next((event["metrics"]["code"] for event in events if "code" in event.get("metrics", {})), None)
        kinds = [event["event"] for event in events if event["event"] != "process"]
        told[trial.params["x"]] = [trial.outcome.state, trial.value, code, kinds]
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
