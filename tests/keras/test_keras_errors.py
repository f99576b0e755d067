"""Wrong uses: each is refused before the first step with a whole message, and leaves the model as it was."""

# ruff: noqa: D103 - the scripts are described by their names
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers

import tunehook as th
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
    plain,
    project,
    state,
    study,
    with_callback,
)
from tunehook.errors import InjectionError, TrialError
from tunehook.integrations.keras import TuneCallback

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
    "Layer 'hidden' (Dense) cannot be constructed again with layer.hidden.units = 0: ValueError: Received "
    "an invalid value for `units`, expected a positive integer. Received: units=0\n"
    "  Give values that the layer takes, and the layer a get_config() that returns all arguments of its "
    "constructor; or take the name out of the space.",
    {"layer.hidden.units": 0},
    anywhere=True,
)
def refused_by_a_layer() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(
    "Layer 'hidden' (Dense) cannot be constructed again with layer.hidden.activation = 'nosuch': "
    "ValueError: Could not interpret activation function identifier: nosuch\n"
    "  Give values that the layer takes, and the layer a get_config() that returns all arguments of its "
    "constructor; or take the name out of the space.",
    {"layer.hidden.activation": "nosuch"},
)
def unknown_function() -> Any:
    return sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))


@refused(
    "The model cannot be built with layer.conv.kernel_size = 9, for layer 'conv' says ValueError: "
    "Computed output size would be zero or negative. Received `inputs shape=(None, 4, 1)`, `kernel "
    "shape=(9, 1, 2)`, `dilation_rate=[1]`, `strides=(1,)`, `padding=valid`.\n"
    "  The same happens with these values typed in: narrow the space.",
    {"layer.conv.kernel_size": 9},
)
def a_shape_that_does_not_fit() -> Any:
    return sequential(layers.Reshape((4, 1)), layers.Conv1D(2, 2, name="conv"), layers.Flatten(), layers.Dense(1))


@refused(
    "The model cannot be built with layer.heads.units = 5, for layer 'reshape' says ValueError: The total "
    "size of the tensor must be unchanged. Received: input_shape=(5,), target_shape=(2, 2)\n"
    "  The same happens with these values typed in: narrow the space.",
    {"layer.heads.units": 5},
)
def a_shape_that_does_not_fit_behind() -> Any:
    return sequential(layers.Dense(4, name="heads"), layers.Reshape((2, 2)), layers.Flatten(), layers.Dense(1))


@refused(
    "The optimizer SGD cannot be constructed again with optimizer.momentum = 2.0: ValueError: `momentum` "
    "must be a float between [0, 1].\n"
    "  Give values that it takes, and an optimizer of your own a get_config() that returns all arguments of "
    "its constructor.",
    {"momentum": 2.0},
)
def refused_by_the_optimizer() -> Any:
    model, call = sequential(layers.Dense(1))
    compile_model(model, keras.optimizers.SGD(0.1))
    return model, call


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


# ---------------------------------------------------------------------- weights and other models


@refused(
    "layer.hidden.units changes the shape of the weights of layer 'hidden' ((4, 3) to (4, 5)), but they "
    "were loaded or trained before fit.\n"
    "  Such a hyperparameter can only be tuned from scratch: take it out of the space, or do not load.",
    {"layer.hidden.units": 5},
    anywhere=True,
)
def loaded_weights() -> Any:
    model, call = sequential(layers.Dense(3, name="hidden"), layers.Dense(1))
    model.set_weights([weight + 1 for weight in model.get_weights()])
    return model, call


@refused(
    "layer.hidden.units changes the shape of the weights of layer 'out' ((3, 1) to (5, 1)), but they were "
    "loaded or trained before fit.\n"
    "  Such a hyperparameter can only be tuned from scratch: take it out of the space, or do not load.",
    {"layer.hidden.units": 5},
)
def loaded_weights_behind() -> Any:
    model, call = sequential(layers.Dense(3, name="hidden"), layers.Dense(1, name="out"))
    model.layers[1].bias.assign([1.0])
    return model, call


@refused(
    "model.units changes the shape of the weights of Net, but they were loaded or trained before fit.\n"
    "  Such a hyperparameter can only be tuned from scratch: take it out of the space, or do not load.",
    {"model.units": 7},
    anywhere=True,
)
def loaded_weights_of_a_class() -> Any:
    def prepare(model: Any) -> None:
        model(X[:1])
        model.set_weights([weight + 1 for weight in model.get_weights()])

    return project("subclassed", prepare=prepare)


