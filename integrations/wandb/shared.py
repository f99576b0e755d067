"""The run that the user has, wherever it is held: found, claimed for one trial, and given what its user left out.

A shared run is not behind the shield: it is the user's, whose own calls wait for W&B as they always did. Ours are made
by the thread too, but a row is waited for up to 20 ms, since it belongs between the user's rows. Theirs lie between
ours, so ours are not counted: where the run fails, W&B's step of each goes into the journal, and which of them W&B has
follows from the step that it would go on with.
"""
# ruff: noqa: SLF001 - how a run was made and is used has no public way

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import wandb
from wandb import Run, Settings
from wandb.errors import UsageError
from wandb.sdk.lib import wbauth
from wandb.sdk.lib.module import unset_globals

from tunehook.integrations.wandb.apart import refusal, take
from tunehook.integrations.wandb.logger import LoggerRun, is_keras_callback, is_wandb_logger
from tunehook.integrations.wandb.shield import restart_service
from tunehook.trial import Trial

LEAN = Settings(
    x_save_requirements=False,
    x_disable_stats=True,
    x_disable_meta=True,
    x_disable_machine_info=True,
    console="off",
    disable_git=True,
    symlink=False,  # `latest-run` and two more, which every run would move
)

# Which trial a run of this process belongs to, by the run's id; kept after the trial, because an id can come back.
# Shared by all recorders: two studies can meet in one run.
_owners: dict[str, tuple[str, str, int]] = {}
# The runs of the trials that are open now.
_held: list[Run] = []
# The ids of the runs of our own that are about to begin.
_hidden: set[str] = set()
_one_at_a_time = threading.Lock()


class NotYoursError(ValueError):
    """A run cannot be a trial's: it belongs to another trial, is finished, or there is none."""


@dataclass(frozen=True)
class Defaults:
    """What a shared run gets where its user gave nothing."""

    id: str
    name: str
    group: str
    tags: tuple[str, ...]
    job_type: str = "trial"


class UsersRun(Protocol):
    """A run of the user's code, by what holds it."""

    @property
    def holder(self) -> str:
        """What holds the run, for messages."""

    @property
    def way_out(self) -> str:
        """How each trial gets a run of its own."""

    def plan_id(self, default: str) -> str | None:
        """The id of a run that is not made yet, by default the given one; ``None`` if it is made."""

    def take(self) -> Run | None:
        """The run, made now if need be; ``None`` if there is none."""

    def finalize(self, exit_code: int) -> None:
        """Write what the holder writes at the end."""

    def release(self, run: Run) -> None:
        """Let the holder go on after its run is finished, where it can."""

    def resumed(self) -> Run | None:
        """The run in which a released holder has gone on, if it has."""


@dataclass(frozen=True)
class OpenRun:
    """The global ``wandb.run``, to which ``wandb.log`` and W&B's callbacks for Keras write.

    Attributes:
        callback: The name of the Keras callback that writes to it, ``None`` without one.
    """

    callback: str | None = None

    @property
    def holder(self) -> str:
        """What holds the run, for messages."""
        return self.callback or "training"

    @property
    def way_out(self) -> str:
        """How each trial gets a run of its own."""
        last = "" if self.callback is None else f", before {self.callback} is made"
        return f"call wandb.init inside the training function, without a fixed id{last}"

    def plan_id(self, default: str) -> str | None:
        """Nothing: the run is made by the user."""
        return None

    def take(self) -> Run | None:
        """The run that is open."""
        return wandb.run

    def finalize(self, exit_code: int) -> None:
        """Nothing: W&B's callbacks write as they go."""

    def release(self, run: Run) -> None:
        """Nothing: ``wandb.run`` is ``None`` as soon as its run is finished, and ``wandb.log`` raises."""

    def resumed(self) -> Run | None:
        """Never."""
        return None


