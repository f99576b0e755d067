"""Shared fixtures: every test runs in an empty folder, with W&B offline and Optuna quiet."""

from __future__ import annotations

import atexit
import functools
import gc
import importlib.metadata
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from revisions import read_once
from tunehook.inject import trace
from tunehook.session import continuation
from tunehook.storage import attributes, rows

os.environ.setdefault("KERAS_BACKEND", "torch")  # Keras takes TensorFlow otherwise, which is not always installed

# Tests run side by side; threads of torch that wait for a core spin, and a step takes twenty times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Studies sync what they write, for which a test waits for the disk, but not in memory. A test takes some megabytes.
MEMORY = Path("/dev/shm")  # noqa: S108


def _use_memory() -> None:
    """Let all temporary folders lie in one in memory, which goes with the process that has made it."""
    made, pid = tempfile.mkdtemp(prefix="t", dir=MEMORY), os.getpid()
    Path(made).chmod(0o1777)  # PostgreSQL is another user
    os.environ["TMPDIR"] = tempfile.tempdir = made

    def remove() -> None:
        if os.getpid() == pid:  # not at the end of a fork of it
            shutil.rmtree(made, ignore_errors=True)

    atexit.register(remove)


if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    _use_memory()

# Each Trainer of Lightning looks through all installed packages for callbacks, for a fifth of a short fit.
importlib.metadata.entry_points = functools.cache(importlib.metadata.entry_points)  # type: ignore[assignment]
read_once()


def pytest_collection_finish() -> None:
    """Look no more through what was imported, in each collection of garbage that tests and studies ask for."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _nothing_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test hear what is said once in a process."""
    for module, told in ((attributes, "_told"), (rows, "_been_told"), (continuation, "_told"), (trace, "_told")):
        monkeypatch.setattr(module, told, set())


HOSTILE = ["two words", "ünï-日本→", 'it\'s "quoted"', "100%20 ?x=1#y&z;", "{b} [c] $HOME"]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory, where relative folders such as ``tunehook-studies`` land."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("TUNEHOOK_LEADER", "TUNEHOOK_STORAGE", "TUNEHOOK_LAUNCHER", "RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    if "WANDB_SERVICE" in os.environ and (service := sys.modules.get("tunehook.integrations.wandb.service")):
        service.leave_dead_service()  # a test has ended it without the variable, which was put back then
    setup = getattr(sys.modules.get("wandb.sdk.wandb_setup"), "_singleton", None)
    if setup is not None and setup.settings_if_loaded is not None:
        setup.settings_if_loaded.root_dir = str(tmp_path)  # W&B keeps the folder in which it was first used
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield tmp_path
    optuna.logging.set_verbosity(before)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """What a script under test sets up for all logs, as an application of Hydra does, ends with it."""
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    yield
    root.setLevel(level)
    for handler in [*root.handlers]:
        if handler not in handlers and not type(handler).__module__.startswith("_pytest."):
            root.removeHandler(handler)
            handler.close()


@pytest.fixture(autouse=True)
def no_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm parent of trials imports NumPy alone, whatever this process has loaded; not so in tests of adapters."""
    monkeypatch.setattr("tunehook.launch.node.function.FRAMEWORKS", ("numpy",))


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder whose name has what shells, URLs, templates and markup trip over; it does not exist yet."""
    return tmp_path / str(request.param) / "study"
