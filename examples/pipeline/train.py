"""Two steps of a pipeline: `tune` takes trials of the study until it has all, `finish` trains and saves the model.

Any number of processes may run the first one at once, with one TUNEHOOK_STORAGE.
"""

import sys

import keras
from sklearn.datasets import load_digits

import tunehook as th
from tunehook.integrations.keras import TuneCallback

x, y = load_digits(return_X_y=True)


def train() -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(64, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((64,)), hidden, keras.layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x / 16, y, epochs=3, validation_split=0.2, verbose=0, callbacks=[TuneCallback()])
    return model


study = th.Study(
    "digits",
    {
        "learning_rate": th.Float(1e-4, 1e-1, log=True),
        "hidden.units": th.Int(16, 256),
        "batch_size": th.Choice([32, 64]),
    },
    metric="val_accuracy",
    mode="max",
)

if __name__ == "__main__":
    if sys.argv[1:] == ["tune"]:
        study.optimize(train, trials=4)
    elif sys.argv[1:] == ["finish"]:
        study.retrain(train).save("model.keras")
        print(study.best.params, study.best.value)
