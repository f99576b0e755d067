"""The life of a trial through Keras's fit: reports, stops, ends, and fits that are not tuned."""

from __future__ import annotations

import copy
import importlib
import io
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
import pytest
from keras import layers

import tunehook as th
from keras_projects import (
    BACKEND,
    ONCE,
    QUIET,
    Steps,
    X,
    Y,
    assert_same,
    begin,
    compile_model,
    only,
    plain,
    project,
    state,
    study,
    with_callback,
)
from tunehook.integrations.keras import TuneCallback
from tunehook.integrations.keras import callback as adapter
from tunehook.record.journal import read_journal
from tunehook.trial.errors import InjectionError, TrialError
from warm import python

pytestmark = QUIET
torch_only = pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")

VALUES = {"learning_rate": 0.05}


class After(optuna.pruners.BasePruner):
    """Stops after so many reports."""

    def __init__(self, reports: int) -> None:
        self.reports = reports

    def prune(self, study: Any, trial: Any) -> bool:
        return bool(trial.last_step >= self.reports)


class Raising(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Raises at the end of the second epoch."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            raise self.error


class Noting(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """Notes its hooks, and adds a metric of its own to the logs of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks: list[str] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.hooks.append("begin")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.hooks.append(f"epoch {epoch}")
        logs["own"] = 10.0 - epoch

    def on_train_end(self, logs: Any = None) -> None:
        self.hooks.append("end")


def script(**fit: Any) -> tuple[Any, dict[str, Any]]:
    """A plain project of five epochs with validation."""
    return project("functional", fit={"validation_data": (X, Y), "epochs": 5, **fit})


def run(given: th.Study, *callbacks: Any, **fit: Any) -> Any:
    """Run one trial of a study; returns the model, also where the training raised what the study knows."""
    made: list[Any] = []

    def train() -> None:
        begin()
        model, call = script(**fit)
        made.append(model)
        model.fit(**{**call, "callbacks": [TuneCallback(), *callbacks]})

    given.optimize(train, trials=1, progress=False)
    return made[0]


def events(given: th.Study, kind: str) -> list[dict[str, Any]]:
    """The events of one kind in the journal of the first trial."""
    return [event for event in read_journal(given.paths.journal(0)) if event["event"] == kind]


# ---------------------------------------------------------------------- reports and stops


def test_a_trial_from_begin_to_end() -> None:
    """Each epoch is a report with all numbers of its logs; the best one counts."""
    given = study(VALUES, metric="val_loss")
    model = run(given)
    reports = events(given, "report")
    history = model.history.history["val_loss"]
    assert [report["step"] for report in reports] == [1, 2, 3, 4, 5]
    assert [report["metrics"]["val_loss"] for report in reports] == history
    assert [report["metrics"]["epoch"] for report in reports] == [0, 1, 2, 3, 4]
    assert {*reports[0]["metrics"]} == {"epoch", "loss", "val_loss"}
    trial = only(given)
    assert (trial.outcome.state, trial.value) == ("complete", min(history))
    (effective,) = (event["effective"] for event in events(given, "config"))
    assert effective["optimizer.learning_rate"] == 0.05
    assert effective["layer.first.units"] == 5
    assert effective["fit.epochs"] == 5


def test_a_stop_ends_the_fit_in_good_order(tmp_path: Path) -> None:
    """The other callbacks end as they do after EarlyStopping, and what they keep is kept."""
    noting = Noting()
    others = [
        noting,
        keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(patience=3),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
    ]
    given = study(VALUES, metric="val_loss", stopper=After(2))
    model = run(given, *others)
    assert model.history.epoch == [0, 1]
    assert model.stop_training
    assert noting.hooks == ["begin", "epoch 0", "epoch 1", "end"]
    assert (tmp_path / "best.keras").exists()
    assert not (tmp_path / "backup").exists() or not any((tmp_path / "backup").iterdir())
    assert only(given).outcome.state == "pruned"
    assert [event["step"] for event in events(given, "decision")] == [2]


@torch_only
@pytest.mark.parametrize("freedom", [1, 10])
def test_other_callbacks_stop_by_themselves(freedom: int) -> None:
    """A fit that EarlyStopping ends is complete, with the epochs that ran."""
    stopping = keras.callbacks.EarlyStopping(monitor="own", mode="max", patience=freedom)
    given = study(VALUES, metric="own")
    model = run(given, Noting(), stopping)
    assert len(model.history.epoch) == min(freedom + 1, 5)
    assert only(given).outcome.state == "complete"
    assert len(events(given, "report")) == len(model.history.epoch)


def test_a_metric_of_another_callback() -> None:
    """What another callback adds to the logs of an epoch can be tuned, wherever it stands in the list."""
    given = study(VALUES, metric="own")
    run(given, Noting())
    assert [report["metrics"]["own"] for report in events(given, "report")] == [10.0, 9.0, 8.0, 7.0, 6.0]
    assert only(given).value == 6.0


def test_several_fits_of_a_trial() -> None:
    """Steps grow over the fits of a trial, whose values are in place already."""
    given = study({"layer.first.units": 7, **VALUES})
    made: list[Any] = []

    def train() -> None:
        begin()
        model, call = script(epochs=2)
        made.append(model)
        callback = TuneCallback()
        model.fit(**with_callback(call, callback))
        model.fit(**with_callback({**call, "initial_epoch": 2, "epochs": 4}, callback))

    given.optimize(train, trials=1, progress=False)
    assert [report["step"] for report in events(given, "report")] == [1, 2, 3, 4]
    assert [report["metrics"]["epoch"] for report in events(given, "report")] == [0, 1, 2, 3]
    begin()
    expected, call = project(
        "functional",
        units=7,
        optimizer=lambda: keras.optimizers.Adam(0.05),
        fit={"validation_data": (X, Y), "epochs": 2},
    )
    expected.fit(**call)
    expected.fit(**{**call, "initial_epoch": 2, "epochs": 4})
    assert_same(made[0], expected)


@torch_only
def test_a_later_fit_of_a_trial_that_was_stopped() -> None:
    """It does not begin: the training function is left there."""
    given = study(VALUES, stopper=After(1))
    lengths: list[int] = []

    def train() -> None:
        begin()
        model, call = script(epochs=3)
        callback = TuneCallback()
        lengths.extend(len(model.fit(**with_callback(call, callback)).epoch) for _ in range(2))

    given.optimize(train, trials=1, progress=False)
    assert lengths == [1]
    assert only(given).outcome.state == "pruned"


@pytest.mark.parametrize("metric", ["val_loss", "loss"])
@pytest.mark.parametrize("every", [pytest.param(1, marks=ONCE), 2, [2, 5]])
def test_validation_in_some_epochs(every: Any, metric: str) -> None:
    """A metric of the validation is awaited in the first epoch that validates, and reported in those only."""
    given = study(VALUES, metric=metric)
    run(given, validation_freq=every)
    epochs = [report["metrics"]["epoch"] for report in events(given, "report") if metric in report["metrics"]]
    wanted = {"1": [0, 1, 2, 3, 4], "2": [1, 3], "[2, 5]": [1, 4]}[str(every)]
    assert epochs == (wanted if metric == "val_loss" else [0, 1, 2, 3, 4])


@torch_only
@pytest.mark.parametrize(
    ("options", "epochs", "reports"),
    [
        ({}, 5, 5),
        ({"initial_epoch": 2}, 3, 3),
        ({"validation_freq": 2}, 5, 2),
        ({"validation_freq": 2, "initial_epoch": 2}, 3, 1),
        ({"validation_freq": 2, "initial_epoch": 1, "epochs": 4}, 3, 2),
        ({"validation_freq": [2, 5, 9]}, 5, 2),
        ({"validation_freq": [2, 4, 5], "initial_epoch": 2}, 3, 2),
    ],
)
def test_how_long_a_trial_is(options: dict[str, Any], epochs: int, reports: int) -> None:
    """A stopping rule knows how many reports a whole trial has."""
    begin()
    model, call = script(**options)
    callback = TuneCallback(study(VALUES, metric="val_loss"))
    model.fit(**with_callback(call, callback))
    assert callback._session is not None
    assert (callback._session.budget.epochs, callback._session.budget.reports) == (epochs, reports)
    assert callback._session.step == reports


@torch_only
def test_a_metric_that_comes_too_late() -> None:
    """A metric that the first epoch does not have is an error after that epoch, not after all."""
    given = study(VALUES, metric="val_loss")
    steps = Steps()
    with pytest.raises(TrialError, match=r"^The study tunes the metric 'val_loss', but the training did not log it\."):
        run(given, steps, validation_data=None)
    assert steps.count == 3


# ---------------------------------------------------------------------- ends


def test_not_a_number() -> None:
    """A loss that is no number ends the trial as infeasible, at once."""
    given = study({"learning_rate": 1e30})
    model = run(given)
    assert only(given).outcome.state == "infeasible"
    assert len(model.history.epoch) < 5
    assert not math.isfinite(model.history.history["loss"][-1])


def test_logs_that_are_no_metrics() -> None:
    """Texts, and numbers beyond all floats, end no training."""

    class Odd(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            logs.update(huge=10**400, text="fine", nothing=None)

    given = study(VALUES)
    begin()

    def train() -> None:
        model, call = script()
        model.fit(**{**call, "callbacks": [Odd(), TuneCallback()]})

    given.optimize(train, trials=1, progress=False)
    assert only(given).outcome.state == "complete"
    assert {name for event in events(given, "report") for name in event["metrics"]} == {"loss", "val_loss", "epoch"}


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (ZeroDivisionError("mine"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        pytest.param(SystemExit(3), "interrupted", marks=ONCE),
        pytest.param(MemoryError("too much"), "infeasible", marks=ONCE),
        pytest.param(RuntimeError("CUDA error: out of memory"), "infeasible", marks=ONCE),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
@pytest.mark.parametrize("asks", [False, pytest.param(True, marks=ONCE)])
def test_exceptions(error: BaseException, ending: str, asks: bool) -> None:
    """What ends a fit is told as what it is, in journal and study, and raised, whoever asked for the trial."""
    given = study(VALUES, max_failures=1)
    begin()
    model, call = script(callbacks=[Raising(error)])
    if asks:
        with pytest.raises(type(error)) as caught:
            model.fit(**with_callback(call, TuneCallback(given)))
        assert caught.value is error
    elif ending == "infeasible":
        run(given, Raising(error))
    else:
        with pytest.raises((type(error), th.StudyError)) as raised:
            run(given, Raising(error))
        assert error in (raised.value, raised.value.__cause__)
    trial = given.trials[0]
    assert trial.outcome.state == ending
    (end,) = events(given, "end")
    assert (end["state"], end["reason"]) == (ending, trial.outcome.reason)
    assert [report["step"] for report in events(given, "report")] in ([1], [1, 2])


TERMINATED = """
import os, signal
import keras
import numpy as np
import tunehook as th
from tunehook.integrations.keras import TuneCallback

class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse", run_eagerly=keras.backend.backend() != "torch")
x = np.ones((4, 2), "float32")
study = th.Study("killed", {"learning_rate": 0.1}, metric="loss", mode="min", search="grid")
model.fit(x, x[:, :1], epochs=9, verbose=0, callbacks=[TuneCallback(study), Kill()])
"""


@pytest.mark.slow
def test_terminated(tmp_path: Path) -> None:
    """A process that is asked to end tells its trial so, and ends as it was asked to."""
    ran = subprocess.run(
        [python(), "-c", TERMINATED],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 128 + signal.SIGTERM, ran.stderr[-2000:]
    journal = list(read_journal(tmp_path / "tunehook-studies" / "killed" / "trial-0000" / "journal.jsonl"))
    assert [(event["state"], event["reason"]) for event in journal if event["event"] == "end"] == [
        ("interrupted", "SIGTERM")
    ]
    assert [event["step"] for event in journal if event["event"] == "report"] in ([1], [1, 2])


@torch_only
def test_a_model_of_another_trial() -> None:
    """A model that one trial trained is no model for the next one."""
    begin()
    model, call = script(epochs=1)
    given = study({"learning_rate": th.Choice([0.1, 0.2])})
    with pytest.raises(TrialError) as caught:
        given.optimize(lambda: model.fit(**with_callback(call, TuneCallback())), trials=2, progress=False)
    assert str(caught.value) == (
        f"The Functional was trained in trial 0 of study '{given.name}' already, and trial 1 would go on with its "
        "weights.\n  Make the model inside the training function, so that each trial starts from scratch."
    )


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_layer_that_is_kept_for_all_trials(is_frozen: bool) -> None:
    """The next trial would go on with its weights: an error before the first step; not if none of them trains it."""
    begin()
    kept = keras.layers.Dense(3, name="kept", trainable=not is_frozen)

    def train() -> None:
        model = keras.Sequential([keras.Input((4,)), kept, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(X, Y, verbose=0, callbacks=[TuneCallback()])

    given = study({"learning_rate": th.Choice([0.1, 0.2])})
    if is_frozen:
        given.optimize(train, trials=2, progress=False)
        return
    message = rf"^sequential/kept/kernel of the Sequential was trained in trial 0 of study '{given.name}' already, and "
    with pytest.raises(TrialError, match=message):
        given.optimize(train, trials=2, progress=False)


@torch_only
def test_a_wrong_name_leaves_the_model_to_the_next_trial() -> None:
    """A model that made no step may be trained once the name is mended, as in the next cell of a notebook."""
    begin()
    model, call = script(epochs=1)
    for values, text in (({"typo": 1}, "There is nothing called 'typo'"), ({"layer.first.units": -1}, "cannot be")):
        with pytest.raises(InjectionError, match=text):
            model.fit(**with_callback(call, TuneCallback(study(values))))
    given = study({"learning_rate": 0.1})
    model.fit(**with_callback(call, TuneCallback(given)))
    assert given.best.outcome.state == "complete"


class Odd:
    """An object that can be neither compared nor shown."""

    def __eq__(self, _other: object) -> bool:
        raise LookupError("not yet")

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        raise LookupError("not yet")


class Holding(keras.Model):  # type: ignore[misc] # Keras has no types
    """A model that keeps an object."""

    def __init__(self, odd: object, units: int = 3, unused: int = 0) -> None:
        super().__init__()
        self.odd, self.held = odd, [np.zeros(2), odd]
        self.hidden = keras.layers.Dense(units, name="hidden")

    def call(self, x: Any) -> Any:
        return self.hidden(x)


@pytest.mark.parametrize("values", [{"model.units": 5}, {"hidden.units": 5}, {"learning_rate": 0.1}])
@torch_only
def test_an_odd_object_stays_out_of_the_way(values: dict[str, Any]) -> None:
    """A model that holds an object which nobody can compare is tuned as others are."""

    def train() -> None:
        model = Holding(Odd())
        model.compile("adam", "mse")
        model.fit(X, X[:, :1], epochs=1, verbose=0, callbacks=[TuneCallback()])

    begin()
    given = study(values)
    given.optimize(train, trials=1, progress=False)
    assert given.best.outcome.state == "complete"


# ---------------------------------------------------------------------- how callbacks are given


@pytest.mark.parametrize("form", ["one", "tuple", "nested", "list", "container"])
@torch_only
def test_forms_of_callbacks(form: str) -> None:
    """A callback can be given alone, in a list of lists, or in a CallbackList."""
    begin()
    model, call = script()
    given, noting = study(VALUES, metric="own" if form != "one" else "loss"), Noting()
    ours = TuneCallback(given)
    forms: dict[str, Any] = {
        "one": ours,
        "tuple": (ours, noting),
        "nested": [[ours], [[noting]]],
        "list": [ours, noting],
    }
    forms["container"] = keras.callbacks.CallbackList([ours, noting], add_history=True, model=model, epochs=5)
    model.fit(**{**call, "callbacks": forms[form]})
    assert only(given).outcome.state == "complete"
    assert [report["step"] for report in events(given, "report")] == [1, 2, 3, 4, 5]
    assert model.history.epoch == [0, 1, 2, 3, 4]


@torch_only
def test_the_users_list_stays_as_it_was() -> None:
    """The list that fit was given is the user's, and is not changed."""
    begin()
    model, call = script()
    mine = [TuneCallback(study({"batch_size": 3, "epochs": 2})), Noting()]
    before = list(mine)
    model.fit(**{**call, "callbacks": mine})
    assert mine == before
    assert (call["batch_size"], call["epochs"]) == (4, 5)


@torch_only
def test_callbacks_as_the_sixth_argument() -> None:
    """Arguments of fit may be given by position."""
    begin()
    model, _ = script()
    given = study({**VALUES, "batch_size": 6, "epochs": 3})
    history = model.fit(X, Y, 4, 5, 0, [TuneCallback(given)])
    assert history.epoch == [0, 1, 2]
    assert only(given).outcome.state == "complete"


# ---------------------------------------------------------------------- fits that are not tuned


def test_a_callback_without_a_trial() -> None:
    """Outside of a study the callback does nothing: fit trains the same as without it."""
    assert_same(plain(lambda: script(callbacks=[TuneCallback()])), plain(script))


def test_fit_without_the_callback() -> None:
    """Inside a trial a fit without the callback is left alone, such as that of a helper."""
    made: list[Any] = []

    def train() -> None:
        begin()
        helper, call = script(epochs=2)
        helper.fit(**call)
        made.append(helper)
        model, call = script(epochs=1)
        model.fit(**with_callback(call, TuneCallback()))

    study(VALUES).optimize(train, trials=1, progress=False)
    assert_same(made[-1], plain(lambda: script(epochs=2)))


def test_the_wrapper_is_put_on_once() -> None:
    """Importing, installing and reloading the adapter again wrap fit and compile no second time."""
    fit, made = keras.Model.fit, keras.Model.compile
    adapter.install()
    again = importlib.import_module(adapter.__name__)
    assert again is adapter
    assert (keras.Model.fit, keras.Model.compile) == (fit, made)
    assert not hasattr(fit.original, "original")
    before = dict(vars(adapter))
    try:
        reloaded = importlib.reload(adapter)
        assert (keras.Model.fit, keras.Model.compile) == (fit, made)
        for cls in (reloaded.TuneCallback, TuneCallback):  # also one that was made before
            begin()
            model, call = script(epochs=1)
            given = study(VALUES)
            model.fit(**with_callback(call, cls(given)))
            assert only(given).outcome.state == "complete"
    finally:
        vars(adapter).update(before)


@torch_only
def test_signature_and_documentation_of_fit() -> None:
    """Editors and help() show Keras's own fit."""
    assert keras.Model.fit.__doc__ == keras.Model.fit.original.__doc__
    assert keras.Sequential.fit is keras.Model.fit


def test_batches_are_dispatched_ahead() -> None:
    """Where Keras runs the hooks of batches beside the training, the callback does not end that."""
    ours = keras.callbacks.CallbackList([TuneCallback()])
    assert ours._async_train is keras.callbacks.CallbackList([])._async_train
    assert ours._async_train is keras.src.backend.IS_THREAD_SAFE


# ---------------------------------------------------------------------- several trials, several sources


def test_layers_of_each_trial_are_called_the_same() -> None:
    """Names that Keras counts start over in each trial, so that a name of the space means the same layer."""
    names: list[list[str]] = []

    def train() -> None:
        model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(1)])
        compile_model(model, "sgd")
        model.fit(X, Y, verbose=0, callbacks=[TuneCallback()])
        names.append([layer.name for layer in model.layers])

    given = study({"layer.dense.units": th.Choice([2, 3, 4]), "layer.dense_1.activation": "tanh"})
    layers.Dense(1)
    keras.backend.clear_session(free_memory=False)
    given.optimize(train, trials=3, progress=False)
    assert names == [["dense", "dense_1"]] * 3
    assert [trial.outcome.state for trial in given.trials] == ["complete"] * 3


