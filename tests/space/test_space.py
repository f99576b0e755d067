"""Distributions and the space: rules, round trips, grids, descriptions."""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tunehook.search.samplers import make_sampler
from tunehook.space import Choice, Distribution, Fixed, Float, Int, LogNormal, Normal, SpaceError
from tunehook.space.space import GridExhausted, Space

MIXED = Space(
    {
        "lr": Float(1e-5, 1e-1, log=True),
        "dropout": Float(0.1, 0.5, step=0.1),
        "momentum": Float(0.1, 0.9, log=True, step=0.2),
        "layers": Int(1, 8),
        "hidden": Int(16, 256, log=True, step=16),
        "width": Int(1, 100, log=True),
        "act": Choice(["relu", "gelu", None]),
        "odd": Choice([1, True, 1.0, [1, 2], (1, 2), {"a": [1]}, "True"]),
        "wd": Normal(0, 2),
        "decay": LogNormal(-3, 1),
        "units": LogNormal(3, 1, step=8),
        "model.fixed": Fixed([1, {"a": (2, 3)}]),
    }
)

FLOAT, CHOICE = "Float takes a number for low, got ", "An option of Choice is None, a bool, int, float, str, or "
ERRORS: list[tuple[Any, str]] = [
    (lambda: Float(2, 1), "Float needs low < high, got low=2.0 and high=1.0: swap them."),
    (lambda: Float(1, 1), "Float needs low < high, got 1.0 for both: use a plain value for a constant."),
    (lambda: Float(math.nan, 1), "Float takes a finite number for low, got nan."),
    (lambda: Float(0, math.inf), "Float takes a finite number for high, got inf."),
    (lambda: Float(0, 10**400), "Float takes a finite number for high, got 1" + 400 * "0" + "."),
    (lambda: Float(-1.7e308, 0), "Float takes a number between -1e300 and 1e300 for low, got -1.7e+308."),
    (lambda: Float(0, 5e-324), "Float needs high - low of at least 1e-300, got low=0.0 and high=5e-324."),
    (lambda: Float(5e-324, 1, log=True), "Float with log=True needs low of at least 1e-300, got low=5e-324."),
    (lambda: Normal(0, 1e308), "Normal takes a number between -1e300 and 1e300 for sigma, got 1e+308."),
    (lambda: Normal(0, 5e-324), "Normal needs a sigma of at least 1e-300, got sigma=5e-324."),
    (
        lambda: Normal(0, 1e300, step=1e-5),
        "Normal has more than 2**53 values, got step=1e-05 for values up to 5e+300.",
    ),
    (
        lambda: LogNormal(600, 10, step=1),
        "LogNormal has more than 2**53 values, got step=1 for values up to 1.956199921370272e+282.",
    ),
    (lambda: Float("0", 1), FLOAT + "'0' (str)."),  # type: ignore[arg-type]
    (lambda: Float(True, 2), FLOAT + "True (bool)."),
    (lambda: Float(0, 1, log=1), "Float takes True or False for log, got log=1."),  # type: ignore[arg-type]
    (
        lambda: Float(0, 1, log=True),
        "Float with log=True needs low > 0, got low=0.0: raise it, or leave out log (0 has no logarithm).",
    ),
    (
        lambda: Float(0, 1, step=0.3),
        (
            "Float needs high - low to be a multiple of step, got step=0.3 for 0.0 to 1.0: "
            "the last value would be 0.9, so use that for high."
        ),
    ),
    (lambda: Float(0, 1, step=-0.1), "Float needs step > 0, got step=-0.1."),
    (lambda: Float(0, 1, step=0), "Float needs step > 0, got step=0.0."),
    (lambda: Float(0, 1, step=2), "Float needs a step within its range, got step=2.0 for 0.0 to 1.0."),
    (lambda: Float(0, 1, step=1e-300), "Float has more than 2**53 values, got step=1e-300 for 0.0 to 1.0."),
    (lambda: Float(0, 1, step=math.nan), "Float takes a finite number for step, got nan."),
    (
        lambda: Int(1.0, 2),  # type: ignore[arg-type]
        (
            "Int takes a whole number for low, got 1.0 (float): "
            "use Float for other numbers, Choice([True, False]) for a switch."
        ),
    ),
    (
        lambda: Int(False, True),
        (
            "Int takes a whole number for low, got False (bool): "
            "use Float for other numbers, Choice([True, False]) for a switch."
        ),
    ),
    (lambda: Int(0, 2**60), "Int takes numbers up to 2**53 for high, got 1152921504606846976."),
    (lambda: Int(5, 2), "Int needs low < high, got low=5 and high=2: swap them."),
    (
        lambda: Int(0, 2, log=True),
        "Int with log=True needs low > 0, got low=0: raise it, or leave out log (0 has no logarithm).",
    ),
    (
        lambda: Int(1, 10, step=4),
        (
            "Int needs high - low to be a multiple of step, got step=4 for 1 to 10: "
            "the last value would be 9, so use that for high."
        ),
    ),
    (lambda: Int(1, 10, step=0), "Int needs step > 0, got step=0."),
    (lambda: Choice([]), "Choice needs at least one option, got an empty list."),
    (lambda: Choice("abc"), "Choice takes a list of options, got 'abc': write Choice([...])."),
    (lambda: Choice({1, 2}), "Choice takes a list of options, got {1, 2}: write Choice([...])."),  # type: ignore[arg-type]
    (lambda: Choice([1, 2, 1]), "Choice has the option 1 twice: remove one of them."),
    (
        lambda: Choice([{"a": 1, "b": 2}, {"b": 2, "a": 1}]),
        "Choice has the option {'b': 2, 'a': 1} twice: remove one of them.",
    ),
    (
        lambda: Choice([np.int64(1)]),
        CHOICE + "a list, tuple or dict of them, got np.int64(1) (int64): give its name or its .item() instead.",
    ),
    (
        lambda: Choice([[print]]),
        CHOICE + "a list, tuple or dict of them, got <built-in function print> "
        "(builtin_function_or_method): give its name or its .item() instead.",
    ),
    (
        lambda: Choice([math.nan]),
        "An option of Choice must be a finite number, got nan: write it as text, or leave it out.",
    ),
    (lambda: Normal(0, 0), "Normal needs sigma > 0, got sigma=0.0: use a plain value for a constant."),
    (lambda: LogNormal(0, -1), "LogNormal needs sigma > 0, got sigma=-1.0: use a plain value for a constant."),
    (lambda: Normal(None, 1), "Normal takes a number for mu, got None (NoneType)."),  # type: ignore[arg-type]
    (
        lambda: Normal(1e7, 1),
        (
            "Normal needs a sigma of at least a millionth of mu, got Normal(10000000.0, 1.0): "
            "use Float for so narrow a range."
        ),
    ),
    (lambda: Normal(0, 1, step=0), "Normal needs step > 0, got step=0: leave it out for any number."),
    (
        lambda: LogNormal(1000, 1),
        (
            "LogNormal needs mu - 5 sigma and mu + 5 sigma between -700 and 700, got LogNormal(1000.0, 1.0): "
            "mu and sigma are those of the natural logarithm."
        ),
    ),
    (
        lambda: Fixed(math.inf),
        "A fixed value must be a finite number, got inf: write it as text, or leave it out.",
    ),
    (lambda: Space({}), "A space needs at least one hyperparameter, got an empty dict."),
    (lambda: Space([]), "A space is a dict of distributions by name, got []."),  # type: ignore[arg-type]
    (
        lambda: Space({"a b": 1}),
        "A hyperparameter's name has letters, digits, '_', '.', '-', and '*' where it is a pattern; got 'a b'.",
    ),
    (
        lambda: Space({"lr": FloatDistribution(0, 1)}),
        (
            "Hyperparameter 'lr' is FloatDistribution(high=1.0, log=False, low=0.0, step=None), "
            "neither a plain value nor one of Float, Int, Choice, Normal, LogNormal, Fixed."
        ),
    ),
    (
        lambda: Space({"bs": [32, 64]}),
        (
            "Hyperparameter 'bs' is [32, 64]: write Choice([32, 64]) to choose among them, Float(low, high) or "
            "Int(low, high) for a range, or Fixed([32, 64]) for one value."
        ),
    ),
    (
        lambda: Space({"lr": (1e-4, 1e-1)}),
        (
            "Hyperparameter 'lr' is (0.0001, 0.1): write Choice([0.0001, 0.1]) to choose among them, Float(low, high) "
            "or Int(low, high) for a range, or Fixed((0.0001, 0.1)) for one value."
        ),
    ),
    (
        lambda: Space({"n": range(1, 100)}),
        (
            "Hyperparameter 'n' is range(1, 100): write Choice([...]) to choose among them, Float(low, high) or "
            "Int(low, high) for a range."
        ),
    ),
    (
        lambda: Space({"lr": {"min": 1, "max": 2}}),
        (
            "Hyperparameter 'lr' is {'min': 1, 'max': 2}: write Float(...), Int(...) or Choice([...]) for a search, or "
            "Fixed({'min': 1, 'max': 2}) for one value."
        ),
    ),
    (
        lambda: Space.from_description({"lr": {"kind": "Beta"}}),
        "The description of 'lr' has the kind 'Beta', known are Float, Int, Choice, Normal, LogNormal, Fixed.",
    ),
]


