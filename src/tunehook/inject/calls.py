"""Constructor calls of a training function: where each is typed in, and which values of the trial go into it.

Inside a study the trial is known before the training function is called. So a value goes in where a person would type
it: into the call that makes the object. What the script derives from the object follows by itself.

Put into the call, not patched: setting ``hparams`` or an attribute changes only what reads it later. An object that was
made with the value is the one that typed-in values give, and so is what the script derives from it.
"""

from __future__ import annotations

import contextvars
import dis
import functools
import hashlib
import itertools
import logging
import os
import sys
import traceback
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tunehook.inject.arguments import Arguments, is_mentioned
from tunehook.inject.slot import Find, Slot, check_type, names_in, number_of, resolve
from tunehook.inject.variables import Typed, other_uses
from tunehook.system import random_state, restore_random
from tunehook.trial import InjectionError, Trial

log = logging.getLogger("tunehook")

Calls = Mapping[tuple[str, int | None], Mapping[str, str]]
"""By the place of a call, and its number where one place makes several that differ, the names of the space by argument.
"""


@dataclass(frozen=True)
class Plan:
    """What goes into which call.

    Attributes:
        calls: What makes the objects of the first fit.
        late: What makes objects that a fit uses without being given them, such as an optimizer that a module holds.
        later: What makes objects of a later fit and takes names of that fit, by `Call.stage`.
    """

    calls: Calls = field(default_factory=dict)
    late: Calls = field(default_factory=dict)
    later: Calls = field(default_factory=dict)

    @property
    def names(self) -> set[str]:
        """The names of the space that have a place."""
        parts = (self.calls, self.late, self.later)
        return {name for part in parts for paths in part.values() for name in paths.values()}

    def has(self, place: str) -> bool:
        """Whether something goes into calls of a place."""
        return any(place == one for part in (self.calls, self.late) for one, _ in part)

    def of(self, call: Call) -> dict[str, str]:
        """The names of the space that go into a call, by argument."""
        keys = ((call.place, None), (call.place, call.number))
        found = [part.get(key, {}) for part in (self.calls, self.late) for key in keys]
        return {path: name for each in [*found, self.later.get(call.stage, {})] for path, name in each.items()}


_SWALLOWED = (
    "train has caught the exception that leaves it, to call it once more with the values where they belong.\n"
    "  Catch Exception around fit, not BaseException, and nothing with a bare 'except:'."
)
MADE_BY = "_tunehook_call"
"""The attribute in which an adapter leaves the key of the call that made an object, so that its copies have it too."""
_NUMBERS = itertools.count()
_TRIES = 5  # an old plan, an exception under a guess, a plan, and what that plan has changed
_LIBRARIES = ("site-packages", "dist-packages")


class Again(BaseException):
    """Leaves the training function, which is called once more, with the values where they belong."""


class Told(Again):
    """Leaves the training function on all ranks of a training, which know their trial only now.

    Args:
        trial: The trial.
    """

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial


