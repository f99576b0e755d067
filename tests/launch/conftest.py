"""Trials in these tests need no framework, whatever this process has loaded: each warm parent would import it too."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def no_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only NumPy, which Optuna needs, is imported before the training function; those of users are tested elsewhere."""
    monkeypatch.setattr("tunehook.launch.node.function.FRAMEWORKS", ("numpy",))
