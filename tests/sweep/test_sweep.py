"""Sweep files of W&B, read into spaces."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from tunehook.space import Choice, Fixed, Float, Int, LogNormal, Normal, Space, SpaceError
from tunehook.sweep.read import read_space


def write(folder: Path, text: str) -> Path:
    """A sweep file."""
    path = folder / "sweep.yaml"
    path.write_text(text, encoding="utf-8")
    return path


PARAMETERS: list[tuple[str, Any]] = [
    ("value: 3", Fixed(3)),
    ("value: null", Fixed(None)),
    ("{distribution: constant, value: [1, 2]}", Fixed([1, 2])),
    ("values: [1, a, true, null, [1, 2]]", Choice([1, "a", True, None, [1, 2]])),
    ("{distribution: categorical, values: [a, b]}", Choice(["a", "b"])),
    ('values: [1e-5, -1E+3, .5e2, 1.e-1, "1e-5", 1e5x]', Choice([1e-5, -1e3, 50.0, 0.1, "1e-5", "1e5x"])),
    ("{min: 1, max: 8}", Int(1, 8)),
    ("{min: 0, max: 0.5}", Float(0, 0.5)),
    ("{min: 1e-5, max: 1e-1}", Float(1e-5, 1e-1)),
    ("{distribution: int_uniform, min: 1, max: 8}", Int(1, 8)),
    ("{distribution: uniform, min: 1, max: 8}", Float(1, 8)),
    ("{distribution: log_uniform_values, min: 1e-5, max: 1e-1}", Float(1e-5, 1e-1, log=True)),
    ("{distribution: log_uniform, min: -5, max: 0}", Float(math.exp(-5), 1, log=True)),
    ("{distribution: inv_log_uniform_values, min: 1e-5, max: 1e-1}", Float(1e-5, 1e-1, log=True)),
    ("{distribution: inv_log_uniform, min: 0, max: 5}", Float(1 / math.exp(5), 1, log=True)),
    ("{distribution: q_uniform, min: 0, max: 8}", Int(0, 8)),
    ("{distribution: q_uniform, min: 10, max: 100, q: 8}", Int(16, 96, step=8)),
    ("{distribution: q_uniform, min: 0.05, max: 0.52, q: 0.1}", Float(0.1, 0.5, step=0.1)),
    ("{distribution: q_uniform, min: 0.1, max: 0.3, q: 0.1}", Float(0.1, 0.3, step=0.1)),
    ("{distribution: q_uniform, min: 0.07, max: 0.1, q: 0.01}", Float(0.07, 0.1, step=0.01)),
    ("{distribution: q_uniform, min: -1, max: 1, q: 0.5}", Float(-1, 1, step=0.5)),
    ("{distribution: q_log_uniform_values, min: 10, max: 100, q: 8}", Int(16, 96, step=8, log=True)),
    ("{distribution: q_log_uniform, min: 0, max: 3, q: 1}", Int(1, 20, log=True)),
    ("{distribution: normal}", Normal(0, 1)),
    ("{distribution: normal, mu: 1e-3, sigma: 2}", Normal(1e-3, 2)),
    ("{distribution: q_normal, mu: 5, q: 0.5}", Normal(5, 1, step=0.5)),
    ("{distribution: log_normal, mu: -3}", LogNormal(-3, 1)),
    ("{distribution: q_log_normal, mu: 4}", LogNormal(4, 1, step=1)),
]


@pytest.mark.parametrize(("text", "expected"), PARAMETERS, ids=[text for text, _ in PARAMETERS])
def test_parameters(tmp_path: Path, text: str, expected: Any) -> None:
    """Each form of the schema means what W&B documents, with W&B's defaults."""
    if not text.startswith("{"):
        text = "{" + text + "}"
    space = read_space(write(tmp_path, f"parameters: {{x: {text}}}"))
    assert repr(space["x"]) == repr(expected)


def test_whole_document(tmp_path: Path) -> None:
    """Other keys of a sweep are left alone; without ``parameters`` the document is the space; nested names get dots."""
    inner = "a: {value: 1}\n{0}optimizer:\n{0}  parameters:\n{0}    lr: {min: 1, max: 2}\n{0}model.b: {value: 2}\n"
    sweep = "method: grid\nparameters:\n  " + inner.replace("{0}", "  ")
    expected = "Space({'a': Fixed(1), 'optimizer.lr': Int(1, 2), 'model.b': Fixed(2)})"
    assert repr(read_space(write(tmp_path, sweep))) == expected
    assert repr(read_space(str(write(tmp_path, inner.replace("{0}", ""))))) == expected