@dataclass(eq=False)
class Call:
    """One outermost constructor call.

    Attributes:
        arguments: What was typed in.
        place: Names where: the positions of all frames from the training function down. Rounds of a loop are one place.
        number: How-manieth of its place since the last fit.
        fit: How many fits have begun before it.
        line: File and line for people.
        is_typed_in: Whether it is in the user's code, not in a framework's.
        edits: The names of the space whose values went in, by argument.
        given: These values, by argument.
        typed_by: The function that makes the call, and where in it.
        key: A text that no other call has, in other processes too.
    """

    arguments: Arguments
    place: str
    number: int
    line: str
    is_typed_in: bool
    edits: dict[str, str] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    typed_by: tuple[CodeType, int] | None = None
    fit: int = 0
    key: str = field(default_factory=lambda: f"{os.getpid()}-{next(_NUMBERS)}")

    @property
    def stage(self) -> tuple[str, int]:
        """Which of the calls of its place it is, those of each fit counted by themselves."""
        return f"{self.fit}:{self.place}", self.number

    @property
    def name(self) -> str:
        """For people, such as ``Net at train.py:14``."""
        return f"{self.arguments.cls.__name__} at {self.line}"

    def typed(self, path: str) -> Typed | None:
        """One of its arguments as the script has it, ``None`` where it is of a framework's call."""
        names = [*self.arguments.signature.parameters]
        if self.typed_by is None or not self.is_typed_in:
            return None
        name, _, entry = path.partition(".")
        return Typed(*self.typed_by, name, names.index(name) if name in names else -1, entry)

    @functools.cached_property
    def present(self) -> dict[str, Any]:
        """What was typed in, by argument, defaults and entries included; what becomes of it later does not count."""
        return self.arguments.values()

    def in_force(self) -> dict[str, Any]:
        """What the object was made with, by argument: what was typed in, and the trial's values."""
        return {**self.present, **self.given}


Guess = Callable[[Call, "Trace"], Mapping[str, str]]

Places = Mapping[str, Sequence[tuple[Call, str]]]
"""By the path of a slot, the calls and their arguments into which its value was typed."""


