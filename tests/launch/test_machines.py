"""A study on several machines: a real database server and Optuna's proxy, lost processes, a server that goes away."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import launch_scripts
import tunehook as th
import tunehook.storage.heartbeat
import tunehook.storage.liveness
import tunehook.storage.opening
from postgres import serving
from tunehook.inject.slot import Slot
from tunehook.record.journal import read_journal
from tunehook.session.in_progress import active
from tunehook.study.holders import Holders
from tunehook.study.study import Study
from tunehook.system import hidden
from tunehook.trial.errors import StorageAway, StudyError, StudyFull
from tunehook.trial.values import Budget, Outcome, Trial
from waiting import PATIENCE, wait_for

GRID = {"a": th.Choice([1, 2, 3]), "b": th.Choice([1, 2, 3])}
SECRET = "s3cr%40t"  # noqa: S105 - of nobody


@pytest.fixture
def server() -> Iterator[Any]:
    """A database server of our own."""
    with serving() as made:
        yield made


_OPENED: list[Study] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Connections are closed at the end, which psycopg asks for."""
    yield
    while _OPENED:
        made = _OPENED.pop()._made
        opened = None if made is None else made.ledger._open
        backend = None if opened is None else getattr(opened[1]._backend, "_backend", None)
        if backend is not None and hasattr(backend, "engine"):
            backend.engine.dispose()


def study(name: str = "digits", space: Any = GRID, **options: Any) -> Study:
    """A study of 'acc', a grid unless told otherwise."""
    _OPENED.append(Study(name, space, **{"metric": "acc", "mode": "max", "search": "grid", **options}))
    return _OPENED[-1]


def complete(value: float = 0.5) -> Outcome:
    """A trial that ended well."""
    return Outcome("complete", "trained to its end", value, 1)


WORKER = """
    import sys, time
    import optuna
    import tunehook as th
    import tunehook.record.journal, tunehook.study.study
    import tunehook.storage.heartbeat, tunehook.storage.liveness, tunehook.storage.retrying
    from tunehook.inject import Slot
    from tunehook.session import active
    host, folder, hangs = sys.argv[1:]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for module in (tunehook.record.journal, tunehook.study.study, tunehook.storage.retrying, tunehook.storage.liveness):
        module.host = lambda: host  # as if on another machine
    tunehook.storage.heartbeat.INTERVAL, tunehook.storage.heartbeat.GRACE = 0.3, 2.0
    study = th.Study("digits", {"a": th.Choice([1, 2, 3]), "b": th.Choice([1, 2, 3])}, metric="acc", mode="max",
                     search="grid", folder=folder)
    def train():
        session, place = active(), {}
        session.begin([Slot(f"m.{name}", get=lambda name=name: place.get(name),
                            set=lambda value, name=name: place.update({name: value})) for name in ("a", "b")])
        session.ready()
        print("began", flush=True)
        for step in (1, 2):
            session.report(step, {"acc": place["a"] * 10.0 + place["b"]})
            time.sleep(60 if hangs == "yes" and session.trial.number > 0 else 0.1)
    study.optimize(train, progress=False)
    print("end", study.finished, flush=True)
"""


