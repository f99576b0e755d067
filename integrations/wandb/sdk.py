"""The border to W&B's SDK: how a run was made and is used, and which runs are open here. It has no public way to these.

What the SDK calls private is named here and in `service` only. It is not imported with this module, only looked at
where the user's code has loaded it: that may be an older one, whose runs lack some of this. Each function names what it
reaches for in wandb 0.31, for which it was written; 0.28.1 has the same.
"""
# ruff: noqa: SLF001 - this is the border

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import threading

    from wandb import Run, Settings

# ---------------------------------------------------------------------- a run


def is_finished(run: Any) -> bool:
    """Whether a run was finished, by whomever: ``Run._is_finished``, which a disabled one lacks."""
    return bool(getattr(run, "_is_finished", False))


def is_of_this_process(run: Any) -> bool:
    """Whether a run was begun here, and not in a parent process: ``Run._init_pid``."""
    return bool(getattr(run, "_init_pid", os.getpid()) == os.getpid())


def was_cut_off(run: Run) -> bool:
    """Whether the upload at the end of a run took longer than it may: ``Run._finish_timed_out``."""
    return bool(getattr(run, "_finish_timed_out", False))


def was_returned(run: Any) -> bool:
    """Whether ``wandb.init`` has returned an open run once more: ``Run._telemetry_obj``, ``init_return_run``."""
    return bool(getattr(_used_by(run), "init_return_run", False))


def gives_steps(run: Run) -> bool:
    """Whether the user's code has ever logged with ``step=`` in a run: ``Run._telemetry_obj``, ``set_step_log``."""
    return bool(_used_by(run).set_step_log)


def is_named(run: Run) -> bool:
    """Whether the user gave a run its name; else the server did: ``Run._telemetry_obj``, ``set_init_name`` and more."""
    used = _used_by(run)
    return bool(used.set_init_name or used.set_run_name)


def _used_by(run: Any) -> Any:
    return getattr(getattr(run, "_telemetry_obj", None), "feature", None)


def settings_of(run: Run) -> Settings:
    """The settings of a run, to be changed: ``Run._settings``. Those of ``run.settings`` are a copy."""
    return run._settings


# ---------------------------------------------------------------------- the runs of this process


def singleton() -> Any:
    """What the SDK holds in this process: ``wandb_setup._singleton``.

    ``None`` before its first run, in a child of the process that has it, and in versions without a list of open runs.
    """
    found: Any = getattr(sys.modules.get("wandb.sdk.wandb_setup"), "_singleton", None)
    return found if hasattr(found, "_active_runs") and found._pid == os.getpid() else None


def current_run() -> Any:
    """The run that is ``wandb.run``, ``None`` where it is that of a parent process."""
    run = getattr(sys.modules["wandb"], "run", None)
    return run if run is not None and is_of_this_process(run) else None


def set_current_run(run: Run | None) -> None:
    """Make a run the one that ``wandb.run`` and ``wandb.log`` mean: ``_set_global_run``, ``module.unset_globals``."""
    if run is None:
        sys.modules["wandb.sdk.lib.module"].unset_globals()
    else:
        sys.modules["wandb.sdk.wandb_init"]._set_global_run(run)


def open_runs() -> list[Any]:
    """The runs that are open, the latest last: ``_active_runs`` of the singleton."""
    found, current = singleton(), current_run()
    if found is None:
        return [] if current is None else [current]
    return list(found._active_runs)


def list_runs(runs: Sequence[Any]) -> None:
    """Let ``wandb.init`` take these for the open ones, the latest of which it returns: ``_active_runs``."""
    if (found := singleton()) is not None:
        found._active_runs[:] = runs


def list_no_more(is_hidden: Callable[[str], bool]) -> None:
    """From now on keep runs out of that list by their ids: ``add_active_run`` of the singleton."""
    import wandb

    found: Any = wandb.setup()
    if "add_active_run" not in vars(found):  # stays: several threads may be here at once
        add = found.add_active_run
        found.add_active_run = lambda run: None if is_hidden(run.id) else add(run)


def is_in_sweep() -> bool:
    """Whether this is the process of an agent."""
    found = singleton()
    return found is not None and bool(found.settings.sweep_id)


@contextlib.contextmanager
def outside_sweep(one_at_a_time: threading.Lock) -> Iterator[None]:
    """Let the SDK obey the id, project and configuration of a run made inside, also in the process of an agent.

    In a sweep, and in a job of W&B Launch, it drops the first two, and writes the sweep's values over the last one:
    ``_settings`` and ``_sweep_config`` of the singleton. What the user's code makes afterwards is in the sweep again,
    but not what it makes at the same time.
    """
    import wandb

    found: Any = wandb.setup()
    with one_at_a_time:
        settings, values = found.settings, found._sweep_config
        if settings.sweep_id or settings.launch:
            outside = {"sweep_id": None, "sweep_param_path": None, "launch": False}
            found._settings, found._sweep_config = settings.model_copy(update=outside), None
            try:
                yield
            finally:
                found._settings, found._sweep_config = settings, values
            return
    yield


def has_key(settings: Settings) -> bool:
    """Whether an API key is configured: ``wbauth.read_netrc_auth``. Nobody is asked, and nothing connects."""
    from wandb.sdk.lib import wbauth

    found = settings.api_key or settings.identity_token_file or wbauth.read_netrc_auth(host=settings.base_url)
    return bool(found)
