"""Trials on a Ray cluster of two nodes: a node is removed, processes are killed, a machine sees no shared folder."""

from __future__ import annotations

import builtins
import gc
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import launch_scripts as scripts
import ray_scripts
import tunehook as th
from launchers import Contract, reporting
from run_file import read_run
from tunehook.integrations.wandb import WandbRecorder
from tunehook.launch import Request
from tunehook.record.journal import read_journal
from tunehook.trial.errors import JournalError, StudyError
from tunehook.trial.values import Outcome
from waiting import PATIENCE, wait_for

ray = pytest.importorskip("ray")

from tunehook.integrations.ray import RayLauncher  # noqa: E402 - where there is Ray
from tunehook.integrations.ray.launcher import RayLeader, _Task  # noqa: E402 - where there is Ray
from tunehook.integrations.ray.task import GIVEN_UP, Lines, Message  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]  # of Ray's own sockets


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes with one CPU each; the script's own `ray.init` is left to the launcher."""
    from ray.cluster_utils import Cluster

    handler, prints = signal.getsignal(signal.SIGTERM), builtins.print
    own = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        made = Cluster(head_node_args={"num_cpus": 1, "include_dashboard": False}, initialize_head=True, connect=False)
        made.add_node(num_cpus=1)
        patch.setenv("RAY_ADDRESS", made.address)  # of the clusters of this machine, this one
        yield made
        ray.shutdown()
        made.shutdown()
        gc.collect()  # of sockets, whose warnings would be those of a later test
    signal.signal(signal.SIGTERM, handler)  # Ray leaves its own
    builtins.print = prints


def run(study: th.Study, train: Callable[[], object], **options: Any) -> th.Study:
    """Optimize on the cluster, without a table."""
    study.optimize(train, **{"launcher": RayLauncher(), "progress": False, **options})
    return study


def events(study: th.Study, number: int) -> list[dict[str, Any]]:
    """The journal of a trial."""
    return list(read_journal(study.paths.journal(number)))


def kinds(study: th.Study, number: int) -> list[str]:
    """What the journal of a trial holds."""
    return [event["event"] for event in events(study, number)]


def test_a_node_is_removed(cluster: Any, tmp_path: Path) -> None:
    """What trained on it is interrupted, and its values are asked again; all that are wanted complete, each whole."""
    study = scripts.study(tmp_path / "s", range(3))
    node = cluster.add_node(num_cpus=1)

    def remove() -> None:
        wait_for(lambda: len(reporting(study.paths.folder)) == 3)
        cluster.remove_node(node, allow_graceful=False)
        (study.paths.folder / "go").touch()

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        run(study, ray_scripts.wait_for_go)
    finally:
        remover.join()
    places = [event["place"] for number in range(3) for event in events(study, number) if event["event"] == "task"]
    assert len(set(places)) == 3
    lost = places.index(f"Ray node {node.node_id}")
    outcomes = {trial.number: trial.outcome for trial in study.trials}
    assert Counter(outcome.state for outcome in outcomes.values()) == {"complete": 3, "interrupted": 1}
    assert outcomes[lost].state == "interrupted"
    assert outcomes[lost].reason == f"its node on {os.uname().nodename} is gone"
    again = max(outcomes)
    assert study.trials[3].params == study.trials[lost].params
    assert events(study, again)[0]["key"] == events(study, lost)[0]["key"]
    for number, outcome in outcomes.items():
        whole = events(study, number)
        steps = [event["step"] for event in whole if event["event"] == "report"]
        assert [event["event"] for event in whole if event["event"] != "report"] == ["begin", "task", "config", "end"]
        assert steps == list(range(1, len(steps) + 1))
        assert (whole[-1]["state"], whole[-1]["step"]) == (outcome.state, 1)
        assert outcome.state == "interrupted" or whole[-2]["metrics"]["last"] == 1.0


