"""Generators that live outside of a training function: a second call of it draws what the first one did."""

from __future__ import annotations

import functools
import importlib
import random
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunehook.inject import Again, Told, call_traced, outside
from tunehook.launch.one import forget_plans, with_values
from tunehook.trial import Trial

RANDOM, OLD, NEW = random.Random(1), np.random.RandomState(2), np.random.default_rng(3)
NUMBERS: Any = range(40)
LOADER: Any = torch.utils.data.DataLoader(NUMBERS, shuffle=True, generator=torch.Generator().manual_seed(4))


class Data:
    """A data set that draws, whose transforms do so too."""

    of_all = np.random.default_rng(5)

    def __init__(self) -> None:
        self.own = np.random.default_rng(6)
        self.transforms = [Transform()]

    def draw(self) -> list[float]:
        """Some numbers."""
        return [self.own.random(), self.of_all.random(), self.transforms[0].dice.random()]


class Transform:
    """Draws."""

    def __init__(self) -> None:
        self.dice = random.Random(7)


DATA = Data()


def _by_default(dice: Any = np.random.default_rng(8)) -> float:  # noqa: B008 - it is what is tested
    return float(dice.random())


def _closing_over(dice: Any) -> Callable[[], float]:
    return lambda: dice.random()


DRAWS: dict[str, Callable[[], Any]] = {
    "random": lambda: RANDOM.random(),
    "numpy, old": lambda: OLD.rand(),
    "numpy": lambda: NEW.random(),
    "torch": lambda: [int(each) for each in LOADER],
    "inner objects": lambda: DATA.draw(),
    "method": Data().draw,
    "default": _by_default,
    "closure": _closing_over(np.random.default_rng(9)),
    "partial": functools.partial(lambda dice: dice.random(), np.random.default_rng(10)),
}


def calls_of(draw: Callable[[], Any]) -> list[Any]:
    """What a training function draws, which is called once more."""
    drawn = list[Any]()

    def train() -> None:
        drawn.append(draw())
        if len(drawn) == 1:
            raise Again

    call_traced(train, dict, plan=None)
    return drawn


@pytest.mark.parametrize("name", DRAWS)
def test_a_second_call_draws_the_same(name: str) -> None:
    """Whatever holds the generator."""
    first, second = calls_of(DRAWS[name])
    assert first == second
    assert DRAWS[name]() != second


def test_a_module_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that it imports; a library's own are left alone."""
    mine, library = types.ModuleType("mine"), types.ModuleType("library")
    for module, file in ((mine, "/home/me/mine.py"), (library, "/env/site-packages/library.py")):
        vars(module).update(__file__=file, dice=np.random.default_rng(11))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    mine_drawn = calls_of(lambda: sys.modules["mine"].dice.random())
    library_drawn = calls_of(lambda: sys.modules["library"].dice.random())
    assert mine_drawn[0] == mine_drawn[1]
    assert library_drawn[0] != library_drawn[1]


def test_a_rank_that_hears_of_its_trial_in_its_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It draws the same once it knows the trial."""
    monkeypatch.setattr("tunehook.launch.one.learn", lambda _: None)
    dice, drawn = np.random.default_rng(12), list[float]()

    def train() -> None:
        drawn.append(dice.random())
        if len(drawn) == 1:
            raise Told(Trial("digits", 0, {}, tmp_path, "loss", "min"))

    forget_plans(has_ranks_from_outside=True)
    with_values(train, None)
    assert drawn[0] == drawn[1]


def test_data_are_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of values are no place for generators, and to look at all of them would take seconds in each trial."""
    rows, dice = [[number] for number in range(200)], random.Random(9)

    def train() -> float:
        return dice.random() + len(rows)

    for most, is_put_back in ((150, False), (100_000, True)):
        monkeypatch.setattr(outside, "_ALL", most)
        begin_again = outside.random_numbers_of(train)
        first = train()
        begin_again()
        assert (train() == first) == is_put_back


def test_what_belongs_to_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function and a class that were made by `exec` say no module, or none that exists."""
    names: dict[str, Any] = {"__name__": None, "dice": random.Random(11)}
    exec("def train(dice=dice): return dice.random()\nclass Made: draw = train", names)  # noqa: S102
    assert names["train"].__module__ is None
    begin_again = outside.random_numbers_of(lambda: (names["train"](), names["Made"]))
    first = names["train"]()
    begin_again()
    assert names["train"]() == first


def test_modules_that_draw_are_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With those that use them, under all their names; others stay, and so does what a package has beside them."""
    package = tmp_path / "drawing_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "dice.py").write_text("import random\nDICE = random.Random(1)\nclass Data: pass\n")
    (package / "user.py").write_text("from drawing_package.dice import Data\n")
    (package / "user_of_user.py").write_text("from drawing_package import user\n")
    (package / "other.py").write_text("import random\nNUMBER = random.random()\n")
    monkeypatch.syspath_prepend(tmp_path)
    names = ["dice", "user", "user_of_user", "other"]
    before = {name: importlib.import_module(f"drawing_package.{name}") for name in names}
    monkeypatch.setitem(sys.modules, "another_name", before["dice"])
    mine = {module for module in outside._modules() if module.__name__.startswith("drawing_package")}
    monkeypatch.setattr(outside, "_modules", lambda: iter(mine))
    outside.forget_modules_that_draw()
    assert "another_name" not in sys.modules
    after = {name: importlib.import_module(f"drawing_package.{name}") for name in names}
    assert {name for name in names if after[name] is before[name]} == {"other"}
    assert after["user"].Data is after["dice"].Data
    for name in [name for name in sys.modules if name.startswith("drawing_package")]:
        del sys.modules[name]
