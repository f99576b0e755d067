"""Whether a process lives: by the boot and tick of its start, whatever the clock says."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from tunehook.record import host, is_here
from tunehook.system import has_own_ids, is_alive, lives, machine, place, shares_ids, this_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts are known on Linux")


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_clock_that_is_stepped(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lives is alive, whenever the clock was set: before it said who it is, or after."""
    real, told = time.time, this_process()
    monkeypatch.setattr(time, "time", lambda: real() + step)
    assert lives(told)
    assert lives(this_process())
    monkeypatch.undo()
    assert lives(told)


def test_a_used_id_is_another_process() -> None:
    """It started at another tick, or since another boot of the machine."""
    told = this_process()
    boot, tick = told["start"].split("/")
    assert not lives({**told, "start": f"{boot}/{int(tick) + 1}"})
    assert not lives({**told, "start": f"{'0' * len(boot)}/{tick}"})


def test_a_boot_that_nobody_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in some containers: the tick tells a used id from the process that had it."""
    monkeypatch.setattr(machine, "_boot", lambda: "")
    told = this_process()
    assert lives(told)
    assert not lives({**told, "start": f"/{int(told['start'].strip('/')) + 1}"})


def test_what_older_versions_have_stored() -> None:
    """They did not say the start: what counts is when the process was there, by the wall clock."""
    born = psutil.Process().create_time()
    assert lives({"pid": os.getpid(), "time": time.time()})
    assert is_alive(os.getpid(), since=born)
    assert not is_alive(os.getpid(), since=born - 10)


def test_a_process_that_has_ended() -> None:
    """Also while its parent has not asked for its end, and once it is gone."""
    ended = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    told = {"pid": ended.pid, "time": time.time()}
    assert lives(told)
    ended.kill()
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not lives(told)
    ended.wait()
    assert not lives(told)


def test_ids_of_another_container() -> None:
    """They cannot be looked up here; where nobody says whose they are, they are taken for ours."""
    told = this_process()
    assert shares_ids(told["space"])
    assert shares_ids(None)
    assert not shares_ids(str(int(told["space"]) + 1))


def test_ids_of_a_container_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same number of its space, which each kernel counts for itself; outside of containers all have one."""
    told = this_process()
    elsewhere = f"{'0' * 36}/{told['start'].partition('/')[2]}"
    monkeypatch.setattr(machine, "_WHOLE_MACHINE", "1")
    assert shares_ids(told["space"], told["start"])
    assert not shares_ids(told["space"], elsewhere)
    assert not is_here({**told, "host": host(), "start": elsewhere})
    assert place() == f"{told['start'].partition('/')[0]}/{told['space']}"
    monkeypatch.setattr(machine, "_WHOLE_MACHINE", told["space"])  # before this machine was started again
    assert shares_ids(told["space"], elsewhere)
    assert place() == ""


def test_a_container_has_ids_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other than those of the whole machine."""
    monkeypatch.setattr(machine, "_WHOLE_MACHINE", this_process()["space"])
    assert not has_own_ids()
    monkeypatch.setattr(machine, "_WHOLE_MACHINE", "1")
    assert has_own_ids()
