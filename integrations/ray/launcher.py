"""Trials on a Ray cluster: each is a task, the study has an actor, and the process that asks decides.

A task of Ray is never tried again by Ray: a second run would be a second trial in the same journal and the same W&B
run. The study asks the values again, under a new number. For the same reason a task that hears that its trial was given
up ends its process at once.

A trial on a cluster is looked for by the process that asked: Ray ends the tasks of a process that is gone. Their own
ids say nothing on another machine.
"""

from __future__ import annotations

import logging
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

try:
    # `import ray` alone succeeds without the package wherever a folder `ray/` lies about.
    from ray import exceptions
except ImportError as error:
    if error.name != "ray":
        raise
    raise ModuleNotFoundError(
        "tunehook.integrations.ray needs the package ray: pip install 'tunehook[ray]'", name="ray"
    ) from error

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tunehook.integrations.ray.task import GIVEN_UP, Ended, Lines, Message, Order, StudyActor, train_trial
from tunehook.launch import KILL, RECORDERS, Leader, Led, Raised, Request, Running, not_importable
from tunehook.launch.node import kept_state, pickled
from tunehook.record import Events, Journal, journal_of
from tunehook.session import TrialSession, hand_over
from tunehook.system import first_line, last_line, make_visible
from tunehook.trial import JournalError, State, StudyError, Trial

log = logging.getLogger("tunehook")

# Options of a task that follow from what a trial is: it is asked again by the study, in a process of its own.
_OURS = ("num_cpus", "num_gpus", "resources", "max_retries", "retry_exceptions", "max_calls", "num_returns",
         "name")  # fmt: skip
_LOOK = 1.0  # seconds between looks at how much room there is
_CALLERS = 10_000  # so many trials may wait for an answer at once


