"""The space that is searched: distributions by name, and what Optuna knows of them."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tunehook.space.choices import Choice, Fixed
from tunehook.space.distribution import Distribution, SpaceError
from tunehook.space.normals import LogNormal, Normal
from tunehook.space.numbers import Float, Int
from tunehook.system import did_you_mean, html_table, near, shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


_FEW = 20  # options that a message repeats
_LONGEST = 10_000_000  # characters of the description of a value


class GridExhausted(SpaceError):  # noqa: N818 - a state that a search reaches in the end, not a mistake
    """A grid was asked for more combinations than it has."""


class Space(Mapping[str, Distribution]):
    """The hyperparameters that are searched, by name.

    Args:
        hyperparameters: Distributions by name, and what stays fixed: None, a bool, int, float or str as it is, a list,
            tuple or dict as ``Fixed([...])``. A name has letters, digits, ``_``, ``.``, ``-`` and, as
            a pattern, ``*``.

    Raises:
        SpaceError: The space is empty, a name has other characters, or a value is neither plain nor a distribution.

    Example:
        >>> space = Space({"lr": Float(0.1, 0.3, step=0.1), "hidden": 64})
        >>> space.grid_size(), space.grid_point(2)
        (3, {'lr': 0.3, 'hidden': 64})
    """

    def __init__(self, hyperparameters: Mapping[str, Any]) -> None:
        if not isinstance(hyperparameters, Mapping):
            raise SpaceError(f"A space is a dict of distributions by name, got {shown(hyperparameters)}.")
        if not hyperparameters:
            raise SpaceError("A space needs at least one hyperparameter, got an empty dict.")
        for name in hyperparameters:
            _check_name(name)
        self._dimensions = {name: _dimension(name, given) for name, given in hyperparameters.items()}
        self._searched = {name: d for name, d in self._dimensions.items() if not isinstance(d, Fixed)}

    def __getitem__(self, name: str) -> Distribution:
        return self._dimensions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def __repr__(self) -> str:
        return "Space({" + ", ".join(f"{name!r}: {d!r}" for name, d in self._dimensions.items()) + "})"

    def _repr_html_(self) -> str:
        return html_table("space", [(name, repr(one)) for name, one in self._dimensions.items()])

    @property
    def names(self) -> list[str]:
        """All names in the order of the space, fixed ones included."""
        return list(self._dimensions)

    @property
    def searched(self) -> Mapping[str, Distribution]:
        """The distributions that are not fixed, by name."""
        return dict(self._searched)

    @property
    def numeric(self) -> bool:
        """Whether every searched hyperparameter is a number with an order (no `Choice`)."""
        return all(d.is_numeric for d in self._searched.values())

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of the raw values by name, fixed ones left out."""
        made = {name: d.distribution() for name, d in self._searched.items()}
        return {name: distribution for name, distribution in made.items() if distribution is not None}

    def decode(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The user's values of a trial in the order of the space, fixed ones included.

        Args:
            raw: The values that Optuna has for the trial.

        Raises:
            SpaceError: A value is missing or has no place in the space: the trial is of another space.
        """
        self._check_known(raw)
        missing = [name for name in self._searched if name not in raw]
        if missing:
            raise SpaceError(f"The trial has no value for {', '.join(map(repr, missing))}: it is of another space.")
        return {name: d.decode(raw.get(name)) for name, d in self._dimensions.items()}

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What Optuna is to be given for values of the user; the inverse of `decode`.

        Args:
            params: Values by name; names may be left out, and fixed ones may be given as they are.

        Raises:
            SpaceError: A name is unknown or a value is outside its distribution.
        """
        self._check_known(params)
        raw = {}
        for name, value in params.items():
            try:
                raw[name] = self._dimensions[name].encode(value)
            except SpaceError as error:
                raise SpaceError(f"Hyperparameter '{name}': {error}") from error
        return {name: value for name, value in raw.items() if name in self._searched}

    def grid_size(self) -> int:
        """Number of all combinations.

        Raises:
            SpaceError: Some hyperparameters have no grid; the message names them all.
        """
        endless = [f"'{name}' ({d!r})" for name, d in self._searched.items() if d.count is None]
        if endless:
            raise SpaceError(
                f"A grid needs finitely many values, but there are infinitely many for {', '.join(endless)}.\n"
                "  Give them a step, as in Float(0.1, 0.5, step=0.1), or use Choice([...])."
            )
        return math.prod(d.count or 1 for d in self._searched.values())

    def grid_point(self, index: int) -> dict[str, Any]:
        """The combination at ``index``, from 0; the last name of the space changes fastest.

        Raises:
            SpaceError: There is no grid, or it is smaller.
        """
        size = self.grid_size()
        if not 0 <= index < size:
            raise SpaceError(f"The grid has the combinations 0 to {size - 1}, got {index}.")
        point: dict[str, Any] = {}
        for name, d in reversed(self._dimensions.items()):
            index, digit = divmod(index, d.count or 1)
            point[name] = d.value(digit)
        return {name: point[name] for name in self._dimensions}

    def describe(self) -> dict[str, Any]:
        """A JSON-able description, the same for equal spaces."""
        return {name: d.describe() for name, d in self._dimensions.items()}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Space:
        """The space that `describe` described.

        Raises:
            SpaceError: The description is not one.
        """
        if not isinstance(description, Mapping):
            raise SpaceError(f"A description of a space is a dict by name, got {shown(description)}.")
        return cls({name: _remade(name, fields) for name, fields in description.items()})

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

    def _check_known(self, names: Mapping[str, Any]) -> None:
        for name in names:
            if name not in self._dimensions:
                hint = did_you_mean(near(str(name), self._dimensions, most=1))
                raise SpaceError(
                    f"There is no hyperparameter '{name}' in the space.{hint} It has: {', '.join(self._dimensions)}."
                )


_KINDS: dict[str, type[Distribution]] = {kind.__name__: kind for kind in (Float, Int, Choice, Normal, LogNormal, Fixed)}


def _remade(name: Any, fields: Any) -> Distribution:
    given = dict(fields) if isinstance(fields, Mapping) else {}
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise SpaceError(f"The description of '{name}' has the kind {shown(kind)}, known are {', '.join(_KINDS)}.")
    try:
        if kind == "Choice":
            return Choice([_value(text) for text in given["options"]])
        return Fixed(_value(given["constant"])) if kind == "Fixed" else _KINDS[kind](**given)
    except SpaceError:
        raise
    except Exception as error:  # whatever a text does to Python's parser, and other fields to a constructor
        raise SpaceError(f"The description of '{name}' is none that tunehook writes: {shown(fields)}.") from error


def _value(text: Any) -> Any:
    """The plain value of a ``repr``."""
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise SpaceError(f"A value is described by a text of up to {_LONGEST:,} characters, got {shown(text)}.")
    return ast.literal_eval(text)


def _dimension(name: str, given: Any) -> Distribution:
    if isinstance(given, Distribution):
        return given
    if isinstance(given, list | tuple | dict | range | set | frozenset):
        raise SpaceError(_ambiguous(name, given))
    try:
        return Fixed(given)
    except SpaceError as error:
        raise SpaceError(
            f"Hyperparameter '{name}' is {shown(given)}, neither a plain value nor one of {', '.join(_KINDS)}."
        ) from error


def _ambiguous(name: str, given: Any) -> str:
    """What a container may mean, which nobody can know: options, bounds, or one value."""
    whole = shown(given)
    said = f"Hyperparameter '{name}' is {whole}: "
    if isinstance(given, dict):
        return said + f"write Float(...), Int(...) or Choice([...]) for a search, or Fixed({whole}) for one value."
    options = shown(list(given)) if len(given) <= _FEW else "[...]"
    value = f", or Fixed({whole}) for one value" if isinstance(given, list | tuple) else ""
    return (
        said + f"write Choice({options}) to choose among them, Float(low, high) or Int(low, high) for a range{value}."
    )


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.*\-]+", name):
        raise SpaceError(
            "A hyperparameter's name has letters, digits, '_', '.', '-', and '*' where it is a pattern; "
            f"got {shown(name)}."
        )