def test_a_study_that_each_fit_asks() -> None:
    """Each fit with TuneCallback(study) is one trial."""
    given = study({"learning_rate": th.Choice([0.25, 0.5])})
    rates = []
    for _ in range(2):
        begin()
        model, call = script(epochs=1)
        model.fit(**with_callback(call, TuneCallback(given)))
        rates.append(float(model.optimizer.learning_rate))
    assert [trial.outcome.state for trial in given.trials] == ["complete"] * 2
    assert rates == [trial.params["learning_rate"] for trial in given.trials]
    assert sorted(rates) == [0.25, 0.5]


@pytest.mark.parametrize("inject", [True, pytest.param(False, marks=ONCE)])
def test_an_optuna_objective(inject: bool) -> None:
    """With an Optuna trial the callback injects its parameters, reports, and raises TrialPruned at a stop."""
    made: list[Any] = []

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_float("learning_rate", 0.05, 0.05)
        begin()
        model, call = script()
        made.append(model)
        history = model.fit(**with_callback(call, TuneCallback(trial, metric="val_loss", inject=inject)))
        return float(min(history.history["val_loss"]))

    theirs = optuna.create_study(pruner=After(3 if inject else 9))
    theirs.optimize(objective, n_trials=1)
    (trial,) = theirs.trials
    assert trial.state is (optuna.trial.TrialState.PRUNED if inject else optuna.trial.TrialState.COMPLETE)
    assert len(trial.intermediate_values) == (3 if inject else 5)
    assert round(float(made[0].optimizer.learning_rate), 6) == (0.05 if inject else 0.01)


