"""One trial after the other in this process, and the same loop on the other ranks of a training."""

from __future__ import annotations

import contextlib
import dis
import functools
import gc
import inspect
import itertools
import logging
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from tunehook.active import activate, broadcast, check_idle, following, set_broadcast
from tunehook.apart import apart, begin_again
from tunehook.ends import MISUSE, is_misuse
from tunehook.errors import StudyError, StudyFinished, StudyFull, TrialError
from tunehook.inject.calls import Plan, Told, call_traced
from tunehook.known import ending_early, finding_ranks, handed_trial, knowing, learn, unread_values
from tunehook.launch.plans import keep_plan, kept_plan
from tunehook.progress import Progress
from tunehook.randomness import random_state, restore_random
from tunehook.session import TrialSession
from tunehook.study import Study
from tunehook.trial import Trial

if TYPE_CHECKING:
    from tunehook.launch.lead import Launcher, Leader

log = logging.getLogger("tunehook")

# Names the process that leads a study; the ranks that a framework starts from it inherit the variable.
_LEADER = "TUNEHOOK_LEADER"
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def optimize(
    study: Study,
    train: Callable[[], object],
    *,
    trials: int | None,
    timeout: float | None,
    progress: bool,
    workers: int | None = None,
    gpus_per_trial: int = 0,
    report_timeout: float | None = None,
    launcher: Launcher | None = None,
) -> None:
    """Train trials until there are enough, as the process that asks or as one of its ranks.

    Args:
        study: The study.
        train: The training, with a callback that uses the active trial.
        trials: How many finished trials the study shall have, ``None`` for no limit.
        timeout: Seconds after which no further trial begins, ``None`` for no limit.
        progress: Whether to show how the trials go.
        workers: How many trials run side by side, each in a process of its own; ``None`` for one after the other, here.
        gpus_per_trial: GPUs for each of these processes.
        report_timeout: Seconds without a report after which such a process is killed, ``None`` for no limit.
        launcher: Where these processes run, ``None`` for this machine.
    """
    check_idle()  # before anything is asked for, shown or sent
    with leading(study.name) as leads:
        if not leads:
            follow(train)
            return
        end = time.monotonic() + (timeout or float("inf"))
        with contextlib.ExitStack() as stack:
            stack.callback(study.show, is_last=True)
            node: Leader[Any] | None = None
            if launcher is not None:
                node = stack.enter_context(launcher.leader(
                    study, train, trials=trials, end=end, workers=workers, gpus_per_trial=gpus_per_trial,
                    report_timeout=report_timeout,
                ))  # fmt: skip
            elif workers is not None:
                from tunehook.launch.node import Node

                node = stack.enter_context(Node(
                    study, train, trials=trials, end=end, workers=workers, gpus_per_trial=gpus_per_trial,
                    report_timeout=report_timeout,
                ))  # fmt: skip
            study.note_plan()  # opens the storage, while the node's processes import what they need
            table = stack.enter_context(_table(study, trials, is_live=node is not None)) if progress else None
            if node is None:
                _lead(study, train, trials=trials, end=end, table=table)
            else:
                node.run(table)


def check_arguments(
    study: Study,
    train: object,
    *,
    trials: int | None,
    timeout: float | None,
    workers: int | None,
    gpus_per_trial: int,
    retries: int | None,
    report_timeout: float | None,
    launcher: Launcher | None = None,
) -> None:
    """Check what `Study.optimize` was given, before any work.

    Raises:
        ValueError, TypeError: What is wrong, and what is possible.
    """
    if trials is not None and (not isinstance(trials, int) or isinstance(trials, bool) or trials < 1):
        raise ValueError(f"trials is an integer above 0, or None; got {trials!r}.")
    if timeout is not None and (not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0):
        raise ValueError(f"timeout is a number of seconds above 0, or None; got {timeout!r}.")
    if trials is None and timeout is None and not study.is_grid:
        raise ValueError("Say how long to search: study.optimize(train, trials=30) or timeout=3600 (seconds).")
    for name, number, least in (
        ("workers", workers, 1),
        ("gpus_per_trial", gpus_per_trial, 0),
        ("retries", retries, 0),
    ):
        if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < least):
            raise ValueError(f"{name} is an integer from {least}; got {number!r}.")
    if report_timeout is not None and (isinstance(report_timeout, bool) or not report_timeout > 0):
        raise ValueError(f"report_timeout is a number of seconds above 0, or None; got {report_timeout!r}.")
    if launcher is not None and (isinstance(launcher, type) or not hasattr(launcher, "leader")):
        raise TypeError(f"launcher is an instance of a launcher, such as RayLauncher(num_cpus=4); got {launcher!r}.")
    if workers is None and launcher is None and (gpus_per_trial or report_timeout is not None):
        raise ValueError(
            "gpus_per_trial and report_timeout need a process for each trial: study.optimize(train, workers=1)."
        )
    _check_function(train)


