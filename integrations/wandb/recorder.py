"""The recorder for Weights & Biases: every trial is a run, with its configuration, metrics, outcome and exit code."""

from __future__ import annotations

import atexit
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

try:
    # `import wandb` alone succeeds without the package wherever a folder `wandb/` with earlier runs lies about.
    from wandb import Settings
except ImportError as error:
    if error.name != "wandb":
        raise
    raise ModuleNotFoundError(
        "tunehook.integrations.wandb needs the package wandb: pip install 'tunehook[wandb]'", name="wandb"
    ) from error

import wandb

from tunehook.integrations.wandb.line import CALL, Line
from tunehook.integrations.wandb.logger import forget_runs
from tunehook.integrations.wandb.mode import find_mode
from tunehook.integrations.wandb.own import OwnRun, Wanted
from tunehook.integrations.wandb.run import run_id
from tunehook.integrations.wandb.service import end_quietly, kill_service, tear_down
from tunehook.integrations.wandb.shared import SharedRun
from tunehook.integrations.wandb.study import StudyRun
from tunehook.integrations.wandb.users import Defaults, UsersRun, find_run, share_run
from tunehook.integrations.wandb.values import describe_trial
from tunehook.snapshot import Snapshot
from tunehook.study import Study
from tunehook.trial import Outcome, Trial

RunMode = Literal["online", "offline", "disabled"]

_FORGOTTEN = Outcome("interrupted", "the process ended before the trial was closed")
_OVERTAKEN = Outcome("interrupted", "the next trial began before this one was closed")

_log = logging.getLogger("tunehook")


class LiveRun(Protocol):
    """The run of a trial that is open: one of our own, or one that the user's training has.

    Attributes:
        trial: The trial.
        is_shared: Whether it is the user's.
    """

    trial: Trial
    is_shared: bool

    @property
    def run(self) -> wandb.Run | None:
        """W&B's run, ``None`` until it is begun."""

    @property
    def stop_reason(self) -> str | None:
        """Why the trial shall stop, as someone has asked for on the run's web page."""

    def open(self) -> None:
        """Begin it, or write the configuration into it."""

    def log(self, step: int, row: Mapping[str, float] | Snapshot) -> None:
        """Log a row."""

    def finish(self, outcome: Outcome) -> None:
        """Write the summary and finish it with the outcome's exit code."""

    def finish_resumed(self) -> wandb.Run | None:
        """Finish the run in which the user's code has gone on after the trial, if it has."""

    def has_reports(self, taken: int, made: int) -> int:
        """How many reports of a trial that goes on it has, as `WandbRecorder.has_reports` says."""

    def address(self) -> str | None:
        """The web address or the folder, ``None`` where it is not known."""


@dataclass
class _Process:
    """What a recorder holds in one process; a forked child starts over, because the parent's runs are not its own."""

    pid: int = field(default_factory=os.getpid)
    live: LiveRun | None = None
    latest: LiveRun | None = None  # where it lies is told when the server has answered
    released: list[LiveRun] = field(default_factory=list)  # closed since the last trial was opened
    line: Line = field(default_factory=Line)
    studies: dict[Path, StudyRun] = field(default_factory=dict)


