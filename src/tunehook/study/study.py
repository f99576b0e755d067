"""Study: ask, tell, best, resume. The only module that touches storage.

A place is claimed by asking: a process asks for its trial, then counts the finished and running ones, and gives its own
back where they are too many. Of those that do so at once, the last one to ask sees all others. Nothing of it needs a
lock, which storages do not have.

What is asked again is kept first: a process may be killed between the end of an interrupted trial and the next trial of
its values. So these are an attribute of the trial before its end is; whoever looks for lost trials asks what is
missing, and of two processes that do so at once, the trial with the lower number is trained.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from tunehook.record import ROOT, Journal, Recorder, StudyPaths, StudyRecorders, check_recorder, host, read_trial
from tunehook.session import Checkpoints, TrialSession, check_not_importing, left_to_parent
from tunehook.snapshot import SnapshotPlan, plan_of
from tunehook.space import Space, SpaceError
from tunehook.storage import (
    AGAIN,
    ATTEMPT,
    KEY,
    LEADER,
    OUTCOME,
    OWNER,
    PLAN,
    from_environment,
    hidden,
    holder_of,
    is_alive,
    stored_again,
    stored_attempt,
    stored_claim,
    stored_key,
    stored_leader,
    stored_owner,
    stored_plan,
)
from tunehook.study.results import Results, is_waiting
from tunehook.system import OPTIMIZE, RESULTS, STUDY, kept_random, make_visible, takes, unknown_attribute
from tunehook.trial import (
    Budget,
    Decision,
    JournalError,
    Mode,
    Objective,
    Outcome,
    StudyError,
    StudyFinished,
    StudyFull,
    Trial,
    is_misuse,
    objective_value,
)

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna import Trial as AskedTrial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from tunehook.launch import Launcher
    from tunehook.storage import PatientStorage

log = logging.getLogger("tunehook")

# How often the values of an interrupted trial are asked again before they are given up.
ATTEMPTS = 3

# Ends that this process could not tell, as the storage failed, by the trial's folder: told when it is used again.
_untold: dict[Path, tuple[Trial, Outcome]] = {}

_LOOK = 5.0  # seconds between two looks for trials whose process is gone


class Study(Results):
    """A search over a space, with many trials, kept in a storage.

    Nothing is opened or written before the first `ask`, `optimize` or look at the trials. The same name, space and
    storage open the same study again, in any number of processes.

    Args:
        name: Name of the study; letters, digits, ``_``, ``.`` and ``-``. It names the folder and the W&B group too.
        space: Distributions by name, a `Space` or a mapping; a plain value is a fixed one.
        metric: Name of the metric to tune, as the training logs it.
        mode: ``"min"`` or ``"max"``.
        search: ``"grid"``, ``"random"``, ``"qmc"``, ``"bayes"`` (chooses by space and budget, and says what and why),
            ``"tpe"``, ``"gp"``, ``"cmaes"``, or any Optuna sampler. Defaults to ``"bayes"``.
        stopper: ``None``, ``"median"``, ``"asha"``, ``"hyperband"``, or any Optuna pruner. The named ones start after
            a warm-up of about a sixth of the epochs and never before the third. Defaults to ``None``.
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

    Raises:
        ValueError: An argument is none of the above.
        SpaceError: The space cannot be searched.
        StudyError: On first use: the folder or storage cannot be written, or it holds a study with another space,
            metric, mode or objective.

    Example:
        >>> study = Study("digits", {"lr": Float(1e-4, 1e-1, log=True)}, metric="val_acc", mode="max")
    """

    _study: OptunaStudy | None
    _running: dict[int, AskedTrial]
    _budget: Budget | None
    _pid: int
    _kept: PatientStorage | None
    _counted: set[int]

    @takes("Study", STUDY)
    def __init__(
        self,
        name: str,
        space: Space | Mapping[str, Any],
        *,
        metric: str,
        mode: Mode,
        search: str | BaseSampler = "bayes",
        stopper: str | BasePruner | None = None,
        objective: Objective = "best",
        storage: str | BaseStorage | None = None,
        seed: int | None = None,
        recorders: Sequence[Recorder] = (),
        folder: str | os.PathLike[str] | None = None,
        max_failures: int = 3,
        snapshots: SnapshotPlan | bool = True,
    ) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]*\w[\w.-]*", name):
            raise ValueError(
                f"A study's name has letters, digits, '_', '.' and '-' only, since it names a folder; got {name!r}."
            )
        if not isinstance(metric, str) or not metric:
            raise ValueError(f"metric is the name of a logged metric, such as 'val_acc'; got {metric!r}.")
        if mode not in ("min", "max"):
            raise ValueError(f"mode is 'min' or 'max'; got {mode!r}.")
        if objective not in ("best", "last") and not _is_positive(objective):
            raise ValueError(
                f"objective is 'best', 'last', or k > 0 for the mean of the last k reports; got {objective!r}."
            )
        if storage is not None and not isinstance(storage, str) and not hasattr(storage, "create_new_study"):
            raise TypeError(
                f"storage is a URL, such as 'sqlite:///study.db', or an Optuna storage; got {hidden(repr(storage))}.\n"
                "  Leave it out for an SQLite file in the study's folder."
            )
        if not _is_positive(max_failures):
            raise ValueError(f"max_failures is an integer above 0; got {max_failures!r}.")
        for recorder in recorders:
            check_recorder(recorder)
        self.name = name
        self.space = space if isinstance(space, Space) else Space(space)
        self.metric = metric
        self.mode: Mode = mode
        self.objective = objective
        self.recorders = list(recorders)
        self.max_failures = max_failures
        self.snapshots = plan_of(snapshots)
        self._attempts = ATTEMPTS
        self._keeps_checkpoints = False
        # Absolute, since a training may change the working directory, as Hydra does.
        self.paths = StudyPaths((Path(folder) if folder is not None else ROOT / name).absolute())
        self._search = search
        self._stopper = stopper
        self._storage = storage
        self._seed = seed
        self._plan: int | None = None
        self._shows = True
        self._showing = StudyRecorders()
        self._limit: int | None = None
        self._is_closed = False
        self._reset()
        self._check_names()

    @classmethod
    def open(
        cls, name: str | None, *, storage: str | None = None, folder: str | os.PathLike[str] | None = None
    ) -> Study:
        """Open a study that exists, to look at its trials, without its space: the storage has it.

        Nothing is made, written or asked again; `ask` and `optimize` need a `Study` with a space.

        Args:
            name: Name of the study; ``None`` where the storage has one only.
            storage: Storage URL. Defaults to ``TUNEHOOK_STORAGE``, or else to the SQLite file in the study's folder.
            folder: The study's folder, for its journals. Defaults to ``tunehook-studies/<name>``.

        Raises:
            StudyError: There is no such study, and which there are; or its storage cannot be used.

        Example:
            >>> Study.open("digits").best.value  # doctest: +SKIP
        """
        from tunehook.storage import find_study

        study, kept, known = find_study(name, storage=storage, folder=folder)
        space = Space.from_description(known["space"])
        opened = cls(study.study_name, space, metric=known["metric"], mode=known["mode"], objective=known["objective"],
                     search="random", storage=storage, folder=folder)  # fmt: skip
        opened._study, opened._kept, opened._is_closed = study, kept, True
        return opened

    # ------------------------------------------------------------------ the search

    @property
    def optuna(self) -> OptunaStudy:
        """The Optuna study below, for everything that Optuna offers."""
        if self._pid != os.getpid():  # database connections do not survive a fork
            self._reset()
        if self._study is None:
            self._study = self._open()
        return self._study

    def ask(self) -> Trial:
        """Ask for a trial, which is running from now on.

        The random states of Python, NumPy and torch are left as they were.

        Raises:
            StudyFinished: Every combination of a grid has been handed out.
            StudyFull: Within `optimize`: the last trials that were wanted run in other processes.
            StorageAway: The storage did not answer for two minutes.
            JournalError: The trial's journal cannot be written; its values are asked again.
        """
        from tunehook.space import GridExhausted

        check_not_importing()
        if self._is_closed:
            raise StudyError(
                f"Study '{self.name}' was opened to look at it; to search, give its space: Study({self.name!r}, ...)."
            )
        study = self.optuna
        self.reclaim()
        self._check_places()
        with kept_random():
            try:
                while self._is_double(asked := study.ask(self._distributions)):
                    pass
                self._check_given(asked.number, asked._fixed_params)  # noqa: SLF001 - else it is a look at the storage
            except GridExhausted as error:
                raise StudyFinished(f"Study '{self.name}' is finished: {error}") from error
            except BaseException as error:
                self._end_unasked(error)
                raise
        self._running[asked.number] = asked
        self._check_places(asked)
        trial = self._as_trial(asked)
        try:
            Journal(trial.folder).begin(trial)
        except JournalError as error:  # nobody would find its process, so it would run for ever
            self.tell(trial, Outcome("interrupted", str(error)))
            raise
        return trial

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Let these values be asked for before the search proposes others, such as some that are known to be good.

        Args:
            params: Values by the names of the space; the search chooses those that are left out.

        Raises:
            SpaceError: A name is not in the space, a value is outside of its distribution, or a grid gets too few.
        """
        raw = self.space.encode(params)
        missing = [name for name in self.space.searched if name not in raw]
        if self.is_grid and missing:
            raise SpaceError(f"A trial that is enqueued in a grid gives every value, missing: {', '.join(missing)}.")
        self.optuna.enqueue_trial(raw)

    def _check_given(self, number: int, given: Mapping[str, Any]) -> None:
        """Check the raw values that a trial was enqueued with past this class."""
        for name, raw in given.items():
            if name not in self._distributions:
                continue
            distribution = self._distributions[name]
            with contextlib.suppress(ValueError, TypeError):
                if distribution._contains(distribution.to_internal_repr(raw)):  # noqa: SLF001 - Optuna only warns
                    continue
            raise SpaceError(
                f"Trial {number} was enqueued with {name}={raw!r}, which is none of Optuna's raw values of "
                f"{self.space[name]!r}; the trial is left out.\n"
                "  Enqueue your own values: study.enqueue({...})."
            )

    def _end_unasked(self, error: BaseException) -> None:
        """End a trial that could not be asked for; values that it was given are asked again, unless they are wrong.

        Raises:
            SpaceError: They are wrong.
        """
        with contextlib.suppress(StudyError):  # the storage; the error that is raised says so
            frozen = None if self._kept is None else self._kept.begun()
            if frozen is None or frozen.number in self._running or frozen.state.name != "RUNNING":
                return
            try:
                self._check_given(frozen.number, frozen.system_attrs.get("fixed_params", {}))
            except SpaceError as wrong:
                self._end_nameless(frozen, Outcome("failed", str(wrong)))
                raise wrong from error
            self._recover_nameless(frozen, Outcome("interrupted", f"it could not be asked for: {error!r}"))

    def report(self, trial: Trial, step: int, value: float, budget: Budget) -> Decision:
        """Take the metric of one step of a running trial and answer whether to go on.

        Args:
            trial: A trial from `ask`.
            step: Number of the report, from 1.
            value: The metric.
            budget: How long the trial trains; the warm-up of a named stopper follows from it.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        if left_to_parent(trial):
            return Decision()
        try:
            running = self._run(trial.number)
            running.report(value, step)
        except UpdateFinishedTrialError:
            return Decision(True, "another process took the trial for lost and told its end", "interrupted")
        if self._stopper is None:
            return Decision()
        if self._budget != budget:
            from tunehook.search import make_stopper

            self._budget = budget
            self.optuna.pruner = make_stopper(self._stopper, budget)
        from tunehook.search import Guarded

        pruner = self.optuna.pruner
        if (isinstance(pruner, Guarded) and not pruner.judges(step)) or not running.should_prune():
            return Decision()
        name = self._stopper if isinstance(self._stopper, str) else type(self._stopper).__name__
        return Decision(True, f"{name}: {self.metric} {value:.6g} at step {step} falls behind the other trials")

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Take the end of a trial. What is told first counts; interrupted values are asked again, at most twice.

        Those of a trial that a misuse ended, such as a name that does not exist, are asked when the script is mended.

        Args:
            trial: A trial from `ask`.
            outcome: How it ended.
        """
        from optuna.exceptions import UpdateFinishedTrialError

        if left_to_parent(trial):
            return
        try:
            self._tell(trial, outcome)
        except UpdateFinishedTrialError:  # another process told it at the same moment
            return
        except StudyError:
            _untold[trial.folder] = trial, outcome
            raise
        finally:
            self._running.pop(trial.number, None)
            self.show()
        if outcome.state == "interrupted":
            self._ask_again(self.space.encode(trial.params), trial.attempt + 1, trial.key)
        if is_misuse(outcome):  # which says nothing of the values: they are the next trial's
            self.optuna.enqueue_trial(self.space.encode(trial.params))
        if outcome.state != "interrupted" or trial.attempt + 1 >= self._attempts:
            Checkpoints(trial).discard()

    def _note_again(self, trial_id: int, raw: Mapping[str, Any], attempt: int, key: str) -> None:
        """Keep what will be asked again before the end is told: a process may be killed between the two."""
        if attempt < self._attempts:
            again = {"values": dict(raw), ATTEMPT: attempt, KEY: key}
            self.optuna._storage.set_trial_user_attr(trial_id, AGAIN, again)  # noqa: SLF001 - no public way

    def _ask_again(self, raw: Mapping[str, Any], attempt: int, key: str) -> None:
        named = {ATTEMPT: attempt, KEY: key}
        if attempt < self._attempts and not any(named.items() <= f.user_attrs.items() for f in self._frozen()):
            self.optuna.enqueue_trial(dict(raw), user_attrs=named)

    def _ask_left_out(self, trials: Sequence[FrozenTrial]) -> None:
        """Ask again what a process was to ask that was killed as it told the end of a trial."""
        there = {(stored_key(frozen), stored_attempt(frozen)) for frozen in trials}
        for frozen in trials:
            again = stored_again(frozen)
            if again and frozen.state.name == "FAIL" and (again[KEY], again[ATTEMPT]) not in there:
                named = {ATTEMPT: again[ATTEMPT], KEY: again[KEY]}
                self.optuna.enqueue_trial(again["values"], user_attrs=named)

    def _is_double(self, asked: AskedTrial) -> bool:
        """Whether two processes asked the same values again at the same moment; the second of the trials ends here."""
        from optuna.trial import TrialState

        named = {ATTEMPT: stored_attempt(asked), KEY: stored_key(asked)}
        if None in named.values():
            return False
        first = next(frozen.number for frozen in self._frozen() if named.items() <= frozen.user_attrs.items())
        if first == asked.number:
            return False
        outcome = Outcome("interrupted", f"its values are those of trial {first}")
        asked.set_user_attr(OUTCOME, dataclasses.asdict(outcome))
        storage = self.optuna._storage  # noqa: SLF001 - no public way
        storage.set_trial_state_values(asked._trial_id, TrialState.FAIL)  # noqa: SLF001
        return True

    def show(self, *, is_last: bool = False) -> None:
        """Let the recorders that show a whole study look at it; one that fails is told once and left out.

        Args:
            is_last: Whether this process works on no further trial for now.
        """
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
        if self._storage is None:  # a file, whose machine is the one
            return True
        key, now = f"tunehook:claim:{work}", time.time()
        holder, until = stored_claim(self.optuna.user_attrs, key)
        if holder not in ("", host()) and until > now:
            return False
        self.optuna.set_user_attr(key, (host(), now + seconds))
        return True

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        from optuna.trial import TrialState

        study, running = self.optuna, self._run(trial.number)
        running.set_user_attr(OUTCOME, {"state": outcome.state, "reason": outcome.reason, "value": outcome.value,
                                         "step": outcome.step, "traceback": outcome.traceback})  # fmt: skip
        if outcome.state == "interrupted":
            raw = self.space.encode(trial.params)
            self._note_again(running._trial_id, raw, trial.attempt + 1, trial.key)  # noqa: SLF001 - no public way
        if outcome.state == "infeasible":
            running.set_constraint("feasible", 1.0)
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "infeasible": TrialState.PRUNED}
        state = states.get(outcome.state, TrialState.FAIL)
        if isinstance(self._search, str):
            # Named samplers do nothing after a trial, and study.tell would read it back three times.
            values = None if outcome.value is None or state == TrialState.FAIL else [outcome.value]
            study._storage.set_trial_state_values(running._trial_id, state, values)  # noqa: SLF001 - no public way
            return
        with kept_random():
            study.tell(running, outcome.value if outcome.state == "complete" else None, state=state)

    def session(self, trial: Trial) -> TrialSession:
        """The session that leads one trial from its begin to its end."""
        return TrialSession(
            trial, self, recorders=self.recorders, objective=self.objective, snapshots=self.snapshots,
            keeps_checkpoints=self._keeps_checkpoints,
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
        gpus_per_trial: int = 0,
        retries: int | None = None,
        report_timeout: float | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        """Train one trial after the other in this process, or several side by side in processes of their own.

        Args:
            train: Your training, a function of no arguments with ``TuneCallback()`` among its callbacks. It runs once a
                trial.
            trials: How many trials the study shall have when it returns, those of earlier calls and processes
                included, so that a script that was stopped is simply started again. Complete, pruned and infeasible
                trials count; failed and interrupted ones do not.
                Defaults to None: all combinations of a grid; otherwise ``trials`` or ``timeout`` is required.
            timeout: Seconds after which no further trial begins. Defaults to None, no limit.
            progress: Show a line for each trial that ends, and at the end the best one. With ``workers`` on a terminal,
                show a live table in place of the lines. Defaults to True.
            workers: How many trials run side by side, each in a process of its own; what it prints goes to
                ``output.txt`` in the trial's folder. A script has to start the study under
                ``if __name__ == "__main__":``, since its top level runs again for them. Each process has its share of
                the cores (``OMP_NUM_THREADS``), unless that is set. Defaults to None: one after the other, here.
            gpus_per_trial: GPUs for each process, by ``CUDA_VISIBLE_DEVICES``. Defaults to 0: that is left alone.
            retries: How often the values of an interrupted trial (killed, hanging, preempted) are asked again, with the
                same W&B run. The trial then goes on from its last checkpoint: the callback keeps one at the ends of
                epochs, in at most 1 % of the training time, until the trial has ended. Defaults to None: twice, from
                scratch, without checkpoints.
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
        from tunehook.launch import Request, check_arguments, launcher_from_environment, optimize

        launcher = launcher_from_environment() if launcher is None else launcher
        request = Request(trials, timeout, workers, gpus_per_trial, retries, report_timeout)
        check_arguments(self, train, request, launcher)
        self._plan_for(trials)
        self._attempts = ATTEMPTS if retries is None else retries + 1
        self._keeps_checkpoints = bool(retries)
        self._limit, self._counted = trials, set()
        try:
            optimize(self, train, request, progress=progress, launcher=launcher)
        finally:
            self._limit, self._keeps_checkpoints = None, False

    @contextlib.contextmanager
    def resting(self, rest: Callable[[float], bool]) -> Iterator[None]:
        """Pass the time in which the storage is away otherwise than by sleep.

        Args:
            rest: Passes so many seconds, and answers whether to wait on; called in any thread that waits.
        """
        storage: Any = self.optuna._storage  # noqa: SLF001 - ours, around each storage
        before, storage.rest = storage.rest, rest
        try:
            yield
        finally:
            storage.rest = before

    @property
    def judges(self) -> bool:
        """Whether reports are judged, so that a training has to wait for the answer."""
        return self._stopper is not None

    def note_plan(self) -> None:
        """Keep in the storage how many trials are wanted and who leads, for those who look at the study."""
        leader = {"host": host(), "pid": os.getpid(), "time": round(time.time(), 3)}
        self.optuna.set_user_attr(LEADER, leader)
        plan = {"trials": self._plan, "grid": self.is_grid}
        if self.optuna.user_attrs.get(PLAN) != plan:
            self.optuna.set_user_attr(PLAN, plan)

    @property
    def wanted(self) -> int | None:
        """How many trials the study shall have, as `optimize` was asked last; ``None`` where it was not said."""
        plan = stored_plan(self.optuna.user_attrs)
        return plan.get("trials") or (self.space.grid_size() if plan.get("grid") else None)

    def _plan_for(self, trials: int | None) -> None:
        """Choose the sampler by the number of trials, which is known now."""
        if trials != self._plan:
            self._plan = trials
            if self._study is not None:
                self._study.sampler = self._make_sampler()

    @property
    def is_grid(self) -> bool:
        """Whether the search is the exact grid."""
        return self._search == "grid"

    # ------------------------------------------------------------------ below

    def _reset(self) -> None:
        self._study = None
        self._kept = None
        self._running = {}
        self._counted = set()
        self._budget = None
        self._pid = os.getpid()
        self._looked = float("-inf")

    def _check_names(self) -> None:
        """Wrong names of a search or stopper are told here, before any work, without loading Optuna."""
        from tunehook.search import SEARCHES, STOPPERS, check_name, check_space

        for argument, value, names in (("search", self._search, SEARCHES), ("stopper", self._stopper, STOPPERS)):
            kind, method = ("sampler", "sample_relative") if argument == "search" else ("pruner", "prune")
            if isinstance(value, type) or not (
                (value is None and argument == "stopper") or isinstance(value, str) or hasattr(value, method)
            ):
                raise TypeError(
                    f"{argument} is one of {', '.join(map(repr, names))}, or an instance of an Optuna {kind}; "
                    f"got {value!r}."
                )
            if isinstance(value, str):
                check_name("search method" if argument == "search" else argument, value, names, f"any Optuna {kind}")
        if isinstance(self._search, str):
            check_space(self._search, self.space)

    def _open(self) -> OptunaStudy:
        from tunehook.search import make_stopper
        from tunehook.storage import open_study

        self._distributions = self.space.distributions()
        study, self._kept = open_study(
            self.name,
            self._given(),
            paths=self.paths,
            sampler=self._make_sampler(),
            pruner=make_stopper(self._stopper, Budget()),
            mine={"metric": self.metric, "mode": self.mode, "objective": self.objective},
            space=self.space,
        )
        self._study = study
        begun = next((frozen.distributions for frozen in study.get_trials(deepcopy=False) if frozen.distributions), {})
        # An older version sampled wide numbers in another way, and Optuna takes one kind in a study only.
        self._distributions |= {
            name: begun[name] for name, d in self._distributions.items() if type(d) is not type(begun.get(name, d))
        }
        self.reclaim()
        return study

    def _given(self) -> str | BaseStorage | None:
        """The storage that was passed, or else the one that the environment gives now: no copy of it is kept."""
        return from_environment() if self._storage is None else self._storage

    def _make_sampler(self) -> BaseSampler:
        """The sampler, said in one line where there is something that the user did not choose."""
        from tunehook.search import make_sampler

        sampler, note = make_sampler(self._search, self.space, seed=self._seed, trials=self._plan)
        if self._search in ("bayes", "grid"):
            make_visible()
            log.info("%s", note)
        return sampler

    # ------------------------------------------------------------------ whose trials run

    def reclaim(self) -> None:
        """Tell trials whose process is gone as interrupted, and so ask their values again.

        A process of this machine is looked for by its id; one of another machine is lost when it has given no sign of
        life for a minute, seen from here. Loops call this before they ask and while they wait; it does something every
        five seconds at most.
        """
        study = self.optuna
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        trials = study.get_trials(deepcopy=False)
        self._ask_left_out(trials)
        running = [frozen for frozen in trials if frozen.state.name == "RUNNING"]
        pulse = None if self._kept is None else self._kept.pulse
        if pulse is not None:
            pulse.look(running)
        for frozen in running:
            untold = _untold.pop(self.paths.trial(frozen.number), None)
            if untold is not None and untold[0].key == self._key_of(frozen):
                self.tell(*untold)
                continue
            holder, reason = self._held(frozen)
            if holder == "lost":
                outcome = self._recover(frozen, reason)
                log.info("Trial %d: %s (%s)", frozen.number, outcome.state, outcome.reason)

    def lost(self) -> dict[int, str]:
        """Numbers of the running trials whose process is known to be gone, and what happened to it; changes nothing."""
        running = [frozen for frozen in self._frozen() if frozen.state.name == "RUNNING"]
        if self._kept is not None and self._kept.pulse is not None:
            self._kept.pulse.look(running)
        held = {frozen.number: self._held(frozen) for frozen in running}
        return {number: reason for number, (holder, reason) in held.items() if holder == "lost"}

    def attendance(self, lost: Container[int]) -> Literal["live", "gone", "unknown"]:
        """Whether a process works on the study: one that runs a trial, or one that has asked for trials and lives.

        Unknown where no trial runs and the processes were on other machines: they may ask for more.

        Args:
            lost: Numbers of the running trials whose process is gone.
        """
        trials = self._frozen()
        if any(frozen.state.name == "RUNNING" and frozen.number not in lost for frozen in trials):
            return "live"
        owners = [stored_leader(self.optuna.user_attrs), *map(stored_owner, trials)]
        known = [owner for owner in owners if owner is not None]
        here = {owner["pid"]: owner["time"] for owner in known if owner["host"] == host()}
        if any(is_alive(pid, since=since) for pid, since in here.items()):
            return "live"
        return "gone" if known and all(owner["host"] == host() for owner in known) else "unknown"

    def waits_for(self) -> list[int]:
        """Numbers of the trials that other processes are running, as far as is known, lost ones until they are told."""
        return [frozen.number for frozen in self._frozen() if self._is_elsewhere(frozen, "live", "lost")]

    @property
    def has_waiting(self) -> bool:
        """Whether there are values to ask again."""
        return any(is_waiting(frozen) for frozen in self._frozen())

    def _check_places(self, asked: AskedTrial | None = None) -> None:
        """Refuse to begin one more trial than `optimize` was asked for, those that run elsewhere included.

        A trial is first asked for and then counted. Of several processes that do so at once, the last one to ask sees
        the others' trials, and gives its own back: the number is never exceeded. One that was new counts those with a
        lower number only, so that not all give theirs back; one that had waited has a low number and counts all.
        """
        if self._limit is None:
            return
        mine = None if asked is None else asked.number
        highest = mine
        if asked is not None and (stored_owner(asked) or {}).get("taken"):
            highest = None
        from optuna.trial import TrialState

        taken, running = 0, []
        for frozen in self._frozen():
            if frozen.state in (TrialState.COMPLETE, TrialState.PRUNED):
                taken += 1
            elif frozen.state == TrialState.RUNNING:
                running.append(frozen)
        for frozen in running:
            number = frozen.number
            if number != mine and (highest is None or number < highest):
                taken += number in self._counted or self._is_elsewhere(frozen)
        if taken < self._limit:
            if mine is not None:
                self._counted.add(mine)
            return
        if asked is not None:
            self._give_back(asked)
        raise StudyFull(f"The last of the {self._limit} trials of study '{self.name}' are running in other processes.")

    def _give_back(self, asked: AskedTrial) -> None:
        """Let a trial wait for whoever asks next; it keeps its number and its values."""
        from optuna.trial import TrialState

        self._running.pop(asked.number, None)
        asked.set_user_attr(OWNER, None)
        storage = self.optuna._storage  # noqa: SLF001 - no public way
        storage.set_trial_state_values(asked._trial_id, TrialState.WAITING)  # noqa: SLF001

    def _is_elsewhere(self, frozen: FrozenTrial, *holders: str) -> bool:
        """Whether another process is known to run a trial, one that lives unless said otherwise."""
        if frozen.state.is_finished():
            return False
        owner = stored_owner(frozen) or {}
        is_mine = (owner.get("host"), owner.get("pid")) == (host(), os.getpid())
        return frozen.state.name == "RUNNING" and not is_mine and self._held(frozen)[0] in (holders or ("live",))

    def _held(self, frozen: FrozenTrial) -> tuple[Literal["live", "lost", "unknown"], str]:
        """Whether the process of a running trial lives, as far as can be known here, and what happened to it."""
        return holder_of(frozen, self._processes(frozen), None if self._kept is None else self._kept.pulse)

    def _processes(self, frozen: FrozenTrial) -> list[dict[str, Any]]:
        """What the journal says of the processes of a trial; it says so before the first measurement."""
        if not self._has_values(frozen):
            return []
        events = itertools.takewhile(lambda event: event["event"] != "report", read_trial(self._as_trial(frozen)))
        return [event for event in events if event["event"] in ("begin", "process")]

    def _recover(self, frozen: FrozenTrial, reason: str) -> Outcome:
        """End a trial whose process is gone."""
        if self._has_values(frozen):
            trial = self._as_trial(frozen)
            if next(read_trial(trial), None) is not None:
                return self.session(trial).recover(reason)
            # Its journal lies on another machine, or was not begun.
            series = sorted(frozen.intermediate_values.items())
            value, step = objective_value(series, self.mode, self.objective) or (None, None)
            outcome = Outcome("interrupted", reason, value, step)
            self._keep_end(frozen, trial, outcome)
            self.tell(trial, outcome)
            return outcome
        return self._recover_nameless(frozen, Outcome("interrupted", reason))

    def _recover_nameless(self, frozen: FrozenTrial, outcome: Outcome) -> Outcome:
        """End a trial that got no values, or not all; they are known where they were given, or where it is a grid."""
        from tunehook.search import GridSampler
        from tunehook.space import GridExhausted

        study = self.optuna
        values = frozen.system_attrs.get("fixed_params")
        if values is None and isinstance(study.sampler, GridSampler):
            try:
                values = self.space.encode(study.sampler.point(study, frozen.number))
            except GridExhausted:
                outcome = Outcome("interrupted", "the grid has no values for it")
        is_told = self._end_nameless(frozen, outcome, again=values)
        if is_told and values is not None:
            if self.space.searched.keys() <= values.keys():
                self._keep_end(frozen, self._as_trial(frozen, self.space.decode(values)), outcome)
            self._ask_again(values, (stored_attempt(frozen) or 0) + 1, self._key_of(frozen))
        return outcome

    def _end_nameless(self, frozen: FrozenTrial, outcome: Outcome, *, again: Mapping[str, Any] | None = None) -> bool:
        """Write the end of such a trial; whether no other process did so at the same moment."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        storage, trial_id = self.optuna._storage, frozen._trial_id  # noqa: SLF001 - no public way
        try:
            storage.set_trial_user_attr(trial_id, OUTCOME, dataclasses.asdict(outcome))
            if again is not None:
                self._note_again(trial_id, again, (stored_attempt(frozen) or 0) + 1, self._key_of(frozen))
            storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return False
        return True

    def _keep_end(self, frozen: FrozenTrial, trial: Trial, outcome: Outcome) -> None:
        """Begin and end the journal of a trial whose process was killed before it could, so that none is missing."""
        owner = stored_owner(frozen) or {}
        if owner.get("host") == host() and not frozen.intermediate_values:
            journal = Journal(trial.folder)
            with contextlib.suppress(JournalError):  # the storage has it
                journal.begin(trial)
                journal.end(outcome)

    # ------------------------------------------------------------------ trials as Optuna has them

    def _run(self, number: int) -> AskedTrial:
        """The running Optuna trial; another process may have asked for it."""
        import optuna

        study = self.optuna
        if number not in self._running:
            self._running[number] = optuna.Trial(study, self._frozen()[number]._trial_id)  # noqa: SLF001 - no public way
        return self._running[number]

    def __getstate__(self) -> dict[str, Any]:
        """For spawned processes, which open the storage anew."""
        from optuna.storages import BaseStorage, InMemoryStorage

        if isinstance(self._storage, InMemoryStorage):
            raise StudyError(
                f"Study '{self.name}' is kept in memory, which a spawned process cannot see.\n"
                "  Leave out storage=... (an SQLite file) or give a database's URL."
            )
        if isinstance(self._storage, BaseStorage):
            log.debug("The storage object of study %s is pickled.", self.name)
        return {**self.__dict__, "_study": None, "_kept": None, "_running": {}, "_budget": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()
        self._shows = False  # the process that this copy comes from does

    if not TYPE_CHECKING:  # where every attribute would exist then

        def __getattr__(self, name: str) -> NoReturn:
            """Say what the attributes of other libraries are called here."""
            if hasattr(type(self), name):  # a property that raised an AttributeError of its own
                object.__getattribute__(self, name)
            raise unknown_attribute("a study", name, RESULTS, dir(type(self)))

    def __repr__(self) -> str:
        return f"Study({self.name!r}, metric={self.metric!r}, mode={self.mode!r}, search={self._search!r})"


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
