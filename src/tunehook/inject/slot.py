"""Places in live objects where hyperparameters live, and which of them a name of the space means.

An adapter lists the slots of a framework's objects; which one a name means, and whether a value fits, is decided here,
once for all frameworks.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tunehook.inject.known import asked_values
from tunehook.system import did_you_mean, joined, near
from tunehook.trial import InjectionError


class _Unknown:
    """The value of a slot whose object is made later (an optimizer before ``configure_optimizers``)."""

    def __repr__(self) -> str:
        return "<made later>"


UNKNOWN = _Unknown()


@dataclass(frozen=True)
class Slot:
    """A place in a live object where a hyperparameter lives.

    Attributes:
        path: Full name, such as ``model.hidden``; what stands behind the first dot is the short name.
        get: Reads the present value; `UNKNOWN` while the object is not made yet.
        set: Takes a new value. A setter may only note it and leave the work to ``commit``. ``None`` where the object
            exists already and only the call that makes it can take the value.
        early: Whether such a call comes before the fit begins, so that what the script derives from its object is
            right only where the value goes into the call. Without ``set`` it does.
        commit: Called once after all setters, however many slots share it: the place for work on a whole object.
        rank: Where a short name matches several slots, those of the lowest rank win: constructor arguments (0) come
            before what they lead to (1). Two slots of one rank are ambiguous.
        joint: Slots that have the same non-empty ``joint`` are set together, whichever of them is named.
        type: The type that the slot takes, an annotation or the class of its default; ``None`` takes anything.
        listed: Whether messages and the effective configuration show the slot.
        alias: Another full name, by the class of the object, such as ``MLP.width``.
        place: Where the object is made, for messages, such as ``MLP at train.py:14``.
        site: Names the call in the script that makes it. What a loop makes by one call is typed in once, so a name that
            all of them have means all.
    """

    path: str
    get: Callable[[], Any]
    set: Callable[[Any], None] | None
    commit: Callable[[], None] | None = None
    rank: int = 0
    joint: str = ""
    type: object = None
    listed: bool = True
    alias: str = ""
    place: str = ""
    site: str = ""
    early: bool = False

    @property
    def short(self) -> str:
        """The short name: the path behind its first dot."""
        return self.path.split(".", 1)[-1]


Find = Callable[[str], Slot | None]


def resolve(
    name: str, slots: Sequence[Slot], *, notes: Sequence[str] = (), find: Find | None = None, full: str = ""
) -> list[Slot]:
    """Find the slots that a name of the space means.

    Args:
        name: A full path, or one by class, such as ``MLP.width``; or a short name that only one slot has: what stands
            behind the first dot of its path, else any part behind a later dot, such as ``units`` for
            ``layer.dense.units``. A pattern, such as ``layer.*.rate``, means all slots whose path or class fits.
        slots: All slots that exist.
        notes: Lines of the error message on slots that cannot be listed one by one.
        find: Finds such a slot by its path.
        full: What the space calls it, for messages, where that is another name. Defaults to ``""``.

    Returns:
        The slot, and those that are set together with it.

    Raises:
        InjectionError: No slot has the name, or several have it.
    """
    asked, name = full or name, name.replace(".init_args.", ".")  # as the YAML of a command line has it
    if "*" in name:
        fitting = [slot for slot in slots if fnmatchcase(slot.path, name) or fnmatchcase(slot.alias, name)]
        if not fitting:
            raise InjectionError(_unknown(asked, slots, notes))
        return fitting
    # By class, what the fit uses comes before what it does not, whose path that is.
    found = _of_best_rank([slot for slot in slots if name and name in (slot.path, slot.alias)])
    # An entry of an argument, as model.conf.lr, comes before what is made later, as optimizer.lr.
    found = found or _of_best_rank([slot for slot in slots if slot.path.endswith(f".{name}")])
    found = [slot for slot in found if slot.short == name] or found
    if not found and find is not None and (slot := find(name)) is not None:
        return [slot]
    if not found:
        raise InjectionError(_unknown(asked, slots, notes))
    joints, sites = {slot.joint for slot in found}, {slot.site for slot in found}
    if len(found) > 1 and sites == {found[0].site} != {""}:
        return found
    if len(found) > 1 and (len(joints) > 1 or "" in joints):
        paths = [slot.path for slot in found]
        raise InjectionError(
            f"The hyperparameter '{name}' could go to {joined([_with_place(slot) for slot in found])}.\n"
            f"  Write the full path in the space, for example '{paths[0]}'."
        )
    joint = found[0].joint
    return [slot for slot in slots if slot is found[0] or (joint and slot.joint == joint)]


_OF_FIT = re.compile(r"fit\.(\d+)\.(.+)")


def number_of(name: str) -> int | None:
    """Which fit of a trial a name is for, from 0: 1 for ``fit.1.optimizer.lr``; ``None`` where it does not say."""
    match = _OF_FIT.fullmatch(name)
    return None if match is None else int(match[1])


def names_in(names: Iterable[str], fit: int) -> dict[str, str]:
    """The names of a space that mean something in a fit, by what they are called in it: without its number.

    Args:
        names: The names.
        fit: The fit's number in its trial, from 0.
    """
    own = {match[2]: name for name in names if (match := _OF_FIT.fullmatch(name)) and int(match[1]) == fit}
    return {**{name: name for name in names if number_of(name) is None}, **own}


def _with_place(slot: Slot) -> str:
    return f"{slot.path} ({slot.place})" if slot.place else slot.path


def _of_best_rank(found: list[Slot]) -> list[Slot]:
    best = min((slot.rank for slot in found), default=0)
    return [slot for slot in found if slot.rank == best]


def same(wanted: Any, present: Any) -> bool:
    """Whether a slot that reads ``present`` holds ``wanted``; lists and tuples of equal members are the same."""
    try:
        if isinstance(wanted, list | tuple) and isinstance(present, list | tuple):
            return len(wanted) == len(present) and all(map(same, wanted, present))
        return bool(wanted == present)
    except Exception:  # noqa: BLE001 - arrays refuse a single truth value, and other objects raise anything
        return wanted is present


def _unknown(name: str, slots: Sequence[Slot], notes: Sequence[str]) -> str:
    hint = did_you_mean(_meant_perhaps(name, slots))
    listed = [slot for slot in slots if slot.listed]
    first = {slot.place: slot for slot in reversed(listed) if slot.place}
    rows = [_row(slot) + (f"  ({slot.place})" if first.get(slot.place) is slot else "") for slot in listed]
    lines = [f"    {row}" for row in [*rows, *notes]] or ["    (none)"]
    asked, own = asked_values(), name.rpartition(".")[2]
    way_out = "make it an argument of the constructor that should use it"
    if asked and own.isidentifier():
        way_out = f"read it where the script needs it: {own} = th.value({name!r}, {show(asked.get(name))})"
    return (
        f"There is nothing called '{name}' to inject.{hint}\n"
        "  What can be injected here:\n" + "\n".join(lines) + "\n"
        f"  Rename '{name}' in the space, or {way_out}."
    )


def _row(slot: Slot) -> str:
    present = slot.get()
    is_unknown = present is UNKNOWN and slot.set is None  # its object was made by a call that nobody has seen
    return slot.path if is_unknown else f"{slot.path} = {show(present)}"


# What people call one thing.
_SYNONYMS = (
    {"lr", "learning_rate"},
    {"wd", "weight_decay"},
    {"bs", "batch_size", "train_batch_size"},
    {"epochs", "max_epochs", "n_epochs", "num_epochs"},
    {"units", "hidden", "width", "hidden_size", "hidden_dim"},
    {"dropout", "dropout_rate", "rate"},
)


def _meant_perhaps(name: str, slots: Sequence[Slot]) -> list[str]:
    """The names of what this script has that may have been meant, best first, at most three."""
    own = name.rpartition(".")[2]
    alike = next((group for group in _SYNONYMS if own in group), {own})
    same_thing = [slot for slot in slots if slot.path.rpartition(".")[2] in alike and slot.path != name]
    best = _of_best_rank(same_thing)
    if best:
        paths = [slot.path if "." in name or not slot.listed else slot.short for slot in best]
        return near(name, paths) or paths[:3]
    texts = [text for slot in slots if slot.listed or slot.place for text in (slot.short, slot.path)]
    return near(name, [text for text in texts if "." not in text or "." in name])


def check_type(name: str, value: Any, slot: Slot) -> None:
    """Check that a slot takes a value.

    Raises:
        InjectionError: Its type is another one.
    """
    allowed = _plain_types(slot.type)
    if allowed is None or any(_fits(value, kind) for kind in allowed):
        return
    wanted = " or ".join(kind.__name__ for kind in allowed)
    raise InjectionError(
        f"The hyperparameter '{name}' is {show(value)} ({type(value).__name__}), but {slot.path} takes {wanted}.\n"
        f"  Use a distribution that gives {wanted}"
        + (", such as Int(...)." if int in allowed and float not in allowed else ".")
    )


def _plain_types(annotation: object) -> list[type] | None:
    """The plain classes that an annotation admits; ``None`` where it admits more than can be checked."""
    if annotation is None or isinstance(annotation, str):
        return None
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        parts = [_plain_types(arg) for arg in typing.get_args(annotation)]
        if any(part is None for part in parts):
            return None
        return [kind for part in parts if part is not None for kind in part]
    kind = origin if isinstance(origin, type) else annotation
    plain = (int, float, str, bool, list, tuple, dict, type(None))
    return [kind] if isinstance(kind, type) and kind in plain else None


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float)
    if kind in (list, tuple):
        return isinstance(value, list | tuple)
    return isinstance(value, kind)


def show(value: Any) -> str:
    """A value in a message: its ``repr`` in one line, cut to 80 characters; its class where it has none."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - code of the value, which may raise anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."
