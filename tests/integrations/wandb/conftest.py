"""What the tests of W&B share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The SDK of this process, offline, below the test's folder, and with no settings of the machine's."""
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("DIR", "DATA_DIR", "CACHE_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    for name, value in (("ERROR_REPORTING", "false"), ("MODE", "offline"), ("SILENT", "true")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()  # its settings are those of the environment
    yield
    with contextlib.suppress(OSError):  # a test has killed the service
        while wandb.run is not None:
            wandb.run.finish()
        wandb.teardown()
