"""Uploading from the journals what W&B did not get, into the runs that it has; twice is as good as once."""

from __future__ import annotations

import contextlib
import glob
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

try:
    from wandb import Run
except ImportError as error:
    if error.name != "wandb":
        raise
    raise ModuleNotFoundError(
        "Uploading W&B runs needs the package wandb: pip install 'tunehook[wandb]'", name="wandb"
    ) from error

import wandb

from tunehook.integrations.wandb.journal import Row, mark_synced, note_run, rows_of, runs_in
from tunehook.integrations.wandb.line import reason_of
from tunehook.integrations.wandb.owners import OWNERS
from tunehook.integrations.wandb.run import SHARED_PREFIX, TrialRun, make_settings
from tunehook.integrations.wandb.service import leave_dead_service
from tunehook.integrations.wandb.values import OURS, describe_trial
from tunehook.record import Begin, Config, Ended, Events, InSync, Journal, Process, Task, check_place
from tunehook.study import Told
from tunehook.trial import COUNTED, JournalError, Outcome, StudyError, Trial

# A process may still upload the end of its trial itself for so many seconds.
SETTLED = 60.0
# Seconds until a server that does not answer ends the upload.
TIMEOUT = 30.0

State = Literal["uploaded", "complete", "left"]

_log = logging.getLogger("tunehook")


class SyncError(RuntimeError):
    """W&B cannot be reached, or refuses."""


@dataclass(frozen=True)
class Synced:
    """What became of one run.

    Attributes:
        trial: Study and name of the latest attempt, such as ``digits/trial-0007``.
        state: ``"uploaded"``, ``"complete"`` (W&B had everything) or ``"left"`` (with the reason).
        rows: How many rows were uploaded.
        reason: Why the run was left.
        address: Where the run lies, if W&B was asked.
    """

    trial: str
    state: State
    rows: int = 0
    reason: str = ""
    address: str | None = None


@dataclass(frozen=True)
class Attempt:
    """What a journal holds of one attempt of a trial."""

    path: Path
    trial: Trial
    run: Mapping[str, Any]
    slots: Mapping[str, Any]
    events: Events
    processes: tuple[Process, ...]
    synced: int | None

    @property
    def outcome(self) -> Outcome | None:
        """How it ended."""
        return self.events.outcome


def sync(folder: Path, tell: Callable[[Synced], None], *, storage: str | None = None) -> None:
    """Upload what W&B lacks of the trials below a folder.

    Of a run that the training had only our rows are uploaded, where it failed online: no journal has the user's own.

    Args:
        folder: A study's folder, or one with studies below.
        tell: Is called with each run, as soon as it is done.
        storage: The URL of the studies' storage, which knows ends that the journals lack. Defaults to None: the file
            in a study's folder, or ``TUNEHOOK_STORAGE``.

    Raises:
        SyncError: W&B cannot be reached, or refuses; runs before it are done.
    """
    told = Told(storage)
    runs: dict[str, list[Attempt]] = {}
    empty: set[tuple[str, int]] = set()
    for path in sorted(folder.rglob("journal.jsonl")):
        events = Events.of_latest(path)
        if events and events.begin is None:
            if runs_in(events):
                name = f"{path.parents[1].name}/{path.parent.name}"
                tell(Synced(name, "left", reason="the line with which its journal begins is damaged"))
        elif (attempt := read_attempt(path, events)) is not None:
            runs.setdefault(str(attempt.run["id"]), []).append(attempt)
        elif events.begin is not None and not rows_of([events]):
            empty.add((events.begin.key, events.begin.attempt))
    leave_dead_service()
    for attempts in runs.values():
        ordered = sorted(attempts, key=lambda attempt: attempt.trial.attempt)
        tell(try_run(ordered, {number for key, number in empty if key == ordered[0].trial.key}, told))


