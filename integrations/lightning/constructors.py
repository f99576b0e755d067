"""Values for the constructor calls of optimizers and schedulers inside a fit, so that they are as if typed in.

Constructors of optimizers are edited, not their groups: a group that is changed afterwards looks right, and is wrong
for schedulers that read it at construction, such as ``OneCycleLR``.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch.optim import Optimizer, lr_scheduler

from tunehook.adapter import is_under_construction, subclasses
from tunehook.inject import UNKNOWN, Arguments, Slot, same, signature_of
from tunehook.integrations.lightning import host
from tunehook.trial import InjectionError

Role = Literal["optimizer", "scheduler"]

ROOTS: dict[Role, tuple[type, ...]] = {
    "optimizer": (Optimizer,), "scheduler": tuple({host.Scheduler, lr_scheduler.ReduceLROnPlateau}),
}  # fmt: skip
HIDDEN: dict[str, set[str]] = {
    "optimizer": {"self", "params", "defaults"},
    "scheduler": {"self", "optimizer", "last_epoch", "verbose"},
}
"""Arguments of theirs that are no hyperparameters."""


def constructor_keys(role: Role) -> list[str]:
    """Arguments that constructors of the loaded optimizers or schedulers take, sorted."""
    keys = {name for cls in _classes(role) for name in _parameters(vars(cls).get("__init__", object.__init__))}
    return sorted(keys - HIDDEN[role])


def _classes(role: Role) -> Iterator[type]:
    return itertools.chain.from_iterable(subclasses(root) for root in ROOTS[role])


@functools.lru_cache(maxsize=1024)  # every fit asks for those of all optimizers and schedulers that are loaded
def _parameters(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = signature_of(constructor).parameters
    return {name: item for name, item in found.items() if item.kind in named}


class NotTakenError(InjectionError):
    """Nothing that was made takes a value.

    Args:
        path: The slot.
        message: What is told.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


@dataclass
class Made:
    """An optimizer or scheduler of a fit.

    Attributes:
        made: The object.
        keys: The arguments that its constructor takes.
        values: The values that it was constructed with, for injected arguments.
        paths: Their slots, where they were put into its call in ``configure_optimizers``.
        defaults: What it made of them, for parameter groups without a value of their own.
        groups: Its number of parameter groups then.
    """

    made: Any
    keys: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    groups: int = 0

    def settle(self) -> None:
        """Note what the constructor has made of the values."""
        if isinstance(self.made, Optimizer):
            self.groups = len(self.made.param_groups)
            self.defaults = {key: self.made.defaults[key] for key in self.values if key in self.made.defaults}


