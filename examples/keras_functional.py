"""A functional Keras model that exists already, tuned with nothing but the callback.

    KERAS_BACKEND=torch python examples/keras_functional.py

The model has no arguments: numbers are typed into its layers, its optimizer and its call of ``fit``. Their names in the
space are those of the layers, ``layer.<name>.<setting>``, or shorter where only one place has them.
"""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import tunehook as th
from tunehook.integrations.keras import TuneCallback

# --------------------------------------------------------------------------- the project, as it was

digits = load_digits()
x_train, x_val, y_train, y_val = train_test_split(
    (digits.images[..., None] / 16.0).astype("float32"), digits.target, test_size=0.25, random_state=0
)


def train(*callbacks: keras.callbacks.Callback) -> keras.Model:
    """Build, compile and fit, as the script always did."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 1), name="pixels")
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(pixels)
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(32, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-4), name="hidden")(x)
    x = keras.layers.Dropout(0.2, name="dropout")(x)
    model = keras.Model(pixels, keras.layers.Dense(10, name="digit")(x), name="digits")
    rate = keras.optimizers.schedules.CosineDecay(initial_learning_rate=2e-3, decay_steps=300)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=32, epochs=6, verbose=0, validation_data=(x_val, y_val), callbacks=callbacks)
    return model


# --------------------------------------------------------------------------- the tuning

if __name__ == "__main__":
    study = th.Study(
        "keras-functional",
        {
            "conv.filters": th.Int(4, 32, log=True),
            "hidden.units": th.Int(16, 128, log=True),
            "hidden.activation": th.Choice(["relu", "tanh", "gelu"]),
            "l2": th.Float(1e-6, 1e-2, log=True),
            "rate": th.Float(0.1, 0.5),
            "initial_learning_rate": th.Float(3e-4, 3e-2, log=True),
            "batch_size": th.Choice([16, 32, 64]),
        },
        metric="val_accuracy",
        mode="max",
        seed=0,
    )
    study.optimize(lambda: train(TuneCallback()), trials=12)
    print(f"trial {study.best.number}: {study.best.value:.4f} with {dict(study.best.params)}")