def worker(server: Any, folder: Path, host: str, *, hangs: bool = False) -> subprocess.Popen[str]:
    """A process that works on the study, as if on a machine of this name."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(WORKER), host, str(folder), "yes" if hangs else "no"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TUNEHOOK_STORAGE": server.get_uri()},
    )


@pytest.mark.slow
def test_a_machine_is_lost_and_the_server_is_away(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines share a grid; one is killed in a trial, the server restarts: each combination is complete once."""
    lost = worker(server, tmp_path / "lost", "one", hangs=True)
    assert lost.stdout is not None
    while lost.stdout.readline() == "began\n":
        monkeypatch.setenv("TUNEHOOK_STORAGE", server.get_uri())
        if any(found.number > 0 for found in study().trials):
            break
    other = worker(server, tmp_path / "other", "two")
    assert other.stdout is not None
    assert other.stdout.readline() == "began\n"
    lost.kill()
    lost.communicate()
    server.stop()
    time.sleep(1.5)
    server.start()
    assert other.communicate(timeout=PATIENCE)[0].endswith("end 9\n")
    opened = study()
    states = Counter(frozen.state for frozen in opened.optuna.trials)
    assert states[TrialState.COMPLETE] == 9
    assert states[TrialState.RUNNING] == states[TrialState.WAITING] == 0
    done = [tuple(found.params.values()) for found in opened.trials if found.outcome.state == "complete"]
    assert sorted(done) == [(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]
    (gone,) = [found for found in opened.trials if found.outcome.state == "interrupted"]
    assert gone.outcome.reason == "its process on one gave no sign of life"
    assert gone.value == 10.0 * gone.params["a"] + gone.params["b"]


@pytest.mark.slow
def test_the_server_is_away_for_good(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is waited for, told once, and then an error that names the place; the journal and the study go on.

    The password is one that this server does not ask for.
    """
    caplog.set_level(logging.WARNING, logger="tunehook")
    monkeypatch.setattr(tunehook.storage.opening, "PATIENCE", 1.0)
    url = server.get_uri().replace("postgres:@", f"postgres:{SECRET}@")
    opened = study(storage=url)
    trial = opened.ask()
    session = opened.session(trial)
    place: dict[str, Any] = {}
    slots = [
        Slot(f"m.{name}", get=functools.partial(place.get, name), set=functools.partial(place.__setitem__, name))
        for name in GRID
    ]
    session.begin(slots)
    session.ready()
    session.report(1, {"acc": 0.5})
    server.stop()
    with pytest.raises(StorageAway) as caught:
        session.report(2, {"acc": 0.75})
    text = str(caught.value)
    assert "postgres:***@" in text
    assert "start the script again" in text
    assert [message for message in caplog.messages if "does not answer" in message] == [caplog.messages[0]]
    began = time.monotonic()
    with pytest.raises(StorageAway):
        session.end(caught.value)
    assert time.monotonic() - began < 1.0  # not waited for once more
    for said in (*caplog.messages, "".join(traceback.format_exception(caught.value))):
        assert SECRET not in said
        assert "s3cr@t" not in said
    server.start()
    again = study(storage=url)
    monkeypatch.setattr(tunehook.storage.liveness, "lives", lambda _: False)  # this process is another one by then
    again._asks.lost._looked = float("-inf")
    again.lead.reclaim()
    (found,) = again.trials
    assert (found.outcome.state, found.value) == ("interrupted", 0.75)
    assert again.ask().params == trial.params


@pytest.mark.slow
def test_a_call_that_was_carried_out_is_not_made_twice(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the answer is lost behind the commit, there is one trial, and one end."""
    opened = study(storage=server.get_uri())
    storage: Any = opened._ledger.kept
    real, lost = storage._backend, {"create_new_trial", "set_trial_state_values"}

    class Cut:
        """A connection that breaks once behind each of two calls."""

        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                answer = getattr(real, name)(*arguments, **named)
                if name in lost:
                    lost.discard(name)
                    raise ConnectionResetError("reset by peer")
                return answer

            return call

    with monkeypatch.context() as patched:
        patched.setattr(storage, "_backend", Cut())
        trial = opened.ask()
        opened.tell(trial, Outcome("interrupted", "x"))
    assert not lost
    assert [frozen.state.name for frozen in opened.optuna.trials] == ["FAIL", "WAITING"]
    assert opened.ask().params == trial.params


# ------------------------------------------------------------------ trial processes while the server is away


def node(server: Any, name: str, many: int) -> subprocess.Popen[str]:
    """A process with two trial processes, which takes the study's folder here."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", launch_scripts.__file__, name, str(many)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TUNEHOOK_STORAGE": server.get_uri(), "TEST_PATIENCE": "3600"},
    )


def measured() -> int:
    """How many measurements the journals of this folder hold."""
    return sum(path.read_text().count('"report"') for path in Path("study").glob("*/journal.jsonl"))


@pytest.mark.slow
def test_trial_processes_while_the_server_is_away(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They train on, and the study gets every measurement later; Ctrl-C ends them in good order, untold."""
    process = node(server, "gentle", 4)
    wait_for(lambda: measured() >= 4)
    server.stop()
    wait_for(lambda: measured() == 20)  # two trials, whole
    server.start()
    wait_for(lambda: measured() >= 22)
    server.stop()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)  # much less than it would have waited
    assert process.returncode not in (0, None)
    assert "is back after" in error
    assert "the running ones end in good order" in error
    assert "KeyboardInterrupt" in error
    for path in Path("study").glob("*/journal.jsonl"):
        ends = [event["state"] for event in read_journal(path) if event["event"] == "end"]
        assert len(ends) == 1
    server.start()
    monkeypatch.setenv("TUNEHOOK_STORAGE", server.get_uri())
    opened = launch_scripts.study(Path("study"), range(4))
    _OPENED.append(opened)
    opened.optimize(launch_scripts.steps, workers=2, progress=False)
    counts = opened.counts()
    assert counts.pop("complete") == 4
    assert set(counts) == {"interrupted"}
    assert [len(frozen.intermediate_values) for frozen in opened.optuna.trials[:2]] == [10, 10]


# ------------------------------------------------------------------ the proxy


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_proxy(tmp_path: Path) -> None:
    """A study over Optuna's gRPC proxy: values, reports, ends and values that come again."""
    pytest.importorskip("grpc")
    from optuna.storages._grpc.server import make_server

    served = make_server(optuna.storages.get_storage(f"sqlite:///{tmp_path}/served.db"), "127.0.0.1", 0)
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    try:
        opened = study(storage=f"grpc://127.0.0.1:{port}")
        trial = opened.ask()
        opened.report(trial, 1, 0.5, Budget())
        opened.tell(trial, Outcome("interrupted", "x", 0.5, 1))
        again = opened.ask()
        assert (again.params, again.attempt) == (trial.params, 1)
        opened.tell(again, complete())
        assert opened.counts() == {"interrupted": 1, "complete": 1}
    finally:
        served.stop(None)


@pytest.mark.slow
def test_no_proxy_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told with the way out; a URL without a port is none."""
    pytest.importorskip("grpc")
    monkeypatch.setattr(tunehook.storage.database, "_ANSWER", 0.3)
    with pytest.raises(StudyError, match=re.escape("The storage grpc://127.0.0.1:1 does not answer")):
        study(storage="grpc://127.0.0.1:1").ask()
    with pytest.raises(StudyError, match="a gRPC proxy is given as grpc://host:port"):
        study(storage="grpc://somewhere").ask()


# ------------------------------------------------------------------ the environment, and secrets


def test_the_storage_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves studies that are given none; the argument wins, and an empty one is none."""
    monkeypatch.setenv("TUNEHOOK_STORAGE", "sqlite:///env.db")
    study().ask()
    assert Path("env.db").exists()
    study(storage="sqlite:///own.db").ask()
    assert Path("own.db").exists()
    monkeypatch.setenv("TUNEHOOK_STORAGE", " ")
    study().ask()
    assert Path("tunehook-studies/digits/study.db").exists()


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@127.0.0.1:1/db",
        f"postgresql+psycopg://me@127.0.0.1:1/db?password={SECRET}",
        f"postgresql://me:{SECRET}@127.0.0.1:x/db",
        f"mysql://me:{SECRET}@127.0.0.1:1/db",
        f"nothing://me:{SECRET}@h/db",
        f"grpc://me:{SECRET}@h:1",
    ],
)
@pytest.mark.parametrize("place", ["argument", "environment"])
def test_a_password_is_nowhere(
    url: str, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither in the error, nor in what it was raised from, nor in logs, files or what the study shows of itself."""
    caplog.set_level(logging.DEBUG)
    if place == "environment":
        monkeypatch.setenv("TUNEHOOK_STORAGE", url)
    opened = study(storage=url if place == "argument" else None)
    with pytest.raises(StudyError) as caught:
        opened.ask()
    said = ["".join(traceback.format_exception(caught.value)), repr(opened), caplog.text]
    link: BaseException | None = caught.value
    while link is not None:
        said += [str(link), repr(link)]
        link = link.__cause__ or link.__context__
    said += [path.read_text(errors="replace") for path in Path().rglob("*") if path.is_file()]
    if place == "environment":
        said.append(repr(pickle.dumps(opened)))  # a process that is started has the variable, too
    for text in said:
        assert SECRET not in text
        assert "s3cr@t" not in text


TELLING = """
    import logging, sys
    import chaos_study
    logging.basicConfig(level=logging.DEBUG)
    study = chaos_study.study("study", lean=False, storage=sys.stdin.readline().strip())
    print(study, study.optuna, study.recorders, file=sys.stderr)
    study.optimize(chaos_study.train, trials=4, workers=2)
"""


def tell_all(url: str, key: str) -> tuple[subprocess.CompletedProcess[str], list[bytes]]:
    """A study that logs all it can, with a password and a key; what it said, and the command lines meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(TELLING)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "WANDB_API_KEY": key, "PYTHONPATH": os.pathsep.join(sys.path), "CHAOS_PAUSE": "0.05"},
    )
    said: list[str] = []
    hearing = threading.Thread(target=lambda: said.append(process.communicate(url + "\n", timeout=PATIENCE)[0]))
    hearing.start()
    lines: set[bytes] = set()
    while hearing.is_alive():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                lines.add(path.read_bytes())
        time.sleep(0.05)
    return subprocess.CompletedProcess(process.args, process.returncode, said[0]), list(lines)


