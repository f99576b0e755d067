"""Words for messages."""

from __future__ import annotations

import pytest

from tunehook.system.words import clock, did_you_mean, first_line, joined, last_line, near


def test_names_that_are_near() -> None:
    """The nearest comes first, each once, and no more than were asked for."""
    names = ["vel_acc1", "val_acc1", "val_acc1", "x"]
    assert near("val_acc", names) == ["val_acc1", "vel_acc1"]
    assert near("val_acc", names, most=1) == ["val_acc1"]
    assert near("batch", names) == []


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], " Did you mean 'a'?"), (["a", "b"], " Did you mean 'a' or 'b'?")]
)
def test_did_you_mean(names: list[str], text: str) -> None:
    """A sentence behind another one, or nothing."""
    assert did_you_mean(names) == text
    assert did_you_mean(names, show=str) == text.replace("'", "")


@pytest.mark.parametrize(("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_names_in_a_sentence(names: list[str], text: str) -> None:
    """As people write them."""
    assert joined(names) == text


@pytest.mark.parametrize(
    ("said", "first", "last"),
    [("", "", ""), (" \n\n", "", ""), (ValueError("\n one \ntwo\n\n"), "one", "two"), ("one", "one", "one")],
)
def test_lines_of_an_error(said: object, first: str, last: str) -> None:
    """Empty ones are none."""
    assert (first_line(said), last_line(said)) == (first, last)


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (3725, "1:02:05")])
def test_a_duration(seconds: float, text: str) -> None:
    """Hours only where there are some."""
    assert clock(seconds) == text
