"""A trial that is known in fit only: what fit takes exactly is put in, all else is refused before the first step."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import optuna
import pytest
import yaml
from keras import layers

from keras_projects import (
    BACKEND,
    EAGER,
    ONCE,
    QUIET,
    Steps,
    X,
    Y,
    assert_same,
    begin,
    call_of_fit,
    compile_model,
    only,
    plain,
    project,
    state,
    study,
    with_callback,
)
from tunehook.integrations.keras import TuneCallback
from tunehook.record.journal import read_journal
from tunehook.trial.errors import InjectionError
from warm import python

pytestmark = QUIET

kinds = keras.optimizers


def late(script: Any, values: dict[str, Any]) -> Any:
    """The model that a script trains whose fit asks for the trial."""
    begin()
    model, call = script()
    given = study(values)
    model.fit(**with_callback(call, TuneCallback(given)))
    assert only(given).outcome.state == "complete"
    return model


# ---------------------------------------------------------------------- what fit takes


def settings(make: Callable[..., Any] = kinds.Adam, prepare: Any = lambda model: None, **typed: Any) -> Any:
    """A project whose optimizer and call of fit are given these values."""
    fit: dict[str, Any] = {name: typed.pop(name) for name in ("batch_size", "epochs") if name in typed}
    return project("functional", optimizer=lambda: make(**{"learning_rate": 0.01, **typed}), prepare=prepare, fit=fit)


def predict(model: Any) -> None:
    """The model was used before fit."""
    model.predict(X, verbose=0)


@pytest.mark.parametrize(
    ("script", "values"),
    [
        (settings, {"learning_rate": 0.05, "batch_size": 3, "epochs": 3}),
        (functools.partial(settings, kinds.AdamW, predict), {"learning_rate": 0.05, "weight_decay": 0.3}),
        pytest.param(functools.partial(settings, kinds.SGD), {"momentum": 0.5, "nesterov": True}, marks=ONCE),
        pytest.param(settings, {"beta_1": 0.5, "epsilon": 0.1, "clipnorm": 0.01}, marks=ONCE),
        pytest.param(settings, {"gradient_accumulation_steps": 2}, marks=ONCE),
        pytest.param(settings, {"use_ema": True, "ema_momentum": 0.5}, marks=ONCE),
    ],
)
def test_what_fit_takes(script: Any, values: dict[str, Any]) -> None:
    """Arguments of fit, and settings of an optimizer that has made nothing of them yet, are as if typed in."""
    assert_same(late(script, values), plain(functools.partial(script, **values)))


@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_a_rate_in_mixed_precision() -> None:
    """Where the optimizer scales the loss, it is the one inside that takes the rate."""

    def script(**typed: Any) -> Any:
        keras.config.set_dtype_policy("mixed_float16")
        return settings(**typed)

    assert_same(late(script, {"learning_rate": 0.05}), plain(functools.partial(script, learning_rate=0.05)))


@pytest.mark.skipif(BACKEND != "torch", reason="Keras takes a DataLoader on torch")
def test_batch_size_of_a_loader() -> None:
    """A DataLoader of torch trains with the new batch size, and has its own again after the fit."""
    torch = pytest.importorskip("torch")
    loaders: list[Any] = []

    def script(size: int = 4) -> Any:
        pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
        loaders.append(torch.utils.data.DataLoader(pairs, batch_size=size, shuffle=True))
        return project("sequential", fit={"x": loaders[-1], "y": None, "batch_size": None, "shuffle": False})

    assert_same(late(script, {"fit.batch_size": 3}), plain(script, size=3))
    assert (loaders[0].batch_size, loaders[0].batch_sampler.batch_size) == (4, 4)


def test_a_value_that_is_there_already() -> None:
    """What equals the script's own number needs not be put in."""
    values = {"layer.first.units": 5, "drop.rate": 0.5, "learning_rate": 0.01}
    assert_same(late(functools.partial(project, "functional"), values), plain(functools.partial(project, "functional")))


@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_two_fits_of_one_trial() -> None:
    """The rate of the first fit stays in the second one, whose optimizer has made steps with it."""

    def script(callbacks: Any, rate: float = 0.01) -> Any:
        begin()
        model, call = settings(learning_rate=rate)
        for last in (2, 4):
            model.fit(**{**call, "initial_epoch": last - 2, "epochs": last, "callbacks": callbacks})
        return model

    made: list[Any] = []

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("learning_rate", 0.05, 0.05)
        made.append(script([TuneCallback(trial, metric="loss")]))
        return 0.0

    optuna.create_study().optimize(objective, n_trials=1)
    assert_same(made[0], script([], 0.05))


# ---------------------------------------------------------------------- what fit does not take


