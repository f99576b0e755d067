"""The values of a trial to copy: what reads each form finds the same values."""

from __future__ import annotations

import argparse
import ast
import json
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import tunehook as th
from tunehook.cli import app
from tunehook.trial import FORMATS, FinishedTrial, Outcome

PARAMS: dict[str, Any] = {
    "lr": 1e-5, "model.hidden": 64, "act": "relu", "flag": True, "nothing": None, "huge": math.inf, "empty": "",
    "true": "true", "number": "12", "list": [1, 2.5, "x y", None], "dict": {"a": [True]}, "pair": (1, 2),
    "quotes": 'it\'s "q" ${x} $HOME a,b=c\\', "end": "\\", "before": "a\\'b", "lines": "a\nb", "letters": "ünï 日本 ",
}  # fmt: skip
READ = {**PARAMS, "pair": [1, 2]}


def trial(params: dict[str, Any] = PARAMS) -> FinishedTrial:
    """A trial with these values."""
    return FinishedTrial(0, params, 1.0, Outcome("complete"))


def test_yaml_and_python() -> None:
    """Both hold the values as they are; numbers of NumPy are numbers."""
    assert yaml.safe_load(trial().as_yaml()) == READ
    assert ast.literal_eval(trial().as_python().replace("float('inf')", "1e999")) == PARAMS
    assert trial({"lr": np.float64(0.5)}).as_python() == "{\n    'lr': 0.5,\n}\n"
    assert trial({"lr": np.float32(0.5)}).as_yaml() == "lr: 0.5\n"


def test_hydra() -> None:
    """Hydra's own reader, and OmegaConf, which resolves interpolations, find the values."""
    pytest.importorskip("hydra")
    from hydra import compose, initialize_config_dir

    Path("config.yaml").write_text(json.dumps({}))
    with initialize_config_dir(str(Path.cwd()), version_base=None):
        found = compose("config", [f"+{one}" for one in shlex.split(trial().as_hydra())])
    from omegaconf import OmegaConf

    flat = {**READ, "model": {"hidden": 64}}
    del flat["model.hidden"]
    assert OmegaConf.to_container(found, resolve=True) == flat


def test_arguments() -> None:
    """A shell hands them over as they are: texts as texts, the others as JSON."""
    parser = argparse.ArgumentParser()
    for name in PARAMS:
        parser.add_argument(f"--{name}")
    read = vars(parser.parse_args(shlex.split(trial().as_arguments())))
    for name, value in READ.items():
        assert (read[name] if isinstance(value, str) else json.loads(read[name])) == value


def test_commands_print_them() -> None:
    """`show` and `best`, in each form."""

    def train() -> dict[str, float]:
        return {"v": th.value("lr", 0.1) + len(th.value("act", "relu"))}

    space = {"lr": th.Choice([0.25]), "act": th.Choice(["a b"])}
    study = th.Study("digits", space, metric="v", mode="min", search="random")
    study.optimize(train, trials=1, progress=False)
    for form, made in FORMATS.items():
        for command in (["best", "digits"], ["show", "digits", "0"]):
            done = CliRunner().invoke(app, [*command, "--values", form])
            assert (done.exit_code, done.output) == (0, made(study.best.params))
    assert study.best.as_arguments() == "--lr=0.25 '--act=a b'\n"
