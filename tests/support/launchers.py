"""What every way of running trials owes: how they end, stop, are counted, and are asked again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import launch_scripts as scripts
import pause_study
import tunehook as th
from tunehook.record.journal import read_journal
from tunehook.session.in_progress import active
from tunehook.trial.errors import InjectionError, StudyError, TrialError


def each_end() -> None:
    """0 is complete, 1 is stopped, 2 has no memory, and 3 is the user's error."""
    session = scripts.training()
    value = session.trial.params["x"]
    if session.report(1, {"v": 9 if value == 1 else value}).stop:
        return
    if value == 2:
        raise MemoryError("no room")
    if value == 3:
        raise ValueError("the data are gone")
    session.report(2, {"v": value})


def interrupted_at_first() -> None:
    """Each first attempt is interrupted after its first step."""
    session = scripts.training()
    session.report(1, {"v": session.trial.params["x"]})
    if session.trial.attempt == 0:
        raise KeyboardInterrupt
    session.report(2, {"v": session.trial.params["x"]})


def nothing() -> None:
    """A training without a callback."""


def waiting() -> None:
    """Report until a file says that it is enough."""
    session = scripts.training()
    go = session.trial.folder.parent / "go"
    deadline = time.monotonic() + 60
    while not go.exists() and time.monotonic() < deadline:
        session.report(session.step + 1, {"v": session.trial.params["x"]})
        time.sleep(0.02)


def reporting(folder: Path) -> list[Path]:
    """The journals with a report."""
    return [path for path in sorted(folder.glob("*/journal.jsonl")) if '"report"' in path.read_text()]


