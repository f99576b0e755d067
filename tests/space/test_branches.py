"""Hyperparameters that exist only with an option of a choice, and conditions over several of them."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunehook.space import Choice, Fixed, Float, Int, Space, SpaceError


def nested() -> Space:
    """A space with branches in branches, and a name in several of them."""
    sgd = {"lr": Float(1e-3, 1, log=True), "momentum": Float(0, 0.99), "nesterov": Choice({True: {"k": 3}, False: {}})}
    adam = {"lr": Float(1e-5, 1e-2, log=True), "beta": 0.9}
    return Space({"optimizer": Choice({"sgd": sgd, "adam": adam, "none": {}}), "width": Int(1, 8)})


def test_what_optuna_is_given() -> None:
    """A name that stands once is called so, one of several branches by its branch."""
    space = nested()
    assert space.names == ["optimizer", "lr", "momentum", "nesterov", "k", "beta", "width"]
    assert list(space.distributions()) == [
        "optimizer", "lr[optimizer='sgd']", "momentum", "nesterov", "lr[optimizer='adam']", "width",
    ]  # fmt: skip
    assert space.name_of("lr[optimizer='adam']") == "lr"
    assert space.branches()["nesterov"] == {"optimizer": "sgd"}
    assert space.parts() == [
        ["optimizer", "width"], ["lr[optimizer='sgd']", "momentum", "nesterov"], ["lr[optimizer='adam']"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("params", "raw"),
    [
        ({"optimizer": "none", "width": 2}, {"optimizer": "none", "width": 2}),
        (
            {"optimizer": "adam", "lr": 1e-4, "beta": 0.9, "width": 2},
            {"optimizer": "adam", "lr[optimizer='adam']": 1e-4, "width": 2},
        ),
        (
            {"optimizer": "sgd", "lr": 0.5, "momentum": 0.0, "nesterov": True, "k": 3, "width": 2},
            {"optimizer": "sgd", "lr[optimizer='sgd']": 0.5, "momentum": 0.0, "nesterov": True, "width": 2},
        ),
    ],
)
def test_values_of_the_user_and_of_optuna(params: dict[str, Any], raw: dict[str, Any]) -> None:
    """Only what exists is in either."""
    space = nested()
    assert space.encode(params) == raw
    assert space.decode(raw) == params
    assert list(space.decode(raw)) == [name for name in space.names if name in params]
    assert space.is_complete(raw)
    assert not space.is_complete({name: raw[name] for name in list(raw)[:-1]})
    stale = {"momentum": 0.5, "nesterov": False, "lr[optimizer='sgd']": 0.1, **raw}  # of a branch that is not chosen
    assert raw["optimizer"] == "sgd" or space.decode(stale) == params


CONDITIONS = [
    (
        {"momentum": 0.5},
        "Hyperparameter 'momentum' exists only where optimizer is 'sgd': give that too, or leave it out.",
    ),
    (
        {"optimizer": "none", "lr": 0.5},
        (
            "Hyperparameter 'lr' exists only where optimizer is 'sgd' or where optimizer is 'adam': "
            "give that too, or leave it out."
        ),
    ),
    (
        {"optimizer": "adam", "lr": 0.5},
        "Hyperparameter 'lr': 0.5 is outside Float(1e-05, 0.01, log=True): it is beyond the bounds.",
    ),
    (
        {"momentun": 0.5},
        (
            "There is no hyperparameter 'momentun' in the space. Did you mean 'momentum'? "
            "It has: optimizer, lr, momentum, nesterov, k, beta, width."
        ),
    ),
]


@pytest.mark.parametrize(("params", "message"), CONDITIONS)
def test_values_of_a_branch_that_is_not_chosen(params: dict[str, Any], message: str) -> None:
    """They are an error that says with what they exist."""
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        nested().encode(params)


def test_a_grid_enumerates_branches() -> None:
    """Each combination that exists once, in the order of the space."""
    space = Space({"a": Choice({"x": {"b": Choice([1, 2]), "c": Int(0, 1)}, "y": {}, "z": {"b": 7}}), "d": Int(0, 1)})
    points = [space.grid_point(index) for index in range(space.grid_size())]
    assert points == [
        *({"a": "x", "b": b, "c": c, "d": d} for b in (1, 2) for c in (0, 1) for d in (0, 1)),
        *({"a": "y", "d": d} for d in (0, 1)),
        *({"a": "z", "b": 7, "d": d} for d in (0, 1)),
    ]
    with pytest.raises(SpaceError, match=r"infinitely many for 'lr' \(Float.*\), 'momentum' .*, 'lr' \("):
        nested().grid_size()


_leaf = st.sampled_from([Float(0, 1), Int(1, 3), Fixed(1), Choice([[1], [2]])])
_dimensions = st.recursive(
    st.dictionaries(st.sampled_from("abcdef"), _leaf, max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from("abcdef"), st.dictionaries(st.sampled_from([1, "1", None]), inner, min_size=1).map(Choice)
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(_dimensions, st.data())
def test_any_tree(dimensions: dict[str, Any], data: st.DataObject) -> None:
    """A space that can be made is described and made again, and each configuration goes to Optuna and comes back."""
    try:
        space = Space(dimensions)
    except SpaceError:  # a name twice, or none
        return
    again = Space.from_description(json.loads(json.dumps(space.describe())))
    assert (again, again.describe(), repr(again)) == (space, space.describe(), repr(space))
    made = space.distributions()

    def draw(name: str) -> Any:
        distribution: Any = made[name]
        options = getattr(distribution, "choices", None) or [distribution.low, distribution.high]
        return data.draw(st.sampled_from(options))

    raw = space.walk(draw)
    assert space.encode(space.decode(raw)) == raw
    assert space.is_complete(raw)
    assert space.missing({name: raw[name] for name in list(raw)[1:]}) or len(raw) == 0


ERRORS = [
    (
        lambda: Space({"a": Choice({1: {"b": 1}}), "b": 2}),
        (
            "Hyperparameter 'b' stands twice in the space, where a is 1 and at the top, and both may exist at once: "
            "rename one of them, or take it out."
        ),
    ),
    (
        lambda: Space({"a": Choice({1: {"b": 1}}), "c": Choice({2: {"b": 1}})}),
        (
            "Hyperparameter 'b' stands twice in the space, where a is 1 and where c is 2, and both may exist at once: "
            "rename one of them, or take it out."
        ),
    ),
    (
        lambda: Choice({"sgd": 0.9}),  # type: ignore[dict-item]
        (
            "Choice takes for the option 'sgd' a dict of the hyperparameters that exist with it, got 0.9: "
            "write {} for none."
        ),
    ),
    (
        lambda: Choice({"sgd": {"lr": [1, 2]}}),
        (
            "Hyperparameter 'lr' is [1, 2]: write Choice([1, 2]) to choose among them, Float(low, high) or Int(low, "
            "high) for a range, or Fixed([1, 2]) for one value."
        ),
    ),
    (
        lambda: Space({"a": 1}, where="a > 1"),  # type: ignore[arg-type]
        (
            "where is a function of the values that says whether they may be tried, such as lambda params: "
            "params['width'] * params['depth'] <= 512; got 'a > 1'."
        ),
    ),
]


@pytest.mark.parametrize(("make", "message"), ERRORS, ids=[message[:50] for _, message in ERRORS])
def test_what_makes_no_space(make: Any, message: str) -> None:
    """It is told with what was given and the way out."""
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        make()


# ------------------------------------------------------------------ conditions over several


def small(params: dict[str, Any]) -> bool:
    """Whether a network is small."""
    return bool(params["width"] * params["depth"] <= 8)


def test_a_grid_has_what_the_condition_allows() -> None:
    """The rest is not counted; none is an error, and so is a grid too large to ask."""
    axes = {"width": Int(1, 4), "depth": Int(1, 4)}
    space = Space(axes, where=small)
    points = [space.grid_point(index) for index in range(space.grid_size())]
    assert points == [{"width": w, "depth": d} for w in range(1, 5) for d in range(1, 5) if w * d <= 8]
    with pytest.raises(SpaceError, match=r"^The condition .*<lambda> holds for none of the 16 combinations of the gr"):
        Space(axes, where=lambda _: False).grid_size()
    with pytest.raises(SpaceError, match=r"^The grid has 1,002,001 combinations, and a condition is asked for 1,000,0"):
        Space({"width": Int(0, 1000), "depth": Int(0, 1000)}, where=small).grid_size()


def test_a_condition_that_cannot_answer() -> None:
    """What it raised, or returned, is told with the values."""
    space = Space({"a": Choice({"x": {"b": Int(1, 2)}, "y": {}})}, where=lambda params: params["b"] > 1)
    with pytest.raises(SpaceError) as raised:
        space.allows({"a": "y"})
    assert str(raised.value).endswith(
        " of the space raised KeyError('b') for {'a': 'y'}.\n"
        "  A name of a branch that is not chosen is not among them: ask params.get(name)."
    )
    with pytest.raises(SpaceError, match=r"returned None for \{'a': 'y'\}: it returns True where"):
        Space(space, where=lambda _: None).allows({"a": "y"})  # type: ignore[arg-type,return-value]


def test_what_is_kept_of_a_condition() -> None:
    """Its name and a digest of its source: another one is told, and the same function is not."""
    space = Space({"width": Int(1, 4), "depth": Int(1, 4)}, where=small)
    described = json.loads(json.dumps(space.describe()))
    assert described[":where"]["name"] == "small"
    assert Space.from_description(described).describe() == described
    assert repr(space).endswith(", where=small)")
    other = Space(space, where=lambda params: params["width"] < 3)
    assert other.difference(described) == []
    assert other.other_condition(described) == "had the condition small, and its source was another one"
    assert Space(space).other_condition(described) == "had the condition small and has none"
    assert space.other_condition(Space(space).describe()) == "had no condition and has small"
    assert Space(space, where=small).other_condition(described) is None
    with pytest.raises(SpaceError, match=r"^The description of a condition has a name and a source, got 3"):
        Space.from_description({**described, ":where": 3})


def test_a_condition_goes_into_another_process() -> None:
    """A lambda too, though it has no name by which it is found."""
    space = pickle.loads(pickle.dumps(Space({"a": Int(1, 4)}, where=lambda params: params["a"] > 2)))
    assert [index for index in (1, 2, 3, 4) if space.allows({"a": index})] == [3, 4]