@refused(
    "Layer 'hidden' cannot be changed: another model, 'encoder', uses it too.\n"
    "  Build the other model after fit, or take the name out of the space.",
    {"layer.hidden.units": 5},
    anywhere=True,
)
def another_model() -> Any:
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="hidden")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.other = [keras.Model(inputs, x, name="encoder")]
    ALIVE[:] = [keras.Model(inputs, x, name="encoder")]
    compile_model(model, "adam")
    return model, call_of_fit()


ALIVE: list[Any] = []


@refused(
    "layer.hidden.units cannot be changed in this fit: the model was trained before, its optimizer has "
    "made 6 steps with the old values, and on TensorFlow and JAX the compiled step would go on with them.\n"
    "  Make and compile the model anew for each trial, inside the training function; for a further fit with "
    "other values compile it again before.",
    {"layer.hidden.units": 5},
    anywhere=True,
)
def trained_before() -> Any:
    model, call = sequential(layers.Dense(3, name="hidden"), layers.Dense(1))
    model.fit(**call)
    return model, call


@refused(
    "optimizer.learning_rate cannot be changed in this fit: the model was trained before, its optimizer "
    "has made 6 steps with the old values, and on TensorFlow and JAX the compiled step would go on with "
    "them.\n"
    "  Make and compile the model anew for each trial, inside the training function; for a further fit with "
    "other values compile it again before.",
    {"learning_rate": 0.5},
    anywhere=True,
)
def rate_of_a_trained_model() -> Any:
    model, call = sequential(layers.Dense(1))
    model.fit(**call)
    return model, call


# ---------------------------------------------------------------------- classes of the user's


class Net(keras.Model):  # type: ignore[misc] # Keras has no types
    """A class with an argument that nobody uses, and a list that it uses up."""

    def __init__(self, units: int = 3, unused: float = 0.5, widths: Any = ()) -> None:
        super().__init__()
        self.hidden = layers.Dense(units, name="hidden")
        self.more = [layers.Dense(width) for width in iter(widths)]
        self.head = layers.Dense(1)

    def call(self, x: Any) -> Any:
        x = self.hidden(x)
        for layer in self.more:
            x = layer(x)
        return self.head(x)


def net(model: Any) -> tuple[Any, dict[str, Any]]:
    """A compiled model and its call of ``fit``."""
    compile_model(model, keras.optimizers.Adam(0.01))
    return model, call_of_fit()


@refused(
    "Nothing uses model.unused: Net is the same with 0.5 and with 0.25.\n"
    "  Use the argument in Net, or take it out of the space.",
    {"unused": 0.25},
    anywhere=True,
)
def dead_argument() -> Any:
    return net(Net())


@refused(
    "model.units cannot be injected: Net was changed after it was constructed (hidden.units, note), and "
    "constructing it anew would lose that.\n"
    "  Do it in Net.__init__, or take the name out of the space.",
    {"model.units": 5},
)
def changed_after_construction() -> Any:
    model = Net()
    model.hidden.units = 4
    model.note = "mine"
    return net(model)


@refused(
    "Net cannot be constructed again with units = 0: ValueError: Received an invalid value for `units`, "
    "expected a positive integer. Received: units=0\n"
    "  Its constructor must not use up what it is given, and must take the values of the space.",
    {"model.units": 0},
)
def refused_by_a_class() -> Any:
    return net(Net())


@refused(
    "model.units cannot be injected: Net was given an iterator as 'widths', which is used up, so that it "
    "cannot be constructed again.\n"
    "  Give it a list.",
    {"model.units": 5},
)
def argument_that_is_used_up() -> Any:
    return net(Net(widths=iter([2, 2])))


class Compiling(Net):
    """A class with a compile of its own."""

    def compile(self, rate: float = 0.1) -> None:
        super().compile(keras.optimizers.SGD(rate), "mse", run_eagerly=EAGER)


@refused(
    "model.units cannot be changed: Compiling has a compile() of its own, so that a Compiling cannot be "
    "compiled again as it was.\n"
    "  Move what compile() does into the constructor, or take the name out of the space.",
    {"model.units": 5},
    anywhere=True,
)
def own_compile() -> Any:
    model = Compiling()
    model.compile()
    return model, call_of_fit()


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