class RayLauncher:
    """Runs each trial of a study as a task on a Ray cluster, in a process of its own.

    Where the script has called ``ray.init``, that cluster is used; otherwise ``ray.init(address="auto")`` joins the one
    that this machine belongs to, or Ray is started on this machine alone. What was joined stays joined.

    Args:
        num_cpus: CPUs for each trial. Ray counts them, and sets ``OMP_NUM_THREADS`` to that number. Defaults to 1.
        num_gpus: GPUs for each trial, which Ray names in ``CUDA_VISIBLE_DEVICES``; a fraction shares one. Defaults to
            ``gpus_per_trial`` of `Study.optimize`, 0 unless it is given.
        resources: Further resources of Ray for each trial, such as ``{"tpu": 1}``. Defaults to none.
        options: Further options of ``ray.remote`` for the tasks, such as ``{"memory": 8 * 2**30}``, ``runtime_env`` or
            ``scheduling_strategy``. Defaults to none.
        autoscaling: Whether the cluster grows for what waits, so that what it has now is not all it may have. Defaults
            to False: a trial for which no node is large enough is an error.

    Raises:
        ValueError: An argument is none of the above.

    Example:
        >>> study.optimize(train, trials=20, launcher=RayLauncher(num_cpus=4, num_gpus=1))  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        num_cpus: float = 1,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
        options: Mapping[str, Any] | None = None,
        autoscaling: bool = False,
    ) -> None:
        wanted = {"num_cpus": num_cpus, "num_gpus": num_gpus, **(resources or {})}
        for name, number in wanted.items():
            if number is not None and (
                not isinstance(number, int | float) or isinstance(number, bool) or not number >= 0
            ):
                raise ValueError(f"{name} is a number from 0; got {number!r}.")
        taken = [name for name in options or {} if name in _OURS]
        if taken:
            raise ValueError(
                f"options are those of ray.remote but for {', '.join(_OURS)}; got {', '.join(taken)}.\n"
                "  Resources are arguments of RayLauncher; how often a trial is tried again is "
                "study.optimize(retries=...)."
            )
        self.num_cpus, self.num_gpus, self.resources = num_cpus, num_gpus, dict(resources or {})
        self.options, self.autoscaling = dict(options or {}), autoscaling

    def leader(self, study: Led, train: Callable[[], object], request: Request) -> RayLeader:
        """See `Launcher`.

        Raises:
            ValueError: ``gpus_per_trial`` and ``num_gpus`` differ.
        """
        asked = request.gpus_per_trial
        if asked and self.num_gpus is not None and self.num_gpus != asked:
            raise ValueError(
                f"gpus_per_trial={asked} and RayLauncher(num_gpus={self.num_gpus:g}) differ; give one of them."
            )
        gpus = asked if self.num_gpus is None else self.num_gpus
        demand = {"CPU": self.num_cpus, "GPU": gpus, **self.resources}
        return RayLeader(
            study, train, request, demand={name: number for name, number in demand.items() if number},
            options=self.options, autoscaling=self.autoscaling,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"RayLauncher(num_cpus={self.num_cpus:g}, num_gpus={self.num_gpus}, resources={self.resources})"


@dataclass
class _Task(Running):
    """A trial that runs as a task, or waits for its place on the cluster.

    Attributes:
        ref: The task.
        host: The machine that it runs on, once it has begun.
        carried: How many bytes of its journal have come from a machine that does not see the study's folder.
    """

    ref: Any = field(default=None, repr=False)
    host: str = ""
    carried: int = 0


class RayLeader(Leader[_Task]):
    """Leads a study whose trials are tasks of Ray; see `Leader`.

    Args:
        study: The study.
        train: The training.
        request: What was asked for; without ``workers``, as many trials run at once as the cluster has room for.
        demand: Resources for each trial, by Ray's names.
        options: Further options of the tasks.
        autoscaling: Whether the cluster grows for what waits.
    """

    def __init__(
        self,
        study: Led,
        train: Callable[[], object],
        request: Request,
        *,
        demand: Mapping[str, float],
        options: Mapping[str, Any],
        autoscaling: bool,
    ) -> None:
        super().__init__(study, request)
        self._demand, self._options, self._autoscaling = dict(demand), dict(options), autoscaling
        pickled(study.recorders, *RECORDERS)
        self._train = pickled(
            train, f"The training function {train!r}", "Open files, datasets and models inside the function."
        )
        self._state = kept_state()
        self._room, self._looked = 1, float("-inf")
        self._actor: Any = None
        self._exchange: Any = None

    def __enter__(self) -> Self:
        """Join the cluster, and check that a trial has a place there, before anything is asked for."""
        _join()
        if not self._autoscaling:
            self._check_room()
        resources = {name: number for name, number in self._demand.items() if name not in ("CPU", "GPU")}
        self._task = ray.remote(
            num_cpus=self._demand.get("CPU", 0), num_gpus=self._demand.get("GPU", 0), resources=resources,
            max_retries=0, max_calls=1, **self._options,
        )(train_trial)  # fmt: skip
        self._function = ray.put(self._train)
        self._make_actor()
        return self

    def __exit__(self, *_: object) -> None:
        """End the actor; what still runs was cancelled."""
        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)

    # ------------------------------------------------------------------ the cluster

    def _check_room(self) -> None:
        nodes = _nodes()
        if not any(_fits(self._demand, node) for node in nodes.values()):
            has = "\n".join(f"  {name}: {_said(node)}" for name, node in nodes.items())
            raise StudyError(
                f"A trial asks for {_said(self._demand)} on one node, but no node of the Ray cluster has that:\n{has}\n"
                "  Ask for less, or start a node that has it: ray start --address=... ; where the cluster starts nodes "
                "by itself, RayLauncher(autoscaling=True)."
            )

    def _places(self) -> int:
        if self._request.workers:
            return self._request.workers
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            self._room = max(1, sum(_fits(self._demand, node) for node in _nodes().values()))
        return self._room

    def _make_actor(self) -> None:
        """The actor runs beside this process, so that only what ends this process ends it."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        made = ray.remote(num_cpus=0, max_concurrency=_CALLERS, scheduling_strategy=here)(StudyActor)
        self._actor = made.remote()
        self._exchange = self._actor.exchange.remote({})

    # ------------------------------------------------------------------ trials

    def _begin(self, session: TrialSession) -> None:
        one = _Task(secrets.token_hex(8), session)
        trial = session.trial
        work = pickled(hand_over(session), *RECORDERS)
        order = Order(one.token, trial, work, str(Path.cwd()), list(sys.argv), list(sys.path), self._state)
        one.ref = self._task.options(name=f"{trial.study}/{trial.name}").remote(self._actor, order, self._function)
        self._running[one.token] = one

    def _signal(self, one: _Task, number: int) -> None:
        if number == KILL or one.told is None:  # one that has told its end still writes its record
            ray.cancel(one.ref, force=number == KILL, recursive=number == KILL)

    def _listen(self, seconds: float) -> None:
        tasks = {one.ref: one for one in self._running.values()}
        ready, _ = ray.wait([self._exchange, *tasks], num_returns=1, timeout=seconds)
        for ref in ready:
            if ref == self._exchange:
                self._hear()
            else:
                self._take_exit(tasks[ref])

    def _hear(self) -> None:
        """Take what the trials said, and answer."""
        try:
            said = ray.get(self._exchange)
        except exceptions.RayError as error:
            self._start_over(error)
            return
        answers = {}
        for number, message in said:
            try:
                answers[number] = self._answer(message)
            except JournalError as error:  # as where the trial writes it
                answers[number] = error
        self._exchange = self._actor.exchange.remote(answers)

    def _answer(self, message: Message) -> Any:
        one = self._running.get(message.token)
        if one is None:
            return GIVEN_UP
        one.heard = time.monotonic()
        try:
            if message.lines is not None:
                self._carry(one, message.lines)
        finally:  # the study hears of an end that the journal could not take
            if message.kind == "tell":
                self._take_end(one, *message.what)
        if message.kind == "tell":
            return True
        if message.kind == "report":
            return self._take_report(one, *message.what)
        one.pid, one.host, sees = message.what
        return {} if sees else _journals(one.session.trial)

    def _carry(self, one: _Task, lines: Lines) -> None:
        """Write lines into the journal; what has come before, with an answer that was lost, comes again."""
        new = lines.data[max(0, one.carried - lines.first) :]
        if new:
            journal = Journal(one.session.trial.folder)
            journal.carry(new)
            journal.close()
            one.carried += len(new)

    def _start_over(self, error: exceptions.RayError) -> None:
        """The actor was killed, so nobody is heard any more."""
        log.warning(
            "Ray has lost the study's actor, so the running trials start over: %s",
            first_line(error) or type(error).__name__,
        )
        lost = list(self._running.values())
        for one in lost:
            self._kill(one, "Ray lost the study's actor")
            del self._running[one.token]
            self._take_loss(one, one.why, "interrupted")
        ray.kill(self._actor)  # which may only be cut off
        self._make_actor()
        for one in lost:
            self._judge(one, None)

    # ------------------------------------------------------------------ ends

    def _take_exit(self, one: _Task) -> None:
        """A task has ended; where it told nothing, the trial ends as what befell it."""
        del self._running[one.token]
        raised = None
        try:
            ended: Ended = ray.get(one.ref)
        except exceptions.RayError as error:
            self._take_loss(one, *self._explain(one, error))
            if isinstance(error, exceptions.RuntimeEnvSetupError | exceptions.TaskUnschedulableError):
                raise StudyError(f"Ray cannot run the trials of study '{self._study.name}': {error}") from error
            if isinstance(error, exceptions.RayTaskError) and one.pid is None:  # tunehook itself is missing there
                raise not_importable(Raised(str(error))) from error
        else:
            one.is_done, raised = True, ended.raised
            if ended.lines is not None:
                self._carry(one, ended.lines)
            if ended.problem is not None:
                self._take_loss(one, "the training function could not be loaded", "interrupted")
                raise not_importable(ended.problem)
            befell = "its task returned without an end" if raised is None else raised.text
            self._take_loss(one, one.why or befell, "interrupted")
        self._judge(one, raised)

    def _explain(self, one: _Task, error: exceptions.RayError) -> tuple[str, State]:
        """What befell a task that told nothing."""
        where = f" on {one.host}" if one.host else ""
        if one.why:
            return one.why, "interrupted"
        if isinstance(error, exceptions.OutOfMemoryError):
            return f"out of memory: Ray killed its process{where}", "infeasible"
        if isinstance(error, exceptions.NodeDiedError):
            return f"its node{where} is gone", "interrupted"
        if isinstance(error, exceptions.WorkerCrashedError):
            return f"its process {one.pid}{where} was killed or crashed; see Ray's logs", "interrupted"
        if isinstance(error, exceptions.TaskCancelledError):
            return "it was cancelled as it began", "interrupted"
        if isinstance(error, exceptions.RayTaskError) and one.pid is not None:  # what the training raises is told
            return f"{last_line(error)}{where}, outside of the training", "failed"
        name = type(error).__name__
        return f"{name}: {first_line(error) or name}", "interrupted"


