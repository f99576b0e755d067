"""A space of Hyperopt, with its nodes and branches, made into one of ours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tunehook.integrations.hyperopt.host import Node, node_of
from tunehook.space import Choice, Distribution, Fixed, Float, Int, LogNormal, Normal, Space, SpaceError
from tunehook.sweep import quantized


def space(tree: Any) -> Space:
    """A space of Hyperopt as one of ours; the names are the labels, which are unique there too.

    An option of ``hp.choice`` that is a plain value is that value. One that has hyperparameters inside is a branch, and
    is called by the first text among its constants in the order of their keys, such as ``"svm"`` for
    ``{"type": "svm", "C": hp.lognormal("C", 0, 1)}``, or by its place where it has none or two have the same. Other
    constants are fixed values by their keys.

    Args:
        tree: The space: a dict, list or node with ``hp.*`` inside.

    Raises:
        SpaceError: Something in it has no equal here, such as ``hp.pchoice`` with probabilities that differ, or
            expressions over several nodes.

    Example:
        >>> from hyperopt import hp
        >>> space({"lr": hp.loguniform("lr", -10, 0), "layers": hp.choice("layers", [1, 2])})
        Space({'lr': Float(4.5399929762484854e-05, 1.0, log=True), 'layers': Choice([1, 2])})
    """
    return Space(_dimensions(_pairs(node_of(tree), "")))


def _dimensions(pairs: Iterator[tuple[str, Distribution]]) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    for name, distribution in pairs:
        if name in found and found[name] != distribution:
            raise SpaceError(f"The Hyperopt space has two different things that are called '{name}': rename one.")
        found[name] = distribution
    return found


def _pairs(node: Node, key: str) -> Iterator[tuple[str, Distribution]]:
    """The hyperparameters and constants of a part of a space by name."""
    if node.kind in ("dict", "list"):
        for inner, one in node.parts.items():
            yield from _pairs(one, f"{key}.{inner}" if key else str(inner))
    elif node.kind == "value":
        yield key, Fixed(node.parts)
    else:
        yield node.label or key, _distribution(node)


def _distribution(node: Node) -> Distribution:
    if node.kind == "choice":
        return _choice(node)
    make = _MADE.get(node.kind)
    if make is None:
        what = f"hp.pchoice of '{node.label}'" if node.kind == "categorical" else f"the expression {node.kind!r}"
        raise SpaceError(
            f"{what} of the Hyperopt space has no equal here: it takes hp.choice and numbers. Compute with values in "
            "the training, or write the space with Float, Int and Choice."
        )
    try:
        made: Distribution = make(*node.parts)
    except (SpaceError, OverflowError) as error:
        raise SpaceError(f"'{node.label}' of the Hyperopt space: {error}") from error
    return made


def _choice(node: Node) -> Choice:
    options = list(node.parts.values())
    plain = [_plain(one) for one in options]
    if all(value is not None for value in plain):
        return Choice([value[0] for value in plain if value is not None])
    names = [one.parts if one.kind == "value" else _name(one) for one in options]
    has_all = all(one.kind == "value" or name is not None for name, one in zip(names, options, strict=True))
    if not has_all or len({repr(name) for name in names}) < len(names):
        names = list(range(len(options)))
    return Choice({name: _branch(name, one) for name, one in zip(names, options, strict=True)})


def _branch(name: Any, node: Node) -> dict[str, Distribution]:
    """What exists with an option, but for the constant that names it."""
    if node.kind == "value":
        return {}
    return {key: d for key, d in _dimensions(_pairs(node, "")).items() if d != Fixed(name)}


def _plain(node: Node) -> tuple[Any] | None:
    """The value of an option that has no hyperparameters inside, in a tuple."""
    if node.kind == "value":
        return (node.parts,)
    if node.kind not in ("dict", "list"):
        return None
    inner = {key: _plain(one) for key, one in node.parts.items()}
    if any(one is None for one in inner.values()):
        return None
    values = {key: one[0] for key, one in inner.items() if one is not None}
    return (values if node.kind == "dict" else list(values.values()),)


def _name(node: Node) -> str | None:
    """What a branch is called: the first text among its constants."""
    inner = node.parts.values() if node.kind in ("dict", "list") else ()
    return next((one.parts for one in inner if one.kind == "value" and isinstance(one.parts, str)), None)


def _exp(exponent: float) -> float:
    return math.exp(exponent)


def _whole(*bounds: int) -> Distribution:
    low, high = (0, bounds[0]) if len(bounds) == 1 else bounds
    return Fixed(low) if high - low == 1 else Int(low, high - 1)


_MADE: Mapping[str, Any] = {
    "uniform": Float,
    "loguniform": lambda low, high: Float(_exp(low), _exp(high), log=True),
    "quniform": lambda low, high, q: quantized(low, high, _step(q)),
    "uniformint": lambda low, high, q=1: quantized(low, high, _step(q)),
    "qloguniform": lambda low, high, q: quantized(_exp(low), _exp(high), _step(q), log=True),
    "normal": Normal,
    "qnormal": lambda mu, sigma, q: Normal(mu, sigma, step=_step(q)),
    "lognormal": LogNormal,
    "qlognormal": lambda mu, sigma, q: LogNormal(mu, sigma, step=_step(q)),
    "randint": _whole,
}


def _step(q: float) -> float:
    return int(q) if float(q).is_integer() else q