@torch_only
def test_a_copy_of_a_callback() -> None:
    """A copy that was made beside a fit knows the source, and leads a fit of its own."""
    given = study(VALUES)
    callback = copy.deepcopy(TuneCallback())
    begin()
    model, call = script(epochs=1)
    given.optimize(lambda: model.fit(**with_callback(call, callback)), trials=1, progress=False)
    assert only(given).outcome.state == "complete"
    assert state(model) == state(
        plain(lambda: project("functional", optimizer=lambda: keras.optimizers.Adam(0.05), fit={"epochs": 1}))
    )


class Terminal(io.StringIO):
    """A text that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal], ids=["file", "terminal"])
def test_a_progress_bar_in_a_file_has_no_codes(stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a trial Keras writes its bar plain where no terminal is, and as it always does on one and afterwards."""
    written, printer = stream(), keras.utils.Progbar
    monkeypatch.setattr(sys, "stdout", written)

    def train() -> None:
        begin()
        model, call = script(verbose=1)
        model.fit(**with_callback(call, TuneCallback()))

    study(VALUES).optimize(train, trials=1, progress=False)
    text = written.getvalue()
    assert "━━━━" in text
    assert "- loss: " in text
    assert all((code in text) == (stream is Terminal) for code in ("\x1b[1m", "\b"))
    printer(1, width=3).update(1)
    assert "\x1b[32m━━━\x1b[0m" in written.getvalue()