def _check_function(train: object) -> None:
    """Check that the training can be called as it will be: without arguments."""
    way_out = (
        "def train(): ..., with TuneCallback() in its fit; th.current() is the trial, th.value('lr', 0.1) one value"
    )
    if not callable(train):
        hint = "\n  Pass the function itself: study.optimize(train, ...), not train()." if train is None else ""
        raise TypeError(f"train is a function of no arguments; got {train!r}.{hint}")
    try:
        signature = inspect.signature(train)
    except (TypeError, ValueError):  # some that are written in C have none
        return
    try:
        signature.bind()
    except TypeError as error:
        name = getattr(train, "__name__", type(train).__name__)
        raise TypeError(
            f"train is called without arguments, but {name}{signature} needs some ({error}).\n  Write {way_out}."
        ) from None


def _lead(study: Study, train: Callable[[], object], *, trials: int | None, end: float, table: Progress | None) -> None:
    failures: list[BaseException] = []  # in a row
    ran = 0
    while (session := _next(study, trials, end)) is not None:
        announce(session.trial)
        error = train_one(session, train, table)
        ran += 1
        state = session.end().state
        if state != "failed":
            failures.clear()
        elif error is not None:
            failures.append(error)
        _raise_if_over(study, session, error, failures)
        _free_gpu()
    announce(None)
    if failures and len(failures) == ran:  # fewer than max_failures, but nothing was found
        raise _stopped(study, failures)


def may_return(function: object) -> bool:
    """Whether a function may return something other than ``None``, as far as its code says."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    if code is None:  # an object that can be called, or a function in C
        return True
    code_of = list(dis.get_instructions(code))
    returned = [one for one, following in itertools.pairwise(code_of) if following.opname == "RETURN_VALUE"]
    returned += [one for one in code_of if one.opname == "RETURN_CONST"]
    return any(one.opname not in ("LOAD_CONST", "RETURN_CONST") or one.argval is not None for one in returned)


def _free_gpu() -> None:
    """Free what the last trial has on a GPU: its objects hold each other until Python looks for such, which is late."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()


def _next(study: Study, trials: int | None, end: float) -> TrialSession | None:
    """Ask for a trial, ``None`` where there are enough; waits while the last ones run in other processes.

    One of those may be lost, and its values are asked again then.
    """
    is_told = is_over = False
    # Counted anew each time: other processes may work on the same study.
    while (trials is None or study.finished < trials) and time.monotonic() < end:
        try:
            if not is_over or study.has_waiting:
                return study.session(study.ask())
        except StudyFull:
            pass
        except StudyFinished:
            is_over = True
        study.reclaim()
        others = study.waits_for()
        if is_over and not others and not study.has_waiting:
            return None
        if others and not is_told:
            is_told = True
            log.info("Waiting for trials that other processes are running: %s.", ", ".join(map(str, others)))
        time.sleep(random.SystemRandom().uniform(0.5, 1.5) if others else 0.0)
    return None


def train_one(
    session: TrialSession, train: Callable[[], object], table: Progress | None = None
) -> BaseException | None:
    """Run one training and end its session, whatever happens; returns what it raised."""
    session.may_return = may_return(train)
    if table is not None:
        session.watch(table)
    with activate(session):
        called = functools.partial(with_values, train, session.trial)
        error = session.told_apart(call(lambda: session.take_result(called()), session.note_late))
        session.end(error)
    return error


def call(train: Callable[[], object], tell: Callable[[Exception], object]) -> BaseException | None:
    """Call the training; returns what it raised. A process that it has forked ends where it would come back here.

    Args:
        train: The training.
        tell: Hears of an error after a stop of the trial, which is not raised.
    """
    pid, error = os.getpid(), None
    try:
        with ending_early(tell):
            train()
    except BaseException as raised:  # noqa: BLE001 - recorded as what it is, and raised again where it ends the study
        error = raised
    if os.getpid() != pid:
        _end_fork(error)
    return error


