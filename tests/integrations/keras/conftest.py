"""Keras's tests run on one backend, which KERAS_BACKEND names; they leave no global state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# JAX compiles each step once for the plain script and the tuned one, which are the same.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[3] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import keras
import pytest


@pytest.fixture(autouse=True)
def fresh_keras() -> Iterator[None]:
    """Names and types start as in a new process."""
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session(free_memory=False)
    yield
    keras.config.set_dtype_policy("float32")
