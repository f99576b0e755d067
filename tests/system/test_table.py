"""Tables of trials in terminals of every width."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tunehook.system import shortened
from tunehook.system.table import Row, make_table
from tunehook.system.words import short

SIX: dict[str, Any] = {
    "optimizer.lr": 0.00046571, "optimizer.weight_decay": 1.23456e-5, "layer.dense_1.units": 128,
    "layer.dense_2.units": 512, "layer.dropout.rate": 0.25, "fit.batch_size": 64,
}  # fmt: skip


def drawn(rows: list[Row], width: int, *, metric: str = "val_accuracy") -> list[str]:
    """A table as lines, without its title."""
    out = StringIO()
    made = make_table("study six", rows, list(rows[0].params), metric, width=width)
    Console(file=out, width=width, color_system=None, force_terminal=True).print(made)
    return [line.rstrip() for line in out.getvalue().splitlines()[1:]]


def row(number: int, params: dict[str, Any], **options: Any) -> Row:
    """A trial that is complete."""
    return Row(number, "complete", params, 0.91234, 12, "45.6", **options)


def cells(line: str) -> list[str]:
    """The cells of a row."""
    return [cell for cell in re.split(r"\s*│\s*|\s{2,}", line.strip("│ ")) if cell]


@pytest.mark.parametrize("width", [40, 60, 73, 80, 100, 120, 200])
def test_it_fits_and_keeps_its_values_whole(width: int) -> None:
    """No line is broken or too long, and what is shown of a trial's values is whole."""
    text = drawn([row(7, SIX, is_best=True), row(103, SIX)], width)
    assert all(len(line) <= width for line in text)
    first, second = (line for line in text if "complete" in line)
    assert cells(first)[:2] == ["7 *", "complete"]
    assert cells(second)[0] == "103"
    assert "0.9123" in cells(first)
    whole = {short(value, digits=digits) for value in SIX.values() for digits in (3, 4)}
    assert set(cells(first)[2:]) <= whole | {"0.9123", "12", "45.6", "…"}
    assert ("…" in cells(first)) == (width < 73)


def test_eighty_columns_hold_six_hyperparameters() -> None:
    """Names are shortened and broken at their joints, numbers have three digits, and the metric four."""
    assert drawn([row(7, SIX, is_best=True)], 80) == [
        "                           weight  dense_1  dense_2        batch        val",
        "trial  state          lr   _decay   .units   .units  rate  _size  _accuracy",
        "  7 *  complete  4.66e-4  1.23e-5      128      512  0.25     64     0.9123",
    ]


def test_a_wide_terminal_has_whole_names_and_lines() -> None:
    """Nothing is shortened where there is room."""
    text = drawn([row(7, SIX)], 200)
    assert cells(text[1].replace("┃", "│")) == ["trial", "state", *SIX, "val_accuracy", "step", "seconds"]
    assert cells(text[3]) == [
        "7",
        "complete",
        "0.0004657",
        "1.235e-05",
        "128",
        "512",
        "0.25",
        "64",
        "0.9123",
        "12",
        "45.6",
    ]


def test_many_hyperparameters_leave_out_the_last() -> None:
    """How many have no column stands in place of theirs; the metric stays."""
    text = drawn([row(0, {f"layer.block_{number}.width": number for number in range(30)})], 80)
    assert all(len(line) <= 80 for line in text)
    assert re.search(r"\+\d+ ", text[-2])
    assert cells(text[-1])[-2:] == ["…", "0.9123"]


def test_long_values_are_cut() -> None:
    """A list does not push the others out."""
    text = drawn([row(0, {"layers": list(range(100)), "act": "relu"})], 80)
    assert "…" in text[-2]
    assert "relu" in text[-2]
    assert all(len(line) <= 80 for line in text)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["lr"], ["lr"]),
        (["optimizer.lr", "batch_size"], ["lr", "batch_size"]),
        (["layer.dense_1.units", "layer.dense_2.units"], ["dense_1.units", "dense_2.units"]),
        (["lr", "optimizer.lr"], ["lr", "optimizer.lr"]),
        (["a.b.c", "b.c", "x.c"], ["a.b.c", "b.c", "x.c"]),
        (["a.", "b."], ["a.", "b."]),
    ],
)
def test_short_names_are_still_apart(names: list[str], expected: list[str]) -> None:
    """The shortest ending that no other name has, else the whole name."""
    assert list(shortened(names).values()) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000123456, "1.23e-4"), (0.0123456, "0.0123"), (0.0001, "1e-4"), (1234567.0, "1.23e6"), (0.0, "0"),
        (-0.5, "-0.5"), (float("nan"), "nan"), (float("-inf"), "-inf"), (100.0, "100"), (12345678, "12345678"),
    ],
)  # fmt: skip
def test_a_number_in_three_digits(value: Any, text: str) -> None:
    """The shortest form of it; integers are whole."""
    assert short(value, digits=3) == text
