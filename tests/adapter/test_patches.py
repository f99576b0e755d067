"""What is put over other people's functions, classes and objects, and taken back."""

from __future__ import annotations

import gc
import inspect
import types
from typing import Any

from tunehook.adapter.patches import Patches, live, put, put_once, stands_for


def ours() -> list[str]:
    """What of ours stands over things of this file."""
    return [name for name in live() if __name__ in name or name.startswith(("<", "module"))]


class Base:
    """Has a method."""

    def fit(self) -> str:
        """Train."""
        return "fit"


class Sub(Base):
    """Has none of its own."""


def test_everything_is_taken_back_in_reverse() -> None:
    """On classes, modules and objects; what the owner had not of its own is gone."""
    module: Any = types.ModuleType("module")
    made: Any = Sub()
    original = Base.fit
    patches = Patches()
    patches.put(Base, "fit", lambda _self: "one")
    patches.put(Base, "fit", lambda _self: "two")
    patches.put(Sub, "fit", lambda _self: "three")
    patches.put(module, "fit", "four")
    patches.put(made, "fit", "five")
    assert (Base().fit(), Sub().fit(), module.fit, made.fit) == ("two", "three", "four", "five")
    name = f"{__name__}.Base.fit"
    assert ours() == [name, name, f"{__name__}.Sub.fit", "module.fit", "<Sub>.fit"]
    patches.undo()
    patches.undo()
    assert Base.fit is original
    assert not vars(made)
    assert "fit" not in vars(Sub)
    assert not hasattr(module, "fit")
    assert ours() == []


def test_what_somebody_else_has_put_there_since_stays() -> None:
    """It would be lost else."""
    made: Any = Sub()
    with Patches() as patches:
        patches.put(made, "fit", 1)
        made.fit = 2
    assert made.fit == 2
    assert ours() == []


def test_one_is_taken_back_alone() -> None:
    """Also of an object whose class forbids to set attributes."""

    class Closed:
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    made: Any = Closed()
    undo = put(made, "fit", 1)
    assert made.fit == 1
    undo()
    undo()
    assert not vars(made)


def test_what_is_gone_is_not_live() -> None:
    """A class that a training function has defined is not kept for the list."""

    def define() -> None:
        class Gone:
            pass

        put(Gone, "fit", 1)
        assert ours() == [f"{__name__}.test_what_is_gone_is_not_live.<locals>.define.<locals>.Gone.fit"]

    define()
    gc.collect()
    assert ours() == []


def test_once() -> None:
    """A second call does nothing."""

    class Own:
        def fit(self, epochs: int = 1) -> int:
            """Train."""
            return epochs

    def doubled(fit: Any) -> Any:
        return lambda self, epochs=1: 2 * fit(self, epochs)

    put_once(Own, "fit", doubled)
    put_once(Own, "fit", doubled)
    assert Own().fit(3) == 6
    assert inspect.getdoc(Own.fit) == "Train."
    assert ours() == [f"{__name__}.test_once.<locals>.Own.fit"]


def test_a_function_that_stands_for_another() -> None:
    """It has the other one's signature, also for those who look through no wrapper."""

    def original(self: Any, width: int, *rest: Any, depth: float = 0.5) -> None:
        """Say something."""

    @stands_for(original)
    def other(*args: Any, **kwargs: Any) -> None:
        pass

    assert inspect.signature(other) == inspect.signature(original)
    assert inspect.getfullargspec(other) == inspect.getfullargspec(original)
    assert (other.__name__, other.__doc__) == ("original", "Say something.")
