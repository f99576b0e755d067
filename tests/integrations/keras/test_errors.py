"""Wrong uses: each is refused before the first step with a whole message."""

# ruff: noqa: D103 - the scripts are described by their names
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
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
    begin,
    call_of_fit,
    compile_model,
    plain,
    study,
    with_callback,
)
from tunehook.integrations.keras import TuneCallback
from tunehook.trial.errors import InjectionError, TrialError

pytestmark = QUIET

CASES: list[Any] = []
ADAM = [
    "optimizer.learning_rate = 0.009999999776482582",
    "optimizer.ema_momentum = 0.99",
    "optimizer.beta_1 = 0.9",
    "optimizer.beta_2 = 0.999",
    "optimizer.epsilon = 1e-07",
]
FIT = ["fit.batch_size = 4", "fit.epochs = 2"]
MORE = [
    "the number of layers: not possible, but as an argument of a model class of yours",
    "compile.<argument>, such as compile.loss; callback.<class>.<argument> of a callback",
    "any other setting of the optimizer or of a layer, such as kernel_initializer",
]
TWO = ["layer.hidden.units = 3", "layer.hidden.activation = 'linear'", "layer.out.units = 1"]
TWO += ["layer.out.activation = 'linear'"]


def nothing(name: str, rows: Sequence[str], hint: str = "", *, value: Any = 5) -> str:
    """The message on a name that means nothing."""
    own = name.rpartition(".")[2]
    listed = "".join(f"    {row}\n" for row in rows)
    return (
        f"There is nothing called '{name}' to inject.{hint}\n  What can be injected here:\n{listed}"
        f"  Rename '{name}' in the space, or read it where the script needs it: {own} = th.value({name!r}, {value!r})."
    )


def refused(
    message: str, values: Mapping[str, Any], *, kind: type[Exception] = InjectionError, anywhere: bool = False
) -> Callable[[Any], Any]:
    """Note a script whose fit is refused.

    Args:
        message: The whole message.
        values: The values of the trial.
        kind: The class of the error.
        anywhere: Whether it runs on each backend.
    """

    def note(script: Any) -> Any:
        marks = [] if anywhere else ONCE
        CASES.append(pytest.param(script, values, kind, message, id=script.__name__, marks=marks))
        return script

    return note


def sequential(*made: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    """A compiled Sequential model and its call of ``fit``."""
    model = keras.Sequential([keras.Input((4,)), *made])
    compile_model(model, keras.optimizers.Adam(0.01))
    return model, call_of_fit(**options)


# ---------------------------------------------------------------------- names and values


@refused(
    nothing(
        "unitz",
        [
            "optimizer.learning_rate = 0.10000000149011612",
            "optimizer.ema_momentum = 0.99",
            "optimizer.momentum = 0.0",
            "layer.hidden.units = 3",
            "layer.hidden.activation = 'relu'",
            "layer.drop.rate = 0.2",
            *FIT,
            *MORE,
        ],
    ),
    {"unitz": 5},
    anywhere=True,
)
def unknown_name() -> Any:
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activation="relu", name="hidden"), layers.Dropout(0.2, name="drop")]
    )
    compile_model(model, keras.optimizers.SGD(0.1))
    return model, call_of_fit()


@refused(
    nothing(
        "layer.hiden.units",
        [*ADAM, *TWO, *FIT, *MORE],
        " Did you mean 'layer.hidden.units' or 'layer.out.units'?",
    ),
    {"layer.hiden.units": 5},
)
def unknown_layer() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(
    nothing(
        "layer.hidden.unitz",
        [*ADAM, *TWO, *FIT, *MORE],
        " Did you mean 'layer.hidden.units' or 'hidden.units' or 'layer.hidden.activation'?",
    ),
    {"layer.hidden.unitz": 5},
)
def unknown_setting() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(
    "The hyperparameter 'units' could go to layer.hidden.units and layer.out.units.\n"
    "  Write the full path in the space, for example 'layer.hidden.units'.",
    {"units": 5},
)
def ambiguous_name() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(nothing("layers", [*ADAM, *TWO, *FIT, *MORE]), {"layers": 5})
def number_of_layers() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(
    "The hyperparameter 'layer.hidden.units' is 'many' (str), but layer.hidden.units takes int or float.\n"
    "  Use a distribution that gives int or float.",
    {"layer.hidden.units": "many"},
)
def wrong_type() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(
    "The hyperparameter 'batch_size' is 2.5 (float), but fit.batch_size takes int.\n"
    "  Use a distribution that gives int, such as Int(...).",
    {"batch_size": 2.5},
)
def wrong_type_of_batch_size() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(
    "Dense at test_errors.py:N cannot be constructed with units = 0: ValueError: Received an invalid value for "
    "`units`, expected a positive integer. Received: units=0\n"
    "  Leave such values out of the space.",
    {"layer.hidden.units": 0},
    anywhere=True,
)
def refused_by_a_layer() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(
    "Dense at test_errors.py:N cannot be constructed with activation = 'nosuch': ValueError: Could not interpret "
    "activation function identifier: nosuch\n"
    "  Leave such values out of the space.",
    {"layer.hidden.activation": "nosuch"},
)
def unknown_function() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(
    "SGD at test_errors.py:N cannot be constructed with momentum = 2.0: ValueError: `momentum` must be a float "
    "between [0, 1].\n"
    "  Leave such values out of the space.",
    {"momentum": 2.0},
)
def refused_by_the_optimizer() -> Any:
    model, call = sequential(layers.Dense(1))
    compile_model(model, keras.optimizers.SGD(0.1))
    return model, call


