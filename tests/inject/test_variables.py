"""Which variables of a script a value passes by."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from tunehook.inject.variables import Typed, other_uses

CASES = {
    "taker(epochs)\ntaker(2)": None,
    "taker(size=epochs)": None,
    "taker(3)\nprint(epochs)": None,
    "taker(epochs)\nprint(epochs * 2)": ("epochs", ["4"]),
    "print(epochs)\ntaker(epochs)": ("epochs", ["3"]),
    "taker(size=epochs)\n[epochs for _ in (1, 2)]": ("epochs", ["4"]),
    "taker(epochs); print(f'{epochs}')": ("epochs", ["3"]),
    "taker(args.epochs)\nprint(args.epochs)": ("args.epochs", ["4"]),
    "taker(args.epochs)\nprint(args.other)": None,
    "taker(table['epochs'])\nprint(table['epochs'], table['x'])": ("table['epochs']", ["4"]),
    "taker(*[epochs])\nprint(epochs)": None,
    "taker(epochs + 1)\nprint(epochs)": None,
    "taker(epochs)\nprint(args.epochs, 'epochs')": None,
    "size = 1\ntaker(size=size, **{**{'x': 1}})": None,
    "table['wide'] = 4 * table['size']\ntaker(**table)": ("table['size']", ["3"]),
    "taker(**vars(args))\nprint(args.size)": ("args.size", ["4"]),
    "other = lambda args: vars(args)\ntaker(**other(args))\nprint(args.size)": None,
    "taker(**table)\ntable['size'] = 1\nprint(table['x'])": None,
    "taker(**table, **dict(args))\nprint(table['size'])": None,
    "taker(**{'x': 1, 'size': epochs})\nprint(epochs)": ("epochs", ["4"]),
}


@pytest.mark.parametrize("text", CASES)
def test_uses_besides_the_argument(text: str, tmp_path: Path) -> None:
    """Those of the same variable in the same function, or of the same entry in the file, by line."""
    file = tmp_path / "script.py"
    lines = "\n".join(f"    {line}" for line in text.splitlines())
    file.write_text(f"def train(taker, epochs, args, table):\n    print\n{lines}\n")
    given: list[Typed] = []

    def taker(*_: Any, **__: Any) -> None:
        caller = sys._getframe(1)
        given.append(Typed(caller.f_code, caller.f_lasti, "size", 0))

    class Args:
        epochs = other = 1

        def __init__(self) -> None:
            self.size = 3

        def keys(self) -> list[str]:
            return []

    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)  # noqa: S102
    names["train"](taker, 3, Args(), {"epochs": 3, "x": 1, "size": 3})
    assert other_uses(given[:1]) == CASES[text]


@pytest.mark.parametrize(
    ("text", "lines"),
    [("args.epochs", ["3"]), ("args['epochs']", ["3"]), ("args.other", []), ("args.epochs.x, args", ["3"])],
)
def test_an_entry_of_a_configuration_that_is_handed_over(text: str, lines: list[str], tmp_path: Path) -> None:
    """The object takes a copy with the value, and what else reads the entry has its own."""
    file = tmp_path / "script.py"
    file.write_text(f"def train(taker, args):\n    taker(args)\n    lambda: ({text})\n")
    given: list[Typed] = []

    def taker(*_: Any) -> None:
        caller = sys._getframe(1)
        given.append(Typed(caller.f_code, caller.f_lasti, "config", 0, "epochs"))

    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)  # noqa: S102
    names["train"](taker, {})
    entry = "args['epochs']" if "[" in text else "args.epochs"
    assert other_uses(given) == ((entry, lines) if lines else None)


def test_a_variable_that_a_function_makes(tmp_path: Path) -> None:
    """Another function's variable of its name is another one."""
    file = tmp_path / "script.py"
    other = "def other(own):\n    print(own.size)\n"
    file.write_text(f"def train(taker, given):\n    own = given\n    taker(own.size)\n{other}")
    given: list[Typed] = []

    def taker(*_: Any) -> None:
        caller = sys._getframe(1)
        given.append(Typed(caller.f_code, caller.f_lasti, "size", 0))

    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)  # noqa: S102
    names["train"](taker, type("Config", (), {"size": 3}))
    assert other_uses(given) is None