@pytest.mark.parametrize(("make", "message"), ERRORS, ids=[message[:50] for _, message in ERRORS])
def test_constructors_state_the_rule(make: Any, message: str) -> None:
    """Each broken rule is told with what was given and the way out."""
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        make()


def test_options_are_named() -> None:
    """What comes behind the bounds cannot be given by position."""
    with pytest.raises(TypeError, match="positional"):
        Float(1, 2, True)  # type: ignore[call-arg]


def sampled(space: Space, seed: int, trials: int = 1) -> list[dict[str, Any]]:
    """Raw values of random trials."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask(space.distributions()).params for _ in range(trials)]


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_samples_are_inside_and_come_back(seed: int) -> None:
    """Whatever is sampled is encoded and decoded to itself, in the order of the space."""
    values = MIXED.decode(sampled(MIXED, seed)[0])
    assert list(values) == MIXED.names
    again = MIXED.decode(MIXED.encode(values))
    assert again == values
    assert [type(value) for value in again.values()] == [type(value) for value in values.values()]
    assert 1e-5 <= values["lr"] <= 1e-1
    assert values["dropout"] in (0.1, 0.2, 0.3, 0.4, 0.5)
    assert values["momentum"] in (0.1, 0.3, 0.5, 0.7, 0.9)
    assert values["hidden"] in range(16, 257, 16)
    assert abs(values["wd"]) <= 10
    assert values["units"] % 8 == 0


@settings(deadline=None)
@given(st.data())
def test_values_of_the_user_come_back(data: st.DataObject) -> None:
    """Any value inside is encoded for Optuna, inside its distribution, and decoded to itself."""
    low = data.draw(st.floats(1e-6, 1e3))
    high = data.draw(st.floats(low * 1.01, 1e6))
    value = data.draw(st.floats(low, high))
    first, step = data.draw(st.integers(1, 10**6)), data.draw(st.integers(1, 1000))
    last = first + step * data.draw(st.integers(1, 1000))
    log = data.draw(st.booleans())
    whole = first + step * data.draw(st.integers(0, (last - first) // step))
    pairs: list[tuple[Distribution, Any]] = [(Float(low, high, log=log), value), (Int(first, last, step=step), whole)]
    pairs.append((Int(first, last, log=log, step=step), whole))
    pairs.append((Float(first / 1000, last / 1000, log=log, step=step / 1000), whole / 1000))
    for distribution, wanted in pairs:
        raw = distribution.encode(wanted)
        made = distribution.distribution()
        assert made is not None
        assert made._contains(made.to_internal_repr(raw))
        assert distribution.decode(raw) == wanted
        assert type(distribution.decode(raw)) is type(wanted)


def test_a_step_of_one_on_a_logarithmic_scale_of_floats() -> None:
    """It is a step as any other: Optuna has none there, so values between are rounded."""
    distribution = Float(1.0, 3.0, log=True, step=1.0)
    made = distribution.distribution()
    assert made is not None
    assert [distribution.decode(raw) for raw in (1.0, 1.4, 1.6, 3.4)] == [1.0, 1.0, 2.0, 3.0]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 0.5]) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner) | st.dictionaries(st.text("ab", max_size=1), inner),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.lists(plain, min_size=1, max_size=8, unique_by=repr))
def test_any_plain_options_come_back(options: list[Any]) -> None:
    """Options keep their types through Optuna's storage format, whatever equals whatever."""
    try:
        choice = Choice(options)
    except SpaceError:  # dicts that differ in their order only
        return
    made = choice.distribution()
    assert isinstance(made, CategoricalDistribution)
    stored = optuna.distributions.json_to_distribution(optuna.distributions.distribution_to_json(made))
    for option in options:
        raw = stored.to_external_repr(stored.to_internal_repr(choice.encode(option)))
        assert repr(choice.decode(raw)) == repr(option)