def find_run(loggers: Sequence[object], around: str | None) -> UsersRun | None:
    """The run that the user's training has, else ``None``.

    A ``WandbLogger`` of Lightning and W&B's callbacks for Keras are told by the names of their classes. Without one, it
    is the open ``wandb.run``, unless it is a run around the study, another trial's, or one of a parent process.

    Args:
        loggers: The loggers that the user gave to the framework.
        around: The id of the run around the study.
    """
    for logger in loggers:
        if is_wandb_logger(logger):
            return LoggerRun(logger)
        if is_keras_callback(logger):
            return OpenRun(type(logger).__name__)
    run = wandb.run
    if run is None or run.id == around or run._init_pid != os.getpid() or any(run is held for held in _held):
        return None
    return OpenRun()


def share_run(users: UsersRun, trial: Trial, defaults: Defaults) -> Run:
    """The user's run, made this trial's own.

    Raises:
        NotYoursError: If the run belongs to another trial or is finished, or if there is none.
    """
    if (planned := users.plan_id(defaults.id)) is not None:
        _refuse_others(planned, trial, users, _owners.get(planned))
    run = users.take()
    if run is None:
        raise _not_yours(trial, users, "finds no open W&B run")
    claim_run(run, trial, users)
    take(run, trial)
    if not run.disabled:
        _complete(run, defaults)
    return run


def claim_run(run: Run, trial: Trial, users: UsersRun | None = None) -> None:
    """Note that the run is this trial's.

    Raises:
        NotYoursError: If it belongs to another trial or is finished.
    """
    users = users or OpenRun()
    _refuse_others(run.id, trial, users, _owners.get(run.id) or _owner_of(run))
    try:
        run.define_metric("trial/step")
    except UsageError as error:
        text = f"holds the W&B run {run.id!r}, which is finished already"
        raise _not_yours(trial, users, text) from error
    _owners[run.id] = (trial.key, trial.study, trial.number)
    _held.append(run)


def has_key(settings: Settings) -> bool:
    """Whether an API key is configured; nobody is asked, and nothing connects."""
    found = settings.api_key or settings.identity_token_file or wbauth.read_netrc_auth(host=settings.base_url)
    return bool(found)


def hold_run(run: Run) -> None:
    """Note that the run is no training's, nor to be ended with the service."""
    _held.append(run)


def begin_run(run_id: str, **options: Any) -> Run:
    """Begin or resume a run of our own, in no sweep, which ``wandb.init`` in the user's code never returns.

    Without arguments it would return the latest open run, one that ``wandb.log`` does not know.

    Args:
        run_id: Its id.
        options: Further arguments of ``wandb.init``.
    """
    with _unlisted(run_id), _outside_sweep():
        return wandb.init(id=run_id, reinit="create_new", **options)


def define_axis(run: Run, name: str, axis: str, **options: Any) -> None:
    """Show a metric over another one; a name that W&B cannot define, such as ``recall@*k``, is shown over its steps."""
    with contextlib.suppress(wandb.Error):
        run.define_metric(name, step_metric=axis, **options)


def let_go(run: Run) -> None:
    """Note that the run's trial has ended."""
    _held[:] = [held for held in _held if held is not run]


def abandon_run(run: Run) -> None:
    """Let the next ``wandb.init`` open a run of its own, where this one hangs in its end."""
    if wandb.run is run:
        unset_globals()  # type: ignore[no-untyped-call]


def bury_run(run: Run, service: object) -> None:
    """Let go of a run in which the SDK failed; the next ``wandb.init`` starts a service where that one is gone."""
    let_go(run)
    if restart_service(service):
        abandon_run(run)


def find_refusal(run: Run) -> str | None:
    """Why the server did not take all of a finished run, as where it refused the key in the middle.

    The SDK drops what is refused without an error, and says so in its log only.
    """
    if run.offline or run.disabled:
        return None
    with contextlib.suppress(OSError), Path(run._settings.log_internal).open(errors="replace") as log:
        for line in log:
            if found := re.search(r'filestream: fatal error: (?:filestream: )?(.+?)(?: url=|")', line):
                return found[1]
    return None


