"""Which part of SciPy is a sentence of its manual about? A functional Keras model, on whichever backend you have."""

import keras
from scipy_text import AREAS, TRAIN, VAL, VOCABULARY, encode

import tunehook as th
from tunehook.integrations.keras import TuneCallback


def train() -> keras.Model:
    keras.utils.set_random_seed(0)
    sequence_length = th.value("sequence_length", 16)  # no argument of a layer: the script reads it
    words = keras.Input((sequence_length,), dtype="int32")
    features = keras.layers.Embedding(1 + len(VOCABULARY), 32, name="embedding")(words)
    for number in range(th.value("layers", 1)):
        features = keras.layers.Conv1D(32, 3, padding="same", activation="relu", name=f"filters_{number}")(features)
    strongest = keras.layers.GlobalMaxPooling1D()(features)
    area = keras.layers.Dense(len(AREAS), activation="softmax", name="area")(strongest)
    model = keras.Model(words, area)
    model.compile(keras.optimizers.Adam(learning_rate=3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        *encode(TRAIN, sequence_length),
        validation_data=encode(VAL, sequence_length),
        batch_size=64,
        epochs=3,
        verbose=0,
        callbacks=[TuneCallback()],
    )
    return model


study = th.Study(
    "keras-text",
    {
        "sequence_length": th.Choice([4, 8, 16, 32]),
        "embedding.output_dim": th.Int(4, 64, log=True),
        "layers": th.Int(1, 3),
        "learning_rate": th.Float(3e-4, 3e-2, log=True),
    },
    metric="val_accuracy",
    mode="max",
    stopper="median",
)

if __name__ == "__main__":
    study.optimize(train, trials=20)
    print(study.best.params, study.best.value)
