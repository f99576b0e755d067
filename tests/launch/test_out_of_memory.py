"""Processes that the kernel kills when memory runs out; by themselves, since its count is one for the whole machine."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import launch_scripts as scripts
from tunehook.launch.node.out_of_memory import OutOfMemory


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group with 64 MB, where this user may make one."""
    settings = {  # of both versions
        Path("/sys/fs/cgroup/memory"): {"memory.limit_in_bytes": "64M", "memory.swappiness": "0"},
        Path("/sys/fs/cgroup"): {"memory.max": "64M", "memory.swap.max": "0"},
    }
    for root, files in settings.items():
        made = root / f"tunehook-{os.getpid()}"
        try:
            made.mkdir()
            for name, value in files.items():
                with (made / name).open("r+") as file:
                    file.write(value)
        except OSError:
            with contextlib.suppress(OSError):
                made.rmdir()
            continue
        yield made
        made.rmdir()
        return
    pytest.skip("no control group with a limit of memory can be made here")


def test_a_trial_that_the_kernel_kills_for_memory(
    tmp_path: Path, control_group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is infeasible, so it is not asked again; one that somebody else kills is."""
    monkeypatch.setenv("CONTROL_GROUP", str(control_group))
    study = scripts.study(tmp_path / "s")
    study.optimize(scripts.eat, workers=2, progress=False)
    assert study.counts() == {"complete": 3, "infeasible": 1}
    (found,) = [trial for trial in study.trials if trial.outcome.state == "infeasible"]
    assert found.params == {"x": 2}
    assert found.outcome.reason.startswith("out of memory: the kernel killed its process ")
    assert "were there" not in study.paths.output(found.number).read_text()


def test_kills_for_memory_are_told_by_the_kernels_count(tmp_path: Path) -> None:
    """Each one once, for some seconds; an old one says nothing about a process that is killed now."""
    counter = tmp_path / "vmstat"

    def count(kills: int) -> None:
        counter.write_text(f"pgfault 7\noom_kill_disabled 9\noom_kill {kills}\n")

    count(3)
    memory = OutOfMemory(counter, recent=0.0)
    assert not memory.has_killed()
    count(5)
    assert [memory.has_killed() for _ in range(3)] == [True, True, False]
    count(6)
    memory.look()
    assert memory.has_killed()  # it was counted, but is not long ago
    count(7)
    memory.look()
    memory.look()
    assert not memory.has_killed()
    assert not OutOfMemory(tmp_path / "none").has_killed()
