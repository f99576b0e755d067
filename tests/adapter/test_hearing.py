"""Constructor calls that are heard, and classes that look as before."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import pydoc
import threading
from typing import Any

import cloudpickle
import pytest

from tunehook.adapter.hearing import follow_subclasses, hear_calls, hear_own_calls, subclasses


class Heard:
    """What was heard, by the name of the class."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self.calls.append((type(made).__name__, args, dict(kwargs)))
        return args, kwargs


@pytest.fixture
def heard() -> Heard:
    """An empty list of calls."""
    return Heard()


@pytest.fixture
def base(heard: Heard) -> Any:
    """A class whose constructors, and those of its subclasses, are heard."""

    class Base:
        def __init__(self, width: int = 1) -> None:
            """Make one of a width."""
            self.width = width
            self.frames = [frame.function for frame in inspect.stack()[1:4]]

    hear_calls(Base, heard)
    return Base


def test_only_the_outermost_call_is_heard(base: Any, heard: Heard) -> None:
    """Once an object, with its own arguments; no frame of ours stands between the constructors."""

    class Middle(base):  # type: ignore[misc]
        def __init__(self, depth: int, **rest: Any) -> None:
            super().__init__(**rest)
            self.depth = depth

    class Top(Middle):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            Middle.__init__(self, *args, **kwargs)

    made = Top(2, width=3)
    assert (made.depth, made.width) == (2, 3)
    assert made.frames[:2] == ["__init__", "__init__"]
    assert heard.calls == [("Top", (2,), {"width": 3})]
    base()
    assert heard.calls[1:] == [("Base", (), {})]


def test_objects_that_are_made_within_are_heard_too(base: Any, heard: Heard) -> None:
    """A constructor that makes another object of such a class is two calls."""

    class Outer(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.inner = base(5)
            super().__init__(6)

    made = Outer()
    assert (made.width, made.inner.width) == (6, 5)
    assert heard.calls == [("Outer", (), {}), ("Base", (5,), {})]


def test_a_constructor_that_raises_leaves_nothing_behind(base: Any, heard: Heard) -> None:
    """The next object is heard as ever, in other threads too."""

    class Fails(base):  # type: ignore[misc]
        def __init__(self) -> None:
            raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match=r"^no$"):
            Fails()
    thread = threading.Thread(target=base, args=(7,))
    thread.start()
    thread.join()
    assert heard.calls == [("Fails", (), {}), ("Fails", (), {}), ("Base", (7,), {})]


def test_a_constructor_from_a_mixin(base: Any, heard: Heard) -> None:
    """The mixin's own objects are not heard, and the mixin is left as it is."""

    class Mixin:
        def __init__(self, name: str = "") -> None:
            super().__init__()
            self.name = name

    before = dict(vars(Mixin))

    class Both(Mixin, base):  # type: ignore[misc]
        pass

    Mixin("a")
    assert Both("b").name == "b"
    assert heard.calls == [("Both", ("b",), {})]
    assert dict(vars(Mixin)) == before


def test_a_constructor_that_comes_after_the_class(base: Any, heard: Heard) -> None:
    """A dataclass gets its constructor later: it is heard from the next call of hear_calls on."""

    @dataclasses.dataclass
    class Data(base):  # type: ignore[misc]
        size: int = 4

        def __post_init__(self) -> None:
            super().__init__(self.size)

    assert Data(8).width == 8
    assert heard.calls == []
    hear_calls(base, heard)
    assert Data(9).width == 9
    assert heard.calls == [("Data", (9,), {})]


def test_calls_of_one_class_alone(heard: Heard) -> None:
    """Its constructor is heard also where a subclass calls it; subclasses are not touched."""

    class Base:
        def __init__(self, width: int = 1) -> None:
            self.width = width

    class Sub(Base):
        def __init__(self) -> None:
            super().__init__(width=2)

    hear_own_calls(Base, heard)
    hear_own_calls(Base, heard)
    Sub()
    Base(3)
    assert heard.calls == [("Sub", (), {"width": 2}), ("Base", (3,), {})]
    assert "__init_subclass__" not in vars(Base)


def test_the_class_looks_as_before(heard: Heard) -> None:
    """Signature, help, source and what a class keeps are those of the function itself."""

    class Base:
        def __init__(self, width: int, *, depth: float = 0.5) -> None:
            """Make one of a width."""

    def look() -> list[Any]:
        kept: Any = inspect.getattr_static(Base, "__init__")
        return [
            inspect.signature(Base), inspect.getfullargspec(Base.__init__), inspect.getsource(Base.__init__),
            Base.__init__, pydoc.render_doc(Base, renderer=pydoc.TextDoc()), inspect.isfunction(kept), kept.__doc__,
            kept.__module__, kept.__qualname__, inspect.signature(kept), inspect.getsource(kept),
        ]  # fmt: skip

    before = look()
    hear_own_calls(Base, heard)
    assert look() == before


class Kept:
    """A class that can be imported."""

    def __init__(self, width: int = 1) -> None:
        self.width = width


def test_pickles_know_nothing_of_it(heard: Heard) -> None:
    """By reference as before; by value the class keeps the plain function."""
    before = pickle.dumps([Kept, Kept(2)])
    plain = Kept.__init__
    hear_calls(Kept, heard)
    assert pickle.dumps([Kept, Kept(2)]) == before

    class Local:
        def __init__(self, width: int = 1) -> None:
            self.width = width

    hear_own_calls(Local, heard)
    loaded = pickle.loads(cloudpickle.dumps(Local))
    assert type(vars(loaded)["__init__"]) is type(plain)
    assert loaded(4).width == 4


def test_subclasses_are_followed_until_it_ends() -> None:
    """Also beside a hook of the class's own, which gets its arguments and comes back afterwards."""

    class Base:
        def __init_subclass__(cls, tag: str = "", **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            cls.tag = tag  # type: ignore[attr-defined]

    hook = vars(Base)["__init_subclass__"]
    seen: list[str] = []
    end = follow_subclasses(Base, lambda cls: seen.append(cls.__name__))

    class One(Base, tag="x"):
        pass

    end()

    class Two(One, tag="y"):
        pass

    assert seen == ["One"]
    assert (One.tag, Two.tag) == ("x", "y")  # type: ignore[attr-defined]
    assert vars(Base)["__init_subclass__"] is hook
    assert list(subclasses(Base)) == [Base, One, Two]


def test_another_one_hears_of_its_own_calls() -> None:
    """Two adapters may hear of one class, such as torch's loaders; the second has the calls that it claims."""

    class Loader:
        def __init__(self, size: int) -> None:
            self.size = size

    is_in_hook = False
    hear_calls(Loader, lambda _made, _args, kwargs: ((1,), kwargs))
    for _ in range(2):
        hear_calls(Loader, lambda _made, _args, kwargs: ((2,), kwargs), where=lambda: is_in_hook)
    assert Loader(0).size == 1
    is_in_hook = True
    assert Loader(0).size == 2
