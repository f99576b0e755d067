"""Values in configurations that derive others from them: as if they were typed into the calls that make these."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import attrs
import pydantic
import pytest

from tunehook.adapter import hear_calls, hear_configurations
from tunehook.inject import Arguments, Plan, Slot, call_traced, trace_in_progress
from tunehook.trial import InjectionError


@dataclasses.dataclass
class Filled:
    """Fills in what is not given."""

    dim: int = 16
    ff: int | None = None

    def __post_init__(self) -> None:
        self.fill()

    def fill(self) -> None:
        """Give it four times the width."""
        self.ff = 4 * self.dim if self.ff is None else self.ff


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """The same, of one that cannot be changed, nor referred to weakly."""

    dim: int = 16
    ff: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "ff", 4 * self.dim)


@dataclasses.dataclass
class Scaled:
    """Scales a field, which a copy would do once more."""

    dim: int = 16
    lr: float = 0.5

    def __post_init__(self) -> None:
        self.lr *= 0.5


@dataclasses.dataclass
class Passed:
    """Is made with what it does not keep."""

    dim: int = 16
    factor: dataclasses.InitVar[int] = 4
    ff: int = 0

    def __post_init__(self, factor: int) -> None:
        self.ff = factor * self.dim


@attrs.frozen
class Attrs:
    """A class of attrs."""

    dim: int = 16
    ff: int = attrs.Factory(lambda self: 4 * self.dim, takes_self=True)


class Pydantic(pydantic.BaseModel):
    """A model of pydantic."""

    dim: int = 16
    ff: int | None = None

    @pydantic.model_validator(mode="after")
    def fill(self) -> Pydantic:
        """Give it four times the width."""
        self.ff = 4 * self.dim if self.ff is None else self.ff
        return self


class Plain:
    """An object that holds values."""

    def __init__(self, dim: int = 16) -> None:
        self.dim, self.ff = dim, 4 * dim


class Open:
    """An object that takes whatever it is given."""

    def __init__(self, **given: Any) -> None:
        self.dim = 16
        vars(self).update(given)
        self.ff = 4 * self.dim


class Cached:
    """One that computes when it is asked, once."""

    def __init__(self, dim: int = 16) -> None:
        self.dim = dim

    @functools.cached_property
    def ff(self) -> int:
        """Four times the width."""
        return 4 * self.dim


class Outer:
    """Derives a value from one of what it holds."""

    def __init__(self, inner: Plain | None = None) -> None:
        self.inner = inner or Plain()
        self.half = self.inner.dim // 2


class Net:
    """A model of a framework."""

    def __init__(self, config: Any) -> None:
        self.config = config


def put_in(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an adapter does with a call."""
    trace = trace_in_progress()
    if trace is None:
        return args, kwargs
    arguments = Arguments(Net, object)
    arguments.bind(args, kwargs)
    return arguments.arguments(trace.take(made, arguments, lambda *_: {}).given)


def fit(net: Net) -> None:
    """What an adapter does where a fit begins."""
    trace = trace_in_progress()
    if trace is not None:
        call = trace.of(net)
        assert call is not None
        places = {f"model.{name}": [(call, name)] for name in call.present}
        slots = [Slot(path, get=lambda: None, set=None) for path in places]
        trace.enter_fit(slots, places, find=None, hear=hear_configurations)


def trained(make: Callable[[], Any], calls: int | None = None) -> Any:
    """The configuration with which a trial of ``dim = 24`` trains, twice: the second trial knows its place."""
    hear_calls(Net, put_in)
    found: list[Any] = []
    plan: Plan | None = None

    def train() -> None:
        found.append(net := Net(make()))
        fit(net)

    for count in (calls, 1):
        found.clear()
        _, plan = call_traced(train, lambda: {"dim": 24}, plan=plan)
        assert count is None or len(found) == count
    return found[-1].config


def refused(make: Callable[[], Any]) -> str:
    """The message of the error in which a trial ends, without numbers of lines."""
    with pytest.raises(InjectionError) as error:
        trained(make)
    return re.sub(r"\.py:\d+", ".py", str(error.value))


def held(config: Any) -> Any:
    """All that a configuration holds."""
    if hasattr(config, "ff"):
        _ = config.ff
    names = [name for name in dir(config) if not name.startswith("_")]
    values = {name: getattr(config, name) for name in names}
    return {name: held(one) if isinstance(one, Plain) else one for name, one in values.items() if not callable(one)}