# ---------------------------------------------------------------------- layers of the user's


class Bare(layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer without get_config, whose argument Keras cannot describe."""

    def __init__(self, units: int, helper: object) -> None:
        super().__init__(name="bare")
        self.inner = layers.Dense(units)

    def call(self, x: Any) -> Any:
        return self.inner(x)


@refused(
    nothing(
        "layer.bare.units",
        [
            *ADAM,
            "layer.dense_1.units = 1",
            "layer.dense_1.activation = 'linear'",
            *FIT,
            "layer.bare.<setting>: not possible, it has no get_config() that returns all arguments of its constructor",
            *MORE,
        ],
        " Did you mean 'layer.dense_1.units'?",
    ),
    {"layer.bare.units": 5},
)
def layer_without_configuration() -> Any:
    return sequential(Bare(3, object()), layers.Dense(1))


@refused(
    "Layer 'bare' (Bare) cannot be constructed again with layer.hidden.units = 5: it has no get_config() that returns "
    "all arguments of its constructor\n"
    "  Give values that the layer takes, and the layer a get_config() that returns all arguments of its constructor; "
    "or take the name out of the space.",
    {"hidden.units": 5},
)
def layer_without_configuration_behind_another() -> Any:
    return sequential(layers.Dense(3, name="hidden"), Bare(3, object()), layers.Dense(1))


class Silent(layers.Layer):  # type: ignore[misc] # Keras has no types
    """A layer whose get_config misses an argument."""

    def __init__(self, units: int, scale: float = 1.0, **rest: Any) -> None:
        super().__init__(**rest)
        self.units, self.scale = units, scale
        self.inner = layers.Dense(units)

    def call(self, x: Any) -> Any:
        return self.inner(x) * self.scale

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@refused(
    "Layer 'silent' (Silent) cannot be constructed again: its get_config() does not tell scale, which "
    "would be lost.\n"
    "  Return all arguments of the constructor in get_config(), and set nothing on the layer afterwards; or "
    "take the name out of the space.",
    {"layer.silent.units": 5},
    anywhere=True,
)
def configuration_that_misses_an_argument() -> Any:
    return sequential(Silent(3, scale=2.0), layers.Dense(1))


class Blank(Silent):
    """A layer whose get_config misses an argument that is required."""

    def __init__(self, units: int, width: int, **rest: Any) -> None:
        super().__init__(units, **rest)


@refused(
    "Layer 'blank' (Blank) cannot be constructed again with layer.blank.units = 5: TypeError: "
    "Blank.__init__() missing 1 required positional argument: 'width'\n"
    "  Give values that the layer takes, and the layer a get_config() that returns all arguments of its "
    "constructor; or take the name out of the space.",
    {"layer.blank.units": 5},
)
def configuration_that_misses_a_required_argument() -> Any:
    return sequential(Blank(3, 2), layers.Dense(1))


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


@refused(
    "exclude_from_weight_decay(var_list=...) names weights that are made anew with the new values.\n"
    "  Name them by exclude_from_weight_decay(var_names=[...]), or take the names of layers and of the "
    "model out of the space.",
    {"layer.hidden.units": 5, "weight_decay": 0.1},
)
def weights_that_the_optimizer_knows() -> Any:
    model, call = sequential(layers.Dense(3, name="hidden"), layers.Dense(1))
    model.optimizer.exclude_from_weight_decay(var_list=[model.layers[0].bias])
    return model, call


# ---------------------------------------------------------------------- fit


def batches() -> Iterator[Any]:
    """A generator of batches."""
    while True:
        yield X[:4], Y[:4]


@refused(
    "fit.batch_size = 3 cannot be injected: x is a generator, which makes its batches by itself.\n"
    "  Pass arrays or a torch DataLoader with a batch size, or take 'fit.batch_size' out of the space.",
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
    "  Pass arrays or a torch DataLoader with a batch size, or take 'fit.batch_size' out of the space.",
    {"batch_size": 3},
    anywhere=True,
)
def batch_size_of_a_dataset() -> Any:
    return sequential(layers.Dense(1), x=Data(), y=None, batch_size=None)


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
    """The fit raises before its first step, says so in a whole message, and leaves the model as it was."""
    begin()
    model, call = script()
    was, steps = snapshot(model), Steps()
    given = study(values)
    with pytest.raises(kind) as caught:
        given.optimize(
            lambda: model.fit(**with_callback(with_callback(call, steps), TuneCallback())), trials=1, progress=False
        )
    assert (type(caught.value), str(caught.value)) == (kind, message)
    assert steps.count == 0
    assert snapshot(model) == was
    assert [trial.outcome.state for trial in given.trials] == ["failed"]
    if script not in (uncompiled_model, own_fit, no_epoch, batch_size_of_a_generator):
        model.fit(**call)
        assert_same(model, plain(script))


def test_a_backup_with_an_old_rate(tmp_path: Path) -> None:
    """A backup of a fit that was interrupted brings its own learning rate, which is told before the first step."""

    def script() -> Any:
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False)
        return sequential(layers.Dense(1), callbacks=[backup])

    plain(script)
    begin()
    model, call = script()
    with pytest.raises(InjectionError) as caught:
        study({"lr": 0.5}).optimize(
            lambda: model.fit(**with_callback({**call, "epochs": 5}, TuneCallback())), trials=1, progress=False
        )
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
        "  Pass arrays or a torch DataLoader with a batch size, or take 'fit.batch_size' out of the space."
    )


EARLY = """
import os
import keras
import numpy as np

class Net(keras.Model):
    def __init__(self, units=3):
        super().__init__()
        self.hidden = keras.layers.Dense(units)
        self.head = keras.layers.Dense(1)

    def call(self, x):
        return self.head(self.hidden(x))

model = Net()
x = np.ones((4, 2), "float32")
model.compile("sgd", "mse")

import tunehook as th
from tunehook.integrations.keras import TuneCallback

study = th.Study("early", {"model.units": 5}, metric="loss", mode="min", search="grid")
model.fit(x, x[:, :1], verbose=0, callbacks=[TuneCallback(study)])
"""


@pytest.mark.slow
def test_model_that_was_made_before_the_import(tmp_path: Path) -> None:
    """Constructor calls are recorded from the import on, and the message says so."""
    ran = subprocess.run(
        [sys.executable, "-c", EARLY], cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.partition("InjectionError: ")[2] == (
        "There is nothing called 'model.units' to inject.\n"
        "  What can be injected here:\n"
        "    optimizer.learning_rate = 0.009999999776482582\n"
        "    optimizer.ema_momentum = 0.99\n"
        "    optimizer.momentum = 0.0\n"
        "    fit.batch_size = 32\n"
        "    fit.epochs = 1\n"
        "    model.<argument>, layer.<name>.<setting>: not possible, it was constructed before "
        "tunehook.integrations.keras was imported\n"
        "    any other setting of the optimizer or of a layer, such as kernel_initializer\n"
        "  Rename 'model.units' in the space, or make it an argument of the constructor that should use it.\n"
    )


def snapshot(model: Any) -> Any:
    """All that a refused fit might change: weights, names, configuration, settings of the optimizer."""
    optimizer = model.optimizer.get_config() if model.compiled else None
    try:
        config = model.get_config()
    except NotImplementedError:
        config = None
    return state(model), config, optimizer


class Closed(keras.layers.Layer):  # type: ignore[misc]
    """A layer whose argument no configuration can hold."""

    def __init__(self, function: Any, units: int = 3) -> None:
        super().__init__(name="closed")
        self.function, self.inner = function, keras.layers.Dense(units)

    def call(self, rows: Any) -> Any:
        return self.function(self.inner(rows))


class Holding(keras.Model):  # type: ignore[misc]
    """A model of a class with such a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = Closed(abs)

    def call(self, rows: Any) -> Any:
        return self.closed(rows)


def test_a_layer_without_a_configuration_in_a_model_class() -> None:
    """The message says why the settings of such a layer cannot be changed, in a model class too."""
    model = Holding()
    model.compile("sgd", "mse")
    space = {"layer.closed.units": 4}
    study = th.Study("closed", space, metric="loss", mode="min", search="random")
    with pytest.raises(InjectionError) as raised:
        model.fit(X, Y, verbose=0, callbacks=[TuneCallback(study)])
    line = "    layer.closed.<setting>: not possible, NotImplementedError: "
    assert any(each.startswith(line) for each in str(raised.value).splitlines()), str(raised.value)