class Rest(layers.Dense):  # type: ignore[misc] # Keras has no types
    """A layer that hands on what it is given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


@refused(
    "layer.hidden.units = 5 cannot be put in: Rest at test_errors.py:N was not given it by its name.\n"
    "  Pass units=... there, in the training function; or take the name out of the space.",
    {"layer.hidden.units": 5},
)
def argument_without_a_name() -> Any:
    return sequential(Rest(3, name="hidden"), layers.Dense(1))


@refused(
    "fit.batch_size is at least 1; got 0.\n  Give the space a lower bound of 1.",
    {"batch_size": 0},
)
def batch_size_of_zero() -> Any:
    return sequential(layers.Dense(1))


@refused(
    "fit.epochs is at least 1; got 0.\n  Give the space a lower bound of 1.",
    {"epochs": 0},
)
def epochs_of_zero() -> Any:
    return sequential(layers.Dense(1))


@refused(
    "The hyperparameters 'lr' and 'learning_rate' both mean optimizer.learning_rate.\n"
    "  Remove one of them from the space.",
    {"lr": 0.1, "learning_rate": 0.2},
)
def two_names_of_one_slot() -> Any:
    return sequential(layers.Dense(1))


# ---------------------------------------------------------------------- classes of the user's


class Net(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class with an argument that nobody uses."""

    def __init__(self, units: int = 3, unused: float = 0.5) -> None:
        super().__init__()
        self.hidden = layers.Dense(units, name="hidden")
        self.head = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.head(self.hidden(x))


def net(model: Any) -> tuple[Any, dict[str, Any]]:
    """A compiled model and its call of ``fit``."""
    compile_model(model, keras.optimizers.Adam(0.01))
    return model, call_of_fit()


@refused(
    "Nothing uses model.unused: no line of the constructor of Net reads it.\n"
    "  Use the argument in Net, or take it out of the space.",
    {"unused": 0.25},
    anywhere=True,
)
def dead_argument() -> Any:
    return net(Net())


@refused(
    "Net at test_errors.py:N cannot be constructed with units = 0: ValueError: Received an invalid value for "
    "`units`, expected a positive integer. Received: units=0\n"
    "  Leave such values out of the space.",
    {"model.units": 0},
)
def refused_by_a_class() -> Any:
    return net(Net())


class Fitting(Net):
    """A class with a fit of its own."""

    def fit(self, x: Any, y: Any, callbacks: Any = (), **_options: Any) -> None:
        given = keras.callbacks.CallbackList(callbacks, model=self)
        given.on_train_begin()
        self.train_on_batch(x, y)


@refused(
    "Fitting has a fit() of its own that does not call keras.Model.fit, so no value can be injected.\n"
    "  Call super().fit(...) in it, with the callbacks, or override train_step instead.",
    {"model.units": 5},
    kind=TrialError,
)
def own_fit() -> Any:
    return net(Fitting())


# ---------------------------------------------------------------------- optimizers and schedules


@refused(
    nothing(
        "learning_rate",
        [
            "optimizer.learning_rate.initial_learning_rate = 0.1",
            "optimizer.learning_rate.decay_steps = 5",
            "optimizer.learning_rate.decay_rate = 0.5",
            "optimizer.ema_momentum = 0.99",
            "optimizer.momentum = 0.0",
            "layer.dense.units = 1",
            "layer.dense.activation = 'linear'",
            *FIT,
            "optimizer.learning_rate: not possible, ExponentialDecay gives it, whose settings are above",
            *MORE,
        ],
        value=0.5,
    ),
    {"learning_rate": 0.5},
    anywhere=True,
)
def rate_over_a_schedule() -> Any:
    model, call = sequential(layers.Dense(1))
    compile_model(model, keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)))
    return model, call


