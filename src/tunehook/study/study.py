"""Study, the public face: what is searched, what was found, and the trials that are asked and told."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from tunehook.record import ROOT, Recorder, StudyPaths, StudyRecorders, check_recorder, names_of_secrets
from tunehook.search import PBT, Method, Replay
from tunehook.session import TrialSession, check_not_importing, left_to_parent
from tunehook.snapshot import SnapshotPlan, plan_of
from tunehook.space import Space
from tunehook.study.checks import check_outcome, check_study, limits_of, metrics_of
from tunehook.study.lead import Lead
from tunehook.study.once_more import OnceMore
from tunehook.study.terms import Keep, Terms
from tunehook.system import OPTIMIZE, RESULTS, STUDY, shown, takes, unknown_attribute
from tunehook.trial import Budget, Decision, Mode, Objective, Outcome, StudyError, Trial

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

    from tunehook.launch import Launcher
    from tunehook.storage import Ledger, PatientStorage
    from tunehook.study.ask_tell import AskTell


class Study(OnceMore):
    """A search over a space, with many trials, kept in a storage.

    Nothing is opened or written before the first `ask`, `optimize` or look at the trials. The same name, space and
    storage open the same study again, in any number of processes.

    Args:
        name: Name of the study; letters, digits, ``_``, ``.`` and ``-``. It names the folder and the W&B group too.
        space: Distributions by name, a `Space` or a mapping; a plain value is a fixed one.
        metric: Name of the metric to tune, as the training logs it. A list of several: the trials that no other one
            beats are found; the first metric is what a stopper watches, and says at which step the others count.
        mode: ``"min"`` or ``"max"``; of several metrics a list, one for each.
        search: ``"grid"``, ``"random"``, ``"qmc"``, ``"bayes"`` (chooses by space and budget, and says what and why),
            ``"tpe"``, ``"gp"``, ``"cmaes"``, ``"hyperopt"``, ``"pbt"`` or a `PBT` (population-based training), or any
            Optuna sampler. Defaults to ``"bayes"``.
        stopper: ``None``, ``"pause"`` (trials pause at rungs, and the best go on from their checkpoints), ``"asha"``
            and ``"hyperband"`` (the same by their rungs), ``"median"``, or any Optuna pruner. The named ones start
            after a warm-up of about a sixth of the epochs and never before the third. Defaults to ``"auto"``: in
            `optimize` with ``"bayes"`` and one metric ``"pause"``, otherwise none.
        objective: The value that counts: ``"best"`` (default), ``"last"``, or k for the mean of the last k reports.
        storage: Any Optuna storage or storage URL; ``postgresql://``, ``mysql://`` and Optuna's proxy,
            ``grpc://host:port``, serve several machines. Defaults to the URL in the environment variable
            ``TUNEHOOK_STORAGE``, or else to an SQLite file in the study's folder.
        seed: Seed of the search, an integer or ``None`` (default) for another search each time.
        recorders: Where each trial is kept besides its journal, such as ``[WandbRecorder(project="digits")]``.
        folder: The study's folder. Defaults to ``tunehook-studies/<name>`` in the working directory.
        max_failures: So many failed trials in a row stop the study with the first error. Defaults to 3.
        snapshots: Statistics and histograms of the model's parameters and gradients: True (default) for one at the
            start and one at the end of each fit, and between them what costs at most 1 % of the training time; a
            `SnapshotPlan` for others; False for none.
        secrets: Names of arguments, entries or slots whose values no record gets, beside what looks like a secret by
            its name (``api_key``), type (``SecretStr``) or as a URL's password; the space's own are always recorded.
        keep: Whose trained model stays in ``models/`` of the study's folder, as it was when it measured the trial's
            value: ``"best"`` for the best trial's, so far; ``"all"`` for that of each trial with a value; ``None``
            (default) for none. See `best_model`. A training holds one model more in memory for it, and writes it at
            its end and with each checkpoint to go on from.
        constraints: The lowest and the highest value that a metric may have, such as ``{"latency": (None, 5.0)}``, with
            ``None`` for no limit. A trial beyond one is infeasible, and the search learns to avoid it. Any metric that
            is logged or returned. Defaults to none.

    Raises:
        ValueError: An argument is none of the above.
        SpaceError: The space cannot be searched.
        StudyError: On first use: the folder or storage cannot be written, or it holds a study with another space,
            metric, mode or objective.

    Example:
        >>> study = Study("digits", {"lr": Float(1e-4, 1e-1, log=True)}, metric="val_acc", mode="max")
    """

    @takes("Study", STUDY)
    def __init__(
        self,
        name: str,
        space: Space | Mapping[str, Any],
        *,
        metric: str | Sequence[str],
        mode: Mode | Sequence[Mode],
        search: str | PBT | BaseSampler = "bayes",
        stopper: str | BasePruner | None = "auto",
        objective: Objective = "best",
        storage: str | BaseStorage | None = None,
        seed: int | None = None,
        recorders: Sequence[Recorder] = (),
        folder: str | os.PathLike[str] | None = None,
        max_failures: int = 3,
        snapshots: SnapshotPlan | bool = True,
        secrets: Collection[str] = (),
        keep: Keep | None = None,
        constraints: Mapping[str, tuple[float | None, float | None]] = MappingProxyType({}),
    ) -> None:
        check_study(name, metric=metric, mode=mode, objective=objective, storage=storage, max_failures=max_failures,
                    keep=keep)  # fmt: skip
        for recorder in recorders:
            check_recorder(recorder)
        self.name = name
        self.space = space if isinstance(space, Space) else Space(space)
        self.limits = limits_of(constraints)
        (self.metric, self.mode), *others = metrics_of(metric, mode).items()
        self.others = dict(others)
        self.objective = objective
        self.recorders = list(recorders)
        self.max_failures = max_failures
        self.snapshots = plan_of(snapshots)
        self.secrets = names_of_secrets(secrets)
        # Absolute, since a training may change the working directory, as Hydra does.
        self.paths = StudyPaths((Path(folder) if folder is not None else ROOT / name).absolute())
        self._storage = storage
        self._method = Method(search, stopper, self.space, seed=seed, metrics=1 + len(self.others))
        self._terms = Terms(keep=keep)
        self._found: tuple[OptunaStudy, PatientStorage] | None = None
        self._is_closed = False
        self._made: AskTell | None = None
        self._pid = os.getpid()
        self._shows = True
        self._showing = StudyRecorders()

    @classmethod
    def open(
        cls, name: str | None, *, storage: str | None = None, folder: str | os.PathLike[str] | None = None,
        brief: bool = False,
    ) -> Study:  # fmt: skip
        """Open a study that exists, to look at its trials, without its space: the storage has it.

        Nothing is made, written or asked again; `ask` and `optimize` need a `Study` with a space.

        Args:
            name: Name of the study; ``None`` where the storage has one only.
            storage: Storage URL. Defaults to ``TUNEHOOK_STORAGE``, or else to the SQLite file in the study's folder.
            folder: The study's folder, for its journals. Defaults to ``tunehook-studies/<name>``.
            brief: Whether to leave out what finished trials reported, where that saves time. Defaults to False.

        Raises:
            StudyError: There is no such study, and which there are; or its storage cannot be used.
        """
        from tunehook.storage import find_study

        study, kept, known = find_study(name, storage=storage, folder=folder, is_brief=brief)
        try:
            space = Space.from_description(known["space"])
            opened = cls(study.study_name, space, metric=known["metric"], mode=known["mode"],
                         objective=known["objective"], search="random", storage=storage, folder=folder)  # fmt: skip
        except ValueError as error:  # such as a name that tunehook does not make a folder of
            raise StudyError(f"The study {shown(study.study_name)} was not made by tunehook: {error}") from error
        opened._found, opened._is_closed = (study, kept), True
        return opened

    # ------------------------------------------------------------------ the search

    @property
    def _asks(self) -> AskTell:
        """Who asks and tells, made when it is first needed, and again after a fork."""
        if self._made is None or self._pid != os.getpid():
            from tunehook.storage import Ledger
            from tunehook.study.ask_tell import AskTell

            ledger = Ledger(
                self.name, self.space, metric=self.metric, mode=self.mode, objective=self.objective, paths=self.paths,
                others=self.others, limits=self.limits, given=self._storage, method=self._method,
                found=self._found if self._pid == os.getpid() else None,
            )  # fmt: skip
            self._terms.counted = set()  # those that another process counted are its own
            # A proxy, so that connections and signs of life end with the last reference to this study.
            self._made, self._pid = AskTell(ledger, self._method, self._terms, weakref.proxy(self)), os.getpid()
            try:
                if not self._is_closed:
                    self._made.restoring.run()
                    self._made.lost.reclaim()
            except BaseException:  # next time, it is opened and looked at again
                self._made = None
                raise
        return self._made

    @property
    def _ledger(self) -> Ledger:
        return self._asks.ledger

    @property
    def lead(self) -> Lead:
        """The study for those who lead its trials, such as a launcher of your own, or tell who works on it."""
        return Lead(self, lambda: self._asks, self._method, self._show)

    def ask(self) -> Trial:
        """Ask for a trial, which is running from now on.

        The random states of Python, NumPy and torch are left as they were.

        Raises:
            StudyFinished: Every combination of a grid has been handed out.
            StudyFull: Within `optimize`: the last trials that were wanted run in other processes.
            StorageAway: The storage did not answer for two minutes.
            JournalError: The trial's journal cannot be written; its values are asked again.
        """
        check_not_importing()
        if self._is_closed:
            raise StudyError(
                f"Study '{self.name}' was opened to look at it; to search, give its space: Study({self.name!r}, ...)."
            )
        return self._asks.ask()

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Take the metric of one step of a running trial and answer whether to go on.

        Args:
            trial: A trial from `ask`.
            step: Number of the report, from 1.
            value: The metric.
            budget: How long the trial trains; the warm-up of a named stopper follows from it.
        """
        return Decision() if left_to_parent(trial) else self._asks.report(trial, step, value, budget)

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take the end of a trial. What is told first counts; interrupted values are asked again, at most twice.

        Those of a trial that a misuse ended, such as a name that does not exist, are asked when the script is mended.

        Args:
            trial: A trial from `ask`.
            outcome: How it ended.

        Raises:
            ValueError: The study has several metrics, and the outcome has another number of values.
        """
        if left_to_parent(trial):
            return
        check_outcome(outcome, {self.metric: self.mode, **self.others})
        try:
            self._asks.tell(trial, outcome)
        finally:
            self._show(False)

    def _show(self, is_last: bool) -> None:
        if self._shows:
            self._showing.update(self, is_last=is_last)

    def claim(self, work: str, *, seconds: float) -> bool:
        """Claim a work on the whole study for this machine, where its storage is shared by several.

        Two machines that ask within the same moment may both get it.

        Args:
            work: Names the work.
            seconds: How long the claim lasts; a machine renews its own. With 0 it is given back.

        Returns:
            Whether the work is this machine's.
        """
        return self._ledger.notes.claim(work, seconds=seconds)

    def session(self, trial: Trial) -> TrialSession:
        """The session that leads one trial from its begin to its end."""
        return TrialSession(
            trial, self, recorders=self.recorders, objective=self.objective, snapshots=self.snapshots,
            keeps_checkpoints=self._terms.keeps_checkpoints or trial.lineage is not None,
            pauses=self._method.pauses, keeps_models=self._terms.keep is not None, secrets=self.secrets,
        )  # fmt: skip

    @takes("study.optimize", OPTIMIZE)
    def optimize(
        self,
        train: Callable[[], object],
        *,
        trials: int | None = None,
        timeout: float | None = None,
        progress: bool = True,
        workers: int | None = None,
        gpus_per_trial: float = 0,
        retries: int | None = None,
        report_timeout: float | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        """Train one trial after the other in this process, or several side by side in processes of their own.

        Args:
            train: Your training, a function of no arguments with ``TuneCallback()`` among its callbacks. It runs once a
                trial.
            trials: How many trials the study shall have when it returns, those of earlier calls and processes
                included, so that a script that was stopped is simply started again. Complete, pruned, paused and
                infeasible trials count; failed and interrupted ones do not.
                Defaults to None: all combinations of a grid, a whole population; otherwise ``trials`` or
                ``timeout`` is required.
            timeout: Seconds after which no further trial begins, and no paused one goes on, unless none is complete:
                then the best of them does. Defaults to None, no limit.
            progress: Show a line for each trial that ends, and at the end the best one. With ``workers`` on a terminal,
                show a live table in place of the lines. Defaults to True.
            workers: How many trials run side by side, each in a process of its own; what it prints goes to
                ``output.txt`` in the trial's folder. A script has to start the study under
                ``if __name__ == "__main__":``, since its top level runs again for them. Each process has its share of
                the cores (``OMP_NUM_THREADS``), unless that is set. Defaults to None: one after the other, here.
            gpus_per_trial: GPUs for each process, by ``CUDA_VISIBLE_DEVICES``; 0.25 puts four trials on one, each with
                a quarter of its memory. Defaults to 0: that is left alone.
            retries: How often the values of an interrupted trial (killed, hanging, preempted) are asked again, with the
                same W&B run. The trial then goes on from its last checkpoint: the callback keeps one at the ends of
                epochs, in at most 1 % of the training time, until the trial has ended. Defaults to None: twice, and
                from scratch unless trials pause, which keep checkpoints too.
            report_timeout: Seconds after which the process of a trial that reports nothing is killed. It has to be
                longer than the start of a training and its longest epoch. Defaults to None, no limit.
            launcher: Where the trials run instead, such as ``RayLauncher(num_cpus=4)``; ``workers`` is then how many
                run there at once, by default as many as there is room for. Defaults to the launcher that the
                environment variable ``TUNEHOOK_LAUNCHER`` names (``ray``), or else to this machine.

        Raises:
            StudyError: ``max_failures`` trials in a row failed; the first error is its cause.
            KeyboardInterrupt, Terminated: Ctrl-C or SIGTERM. With ``workers`` no new trial begins, the running ones end
                in good order and are asked again by the next call; a second Ctrl-C ends them at once.
            InjectionError, TrialError: At once, since every trial would end so; the values are asked again.
        """
        from tunehook.launch import Request, check_arguments, launcher_from_environment, may_return, optimize

        launcher = launcher_from_environment() if launcher is None else launcher
        request = Request(trials, timeout, workers, gpus_per_trial, retries, report_timeout)
        check_arguments(self.lead, train, request, launcher)
        self._plan_for(trials)
        self._terms.begin(trials, retries, timeout)
        self._terms.may_return, self._method.is_led = may_return(train), True
        try:
            if self._made is not None:
                self._asks.restoring.run()
            optimize(self.lead, train, request, progress=progress, launcher=launcher)
            if self._made is not None:  # not on a rank that followed
                self._asks.close()
        finally:
            self._terms.end()
            self._method.is_led = False

    def _beside(self, what: str, space: Space, search: str | Replay) -> Study:
        folder = self.paths.folder
        metrics = {self.metric: self.mode, **self.others}
        return Study(
            f"{self.name}-{what}", space, metric=[*metrics], mode=[*metrics.values()], search=search,
            objective=self.objective, storage=self._storage, recorders=self.recorders, constraints=self.limits,
            snapshots=self.snapshots or False, secrets=self.secrets, keep=self._terms.keep,
            folder=folder.with_name(f"{folder.name}-{what}"),
        )  # fmt: skip

    def _plan_for(self, trials: int | None) -> None:
        """Choose the sampler by the number of trials, which is known now."""
        if trials != self._method.trials:
            self._method.trials = trials
            if self._made is not None:
                self._ledger.renew_sampler()

    # ------------------------------------------------------------------ in other processes

    def __getstate__(self) -> dict[str, Any]:
        """For spawned processes, which open the storage again."""
        from tunehook.storage import check_shared

        check_shared(self._storage, self.name)
        return {**self.__dict__, "_made": None, "_found": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pid = os.getpid()
        self._shows = False  # the process that this copy comes from does

    if not TYPE_CHECKING:  # where every attribute would exist then

        def __getattr__(self, name: str) -> NoReturn:
            """Say what the attributes of other libraries are called here."""
            if hasattr(type(self), name):  # a property that raised an AttributeError of its own
                object.__getattribute__(self, name)
            raise unknown_attribute("a study", name, RESULTS, dir(type(self)))

    def __repr__(self) -> str:
        metric: object = [self.metric, *self.others] if self.others else self.metric
        mode: object = [self.mode, *self.others.values()] if self.others else self.mode
        return f"Study({self.name!r}, metric={metric!r}, mode={mode!r}, search={self._method.search!r})"
