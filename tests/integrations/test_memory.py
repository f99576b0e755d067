"""Memory over many trials in one process."""

from __future__ import annotations

import pytest
from memory import growth


@pytest.mark.slow
def test_trials_grow_no_more_than_bare_fits() -> None:
    """Two hundred trials hold on to no more memory than two hundred bare fits, but for what the allocator moves."""
    most = 2.5  # MiB are 16 kB a trial, less than one such model with its optimizer
    grown = growth("tuned")
    assert grown <= most or grown <= growth("bare") + most
