"""Population-based training in Keras, on the backend that KERAS_BACKEND names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import tunehook as th
from tunehook.integrations.keras import TuneCallback

pytestmark = pytest.mark.filterwarnings("ignore")
SPACE = {
    "lr": th.Float(1e-3, 1e-1, log=True),
    "optimizer.momentum": th.Float(0.1, 0.95),
    "optimizer.weight_decay": th.Float(1e-5, 1e-2, log=True),
    "noise.rate": th.Float(0.1, 0.5),
    "fit.batch_size": th.Choice([8, 16, 32]),
}
EPOCHS, INTERVAL, POPULATION = 5, 2, 4


class Look(keras.callbacks.Callback):  # type: ignore[misc]
    """What a trial begins with, and what it leaves; it comes before our callback."""

    def __init__(self, first: dict[int, dict[str, Any]], last: dict[int, str]) -> None:
        super().__init__()
        self.seen: Any = lambda: (first, last)  # not a plain value, which would be restored with the callback
        self.batches = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        optimizer, trial = self.model.optimizer, th.current()
        assert trial is not None
        self.batches = 0
        self.seen()[0].setdefault(trial.number, {
            "bits": self._bits(),
            "epoch": epoch,
            "lr": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
            "optimizer.momentum": optimizer.momentum,
            "optimizer.weight_decay": optimizer.weight_decay,
            "noise.rate": self.model.get_layer("noise").rate,
        })  # fmt: skip

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        trial = th.current()
        assert trial is not None
        first, last = self.seen()
        last[trial.number] = self._bits()
        first[trial.number]["fit.batch_size"] = 64 // self.batches

    def _bits(self) -> str:
        """The weights and the momentum, in short; at the begin of an interval the optimizer may not be built yet."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        optimizer = self.model.optimizer
        if not optimizer.built:
            return ""
        variables = [*self.model.trainable_variables, *optimizer.momentums, optimizer.iterations]
        return hashlib.sha256(b"".join(keras.ops.convert_to_numpy(one).tobytes() for one in variables)).hexdigest()


def training(first: dict[int, Any], last: dict[int, Any]) -> Callable[[], None]:
    """Shuffled batches, dropout and momentum."""

    def train() -> None:
        keras.utils.set_random_seed(3)
        model = keras.Sequential([
            keras.Input((4,)), keras.layers.Dense(8, name="inner"), keras.layers.Dropout(0.2, name="noise"),
            keras.layers.Dense(1),
        ])  # fmt: skip
        model.compile(keras.optimizers.SGD(0.1, momentum=0.5, weight_decay=1e-3), "mse")
        x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        model.fit(
            x, x[:, :1], batch_size=16, epochs=EPOCHS, verbose=0, callbacks=[Look(first, last), TuneCallback()]
        )  # fmt: skip

    return train


def study(space: dict[str, Any] = SPACE, search: Any = th.PBT(population=POPULATION, interval=INTERVAL)) -> th.Study:  # noqa: B008 - frozen
    """A population of four."""
    return th.Study("pbt", space, metric="loss", mode="min", search=search, seed=1, snapshots=False)


def test_copies_and_new_values_are_there_in_the_next_step() -> None:
    """Each interval begins with the bits of its parent, and with its own values; the schedule that won is replayed."""
    first: dict[int, Any] = {}
    last: dict[int, str] = {}
    made = study()
    made.optimize(training(first, last), progress=False)

    copies = 0
    for trial in made.trials:
        assert trial.lineage is not None
        seen, parent = dict(first[trial.number]), trial.lineage.parent
        assert seen.pop("epoch") == trial.lineage.generation * INTERVAL
        bits = seen.pop("bits")
        assert seen.pop("lr") == float(np.float32(trial.params["lr"]))
        assert seen == {name: value for name, value in trial.params.items() if name != "lr"}, trial.number
        if parent is not None:
            assert bits == last[parent] != "", trial.number
            copies += made.trials[parent].lineage.member != trial.lineage.member  # type: ignore[union-attr]
    assert copies == 2
    assert made.counts() == {"complete": 12}

    again: dict[int, str] = {}
    replay = made.replay_schedule(training({}, again))
    assert replay.trials[-1].value == made.best.value
    assert again[len(made.schedule()) - 1] == last[made.best.number]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"inner.units": th.Choice([4, 8])}, "the weights may depend on it, which are restored"),
        ({"fit.epochs": th.Int(2, 9)}, "the plan of the whole training follows from it"),
        ({"optimizer.momentum": th.Choice([0.0])}, "an optimizer of Keras keeps no momentum at 0 to go on with"),
    ],
)
def test_what_cannot_change_in_the_middle_is_an_error(space: dict[str, Any], said: str) -> None:
    """A value that a restored checkpoint would overwrite, or that its weights depend on, is an error at the start."""
    with pytest.raises(th.InjectionError, match=f"cannot change in the middle of a training, as .* does: {said}"):
        study(space).optimize(training({}, {}), progress=False)