def test_mutable_options_are_fresh() -> None:
    """A trial that changes its list does not change the next one's, nor does the user's list change the space."""
    mine = [0.9, 0.99]
    space = Space({"betas": Choice([mine, [0.8, 0.9]]), "fixed": Fixed(mine)})
    mine.append(1.0)
    raw = space.encode({"betas": [0.9, 0.99]})
    for name in ("betas", "fixed"):
        space.decode(raw)[name].append(5)
        assert space.decode(raw)[name] == [0.9, 0.99]


def test_long_options_have_short_labels() -> None:
    """Two long lists that begin alike stay apart."""
    choice = Choice([list(range(1000)), [*range(999), 0]])
    labels = [choice.encode(option) for option in choice.options]
    assert max(map(len, labels)) < 80
    assert [choice.decode(label) for label in labels] == list(choice.options)


def test_what_optuna_is_given() -> None:
    """Ints and floats map directly, also choices that Optuna keeps apart; fixed values are left out."""
    made = MIXED.distributions()
    assert made["lr"] == FloatDistribution(1e-5, 1e-1, log=True)
    assert made["dropout"] == FloatDistribution(0.1, 0.5, step=0.1)
    assert made["layers"] == IntDistribution(1, 8)
    assert Int(1, 1000).distribution() == IntDistribution(1, 1000)
    assert Int(1, 1001).distribution() == FloatDistribution(0.5, 1001.5)
    assert Float(0, 1, step=2**-10).distribution() == FloatDistribution(-(2**-11), 1 + 2**-11)
    assert made["act"] == CategoricalDistribution(["relu", "gelu", None])
    assert made["odd"] == CategoricalDistribution(
        ["1", "True", "1.0", "[1, 2]", "(1, 2)", "{'a': [1]}", "'True'"]
    )  # fmt: skip
    assert "model.fixed" not in made


