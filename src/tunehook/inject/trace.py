"""What one call of a training function makes, and which values of the trial go into it.

Inside a study the trial is known before the training function is called. So a value goes in where a person would type
it: into the call that makes the object. What the script derives from the object follows by itself.

Put into the call, not patched: setting ``hparams`` or an attribute changes only what reads it later. An object that was
made with the value is the one that typed-in values give, and so is what the script derives from it.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tunehook.inject.arguments import Arguments
from tunehook.inject.call import MADE_BY, Call, codes_of_the_user, position
from tunehook.inject.configurations import class_name, class_of_constructor, derives, holders
from tunehook.inject.plan import Plan, calls_by_place
from tunehook.inject.slot import Find, Slot, check_type, names_in, number_of, resolve, same
from tunehook.inject.variables import Typed, lines_that_set, other_uses
from tunehook.trial import InjectionError, Trial

log = logging.getLogger("tunehook")


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


Guess = Callable[[Call, "Trace"], Mapping[str, str]]

Places = Mapping[str, Sequence[tuple[Call, str]]]
"""By the path of a slot, the calls and their arguments into which its value was typed."""


class Trace:
    """What one call of a training function makes.

    Args:
        values: The trial's values by the names of the space, without those that the script reads.
        plan: What goes into which call; ``None`` where that is not known yet and may be guessed.
        has_next: Begins the next trial where the last one has ended, and says so. Defaults to there being one only.
        heard: The classes of configurations for which the training function is called again, by `class_name`.
        is_told: Whether the plan is one that another call has confirmed, which has told what people should know of it.

    Attributes:
        calls: The calls in their order.
        plan: That of the objects of the first fit, once they are known.
        is_confirmed: Whether the values are known to be where they belong.
        fits: How many fits have begun.
    """

    def __init__(
        self,
        values: Callable[[], Mapping[str, Any]],
        plan: Plan | None,
        has_next: Callable[[], bool] = lambda: False,
        heard: dict[str, type] | None = None,
        *,
        is_told: bool = False,
    ) -> None:
        self._values, self._has_next, self._is_told = values, has_next, is_told
        self._heard = dict[str, type]() if heard is None else heard
        self._is_first = True  # of the trials of one call of a training function
        self.pid = os.getpid()
        self.plan = plan
        self.guesses = plan is None
        self.is_confirmed = False
        self.is_left = False  # whether the training function is to be left
        self.fits = 0  # that have begun
        self.calls: list[Call] = []
        self._by_id: dict[int, tuple[Callable[[], Any], Call]] = {}
        self._numbers: dict[str, int] = {}
        self._configured: dict[str, type] = {}  # by their places, the classes of configurations that take values
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

    def take(self, made: Any, arguments: Arguments, guess: Guess, place: str = "") -> Call:
        """Note a call that begins, and put into its arguments what belongs there.

        Args:
            made: The object that is being made.
            arguments: What was typed in.
            guess: Says what may belong there, before anything is known.
            place: What stands for its place, whoever has called the function that makes it. Defaults to the positions
                of all frames.

        Returns:
            The call; its `Call.given` is what is to be replaced.
        """
        at, line, is_typed_in, route = position(type(made))
        if self.plan is not None and self.plan.has(at):
            self.renew()
        place = place or at
        number = self._numbers[place] = self._numbers.get(place, -1) + 1
        call = Call(arguments, place, number, line, is_typed_in, route=route, fit=self.fits)
        self.calls.append(call)
        self._by_id[id(made)] = _reference(made), call
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

    def enter_fit(
        self,
        slots: Sequence[Slot],
        places: Places,
        *,
        find: Find | None,
        hear: Callable[[type], bool],
        used: Collection[Call] | None = None,
    ) -> set[str]:
        """See, where a fit is called, that its values went where the names of the space lead; it begins then.

        Args:
            slots: The slots of this fit.
            places: Those whose values were typed into a call, by path: the call, and its argument.
            find: Finds slots that are not listed.
            hear: Hears of the constructor calls of a class from now on; answers whether it did not yet.
            used: The calls that made what the fit uses, ``None`` for all of the places.

        Returns:
            The names that it leaves to its script: see `names_left_out`.

        Raises:
            Again: They did not; the plan says now where they belong.
            InjectionError: A value has the wrong type, or the objects of the fit depend on the values.
        """
        places = {**places, **self._made_with(slots, places, find, hear)}
        if self.is_due:
            self.confirm(slots, places, find=find, used=used)
        self.begin_fit()
        return self.names_left_out(slots, places, find=find)

    def _made_with(
        self, slots: Sequence[Slot], places: Places, find: Find | None, hear: Callable[[type], bool]
    ) -> dict[str, list[tuple[Call, str]]]:
        """The places of values in configurations that derive others from them: the calls that made these.

        Raises:
            Again: These were not heard yet.
            InjectionError: One was made before the trial was known.
        """
        names = names_in(self._values(), self.fits)
        paths = {slot.path: name for name in names for slot in _meant(name, slots, find) if slot.path in places}
        own = self.own_names()
        return {
            path: [self._maker(*place, hear if name in own else None) for place in places[path]]
            for path, name in paths.items()
        }

    def _maker(self, call: Call, path: str, hear: Callable[[type], bool] | None) -> tuple[Call, str]:
        along = [*holders(call, path)]
        if not any(derives(one, key) for one, key in along):
            return call, path
        holder, key = along[-1]
        maker, heard = self.of(holder), class_name(type(holder))
        if maker is None and hear is not None and not self.fits and heard not in self._heard and hear(type(holder)):
            self._heard[heard] = type(holder)
            self.is_left = True
            raise Again
        if maker is not None and (key in maker.arguments.signature.parameters or maker.arguments.rest is not None):
            self._configured[maker.place] = type(holder)
            typed, present = maker.in_force(), call.present.get(path)
            if key not in typed or same(typed[key], present):
                return maker, key
            if key not in maker.given:
                return call, path  # the script has set it since: it is typed in there, what was derived before stays
            lines = " and ".join(lines_that_set(key, codes_of_the_user())) or "the script"
            raise InjectionError(
                f"{maker.name} was made with {key} = {typed[key]!r}, and has {present!r} when {call.name} takes it: "
                f"{lines} sets it.\n  Read it there: th.value({maker.edits[key]!r}, {present!r})."
            )
        if hear is None:
            return call, path
        name, cause = type(holder).__name__, "was made before this trial was known, or is a copy"
        way_out = "Make it in the training function and pass it as it is"
        if self._heard.get(heard, type(holder)) is not type(holder):
            cause = "is of a class that is defined again in each run"
            way_out = f"Define {name} in a module that is imported"
        raise InjectionError(
            f"{path} of {call.name} cannot be put in: its {name} {cause}, and its constructor derives more than {key} "
            f"from it.\n  {way_out}, or read it there: th.value({key!r}, {call.present.get(path)!r})."
        )

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
            places: As for `enter_fit`.
            find: As for `enter_fit`.
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
            slots: As for `enter_fit`.
            places: As for `enter_fit`.
            find: As for `enter_fit`.
            used: As for `enter_fit`.

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
        for call in wanted:
            if call.is_of_fit:
                call.edits = wanted[call]
        all_of_fit = {call for sites in places.values() for call, _ in sites}
        of_fit = {*(all_of_fit if used is None else used)}
        of_fit |= {call for call in self.calls if call.place in self._configured}
        tried = self.plan
        if self.fits:
            self._confirm_later(wanted)
            return
        made = {*self._configured.values()}
        classes = frozenset(class_name(cls) for cls in made | {*map(class_of_constructor, made)})
        self.plan = replace(tried or Plan(), calls=calls_by_place(wanted, of_fit), classes=classes)
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
                f"'{missing[0]}' was not used: the training function called fit {self.fits} times, and the first "
                "one is number 0.\n  Rename it in the space, or take it out."
            )

    def _tell_variables(self) -> None:
        for name in self._values():
            taking = [(call, path) for call in self.calls for path, other in call.edits.items() if other == name]
            if taking:
                call, path = taking[0]
                typed = [one for call, path in taking if (one := call.typed(path)) is not None]
                self.tell_variable(name, f"{path} of {call.name}", typed)

    def tell_variable(self, name: str, what: str, typed: Sequence[Typed]) -> None:
        """Say, once a study, that a value passes by a variable which the script uses for something else too.

        Args:
            name: The name of the value.
            what: The argument that takes it, for people.
            typed: All arguments that take it.
        """
        is_new = bool(typed) and typed[0] not in _told and not self._is_told  # the search reads files: 60 ms a process
        _told.update(typed)
        if is_new and (found := other_uses(typed)) is not None:
            variable, lines = found
            uses = f"line {lines[0]} uses" if len(lines) == 1 else f"lines {' and '.join(lines)} use"
            log.warning(
                "%s takes the trial's value; the script passes %s there, which %s too, with the script's own value. "
                "To reach both: %s = th.value(%r, ...).",
                what, variable, uses, variable, name,
            )  # fmt: skip

    def tell_set(self, path: str, given: Any, present: Any) -> None:
        """Say, once a process, where the script has set an attribute since its object was made with a value.

        That is as with the value typed in; where it sets a number of its own, the search is in vain.

        Args:
            path: The slot.
            given: The trial's value.
            present: What the object holds when its first fit begins.
        """
        name = path.rpartition(".")[2]
        lines = lines_that_set(name, codes_of_the_user()) if self.fits == 1 else []
        if lines and path not in _told:
            _told.add(path)
            log.warning(
                "%s was made with the trial's value %r, and is %r when the fit begins: %s sets it. To tune what it "
                "sets there: th.value(%r, ...).",
                path, given, present, " and ".join(lines), name,
            )  # fmt: skip


_told: set[Typed | str] = set()  # in this process


def _reference(made: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(made)
    except TypeError:  # a configuration with slots
        return lambda: made


def _meant(name: str, slots: Sequence[Slot], find: Find | None) -> list[Slot]:
    try:
        return resolve(name, slots, find=find)
    except InjectionError:  # told when the fit begins, with all slots that it has then
        return []


def _like(value: Any, typed_in: Any) -> Any:
    return tuple(value) if isinstance(typed_in, tuple) and isinstance(value, list) else value