class Window:
    """Edits the constructor calls of one role while it is open; see `editing`.

    Args:
        role: ``"optimizer"`` or ``"scheduler"``.

    Attributes:
        made: What was constructed, in order.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.made: list[Made] = []
        self._begun: Made | None = None  # whose constructor runs
        self.staged: dict[str, Any] = {}  # by key, or by number and key: "lr", "1.lr"

    def slots(self) -> list[Slot]:
        """Slots for every key."""
        return [self._slot(key) for key in constructor_keys(self.role)]

    def find(self, path: str) -> Slot | None:
        """The slot of a key, also by number, such as ``optimizer.1.lr``."""
        role, _, key = path.partition(".")
        number, _, name = key.rpartition(".")
        is_one = role == self.role and (not number or number.isdecimal()) and name in constructor_keys(self.role)
        return self._slot(key) if is_one else None

    def _slot(self, key: str) -> Slot:
        return Slot(
            f"{self.role}.{key}",
            get=functools.partial(self.present, key),
            set=functools.partial(self.staged.__setitem__, key),
            rank=1 if self.role == "optimizer" else 3,
            listed=False,
        )

    def note(self) -> str:
        """A line on these slots for error messages."""
        return f"{self.role}.<argument> of the {self.role} that configure_optimizers makes"

    def present(self, key: str) -> Any:
        """The value in force, `UNKNOWN` before it is constructed."""
        for number, each in enumerate(self.made):
            if (own := _own(key, number)) in each.values:
                return self._in_force(each, own)
        return UNKNOWN

    def _in_force(self, each: Made, key: str) -> Any:
        if self.role == "scheduler":
            return each.values[key]
        lost = [present for _, present in deviating(each, key)]
        return lost[0] if lost else each.values[key]

    def values_for(self, made: Any, arguments: Arguments) -> Mapping[str, Any]:
        """The staged values that an object takes whose constructor begins, by its arguments."""
        self._begun = each = Made(made, _keys(made, self.role))
        for key, (path, value) in self.staged_for(each.keys).items():
            typed_in = arguments.bound.arguments.get(key, arguments.signature.parameters[key].default)
            is_pair = isinstance(typed_in, tuple) and isinstance(value, list)
            each.paths[key], each.values[key] = path, tuple(value) if is_pair else value
        return each.values

    def count(self, made: Any) -> None:
        """Count an object, now that its constructor has returned.

        Raises:
            InjectionError: A parameter group has a value of its own.
        """
        if self._begun is not None and self._begun.made is made:
            self._begun.settle()
            _check_groups(self._begun)
            self.made.append(self._begun)

    def take_finished(self, made: Any) -> None:
        """Count one that was made elsewhere, where nobody sees its call, if it has the values already.

        So has one of a process that was started for the fit: it was made in the parent.
        """
        keys = _keys(made, self.role)
        values = {key: value for key, (_, value) in self.staged_for(keys).items()}
        held = getattr(made, "defaults", None) or vars(made)
        if all(same(value, held.get(key, UNKNOWN)) for key, value in values.items()):
            self.add(Made(made, keys, values))

    def add(self, each: Made) -> None:
        """Count one that was made elsewhere."""
        each.settle()
        self.made.append(each)

    def staged_for(self, keys: Collection[str]) -> dict[str, tuple[str, Any]]:
        """The path and the value that the next object takes, by key.

        Args:
            keys: What its constructor takes.
        """
        number, found = len(self.made), {}
        for name, value in self.staged.items():
            key = _own(name, number)
            if key in keys:
                found[key] = f"{self.role}.{name}", value
        return found

    def check(self, counting: list[Made], *, holder: str) -> None:
        """Check that every staged value was taken up by exactly one object.

        Args:
            counting: Those of `made` that the fit uses.
            holder: Where such objects come from, for messages.

        Raises:
            InjectionError: A value was not taken up, or by several.
        """
        for name, value in self.staged.items():
            takers = [each for each in counting if self._took(each, name)]
            if len(takers) == 1:
                continue
            path = f"{self.role}.{name}"
            if len(takers) > 1:
                numbers = [f"{self.role}.{self.made.index(each)}.{name}" for each in takers]
                raise InjectionError(
                    f"{path} could go to {len(takers)} {self.role}s.\n"
                    f"  Write {' or '.join(numbers)} in the space, in the order in which they are made."
                )
            if not counting:
                raise NotTakenError(
                    path,
                    f"{path} = {value!r} was taken up by nothing: no {self.role} was made by {holder}.\n"
                    f"  Make it there, or take {path} out of the space.",
                )
            rows = "\n".join(f"    {row}" for row in self.rows(counting))
            raise NotTakenError(
                path,
                f"{path} = {value!r} was taken up by nothing. What the {self.role}s of this fit take:\n{rows}\n"
                f"  Rename {path} in the space, or take it out.",
            )

    def rows(self, made: Iterable[Made]) -> list[str]:
        """What each of some objects takes, a line each."""
        return [
            f"{self.role}.{self.made.index(each)} ({type(each.made).__name__}): {', '.join(each.keys)}" for each in made
        ]

    def _took(self, each: Made, name: str) -> bool:
        return _own(name, self.made.index(each)) in each.values


def _own(name: str, number: int) -> str:
    """The key that a name means for the object of a number: ``"1.lr"`` means ``lr`` for number 1."""
    return name.removeprefix(f"{number}.")


def _keys(made: Any, role: Role) -> list[str]:
    """The arguments that the constructor of an object takes."""
    return [name for name in _parameters(type(made).__init__) if name not in HIDDEN[role]]


def group_values(optimizer: Any, key: str) -> list[Any]:
    """A setting in each parameter group; of ``lr`` the one that schedulers start from."""
    first = "initial_lr" if key == "lr" else key
    return [group[first] if first in group else group.get(key, UNKNOWN) for group in optimizer.param_groups]


def deviating(each: Made, key: str) -> list[tuple[int, Any]]:
    """Numbers of the parameter groups that do not have the optimizer's default for a key, and what they have."""
    if key not in each.defaults:
        return []
    found = enumerate(group_values(each.made, key))
    return [(number, present) for number, present in found if not same(each.defaults[key], present)]


_open: contextvars.ContextVar[tuple[Window, ...]] = contextvars.ContextVar("open", default=())


@contextlib.contextmanager
def editing(windows: Sequence[Window]) -> Iterator[None]:
    """Let windows edit the constructor calls inside, of this thread."""
    token = _open.set((*_open.get(), *windows))
    try:
        yield
    finally:
        _open.reset(token)


def is_editing() -> bool:
    """Whether a window is open."""
    return bool(_open.get())


def values_for(made: Any, arguments: Arguments) -> dict[str, Any]:
    """The values that open windows have for an object whose constructor begins; none for one within another one's.

    Args:
        made: The object.
        arguments: What its constructor is called with.
    """
    found: dict[str, Any] = {}
    for window in _open.get():
        roots = ROOTS[window.role]
        if isinstance(made, roots) and not any(is_under_construction(root, but=made) for root in roots):
            found |= window.values_for(made, arguments)
    return found


def count(made: Any) -> None:
    """Let open windows count an object whose constructor has returned."""
    for window in _open.get():
        window.count(made)


def _check_groups(each: Made) -> None:
    """Refuse parameter groups with a value of their own."""
    for key, value in each.values.items():
        own = deviating(each, key)
        if own:
            groups = ", ".join(str(number) for number, _ in own)
            raise InjectionError(
                f"optimizer.{key} = {value!r} does not reach parameter group {groups} of "
                f"{type(each.made).__name__}, which has its own {key}.\n"
                f"  Make it an argument of the module's constructor, or leave {key} out of the group."
            )
