"""Every test of this folder runs with every adapter."""

from __future__ import annotations

import functools

import pytest

from adapters import Keras, Lightning, Project


@functools.cache
def _project(name: str) -> Project:
    return Keras() if name == "keras" else Lightning(name)


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning", "keras"])
def project(request: pytest.FixtureRequest) -> Project:
    """The project in one framework."""
    return _project(request.param)