KEYS = "max, min, mu, q, sigma, value, values, distribution"
NAMES = (
    "constant, categorical, int_uniform, uniform, q_uniform, log_uniform_values, q_log_uniform_values, log_uniform, "
    "q_log_uniform, inv_log_uniform_values, inv_log_uniform, normal, q_normal, log_normal, q_log_normal"
)
ERRORS: list[tuple[str, str]] = [
    (
        "parameters: {lr: {mn: 1, max: 2}}",
        f"parameter 'lr': unknown key 'mn'. Did you mean 'min'? Possible keys: {KEYS}.",
    ),
    (
        "parameters: {lr: {min: 1, max: 2, q: 1}}",
        "parameter 'lr': unknown key 'q' for the distribution int_uniform. Possible keys: min, max, distribution.",
    ),
    (
        "parameters: {lr: {values: [1, 2], probabilities: [0.1, 0.9]}}",
        (
            "parameter 'lr': unknown key 'probabilities' for the distribution categorical. "
            "Possible keys: values, distribution."
        ),
    ),
    (
        "parameters: {lr: {distribution: log_unifrm, min: 1, max: 2}}",
        (
            "parameter 'lr': unknown distribution 'log_unifrm'. Did you mean 'log_uniform'? "
            f"Possible distributions: {NAMES}."
        ),
    ),
    (
        "parameters: {lr: {distribution: beta}}",
        f"parameter 'lr': unknown distribution 'beta'. Possible distributions: {NAMES}.",
    ),
    (
        "parameters: {lr: {distribution: [1]}}",
        f"parameter 'lr': unknown distribution [1]. Possible distributions: {NAMES}.",
    ),
    ("parameters: {lr: {distribution: uniform, min: 1}}", "parameter 'lr': the distribution uniform needs 'max'."),
    (
        "parameters: {lr: {min: 1}}",
        "parameter 'lr': the keys ['min'] say too little: give 'value', 'values', 'min' and 'max', or 'distribution'.",
    ),
    ("parameters: {lr: {values: 3}}", "parameter 'lr': 'values' must be a list, got 3."),
    ("parameters: {lr: {values: []}}", "parameter 'lr': Choice needs at least one option, got an empty list."),
    ("parameters: {lr: 0.1}", "parameter 'lr' must be a mapping, got 0.1: write 'value: 0.1' under it."),
    ("parameters: [1]", "'parameters' must be a mapping of parameters by name, got [1]."),
    ("parameters: {o: {parameters: 1}}", "'o.parameters' must be a mapping of parameters by name, got 1."),
    ("parameters: {}", "A space needs at least one hyperparameter, got an empty dict."),
    (
        "parameters: {lr: {min: '1e-5', max: 1}}",
        "parameter 'lr': Float takes a number for low, got '1e-5' (str).",
    ),
    (
        "parameters: {lr: {distribution: int_uniform, min: 1.0, max: 2}}",
        (
            "parameter 'lr': Int takes a whole number for low, got 1.0 (float): "
            "use Float for other numbers, Choice([True, False]) for a switch."
        ),
    ),
    (
        "parameters: {lr: {distribution: log_uniform_values, min: 0, max: 1}}",
        (
            "parameter 'lr': Float with log=True needs low > 0, got low=0.0: raise it, or leave out log "
            "(0 has no logarithm)."
        ),
    ),
    (
        "parameters: {lr: {distribution: log_uniform, min: 1, max: 1000}}",
        "parameter 'lr': 'min' and 'max' of log_uniform are exponents of e between -700 and 700, got 1000.",
    ),
    (
        "parameters: {lr: {distribution: q_uniform, min: 1, max: 2, q: 3}}",
        "parameter 'lr': there are not two multiples of q=3 between 1 and 2: use a smaller q.",
    ),
    (
        "parameters: {lr: {distribution: q_uniform, min: 1, max: 2, q: 0}}",
        "parameter 'lr': 'q' must be above 0, got 0.",
    ),
    (
        "parameters: {lr: {distribution: q_uniform, min: 1, max: .inf, q: 1}}",
        "parameter 'lr': 'max' must be a finite number, got inf.",
    ),
    (
        "parameters: {a b: {value: 1}}",
        "A hyperparameter's name has letters, digits, '_', '.', '-', and '*' where it is a pattern; got 'a b'.",
    ),
    ("parameters: {a: {parameters: {b: {value: 1}}}, a.b: {value: 2}}", "parameter 'a.b' stands twice."),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[message[:60] for _, message in ERRORS])
