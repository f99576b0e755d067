"""Putting a trial's values into live objects: apply, and read back whether they arrived."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tunehook.inject.slot import UNKNOWN, Find, Slot, check_type, resolve, same, show
from tunehook.trial import InjectionError

log = logging.getLogger("tunehook")

IN_FUNCTION = "Make it in the training function, which is called for each trial."
"""How a trial of ``study.optimize`` is known before an object is made."""


class Injection:
    """A trial's values in their slots.

    Args:
        values: The trial's values by the names of the space.
        slots: All slots that exist in the user's objects.
        notes: Lines for error messages on slots that cannot be listed one by one.
        find: Finds such a slot by its path; ``None`` where all are listed.
        names: What the space calls the names of the values, where that is another name, such as ``fit.1.lr``.
        way_out: How the trial can be known before its objects are made, for the message where it was not.

    Raises:
        InjectionError: A name has no slot or several, two names mean one slot, or a value has the wrong type.
            Nothing is changed then.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        slots: Sequence[Slot],
        *,
        notes: Sequence[str] = (),
        find: Find | None = None,
        names: Mapping[str, str] = MappingProxyType({}),
        way_out: str = IN_FUNCTION,
    ) -> None:
        self._slots, self._notes, self._find, self._way_out = list(slots), notes, find, way_out
        self._targets: list[tuple[str, Any, Slot]] = []
        owner: dict[str, str] = {}
        for name, value in values.items():
            for slot in self.slots_of(name, full=names.get(name, "")):
                if slot.path in owner:
                    raise InjectionError(
                        f"The hyperparameters '{owner[slot.path]}' and '{name}' both mean {slot.path}.\n"
                        "  Remove one of them from the space."
                    )
                owner[slot.path] = name
                check_type(name, value, slot)
                self._targets.append((name, value, slot))

    def slots_of(self, name: str, *, full: str = "") -> list[Slot]:
        """The slots that a name means here, whether it has a value or not; see `resolve`."""
        return resolve(name, self._slots, notes=self._notes, find=self._find, full=full)

    @property
    def paths(self) -> dict[str, Any]:
        """The injected values by slot path."""
        return {slot.path: value for _, value, slot in self._targets}

    @property
    def names(self) -> dict[str, str]:
        """The names of the space by the slot paths that they mean."""
        return {slot.path: name for name, _, slot in self._targets}

    def apply(self) -> None:
        """Set every value, then do the work that the setters noted, then read back.

        Raises:
            InjectionError: A value belongs into the call that has made an object already.
        """
        for _, value, slot in self._targets:
            if slot.set is None and not same(value, slot.get()):
                raise InjectionError(
                    f"{slot.path} = {show(value)} cannot be put in: {slot.place or 'what takes it'} was made before "
                    f"this trial was known.\n  {self._way_out}"
                )
        for _, value, slot in self._targets:
            if slot.set is not None:
                slot.set(value)
        commits = [slot.commit for _, _, slot in self._targets if slot.commit is not None]
        for commit in dict.fromkeys(commits):
            commit()
        self.read_back("right after they were set")

    def read_back(self, when: str) -> None:
        """Check that every slot that exists by now still holds its value.

        Args:
            when: The moment, as words for the message.

        Raises:
            InjectionError: A slot holds another value.
        """
        lost = [(name, value, slot, slot.get()) for name, value, slot in self._targets]
        lost = [row for row in lost if row[3] is not UNKNOWN and not same(row[1], row[3])]
        if lost:
            lines = [
                f"  {slot.path} holds {show(present)} instead of {show(value)} (hyperparameter '{name}')"
                for name, value, slot, present in lost
            ]
            raise InjectionError(
                f"Injected values were lost {when}:\n" + "\n".join(lines) + "\n"
                "  Something else sets them: remove that, or take the name out of the space."
            )

    def missing(self) -> list[str]:
        """Paths of injected slots whose object has not been made yet."""
        return [slot.path for _, _, slot in self._targets if slot.get() is UNKNOWN]

    def effective(self) -> dict[str, Any]:
        """What is in force, by path: every injected slot and every listed one whose object exists."""
        injected = self.paths
        known = {slot.path: slot.get() for slot in self._slots if slot.listed and slot.path not in injected}
        return {**{path: value for path, value in known.items() if value is not UNKNOWN}, **injected}