def test_two_takers_of_one_variable(tmp_path: Path) -> None:
    """Both take the value, so neither is told of the other."""
    file = tmp_path / "script.py"
    file.write_text("def train(taker, size):\n    taker(size)\n    taker(size=size)\n")
    given: list[Typed] = []

    def taker(*_: Any, **__: Any) -> None:
        caller = sys._getframe(1)
        given.append(Typed(caller.f_code, caller.f_lasti, "size", 0))

    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)  # noqa: S102
    names["train"](taker, 3)
    assert other_uses(given) is None
    assert other_uses(given[:1]) == ("size", ["3"])


CALLERS = {
    "steps = epochs * 9\n    hand_on(taker, epochs)": ("epochs", ["11"]),
    "hand_on(taker, size=epochs)\n    print(epochs)": ("epochs", ["12"]),
    "hand_on(taker, epochs)": None,
    "hand_on(taker, 2 * epochs)\n    print(epochs)": None,
    "by_keywords(taker, size=args.epochs)\n    print(args.epochs)": ("args.epochs", ["12"]),
    "twice(taker, epochs)\n    print(epochs)": ("epochs", ["12"]),
    "over(taker, size=epochs)\n    print(epochs)": ("epochs", ["12"]),
    "Taking().method(taker, epochs)\n    print(epochs)": ("epochs", ["12"]),
    "changes(taker, epochs)\n    print(epochs)": ("size", ["6"]),
}
HANDING_ON = """def hand_on(taker, size=1): taker(size)
def by_keywords(taker, **kwargs): taker(**kwargs)
def twice(first, count): hand_on(first, size=count)
class Taking:
    def method(self, taker, size): taker(size)
def changes(taker, size): size = size + 1; taker(size)
def over(taker, **kwargs): taker(**{'size': 1, **kwargs})
#
#
def train(taker, epochs, args):
"""


def _typed(file: str, position: int) -> Typed:
    """What the script of a file types in as the size of the call that is made now."""
    frame, route = sys._getframe(2), list[tuple[types.CodeType, int]]()
    while frame.f_code.co_filename == file and frame.f_back:
        route.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return Typed(*route[0], "size", position, "", tuple(route[1:]))


@pytest.mark.parametrize("text", CALLERS)
def test_a_parameter_is_followed_to_the_callers(text: str, tmp_path: Path) -> None:
    """What a function hands on is a variable of its caller's, unless the function computes it."""
    file = tmp_path / "script.py"
    file.write_text(f"{HANDING_ON}    {text}\n")
    given: list[Typed] = []

    def taker(*_: Any, **__: Any) -> None:
        given.append(_typed(str(file), 0))

    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)  # noqa: S102
    names["train"](taker, 3, types.SimpleNamespace(epochs=3))
    assert other_uses(given) == CALLERS[text]


BUILDERS = {
    "taker(**make(4))": ("made['size']", ["3"]),
    "made = make(4)\n    taker(**made)": ("made['size']", ["3"]),
    "hand_on(taker, config=make(1))": ("made['size']", ["3"]),
    "taker(**make_by_variable())": ("wide", ["6"]),
    "taker(**vars(make_namespace()))": ("made.size", ["9"]),
    "taker(**make_alone())": None,
    "taker(**other_builder.make())": ("size", ["1 of other_builder.py"]),
    "taker(**dict(size=3))": None,
    "known = {'size': 3}\n    taker(**known)": None,
}
BUILDING = """import other_builder, types
def make(size):
    made = {'size': 4}; made['wide'] = 4 * made['size']; return made
def make_by_variable():
    wide = 3
    return {'size': wide, 'x': wide + 1}
def make_namespace():
    made = types.SimpleNamespace(size=3)
    made.wide = made.size
    return made
def make_alone():
    return {'size': 3, 'wide': 4}
def hand_on(taker, config):
    taker(**config)
def train(taker):
"""


@pytest.mark.parametrize("text", BUILDERS)
def test_what_a_function_derives_from_an_entry(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function that makes a configuration, where the script says which, also in another file."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "other_builder.py").write_text("def make(size=3): return {'size': size, 'wide': 4 * size}\n")
    (tmp_path / "builders.py").write_text(f"{BUILDING}    {text}\n")
    given: list[Typed] = []

    def taker(**_: Any) -> None:
        given.append(_typed(str(tmp_path / "builders.py"), -1))

    try:
        importlib.import_module("builders").train(taker)
        assert other_uses(given) == BUILDERS[text]
    finally:
        sys.modules.pop("builders", None)
        sys.modules.pop("other_builder", None)