def test_errors_name_file_parameter_and_key(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong is told with its place, what is possible, and the nearest."""
    path = write(tmp_path, text)
    with pytest.raises(SpaceError, match=f"^{re.escape(f'{path}: {message}')}$"):
        read_space(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", " is empty, expected a mapping with 'parameters'."),
        ("[1, 2]", " holds list [1, 2], expected a mapping with 'parameters'."),
        ("a: [", " is not valid YAML: "),
        ("a: {value: 1, value: 2}", " is not valid YAML: the key 'value' stands twice"),
        ("a: {value: !!python/object/apply:os.getcwd []}", " is not valid YAML: could not determine a constructor"),
        ("a: {value: 2020-13-45}", " is not valid YAML: '2020-13-45' is no timestamp (line 1)"),
        ("a: {[1]: 2}", " is not valid YAML: while constructing a mapping"),
        ("a: &x {b: *x}", " is not valid YAML: an alias stands within what it means (line 1)"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, message: str) -> None:
    """A file that is no mapping in YAML is refused, whatever it holds; nothing in it is executed."""
    path = write(tmp_path, text)
    with pytest.raises(SpaceError, match=f"^{re.escape(f'{path}{message}')}"):
        read_space(path)


def test_merged_keys(tmp_path: Path) -> None:
    """What ``<<`` brings in counts where the mapping does not say it itself, as YAML has it."""
    space = read_space(write(tmp_path, "a: &a {value: 1}\nb: {<<: *a}\nc: {<<: [*a], value: 5}"))
    assert dict(space) == {"a": Fixed(1), "b": Fixed(1), "c": Fixed(5)}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are no text are told as such."""
    with pytest.raises(SpaceError, match=r"none\.yaml cannot be read: No such file or directory\.$"):
        read_space(tmp_path / "none.yaml")
    with pytest.raises(SpaceError, match=r"cannot be read: Is a directory\.$"):
        read_space(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    with pytest.raises(SpaceError, match="is not valid YAML: 'utf-8' codec can't decode"):
        read_space(tmp_path / "bytes.yaml")


BRANCHED = """
parameters:
  optimizer: {values: [sgd, adam]}
tunehook:
  branches:
    optimizer:
      sgd:
        momentum: {min: 0.0, max: 0.99}
        nesterov: {values: [true, false]}
    nesterov:
      true: {k: {value: 3}}
"""


def test_branches(tmp_path: Path) -> None:
    """What exists only with a value stands under a key of ours; W&B has none for it."""
    path = tmp_path / "sweep.yaml"
    path.write_text(BRANCHED)
    nesterov = Choice({True: {"k": 3}, False: {}})
    sgd = {"momentum": Float(0, 0.99), "nesterov": nesterov}
    assert read_space(path).describe() == Space({"optimizer": Choice({"sgd": sgd, "adam": {}})}).describe()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sgd:\n", "sdg:\n", r"'optimizer' has a branch for \['sdg'\], and the values \['sgd', 'adam'\]."),
        (
            "    nesterov:\n",
            "    momentum:\n",
            r"the branches of 'momentum' are a mapping by its 'values', outside of i",
        ),
        ("    nesterov:\n", "    nesterow:\n", "there are branches of nesterow, which is no parameter."),
        ("true: {k: ", "true: {nesterov: ", "the branches of 'nesterov' are a mapping by its 'values', outside of it"),
        ("  branches:\n", "  branch:\n", "'tunehook' holds 'branches', a mapping by parameter, got"),
    ],
)
def test_branches_that_are_none(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The file, and what is wrong, are told."""
    path = tmp_path / "sweep.yaml"
    path.write_text(BRANCHED.replace(old, new, 1))
    with pytest.raises(SpaceError, match=f"^{re.escape(str(path))}: {message}"):
        read_space(path)
