"""Hyperparameters as numbers and back."""

from __future__ import annotations

import numpy as np
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tunehook.search.columns import Columns, column

ALL: dict[str, BaseDistribution] = {
    "float": FloatDistribution(-3.0, 5.0),
    "float log": FloatDistribution(1e-6, 1e3, log=True),
    "float step": FloatDistribution(0.1, 0.7, step=0.1),
    "fine step": FloatDistribution(0.0, 1.0, step=1e-7),
    "int": IntDistribution(-2, 9),
    "int step": IntDistribution(8, 128, step=8),
    "int log": IntDistribution(1, 512, log=True),
    "wide": IntDistribution(0, 2**53),
    "wide log": IntDistribution(1, 2**53, log=True),
    "numbers": CategoricalDistribution([128, 0.5, 32]),
    "texts": CategoricalDistribution(["adam", "sgd", None]),
    "alike": CategoricalDistribution([1, "1", 1.5, None]),
}


@pytest.mark.parametrize("name", ALL)
def test_drawn_and_changed_values_come_back(name: str) -> None:
    """Each number stands for a value of the distribution, which comes back from its own number as it is."""
    distribution, dice = ALL[name], np.random.default_rng(1)
    one = column(distribution)
    drawn = one.draw(200, dice)
    for numbers in (drawn, one.change(drawn, np.full(200, 0.1), dice)):
        for number in numbers:
            value = one.decode(number)
            assert distribution._contains(distribution.to_internal_repr(value))
            assert one.decode(one.encode(value)) == value


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("float", "float log", "fine step")])
def test_a_change_changes_levels(name: str) -> None:
    """However small the step, a value with neighbours becomes another one; those at an end may stay."""
    one, dice = column(ALL[name]), np.random.default_rng(2)
    if name.startswith("wide"):
        return
    drawn = one.draw(500, dice)
    changed = one.change(drawn, np.full(500, 1e-9), dice)
    if one.is_category:
        assert (changed != drawn).all()
    else:
        inside = (drawn > 0) & (drawn < 1)
        assert (changed[inside] != drawn[inside]).all()


def test_levels_are_drawn_alike() -> None:
    """Each of a few whole numbers as often, and on a logarithmic scale each decade as often."""
    dice = np.random.default_rng(3)
    one = column(IntDistribution(1, 4))
    _, counts = np.unique(one.draw(8_000, dice), return_counts=True)
    assert counts == pytest.approx(2_000, rel=0.1)
    logarithmic = column(IntDistribution(1, 999, log=True))
    values = np.array([logarithmic.decode(number) for number in logarithmic.draw(6_000, dice)])
    decades = [np.mean((values >= low) & (values < 10 * low)) for low in (1, 10, 100)]
    assert decades == pytest.approx([1 / 3 + 0.06, 1 / 3 - 0.03, 1 / 3 - 0.03], abs=0.04)  # 1 reaches down to 0.5


def test_numeric_choices_have_their_order() -> None:
    """The largest is farthest from the smallest, wherever it stands in the list; texts have no order."""
    one = column(ALL["numbers"])
    assert [one.encode(value) for value in (0.5, 32, 128)] == [0.0, 0.5, 1.0]
    assert column(ALL["texts"]).is_category
    assert column(ALL["alike"]).is_category


def test_rows_differ_in_a_dimension_at_least() -> None:
    """A changed row is another one, and as many dimensions change as is asked for."""
    columns = Columns({f"x{at}": CategoricalDistribution(["a", "b", "c"]) for at in range(10)})
    dice = np.random.default_rng(4)
    rows = columns.draw(1_000, dice)
    changed = columns.change(rows, np.full(1_000, 0.1), 0.2, dice)
    differing = (changed != rows).sum(1)
    assert differing.min() >= 1
    assert differing.mean() == pytest.approx(1 + 9 * 0.2, abs=0.2)
