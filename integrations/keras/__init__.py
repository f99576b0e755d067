"""TuneCallback for Keras 3, on torch, TensorFlow and JAX."""

from tunehook.integrations.keras.callback import TuneCallback

__all__ = ["TuneCallback"]