def test_log_steps_share_the_scale() -> None:
    """On a logarithmic grid the share of each value is that of its rounding interval, the ends included."""
    values = [params["x"] for params in map(Space({"x": Int(2, 8, log=True, step=2)}).decode, sampled(
        Space({"x": Int(2, 8, log=True, step=2)}), 0, 4000))]  # fmt: skip
    edges = np.log([4 / 3, 3, 5, 7, 9])
    for value, share in zip([2, 4, 6, 8], np.diff(edges) / (edges[-1] - edges[0]), strict=True):
        assert values.count(value) / 4000 == pytest.approx(share, abs=0.025)


@pytest.mark.parametrize("probability", [1e-6, 0.01, 0.3, 0.5, 0.9, 1 - 1e-6])
def test_quantiles(probability: float) -> None:
    """Raw values are probabilities: they decode to the quantiles of the distribution."""
    quantile = statistics.NormalDist(1.5, 2).inv_cdf(probability)
    assert Normal(1.5, 2).decode(probability) == pytest.approx(quantile, rel=1e-7, abs=1e-7)
    assert LogNormal(1.5, 2).decode(probability) == pytest.approx(math.exp(quantile), rel=5e-7)
    assert Normal(1.5, 2, step=0.25).decode(probability) == round(quantile / 0.25) * 0.25