def test_a_machine_that_does_not_see_the_folder(cluster: Any, tmp_path: Path) -> None:
    """The lines of its journals travel, earlier attempts are seen there, and files that stay there are told."""
    folder = os.open(tmp_path, os.O_RDONLY)
    hidden = os.dup2(folder, 777)  # no other process has such a file
    try:
        study = run(scripts.study(Path(f"/proc/self/fd/{hidden}/s"), [5]), ray_scripts.leave_files)
        assert [trial.outcome.state for trial in study.trials] == ["interrupted", "complete"]
        one, two = (trial.number for trial in study.trials)  # between them, the grid had no more to give
        assert kinds(study, one) == ["begin", "task", "config", "report", "end"]
        assert kinds(study, two) == ["begin", "task", "config", "report", "report", "report", "end", "problem"]
        first, beside, second = (event for event in events(study, two) if event["event"] == "report")
        assert first["metrics"] == {"v": 5.0, "seen": 2.0, "nan": "NaN"}
        assert beside["metrics"] == {"beside": 0.1 + 0.2}
        assert second["step"] == 2
        problem = events(study, two)[-1]["text"]
        assert "1 files of the trial stay on" in problem
        (left,) = (word for word in problem.replace(",", "").split() if word.startswith("/"))
        assert (Path(left) / "weights.bin").read_bytes() == b"1"
        assert not (study.paths.trial(two) / "weights.bin").exists()
    finally:
        os.close(folder)
        os.close(hidden)


@pytest.mark.usefixtures("cluster")
class TestTasks(Contract):
    """What every launcher owes."""

    options: ClassVar[dict[str, Any]] = {"launcher": RayLauncher()}
    silence: ClassVar[int] = 8


def test_demands_that_nothing_meets(cluster: Any, tmp_path: Path) -> None:
    """They are told before anything starts."""
    wanted = r"asks for 1 CPU, 1 GPU on one node, but no node of the Ray cluster has that:\n  .*: 1 CPU, 0 GPU\n"
    with pytest.raises(StudyError, match=wanted):
        run(scripts.study(tmp_path / "gpu"), scripts.steps, gpus_per_trial=1)
    assert not (tmp_path / "gpu").exists()
    with pytest.raises(ValueError, match=r"gpus_per_trial=1 and RayLauncher\(num_gpus=0.5\) differ"):
        run(scripts.study(tmp_path / "gpu"), scripts.steps, gpus_per_trial=1, launcher=RayLauncher(num_gpus=0.5))


def test_an_actor_that_is_killed(cluster: Any, tmp_path: Path) -> None:
    """The trials start over, since nobody hears them any more."""

    class Watched(RayLauncher):
        made: Any

        def leader(self, *args: Any, **options: Any) -> Any:
            self.made = super().leader(*args, **options)
            return self.made

    study, launcher = scripts.study(tmp_path / "s", [0]), Watched()

    def kill() -> None:
        wait_for(lambda: len(reporting(study.paths.folder)) == 1)
        ray.kill(launcher.made._actor)

    killer = threading.Thread(target=kill)
    killer.start()
    run(study, scripts.hang_at_first, launcher=launcher)
    killer.join()
    assert [trial.outcome.reason for trial in study.trials] == ["Ray lost the study's actor", "trained to its end"]


def test_the_same_script_is_killed_and_stopped(cluster: Any, tmp_path: Path) -> None:
    """A script for one machine runs on the cluster by an environment variable; no value is lost whatever ends it."""
    folder = tmp_path / "study"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, scripts.__file__, "slow", "3"], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "TUNEHOOK_LAUNCHER": "ray"},
        )  # fmt: skip

    with start() as process:
        wait_for(lambda: len(reporting(folder)) == 2)
        process.send_signal(signal.SIGKILL)
    with start() as process:
        wait_for(lambda: len(reporting(folder)) == 4)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert "no new trials; the running ones end in good order" in errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    study = run(scripts.study(folder, range(3)), scripts.steps)
    outcomes = [trial.outcome for trial in study.trials]
    assert [outcome.state for outcome in outcomes] == ["interrupted"] * 4 + ["complete"] * 3
    assert all("was killed" in outcome.reason or outcome.reason == "SIGTERM" for outcome in outcomes[:2])
    assert [outcome.reason for outcome in outcomes[2:4]] == ["SIGTERM"] * 2
    assert {trial.params["x"] for trial in study.trials[4:]} == {0, 1, 2}
    assert all(kinds(study, trial.number)[:2] == ["begin", "task"] for trial in study.trials)
    assert all(kinds(study, trial.number)[-1] == "end" for trial in study.trials)