class Falling(keras.optimizers.SGD):  # type: ignore[misc] # Keras has no types
    """An optimizer of the user's, which makes something of its rate."""

    def __init__(self, learning_rate: float = 0.1, **rest: Any) -> None:
        super().__init__(learning_rate, momentum=learning_rate / 2, **rest)


def own_optimizer() -> Any:
    """The project with it."""
    return project("functional", optimizer=Falling)


def built_optimizer() -> Any:
    """An optimizer that has made its variables."""
    model, call = project("functional", optimizer=lambda: kinds.SGD(0.1))
    model.optimizer.build(model.trainable_variables)
    return model, call


def scheduled() -> Any:
    """A rate that a schedule gives."""
    return project("functional", optimizer=lambda: kinds.SGD(kinds.schedules.ExponentialDecay(0.1, 5, 0.5)))


def stopping() -> Any:
    """Another callback beside."""
    return project("functional", fit={"callbacks": [keras.callbacks.EarlyStopping("loss", patience=9)]})


class Closed(layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer whose arguments no configuration can hold."""

    def __init__(self, function: Any, units: int = 3) -> None:
        super().__init__(name="closed")
        self.function, self.inner = function, layers.Dense(units)

    def call(self, rows: Any) -> Any:
        return self.function(self.inner(rows))


def closed() -> Any:
    """A model with such a layer."""
    model = keras.Sequential([keras.Input((4,)), Closed(abs)])
    compile_model(model, "sgd")
    return model, call_of_fit()


def several() -> Any:
    """Two optimizers in one."""
    choice = kinds.OptimizerMap(kinds.SGD(0.05), {"first/.*": kinds.SGD(0.1)})
    return project("functional", optimizer=lambda: kinds.MultiOptimizer(choice))


WAY_OUT = (
    "Make it in a training function, so that the trial is known before:\n"
    "    def train(): ...  # the script, with TuneCallback() in its fit\n"
    "    study.optimize(train, trials=30)"
)


@pytest.mark.parametrize(
    ("script", "values", "told"),
    [
        (functools.partial(project, "functional"), {"layer.first.units": 7}, "layer.first.units = 7 {} Dense 'first'"),
        (functools.partial(project, "functional"), {"drop.rate": 0.25}, "layer.drop.rate = 0.25 {} Dropout 'drop'"),
        (
            functools.partial(project, "sequential"),
            {"l2": 0.3, "learning_rate": 0.1, "batch_size": 3},
            "layer.first.kernel_regularizer.l2 = 0.3 {} Dense 'first'",
        ),
        (functools.partial(project, "subclassed"), {"units": 7}, "model.units = 7 {} Net"),
        (functools.partial(project, "subclassed"), {"first.units": 7}, "layer.first.units = 7 {} Dense 'first'"),
        (closed, {"layer.closed.units": 7}, "layer.closed.units = 7 {} Closed 'closed'"),
        (own_optimizer, {"learning_rate": 0.2}, "optimizer.learning_rate = 0.2 {} Falling"),
        (built_optimizer, {"momentum": 0.5}, "optimizer.momentum = 0.5 {} SGD"),
        (several, {"optimizer.0.learning_rate": 0.5}, "optimizer.0.learning_rate = 0.5 {} SGD"),
        (
            scheduled,
            {"initial_learning_rate": 0.2},
            "optimizer.learning_rate.initial_learning_rate = 0.2 {} SGD",
        ),
        (stopping, {"patience": 2}, "callback.EarlyStopping.patience = 2 {} EarlyStopping"),
        (stopping, {"compile.loss": "mae"}, "compile.loss = 'mae' {} the call of compile()"),
    ],
)
@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_what_fit_does_not_take(script: Any, values: dict[str, Any], told: str) -> None:
    """It is refused before the first step, and nothing has changed: the model trains as if it had not been tried."""
    begin()
    model, call = script()
    was, steps, given = state(model), Steps(), study(values)
    with pytest.raises(InjectionError) as caught:
        model.fit(**with_callback(with_callback(call, steps), TuneCallback(given)))
    assert str(caught.value) == (
        f"{told.format('cannot be put in:')} was made before this trial was known.\n  {WAY_OUT}"
    )
    assert (steps.count, state(model)) == (0, was)
    assert [trial.outcome.state for trial in given.trials] == ["failed"]
    model.fit(**call)
    assert_same(model, plain(script))


class Setting(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Sets a rate of its own, once."""

    is_done = False

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.is_done:
            self.is_done, self.model.optimizer.learning_rate = True, 0.125


@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_an_optimizer_has_its_own_settings_again() -> None:
    """Where a fit is refused after they were set."""
    begin()
    model, call = settings(kinds.SGD)
    values = {"learning_rate": 0.5, "momentum": 0.9}
    with pytest.raises(InjectionError, match=re.escape("learning_rate holds 0.125 instead of 0.5")):
        model.fit(**with_callback({**call, "callbacks": [Setting()]}, TuneCallback(study(values))))
    model.fit(**call)
    expected = plain(lambda: settings(kinds.SGD))
    assert state(model)["variables"] == state(expected)["variables"]
    assert model.optimizer.get_config() == {**expected.optimizer.get_config(), "name": model.optimizer.name}


@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_a_value_of_the_wrong_type() -> None:
    """It is told as such, whenever the trial is known."""
    message = (
        "The hyperparameter 'units' is 5.5 (float), but model.units takes int.\n"
        "  Use a distribution that gives int, such as Int(...)."
    )
    with pytest.raises(InjectionError, match=f"^{re.escape(message)}$"):
        late(functools.partial(project, "subclassed"), {"units": 5.5})


@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"learning_rate": 0.5},
            (
                "optimizer.learning_rate cannot be changed in this fit: the optimizer has made 6 steps with the old "
                "values.\n  Make and compile a new model for each trial."
            ),
        ),
        (
            {"momentum": 2.0},
            (
                "momentum cannot be injected: ValueError: `momentum` must be a float between [0, 1].\n"
                "  That was raised while the values were put in, by an object that has to be read or made again for "
                "it: mend it, or take the names out of the space."
            ),
        ),
    ],
)
def test_values_that_an_optimizer_does_not_take(values: dict[str, Any], message: str) -> None:
    """It has made steps, or its constructor refuses them."""
    begin()
    model, call = settings(kinds.SGD)
    if "learning_rate" in values:
        model.fit(**call)
    with pytest.raises(InjectionError) as caught:
        model.fit(**with_callback(call, TuneCallback(study(values))))
    assert str(caught.value) == message