class Trace:
    """What one call of a training function makes.

    Args:
        values: The trial's values by the names of the space, without those that the script reads.
        plan: What goes into which call; ``None`` where that is not known yet and may be guessed.
        has_next: Begins the next trial where the last one has ended, and says so. Defaults to there being one only.

    Attributes:
        calls: The calls in their order.
        plan: That of the objects of the first fit, once they are known.
        is_confirmed: Whether the values are known to be where they belong.
        fits: How many fits have begun.
    """

    def __init__(
        self, values: Callable[[], Mapping[str, Any]], plan: Plan | None, has_next: Callable[[], bool] = lambda: False
    ) -> None:
        self._values, self._has_next = values, has_next
        self._is_first = True  # of the trials of one call of a training function
        self.pid = os.getpid()
        self.plan = plan
        self.guesses = plan is None
        self.is_confirmed = False
        self.is_left = False  # whether the training function is to be left
        self.fits = 0  # that have begun
        self.calls: list[Call] = []
        self._by_id: dict[int, tuple[weakref.ref[Any], Call]] = {}
        self._numbers: dict[str, int] = {}
        self._names: dict[str, str] = {}  # of the space, by the slots that they mean

    @property
    def values(self) -> Mapping[str, Any]:
        """The values that are to be put into objects, by the names of the space as the fit that comes has them."""
        values = self._values()
        return {name: values[full] for name, full in names_in(values, self.fits).items()}

    @property
    def is_due(self) -> bool:
        """Whether the fit that comes has values of its own to confirm: the first one, or one that names tell."""
        return not self.is_confirmed or bool(self.own_names())

    def own_names(self) -> dict[str, str]:
        """The names whose values the fit that comes confirms, and their full names in the space.

        All in the first one, and those with its number in a later one.
        """
        names = names_in(self._values(), self.fits)
        return {name: full for name, full in names.items() if self.fits == 0 or name != full}

    def of(self, made: object) -> Call | None:
        """The call that made an object, or the one that it is a copy of; ``None`` where it was not seen."""
        held, call = self._by_id.get(id(made), (None, None))
        if held is not None and held() is made:
            return call
        key = getattr(made, "__dict__", {}).get(MADE_BY)
        return next((call for call in self.calls if call.key == key), None)

    def take(self, made: Any, arguments: Arguments, guess: Guess) -> Call:
        """Note a call that begins, and put into its arguments what belongs there.

        Args:
            made: The object that is being made.
            arguments: What was typed in.
            guess: Says what may belong there, before anything is known.

        Returns:
            The call; its `Call.given` is what is to be replaced.
        """
        place, line, is_typed_in, typed_by = _position(type(made))
        if self.plan is not None and self.plan.has(place):
            self.renew()
        number = self._numbers[place] = self._numbers.get(place, -1) + 1
        call = Call(arguments, place, number, line, is_typed_in, typed_by=typed_by, fit=self.fits)
        self.calls.append(call)
        self._by_id[id(made)] = weakref.ref(made), call
        values, placed = self._values(), Plan() if self.plan is None else self.plan
        call.edits = {path: name for path, name in placed.of(call).items()
                      if name in values and not (self.fits and number_of(name) == 0)}  # fmt: skip
        own = {name: full for name, full in self.own_names().items() if full not in placed.names}
        if is_typed_in and own and (self.guesses or self.fits):
            call.edits |= {path: own[name] for path, name in guess(call, self).items() if name in own}
        call.given = {path: _like(values[name], call.present.get(path)) for path, name in call.edits.items()}
        return call

    def renew(self) -> None:
        """Begin the next trial where the last one has ended: where an object is made that takes values, or in a fit."""
        if self._has_next():
            self._is_first = self.is_confirmed = False
            self.fits = 0
            self.calls, self._by_id = [], {}  # what they made has the values of the last one

    def put_late(self, path: str, call: Call, argument: str) -> None:
        """Put the value of a slot into a call that is known to make an object of the fit only now, in the fit.

        Args:
            path: The slot.
            call: The call.
            argument: Its argument.
        """
        self.is_left = True
        if self.plan is not None and path in self._names:
            key = (call.place, call.number)
            late = {**self.plan.late, key: {**self.plan.late.get(key, {}), argument: self._names[path]}}
            self.plan = replace(self.plan, late=late)

    def begin_fit(self) -> None:
        """Count the calls of each place from the beginning again, as the next round of a loop does.

        The arguments of objects that are gone are let go.
        """
        self.fits += 1
        self._numbers.clear()
        self._by_id = {key: (held, call) for key, (held, call) in self._by_id.items() if held() is not None}
        alive = {id(call) for _, call in self._by_id.values()}
        self.calls = [call for call in self.calls if id(call) in alive or call.edits]  # a copy may be what is trained

    def names_left_out(self, slots: Sequence[Slot], places: Places, *, find: Find | None) -> set[str]:
        """The names that a later fit does not put in: it has no such objects, or its script gave them other values.

        Args:
            slots: The slots of the fit.
            places: As for `confirm`.
            find: As for `confirm`.
        """
        if self.fits < 2:
            return set()
        names = names_in(self._values(), self.fits - 1)
        found = {name: _meant(name, slots, find) for name in names}
        own = {slot.path for name, full in names.items() if name != full for slot in found[name]}
        return {
            name for name, full in names.items()
            if name == full and not any(self._takes(name, slot, places, own) for slot in found[name])
        }  # fmt: skip

    def _takes(self, name: str, slot: Slot, places: Places, own: Collection[str]) -> bool:
        sites = places.get(slot.path, ())
        return slot.path not in own and (not sites or any(call.edits.get(path) == name for call, path in sites))

    def confirm(
        self, slots: Sequence[Slot], places: Places, *, find: Find | None, used: Collection[Call] | None = None
    ) -> None:
        """See that the values went where the names of the space lead, before a fit begins.

        Args:
            slots: The slots of this fit.
            places: Those whose values were typed into a call, by path: the call, and its argument.
            find: Finds slots that are not listed.
            used: The calls that made what the fit uses, ``None`` for all of the places.

        Raises:
            Again: They did not, or went elsewhere besides; the plan says now where they belong.
            InjectionError: A value has the wrong type, or the objects of the fit depend on the values.
        """
        wanted, values = dict[Call, dict[str, str]](), self._values()
        for name, full in self.own_names().items():
            for slot in _meant(name, slots, find):
                self._names[slot.path] = full
                for call, path in places.get(slot.path, ()):
                    check_type(full, values[full], slot)
                    wanted.setdefault(call, {})[path] = full
        all_of_fit = {call for sites in places.values() for call, _ in sites}
        tried = self.plan
        if self.fits:
            self._confirm_later(wanted)
            return
        self.plan = replace(tried or Plan(), calls=_plan(wanted, all_of_fit if used is None else used))
        if not self._is_first and tried != self.plan:
            raise InjectionError(
                "The objects of this fit are made elsewhere in the script than those of its first fit"
                f"{': ' if wanted else ''}{', '.join(call.name for call in wanted)}.\n"
                "  Make a training function of one fit, and call study.optimize(train, trials=...)."
            )
        if all(call.edits == self.plan.of(call) for call in self.calls):
            self.is_confirmed, self.guesses = True, False
            self._tell_variables()
        elif tried == self.plan:
            raise InjectionError(
                "The objects of the first fit are other ones with the trial's values than without them: "
                f"{', '.join(call.name for call in wanted)}.\n"
                "  Read such values in the script: th.value('name', default)."
            )
        else:
            self.is_left = True
            raise Again

    def _confirm_later(self, wanted: Mapping[Call, Mapping[str, str]]) -> None:
        """See that the values of a later fit went where they belong; the training cannot begin again any more.

        Raises:
            InjectionError: They did not.
        """
        tried = Plan() if self.plan is None else self.plan
        names = {*self.own_names().values()}
        later = {key: paths for key, paths in tried.later.items() if names.isdisjoint(paths.values())}
        self.plan = replace(tried, later={**later, **{call.stage: paths for call, paths in wanted.items()}})
        for call in self.calls:
            had = {path: name for path, name in call.edits.items() if name in names}
            if had != wanted.get(call, {}):
                name = next(iter({**had, **wanted.get(call, {})}.values()))
                own = name.rpartition(".")[2]
                raise InjectionError(
                    f"'{name}' cannot be put in: that it belongs into {call.name}, or does not, is known only now that "
                    "the first fit has trained.\n"
                    "  Write its full path and make it after that fit, or read it where the script needs it: "
                    f"{own} = th.value({name!r}, ...)."
                )

    def check_fits(self) -> None:
        """Check, when the training function has returned, that it had all fits whose names the space has.

        Raises:
            InjectionError: It had fewer.
        """
        missing = [name for name in self._values() if (number := number_of(name)) is not None and number >= self.fits]
        if missing and self.fits:
            raise InjectionError(
                f"'{missing[0]}' was put nowhere: the training function has called fit {self.fits} times, and the "
                "first one is number 0.\n  Rename it in the space, or take it out."
            )

    def _tell_variables(self) -> None:
        """Say, once a process, which values pass by a variable that the script uses for something else too."""
        for name in self._values():
            taking = [(call, path) for call in self.calls for path, other in call.edits.items() if other == name]
            typed = [one for call, path in taking if (one := call.typed(path)) is not None]
            found = other_uses(typed) if typed and typed[0] not in _told else None
            _told.update(typed)
            if found is not None:
                call, path = taking[0]
                lines = (
                    f"line {found[1][0]} uses"
                    if len(found[1]) == 1
                    else f"lines {' and '.join(map(str, found[1]))} use"
                )
                log.warning(
                    "%s of %s takes the trial's value; the script passes %s there, which %s too, with the script's "
                    "own value. To reach both: %s = th.value(%r, ...).",
                    path, call.name, found[0], lines, found[0], name,
                )  # fmt: skip


