"""A script that is no function: it is run again from its beginning, with its trial known."""

from __future__ import annotations

import contextlib
import functools
import os
import runpy
import sys
import sysconfig
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

from tunehook.adapter.source import Source, given_trial
from tunehook.inject import (
    Find,
    Slot,
    call_traced,
    finds_ranks,
    forget_modules_that_draw,
    resolve,
    trace_in_progress,
    unread_values,
    was_read,
)
from tunehook.launch import announce, call, follow, leading, with_values
from tunehook.session import activate, active, broadcast, check_reads
from tunehook.study import Study
from tunehook.trial import InjectionError, Trial, TrialError

# With which the script began, as far as it has not changed them before. A folder may be gone.
_ARGUMENTS = [*sys.argv]
_FOLDER: Path | None = None
with contextlib.suppress(OSError):
    _FOLDER = Path.cwd()


def know_trial(source: Source, slots: Callable[[], tuple[Sequence[Slot], Find | None]]) -> None:
    """See, where a fit is called, that its trial was known before its objects were made.

    In a script without a training function the trial is known only here. Where its values belong into calls that come
    before, the script is run again from its beginning with the trial known, and this run of it ends. Nothing is done
    where a training function is being called, where no script is run (in a notebook, or a test), nor where the fit
    itself can take all values.

    Args:
        source: Where the callback's trial comes from.
        slots: Gives the slots of the fit, and what finds those that are not listed.

    Raises:
        SystemExit: The script was run again.
        InjectionError: The script has read a value before this trial was known.
    """
    if (trace := trace_in_progress()) is not None:
        trace.renew()
    if (session := active()) is not None:
        check_reads(session.trial)
    if trace is not None or session is not None or finds_ranks() or not source.knows_late:
        return
    script = _script()
    if script is None or not _belong_earlier(source.names, *slots()):
        return
    if source.study is not None:
        _train(source.study, script)
    elif (trial := given_trial()) is not None:
        call_traced(script, functools.partial(unread_values, trial), plan=None)
    raise SystemExit


def _train(study: Study, script: Callable[[], object]) -> None:
    """Run a script, each fit of which is a trial, as the process that asks for them or as one of its ranks.

    Raises:
        BaseException: What the script has raised.
    """
    with leading(study.name) as leads:
        if not leads:
            follow(script)
            return
        with _Turns(study) as turns:
            called = functools.partial(with_values, script, turns.session.trial, turns.next)
            error = call(called, lambda error: turns.session.note_late(error))
            turns.session.end(turns.session.told_apart(error))
        if error is not None:  # the other ranks are gone
            raise error
        announce(None)


class _Turns:
    """The trials of a script, one after the other.

    Args:
        study: Their study.

    Attributes:
        session: That of the last one.
    """

    def __init__(self, study: Study) -> None:
        self._study, self._around = study, contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._begin(is_next=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._around.close()

    def _begin(self, *, is_next: bool) -> None:
        self.session = self._study.session(self._study.ask())
        self.session.ends_with_fit = True
        announce(self.session.trial)
        self._around.enter_context(activate(self.session, is_next=is_next))

    def next(self) -> Trial | None:
        """The next trial, ``None`` where the last one has not ended.

        Raises:
            TrialError: There are other ranks, which run the script too and would not hear of it.
        """
        if not self.session.is_over:
            return None
        if broadcast() is not None:
            raise TrialError(
                "The script goes on to a second trial, but its training has several ranks, and they hear of one trial "
                "each time that the script is started.\n"
                "  Call fit once and start the script for each trial, or make a training function of one round and "
                "call study.optimize(train, trials=...)."
            )
        self._around.close()
        self._begin(is_next=True)
        return self.session.trial


def _belong_earlier(names: Collection[str], slots: Sequence[Slot], find: Find | None) -> bool:
    """Whether a value belongs into a call that comes before fit, or was read by then; so do those that nothing has."""
    if any(map(was_read, names)):
        return True
    try:
        found = [slot for name in names for slot in resolve(name, slots, find=find)]
    except InjectionError:
        return True
    return any(slot.early or slot.set is None for slot in found)


def _script() -> Callable[[], object] | None:
    """What runs the script of this process again; ``None`` where it is none of the user's, or not in progress here."""
    main: Any = sys.modules["__main__"]
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if file is None or threading.current_thread() is not threading.main_thread() or _is_installed(file):
        return None
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the only way up the stack
    while frame is not None and not (frame.f_globals is vars(main) and frame.f_code.co_name == "<module>"):
        frame = frame.f_back
    if frame is None:
        return None

    def run() -> None:
        forget_modules_that_draw()
        sys.argv[:] = _ARGUMENTS
        if _FOLDER is not None:
            os.chdir(_FOLDER)
        if spec is None:
            runpy.run_path(file, run_name="__main__")
        else:
            runpy.run_module(spec.name, run_name="__main__", alter_sys=True)

    return run


def _is_installed(file: str) -> bool:
    """Whether a file is a program that was installed, such as pytest, which runs more than the user's script."""
    path = Path(file).resolve()
    user = sysconfig.get_preferred_scheme("user")
    places = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", user), sysconfig.get_path("stdlib")]
    is_library = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)  # also of an environment below this one
    return is_library or any(path.is_relative_to(Path(place).resolve()) for place in places)
