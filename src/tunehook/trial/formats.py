"""The values of a trial as a text to copy: YAML, a Python literal, Hydra's overrides, arguments of a command line."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

# What Hydra and OmegaConf read as something other than a text.
_NO_TEXTS = {"true", "false", "null", "none", "inf", "nan", "infinity"}


def as_yaml(params: Mapping[str, Any]) -> str:
    """As YAML, a line for each value."""
    import yaml

    return str(yaml.safe_dump(_plain(params), sort_keys=False, allow_unicode=True, width=1_000_000))


def as_python(params: Mapping[str, Any]) -> str:
    """As a dict in Python, a line for each value."""
    lines = [f"    {name!r}: {_literal(value)},\n" for name, value in params.items()]
    return "{\n" + "".join(lines) + "}\n" if lines else "{}\n"


def as_hydra(params: Mapping[str, Any]) -> str:
    """As overrides for an application of Hydra, quoted for a shell: ``python train.py lr=0.01 'act="a b"'``."""
    return _line(f"{name}={_override(value)}" for name, value in _plain(params).items())


def as_arguments(params: Mapping[str, Any]) -> str:
    """As arguments of a command line, quoted for a shell: ``python train.py --lr=0.01``; lists are JSON."""
    return _line(
        f"--{name}={value if isinstance(value, str) else _json(value)}" for name, value in _plain(params).items()
    )


FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "yaml": as_yaml, "python": as_python, "hydra": as_hydra, "arguments": as_arguments,
}  # fmt: skip


def _line(words: Iterator[str]) -> str:
    return shlex.join(words) + "\n"


def _plain(value: Any) -> Any:
    """A value in what YAML and JSON know; another object is its ``repr``, a number of NumPy a number."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return _plain(value.item())
    for kind in (bool, int, float, str):  # an own kind of text or number is one too
        if isinstance(value, kind):
            return kind(value)
    return None if value is None else repr(value)


def _literal(value: Any) -> str:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    return repr(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _override(value: Any) -> str:
    """A value in the grammar of Hydra's overrides, by hydra.cc/docs/advanced/override_grammar/basic."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_override(name)}:{_override(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_override, value)) + "]"
    if not isinstance(value, str):
        return "null" if value is None else str(value).lower() if isinstance(value, bool | float) else str(value)
    if re.fullmatch(r"[A-Za-z_][\w/.-]*", value, re.ASCII) and value.lower() not in _NO_TEXTS:
        return value
    value = value.replace("${", "\\${")  # no interpolation
    quoted = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{quoted}'"