@refused(
    nothing(
        "learning_rate",
        [
            "layer.dense.units = 1",
            "layer.dense.activation = 'linear'",
            *FIT,
            "optimizer.<setting>: not possible, the model has no optimizer; compile it before fit",
            *MORE,
        ],
        value=0.5,
    ),
    {"learning_rate": 0.5},
)
def uncompiled_model() -> Any:
    return keras.Sequential([keras.Input((4,)), layers.Dense(1)]), call_of_fit()


@refused(
    "optimizer.learning_rate has no effect: LearningRateScheduler sets the learning rate in every epoch "
    "by a schedule that uses the epoch only.\n"
    "  Let it take the present rate too, schedule(epoch, lr), and return a multiple of it; or take the name "
    "out of the space.",
    {"learning_rate": 0.5},
    anywhere=True,
)
def schedule_of_the_epoch_only() -> Any:
    return sequential(
        layers.Dense(1), callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))]
    )


@refused(
    "optimizer.learning_rate has no effect: LearningRateScheduler sets the learning rate in every epoch "
    "by a schedule that uses the epoch only.\n"
    "  Let it take the present rate too, schedule(epoch, lr), and return a multiple of it; or take the name "
    "out of the space.",
    {"learning_rate": 0.5},
)
def schedule_that_ignores_the_rate() -> Any:
    return sequential(layers.Dense(1), callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch, lr: 0.1)])


class Setting(keras.callbacks.Callback):  # type: ignore[misc] # Keras has no types
    """A callback that sets a rate of its own."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = 0.125


@refused(
    "Injected values were lost before the first step:\n"
    "  optimizer.learning_rate holds 0.125 instead of 0.5 (hyperparameter 'learning_rate')\n"
    "  Something else sets them: remove that, or take the name out of the space.",
    {"learning_rate": 0.5},
    anywhere=True,
)
def rate_that_is_set_back() -> Any:
    return sequential(layers.Dense(1), callbacks=[Setting()])


# ---------------------------------------------------------------------- fit


def batches() -> Iterator[Any]:
    """A generator of batches."""
    while True:
        yield X[:4], Y[:4]


@refused(
    "fit.batch_size = 3 cannot be injected: x is a generator, which makes its batches by itself.\n"
    "  Read it where the batches are made: th.value('batch_size', 3). Or pass arrays or a torch DataLoader with a "
    "batch size.",
    {"batch_size": 3},
)
def batch_size_of_a_generator() -> Any:
    return sequential(layers.Dense(1), x=batches(), y=None, batch_size=None, steps_per_epoch=2)


class Data(keras.utils.PyDataset):  # type: ignore[misc] # Keras has no types
    """A dataset of Keras's."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return X[index * 4 : index * 4 + 4], Y[index * 4 : index * 4 + 4]


@refused(
    "fit.batch_size = 3 cannot be injected: x is a Data, which makes its batches by itself.\n"
    "  Read it where the batches are made: th.value('batch_size', 3). Or pass arrays or a torch DataLoader with a "
    "batch size.",
    {"batch_size": 3},
    anywhere=True,
)
def batch_size_of_a_dataset() -> Any:
    return sequential(layers.Dense(1), x=Data(), y=None, batch_size=None)


@refused(
    "optimizer.learning_rate = 0.5 has no effect: something set it to 0.01 after Adam at test_errors.py:N was made, as "
    "load_model() does with what was saved.\n"
    "  Set it there, to th.value('learning_rate', 0.01); or take the name out of the space.",
    {"learning_rate": 0.5},
    anywhere=True,
)
def rate_of_a_model_that_was_saved() -> Any:
    model, call = sequential(layers.Dense(1))
    model.optimizer.build(model.trainable_variables)
    model.save("saved.keras")
    return keras.models.load_model("saved.keras"), call


@refused(
    "fit has more than one TuneCallback; one fit is one trial.\n  Keep one of them.",
    {"learning_rate": 0.5},
    kind=TrialError,
)
def two_callbacks() -> Any:
    return sequential(layers.Dense(1), callbacks=[TuneCallback()])