def test_lightning_trains_as_in_one_process(cluster: Any, tmp_path: Path) -> None:
    """Weights and values are the same to the bit, and each trial has its W&B run, all written when it returns."""
    values = {"lr": th.Choice([0.01]), "hidden": 12}
    here, there = (
        th.Study(
            "s", values, metric="loss", mode="min", search="grid", folder=tmp_path / name,
            recorders=[WandbRecorder(project="p", mode="offline", dir=tmp_path / name)],
        )
        for name in ("here", "there")
    )  # fmt: skip
    here.optimize(ray_scripts.train_lightning, progress=False)
    run(there, ray_scripts.train_lightning)
    assert [trial.value for trial in there.trials] == [trial.value for trial in here.trials]
    assert (there.paths.trial(0) / "bits").read_text() == (here.paths.trial(0) / "bits").read_text()
    (file,) = (tmp_path / "there").rglob("run-s-0000-*.wandb")
    one = read_run(file)  # whole by now
    assert (one.name, one.exit_code, one.steps) == ("trial-0000", 0, [1, 2])


# ---------------------------------------------------------------------- without a cluster


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_cpus": -1}, "num_cpus is a number from 0; got -1"),
        ({"num_gpus": True}, "num_gpus is a number from 0; got True"),
        ({"resources": {"tpu": "2"}}, "tpu is a number from 0; got '2'"),
        ({"options": {"max_retries": 3}}, r"options are those of ray.remote but for .*; got max_retries"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    """They are told when the launcher is made."""
    with pytest.raises(ValueError, match=message):
        RayLauncher(**options)


def test_launchers_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is none, and a class in place of an instance."""
    monkeypatch.setenv("TUNEHOOK_LAUNCHER", "slurm")
    with pytest.raises(ValueError, match="TUNEHOOK_LAUNCHER is one of ray; got 'slurm'"):
        scripts.study(tmp_path / "s").optimize(scripts.steps)
    with pytest.raises(TypeError, match="launcher is an instance of a launcher"):
        scripts.study(tmp_path / "s").optimize(scripts.steps, launcher=RayLauncher)  # type: ignore[arg-type]


@pytest.fixture
def leader(tmp_path: Path) -> RayLeader:
    """Who leads a study, with no cluster yet."""
    return RayLauncher().leader(scripts.study(tmp_path / "s").lead, scripts.steps, Request(workers=1))


def running(leader: RayLeader) -> _Task:
    """A trial that has begun as a task."""
    study = leader._study
    one = leader._running["token"] = _Task("token", study.session(study.ask()), pid=7, host="there")
    return one


def test_what_befell_a_task(leader: RayLeader) -> None:
    """What Ray raises, as the end of a trial: memory teaches the search, all else is asked again."""
    from ray import exceptions

    one = running(leader)
    assert [
        leader._explain(one, exceptions.OutOfMemoryError("")),
        leader._explain(one, exceptions.NodeDiedError("")),
        leader._explain(one, exceptions.WorkerCrashedError()),
        leader._explain(one, exceptions.TaskCancelledError()),
        leader._explain(one, exceptions.RaySystemError("the store is full\n")),
    ] == [
        ("out of memory: Ray killed its process on there", "infeasible"),
        ("its node on there is gone", "interrupted"),
        ("its process 7 on there was killed or crashed; see Ray's logs", "interrupted"),
        ("it was cancelled as it began", "interrupted"),
        ("RaySystemError: System error: the store is full", "interrupted"),
    ]


def test_lines_come_once_and_an_end_always(leader: RayLeader, tmp_path: Path) -> None:
    """Lines whose answer was lost come again; where the journal takes none, the study hears of the end all the same."""
    one = running(leader)
    path = leader._study.paths.journal(0)
    begin = path.read_bytes()
    for lines in (Lines(0, b"one\n"), Lines(0, b"one\ntwo\n"), Lines(4, b"two\n"), Lines(8, b"three\n")):
        leader._carry(one, lines)
    assert path.read_bytes() == begin + b"one\ntwo\nthree\n"
    path.unlink()
    path.mkdir()
    end = Message("token", "tell", (Outcome("complete", "trained to its end", 1.0, 1),), Lines(14, b"four\n"))
    with pytest.raises(JournalError):
        leader._answer(end)
    assert scripts.study(tmp_path / "s").trials[0].outcome == end.what[0]
    assert leader._answer(Message("stranger", "report", (1, 0.0, None))) == GIVEN_UP
