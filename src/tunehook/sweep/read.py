"""A sweep file in the schema of Weights & Biases, read into a space."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tunehook.space import Choice, Distribution, Fixed, Float, Int, LogNormal, Normal, Space, SpaceError
from tunehook.system import StoredError, did_you_mean, near, read_yaml, shown


def read_space(path: str | Path) -> Space:
    """Read the space from a sweep file.

    The hyperparameters stand under ``parameters``, or are the whole document where that key is missing. Nested ones
    (a parameter that has ``parameters`` itself) get dotted names, such as ``optimizer.lr``. Numbers are read as YAML
    1.2 writes them, so that ``1e-5`` is a number and ``"1e-5"`` a text. The quantized distributions give the multiples
    of ``q`` from ``min`` to ``max`` (W&B rounds, and so may leave that range), whole numbers if ``q`` is one.

    What exists only with a value of a parameter stands under ``tunehook``, ``branches``, by parameter and value.

    Args:
        path: A YAML file.

    Raises:
        SpaceError: The file cannot be read, or something in it is unknown, missing or makes no distribution. The
            message names the file, the parameter and the key.
    """
    document = load(path)
    try:
        return _space(document)
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from error


def _space(document: dict[str, Any]) -> Space:
    branches = _branches(document)
    given = _unique(_flat(document.get("parameters", document), ""))
    space = Space({name: _with_branches(name, one, branches, ()) for name, one in given.items()})
    if unknown := [name for name in branches if name not in space.names]:
        raise SpaceError(f"there are branches of {', '.join(unknown)}, which is no parameter.")
    return space


def load(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        SpaceError: There is no such file, it is not YAML, has a key twice, or holds something else.
    """
    try:
        document = read_yaml(path, loader=_Loader)
    except OSError as error:
        raise SpaceError(f"{path} cannot be read: {error.strerror or error}.") from error
    except StoredError as error:
        raise SpaceError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        what = "is empty" if document is None else f"holds {type(document).__name__} {shown(document)}"
        raise SpaceError(f"{path} {what}, expected a mapping with 'parameters'.")
    return document


def _branches(document: dict[str, Any]) -> dict[str, Any]:
    """What exists only with a value of a parameter, by the parameter."""
    if "parameters" not in document or "tunehook" not in document:
        return {}
    ours = document["tunehook"]
    if not isinstance(ours, dict) or ours.keys() - {"branches"} or not isinstance(ours.get("branches", {}), dict):
        raise SpaceError(f"'tunehook' holds 'branches', a mapping by parameter, got {shown(ours)}.")
    return {str(name): values for name, values in ours.get("branches", {}).items()}


def _with_branches(
    name: str, given: Distribution, branches: Mapping[str, Any], around: tuple[str, ...]
) -> Distribution:
    """A parameter with what exists only with one of its values.

    Args:
        name: What it is called.
        given: Its distribution.
        branches: What exists only with a value, by parameter.
        around: The parameters in whose branches it stands.
    """
    if name not in branches:
        return given
    values = branches[name]
    if not isinstance(given, Choice) or not isinstance(values, dict) or name in around:
        raise SpaceError(
            f"the branches of '{name}' are a mapping by its 'values', outside of itself, got {shown(values)} for "
            f"{shown(given)}."
        )
    left, found = dict(values), {}
    for option in given.options:
        if isinstance(option, list | dict):
            raise SpaceError(f"'{name}' has branches, and so values that are no lists, got {shown(option)}.")
        inner = _unique(_flat(left.pop(option, {}), ""))
        found[option] = {
            one: _with_branches(one, distribution, branches, (*around, name)) for one, distribution in inner.items()
        }
    if left:
        raise SpaceError(f"'{name}' has a branch for {shown([*left])}, and the values {shown(list(given.options))}.")
    return Choice(found)


def _unique(pairs: Iterable[tuple[str, Distribution]]) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    for name, distribution in pairs:
        if name in found:
            raise SpaceError(f"parameter '{name}' stands twice.")
        found[name] = distribution
    return found


def _flat(parameters: Any, prefix: str) -> Iterable[tuple[str, Distribution]]:
    if not isinstance(parameters, dict):
        where = f"'{prefix}parameters'" if prefix else "'parameters'"
        raise SpaceError(f"{where} must be a mapping of parameters by name, got {shown(parameters)}.")
    for key, fields in parameters.items():
        name = f"{prefix}{key}"
        if not isinstance(fields, dict):
            told = shown(fields)
            raise SpaceError(f"parameter '{name}' must be a mapping, got {told}: write 'value: {told}' under it.")
        if set(fields) == {"parameters"}:
            yield from _flat(fields["parameters"], f"{name}.")
            continue
        try:
            yield name, _distribution(fields)
        except SpaceError as error:
            raise SpaceError(f"parameter '{name}': {error}") from error
        except ArithmeticError as error:
            raise SpaceError(
                f"parameter '{name}': its numbers are too large or too small to search: {error}."
            ) from error


