"""The borders to W&B: each function does with the real SDK what its name says; a failure names what it reaches for."""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import importlib.util
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunehook.integrations.wandb import owners, sdk, service, shown
from tunehook.integrations.wandb.logger import LoggerRun

pytestmark = pytest.mark.usefixtures("offline")

wandb = pytest.importorskip("wandb")


def begin(**options: Any) -> Any:
    """A run that costs little."""
    return wandb.init(settings=wandb.Settings(x_save_requirements=False, x_disable_stats=True), **options)


def why(function: Callable[..., object]) -> str:
    """What has changed where a check fails."""
    return f"wandb {wandb.__version__} changed what {function.__module__}.{function.__name__} needs: {function.__doc__}"


def test_how_a_run_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, whether it was returned once more, and its process."""
    run = begin()
    assert not sdk.is_named(run), why(sdk.is_named)
    run.name = "mine"
    assert sdk.is_named(run), why(sdk.is_named)
    assert not sdk.was_returned(run), why(sdk.was_returned)
    assert wandb.init() is run
    assert sdk.was_returned(run), why(sdk.was_returned)
    assert sdk.is_of_this_process(run), why(sdk.is_of_this_process)
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: -1)
        assert not sdk.is_of_this_process(run), why(sdk.is_of_this_process)
        assert sdk.singleton() is None, why(sdk.singleton)
    run.finish()
    with begin(name="given") as named:
        assert sdk.is_named(named), why(sdk.is_named)


def test_how_a_run_is_used() -> None:
    """Whether steps are given to it, its settings, and its end."""
    run = begin()
    run.log({"loss": 0.5})
    assert not sdk.gives_steps(run), why(sdk.gives_steps)
    run.log({"loss": 0.5}, step=7)
    assert sdk.gives_steps(run), why(sdk.gives_steps)
    sdk.settings_of(run).run_group = "ours"
    assert run.group == "ours", why(sdk.settings_of)
    assert not sdk.is_finished(run), why(sdk.is_finished)
    run.finish()
    assert sdk.is_finished(run), why(sdk.is_finished)
    assert run._finish_timed_out is sdk.was_cut_off(run) is False, why(sdk.was_cut_off)
    run._finish_timed_out = True
    assert sdk.was_cut_off(run), why(sdk.was_cut_off)


def test_which_runs_are_open() -> None:
    """The list of them is read and written, and wandb.init goes by it."""
    first, second = begin(), begin(reinit="create_new")
    assert sdk.open_runs() == [first, second], why(sdk.open_runs)
    assert sdk.current_run() is first, why(sdk.current_run)
    sdk.list_runs([])
    third = begin()
    assert third not in (first, second), why(sdk.list_runs)
    assert sdk.open_runs() == [third], why(sdk.list_runs)
    for run in (first, second, third):
        run.finish()


def test_the_run_that_is_meant() -> None:
    """What wandb.run and wandb.log mean is taken away and put back."""
    run = begin()
    summary = run.summary
    sdk.set_current_run(None)
    assert wandb.run is None, why(sdk.set_current_run)
    with pytest.raises(wandb.Error, match=r"^You must call wandb.init\(\) before wandb.log\(\)$"):
        wandb.log({"loss": 0.5})
    sdk.set_current_run(run)
    assert wandb.run is run, why(sdk.set_current_run)
    wandb.log({"loss": 0.5})
    assert summary["loss"] == 0.5, why(sdk.set_current_run)


def test_a_run_of_our_own_is_not_listed() -> None:
    """wandb.init returns another one while it is open."""
    mine = owners.Owners().begin("mine", project="ours", mode="offline")
    assert mine not in sdk.open_runs(), why(sdk.list_no_more)
    theirs = begin()
    assert theirs is not mine, why(sdk.list_no_more)
    assert sdk.open_runs() == [theirs], why(sdk.list_no_more)
    mine.finish()


@pytest.mark.filterwarnings("ignore:.*sweep.yaml:pytest.PytestUnraisableExceptionWarning")  # the SDK does not close it
def test_outside_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run has its own id and configuration inside, and the sweep's again after that."""
    values = tmp_path / "sweep.yaml"
    values.write_text("wandb_version: 1\nlr:\n  value: 7.0\n")
    for name, value in (("SWEEP_ID", "abcd"), ("RUN_ID", "agents"), ("SWEEP_PARAM_PATH", str(values))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()
    wandb.setup()
    assert sdk.is_in_sweep(), why(sdk.is_in_sweep)
    with sdk.outside_sweep(threading.Lock()):
        assert not sdk.is_in_sweep(), why(sdk.outside_sweep)
        ours = wandb.init(id="ours", config={"lr": 1.0}, reinit="create_new")
    assert (ours.id, dict(ours.config)) == ("ours", {"lr": 1.0}), why(sdk.outside_sweep)
    ours.finish()
    assert sdk.is_in_sweep(), why(sdk.outside_sweep)
    theirs = begin()
    assert (theirs.id, theirs.config["lr"]) == ("agents", 7.0), why(sdk.outside_sweep)


def test_a_key_in_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found where `wandb login` keeps it."""
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    netrc.touch(0o600)
    settings = wandb.setup().settings
    assert not sdk.has_key(settings), why(sdk.has_key)
    netrc.write_text(f"machine api.wandb.ai login user password {'0' * 40}\n")
    assert sdk.has_key(settings), why(sdk.has_key)


def test_the_service() -> None:
    """Its process and its address are known, and its end does not raise where it was killed."""
    assert service.service_process() is None, why(service.service_process)
    wandb.setup()
    process = service.service_process()
    assert process is not None, why(service.service_process)
    assert process.poll() is None, why(service.service_process)
    address = os.environ["WANDB_SERVICE"]
    assert service._answers(address), why(service._answers)
    service.end_quietly(wait=1.0)
    process.kill()
    process.wait()
    assert not service._answers(address), why(service._answers)
    wandb.teardown()
    assert service.service_process() is None, why(service.service_process)


@pytest.mark.parametrize("module", [name for name in service.LATE if name.startswith("wandb.")])
def test_what_the_sdk_imports_late(module: str) -> None:
    """It is imported before a training begins: a name that the SDK has dropped would hold up a step again."""
    assert importlib.util.find_spec(module), f"wandb {wandb.__version__} has no {module}, which service.LATE names"


@pytest.mark.parametrize("namespace", ["lightning.pytorch.loggers", "pytorch_lightning.loggers"])
def test_the_logger_of_lightning(namespace: str) -> None:
    """It is told the id of its run before it makes it, and resumes that after it was released."""
    logger = pytest.importorskip(namespace).WandbLogger(project="mine")
    held = LoggerRun(logger)
    assert held.resumed() is None, f"{namespace}: WandbLogger._experiment"
    assert held.plan_id("ours") == "ours"
    run = held.take()
    assert run is not None
    assert run.id == "ours", f"{namespace}: WandbLogger._wandb_init"
    assert held.resumed() is run, f"{namespace}: WandbLogger._experiment"
    assert held.plan_id("other") is None
    run.finish()
    held.release(run)
    assert held.resumed() is None, f"{namespace}: WandbLogger._experiment"
    again = logger.experiment
    assert (again.id, again is run) == ("ours", False), f"{namespace}: WandbLogger._wandb_init"
    again.finish()


def test_the_dashboard() -> None:
    """Where a workspace is saved is read and put, and the name of a hyperparameter is one key."""
    workspace = pytest.importorskip("tunehook.integrations.wandb.workspace")
    version = importlib.metadata.version("wandb-workspaces")
    made = workspace.ws.Workspace(entity="someone", project="digits", name="one")
    assert workspace._place_of(made).keys() == {"name", "id"}
    place = {"name": "abc", "id": "gid-abc"}
    workspace._put_place(made, place)
    assert workspace._place_of(made) == place, f"wandb-workspaces {version}: Workspace._internal_name, _internal_id"
    column = workspace._Column("optimizer.lr", log=True)
    assert column._to_model().accessor == "config:optimizer.lr.value", f"wandb-workspaces {version}: _to_model"


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown of a study is kept there too; where another process has the lock, it is waited for."""

    def lock(error: OSError) -> Callable[[io.IOBase, int], None]:
        def raises(*_: object) -> None:
            raise error

        return raises

    monkeypatch.setattr(fcntl, "flock", lock(OSError(errno.ENOLCK, "no locks available")))
    with shown.changing(tmp_path / "shown.json") as kept:
        kept["wandb:/digits"] = {"run": "digits-study-1", "trials": 3, "model": None}
    with shown.changing(tmp_path / "shown.json") as kept:
        assert kept["wandb:/digits"]["trials"] == 3
    monkeypatch.setattr(fcntl, "flock", lock(BlockingIOError(errno.EAGAIN, "held")))
    monkeypatch.setattr(shown, "PATIENCE", 0.1)
    with pytest.raises(TimeoutError, match="Another process holds"), shown.changing(tmp_path / "shown.json"):
        pass