# ---------------------------------------------------------------------- who knows the trial late


def in_fit(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that fit asks, as in a notebook."""
    late(functools.partial(project, "functional"), values)


def in_an_objective(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An Optuna objective without ``@th.objective``."""

    def objective(trial: optuna.Trial) -> float:
        for name, value in values.items():
            trial.suggest_int(name, value, value)
        begin()
        model, call = project("functional")
        model.fit(**with_callback(call, TuneCallback(trial, metric="loss")))
        return 0.0

    optuna.create_study().optimize(objective, n_trials=1)


def outside(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was made before the training function is called."""
    begin()
    model, call = project("functional")
    study(values).optimize(lambda: model.fit(**with_callback(call, TuneCallback())), trials=1, progress=False)


def layer_from_outside(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that was made before, in a model that the training function makes."""
    begin()
    first = layers.Dense(3, name="first")

    def train() -> None:
        model = keras.Sequential([keras.Input((4,)), first, layers.Dense(1)])
        compile_model(model, kinds.Adam(0.01))
        model.fit(**with_callback(call_of_fit(), TuneCallback()))

    study(values).optimize(train, trials=1, progress=False)


def in_a_thread(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects and fit in a thread of the training function's."""

    def train() -> None:
        begin()
        model, call = project("functional")
        model.fit(**with_callback(call, TuneCallback()))

    def threaded() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(train).result()

    study(values).optimize(threaded, trials=1, progress=False)


def fit_in_a_thread(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit in a thread, its objects not."""

    def train() -> None:
        begin()
        model, call = project("functional")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(model.fit, **with_callback(call, TuneCallback())).result()

    study(values).optimize(train, trials=1, progress=False)


def in_an_agent(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of ``wandb.agent`` without ``th.objective``."""
    path = tmp_path / "config-run1.yaml"
    path.write_text(yaml.safe_dump({name: {"value": value} for name, value in values.items()}))
    for name, text in (("SWEEP_ID", "s1"), ("RUN_ID", "run1"), ("SWEEP_PARAM_PATH", str(path))):
        monkeypatch.setenv(f"WANDB_{name}", text)
    begin()
    model, call = project("functional")
    model.fit(**with_callback(call, TuneCallback()))


IN_FUNCTION = "Make it in the training function, which is called for each trial."
IN_THREAD = "Make the objects, and call fit, in the thread in which the training function is called."


@pytest.mark.parametrize(
    ("way", "way_out"),
    [
        (in_fit, WAY_OUT),
        (
            in_an_objective,
            "Write @th.objective above the objective, so that the trial is known before it makes its objects.",
        ),
        (outside, IN_FUNCTION),
        (layer_from_outside, IN_FUNCTION),
        (in_a_thread, IN_THREAD),
        (fit_in_a_thread, IN_THREAD),
        (
            in_an_agent,
            "Give the agent wandb.agent(sweep, th.objective(train)), so that the trial is known before train makes it.",
        ),
    ],
)
@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_the_way_out(way: Any, way_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how the trial can be known before, by who has it."""
    with pytest.raises(InjectionError) as caught:
        way({"layer.first.units": 7}, tmp_path, monkeypatch)
    assert str(caught.value) == (
        f"layer.first.units = 7 cannot be put in: Dense 'first' was made before this trial was known.\n  {way_out}"
    )


# ---------------------------------------------------------------------- scripts

SCRIPT = """
import sys
import keras
import numpy as np
{early}

x = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
y = x[:, :1] - x[:, 1:2]

class Net(keras.Model):
    def __init__(self, inner, width=4):
        super().__init__()
        self.inner, self.wide, self.head = inner, keras.layers.Dense(width), keras.layers.Dense(1)

    def call(self, x):
        return self.head(self.wide(self.inner(x)))

epochs = {epochs}
print("begins")
keras.utils.set_random_seed(3)
hidden = keras.layers.Dense({units}, name="hidden")
inputs = keras.Input((4,))
encoder = keras.Model(inputs, keras.layers.Dropout({rate})(hidden(inputs)))
model = Net(encoder, hidden.units // 2)
optimizer = keras.optimizers.AdamW({lr}, weight_decay=0.1)
steps = keras.optimizers.schedules.CosineDecay(float(optimizer.learning_rate) * 2, 3 * hidden.units)
model.compile(optimizer, "mse", run_eagerly={eager})
print("before", steps.initial_learning_rate, steps.decay_steps, [layer.name for layer in model.layers])
{late}
model.fit(x, y, batch_size=4, epochs=epochs, verbose=0, callbacks={callbacks})
print("weights", [weight.path for weight in model.weights])
print([keras.ops.convert_to_numpy(weight.value).tobytes().hex() for weight in model.weights])
"""
STUDY = """
import tunehook as th
from tunehook.integrations.keras import TuneCallback
study = th.Study("script", {space}, metric="loss", mode="min", search="random")
"""
TYPED = {"units": 6, "lr": 0.05, "rate": 0.4, "epochs": 2}
OWN = {"units": 4, "lr": 0.01, "rate": 0.1, "epochs": 2}


def run(folder: Path, text: str) -> list[str]:
    """The lines that a script prints."""
    (folder / "script.py").write_text(text)
    ran = subprocess.run(
        [python(), "script.py"], cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout.splitlines()


def with_study(space: dict[str, Any], *, is_late: bool = False) -> str:
    """The script with a study, which may be the last thing before its fit."""
    made = STUDY.replace("{space}", repr(space))
    early, late = ("", made) if is_late else (made, "")
    return SCRIPT.format(**OWN, eager=EAGER, early=early, late=late, callbacks="[TuneCallback(study)]")


@pytest.mark.parametrize("is_late", [False, pytest.param(True, marks=ONCE)])
@pytest.mark.slow
def test_a_script_equals_itself_with_the_values_typed_in(is_late: bool, tmp_path: Path) -> None:
    """It is run again from its beginning with its trial known, and once more for the next trial of its own process."""
    given = {"hidden.units": 6, "learning_rate": 0.05, "rate": 0.4}
    typed = run(tmp_path, SCRIPT.format(**TYPED, eager=EAGER, early="", late="", callbacks="[]"))
    tuned = run(tmp_path, with_study(given, is_late=is_late))
    assert tuned[-3:] == typed[-3:]
    assert tuned[-3] != tuned[1]
    again = run(tmp_path, with_study(given, is_late=is_late))
    assert again[-3:] == typed[-3:]
    journals = sorted((tmp_path / "tunehook-studies" / "script").glob("trial-*/journal.jsonl"))
    ends = [event["state"] for path in journals for event in read_journal(path) if event["event"] == "end"]
    assert ends == ["complete"] * 2


@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
@pytest.mark.slow
@pytest.mark.parametrize(("given", "begins"), [({"epochs": 2, "batch_size": 4}, 1), ({"learning_rate": 0.01}, 2)])
def test_a_script_is_run_again_where_it_has_to_be(given: dict[str, Any], begins: int, tmp_path: Path) -> None:
    """Not for arguments of fit; for a rate, since the script may have derived something from it."""
    assert run(tmp_path, with_study(given)).count("begins") == begins


@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
@pytest.mark.slow
def test_code_that_is_no_file(tmp_path: Path) -> None:
    """It cannot be run again, so its values are refused."""
    text = with_study({"width": 3})
    ran = subprocess.run(
        [python(), "-c", text], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.partition("InjectionError: ")[2] == (
        f"model.width = 3 cannot be put in: Net was made before this trial was known.\n  {WAY_OUT}\n"
    )