def gives_steps(run: Run) -> bool:
    """Whether the user's code has ever logged with ``step=`` in it."""
    return bool(run._telemetry_obj.feature.set_step_log)


def is_finished(run: Run) -> bool:
    """Whether the run was finished, by whomever."""
    return getattr(run, "_is_finished", False)  # a disabled one has no such attribute


def reopen_run(run: Run) -> Run:
    """Go on in a run that the user's code has finished; offline it is a fragment of the same id."""
    past, settings = run._settings, LEAN.model_copy()
    settings.silent = True
    return begin_run(
        run.id,
        project=run.project,
        entity=run.entity or None,
        name=past.run_name,
        group=past.run_group,
        job_type=past.run_job_type,
        tags=past.run_tags,
        dir=past.root_dir,
        mode="offline" if run.offline else "online",
        resume="allow",
        settings=settings,
    )


@contextlib.contextmanager
def _unlisted(run_id: str) -> Iterator[None]:
    """Keep a run of this id, made inside, out of the SDK's list of open runs."""
    singleton: Any = wandb.setup()
    if "add_active_run" not in vars(singleton):  # stays: several threads may be here at once
        add = singleton.add_active_run
        singleton.add_active_run = lambda run: None if run.id in _hidden else add(run)
    _hidden.add(run_id)
    try:
        yield
    finally:
        _hidden.discard(run_id)


@contextlib.contextmanager
def _outside_sweep() -> Iterator[None]:
    """Let the SDK obey the id, project and configuration of a run made inside, also in the process of an agent.

    In a sweep, and in a job of W&B Launch, it drops the first two, and writes the sweep's values over the last one.
    What the user's code makes afterwards is in the sweep again, but not what it makes at the same time.
    """
    singleton: Any = wandb.setup()
    with _one_at_a_time:
        settings, values = singleton.settings, singleton._sweep_config
        if settings.sweep_id or settings.launch:
            outside = {"sweep_id": None, "sweep_param_path": None, "launch": False}
            singleton._settings, singleton._sweep_config = settings.model_copy(update=outside), None
            try:
                yield
            finally:
                singleton._settings, singleton._sweep_config = settings, values
            return
    yield


def _complete(run: Run, defaults: Defaults) -> None:
    """Set what the user did not give.

    The run is made before a callback hears of the training, and wandb has no setter for group and job type: they are
    set as ``run.tags = ...`` does it. Later records of a run complete its first one, online and offline.
    """
    settings = run._settings
    settings.run_group = settings.run_group or defaults.group
    settings.run_job_type = settings.run_job_type or defaults.job_type
    given = run._telemetry_obj.feature  # a server gives a name where the user gave none
    if not (given.set_init_name or given.set_run_name):
        settings.run_name = defaults.name
    run.tags = settings.run_tags or defaults.tags


def _owner_of(run: Run) -> tuple[str, str, int] | None:
    """Whose a run is by its configuration, which one that was resumed has from the server."""
    told = dict(run.config).get("tunehook")
    if not isinstance(told, Mapping) or not {"key", "study", "trial"} <= told.keys():
        return None  # a value of the user's own
    return told["key"], told["study"], told["trial"]


def _refuse_others(run_id: str, trial: Trial, users: UsersRun, owner: tuple[str, str, int] | None) -> None:
    if owner and owner[0] != trial.key:  # an attempt has the key of the first one
        text = f"holds the W&B run {run_id!r}, which belongs to trial-{owner[2]:04d} of study {owner[1]!r}"
        raise _not_yours(trial, users, text)


def _not_yours(trial: Trial, users: UsersRun, problem: str) -> NotYoursError:
    return NotYoursError(refusal(trial, users.holder, problem, users.way_out))
