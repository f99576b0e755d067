"""One call of a training function: with its trial in progress, and its values where objects are made."""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NoReturn

from tunehook.inject import (
    Plan,
    Told,
    call_traced,
    ending_early,
    finding_ranks,
    learn,
    prepare_forks,
    random_numbers_of,
    unread_values,
)
from tunehook.launch.plans import keep_plan, kept_plan
from tunehook.session import TrialSession, activate, begin_again, broadcast
from tunehook.system import flush_output
from tunehook.trial import Trial

if TYPE_CHECKING:
    from tunehook.launch.progress import Progress  # loads rich, which whoever only looks needs not


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
        begin_random = random_numbers_of(train)
        try:
            with finding_ranks():
                return train()
        except Told as told:  # from now on rank 0 tells before it calls
            trial, _State.has_ranks_from_outside = told.trial, False
        learn(trial)
        begin_random()
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


def prepare() -> None:
    """Do now, where trial processes are forked from, what each of them would do by itself."""
    prepare_forks()
    if "numpy" in sys.modules:  # else it would start threads, which a fork loses
        from tunehook.snapshot import Snapshots  # noqa: F401 - loads what computes them


class _State:
    """What this process knows beyond one trial; the one instance is the class itself."""

    # What goes into which call in the study that is led, by the names of its space.
    plans: ClassVar[dict[frozenset[str], Plan]] = {}
    has_ranks_from_outside = False


def forget_plans(*, has_ranks_from_outside: bool) -> None:
    """Forget where values belong, for another study may train otherwise.

    Args:
        has_ranks_from_outside: Whether the next training is one of several ranks which do not know each other yet.
    """
    _State.plans.clear()
    _State.has_ranks_from_outside = has_ranks_from_outside


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
    flush_output()
    os._exit(code & 0xFF)