def read_attempt(path: Path, events: Events) -> Attempt | None:
    """The trial of these events, ``None`` if no W&B run belongs to it."""
    runs, begin = runs_in(events), events.last(Begin)
    if not runs or begin is None:
        return None
    config, synced = events.last(Config), events.last(InSync)
    return Attempt(
        path,
        begin.as_trial(path.parent),
        runs[-1],
        {} if config is None else config.effective,
        events,
        # The one that asked for the trial, and the one that trains it, where that is another one of this machine.
        tuple(one for one in events.all(Process) if not isinstance(one, Task)),
        None if synced is None else synced.rows,
    )


def try_run(attempts: list[Attempt], empty: Collection[int] = (), told: Told | None = None) -> Synced:
    """The same as `sync_run`, but a run that the SDK refuses is left, so that it holds up no other one.

    Raises:
        SyncError: W&B cannot be reached.
    """
    try:
        return sync_run(attempts, empty, told)
    except SyncError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises
        trial = attempts[-1].trial
        _log.debug("The W&B run of %s could not be uploaded.", trial.name, exc_info=error)
        return Synced(f"{trial.study}/{trial.name}", "left", reason=f"it cannot be uploaded: {reason_of(error)}")


def sync_run(attempts: list[Attempt], empty: Collection[int] = (), told: Told | None = None) -> Synced:
    """Upload what W&B lacks of one run.

    Args:
        attempts: What the journals hold of it, in order.
        empty: Attempts that ended before their run was begun.
        told: Looks up in the studies how trials ended. Defaults to None, the usual storages.
    """
    latest = attempts[-1]
    name = f"{latest.trial.study}/{latest.trial.name}"
    try:
        latest = _with_end(latest, told or Told())
    except StudyError as error:
        return Synced(name, "left", reason=reason_of(error))
    attempts = [*attempts[:-1], latest]
    if reason := why_left(attempts, empty):
        return Synced(name, "left", reason=reason)
    is_shared = latest.run["is_shared"]
    rows = rows_of([latest.events] if is_shared else [attempt.events for attempt in attempts])
    if latest.synced == len(rows):
        return Synced(name, "complete")
    run = _resume(latest)
    try:
        OWNERS.claim(run, latest.trial)
        return _fill(run, name, rows, attempts)
    finally:
        OWNERS.let_go(run)
        run.finish(exit_code=_end_of(latest, dict(run.summary)).exit_code)


def _with_end(latest: Attempt, told: Told) -> Attempt:
    """An attempt with the end that its study was told, where the journal lacks it: it could not be written there.

    Raises:
        StudyError: The study cannot be asked.
    """
    if latest.outcome is not None or any(one.is_here and one.lives for one in latest.processes):
        return latest
    outcome = told.outcome(latest.trial)
    if outcome is None:
        return latest
    journal = Journal(latest.path.parent)
    with contextlib.suppress(JournalError):  # such as on a disk that can only be read
        journal.end(outcome)
    return replace(latest, events=Events([*latest.events, Ended(time=time.time(), outcome=outcome)]))


def why_left(attempts: list[Attempt], empty: Collection[int] = ()) -> str:
    """Why a run is not uploaded now, an empty text where it is."""
    latest = attempts[-1]
    if latest.run["is_shared"] and "steps" not in latest.run:
        return "it is the training's own run, whose other rows only W&B has: `wandb sync` uploads an offline one"
    known = {number for number in (*(one.trial.attempt for one in attempts), *empty) if number < latest.trial.attempt}
    if len(known) < latest.trial.attempt and not latest.run["is_shared"]:
        return "the journals of its earlier attempts are missing"
    first, last = latest.processes[0], latest.processes[-1]
    alive = [each.pid for each in (last, first) if last.is_here and each.lives]
    if latest.outcome is None and alive:
        return f"it is running, in process {alive[0]}"
    if latest.outcome is None and not last.is_here:
        return f"it may be running on {last.host}"
    if alive and time.time() - latest.events[-1].time < SETTLED:
        return "it has just ended, and its process may be uploading it"
    return ""


