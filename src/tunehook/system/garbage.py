"""When Python looks for garbage."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_RARELY = 100_000  # objects more than there were at the last look; Python's own are 700


@contextlib.contextmanager
def in_one_go() -> Iterator[None]:
    """With few looks for garbage meanwhile: what is made stays, in thousands.

    The imports of Lightning and scikit-learn take a quarter less so.
    """
    before = gc.get_threshold()
    rarely = (_RARELY, *before[1:])
    gc.set_threshold(*rarely)
    try:
        yield
    finally:
        if gc.get_threshold() == rarely:  # else a script has set what it wants
            gc.set_threshold(*before)