def with_values(
    train: Callable[[], object], trial: Trial | None, next_trial: Callable[[], Trial | None] | None = None
) -> object:
    """What a training function returns that is called with the values of a trial where it makes its objects.

    Args:
        train: The training function.
        trial: The trial; ``None`` on a rank that hears of it in its fit only.
        next_trial: For a function with a fit for each of several trials: gives the next one where the last has ended,
            ``None`` where it has not.
    """
    if _State.has_ranks_from_outside:
        began = random_state()
        try:
            with finding_ranks():
                return train()
        except Told as told:  # from now on rank 0 tells before it calls
            trial, _State.has_ranks_from_outside = told.trial, False
        learn(trial)
        restore_random(began)
        begin_again()
    if trial is None:
        return train()
    names, trials = frozenset(trial.params), [trial]

    def has_next() -> bool:
        following = None if next_trial is None else next_trial()
        trials.extend([] if following is None else [following])
        return following is not None

    known = _State.plans.get(names) or kept_plan(trial.folder, names)
    result, plan = call_traced(
        train, lambda: unread_values(trials[-1]), plan=known, begin_again=begin_again, has_next=has_next
    )
    if plan is not None and plan != _State.plans.get(names):
        _State.plans[names] = plan
        if broadcast() is None:
            keep_plan(trial.folder, names, plan)
    return result


class _State:
    """What this process knows beyond one trial; the one instance is the class itself."""

    # What goes into which call in the study that is led, by the names of its space.
    plans: dict[frozenset[str], Plan] = {}  # noqa: RUF012 - see above
    has_ranks_from_outside = False


def _is_one_of_several() -> bool:
    """Whether a launcher such as torchrun or srun has started this process as one rank of several."""
    has_rank = any(name in os.environ for name in _RANKS)
    return has_rank and any(os.environ.get(name, "1") != "1" for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def _end_fork(error: BaseException | None) -> NoReturn:
    """End a forked process as multiprocessing does: what is registered for the end of a process is its parent's."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code and code is not error.code:
            print(error.code, file=sys.stderr)  # noqa: T201 - as Python does
    elif error is not None:
        code = 1
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


def _raise_if_over(
    study: Study, session: TrialSession, error: BaseException | None, failures: Sequence[BaseException]
) -> None:
    """Raise where no further trial makes sense."""
    outcome = session.end()
    if outcome.state == "interrupted" and not session.decision.stop:  # not one that another process took for lost
        raise error if error is not None else KeyboardInterrupt
    if error is None:
        if outcome.state == "failed":  # nothing was raised, and nothing was measured
            raise TrialError(outcome.reason)
        return
    if isinstance(error, MISUSE) or is_misuse(outcome) or broadcast() is not None:
        raise error  # the same in every trial; or the other ranks are gone
    _free(error)
    if len(failures) >= study.max_failures:
        raise _stopped(study, failures)


def _stopped(study: Study, failures: Sequence[BaseException]) -> StudyError:
    many = "The only trial failed" if len(failures) == 1 else f"{len(failures)} trials in a row failed"
    error = StudyError(
        f"{many}, so study '{study.name}' stops; the first error: {failures[0]!r}.\n"
        "  Mend the training and start the script again: the study goes on where it was."
    )
    error.__cause__ = failures[0]
    return error


def _free(error: BaseException) -> None:
    """Let go of what the frames of an error hold, and of those that it was raised from: the model's memory."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        traceback.clear_frames(link.__traceback__)
        chain.append(link)
        link = link.__cause__ or link.__context__


def follow(train: Callable[[], object]) -> None:
    """Run the trainings that rank 0 begins; the callbacks get their values from it."""
    trial, goes_on = handed_trial(), True
    with following():
        while goes_on:
            with apart(None, lambda: 0), knowing(trial, may_return=may_return(train)):
                if (error := call(functools.partial(with_values, train, trial), lambda _: None)) is not None:
                    raise error
            channel = broadcast()
            trial = None if channel is None else channel(None)
            goes_on = trial is not None


def announce(trial: Trial | None) -> None:
    """Tell the ranks that follow which trial comes, if any; the first one, which starts them, they begin unasked."""
    channel = broadcast()
    if channel is not None:
        channel(trial)


def _is_follower(name: str) -> bool:
    leader, _, led = os.environ.get(_LEADER, "").partition(":")
    if leader:
        return leader != str(os.getpid()) and led == name
    return any(os.environ.get(rank, "0") != "0" for rank in _RANKS)


@contextlib.contextmanager
def leading(name: str, *, leads: bool | None = None) -> Iterator[bool]:
    """Whether this process leads the study of a name; while it does, the processes that it starts know."""
    leads, before = not _is_follower(name) if leads is None else leads, os.environ.get(_LEADER)
    if leads:
        os.environ[_LEADER] = f"{os.getpid()}:{name}"
    set_broadcast(None)
    _State.plans.clear()  # another call may train otherwise
    _State.has_ranks_from_outside = _is_one_of_several() and (leads or handed_trial() is None)
    try:
        yield leads
    finally:
        set_broadcast(None)
        os.environ.pop(_LEADER, None)
        if before is not None:
            os.environ[_LEADER] = before


def _table(study: Study, trials: int | None, *, is_live: bool) -> Progress:
    total = study.space.grid_size() if trials is None and study.is_grid else trials
    return Progress(study, total=total, is_live=is_live)