@pytest.mark.filterwarnings("ignore:Accessing:DeprecationWarning")  # of pydantic, for some of its attributes
@pytest.mark.parametrize("cls", [Filled, Frozen, Scaled, Passed, Attrs, Pydantic, Plain, Open, Cached])
def test_what_a_configuration_derives_is_as_typed_in(cls: Any) -> None:
    """Of any kind, with the other values given or not, whoever has made it."""
    assert held(trained(cls)) == held(cls(dim=24))
    assert held(trained(lambda: cls(dim=8))) == held(cls(dim=24))
    if cls in (Filled, Pydantic, Attrs):
        assert trained(lambda: cls(8, 5) if cls is not Pydantic else cls(dim=8, ff=5)).ff == 5


def test_a_configuration_in_another_one_that_derives_from_it() -> None:
    """Both have what they would have."""
    assert held(trained(lambda: Outer(Plain(8)))) == held(Outer(Plain(24))) == held(trained(Outer))


def test_one_of_several_configurations_of_a_line() -> None:
    """The others keep the script's own values."""
    kept: list[Plain] = []

    def make() -> Plain:
        kept[:] = [Plain(width) for width in (4, 6, 8)]
        return kept[1]

    assert trained(make).ff == 96
    assert [one.ff for one in kept] == [16, 96, 32]


def test_a_value_that_the_script_sets_is_typed_in_there() -> None:
    """What was derived before stays as it is."""

    def make() -> Plain:
        config = Plain()
        config.dim = 12
        return config

    changed = trained(make)
    assert (changed.dim, changed.ff) == (24, 64)


def test_a_configuration_that_outlives_trials() -> None:
    """One that derives nothing from the value is replaced by a copy, the other one is an error."""

    @dataclasses.dataclass
    class Simple:
        dim: int = 16
        twice: int = dataclasses.field(init=False, default=0)

        def __post_init__(self) -> None:
            self.twice = 2 * self.dim

    simple, filled = Simple(), Filled()
    assert trained(lambda: simple, calls=2) == Simple(24)
    assert refused(lambda: filled) == (
        "config.dim of Net at test_configurations.py cannot be put in: its Filled was made before this trial was "
        "known, or is a copy, and its constructor derives more than dim from it.\n"
        "  Make it in the training function and pass it as it is, or read it there: th.value('dim', 16)."
    )


def test_a_default_that_the_script_sets_again() -> None:
    """The constructor cannot take the value: an error with the way out."""

    def make() -> Plain:
        config = Plain()
        config.dim = 16
        return config

    assert refused(make) == (
        "Plain at test_configurations.py was made with dim = 24, and has 16 when Net at "
        "test_configurations.py takes it: the script sets it.\n  Read it there: th.value('dim', 16)."
    )


def defined(kind: str) -> Any:
    """A configuration whose class is defined just now."""
    if kind == "pydantic":

        class Model(pydantic.BaseModel):
            dim: int = 16
            ff: int | None = None

            def model_post_init(self, _: Any) -> None:
                self.ff = 4 * self.dim

        return Model()

    @dataclasses.dataclass(slots=kind == "slots")  # type: ignore[literal-required]
    class Data:
        dim: int = 16
        ff: int | None = None

        def __post_init__(self) -> None:
            self.ff = 4 * self.dim

    return Data()


@pytest.mark.parametrize("kind", ["dataclass", "slots", "pydantic"])
def test_a_class_that_is_defined_again_in_each_run(kind: str) -> None:
    """As in a script that is run again; its calls are heard of once its name is known."""
    assert trained(lambda: defined(kind)).ff == 96


def test_a_class_with_a_constructor_of_its_own_that_is_defined_again_in_each_run() -> None:
    """Nothing tells of it before its first call: an error with the way out."""

    def make() -> Any:
        class Local:
            def __init__(self, dim: int = 16) -> None:
                self.dim, self.ff = dim, 4 * dim

        return Local()

    assert refused(make) == (
        "config.dim of Net at test_configurations.py cannot be put in: its Local is of a class that is defined again "
        "in each run, and its constructor derives more than dim from it.\n"
        "  Define Local in a module that is imported, or read it there: th.value('dim', 16)."
    )
