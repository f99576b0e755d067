"""Handwritten digits with Keras 3: an ordinary project, tuned by one more callback, on whichever backend you have.

    KERAS_BACKEND=torch python examples/keras_digits.py                  Bayesian search
    KERAS_BACKEND=jax python examples/keras_digits.py grid random bayes   three searches

It needs no account and no network: the data ships with scikit-learn, and the W&B runs are kept offline on disk.
"""

import sys
from typing import Any

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import tunehook as th
from tunehook.integrations.keras import TuneCallback
from tunehook.integrations.wandb import WandbRecorder

# --------------------------------------------------------------------------- the project, as it was

digits = load_digits()
x_train, x_val, y_train, y_val = train_test_split(
    (digits.data / 16.0).astype("float32"), digits.target, test_size=0.25, random_state=0, stratify=digits.target
)


class Net(keras.Model):  # type: ignore[misc] # Keras has no types
    """A perceptron with a few hidden layers."""

    def __init__(self, hidden: int = 64, layers: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.blocks = [keras.layers.Dense(hidden, activation="relu") for _ in range(layers)]
        self.dropout = keras.layers.Dropout(dropout)
        self.head = keras.layers.Dense(10)

    def call(self, pixels: Any, training: bool = False) -> Any:
        for block in self.blocks:
            pixels = self.dropout(block(pixels), training=training)
        return self.head(pixels)


def train() -> None:
    """Train once with the values above; inside a study, with the values of the trial."""
    keras.utils.set_random_seed(0)
    model = Net()
    model.compile(
        optimizer=keras.optimizers.AdamW(learning_rate=1e-3, weight_decay=1e-4),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x_train,
        y_train,
        epochs=6,
        verbose=0,
        validation_data=(x_val, y_val),
        callbacks=[TuneCallback()],  # <- the one line that is new
    )


# --------------------------------------------------------------------------- the tuning

SPACE = {
    "learning_rate": th.Float(1e-4, 3e-2, log=True),
    "weight_decay": th.Float(1e-6, 1e-1, log=True),
    "batch_size": th.Choice([16, 32, 64, 128]),
    "model.layers": th.Int(1, 3),
    "hidden": th.Int(16, 256, log=True),
    "model.dropout": th.Float(0.0, 0.5),
}

# A grid goes through every combination, so it needs few values for each name.
GRID = {"learning_rate": th.Choice([3e-4, 3e-3]), "model.layers": th.Int(1, 2), "hidden": th.Choice([32, 128])}


def tune(search: str, trials: int = 12) -> th.Study:
    """Search with one method; a study that exists already is gone on with."""
    study = th.Study(
        f"keras-digits-{search}",
        GRID if search == "grid" else SPACE,
        metric="val_accuracy",
        mode="max",
        search=search,
        stopper=None if search == "grid" else "median",
        seed=0,
        recorders=[WandbRecorder(project="digits")],
    )
    study.optimize(train, trials=None if search == "grid" else trials)
    return study


if __name__ == "__main__":
    for study in [tune(search) for search in sys.argv[1:] or ["bayes"]]:
        best = study.best
        print(f"{study.name} on {keras.backend.backend()}: {best.value:.4f} in trial {best.number} with")
        for name, value in best.params.items():
            print(f"  {name} = {value:.4g}" if isinstance(value, float) else f"  {name} = {value}")
        print("  its record:", *study.records(best.number), sep="\n    ")