def _fill(run: Run, name: str, rows: list[Row], attempts: list[Attempt]) -> Synced:
    latest = attempts[-1]
    is_shared, steps = latest.run["is_shared"], latest.run.get("steps", ())
    there, summary = run.starting_step, dict(run.summary)
    if is_shared:  # W&B has what came before its next step
        there = sum(step < there for step in steps)
    elif there > len(rows) or (there and summary.get("trial/step") != rows[there - 1][0]):
        reason = f"W&B has {there} rows, which are not the first of the {len(rows)} in the journal"
        return Synced(name, "left", reason=reason, address=run.url)
    outcome = _end_of(latest, summary)
    if there == len(rows) and summary.get("outcome") == outcome.state:
        if latest.outcome is not None:
            journal = Journal(latest.path.parent)
            journal.synced(len(rows))
            journal.close()
        return Synced(name, "complete", address=run.url)
    open_run = TrialRun(run, latest.trial, _config(run, latest), prefix=SHARED_PREFIX if is_shared else "")
    for step, row in rows[there:]:
        open_run.log(step, row)
    if latest.outcome is not None or summary.get("outcome") != outcome.state:
        open_run.sum_up(outcome)
    if is_shared:
        note_run(latest.trial, run.id, latest.run, is_shared=True, steps=[*steps[:there], *open_run.steps])
    _mark_folders(attempts)
    return Synced(name, "uploaded", len(rows) - there, address=run.url)


def _resume(latest: Attempt) -> Run:
    known = latest.run
    check_place(latest.path.parent / "wandb", below=latest.path.parent.parent)  # where the SDK keeps its files
    try:
        run = OWNERS.begin(
            known["id"],
            project=known["project"],
            entity=known["entity"],
            group=known["group"],
            name=known["name"],
            tags=known["tags"],
            job_type=None if known["is_shared"] else "trial",
            mode="online",  # without a configuration, which would be over that of a run that is left
            resume="allow",
            dir=latest.path.parent,
            settings=make_settings(x_disable_viewer=True, init_timeout=TIMEOUT, finish_timeout=TIMEOUT),
        )
    except wandb.Error as error:
        raise SyncError(
            f"W&B cannot be reached: {reason_of(error)}.\n"
            "  Log in with `wandb login`, check WANDB_BASE_URL, and sync again."
        ) from error
    return run


def _config(run: Run, latest: Attempt) -> dict[str, Any]:
    """The configuration of an attempt as W&B has it, else that of the journal, which has objects as their ``repr``."""
    config = describe_trial(latest.trial, latest.slots)
    there = dict(run.config)
    ours = there.get(OURS)
    if isinstance(ours, Mapping) and ours.get("attempt") == latest.trial.attempt:
        # At the top level the user's code may have written over the values of a shared run.
        kept = {OURS} if latest.run["is_shared"] else config.keys()
        config |= {name: there[name] for name in kept if name in there}
    return config


def _end_of(latest: Attempt, summary: Mapping[str, Any]) -> Outcome:
    """How the trial ended: the run may know it where the journal could not be written."""
    known = summary.get("outcome")
    if latest.outcome is None and known in COUNTED and known != "paused":  # from which it went on
        return Outcome(known)
    return latest.outcome or Outcome("interrupted", f"its process {latest.processes[-1].pid} was killed")


def _mark_folders(attempts: Iterable[Attempt]) -> None:
    """Let `wandb sync` pass over the offline folders whose rows are uploaded, as it does with those of its own."""
    for attempt in attempts:
        run_id, folders = attempt.run["id"], {Path(place) for place in attempt.events.records}
        if root := attempt.run.get("dir"):
            folders.update(Path(root).glob(f"*wandb/offline-run-*-{glob.escape(run_id)}"))
        for folder in folders:
            mark_synced(folder, run_id)