_told: set[Typed] = set()

_trace: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("trace", default=None)
_kept: list[Callable[[], Callable[[], None]]] = []
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
    they were then.

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
    began, known = random_state(), plan
    _put_back[:] = [take() for take in _kept]
    for _ in range(_TRIES):
        trace = Trace(values, plan, has_next)
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
        restore_random(began)
        for one in _put_back:
            one()
        begin_again()
        log.info("train is called once more: its first fit has shown where the trial's values belong.")
    raise InjectionError(
        "The names of the space mean other objects each time that train is called.\n"
        "  Read such values in the script: th.value('name', default)."
    )


def _called(train: Callable[[], object], trace: Trace) -> object:
    """Call it; the positions of calls are counted from here."""
    result = train()
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


def _meant(name: str, slots: Sequence[Slot], find: Find | None) -> list[Slot]:
    try:
        return resolve(name, slots, find=find)
    except InjectionError:  # told when the fit begins, with all slots that it has then
        return []


def _plan(wanted: Mapping[Call, Mapping[str, str]], of_fit: Collection[Call]) -> Calls:
    """Calls by their places; by number too where a place made several objects of the fit, and not all are meant."""
    plan: dict[tuple[str, int | None], Mapping[str, str]] = {}
    for call, paths in wanted.items():
        alike = [other for other in of_fit if other.place == call.place]
        is_whole = all(wanted.get(other) == paths for other in alike)
        plan[call.place, None if is_whole else call.number] = dict(paths)
    return plan