def _distribution(fields: Mapping[str, Any]) -> Distribution:
    given = dict(fields)
    kind = given.pop("distribution", None)
    if kind is None:
        kind = _kind(given)
    if not isinstance(kind, str) or kind not in _DISTRIBUTIONS:
        raise SpaceError(f"unknown distribution {kind!r}." + _possible("distributions", str(kind), _DISTRIBUTIONS))
    needed, defaults, make = _DISTRIBUTIONS[kind]
    for key in given:
        if key not in (*needed, *defaults):
            raise SpaceError(
                f"unknown key '{key}' for the distribution {kind}."
                + _possible("keys", str(key), (*needed, *defaults, "distribution"))
            )
    missing = [key for key in needed if key not in given]
    if missing:
        raise SpaceError(f"the distribution {kind} needs {' and '.join(map(repr, missing))}.")
    if "values" in given and not isinstance(given["values"], list):
        raise SpaceError(f"'values' must be a list, got {shown(given['values'])}.")
    return make(*(given.get(key, defaults.get(key)) for key in (*needed, *defaults)))


def _kind(given: Mapping[str, Any]) -> str:
    """The distribution that W&B takes where none is named."""
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical"
    if "min" in given and "max" in given:
        whole = all(isinstance(given[key], int) for key in ("min", "max"))
        return "int_uniform" if whole else "uniform"
    every = {key for needed, defaults, _ in _DISTRIBUTIONS.values() for key in (*needed, *defaults)}
    for key in given:
        if key not in every:
            raise SpaceError(f"unknown key '{key}'." + _possible("keys", str(key), (*sorted(every), "distribution")))
    raise SpaceError(
        f"the keys {shown(list(given))} say too little: give 'value', 'values', 'min' and 'max', or 'distribution'."
    )


def quantized(low: Any, high: Any, q: Any, *, log: bool = False) -> Distribution:
    """The multiples of ``q`` in a range, whole numbers if ``q`` is one.

    Raises:
        SpaceError: There are not two of them, or a number is none.
    """
    for key, value in {"min": low, "max": high, "q": q}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SpaceError(f"'{key}' must be a finite number, got {shown(value)}.")
    if q <= 0:
        raise SpaceError(f"'q' must be above 0, got {shown(q)}.")
    first, last = math.ceil(low / q - 1e-9), math.floor(high / q + 1e-9)  # 0.3 / 0.1 is 2.9999999999999996
    if first >= last:
        raise SpaceError(f"there are not two multiples of q={q!r} between {low!r} and {high!r}: use a smaller q.")
    if isinstance(q, int):
        return Int(first * q, last * q, log=log, step=q)
    unit = float(f"{q:.12g}")
    return Float(float(f"{first * unit:.12g}"), float(f"{last * unit:.12g}"), log=log, step=unit)


def _exp(exponent: Any) -> float:
    if isinstance(exponent, bool) or not isinstance(exponent, int | float) or not abs(exponent) < 700:
        raise SpaceError(
            f"'min' and 'max' of log_uniform are exponents of e between -700 and 700, got {shown(exponent)}."
        )
    return math.exp(exponent)


def _log(low: Any, high: Any) -> Distribution:
    return Float(low, high, log=True)


# By the name of the distribution: the keys it needs, the keys it may have with W&B's defaults, and what makes it of
# their values in this order.
_DISTRIBUTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any], Callable[..., Distribution]]] = {
    "constant": (("value",), {}, Fixed),
    "categorical": (("values",), {}, Choice),
    "int_uniform": (("min", "max"), {}, Int),
    "uniform": (("min", "max"), {}, Float),
    "q_uniform": (("min", "max"), {"q": 1}, quantized),
    "log_uniform_values": (("min", "max"), {}, _log),
    "q_log_uniform_values": (("min", "max"), {"q": 1}, partial(quantized, log=True)),
    "log_uniform": (("min", "max"), {}, lambda low, high: _log(_exp(low), _exp(high))),
    "q_log_uniform": (("min", "max"), {"q": 1}, lambda low, high, q: quantized(_exp(low), _exp(high), q, log=True)),
    "inv_log_uniform_values": (("min", "max"), {}, _log),  # log(1/x) is uniform where log(x) is
    "inv_log_uniform": (("min", "max"), {}, lambda low, high: _log(1 / _exp(high), 1 / _exp(low))),
    "normal": ((), {"mu": 0, "sigma": 1}, Normal),
    "q_normal": ((), {"mu": 0, "sigma": 1, "q": 1}, lambda mu, sigma, q: Normal(mu, sigma, step=q)),
    "log_normal": ((), {"mu": 0, "sigma": 1}, LogNormal),
    "q_log_normal": ((), {"mu": 0, "sigma": 1, "q": 1}, lambda mu, sigma, q: LogNormal(mu, sigma, step=q)),
}


def _possible(what: str, word: str, words: Iterable[str]) -> str:
    known = list(words)
    return f"{did_you_mean(near(word, known, most=1))} Possible {what}: {', '.join(known)}."


class _Loader(yaml.SafeLoader):
    """PyYAML's SafeLoader (YAML 1.1) with the floats of YAML 1.2, and an error where a key stands twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Here, since later the keys that `<<` brings in stand among them, and may be there already.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE]
        counts = Counter(self.construct_object(key) if len(key.value) <= _KEY else key.value for key in keys)
        if twice := [key for key, times in counts.items() if times > 1]:
            said = f"the key {shown(twice[0])} stands twice"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark)
        return node


_MERGE = "tag:yaml.org,2002:merge"
_KEY = 128  # characters of a key in which a number may stand
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)