class Contract:
    """A way of running trials; each test is one of every way.

    Attributes:
        options: What `study.optimize` is given for it.
        is_elsewhere: Whether trials have processes of their own.
        interrupted: A training whose first attempts are interrupted.
        silence: Seconds in which a trial begins, also on a machine with much to do.
    """

    options: ClassVar[dict[str, Any]] = {}
    is_elsewhere: ClassVar[bool] = True
    interrupted: ClassVar[Callable[[], None]] = staticmethod(scripts.kill_at_first)
    silence: ClassVar[int] = 2

    def run(self, study: th.Study, train: Callable[[], object], **options: Any) -> th.Study:
        """Optimize without a table."""
        study.optimize(train, **{"progress": False, **self.options, **options})
        return study

    def again(self, study: th.Study, train: Callable[[], object], **options: Any) -> None:
        """Optimize, and start the script once more as often as an interruption has ended it."""
        for _ in range(1 if self.is_elsewhere else 9):
            try:
                self.run(study, train, **options)
            except KeyboardInterrupt:
                assert not self.is_elsewhere

    def test_each_end_is_told(self, tmp_path: Path) -> None:
        """In the study and in the journal: complete, pruned, infeasible and failed; all but the last one count."""
        from optuna.pruners import ThresholdPruner

        study = self.run(scripts.study(tmp_path / "s", stopper=ThresholdPruner(upper=5)), each_end)
        ends = {trial.params["x"]: trial.outcome for trial in study.trials}
        assert {value: end.state for value, end in ends.items()} == {
            0: "complete", 1: "pruned", 2: "infeasible", 3: "failed",
        }  # fmt: skip
        assert study.finished == 3
        for trial in study.trials:
            events = list(read_journal(study.paths.journal(trial.number)))
            assert (events[0]["event"], events[-1]["event"]) == ("begin", "end")
            assert events[-1]["state"] == trial.outcome.state
        assert "the data are gone" in ends[3].reason

    def test_earlier_trials_count(self, tmp_path: Path) -> None:
        """A script that is started again does what is left."""
        for trials, made in ((2, 2), (3, 3), (3, 3)):
            study = self.run(scripts.study(tmp_path / "s"), scripts.steps, trials=trials)
            assert study.counts() == {"complete": made}

    def test_no_trial_begins_after_the_time(self, tmp_path: Path) -> None:
        """It is over before the first one here."""
        assert self.run(scripts.study(tmp_path / "s"), scripts.steps, timeout=1e-6).counts() == {}

    def test_failures_in_a_row_stop_the_study(self, tmp_path: Path) -> None:
        """With the first error, and its traceback in the message or as the cause."""
        study = scripts.study(tmp_path / "s", max_failures=2)
        with pytest.raises(StudyError, match=r"^2 trials in a row failed, so study 's' stops; .*data are gone") as said:
            self.run(study, scripts.fail)
        assert self.is_elsewhere == ('raise ValueError("the data are gone")' in str(said.value))
        assert self.is_elsewhere == (said.value.__cause__ is None)
        assert set(study.counts()) <= {"failed", "interrupted"}  # those that ran beside are interrupted

    def test_a_misuse_stops_at_once(self, tmp_path: Path) -> None:
        """Every trial would end so: the error is its own."""
        with pytest.raises(InjectionError, match=r"^No slot is called 'x'\.\n  Slots that exist: none\.$"):
            self.run(scripts.study(tmp_path / "s"), scripts.misuse)

    def test_a_training_that_measures_nothing(self, tmp_path: Path) -> None:
        """It has no callback, and stops the study at once."""
        with pytest.raises(TrialError, match=r"^The training returned without a TuneCallback"):
            self.run(scripts.study(tmp_path / "s"), nothing)

    def test_interrupted_values_are_asked_again(self, tmp_path: Path) -> None:
        """Each of them, and the value that it had is kept."""
        study = scripts.study(tmp_path / "s", [0, 1])
        self.again(study, type(self).interrupted)
        assert study.counts() == {"interrupted": 2, "complete": 2}
        assert Counter(trial.params["x"] for trial in study.trials) == {0: 2, 1: 2}
        assert {trial.outcome.step for trial in study.trials if trial.outcome.state == "interrupted"} == {1}

    def test_paused_trials_go_on(self) -> None:
        """The best third from each rung, from their checkpoints; no epoch is trained twice."""
        pause_study.check(self.run(pause_study.study(many=9), pause_study.train), 9)

    def test_a_population_goes_on(self) -> None:
        """Each interval goes on from the state of its parent; values and ends are those of one process."""
        options: dict[str, Any] = {"search": th.PBT(population=3, interval=6), "stopper": None}
        here, there = (pause_study.study(folder, many=40, **options) for folder in ("here", "there"))
        here.optimize(pause_study.train, progress=False)
        self.run(there, pause_study.train)
        told = [
            [(dict(one.params), one.value, one.lineage and one.lineage.parent) for one in made.trials]
            for made in (here, there)
        ]
        assert told[0] == told[1]
        assert there.counts() == {"complete": 6}
        assert any(parent not in (None, number - 3) for number, (*_, parent) in enumerate(told[0]))  # the weak copy
        for number in range(6):
            events = read_journal(there.paths.journal(number))
            first = 6 * (number // 3) + 1
            assert [one["step"] for one in events if one["event"] == "report"] == [*range(first, first + 6)]

    def test_no_retries(self, tmp_path: Path) -> None:
        """Where they are not wanted, an interrupted trial stays the only one of its values."""
        study = scripts.study(tmp_path / "s", [0, 1])
        self.again(study, type(self).interrupted, retries=0)
        assert study.counts() == {"interrupted": 2}

    def test_a_trial_that_says_nothing(self, tmp_path: Path) -> None:
        """Its process is killed, and its values are asked again; that needs a process of its own."""
        study = scripts.study(tmp_path / "s", [0])
        if not self.is_elsewhere:
            with pytest.raises(ValueError, match=r"^gpus_per_trial and report_timeout need a process for each trial"):
                self.run(study, scripts.steps, report_timeout=1)
            return
        self.run(study, scripts.hang_at_first, report_timeout=self.silence, retries=9)
        *hung, last = [trial.outcome for trial in study.trials]  # on a machine with much to do, more than one
        assert {end.reason for end in hung} == {f"no report for {self.silence} s, so its process was killed"}
        assert last.state == "complete"

    def test_ctrl_c(self, tmp_path: Path) -> None:
        """The running trials end in good order, interrupted with what they had, and the next start trains them."""
        study = scripts.study(tmp_path / "s", [0, 1])

        def press() -> None:
            deadline = time.monotonic() + 60
            while not reporting(study.paths.folder) and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)

        presser = threading.Thread(target=press)
        before = signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # ignored where the tests are a job of a shell
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            self.run(study, waiting)
        presser.join()
        signal.signal(signal.SIGINT, before)
        assert set(study.counts()) == {"interrupted"}, study.trials
        assert {trial.outcome.reason for trial in study.trials} <= {"SIGTERM", "Ctrl-C", "it was cancelled as it began"}
        assert active() is None
        (study.paths.folder / "go").touch()
        self.run(study, scripts.steps)
        assert study.counts()["complete"] == 2
        assert "running" not in study.counts()