def _like(value: Any, typed_in: Any) -> Any:
    return tuple(value) if isinstance(typed_in, tuple) and isinstance(value, list) else value


# ------------------------------------------------------------------ positions


def _position(cls: type) -> tuple[str, str, bool, tuple[CodeType, int] | None]:
    """Where a call stands: its place, its file and line, whether these are the user's own code, and where in it."""
    module = cls.__module__.replace("__mp_main__", "__main__")  # as the script is called in a trial process
    parts = [f"{module}.{cls.__qualname__}"]
    line, is_typed_in, typed_by = "", True, None
    for number, frame in enumerate(_frames()):
        code = frame.f_code
        parts.append(f"{Path(code.co_filename).name}:{code.co_qualname}:{frame.f_lasti}")
        is_users = not any(name in code.co_filename for name in _LIBRARIES)
        if number == 0:
            typed_by = code, frame.f_lasti
            is_typed_in = is_users or frame.f_globals.get("__name__", "").startswith(("jsonargparse", "hydra"))
        if not line and is_users:
            line = f"{Path(code.co_filename).name}:{frame.f_lineno}"
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:24], line, is_typed_in, typed_by


def _frames() -> Iterator[FrameType]:
    """The frames from the call up to the training function, without ours."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the only way up the stack that costs little
    while frame is not None and frame.f_code is not _called.__code__:
        if not str(frame.f_globals.get("__name__", "")).startswith("tunehook."):
            yield frame
        frame = frame.f_back


# ------------------------------------------------------------------ is an argument read at all


def is_read(cls: type, base: type, name: str) -> bool:
    """Whether a constructor from a class down to the framework's loads an argument, as far as its code says."""
    keeps_rest = False  # whether one that takes it among others, in **kwargs, loads these
    for each in cls.__mro__:
        if each is base:
            return keeps_rest
        code = getattr(getattr(vars(each).get("__init__"), "__wrapped__", vars(each).get("__init__")), "__code__", None)
        if code is None:
            continue
        if name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
            return _loads(code, name) or is_mentioned(cls, base, name, beside="hparams")
        if not code.co_flags & 0x08:  # it takes no **kwargs, so nobody hands the argument on
            return True
        rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04)]
        keeps_rest = keeps_rest or _loads(code, rest)
    return keeps_rest


def _loads(code: CodeType, name: str) -> bool:
    for each in dis.get_instructions(code):
        if isinstance(each.argval, CodeType) and _loads(each.argval, name):
            return True
        if each.opname == "LOAD_GLOBAL" and each.argval in ("locals", "vars", "eval", "exec"):
            return True
        if "LOAD_FAST" in each.opname or "DEREF" in each.opname:
            loaded = each.argval if isinstance(each.argval, tuple) else (each.argval,)  # two, from Python 3.13 on
            if name in loaded:
                return True
    return False
