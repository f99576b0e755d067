"""A condition over several hyperparameters: a function of the user's that says which values go together."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tunehook.space.distribution import SpaceError
from tunehook.system import shown

NOTE = ":where"  # where the description of a space has its condition; no hyperparameter is called so


class Where:
    """Says which values go together.

    Args:
        function: Takes the values by name, and returns whether they may be tried.

    Raises:
        SpaceError: It is no function.
    """

    def __init__(self, function: Callable[[dict[str, Any]], bool]) -> None:
        if not callable(function):
            raise SpaceError(
                "where is a function of the values that says whether they may be tried, such as "
                f"lambda params: params['width'] * params['depth'] <= 512; got {shown(function)}."
            )
        self._function = function

    def __call__(self, params: dict[str, Any]) -> bool:
        """Whether values go together.

        Raises:
            SpaceError: The function raised, or returned neither True nor False.
        """
        try:
            answer = self._function(dict(params))
        except Exception as error:
            absent = (
                "\n  A name of a branch that is not chosen is not among them: ask params.get(name)."
                if isinstance(error, KeyError)
                else ""
            )
            raise SpaceError(
                f"The condition {self.name} of the space raised {error!r} for {shown(params)}.{absent}"
            ) from error
        if type(answer).__name__ not in ("bool", "bool_"):  # NumPy's too
            raise SpaceError(
                f"The condition {self.name} of the space returned {shown(answer)} for {shown(params)}: it returns True "
                "where these values may be tried, and False where not."
            )
        return bool(answer)

    @property
    def name(self) -> str:
        """What it is called, for people."""
        return str(getattr(self._function, "__qualname__", type(self._function).__qualname__))

    def describe(self) -> dict[str, str]:
        """Its name and a digest of its source, by which another function is told."""
        try:
            source = inspect.getsource(self._function)
        except (OSError, TypeError):  # made by eval, or an object that can be called
            code = getattr(self._function, "__code__", None)
            source = self.name if code is None else f"{code.co_code!r} {code.co_names!r}"
        return {"name": self.name, "source": hashlib.sha256(" ".join(source.split()).encode()).hexdigest()[:12]}

    def __getstate__(self) -> bytes:
        """For spawned processes: by value, since a lambda has no name by which it is found."""
        import cloudpickle

        made: bytes = cloudpickle.dumps(self._function)
        return made

    def __setstate__(self, state: bytes) -> None:
        import pickle

        self._function = pickle.loads(state)  # noqa: S301 - made above


def is_note(value: object) -> bool:
    """Whether it is the description of a condition."""
    return isinstance(value, Mapping) and value.keys() == {"name", "source"} and all(
        isinstance(one, str) for one in value.values()
    )  # fmt: skip
