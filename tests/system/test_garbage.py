"""When Python looks for garbage."""

from __future__ import annotations

import gc

import pytest

from tunehook.system import in_one_go


def test_few_looks_meanwhile() -> None:
    """As often as before afterwards, also after an error."""
    before = gc.get_threshold()
    with pytest.raises(ZeroDivisionError), in_one_go():
        _ = 1 / 0
    assert gc.get_threshold() == before
    with in_one_go():
        assert gc.get_threshold()[0] > 100 * before[0]
    assert gc.get_threshold() == before


def test_what_a_script_sets_stays() -> None:
    """It was imported, and knows how much garbage it makes."""
    before = gc.get_threshold()
    try:
        with in_one_go():
            gc.set_threshold(5_000, 20, 20)
        assert gc.get_threshold() == (5_000, 20, 20)
    finally:
        gc.set_threshold(*before)
