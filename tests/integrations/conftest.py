"""Fixtures of the adapters' tests."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import pytest

from lightning_projects import NAMESPACES


@pytest.fixture(params=NAMESPACES)
def pl(request: pytest.FixtureRequest) -> Any:
    """A Lightning namespace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(request.param)


@pytest.fixture
def one() -> Any:
    """One namespace, for what does not depend on it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("lightning.pytorch")
