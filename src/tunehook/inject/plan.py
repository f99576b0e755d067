"""What goes into which call, once it is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tunehook.inject.call import Call

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
        classes: Those of configurations that take values, by `class_name`: their calls have to be heard.
    """

    calls: Calls = field(default_factory=dict)
    late: Calls = field(default_factory=dict)
    later: Calls = field(default_factory=dict)
    classes: frozenset[str] = frozenset()

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


def calls_by_place(wanted: Mapping[Call, Mapping[str, str]], of_fit: Collection[Call]) -> Calls:
    """Calls by their places; by number too where a place made several objects of the fit, and not all are meant."""
    plan: dict[tuple[str, int | None], Mapping[str, str]] = {}
    for call, paths in wanted.items():
        alike = [other for other in of_fit if other.place == call.place]
        is_whole = all(wanted.get(other) == paths for other in alike)
        plan[call.place, None if is_whole else call.number] = dict(paths)
    return plan
