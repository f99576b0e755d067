"""The space that is searched: distributions by name, and what Optuna knows of them."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tunehook.space.choices import Choice, Fixed, dimension
from tunehook.space.distribution import Distribution, SpaceError
from tunehook.space.normals import LogNormal, Normal
from tunehook.space.numbers import Float, Int
from tunehook.space.tree import Place, places_of, point_of, size_of
from tunehook.space.where import NOTE, Where, is_note
from tunehook.system import did_you_mean, html_table, near, shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


_CHECKED = 1_000_000  # combinations of a grid for which a condition is asked
_LONGEST = 10_000_000  # characters of the description of a value


class GridExhausted(SpaceError):  # noqa: N818 - a state that a search reaches in the end, not a mistake
    """A grid was asked for more combinations than it has."""


class Space(Mapping[str, Distribution]):
    """The hyperparameters that are searched, by name.

    Args:
        hyperparameters: Distributions by name, and what stays fixed: None, a bool, int, float or str as it is, a list,
            tuple or dict as ``Fixed([...])``. A name has letters, digits, ``_``, ``.``, ``-`` and, as
            a pattern, ``*``. What exists only with an option of a choice stands in its branch, as in
            ``Choice({"sgd": {"momentum": Float(0, 0.99)}, "adam": {}})``.
        where: Says of values, by name, whether they go together; only such are tried. Names of a branch that is not
            chosen are not among them. Defaults to None: all do.

    Raises:
        SpaceError: The space is empty, a name has other characters, a value is neither plain nor a distribution, or a
            name stands twice where both may exist at once.

    Example:
        >>> space = Space({"lr": Float(0.1, 0.3, step=0.1), "hidden": 64})
        >>> space.grid_size(), space.grid_point(2)
        (3, {'lr': 0.3, 'hidden': 64})
    """

    def __init__(
        self, hyperparameters: Mapping[str, Any], *, where: Callable[[dict[str, Any]], bool] | None = None
    ) -> None:
        if not isinstance(hyperparameters, Mapping):
            raise SpaceError(f"A space is a dict of distributions by name, got {shown(hyperparameters)}.")
        if not hyperparameters:
            raise SpaceError("A space needs at least one hyperparameter, got an empty dict.")
        self._dimensions = {name: dimension(name, given) for name, given in hyperparameters.items()}
        self._places = places_of(self._dimensions)
        self._searched = {place.raw: place.d for place in self._places if not place.is_fixed}
        self._required = frozenset(place.raw for place in self._places if place.parent is None and not place.is_fixed)
        self._names = dict.fromkeys(place.name for place in self._places)
        self._where = None if where is None else Where(where)
        self._note: Mapping[str, str] | None = None if self._where is None else self._where.describe()

    def __getitem__(self, name: str) -> Distribution:
        return self._dimensions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def __repr__(self) -> str:
        where = "" if self._note is None else f", where={self._note['name']}"
        return "Space({" + ", ".join(f"{name!r}: {d!r}" for name, d in self._dimensions.items()) + "}" + where + ")"

    def _repr_html_(self) -> str:
        return html_table("space", [(name, repr(one)) for name, one in self._dimensions.items()])

    @property
    def names(self) -> list[str]:
        """All names in the order of the space, fixed ones and those in branches included."""
        return list(self._names)

    @property
    def searched(self) -> Mapping[str, Distribution]:
        """The distributions that are not fixed, by the names that Optuna has for them."""
        return dict(self._searched)

    @property
    def numeric(self) -> bool:
        """Whether every searched hyperparameter is a number with an order (no `Choice`)."""
        return all(d.is_numeric for d in self._searched.values())

    @property
    def has_branches(self) -> bool:
        """Whether some hyperparameters exist only with an option of another one."""
        return len(self._places) > len(self._dimensions)

    @property
    def has_condition(self) -> bool:
        """Whether there is a condition over several hyperparameters."""
        return self._where is not None

    @property
    def lacks_condition(self) -> bool:
        """Whether there is a condition of which only the name is known, as of a space that was described."""
        return self._where is None and self._note is not None

    def branches(self) -> dict[str, dict[str, Any]]:
        """By Optuna's names, what must be chosen for a hyperparameter to exist: raw values by the choices' names."""
        choices = {place.raw: place.choice for place in self._places if isinstance(place.d, Choice)}
        return {
            place.raw: {choice: choices[choice].labels[option] for choice, option in place.branches.items()}
            for place in self._places
            if not place.is_fixed
        }

    def parts(self) -> list[list[str]]:
        """Optuna's names of what exists together: at the top, and in each branch."""
        parts: dict[tuple[str, int], list[str]] = {}
        for place in self._places:
            if not place.is_fixed:
                key = ("", 0) if place.parent is None else (place.parent.raw, place.option)
                parts.setdefault(key, []).append(place.raw)
        return list(parts.values())

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of the raw values by its names, fixed ones left out."""
        made = {name: d.distribution() for name, d in self._searched.items()}
        return {name: distribution for name, distribution in made.items() if distribution is not None}

    def walk(self, value_of: Callable[[str], Any]) -> dict[str, Any]:
        """The raw values of a configuration, choices before what stands in their branches.

        Args:
            value_of: Gives the raw value for one of Optuna's names; it is asked for what exists in the configuration.
        """
        raw: dict[str, Any] = {}
        for place in self._places:
            if not place.is_fixed and place.is_chosen(raw):
                raw[place.raw] = value_of(place.raw)
        return raw

    def missing(self, raw: Mapping[str, Any]) -> list[str]:
        """The names that have no value, among those that exist with the values that are there."""
        return [place.name for place in self._active(raw) if not place.is_fixed and place.raw not in raw]

    def is_complete(self, raw: Mapping[str, Any]) -> bool:
        """Whether raw values are those of a whole configuration."""
        return self._required <= raw.keys() and (not self.has_branches or not self.missing(raw))

    def allows(self, raw: Mapping[str, Any]) -> bool:
        """Whether the condition holds for raw values; those of names with a single value may be left out.

        Raises:
            SpaceError: The condition cannot be asked.
        """
        return self._where is None or self._where(self.decode(self.walk(lambda name: self._or_only(raw, name))))

    def snap(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The raw values that are in force for others, of which several may stand for one."""
        return {name: self._searched[name].encode(self._searched[name].decode(value)) for name, value in raw.items()}

    def name_of(self, raw: str) -> str:
        """What the user calls what Optuna calls so."""
        return next((place.name for place in self._places if place.raw == raw), raw)

    def _or_only(self, raw: Mapping[str, Any], name: str) -> Any:
        d = self._searched[name]
        return raw[name] if name in raw or d.count != 1 else d.encode(d.value(0))

    def _active(self, raw: Mapping[str, Any]) -> Iterator[Place]:
        """The places of what exists with raw values."""
        if not self.has_branches:
            yield from self._places
            return
        there: dict[str, Any] = {}
        for place in self._places:
            if place.is_chosen(there):
                if place.raw in raw:
                    there[place.raw] = raw[place.raw]
                yield place

    def decode(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The user's values of a trial in the order of the space: of what exists in it, fixed ones included.

        Args:
            raw: The values that Optuna has for the trial.

        Raises:
            SpaceError: A value is missing or has no place in the space: the trial is of another space.
        """
        self._check_known(raw, self._searched)
        there = list(self._active(raw))
        missing = [repr(place.name) for place in there if place.raw not in raw and not place.is_fixed]
        if missing:
            raise SpaceError(f"The trial has no value for {', '.join(missing)}: it is of another space.")
        try:
            return {place.name: place.d.decode(raw.get(place.raw)) for place in there}
        except (TypeError, ValueError, OverflowError) as error:  # a storage may hold anything
            raise SpaceError(f"A value of the trial is none of its hyperparameter's: {error}.") from error

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What Optuna is to be given for values of the user; the inverse of `decode`.

        Args:
            params: Values by name; names may be left out, and fixed ones may be given as they are.

        Raises:
            SpaceError: A name is unknown or of a branch that is not chosen, or a value is outside its distribution.
        """
        self._check_known(params, self._names)
        raw: dict[str, Any] = {}
        taken = set()
        for place in self._places:
            if place.name not in params or not place.is_chosen(raw):
                continue
            taken.add(place.name)
            try:
                value = place.d.encode(params[place.name])
            except SpaceError as error:
                raise SpaceError(f"Hyperparameter '{place.name}': {error}") from error
            if not place.is_fixed:
                raw[place.raw] = value
        for name in params:
            if name not in taken:
                places = [place for place in self._places if place.name == name]
                raise SpaceError(
                    f"Hyperparameter '{name}' exists only {' or '.join(place.condition for place in places)}: "
                    "give that too, or leave it out."
                )
        return raw

    def grid_size(self) -> int:
        """Number of all combinations, of those for which the condition holds.

        Raises:
            SpaceError: Some hyperparameters have no grid, the message names them all; or the condition leaves none.
        """
        endless = [f"'{place.name}' ({place.d!r})" for place in self._places if place.d.count is None]
        if endless:
            raise SpaceError(
                f"A grid needs finitely many values, but there are infinitely many for {', '.join(endless)}.\n"
                "  Give them a step, as in Float(0.1, 0.5, step=0.1), or use Choice([...])."
            )
        return size_of(self._dimensions) if self._where is None else len(self._allowed)

    @functools.cached_property
    def _allowed(self) -> list[int]:
        """The combinations for which the condition holds."""
        assert self._where is not None  # noqa: S101 - of `grid_size`
        size = size_of(self._dimensions)
        if size > _CHECKED:
            raise SpaceError(
                f"The grid has {size:,} combinations, and a condition is asked for {_CHECKED:,} at most: "
                "use coarser steps, or another search."
            )
        allowed = [index for index in range(size) if self._where(point_of(self._dimensions, index))]
        if not allowed:
            raise SpaceError(
                f"The condition {self._where.name} holds for none of the {size:,} combinations of the grid: "
                "loosen it, or widen the space."
            )
        return allowed

    def grid_point(self, index: int) -> dict[str, Any]:
        """The combination at ``index``, from 0; the last name of the space changes fastest.

        Raises:
            SpaceError: There is no grid, or it is smaller.
        """
        size = self.grid_size()
        if not 0 <= index < size:
            raise SpaceError(f"The grid has the combinations 0 to {size - 1}, got {index}.")
        return point_of(self._dimensions, index if self._where is None else self._allowed[index])

    def describe(self) -> dict[str, Any]:
        """A JSON-able description, the same for equal spaces; of a condition its name and a digest of its source."""
        described: dict[str, Any] = {name: d.describe() for name, d in self._dimensions.items()}
        return described if self._note is None else {**described, NOTE: dict(self._note)}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Space:
        """The space that `describe` described; of a condition it has the name only.

        Raises:
            SpaceError: The description is not one.
        """
        if not isinstance(description, Mapping):
            raise SpaceError(f"A description of a space is a dict by name, got {shown(description)}.")
        described = dict(description)
        note = described.pop(NOTE, None)
        if note is not None and not is_note(note):
            raise SpaceError(f"The description of a condition has a name and a source, got {shown(note)}.")
        space = cls({name: _remade(name, fields) for name, fields in described.items()})
        space._note = note
        return space

    def difference(self, description: Mapping[str, Any]) -> list[str]:
        """What differs between an older `describe` and this space: one line each, none if they are the same."""
        old = type(self).from_description(description)
        before, now = old.describe(), self.describe()
        lines = [f"'{name}' is new: {shown(self[name])}" for name in self if name not in old]
        lines += [f"'{name}' is gone: it was {shown(old[name])}" for name in old if name not in self]
        lines += [
            f"'{name}' was {shown(old[name])} and is {shown(self[name])}"
            for name in self
            if name in old and before[name] != now[name]
        ]
        if not lines and self.names != old.names:
            lines.append(f"the order was {', '.join(old.names)} and is {', '.join(self.names)}")
        return lines

    def other_condition(self, description: Mapping[str, Any]) -> str | None:
        """What differs between the condition of an older `describe` and that of this space, ``None`` for nothing."""
        before = description.get(NOTE)
        if before == self._note:
            return None
        was = "had no condition" if before is None else f"had the condition {before['name']}"
        now = "has none" if self._note is None else f"has {self._note['name']}"
        return f"{was} and {now}" if before is None or self._note is None else f"{was}, and its source was another one"

    def _check_known(self, names: Mapping[str, Any], known: Collection[str]) -> None:
        for name in names:
            if name not in known:
                hint = did_you_mean(near(str(name), known, most=1))
                raise SpaceError(
                    f"There is no hyperparameter '{name}' in the space.{hint} It has: {', '.join(self.names)}."
                )


_KINDS: dict[str, type[Distribution]] = {kind.__name__: kind for kind in (Float, Int, Choice, Normal, LogNormal, Fixed)}


def _remade(name: Any, fields: Any) -> Distribution:
    given = dict(fields) if isinstance(fields, Mapping) else {}
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise SpaceError(f"The description of '{name}' has the kind {shown(kind)}, known are {', '.join(_KINDS)}.")
    try:
        if kind == "Choice":
            return _remade_choice(name, given)
        return Fixed(_value(given["constant"])) if kind == "Fixed" else _KINDS[kind](**given)
    except SpaceError:
        raise
    except Exception as error:  # whatever a text does to Python's parser, and other fields to a constructor
        raise SpaceError(f"The description of '{name}' is none that tunehook writes: {shown(fields)}.") from error


def _remade_choice(name: str, given: Mapping[str, Any]) -> Choice:
    options, branches = [_value(text) for text in given["options"]], given.get("branches")
    if branches is None:
        return Choice(options)
    made = [{inner: _remade(inner, fields) for inner, fields in dict(branch).items()} for branch in branches]
    found = dict(zip(options, made, strict=True))
    if len(found) != len(options):
        raise SpaceError(f"The description of '{name}' has an option twice: {shown(given['options'])}.")
    return Choice(found)


def _value(text: Any) -> Any:
    """The plain value of a ``repr``."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise SpaceError(f"A value is described by a text of up to {_LONGEST:,} characters, got {shown(text)}.")
    return ast.literal_eval(text)