@pytest.mark.slow
def test_secrets_of_a_whole_study_are_nowhere(server: Any) -> None:
    """A password and W&B's key, with trial processes: in no file, line, or list of processes, right or wrong."""
    pytest.importorskip("wandb")
    from wandb_server import KEY

    for statement in ("CREATE USER tuner PASSWORD 's3cr@t'", "CREATE DATABASE tune OWNER tuner"):
        server.psql(statement)
    access = Path(server.pgdata, "pg_hba.conf")
    access.write_text("local tune tuner scram-sha-256\n" + access.read_text())
    server.psql("SELECT pg_reload_conf()")
    place = server.get_uri().partition("?")[2]
    for password, code in ((f"{SECRET}wrong", 1), (SECRET, 0)):
        done, lines = tell_all(f"postgresql://tuner:{password}@/tune?{place}", KEY)
        assert done.returncode == code, done.stdout
        assert ("password authentication failed" in done.stdout) == (code == 1)
        files = [path for path in Path().rglob("*") if path.is_file()]
        for text in (done.stdout.encode(), *lines, *(path.read_bytes() for path in files)):
            for secret in (SECRET, "s3cr@t", KEY):
                assert secret.encode() not in text
    assert any(b"tunehook.launch.node.child" in line for line in lines)
    assert {path.suffix for path in files} >= {".jsonl", ".txt", ".wandb", ".log", ".json"}
    assert len(list(Path("study").glob("*/output.txt"))) == 4


