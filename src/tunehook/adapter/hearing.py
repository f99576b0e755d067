"""Hearing of constructor calls of other people's classes, so that nobody who looks at these sees a difference.

Constructors are heard by what a class keeps as ``__init__``: a ``__new__`` is what ``inspect.signature`` and
LightningCLI ask first, and a function around ``__init__`` is a frame at which ``save_hyperparameters()`` stops
collecting. What we put there gives out the function itself to all who look, and takes part in the outermost call alone.
Help lists one thing more about LightningModule and LightningDataModule, ``__init_subclass__``: Python has no other way
to tell of new classes.
"""

from __future__ import annotations

import contextvars
import functools
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

from tunehook.adapter.patches import put

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

Hear = Callable[[Any, tuple[Any, ...], dict[str, Any]], Arguments]
"""What hears of a call: the object that is being made, its positional and its keyword arguments. It gives the arguments
with which the object is made."""

Then = Callable[[Any], object]
"""What is called with an object when its constructor has returned."""

_followed: weakref.WeakSet[type] = weakref.WeakSet()  # whose subclasses are heard as they are made

# By their ids, the objects whose constructors are running.
_under_construction: contextvars.ContextVar[Mapping[int, type]] = contextvars.ContextVar(
    "under_construction", default=MappingProxyType({})
)


def is_under_construction(root: type, *, but: object) -> bool:
    """Whether another object of a class is being made, by a constructor that is heard."""
    return any(issubclass(cls, root) for number, cls in _under_construction.get().items() if number != id(but))


class _Heard:
    """Stands where a class keeps its ``__init__``, and hears of each call that makes an object of the class.

    Whoever looks sees the function itself. A class and ``super()`` give it out, so `inspect`, help and pickling know of
    nothing, and no frame lies between the constructors of a chain, along which Lightning collects hyperparameters.
    jsonargparse reads what the class keeps, and takes functions only, so it passes for one. (It takes properties too,
    but help lists these apart from the methods.)
    """

    __slots__ = ("__dict__", "__wrapped__", "_hear", "_is_of_any", "_others", "_then")

    def __init__(self, original: Any, hear: Hear, then: Then | None = None, *, is_of_any: bool = False) -> None:
        self.__wrapped__ = original
        self._hear, self._then = hear, then
        self._is_of_any = is_of_any
        self._others: dict[Callable[[], bool], Hear] = {}
        # A class has both itself, so __getattr__ is not asked for them.
        self.__dict__.update(__doc__=original.__doc__, __module__=original.__module__)

    @property  # type: ignore[misc] # it is not assigned to
    def __class__(self) -> Any:
        return type(self.__wrapped__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    def __get__(self, made: Any, owner: type | None = None) -> Any:
        if made is None or isinstance(made, type) or id(made) in _under_construction.get():
            return self.__wrapped__.__get__(made, owner)
        if not self._is_of_any and _constructors(type(made))[0] is not self:  # called by one that is not heard
            return self.__wrapped__.__get__(made, owner)
        return functools.partial(self._make, made)

    def hear_too(self, where: Callable[[], bool], hear: Hear) -> None:
        """Let another one hear of the calls that are its own."""
        if hear is not self._hear:
            self._others[where] = hear

    def _make(self, made: Any, /, *args: Any, **kwargs: Any) -> None:
        token = _under_construction.set({**_under_construction.get(), id(made): type(made)})
        try:
            hear = next((hear for where, hear in self._others.items() if where()), self._hear)
            args, kwargs = hear(made, args, kwargs)
            self.__wrapped__(made, *args, **kwargs)
        finally:
            _under_construction.reset(token)
        if self._then is not None:
            self._then(made)


def hear_calls(
    root: type,
    hear: Hear,
    *,
    of: Callable[[type], bool] | None = None,
    where: Callable[[], bool] | None = None,
    then: Then | None = None,
) -> None:
    """Hear of each constructor call of a class and of its subclasses, those to come included.

    Of the constructors that call each other for one object it is the outermost one. Called again it takes those in
    that were given a constructor since, as `dataclasses.dataclass` does.

    Args:
        root: The class.
        hear: Called before the constructor runs. Of several for one class the first counts.
        of: Which of these classes are heard, ``None`` for all.
        where: Says of a call that begins whether it is this one's, also where another one hears of the class already.
        then: Called with each object when its constructor has returned.
    """

    def replace(cls: type) -> None:
        if of is None or of(cls):
            _replace(cls, hear, then)
            heard = vars(cls).get("__init__")
            if where is not None and type(heard) is _Heard:
                heard.hear_too(where, hear)

    if root not in _followed:  # the first time
        _followed.add(root)
        follow_subclasses(root, replace)
    for cls in subclasses(root):
        replace(cls)


def hear_own_calls(cls: type, hear: Hear) -> None:
    """Hear of each call of a class's constructor, also by one of a subclass; subclasses are left alone.

    Args:
        cls: The class, with a constructor of its own.
        hear: Called before the constructor runs.
    """
    if type(vars(cls)["__init__"]) is not _Heard:
        put(cls, "__init__", _Heard(vars(cls)["__init__"], hear, is_of_any=True))


def hear_one(cls: type, hear: Hear) -> bool:
    """Hear of each constructor call of a class that is no framework's, and of subclasses without a constructor.

    Args:
        cls: The class, with a constructor of its own.
        hear: Called before the constructor runs.

    Returns:
        Whether it is heard from now on.
    """
    own = vars(cls)["__init__"]
    if type(own) is types.FunctionType:
        put(cls, "__init__", _Heard(own, hear))
    return type(own) in (types.FunctionType, _Heard)


def _replace(cls: type, hear: Hear, then: Then | None) -> None:
    own = vars(cls).get("__init__")
    if own is None and _is_of_a_mixin(cls):
        own = cls.__init__  # type: ignore[misc] # it is what an object of the class is made with
    if type(own) is types.FunctionType:
        put(cls, "__init__", _Heard(own, hear, then))


def _is_of_a_mixin(cls: type) -> bool:
    """Whether the constructor of a class is none that is heard, though one further up is."""
    first, *others = _constructors(cls)
    return type(first) is not _Heard and any(type(one) is _Heard for one in others)


def _constructors(cls: type) -> list[Any]:
    return [vars(each)["__init__"] for each in cls.__mro__ if "__init__" in vars(each)]


def subclasses(root: type) -> Iterator[type]:
    """A class and all that derive from it, each once."""
    todo, seen = [root], {root}
    while todo:
        cls = todo.pop()
        below: list[type] = type.__subclasses__(cls)  # type itself has no method for it
        new = [each for each in below if each not in seen]
        seen.update(new)
        todo += new
        yield cls


def follow_subclasses(root: type, action: Callable[[type], None]) -> Callable[[], None]:
    """Do something with each subclass that is made from now on.

    Args:
        root: The class.
        action: What is done with the new class.

    Returns:
        Ends it.
    """
    before = vars(root).get("__init_subclass__")

    def __init_subclass__(cls: type, /, **kwargs: Any) -> None:  # noqa: N807 - it stands for one
        # super() with arguments, since this is no method of the class as it was written
        go_on: Any = super(cast("Any", root), cast("Any", cls)).__init_subclass__
        (go_on if before is None else before.__get__(None, cls))(**kwargs)
        action(cls)

    return put(root, "__init_subclass__", classmethod(__init_subclass__))
