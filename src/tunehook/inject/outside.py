"""The random number generators that a training function finds outside of itself.

Such as one of a module, of a data set or of a ``DataLoader`` that is made once: what a first call of the training
function has drawn from it a second one would miss.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, ClassVar

from tunehook.inject.call import LIBRARIES
from tunehook.system import is_generator, kept_generators, random_state, restore_random

_MOST = 256  # entries of a container: longer ones are data
_DEEP = 5  # levels: a module's data loader has a data set, whose list of transforms has one that draws
_ALL = 100_000  # parts of objects that are looked at: a table of rows of values is none that draws
_CALLED = (FunctionType, MethodType, functools.partial)  # no level of their own
# Whose objects draw for the search, or for themselves.
_OTHERS = ("tunehook", "optuna", "hyperopt", "wandb")
_NOT_OF_THE_USER = {*_OTHERS, *sys.stdlib_module_names}
_TABLES = (list, tuple, set, frozenset, dict)
_PLAIN = (str, bytes, int, float, complex, bool, type(None), ModuleType)  # modules are told by themselves


def random_numbers_of(train: Callable[[], object]) -> Callable[[], None]:
    """What lets a training function begin with the random numbers that it finds now, once more.

    Args:
        train: The training function. Generators that it closes over count, and so do those of the user's modules.
    """
    state, put_back = random_state(), kept_generators([*_found([train, *_modules()])])

    def restore() -> None:
        restore_random(state)
        put_back()

    return restore


def forget_modules_that_draw() -> None:
    """Forget the user's modules that hold a generator, and those that use such a module.

    A script that runs again then imports them again, and finds their generators as in a new process.
    """
    modules = {module.__name__: module for module in _modules() if module.__name__ != "__main__"}
    drawing = {name for name, module in modules.items() if any(True for _ in _found([module]))}
    count = -1
    while count < len(drawing):
        count = len(drawing)
        drawing |= {
            name for name, module in modules.items() if any(_is_of(one, drawing) for one in [*vars(module).values()])
        }
    for name, module in [*sys.modules.items()]:  # a module may have several names there
        if any(module is modules[own] for own in drawing):
            del sys.modules[name]
            parent, _, child = name.rpartition(".")
            above = vars(sys.modules[parent]) if parent in sys.modules else {}
            if above.get(child) is module:  # else `from parent import child` would find it there
                del above[child]


def _is_of(one: Any, names: set[str]) -> bool:
    """Whether an object is one of some modules, or of a class or a function of theirs."""
    if isinstance(one, ModuleType):
        return one.__name__ in names
    with contextlib.suppress(Exception):  # an object of the user's may raise anything
        return getattr(one, "__module__", None) in names
    return False


def know_modules() -> None:
    """Tell the user's modules from the others now, which takes longer the first time."""
    for _ in _modules():
        pass


class _Known:
    """The modules of this process, up to the last one that was told from others; the one instance is the class."""

    count, last = 0, ""
    users: ClassVar[list[str]] = []  # a process has thousands of others


def _modules() -> Iterator[ModuleType]:
    names = [*itertools.islice(reversed(sys.modules), max(0, len(sys.modules) - _Known.count) + 1)]
    if names[-1] == _Known.last:  # all others are where they were: to look at them would copy them in a forked process
        new = names[-2::-1] if len(names) > 1 else []
    else:
        new, _Known.users = [*sys.modules], []
    _Known.count, _Known.last = len(sys.modules), names[0]
    _Known.users += [name for name in new if _is_of_the_user(name, sys.modules[name])]
    yield from [sys.modules[name] for name in _Known.users if name in sys.modules]


def _is_of_the_user(name: str, module: Any) -> bool:
    if type(module) is not ModuleType or name.partition(".")[0] in _NOT_OF_THE_USER:
        return False
    file = str(vars(module).get("__file__") or "")
    return name == "__main__" or (file != "" and not _is_of_a_library(file))


def _found(roots: list[Any]) -> Iterator[Any]:
    level, seen, left = [*roots], {id(each) for each in roots}, _ALL
    for _ in range(_DEEP):
        below: list[Any] = []
        while level and left > 0:
            one = level.pop()
            if is_generator(one):
                yield one
                continue
            parts = _parts(one)
            left -= len(parts)
            new = [each for each in parts if type(each) not in _PLAIN and id(each) not in seen]
            seen.update(map(id, new))
            (level if type(one) in _CALLED else below).extend(new)
        level = below


def _parts(one: Any) -> list[Any]:
    """What an object holds."""
    kind = type(one)
    if kind in _TABLES:
        held = [*one.values()] if kind is dict else [*one]
        return held if len(held) <= _MOST else []
    if kind is FunctionType:
        is_followed = not _is_of_a_library(one.__code__.co_filename) or _is_ours(one)
        return [*(_of_a_function(one) if is_followed else []), vars(one).get("__wrapped__")]
    if kind is MethodType:
        return [one.__self__, one.__func__]
    if kind is functools.partial:
        return [one.func, *one.args, *one.keywords.values()]
    if issubclass(kind, type):
        module = str(one.__module__)
        return [*vars(one).values()] if _is_of_the_user(module, sys.modules.get(module)) else []
    if any(str(each.__module__).partition(".")[0] in _OTHERS for each in kind.__mro__):
        return []
    with contextlib.suppress(Exception):  # a proxy may raise anything
        return [*vars(one).values()]
    return []


def _of_a_function(one: FunctionType) -> list[Any]:
    cells = [cell.cell_contents for cell in one.__closure__ or () if _is_filled(cell)]
    # A script that is run as `runpy` does is no module; all others are.
    names = one.__globals__ if one.__module__ == "__main__" else {}
    return [*cells, *(one.__defaults__ or ()), *(one.__kwdefaults__ or {}).values(), *names.values()]


def _is_of_a_library(file: str) -> bool:
    return any(each in file for each in LIBRARIES)


def _is_ours(one: FunctionType) -> bool:
    return str(one.__module__).startswith("tunehook.")  # that of one which was made by `exec` may be None


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - to look is to know
    except ValueError:
        return False
    return True