def threads() -> int:
    """How many this process has, those that Python does not list included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def test_signs_of_life_end_with_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that nobody has any more writes nothing, and leaves no thread."""
    monkeypatch.setattr(tunehook.storage.heartbeat, "INTERVAL", 0.05)
    gc.collect()  # no other study ends meanwhile
    before = threads()
    opened = study(storage=JournalStorage(JournalFileBackend("journal.log")))
    opened.ask()
    while tunehook.storage.heartbeat.ALIVE not in Path("journal.log").read_text():
        time.sleep(0.01)
    assert threads() > before
    _OPENED.clear()
    del opened
    gc.collect()
    wait_for(lambda: threads() <= before)


def test_text_without_passwords() -> None:
    """In any form, in any place, also decoded."""
    url = f"postgresql://me:{SECRET}@h/d?sslpassword=abc1"
    assert hidden(f"at {url} with s3cr@t", url=url) == "at postgresql://me:***@h/d?sslpassword=*** with ***"
    assert hidden("sqlite:///study.db") == "sqlite:///study.db"


# ------------------------------------------------------------------ places, and processes that died as they began


def test_the_last_places_are_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two studies ask for the last place at once: one trial runs, the other waits with its values."""
    space = {"lr": th.Float(0, 1)}
    storage = InMemoryStorage()
    one, two = (study(space=space, search="random", storage=storage) for _ in range(2))
    monkeypatch.setattr(Holders, "is_elsewhere", lambda _, frozen, *__: frozen.state == TrialState.RUNNING)
    for opened in (one, two):
        opened._terms.limit = 2
    one.tell(one.ask(), complete())
    others: list[Trial] = []
    check = one._asks.places.check

    def late(asked: Any = None) -> None:
        """The other one asks between the look and the trial of this one."""
        check(asked)
        if not others:
            others.append(two.ask())

    monkeypatch.setattr(one._asks.places, "check", late)
    with pytest.raises(StudyFull, match="The last of the 2 trials of study 'digits' are running in other processes"):
        one.ask()
    frozen = one.optuna.trials
    assert [found.state.name for found in frozen] == ["COMPLETE", "RUNNING", "WAITING"]
    two.tell(others[0], Outcome("failed", "its own fault"))  # its place is free again
    trial = one.ask()
    assert (trial.number, trial.params, trial.attempt) == (2, frozen[2].params, 0)


@pytest.mark.slow
def test_several_processes_do_not_train_more_than_was_wanted() -> None:
    """Three processes come to seven trials together, begun at the same moment; none runs or is one too many."""
    script = textwrap.dedent(SEEDED).replace("trials=16", "trials=7").replace("seed=7", "seed=None")
    script = script.replace("session.report(1", "__import__('time').sleep(0.3); session.report(1")
    workers = [subprocess.Popen([sys.executable, "-c", script, "random", "-1"]) for _ in range(3)]
    assert [process.wait(PATIENCE) for process in workers] == [0, 0, 0]
    states = Counter(frozen.state.name for frozen in study("seeded", SEEDED_SPACE, search="random").optuna.trials)
    assert states["COMPLETE"] == 7
    assert set(states) <= {"COMPLETE", "WAITING"}


SEEDED_SPACE = {"x": th.Float(0, 1), "n": th.Int(1, 9)}


@pytest.mark.slow
def test_a_trial_that_is_lost_and_not_told_yet_is_waited_for() -> None:
    """A process that finds a grid handed out ends when the lost combination was trained, too."""
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(HOLDING)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    opened = study()
    assert opened.lead.waits_for() == [0]  # just looked at, so that the next look is seconds away
    process.kill()
    process.communicate()
    assert opened.lead.waits_for() == [0]

    def train() -> None:
        session = active()
        assert session is not None
        place: dict[str, Any] = {}
        session.begin(
            [
                Slot(
                    f"m.{name}", get=functools.partial(place.get, name), set=functools.partial(place.__setitem__, name)
                )
                for name in GRID
            ]
        )
        session.ready()
        session.report(1, {"acc": 0.5})

    opened.optimize(train, progress=False)
    assert opened.counts() == {"interrupted": 1, "complete": 9}


HOLDING = """
    import time
    import optuna
    import tunehook as th
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = th.Study("digits", {"a": th.Choice([1, 2, 3]), "b": th.Choice([1, 2, 3])}, metric="acc", mode="max",
                     search="grid")
    study.ask()
    print("asked", flush=True)
    time.sleep(60)
