"""Calling a training function with the trial's values where its objects are made, again where they belong elsewhere."""

from __future__ import annotations

import contextvars
import logging
import os
import traceback
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tunehook.inject.arguments import signature_of
from tunehook.inject.call import counted
from tunehook.inject.outside import know_modules, random_numbers_of
from tunehook.inject.plan import Plan
from tunehook.inject.trace import Again, Trace
from tunehook.trial import InjectionError

log = logging.getLogger("tunehook")

_SWALLOWED = (
    "train has caught the exception that leaves it, to call it once more with the values where they belong.\n"
    "  Catch Exception around fit, not BaseException, and nothing with a bare 'except:'."
)
_TRIES = 5  # an old plan, an exception under a guess, a plan, and what that plan has changed

_trace: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("trace", default=None)
_kept: list[Callable[[], Callable[[], None]]] = []
_hear: list[Callable[[Collection[str]], object]] = []
_ahead: list[Callable[[], object]] = []
_put_back: list[Callable[[], None]] = []  # for the training function that is called now


def keep(take: Callable[[], Callable[[], None]]) -> None:
    """Put something back before a training function is called once more, such as what a framework counts.

    Args:
        take: Called before the first call, or now where one is going on; gives what puts it back as it is then.
    """
    if take not in _kept:
        _kept.append(take)
        if _trace.get() is not None:
            _put_back.append(take())


def hear_planned(hear: Callable[[Collection[str]], object]) -> None:
    """Let the calls of classes be heard of before a training function is called whose plan knows that it needs them.

    Args:
        hear: Hears of classes by their names; called now too where a training function is being called.
    """
    _hear.append(hear)
    trace = _trace.get()
    if trace is not None and trace.plan is not None:
        hear(trace.plan.classes)


def do_ahead(load: Callable[[], object]) -> None:
    """Let something be done once where trial processes are forked from, which each of them would do by itself.

    Args:
        load: Does it, such as an import that a framework puts off. It neither computes nor starts threads.
    """
    _ahead.append(load)


def prepare_forks() -> None:
    """Do now what each training would do first, for the processes that are forked from this one."""
    signature_of(object.__init__)  # that of each class without a constructor
    know_modules()
    for load in _ahead:
        load()


def trace_in_progress() -> Trace | None:
    """What traces the training function that is called now, ``None`` where nothing does, as in a forked process."""
    trace = _trace.get()
    return trace if trace is not None and trace.pid == os.getpid() else None


def check_thread() -> None:
    """Check where a fit begins that no value waits for it in another thread: nothing here could tell where it belongs.

    Raises:
        InjectionError: The training function has put values into calls in its own thread, and calls fit in this one.
    """
    trace = _Last.trace
    if trace is None or _trace.get() is not None or trace.pid != os.getpid() or trace.is_confirmed:
        return
    if calls := [call for call in trace.calls if call.edits]:
        raise InjectionError(
            f"The training function has put the trial's values into {', '.join(call.name for call in calls)}, but fit "
            "is called in another thread.\n"
            "  Make the objects and call fit in one thread: that of the training function, or one of its own."
        )


class _Last:
    """The training function that is called now, for all threads; the one instance is the class itself."""

    trace: Trace | None = None


def call_traced(
    train: Callable[[], object],
    values: Callable[[], Mapping[str, Any]],
    *,
    plan: Plan | None,
    begin_again: Callable[[], object] = lambda: None,
    has_next: Callable[[], bool] = lambda: False,
) -> tuple[object, Plan | None]:
    """Call a training function with the trial's values where its objects are made.

    It is called again where it turns out, when its first fit begins, that they belong elsewhere. Random states are as
    they were then, those of generators that live outside of it included.

    Args:
        train: The training function.
        values: Gives the values to put in.
        plan: Where they belong, as far as that is known.
        begin_again: Called before it is called again.
        has_next: See `Trace`.

    Returns:
        What it returned, and where the values belong.

    Raises:
        InjectionError: A constructor refuses a value, or the values cannot be put in so.
    """
    begin_random, known, heard = random_numbers_of(train), plan, dict[str, type]()
    _put_back[:] = [take() for take in _kept]
    for _ in range(_TRIES):
        trace = Trace(values, plan, has_next, heard, is_told=known is not None)
        classes = frozenset[str]() if plan is None else plan.classes
        for hear in _hear:
            hear(classes)
        token, _Last.trace = _trace.set(trace), trace
        try:
            return _called(train, trace), trace.plan if trace.is_confirmed else plan
        except Again:
            # One of an earlier trial that does not fit is one of a script that has taken another way since.
            plan, known = (trace.plan if known is None or trace.is_confirmed else None), None
        except Exception as error:
            if trace.is_left or trace.is_confirmed or not any(call.edits for call in trace.calls):
                raise
            if plan is not None:
                _tell_refusal(error, trace)
                raise
            plan, known = Plan(), None  # a guess may have broken an object that is none of the fit's
        finally:
            _trace.reset(token)
            _Last.trace = None
        begin_random()
        for one in _put_back:
            one()
        begin_again()
        log.info("train is called once more: its first fit has shown where the trial's values belong.")
    raise InjectionError(
        "The names of the space mean other objects each time that train is called.\n"
        "  Read such values in the script: th.value('name', default)."
    )


def _called(train: Callable[[], object], trace: Trace) -> object:
    result = counted(train)
    if trace.is_left:
        raise InjectionError(_SWALLOWED)
    trace.check_fits()
    return result


def _tell_refusal(error: Exception, trace: Trace) -> None:
    """Say what had been put in when a training raised before its first fit.

    Raises:
        InjectionError: A constructor has refused a value.
    """
    edited = [call for call in trace.calls if call.edits]
    given = {call: ", ".join(f"{path} = {value!r}" for path, value in call.given.items()) for call in edited}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        call = trace.of(frame.f_locals.get("made"))
        if call in given:
            is_twice = isinstance(error, TypeError) and "multiple values" in str(error)
            way_out = (
                "Pass it by its name where the object is made" if is_twice else "Leave such values out of the space"
            )
            raise InjectionError(
                f"{call.name} cannot be constructed with {given[call]}: {type(error).__name__}: {error}\n  {way_out}."
            ) from error
    error.add_note("The trial had put in: " + "; ".join(f"{values} ({call.name})" for call, values in given.items()))
