"""Memory over many trials in one process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"


@pytest.mark.slow
def test_trials_grow_no_more_than_bare_fits() -> None:
    """Two hundred trials hold on to no more memory than two hundred bare fits, but for what the allocator moves."""
    said = subprocess.check_output([sys.executable, str(BENCHMARK)], text=True)
    found = re.search(r"growth: bare ([-\d.]+) MiB, tuned ([-\d.]+) MiB", said)
    assert found is not None
    bare, tuned = map(float, found.groups())
    assert tuned <= max(bare, 0.0) + 4.0, said  # 4 MiB are 25 kB a trial, less than one such model with its optimizer