def test_normal_samples_are_normal() -> None:
    """The largest distance to the cumulative distribution is that of a normal sample (Kolmogorov-Smirnov, 1 %)."""
    space = Space({"x": Normal(-2, 3), "y": LogNormal(-2, 3)})
    values = [space.decode(raw) for raw in sampled(space, 3, 2000)]
    for sample in ([v["x"] for v in values], [math.log(v["y"]) for v in values]):
        expected = [statistics.NormalDist(-2, 3).cdf(x) for x in sorted(sample)]
        assert max(abs(p - (i + 0.5) / 2000) for i, p in enumerate(expected)) < 1.63 / math.sqrt(2000)


@settings(deadline=None)
@given(st.floats(-100, 100), st.floats(1e-4, 100), st.floats(2.87e-7, 1 - 2.87e-7))
@example(0.3125, 72.0, 2.9e-07)
@example(100.0, 1e-4, 1 - 2.87e-07)
@example(0.0, 100.0, 1 - 2.87e-07)
def test_recorded_normal_values_can_be_asked_again(mu: float, sigma: float, probability: float) -> None:
    """What a normal distribution gave is encoded and decoded to the very same number, out in the tails too."""
    for distribution in (Normal(mu, sigma), LogNormal(mu, sigma), Normal(mu, sigma, step=0.5)):
        value = distribution.decode(probability)
        assert distribution.decode(distribution.encode(value)) == value


EXTREME = {
    "wide": Float(-1e300, 1e300),
    "log": Float(1e-300, 1e300, log=True),
    "tiny": Float(0, 1e-300),
    "neighbours": Float(1, math.nextafter(1, 2)),
    "log step": Float(1e299, 1e300, log=True, step=1e299),
    "tiny log step": Float(1e-200, 1e-199, log=True, step=1e-200),
    "int": Int(0, 2**53),
    "int step": Int(4, 4 + 4 * 2**40, log=True, step=4),
    "normal": Normal(1e300, 1e300),
    "narrow": Normal(0, 1e-300),
    "fine step": Normal(0, 1, step=1e-15),
    "log normal": LogNormal(0, 139, step=1e300),
}


@pytest.mark.parametrize("distribution", EXTREME.values(), ids=EXTREME)
@pytest.mark.parametrize("search", ["random", "tpe", "qmc"])
def test_extreme_spaces_give_finite_values(search: str, distribution: Distribution) -> None:
    """What a space admits is sampled without a warning, finite, and can be asked again."""
    space = Space({"x": distribution})
    study = optuna.create_study(sampler=make_sampler(search, space, seed=1, trials=12)[0])
    for number in range(12):
        asked = study.ask(space.distributions())
        values = space.decode(asked.params)
        assert math.isfinite(values["x"])
        assert space.decode(space.encode(values)) == values
        study.tell(asked, number % 5)


def test_many_options_are_checked_at_once() -> None:
    """A hundred thousand options are looked at once each."""
    assert Choice(range(100_000)).count == 100_000
    with pytest.raises(SpaceError, match=r"^Choice has the option 7 twice: remove one of them\.$"):
        Choice([*range(100_000), 7])