class WandbRecorder:
    """Keeps each trial as a run of Weights & Biases.

    Where the user's training has a run, the trial shares it and finishes it at its end: the run of a Lightning
    ``WandbLogger``; the open ``wandb.run``, with or without W&B's callbacks for Keras (``WandbMetricsLogger``,
    ``WandbModelCheckpoint``, ``WandbEvalCallback``). Else the trial has a run of its own. Two trials never end in one
    run, so each training has to open its own.

    A ``wandb.run`` that was open already when the recorder was made is a run around the study: it is left alone, unless
    one of these loggers writes to it. So make the recorder after such a run, and before the run of a training.

    After the trial ``wandb.run`` is ``None``, and ``wandb.log`` raises. What a ``WandbLogger`` gets, as from
    ``trainer.test``, goes on in the same run. Where the training finishes the run itself, it is resumed to keep the
    rest and the outcome. ``wandb.init`` never returns the trial's own run: where the training calls it after the fit
    has begun, it opens a run of the user's beside it, which no trial shares, and which ends with the trial in
    ``study.optimize``.

    - *Configuration*: the sampled values by their names at the top level, and under ``tunehook`` the study, the number
      and attempt of the trial, metric, mode and the effective configuration (``tunehook.slots``). What is not plain
      (objects, NaN) is kept as text.
    - *Metrics* have the axis ``trial/step``. In a run of our own they keep their names. In a shared run they are called
      ``trial/<metric>``, because the user writes ``<metric>`` or the like, at other moments and on another axis. They
      leave the steps alone that the user gives to ``wandb.log``: there they join the user's row of the same step.
    - *Snapshots* of the parameters are rows of their own, on the axis ``snapshot/step`` (optimizer steps): a histogram
      ``parameters/<name>`` and ``gradients/<name>``, ``ratio/<layer>`` of update to weight, and the whole model in
      numbers, ``snapshot/parameters/<norm, mean, ...>``. They stay out of the summary.
    - *Summary*: ``best/<metric>``, ``best/step``, ``outcome``, ``reason``, and ``traceback`` (at most 4000 characters).
    - *Run id*: the study's name and the trial's key, which follows from its number and the time at which it was asked
      for: a trial that is begun again goes on in its run (offline: a fragment of the same id), and another study of
      the same name never does. In a shared run the id is the user's, if the run is made already.

    The study itself is one more run, of job type ``study`` and in the same group: the table of its trials, the best so
    far (``best/<metric>`` on the axis ``study/trials``), the importance of the hyperparameters, and the values and the
    effective configuration of the best trial. It is brought up to date as trials end, in at most 2 % of the time;
    offline each update replaces the folder of the one before.

    A run costs about 65 ms offline, of which ``requirements.txt`` is 50; ``lean`` makes it 10. It is a choice, because
    a run without its packages, git state, console and system metrics is less of a record.

    Args:
        project: The W&B project of runs of our own; a shared run lies where its user says.
        entity: The user or team. Default: the account's own.
        group: Groups the runs of a study. Default: the study's name.
        tags: Tags of every run, each of 1 to 64 characters.
        mode: ``"online"``, ``"offline"`` or ``"disabled"``. Default: ``WANDB_MODE`` or W&B's settings; without
            either, online where an API key is configured, else offline. A shared run has its own.
        dir: Where W&B keeps its ``wandb`` folder. Default: ``WANDB_DIR``, else the working directory.
        lean: Leaves out requirements, system metrics, console output, git, machine information and the links to the
            latest run, in our own runs.
        init_timeout: Seconds after which a run of our own that cannot begin online is begun offline. Default: 20.
        finish_timeout: Seconds that the upload of a run may take at its end. Default: 20. The end of the process waits
            for W&B, at most as long as both limits together and a few seconds more.
        study_run: Keep the study itself as a run too. Default: True.
        best_checkpoint: Keep the checkpoint of the best trial, which the training's own ``ModelCheckpoint`` wrote, as
            an artifact of the study's run with the alias ``best``. Default: False.

    Raises:
        TypeError: If ``tags`` is a single text.
        ValueError: If ``project`` is empty, ``mode`` is unknown, a tag is empty or too long, or a time is not above 0.

    Example:
        >>> recorder = WandbRecorder("digits", tags=["first try"], mode="offline")
        >>> recorder.where() is None
        True
    """

    def __init__(
        self,
        project: str,
        *,
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: RunMode | None = None,
        dir: str | Path | None = None,  # noqa: A002 - as in wandb.init
        lean: bool = False,
        init_timeout: float = 20.0,
        finish_timeout: float = 20.0,
        study_run: bool = True,
        best_checkpoint: bool = False,
    ) -> None:
        if not project:
            raise ValueError("project must be the name of a W&B project, got an empty text.")
        _check_project(project)
        if mode is not None and mode not in get_args(RunMode):
            raise ValueError(f"mode must be one of {', '.join(get_args(RunMode))} or None, got {mode!r}.")
        for name, seconds in (("init_timeout", init_timeout), ("finish_timeout", finish_timeout)):
            if not (seconds > 0 and math.isfinite(seconds)):
                raise ValueError(f"{name} must be a number of seconds above 0, got {seconds!r}.")
        self.project, self.entity, self.group = project, entity, group
        self.init_timeout, self.finish_timeout = init_timeout, finish_timeout
        if best_checkpoint and not study_run:
            raise ValueError("best_checkpoint=True needs study_run=True: the checkpoint is kept in the study's run.")
        self.study_run, self.best_checkpoint = study_run, best_checkpoint
        self.tags, self.mode, self.lean = _check_tags(tags), mode, lean
        self.dir = None if dir is None else Path(dir)
        # By its id, which travels to other processes: what is open there and bears another one is a training's.
        self._around = None if wandb.run is None else wandb.run.id
        self._where: str | None = None
        self._told_mode = False
        self._process = _Process()

    def open(self, trial: Trial, config: Mapping[str, Any], *, loggers: Sequence[object] = ()) -> None:
        """Begin the trial's run, or share that of the user's training, and write the configuration.

        Args:
            trial: The trial, with its sampled values.
            config: The effective configuration by slot path.
            loggers: The loggers or callbacks that the user gave to the framework.

        Raises:
            ValueError: If the user's run is another trial's or finished, if a callback of W&B finds no open run, or if
                a hyperparameter bears a name that is taken (``tunehook``, ``_wandb``).
        """
        if self._here.line.writer.is_stuck:
            kill_service()
        self._close_left_over(_OVERTAKEN, trial, loggers)
        values = describe_trial(trial, config)
        users = find_run(loggers, self._around)
        live = self._make_own(trial, values) if users is None else self._share(trial, values, users)
        self._here.live = self._here.latest = live
        self._watch_exit()
        live.open()

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one step as one row, on the axis ``trial/step``, without waiting for W&B."""
        self._log(step, dict(metrics))

    def snapshot(self, step: int, snapshot: Snapshot) -> None:
        """Log the statistics of the parameters as one row, on the axis ``snapshot/step``, as `report` does."""
        self._log(step, snapshot)

    def _log(self, step: int, row: Mapping[str, float] | Snapshot) -> None:
        here = self._here
        if here.live is None:
            raise RuntimeError("The recorder has no open trial: call open() before report().")
        if here.line.writer.is_stuck:
            kill_service()
        try:
            here.live.log(step, row)
        except Exception:
            if here.live.is_shared:  # one of our own is still finished
                here.live = None
            raise  # the session tells it, and the training goes on

    def close(self, outcome: Outcome) -> None:
        """Write the summary and finish the run with the outcome's exit code; harmless without an open run.

        A run of our own is finished while the training goes on. Online that may last after this returns, but at most
        ``finish_timeout``, which the end of the process waits for too.
        """
        here, live = self._here, self._here.live
        if live is None:
            return
        here.live = None
        here.released.append(live)
        live.finish(outcome)
        if not live.is_shared and wandb.run is not None:  # opened after the trial had begun, so no later trial's either
            self._around = wandb.run.id

    def update(self, study: Study, *, is_last: bool) -> None:
        """Bring the run of the study up to date, if it is time; the training does not wait for W&B."""
        if not self.study_run:
            return
        here = self._here
        shown = here.studies.get(study.paths.folder)
        if shown is None:
            shown = here.studies[study.paths.folder] = StudyRun(
                self._options(study.name, study.name, "study"),
                here.line,
                lambda: find_mode(self.mode)[0],
                init_timeout=self.init_timeout,
                finish_timeout=self.finish_timeout,
                started=self._watch_exit,
            )
            self._watch_exit()
        if self.best_checkpoint:
            shown.keep_best(study)
        shown.update(study, is_last=is_last)

    def wait(self) -> None:
        """Wait until W&B has written all, in a process that is about to end; at most as long as that end would."""
        self._close_at_exit()
        tear_down()  # whose files are not whole before; a cluster kills it with the process

    def has_reports(self, taken: int, made: int) -> int:
        """How many reports of a trial that goes on its run has: a run of our own those of all earlier attempts.

        What it lacks of them is read from the journals. A shared run that the earlier attempts had too gets those
        behind the checkpoint once more, since no journal says what it has; a new one has nothing (-1) and gets all.
        """
        live = self._here.live
        return made if live is None else live.has_reports(taken, made)

    def wants_stop(self) -> str | None:
        """Why the trial shall stop: someone pressed the Stop button of its run's web page."""
        live = self._here.live
        return None if live is None else live.stop_reason

    def where(self) -> str | None:
        """The address of the run that was opened last, or its folder if it is offline.

        Online it is ``None`` until the server has answered; the journal gets the address then.
        """
        if (latest := self._here.latest) is not None:
            self._where = latest.address()
        return self._where

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_where": self.where(), "_process": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=_Process())

    @property
    def _here(self) -> _Process:
        if self._process.pid != os.getpid():
            self._process = _Process()
        return self._process

    def _make_own(self, trial: Trial, values: dict[str, Any]) -> OwnRun:
        mode, why = find_mode(self.mode)
        options = self._options(trial.name, trial.study, "trial")
        self._tell_mode(mode, why)
        wanted = Wanted(options, values, mode, self.lean, self.init_timeout, self.finish_timeout)
        return OwnRun(trial, wanted, self._here.line, self._watch_exit)

    def _share(self, trial: Trial, values: dict[str, Any], users: UsersRun) -> SharedRun:
        defaults = Defaults(run_id(trial), trial.name, self.group or trial.study, self.tags)
        run = share_run(users, trial, defaults)
        return SharedRun(run, trial, values, users, self._here.line.writer, self.finish_timeout)

    def _options(self, name: str, study: str, job_type: str) -> dict[str, Any]:
        """The arguments of ``wandb.init`` for a run of our own."""
        return {
            "project": self.project,
            "entity": self.entity,
            "group": self.group or study,
            "job_type": job_type,
            "name": name,
            "tags": self.tags or None,
            "dir": self.dir,
        }

    def _tell_mode(self, mode: str, why: str) -> None:
        if not self._told_mode:
            self._told_mode = True
            _log.info("W&B records the trials in project %r, %s (%s).", self.project, mode, why)

    def _close_left_over(self, outcome: Outcome, trial: Trial | None = None, loggers: Sequence[object] = ()) -> None:
        """Finish what earlier trials left open: a forgotten run, and a run that a logger resumed after its trial."""
        live = self._here.live
        finished = [] if live is None or live.run is None else [live.run]
        try:
            self.close(outcome)
        except Exception as error:  # noqa: BLE001 - of the trial before, which this one shall not suffer from
            _log.warning("The W&B run of %s could not be finished: %s", live.trial.name if live else "?", error)
        released, self._here.released = self._here.released, []
        others = [past for past in released if not _is_same_trial(past.trial, trial)]
        finished += [run for past in others if (run := past.finish_resumed()) is not None]
        forget_runs(loggers, finished)

    def _watch_exit(self) -> None:
        """Be called at exit before W&B's own handler, so registered later than that; the SDK's service registers it."""
        atexit.unregister(self._close_at_exit)
        atexit.register(self._close_at_exit)

    def _close_at_exit(self) -> None:
        writer = self._here.line.writer
        try:
            self._close_left_over(_FORGOTTEN)
        except Exception as error:  # noqa: BLE001 - the process ends
            _log.warning("A W&B run could not be finished: %s", error)
        for shown in self._here.studies.values():
            try:
                shown.flush()
            except Exception as error:  # noqa: BLE001 - the process ends
                _log.warning("The W&B run of a study is not up to date: %s", error)
        if not writer.drain(self.init_timeout + self.finish_timeout):
            kill_service()
            writer.drain(CALL)
        end_quietly(wait=self.finish_timeout)


def _is_same_trial(first: Trial, second: Trial | None) -> bool:
    return second is not None and (first.folder, first.number) == (second.folder, second.number)


def _check_project(project: str) -> None:
    """Before the first trial, since a run is begun beside the training, which hears of no error then."""
    try:
        Settings(project=project)
    except wandb.Error as error:
        rule = r"without / \ # ? % : and of at most 128 characters"
        raise ValueError(f"project must be the name of a W&B project, {rule}, got {project!r}.") from error


def _check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise TypeError(f"tags must be a sequence of texts, got the single text {tags!r}; write [{tags!r}].")
    for tag in tags:
        if not 1 <= len(tag) <= 64:
            raise ValueError(f"A tag must have 1 to 64 characters, got {len(tag)}: {tag!r}.")
    return tuple(tags)