@refused(
    "The fit ended without a training step, so there is nothing to tune: epochs=0 and initial_epoch=0 "
    "leave no epoch.\n"
    "  Give fit at least one epoch to train.",
    {"learning_rate": 0.5},
    kind=TrialError,
    anywhere=True,
)
def no_epoch() -> Any:
    return sequential(layers.Dense(1), epochs=0)


@pytest.mark.parametrize(("script", "values", "kind", "message"), CASES)
def test_refused(script: Any, values: dict[str, Any], kind: type[Exception], message: str) -> None:
    """The fit raises before its first step, and says so in a whole message."""
    steps, given = Steps(), study(values)

    def train() -> None:
        begin()
        model, call = script()
        model.fit(**with_callback(with_callback(call, steps), TuneCallback()))

    with pytest.raises(kind) as caught:
        given.optimize(train, trials=1, progress=False)
    assert type(caught.value) is kind
    assert re.sub(r"\.py:\d+", ".py:N", str(caught.value)) == message
    assert steps.count == 0
    assert [trial.outcome.state for trial in given.trials] == ["failed"]


@pytest.mark.parametrize("values", [{"layer.conv.kernel_size": 9}, {"layer.conv.filters": 3}])
@pytest.mark.skipif(BACKEND != "torch", reason="the backend makes no difference here")
def test_a_shape_that_does_not_fit(values: dict[str, Any]) -> None:
    """Keras says so where the model is made, as with the value typed in; a note says which values were put in."""

    def train() -> None:
        model, call = sequential(
            layers.Reshape((4, 1)), layers.Conv1D(2, 2, name="conv"), layers.Reshape((6,)), layers.Dense(1)
        )
        model.fit(**with_callback(call, TuneCallback()))

    begin()
    with pytest.raises(th.StudyError) as caught:
        study(values, max_failures=1).optimize(train, trials=1, progress=False)
    ((path, value),) = values.items()
    name = path.rpartition(".")[2]
    assert isinstance(caught.value.__cause__, ValueError)
    (note,) = caught.value.__cause__.__notes__
    assert re.sub(r":\d+", ":N", note) == f"The trial had put in: {name} = {value} (Conv1D at test_errors.py:N)"


def test_a_backup_with_an_old_rate(tmp_path: Path) -> None:
    """A backup of a fit that was interrupted brings its own learning rate, which is told before the first step."""

    def script() -> Any:
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        return sequential(layers.Dense(1), callbacks=[backup])

    def train() -> None:
        begin()
        model, call = script()
        model.fit(**with_callback({**call, "epochs": 5}, TuneCallback()))

    plain(script)
    with pytest.raises(InjectionError) as caught:
        study({"lr": 0.5}).optimize(train, trials=1, progress=False)
    assert str(caught.value) == (
        "Injected values were lost before the first step:\n"
        "  optimizer.learning_rate holds 0.009999999776482582 instead of 0.5 (hyperparameter 'lr')\n"
        "  Something else sets them: remove that, or take the name out of the space."
    )


def test_metric_that_is_never_logged() -> None:
    """After the first epoch it is plain that the metric does not exist; the message lists those that do."""
    begin()
    model, call = sequential(layers.Dense(1))
    steps = Steps()
    given = study({"lr": 0.5}, metric="vall_loss")

    def train() -> None:  # which returns nothing, so that the metric cannot come later
        model.fit(**with_callback(with_callback({**call, "validation_data": (X, Y)}, steps), TuneCallback()))

    with pytest.raises(TrialError) as caught:
        given.optimize(train, trials=1, progress=False)
    assert str(caught.value) == (
        "The study tunes the metric 'vall_loss', but the training did not log it. Did you mean 'val_loss' or 'loss'?\n"
        "  Metrics that exist: loss, val_loss.\n"
        "  Log 'vall_loss' in every epoch, or name one of these as Study(..., metric=...)."
    )
    assert steps.count == 3


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a dataset is TensorFlow's")
def test_batch_size_of_a_tensorflow_dataset() -> None:
    """A dataset of TensorFlow makes its batches by itself."""
    tensorflow = pytest.importorskip("tensorflow")
    begin()
    data = tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    model, call = sequential(layers.Dense(1), x=data, y=None, batch_size=None)
    with pytest.raises(InjectionError) as caught:
        study({"batch_size": 3}).optimize(
            lambda: model.fit(**with_callback(call, TuneCallback())), trials=1, progress=False
        )
    assert str(caught.value) == (
        "fit.batch_size = 3 cannot be injected: x is a _BatchDataset, which makes its batches by itself.\n"
        "  Read it where the batches are made: th.value('batch_size', 3). Or pass arrays or a torch DataLoader with a "
        "batch size."
    )