def test_whole_steps_give_ints() -> None:
    """A normal distribution that is rounded to whole numbers gives ints."""
    assert isinstance(LogNormal(4, 1, step=8).decode(0.5), int)
    assert isinstance(LogNormal(4, 1, step=8.0).decode(0.5), float)


OUTSIDE: list[tuple[Distribution, Any, str]] = [
    (Float(0, 1), 2, "2 is outside Float(0.0, 1.0): it is beyond the bounds."),
    (Float(0, 1), math.nan, "nan is outside Float(0.0, 1.0): it is beyond the bounds."),
    (Float(0, 1), "0.5", "'0.5' is outside Float(0.0, 1.0): it is not a number."),
    (
        Float(0, 1, step=0.5),
        0.4,
        "0.4 is outside Float(0.0, 1.0, step=0.5): it is no multiple of the step, the nearest is 0.5.",
    ),
    (Int(0, 9), 3.0, "3.0 is outside Int(0, 9): it is not a whole number."),
    (Int(0, 9), True, "True is outside Int(0, 9): it is not a whole number."),
    (Int(0, 9), 10, "10 is outside Int(0, 9): it is beyond the bounds."),
    (Int(0, 9, step=3), 4, "4 is outside Int(0, 9, step=3): it is no multiple of the step, the nearest is 3."),
    (Choice([1, 2]), 3, "3 is outside Choice([1, 2]): it is none of the options."),
    (Choice([1, 2]), True, "True is outside Choice([1, 2]): it is none of the options."),
    (
        Normal(0, 1),
        1 / 3,
        "0.3333333333333333 is outside Normal(0.0, 1.0): the nearest value that can be sampled is 0.33333333.",
    ),
    (Normal(0, 1, step=1), 9, "9 is outside Normal(0.0, 1.0, step=1): the nearest value that can be sampled is 5."),
    (Normal(0, 1), None, "None is outside Normal(0.0, 1.0): it is not a finite number."),
    (Normal(0, 1, step=1), math.nan, "nan is outside Normal(0.0, 1.0, step=1): it is not a finite number."),
    (LogNormal(0, 1), -1, "-1 is outside LogNormal(0.0, 1.0): the nearest value that can be sampled is 0.006737947."),
    (Fixed(3), 4, "4 is outside Fixed(3): the space fixes it."),
]


@pytest.mark.parametrize(("distribution", "value", "message"), OUTSIDE)
def test_values_outside_are_refused(distribution: Distribution, value: Any, message: str) -> None:
    """A value that cannot be sampled is no value to enqueue; the message names the hyperparameter."""
    with pytest.raises(SpaceError, match=f"^Hyperparameter 'x': {re.escape(message)}$"):
        Space({"x": distribution}).encode({"x": value})


def test_what_json_changes_is_understood() -> None:
    """A tuple that came back from JSON as a list, and 1.0 as 1, are found where only one option can be meant."""
    choice = Choice([(1, 2), 1.0, "a"])
    assert choice.decode(choice.encode([1, 2])) == (1, 2)
    assert isinstance(choice.decode(choice.encode(1)), float)


def test_encode_takes_a_part() -> None:
    """Names may be left out for the search to fill; fixed ones may be given as they are; others are unknown."""
    assert MIXED.encode({"layers": 3, "model.fixed": [1, {"a": (2, 3)}]}) == {"layers": 3}
    with pytest.raises(SpaceError, match=r"There is no hyperparameter 'layer' in the space\. Did you mean 'layers'\?"):
        MIXED.encode({"layer": 3})


def test_decode_wants_all() -> None:
    """Values of another space are told as such."""
    space = Space({"a": Int(0, 1), "b": Int(0, 1)})
    with pytest.raises(SpaceError, match=r"^The trial has no value for 'b': it is of another space\.$"):
        space.decode({"a": 1})
    with pytest.raises(SpaceError, match="There is no hyperparameter 'c' in the space"):
        space.decode({"a": 1, "b": 1, "c": 1})


