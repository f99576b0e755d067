"""Fixtures of the adapters' tests, and which of them train in which of Lightning's two namespaces."""

from __future__ import annotations

import importlib
import os
import warnings
import zlib
from pathlib import Path
from typing import Any

import pytest

from lightning_projects import NAMESPACES


@pytest.fixture(autouse=True)
def no_frameworks() -> None:
    """A warm parent of trials imports the frameworks, as with users."""


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test of both namespaces runs in one, half of the tests in either; TUNEHOOK_TEST_NAMESPACES=both is for all.

    Their files are the same (lightning/test_namespaces.py), and tests/contract runs in both.
    """
    if os.environ.get("TUNEHOOK_TEST_NAMESPACES") == "both":
        return
    twins: dict[str, list[pytest.Item]] = {}
    for item in items:
        for namespace in NAMESPACES:
            if Path(__file__).parent in item.path.parents and namespace in item.nodeid.partition("[")[2]:
                twins.setdefault(item.nodeid.replace(namespace, "*"), []).append(item)
    left = {pair[1 - zlib.crc32(name.encode()) % 2] for name, pair in twins.items() if len(pair) == len(NAMESPACES)}
    config.hook.pytest_deselected(items=[item for item in items if item in left])
    items[:] = [item for item in items if item not in left]