"""

DYING = """
    import os, signal, sys
    import optuna
    import tunehook as th
    import tunehook.record
    from tunehook.storage import PatientStorage
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = th.Study("digits", {"a": th.Choice([1, 2, 3]), "b": th.Choice([1, 2, 3])}, metric="acc", mode="max",
                     search="grid")
    study.optuna
    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[1] == "sampling":
        optuna.Trial._suggest = die
    elif sys.argv[1] == "before the journal":
        tunehook.record.Journal.begin = die
    else:
        PatientStorage.enqueue = die
    study.tell(study.ask(), th.Outcome("interrupted", "Ctrl-C"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["sampling", "before the journal", "told, and not asked again yet"])
def test_a_process_that_was_killed_as_it_asked_or_told(when: str) -> None:
    """Its trial is interrupted, and its combination is not lost."""
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(DYING), when])
    assert process.returncode == -9
    opened = study()
    assert [frozen.state.name for frozen in opened.optuna.trials] == ["FAIL", "WAITING"]
    assert opened.ask().params == {"a": 1, "b": 1}


def test_values_that_two_processes_ask_again() -> None:
    """They are trained once: the second one of the same attempt ends as it is asked for."""
    opened = study(storage=InMemoryStorage())
    opened.tell(opened.ask(), Outcome("interrupted", "Ctrl-C"))
    (first,) = [frozen for frozen in opened.optuna.trials if frozen.state == TrialState.WAITING]
    opened.optuna.enqueue_trial(first.system_attrs["fixed_params"], user_attrs=first.user_attrs)
    assert [opened.ask().number for _ in range(2)] == [1, 3]
    assert opened.trials[2].outcome == Outcome("interrupted", "its values are those of trial 1")


SEEDED = """
    import os, signal, sys, logging
    import optuna
    import tunehook as th
    from tunehook.inject import Slot
    from tunehook.session import active
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search, kill = sys.argv[1], sys.argv[2]
    study = th.Study("seeded", {"x": th.Float(0, 1), "n": th.Int(1, 9)}, metric="acc", mode="max", search=search,
                     seed=7)
    def train():
        session, place = active(), {}
        session.begin([Slot(f"m.{name}", get=lambda name=name: place.get(name),
                            set=lambda value, name=name: place.update({name: value})) for name in ("x", "n")])
        session.ready()
        session.report(1, {"acc": place["x"] * place["n"]})
        if session.trial.number == int(kill):
            os.kill(os.getpid(), signal.SIGKILL)
    study.optimize(train, trials=16, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("search", ["random", "tpe"])
def test_a_study_that_was_killed_goes_on_as_if_it_had_not_been(
    search: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed twice and resumed, it tries the same values in the same order, none of them twice, and none runs on."""
    found = []
    for name, kills in (("whole", ["-1"]), ("killed", ["5", "13", "-1"])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        for kill in kills:
            process = subprocess.run([sys.executable, "-c", textwrap.dedent(SEEDED), search, kill])
            assert process.returncode == (0 if kill == "-1" else -9)
        opened = study("seeded", SEEDED_SPACE, search=search, seed=7)
        assert opened.counts() == {"complete": 16, **({"interrupted": 2} if name == "killed" else {})}
        found.append([trial.params for trial in opened.trials if trial.outcome.state == "complete"])
    assert found[0] == found[1]
    assert len({str(params) for params in found[0]}) == 16