def test_grid_has_all_combinations() -> None:
    """The last name changes fastest, and each combination is there once."""
    space = Space({"a": Choice([[1], [2]]), "k": 7, "b": Int(1, 2), "c": Float(0, 0.2, step=0.1)})
    points = [space.grid_point(index) for index in range(space.grid_size())]
    assert len(points) == len({repr(point) for point in points}) == 12
    assert points[0] == {"a": [1], "k": 7, "b": 1, "c": 0.0}
    assert points[1] == {"a": [1], "k": 7, "b": 1, "c": 0.1}
    assert points[11] == {"a": [2], "k": 7, "b": 2, "c": 0.2}
    with pytest.raises(SpaceError, match=r"^The grid has the combinations 0 to 11, got 12\.$"):
        space.grid_point(12)


def test_endless_grids_are_refused() -> None:
    """Every dimension without end is named at once."""
    space = Space({"a": Float(0, 1), "b": Int(1, 2), "c": Normal(0, 1, step=1)})
    message = (
        "A grid needs finitely many values, but there are infinitely many for 'a' (Float(0.0, 1.0)), "
        "'c' (Normal(0.0, 1.0, step=1)).\n  Give them a step, as in Float(0.1, 0.5, step=0.1), or use Choice([...])."
    )
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        space.grid_size()
    with pytest.raises(SpaceError, match="has no grid"):
        space["a"].value(0)


def test_descriptions_make_the_space_again() -> None:
    """A description survives JSON, makes an equal space, and does not differ from it."""
    description = json.loads(json.dumps(MIXED.describe()))
    again = Space.from_description(description)
    assert repr(again) == repr(MIXED)
    assert MIXED.difference(description) == []


def test_differences_are_readable() -> None:
    """New, gone and changed hyperparameters are told line by line, and a new order where nothing else changed."""
    old = Space({"lr": Float(0, 1), "bs": Choice([1, 2]), "k": 1})
    new = Space({"lr": Float(0, 2), "n": Int(1, 2), "k": 1.0})
    assert new.difference(old.describe()) == [
        "'n' is new: Int(1, 2)",
        "'bs' is gone: it was Choice([1, 2])",
        "'lr' was Float(0.0, 1.0) and is Float(0.0, 2.0)",
        "'k' was Fixed(1) and is Fixed(1.0)",
    ]
    assert Space({"b": 1, "a": 1}).difference(Space({"a": 1, "b": 1}).describe()) == ["the order was a, b and is b, a"]


@pytest.mark.parametrize(
    ("distribution", "numeric"),
    [
        (Float(0, 1), True),
        (Float(0, 1, step=0.5), True),
        (Int(0, 1), True),
        (Choice([1]), False),
        (Normal(0, 1), True),
        (LogNormal(0, 1, step=1), True),
        (Fixed(0.5), True),
    ],
)
def test_kinds_of_spaces(distribution: Distribution, numeric: bool) -> None:
    """A space is numeric by its searched dimensions."""
    assert Space({"x": distribution, "k": "text"}).numeric == numeric


def test_numbers_are_plain() -> None:
    """NumPy's numbers as bounds become Python's."""
    assert repr(Float(np.float32(0.5), np.int64(2))) == "Float(0.5, 2.0)"  # type: ignore[arg-type]
    assert repr(Int(np.int64(1), 5, step=np.int8(2))) == "Int(1, 5, step=2)"  # type: ignore[arg-type]


def test_exhaustion_is_a_space_error() -> None:
    """Who catches the errors of a space catches the end of its grid."""
    assert issubclass(GridExhausted, SpaceError)


def test_import_is_cheap() -> None:
    """The space is described without loading Optuna."""
    code = (
        "import sys; from tunehook.space import *; Space({'a': Int(1, 2)}).describe(); print('optuna' in sys.modules)"
    )
    path = str(Path(sys.modules["tunehook"].__path__[0]).parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path})
    assert (done.stdout, done.stderr) == ("False\n", "")
