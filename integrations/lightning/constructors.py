"""The time in which constructor calls of optimizers and schedulers are edited, so that values are as if typed in.

Constructors of optimizers are edited, not their groups: a group that is changed afterwards looks right, and is wrong
for schedulers that read it at construction, such as ``OneCycleLR``.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch.optim import Optimizer

from tunehook.adapter import Patches, follow_subclasses, subclasses
from tunehook.inject import UNKNOWN, Slot, Typed, frames, same, signature_of, tell_variable
from tunehook.integrations.lightning.calls import SCHEDULERS
from tunehook.trial import InjectionError

Role = Literal["optimizer", "scheduler"]

ROOTS: dict[Role, tuple[type, ...]] = {"optimizer": (Optimizer,), "scheduler": SCHEDULERS}
_HIDDEN = {
    "optimizer": {"self", "params", "defaults"},
    "scheduler": {"self", "optimizer", "last_epoch", "verbose"},
}


def constructor_keys(role: Role) -> list[str]:
    """Arguments that constructors of the loaded optimizers or schedulers take, sorted."""
    keys = {name for cls in _classes(role) for name in _parameters(vars(cls).get("__init__", object))}
    return sorted(keys - _HIDDEN[role])


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
    """An optimizer or scheduler that was constructed while the window was open.

    Attributes:
        made: The object.
        keys: The arguments that its constructor takes.
        values: The values that it was constructed with, for injected arguments.
        defaults: What it made of them, for parameter groups without a value of their own.
        groups: Its number of parameter groups then.
        typed: How the values are typed into its call in ``configure_optimizers``, by path: for people, and as code.
    """

    made: Any
    keys: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    groups: int = 0
    typed: dict[str, tuple[str, Typed]] = field(default_factory=dict)

    def note_typed(self, path: str, key: str, constructor: Callable[..., Any]) -> None:
        """Note where the script has an argument that takes a value."""
        frame, names = next(frames()), [*signature_of(constructor).parameters][1:]
        line = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        typed = Typed(frame.f_code, frame.f_lasti, key, names.index(key))
        self.typed[path] = f"{key} of {type(self.made).__name__} at {line}", typed

    def tell_variables(self) -> None:
        """Say which of the values pass by a variable that the script uses elsewhere too."""
        for path, (what, typed) in self.typed.items():
            tell_variable(path, what, [typed])


class Window:
    """The time in which constructor calls of one role are edited.

    Args:
        role: ``"optimizer"`` or ``"scheduler"``.

    Attributes:
        made: What was constructed, in order.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self.made: list[Made] = []
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
            if _own(key, number) in each.values and key in (_own(key, number), f"{number}.{_own(key, number)}"):
                return self._in_force(each, _own(key, number))
        return UNKNOWN

    def _in_force(self, each: Made, key: str) -> Any:
        if self.role == "scheduler":
            return each.values[key]
        lost = [present for _, present in deviating(each, key)]
        return lost[0] if lost else each.values[key]

    def edit(self, each: Made, constructor: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments of a constructor call with the staged values in them."""
        for key, (path, value) in self.staged_for(each.keys).items():
            args, kwargs, each.values[key] = _replaced(constructor, key, value, args, kwargs)
            each.note_typed(path, key, constructor)
        return args, kwargs

    def take_finished(self, made: Any) -> None:
        """Count one that was made elsewhere, where nobody sees its call, if it has the values already.

        So has one of a process that was started for the fit: it was made in the parent.
        """
        keys = [name for name in _parameters(type(made).__init__) if name not in _HIDDEN[self.role]]
        values = {key: value for key, (_, value) in self.staged_for(keys).items()}
        held = getattr(made, "defaults", None) or vars(made)
        if all(same(value, held.get(key, UNKNOWN)) for key, value in values.items()):
            groups = len(getattr(made, "param_groups", ()))
            self.made.append(Made(made, keys, values, values if self.role == "optimizer" else {}, groups))

    def staged_for(self, keys: Collection[str]) -> dict[str, tuple[str, Any]]:
        """The path and the value that the next object takes, by key.

        Args:
            keys: What its constructor takes.
        """
        number, found = len(self.made), {}
        for name, value in self.staged.items():
            key = _own(name, number)
            if key in keys and name in (key, f"{number}.{key}"):
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
        number = self.made.index(each)
        key = _own(name, number)
        return key in each.values and name in (key, f"{number}.{key}")


def _own(name: str, number: int) -> str:
    """The key that a name means for the object of a number: ``"1.lr"`` means ``lr`` for number 1."""
    return name.removeprefix(f"{number}.")


def _replaced(
    constructor: Callable[..., Any], key: str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    signature = signature_of(constructor)
    bound = signature.bind(None, *args, **kwargs)
    typed_in = bound.arguments.get(key, signature.parameters[key].default)
    if isinstance(typed_in, tuple) and isinstance(value, list):
        value = tuple(value)
    bound.arguments[key] = value
    return bound.args[1:], bound.kwargs, value


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


class _Patch:
    """The patched constructors of a role, while any window of that role is open; each thread has windows of its own."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self._open: contextvars.ContextVar[tuple[Window, ...]] = contextvars.ContextVar(role, default=())
        self._count = 0
        self._lock = threading.Lock()
        self._patches = Patches()
        self._inside = threading.local()

    def open(self, window: Window) -> None:
        if window in self._open.get():
            return
        self._open.set((*self._open.get(), window))
        with self._lock:
            self._count += 1
            if self._count > 1:
                return
            for cls in list(_classes(self.role)):
                self._wrap(cls)
            for root in ROOTS[self.role]:  # also those that are imported while the window is open
                self._patches.add(follow_subclasses(root, self._wrap))

    def close(self, window: Window) -> None:
        if window not in self._open.get():
            return
        self._open.set(tuple(one for one in self._open.get() if one is not window))
        with self._lock:
            self._count -= 1
            if not self._count:
                self._patches.undo()

    def _wrap(self, cls: type) -> None:
        original = vars(cls).get("__init__")
        if original is None:
            return

        @functools.wraps(original)
        def __init__(made: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it stands for one
            if getattr(self._inside, "busy", False):  # a call of the base class, or of an optimizer within
                original(made, *args, **kwargs)
                return
            self._inside.busy = True
            try:
                self._construct(original, made, args, kwargs)
            finally:
                self._inside.busy = False

        self._patches.put(cls, "__init__", __init__)

    def _construct(self, original: Any, made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        keys = [name for name in _parameters(original) if name not in _HIDDEN[self.role]]
        notes = [(window, Made(made, keys)) for window in self._open.get()]
        for window, each in notes:
            args, kwargs = window.edit(each, original, args, kwargs)
        original(made, *args, **kwargs)
        for window, each in notes:
            if self.role == "optimizer":
                each.groups = len(made.param_groups)
                each.defaults = {key: made.defaults[key] for key in each.values if key in made.defaults}
                _check_groups(each)
            window.made.append(each)


_PATCHES: dict[Role, _Patch] = {"optimizer": _Patch("optimizer"), "scheduler": _Patch("scheduler")}


def open_window(window: Window) -> None:
    """Begin to edit constructor calls; opening an open window does nothing."""
    _PATCHES[window.role].open(window)


def close_window(window: Window) -> None:
    """Stop it; once no window is open, the classes are as they were."""
    _PATCHES[window.role].close(window)


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