def _join() -> None:
    """Use the cluster that the script has joined, or that of this machine, or start Ray here; say which."""
    if ray.is_initialized():
        return
    try:
        ray.init(address="auto")
        said = "joined the cluster at"
    except ConnectionError:
        ray.init()
        said = "found no cluster, and has started one on this machine at"
    make_visible()
    log.info("Ray %s %s: %s.", said, ray.get_runtime_context().gcs_address, _said(ray.cluster_resources()))


def _nodes() -> dict[str, dict[str, float]]:
    """The resources of each node that lives, by its name."""
    return {
        f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})": dict(node["Resources"])
        for node in ray.nodes()
        if node["Alive"]
    }


def _fits(demand: Mapping[str, float], node: Mapping[str, float]) -> int:
    """How many trials have room on a node at once."""
    return min((int(node.get(name, 0) / number + 1e-9) for name, number in demand.items()), default=1)


def _said(resources: Mapping[str, float]) -> str:
    """Resources for people, without those that every node has."""
    shown = {"CPU": resources.get("CPU", 0), "GPU": resources.get("GPU", 0)}
    shown |= {
        name: number
        for name, number in sorted(resources.items())
        if name not in ("memory", "object_store_memory") and not name.startswith("node:")
    }
    return ", ".join(f"{number:g} {name}" for name, number in shown.items())


def _journals(trial: Trial) -> dict[str, bytes]:
    """The journals of a trial and of its earlier attempts, by the names of their folders."""
    found = {}
    for folder in sorted(trial.folder.parent.glob("trial-*")) if trial.attempt else [trial.folder]:
        path = journal_of(folder)
        if Events.of_key(path, trial.key):
            found[folder.name] = path.read_bytes()
    return found
